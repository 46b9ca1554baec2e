//! The known word that was probably meant.

/// The word that was probably meant: one or two slips away.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let slips = if word.len() > 4 { 2 } else { 1 };
    known
        .iter()
        .copied()
        .map(|known| (distance(word, known), known))
        .filter(|(far, _)| *far <= slips)
        .min()
        .map(|(_, known)| known)
}

/// Letters to insert, remove or change to get from one word to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(32).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
