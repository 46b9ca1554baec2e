//! What the bench writes into pages: the part between two marks, and nothing else of them.

use std::fs;
use std::path::Path;

/// Puts `text` between `<!-- bench: NAME -->` and the next `<!-- end -->` of a page. An error when the marks are not there.
pub fn put(page: &Path, name: &str, text: &str) -> Result<(), String> {
    let old = fs::read_to_string(page).map_err(|e| format!("{}: {e}", page.display()))?;
    let new = replaced(&old, name, text).ok_or_else(|| format!("{}: no marks {name}", page.display()))?;
    fs::write(page, new).map_err(|e| format!("{}: {e}", page.display()))
}

fn replaced(page: &str, name: &str, text: &str) -> Option<String> {
    let begin = format!("<!-- bench: {name} -->\n");
    let start = page.find(&begin)? + begin.len();
    let end = start + page[start..].find("<!-- end -->")?;
    Some(format!("{}{}\n{}", &page[..start], text.trim_end(), &page[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let page = "# A\n<!-- bench: one -->\nold\n<!-- end -->\n<!-- bench: two -->\n<!-- end -->\nz\n";
        let once = replaced(page, "one", "new\n\n").unwrap();
        assert_eq!(once, "# A\n<!-- bench: one -->\nnew\n<!-- end -->\n<!-- bench: two -->\n<!-- end -->\nz\n");
        assert_eq!(replaced(&once, "one", "new").unwrap(), once, "repeating changes nothing");
        assert!(replaced(page, "two", "x").unwrap().contains("two -->\nx\n<!-- end -->\nz"));
        assert_eq!(replaced(page, "three", "x"), None);
    }
}
