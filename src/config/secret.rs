//! Secrets: values that are used and never shown, and the references through which a file names them.

use std::fmt;

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
    let lower = line.to_ascii_lowercase();
    let named = WORDS.iter().filter_map(|word| lower.find(word));
    let start = |word: &str| word.as_ptr() as usize - lower.as_ptr() as usize;
    let misspelt = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| sounds_secret(word)).map(start);
    let equals = named.chain(misspelt).min().and_then(|at| line[at..].find('=').map(|equals| at + equals));
    match equals {
        Some(equals) => format!("{} {MASK}", &line[..=equals]),
        None => line.to_owned(),
    }
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
}
