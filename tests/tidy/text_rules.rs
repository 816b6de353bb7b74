//! What the house asks of every text file: prose, configuration, scripts.

use crate::{Finding, Page};

fn at(page: &Page, line: usize, what: impl Into<String>) -> Finding {
    Finding { path: page.path.clone(), line, what: what.into() }
}

/// Marks of unfinished work, and paths of somebody's machine.
pub fn leftovers(page: &Page) -> Vec<Finding> {
    const MARKS: &[&str] = &["TODO", "FIXME", "XXX"];
    const MACHINE: &[&str] = &["/root/", "/home/", "/Users/"];
    let mut found = Vec::new();
    for (i, line) in page.text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(mark) = words.find(|word| MARKS.contains(word)) {
            found.push(at(page, i + 1, format!("{mark}: finish it, or say it in the changelog")));
        }
        if let Some(path) = MACHINE.iter().find(|path| line.contains(*path)) {
            found.push(at(page, i + 1, format!("`{path}` is a path of one machine")));
        }
    }
    found
}

/// A Markdown file has one `# Title`, and it comes first.
pub fn one_title(page: &Page) -> Vec<Finding> {
    if !page.path.ends_with(".md") {
        return Vec::new();
    }
    let mut fenced = false;
    let mut titles = Vec::new();
    let mut first = None;
    for (i, line) in page.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with('#') {
            first.get_or_insert(i + 1);
            if line.starts_with("# ") {
                titles.push(i + 1);
            }
        }
    }
    match (titles.as_slice(), first) {
        ([], _) => vec![at(page, 1, "no `# Title`")],
        ([one], Some(first)) if *one == first => Vec::new(),
        ([one], _) => vec![at(page, *one, "the `# Title` is not the first heading")],
        ([_, second, ..], _) => vec![at(page, *second, "a second `# Title`")],
    }
}

/// Each key of `config.toml` has a comment: on its line, or above it. One above may serve three keys that belong
/// together and follow without a gap.
pub fn keys_explained(page: &Page) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut explained = 0;
    let mut open = 0isize;
    for (i, line) in page.text.lines().enumerate() {
        let (code, comment) = split_comment(line);
        let code = code.trim();
        if open > 0 {
            open += brackets(code);
        } else if code.is_empty() || code.starts_with('[') {
            let words = comment.filter(|text| code.is_empty() && !text.trim().is_empty());
            explained = if words.is_some() { 3 } else { 0 };
        } else {
            open = brackets(code);
            if comment.is_some() {
                continue;
            }
            if explained == 0 {
                let key = code.split('=').next().unwrap_or_default().trim();
                found.push(at(page, i + 1, format!("`{key}` has no comment")));
            } else {
                explained -= 1;
            }
        }
    }
    found
}

/// A line of TOML without its comment, and the comment's text.
fn split_comment(line: &str) -> (&str, Option<&str>) {
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in line.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if q == c => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '#' => return (&line[..i], Some(&line[i + 1..])),
            None => {}
        }
    }
    (line, None)
}

fn brackets(code: &str) -> isize {
    code.chars().map(|c| isize::from(c == '[' || c == '{') - isize::from(c == ']' || c == '}')).sum()
}
