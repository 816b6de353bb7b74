//! Secrets: values that are used and never shown, and the references through which a file names them.

use std::fmt;
use std::ops::Range;

/// A text that `Debug` does not print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself; not for logs, messages or answers.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "***" })
    }
}

/// What is printed instead of a secret.
pub const MASK: &str = "***";

/// Replaces `${env:NAME}` and `${file:/path}`; `$${` is a literal `${`. The error names the reference, never a value.
pub fn resolve(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(length) = rest[at..].find('}') else {
            return Err("a `${` has no `}`; write `$${` for a literal `${`".to_owned());
        };
        out.push_str(&reference(&rest[at + 2..at + length], env)?);
        rest = &rest[at + length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn reference(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    match inside.split_once(':') {
        Some(("env", name)) => {
            env(name).ok_or_else(|| format!("`${{env:{name}}}`: the environment variable {name} is not set"))
        }
        Some(("file", path)) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => Err(format!("`${{file:{path}}}`: cannot read the file: {error}")),
        },
        _ => Err("only `${env:NAME}` and `${file:/path}` are known; write `$${` for a literal `${`".to_owned()),
    }
}

/// True when the whole text is references: then it may be shown, for it says where a secret is and not what it is.
pub fn is_reference(text: &str) -> bool {
    let mut rest = text;
    while let Some(inside) = rest.strip_prefix("${") {
        match inside.find('}') {
            Some(end) => rest = &inside[end + 1..],
            None => return false,
        }
    }
    rest.is_empty()
}

/// Words in a key that say: what stands here is a secret.
const WORDS: [&str; 8] =
    ["token", "password", "passphrase", "passwd", "secret", "key.pem", "private.key", "oauthbearer.config"];

/// Whether a value under this key is a secret.
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    WORDS.iter().any(|word| key.contains(word))
}

/// What may be shown of a value under `key`.
pub fn shown<'a>(key: &str, text: &'a str) -> &'a str {
    if text.is_empty() || !is_secret_key(key) || is_reference(text) { text } else { MASK }
}

/// A source line without what may be a secret: behind a word that names one, well or badly spelt, nothing is shown from
/// the next `=` on.
pub fn mask_line(line: &str) -> String {
    match named(line).and_then(|word| line[word.start..].find('=').map(|equals| word.start + equals)) {
        Some(equals) => format!("{} {MASK}", &line[..=equals]),
        None => line.to_owned(),
    }
}

/// Line `number`, from 0, of a text that is not TOML, without what may be a secret. Nobody knows what stands where in such
/// a text, so that more is left out: all behind a word that names a secret, with or without a `=`; a line that goes on
/// with what such a line began; and a line within a text of several lines, which may be a key in PEM form.
pub fn mask_broken(text: &str, number: usize) -> String {
    let before: Vec<&str> = text.lines().take(number).collect();
    let line = text.lines().nth(number).unwrap_or_default();
    match named(line) {
        _ if in_long_text(&before) || goes_on_with_a_secret(&before, line) => MASK.to_owned(),
        Some(word) => format!("{} {MASK}", &line[..word.end]),
        None => line.to_owned(),
    }
}

/// The first word of a line that names a secret, well or badly spelt.
fn named(line: &str) -> Option<Range<usize>> {
    let lower = line.to_ascii_lowercase();
    let known = WORDS.iter().filter_map(|word| lower.find(word).map(|at| at..at + word.len()));
    let misspelt = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| sounds_secret(word)).map(|word| {
        let at = word.as_ptr() as usize - lower.as_ptr() as usize;
        at..at + word.len()
    });
    known.chain(misspelt).min_by_key(|word| word.start)
}

fn goes_on_with_a_secret(before: &[&str], line: &str) -> bool {
    let begins = |line: &str| line.trim_start().starts_with('[') || has_key(line);
    if begins(line) {
        return false;
    }
    let begun = |line: &&str| if named(line).is_some() { Some(true) } else { begins(line).then_some(false) };
    before.iter().rev().find_map(begun).unwrap_or(false)
}

/// Whether a line has a `=` and, before it, a key: a word, or one in quotes.
fn has_key(line: &str) -> bool {
    let line = line.trim_start();
    let quoted = line.starts_with(['"', '\'']);
    let after = if quoted { line[1..].split_once(&line[..1]).map_or("", |(_, after)| after) } else { line };
    after.split(['"', '\'']).next().is_some_and(|key| key.contains('=') && (quoted || !key.starts_with('=')))
}

/// Whether a text in three quotes is open behind these lines. In doubt it is.
fn in_long_text(lines: &[&str]) -> bool {
    const LONG: [&str; 2] = [r#"""""#, "'''"];
    let mut open: Option<&str> = None;
    for line in lines {
        let mut rest = *line;
        while let Some(c) = rest.chars().next() {
            let step = match open {
                Some(quotes) if rest.starts_with(quotes) => {
                    open = None;
                    quotes.len()
                }
                Some(quotes) if quotes == LONG[0] && c == '\\' => {
                    c.len_utf8() + rest[1..].chars().next().map_or(0, char::len_utf8)
                }
                Some(_) => c.len_utf8(),
                None if c == '#' => rest.len(),
                None => match LONG.into_iter().find(|quotes| rest.starts_with(quotes)) {
                    Some(quotes) => {
                        open = Some(quotes);
                        quotes.len()
                    }
                    None if matches!(c, '"' | '\'') => short_text(rest, c),
                    None => c.len_utf8(),
                },
            };
            rest = &rest[step..];
        }
    }
    open.is_some()
}

/// The bytes of a text in one quote that begins here; of its quote alone where it does not end on the line.
fn short_text(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    1
}

fn sounds_secret(word: &str) -> bool {
    ["token", "password", "passphrase", "secret"].iter().any(|known| strsim::jaro_winkler(word, known) > 0.85)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        (name == "SET").then(|| "hunter2".to_owned())
    }

    #[test]
    fn references_are_replaced_and_named_when_they_cannot_be() {
        assert_eq!(resolve("a${env:SET}b", &env).unwrap(), "ahunter2b");
        assert_eq!(resolve("a$${env:SET}", &env).unwrap(), "a${env:SET}");
        assert!(resolve("${env:UNSET}", &env).unwrap_err().contains("UNSET"));
        assert!(resolve("${file:/no/such/file}", &env).unwrap_err().contains("/no/such/file"));
        assert!(resolve("${x}", &env).is_err());
        assert!(resolve("${env:SET", &env).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from a file\n").unwrap();
        assert_eq!(resolve(&format!("${{file:{}}}", file.path().display()), &env).unwrap(), "from a file");
    }

    #[test]
    fn only_references_are_shown() {
        assert_eq!(shown("token", "${env:SET}"), "${env:SET}");
        assert_eq!(shown("token", "x${env:SET}"), MASK);
        assert_eq!(shown("sasl.password", "hunter2"), MASK);
        assert_eq!(shown("listen", "127.0.0.1:1"), "127.0.0.1:1");
        for line in [r#"http = { token = "hunter2" }"#, r#"tokne = "hunter2""#, r#"{ Pasword="hunter2", x=1 }"#] {
            assert!(!mask_line(line).contains("hunter2"), "{line}");
        }
        assert_eq!(mask_line("listen = \"127.0.0.1:1\""), "listen = \"127.0.0.1:1\"");
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }

    #[test]
    fn of_a_broken_text_only_what_cannot_be_a_secret_is_shown() {
        for (lines, shown) in [
            (&[r#"token: "hunter2""#][..], "token ***"),
            (&[r#""sasl.password" "hunter2""#], r#""sasl.password ***"#),
            (&[r#"  tokne "hunter2"#], "  tokne ***"),
            (&[r#""sasl.password" = "#, "# why", r#""hunter2""#], MASK),
            (&[r#""sasl.password""#, r#"= "hunter2""#], MASK),
            (&[r#""sasl.password" ="#, r#""hunter=2""#], MASK),
            (&["token = [", r#""a","#, r#""hunter2\q","#], MASK),
            (&[r#"pem = """"#, r"hunter2\q", r#"""""#, "name = 1"], "name = 1"),
            (&[r#"pem = """"#, r"hunter2\q"], MASK),
            (&[r#"pem = """"#, r#"\""""#, "name = 'hunter2'"], MASK),
            (&["pem = '''", r"hunter2\'''", r#"name = "a"#], r#"name = "a"#),
            (&[r#"x' = """"#, "hunter2"], MASK),
            (&[r#"token = "x""#, r#"name = "a"#], r#"name = "a"#),
            (&[r#"token = "x""#, r#""name" = "a"#], r#""name" = "a"#),
            (&[r#"token = "x""#, "[node"], "[node"),
            (&[r#"# it's """ of a token"#, r#"name = "a"#], r#"name = "a"#),
            (&[r#"é = 'é' 'é"""é"#], r#"é = 'é' 'é"""é"#),
        ] {
            assert_eq!(mask_broken(&lines.join("\n"), lines.len() - 1), shown, "{lines:?}");
        }
    }
}
