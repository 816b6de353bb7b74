//! What a request asks: its path as bytes, and a query that has no unknown parameter.

use std::time::Duration;

use axum::http::Uri;

use super::percent;
use super::reply::Refusal;
use crate::actors::handle::Bound;
use crate::config::quantity;

/// The parameters of a request, each of which is taken once.
pub struct Query {
    pairs: Vec<(String, Vec<u8>)>,
}

impl Query {
    /// Reads the query; a name that is not `known`, or that comes twice, is refused.
    pub fn of(uri: &Uri, known: &[&'static str]) -> Result<Query, Refusal> {
        let Some(pairs) = percent::query(uri.query().unwrap_or_default()) else {
            return Err(Refusal::bad("bad-query", "a `%` in the query is not followed by two hexadecimal digits")
                .next("write a literal `%` as %25"));
        };
        for (i, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let message = format!("unknown parameter `{name}`");
                return Err(Refusal::bad("unknown-parameter", message).next(format!("there are: {}", known.join(", "))));
            }
            if pairs[..i].iter().any(|(earlier, _)| earlier == name) {
                return Err(Refusal::bad("bad-query", format!("parameter `{name}` comes twice")).next("send it once"));
            }
        }
        Ok(Query { pairs })
    }

    /// A parameter as bytes.
    pub fn bytes(&mut self, name: &str) -> Option<Vec<u8>> {
        let at = self.pairs.iter().position(|(found, _)| found == name)?;
        Some(self.pairs.swap_remove(at).1)
    }

    /// A parameter as text.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.bytes(name).map(String::from_utf8) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => {
                Err(Refusal::bad("bad-query", format!("parameter `{name}` is not UTF-8")).next("encode it"))
            }
        }
    }

    /// A parameter that some type can be read from.
    pub fn parsed<T: std::str::FromStr>(&mut self, name: &str, expected: &str) -> Result<Option<T>, Refusal> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(Refusal::bad("bad-query", format!("parameter `{name}` is {text:?}"))
                    .next(format!("expected {expected}"))),
            },
        }
    }

    /// `at-least` and `wait`; the wait is bounded by `most`, which is also what holds without it.
    pub fn bound(&mut self, most: Duration) -> Result<Option<Bound>, Refusal> {
        let wait = match self.text("wait")? {
            None => most,
            Some(text) if text == "0" => Duration::ZERO,
            Some(text) => match quantity::duration(&text) {
                Ok(wait) => wait.min(most),
                Err(reason) => return Err(Refusal::bad("bad-query", format!("parameter `wait`: {reason}"))),
            },
        };
        let Some(token) = self.text("at-least")? else { return Ok(None) };
        match token.parse() {
            Ok(at_least) => Ok(Some(Bound { at_least, wait })),
            Err(error) => {
                let error: crate::position::BadToken = error;
                Err(Refusal::bad("bad-token", error.to_string()).next("use a token as an append or a read answered it"))
            }
        }
    }
}

/// A number of the path.
pub fn number(text: &str, expected: &str) -> Result<u64, Refusal> {
    text.parse()
        .map_err(|_| Refusal::bad("bad-path", format!("{text:?} is no number")).next(format!("expected {expected}")))
}

/// The path's segment behind `prefix`, and the rest behind its slash, both decoded.
pub fn segments(uri: &Uri, prefix: &str) -> Result<(String, Vec<u8>), Refusal> {
    let path = uri.path();
    let rest = path.strip_prefix(prefix).unwrap_or_default();
    let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let bad = || Refusal::bad("bad-path", format!("{path}: not percent-encoded")).next("write a literal `%` as %25");
    let name = String::from_utf8(percent::decode(name).ok_or_else(bad)?).map_err(|_| bad())?;
    Ok((name, percent::decode(rest).ok_or_else(bad)?))
}
