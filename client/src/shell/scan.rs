//! Finds where statements end: at semicolons outside quotes, comments and dollar quotes.

/// A text cut into statements.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan<'t> {
    /// Complete statements without their semicolons. Empty ones are left out.
    pub statements: Vec<&'t str>,
    /// What follows the last semicolon.
    pub rest: &'t str,
    /// Whether the rest holds nothing but space and finished comments.
    pub rest_is_blank: bool,
}

/// Cuts a text into statements, following PostgreSQL's lexical rules.
pub fn scan(text: &str) -> Scan<'_> {
    let bytes = text.as_bytes();
    let mut scan = Scan { statements: Vec::new(), rest: text, rest_is_blank: true };
    let (mut start, mut at, mut blank) = (0, 0, true);
    while at < bytes.len() {
        let token = token_at(bytes, at);
        at = token.end;
        match token.kind {
            Kind::Semicolon => {
                if !blank {
                    scan.statements.push(text[start..at - 1].trim());
                }
                (start, blank) = (at, true);
            }
            Kind::Blank => {}
            Kind::Other => blank = false,
        }
    }
    scan.rest = &text[start..];
    scan.rest_is_blank = blank;
    scan
}

enum Kind {
    Semicolon,
    /// Space, or a comment that has come to its end.
    Blank,
    /// Part of a statement.
    Other,
}

struct Token {
    kind: Kind,
    end: usize,
}

fn token_at(bytes: &[u8], at: usize) -> Token {
    let other = |end| Token { kind: Kind::Other, end };
    match bytes[at] {
        b';' => Token { kind: Kind::Semicolon, end: at + 1 },
        b if b.is_ascii_whitespace() => Token { kind: Kind::Blank, end: at + 1 },
        b'-' if bytes.get(at + 1) == Some(&b'-') => Token { kind: Kind::Blank, end: line_end(bytes, at) },
        b'/' if bytes.get(at + 1) == Some(&b'*') => match block_comment_end(bytes, at) {
            Some(end) => Token { kind: Kind::Blank, end },
            None => other(bytes.len()),
        },
        b'\'' => other(quote_end(bytes, at, has_escapes(bytes, at))),
        b'"' => other(quote_end(bytes, at, false)),
        b'$' => other(dollar_quote_end(bytes, at).unwrap_or(at + 1)),
        b if is_word(b) => other(word_end(bytes, at)),
        _ => other(at + 1),
    }
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |n| at + n + 1)
}

/// The end of a block comment; they nest.
fn block_comment_end(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut depth, mut at) = (0, start);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Whether the string constant at this quote is an escape string: `E'...'`.
fn has_escapes(bytes: &[u8], quote: usize) -> bool {
    let is_e = quote > 0 && bytes[quote - 1].eq_ignore_ascii_case(&b'e');
    is_e && (quote == 1 || !is_word(bytes[quote - 2]))
}

/// The end of a quoted string. A doubled quote closes and opens at once, which for the end comes to the same.
fn quote_end(bytes: &[u8], start: usize, escapes: bool) -> usize {
    let quote = bytes[start];
    let mut at = start + 1;
    while at < bytes.len() {
        if bytes[at] == b'\\' && escapes {
            at += 2;
            continue;
        }
        if bytes[at] == quote {
            return at + 1;
        }
        at += 1;
    }
    bytes.len()
}

/// The end of `$tag$ ... $tag$`, if that is what begins here and not a parameter such as `$1`.
fn dollar_quote_end(bytes: &[u8], start: usize) -> Option<usize> {
    let tag_length = bytes[start + 1..].iter().position(|&b| b == b'$')?;
    let tag = &bytes[start + 1..start + 1 + tag_length];
    let valid = tag.iter().all(|&b| is_word(b)) && !tag.first().is_some_and(u8::is_ascii_digit);
    if !valid {
        return None;
    }
    let delimiter = &bytes[start..start + tag_length + 2];
    let body = start + delimiter.len();
    let close = bytes[body..].windows(delimiter.len()).position(|window| window == delimiter);
    Some(close.map_or(bytes.len(), |n| body + n + delimiter.len()))
}

/// The end of a word; a dollar sign inside a word belongs to it. An `E` that opens a string ends before the quote.
fn word_end(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|&b| !is_word(b) && b != b'$').map_or(bytes.len(), |n| start + n)
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, statements: &[&str], rest: &str) {
        let scan = scan(text);
        assert_eq!(scan.statements, statements);
        assert_eq!(scan.rest, rest);
    }

    #[test]
    fn statements_end_at_semicolons() {
        check("select 1; select 2 ;\nselect", &["select 1", "select 2"], "\nselect");
        check(";;", &[], "");
    }

    #[test]
    fn semicolons_in_quotes_and_comments_do_not_count() {
        check("select ';', \"a;b\"; x", &["select ';', \"a;b\""], " x");
        check("select 'it''s;' ;", &["select 'it''s;'"], "");
        check("select E'\\';' ;", &["select E'\\';'"], "");
        check("select '\\';", &["select '\\'"], "");
        check("-- a;b\nselect 1; /* ; /* ; */ ; */", &["-- a;b\nselect 1"], " /* ; /* ; */ ; */");
    }

    #[test]
    fn dollar_quotes_hide_everything_and_parameters_do_not() {
        check("select $$;$$, $a$ $$; $a$; rest", &["select $$;$$, $a$ $$; $a$"], " rest");
        check("select $1; select a$b$c; x", &["select $1", "select a$b$c"], " x");
    }

    #[test]
    fn an_open_quote_or_comment_asks_for_more() {
        for open in ["select 'a;", "select \"a;", "$$ ;", "/* ;", "select E'\\"] {
            let scan = scan(open);
            assert!(scan.statements.is_empty() && !scan.rest_is_blank, "{open:?}");
        }
    }

    #[test]
    fn a_rest_of_comments_is_blank() {
        assert!(scan("select 1; -- done\n /* really */ ").rest_is_blank);
        assert!(!scan("select 1; -- done\n x").rest_is_blank);
    }
}
