//! What the bench and the tier `neighbours` write into pages: the part between two marks, and nothing else of them.

use std::fs;
use std::path::Path;

/// Puts `text` between `<!-- bench: NAME -->` and the next `<!-- end -->` of a page. An error when the marks are not there.
pub fn put(page: &Path, name: &str, text: &str) -> Result<(), String> {
    let old = fs::read_to_string(page).map_err(|e| format!("{}: {e}", page.display()))?;
    let new =
        between(&old, &format!("bench: {name}"), text).ok_or_else(|| format!("{}: no marks {name}", page.display()))?;
    fs::write(page, new).map_err(|e| format!("{}: {e}", page.display()))
}

/// The page with `text` between `<!-- MARK -->` and the next `<!-- end -->`; absent when the marks are not there.
pub fn between(page: &str, mark: &str, text: &str) -> Option<String> {
    let begin = format!("<!-- {mark} -->\n");
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
        let once = between(page, "bench: one", "new\n\n").unwrap();
        assert_eq!(once, "# A\n<!-- bench: one -->\nnew\n<!-- end -->\n<!-- bench: two -->\n<!-- end -->\nz\n");
        assert_eq!(between(&once, "bench: one", "new").unwrap(), once, "repeating changes nothing");
        assert!(between(page, "bench: two", "x").unwrap().contains("two -->\nx\n<!-- end -->\nz"));
        assert_eq!(between(page, "three", "x"), None);
    }
}
