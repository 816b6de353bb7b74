//! A Rust file as tokens: comments apart, test code left out, paths resolved. Just enough to see what imports what.

use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Word,
    Text,
    Sign,
}

/// A word, a literal or a sign (`::` is one sign), with its line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
    pub line: usize,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.text == text && self.kind != Kind::Text
    }
}

/// A path as it is written in a `use` or in code, made absolute where it begins with `crate`, `self` or `super`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedPath {
    pub segments: Vec<String>,
    pub line: usize,
}

pub struct Source {
    /// Relative to the project, with `/`.
    pub path: String,
    pub text: String,
    /// All tokens, test code included.
    pub all: Vec<Token>,
    /// Without what is under `#[cfg(test)]`.
    pub tokens: Vec<Token>,
    /// Files that this one declares as `#[cfg(test)] mod name;`.
    pub test_files: Vec<PathBuf>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let all = lex(text);
        let (tokens, test_modules) = without_tests(&all);
        let home = module_home(path);
        let test_files = test_modules
            .iter()
            .flat_map(|name| [home.join(format!("{name}.rs")), home.join(name).join("mod.rs")])
            .collect();
        Source { path: path.to_owned(), text: text.to_owned(), all, tokens, test_files }
    }

    pub fn in_src(&self) -> bool {
        self.path.starts_with("src/")
    }

    /// `crate`, then the names of the modules down to this file.
    pub fn module(&self) -> Vec<String> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut names: Vec<String> = inner.split('/').map(str::to_owned).collect();
        if matches!(names.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            names.pop();
        }
        names.insert(0, "crate".to_owned());
        names
    }

    /// Every path outside test code.
    pub fn paths(&self) -> Vec<UsedPath> {
        let mut module = self.module();
        let mut found = Vec::new();
        let tokens = &self.tokens;
        // Depths at which an inline module was entered.
        let (mut depth, mut entered) = (0usize, Vec::new());
        let mut i = 0;
        while i < tokens.len() {
            let token = &tokens[i];
            if token.is("{") {
                depth += 1;
            } else if token.is("}") {
                if entered.last() == Some(&depth) {
                    entered.pop();
                    module.pop();
                }
                depth = depth.saturating_sub(1);
            } else if token.is("mod") && tokens.get(i + 2).is_some_and(|t| t.is("{")) {
                module.push(tokens[i + 1].text.clone());
                depth += 1;
                entered.push(depth);
                i += 3;
                continue;
            } else if token.is("use") && token.kind == Kind::Word && !captures(tokens, i) {
                i = use_tree(tokens, i + 1, &[], &module, &mut found) + 1;
                continue;
            } else if token.is("extern") && tokens.get(i + 1).is_some_and(|t| t.is("crate")) {
                found.push(absolute(&[tokens[i + 2].text.clone()], &module, token.line));
            } else if token.kind == Kind::Word
                && tokens.get(i + 1).is_some_and(|t| t.is("::"))
                && starts_path(tokens, i)
            {
                let mut segments = vec![token.text.clone()];
                while tokens.get(i + 1).is_some_and(|t| t.is("::"))
                    && tokens.get(i + 2).is_some_and(|t| t.kind == Kind::Word)
                {
                    segments.push(tokens[i + 2].text.clone());
                    i += 2;
                }
                found.push(absolute(&segments, &module, token.line));
            }
            i += 1;
        }
        found
    }
}

/// `impl Trait + use<'a>` is not an import.
fn captures(tokens: &[Token], at: usize) -> bool {
    tokens.get(at + 1).is_some_and(|t| t.is("<"))
}

/// False for the middle of a path, true after a leading `::`.
fn starts_path(tokens: &[Token], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return true };
    if !tokens[before].is("::") {
        return true;
    }
    !before.checked_sub(1).is_some_and(|b| tokens[b].kind == Kind::Word || tokens[b].is(">"))
}

fn use_tree(tokens: &[Token], mut i: usize, prefix: &[String], module: &[String], found: &mut Vec<UsedPath>) -> usize {
    let mut segments = prefix.to_vec();
    let mut line = tokens.get(i).map_or(0, |t| t.line);
    let mut named = false;
    while let Some(token) = tokens.get(i) {
        match token.text.as_str() {
            "::" => {}
            "as" => i += 1,
            "{" => {
                i += 1;
                while tokens.get(i).is_some_and(|t| !t.is("}")) {
                    i = use_tree(tokens, i, &segments, module, found);
                    if tokens.get(i).is_some_and(|t| t.is(",")) {
                        i += 1;
                    }
                }
                named = false;
            }
            ";" | "," | "}" => break,
            word => {
                if !named {
                    line = token.line;
                }
                named = true;
                // `use a::{self}` names `a`.
                if word != "self" || segments.is_empty() {
                    segments.push(word.to_owned());
                }
            }
        }
        i += 1;
    }
    if named {
        found.push(absolute(&segments, module, line));
    }
    i
}

fn absolute(segments: &[String], module: &[String], line: usize) -> UsedPath {
    let mut at = match segments.first().map(String::as_str) {
        Some("self" | "super") => module.to_vec(),
        _ => Vec::new(),
    };
    for segment in segments {
        match segment.as_str() {
            "self" => {}
            "super" => {
                at.pop();
            }
            name => at.push(name.to_owned()),
        }
    }
    UsedPath { segments: at, line }
}

/// The directory in which a file's child modules live.
fn module_home(path: &str) -> PathBuf {
    let path = Path::new(path);
    let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    match path.file_stem().and_then(|s| s.to_str()) {
        Some("mod" | "lib" | "main") | None => folder,
        Some(stem) => folder.join(stem),
    }
}

/// Leaves out each item under `#[cfg(test)]`, and names those that are modules in files of their own.
fn without_tests(all: &[Token]) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut i = 0;
    while i < all.len() {
        let inner = all[i].is("#") && all.get(i + 1).is_some_and(|t| t.is("!"));
        let open = i + 1 + usize::from(inner);
        if !(all[i].is("#") && all.get(open).is_some_and(|t| t.is("["))) {
            kept.push(all[i].clone());
            i += 1;
            continue;
        }
        let close = matching(all, open);
        let words: Vec<&str> = all[open..close].iter().map(|t| t.text.as_str()).collect();
        if words.get(1) != Some(&"cfg") || !words.contains(&"test") || words.contains(&"not") {
            kept.extend_from_slice(&all[i..=close.min(all.len() - 1)]);
            i = close + 1;
            continue;
        }
        if inner {
            return (Vec::new(), modules);
        }
        i = close + 1;
        while all.get(i).is_some_and(|t| t.is("#")) {
            i = matching(all, i + 1) + 1;
        }
        let start = i;
        while i < all.len() && !all[i].is(";") && !all[i].is("{") {
            i = if all[i].is("(") || all[i].is("[") { matching(all, i) + 1 } else { i + 1 };
        }
        if all.get(i).is_some_and(|t| t.is("{")) {
            i = matching(all, i);
        } else if let Some(at) = all[start..i].iter().position(|t| t.is("mod")) {
            modules.extend(all.get(start + at + 1).map(|t| t.text.clone()));
        }
        i += 1;
    }
    (kept, modules)
}

fn matching(all: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in all.iter().enumerate().skip(open) {
        if token.kind == Kind::Sign {
            match token.text.as_str() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
        }
        if depth == 0 {
            return i;
        }
    }
    all.len()
}

fn lex(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let (start, start_line) = (i, line);
        let mut kind = Kind::Text;
        match at(i) {
            '\n' => line += 1,
            c if c.is_whitespace() => {}
            '/' if at(i + 1) == '/' => {
                while i + 1 < chars.len() && at(i + 1) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 1;
                i += 2;
                while i < chars.len() && depth > 0 {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 1),
                        ('*', '/') => (depth, i) = (depth - 1, i + 1),
                        ('\n', _) => line += 1,
                        _ => {}
                    }
                    i += 1;
                }
                i -= 1;
            }
            '"' => i = quoted(&chars, i, &mut line),
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
            }
            '\'' => {
                while is_word(at(i + 1)) {
                    i += 1;
                }
            }
            c if is_word(c) => {
                while is_word(at(i + 1)) {
                    i += 1;
                }
                let word: String = chars[start..=i].iter().collect();
                let hashes = (i + 1..).take_while(|&h| at(h) == '#').count();
                if matches!(word.as_str(), "r" | "br" | "cr") && at(i + 1 + hashes) == '"' {
                    i = raw(&chars, i + 1 + hashes, hashes, &mut line);
                } else if matches!(word.as_str(), "b" | "c") && at(i + 1) == '"' {
                    i = quoted(&chars, i + 1, &mut line);
                } else if word == "b" && at(i + 1) == '\'' {
                    i += if at(i + 2) == '\\' { 4 } else { 3 };
                    while i < chars.len() && at(i) != '\'' {
                        i += 1;
                    }
                } else if word == "r" && hashes == 1 {
                    i += 1;
                    i += (i + 1..).take_while(|&w| is_word(at(w))).count();
                    kind = Kind::Word;
                } else {
                    kind = if c.is_ascii_digit() { Kind::Text } else { Kind::Word };
                }
            }
            ':' if at(i + 1) == ':' => (kind, i) = (Kind::Sign, i + 1),
            _ => kind = Kind::Sign,
        }
        let text: String = chars[start..=i.min(chars.len() - 1)].iter().collect();
        if !text.trim().is_empty() && !text.starts_with("//") && !text.starts_with("/*") {
            tokens.push(Token { kind, text, line: start_line });
        }
        i += 1;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// From the opening quote to the closing one.
fn quoted(chars: &[char], mut i: usize, line: &mut usize) -> usize {
    i += 1;
    while i < chars.len() && chars[i] != '"' {
        if chars[i] == '\\' {
            i += 1;
        }
        if chars.get(i) == Some(&'\n') {
            *line += 1;
        }
        i += 1;
    }
    i
}

fn raw(chars: &[char], mut i: usize, hashes: usize, line: &mut usize) -> usize {
    i += 1;
    while i < chars.len() {
        if chars[i] == '\n' {
            *line += 1;
        }
        if chars[i] == '"' && (1..=hashes).all(|h| chars.get(i + h) == Some(&'#')) {
            return i + hashes;
        }
        i += 1;
    }
    i
}
