//! `LIKE` and `ILIKE`.

use super::super::error::{Error, Result, state};

/// The character of an `ESCAPE` clause; `None` for the empty string, which turns escaping off.
///
/// # Errors
/// `22025` for more than one character.
pub fn escape_char(escape: &str) -> Result<Option<char>> {
    let mut chars = escape.chars();
    match (chars.next(), chars.next()) {
        (first, None) => Ok(first),
        _ => Err(Error::new(state::INVALID_ESCAPE, "invalid escape string")
            .hint("Escape string must be empty or one character.")),
    }
}

enum Token {
    One(char),
    AnyOne,
    Any,
}

fn tokens(pattern: &str, escape: Option<char>, fold: impl Fn(char) -> char) -> Result<Vec<Token>> {
    let mut out = Vec::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            c if Some(c) == escape => {
                let message = "LIKE pattern must not end with escape character";
                Token::One(fold(chars.next().ok_or_else(|| Error::new(state::INVALID_ESCAPE, message))?))
            }
            '%' => Token::Any,
            '_' => Token::AnyOne,
            c => Token::One(fold(c)),
        });
    }
    Ok(out)
}

/// Whether a text matches a pattern. On a mismatch only the last `%` is taken up again, so the time is at most the
/// product of the lengths.
///
/// # Errors
/// `22025` for a pattern that ends in the escape character.
pub fn matches(text: &str, pattern: &str, escape: Option<char>, ignore_case: bool) -> Result<bool> {
    let fold = |c: char| if ignore_case { c.to_lowercase().next().unwrap_or(c) } else { c };
    let pattern = tokens(pattern, escape, fold)?;
    let text: Vec<char> = text.chars().map(fold).collect();
    let (mut t, mut p) = (0, 0);
    let mut last_any: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Token::Any) => {
                last_any = Some((p, t));
                p += 1;
                continue;
            }
            Some(Token::AnyOne) => {
                (t, p) = (t + 1, p + 1);
                continue;
            }
            Some(Token::One(c)) if *c == text[t] => {
                (t, p) = (t + 1, p + 1);
                continue;
            }
            _ => {}
        }
        let Some((any, from)) = last_any else { return Ok(false) };
        last_any = Some((any, from + 1));
        (t, p) = (from + 1, any + 1);
    }
    Ok(pattern[p..].iter().all(|token| matches!(token, Token::Any)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(text: &str, pattern: &str) -> bool {
        matches(text, pattern, Some('\\'), false).unwrap()
    }

    #[test]
    fn wildcards_match_as_in_postgresql() {
        assert!(like("meridian", "m%i_n"));
        assert!(like("", "%"));
        assert!(!like("", "_"));
        assert!(like("a%b", "a\\%b"));
        assert!(!like("axb", "a\\%b"));
        assert!(like("aaaaab", "%a%a%b"));
        assert!(!like("Meridian", "m%"));
        assert!(matches("Meridian", "m%", None, true).unwrap());
        assert!(matches("x", "x\\", Some('\\'), false).is_err());
    }
}
