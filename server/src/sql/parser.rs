//! From text to statements.
//!
//! `sqlparser` does the work, with its PostgreSQL dialect. Around it: limits that keep hostile text from exhausting the
//! stack (the parser nests chains of operators to the left without bound, and even dropping such a tree
//! recurses), splitting a string into statements, statements of our own that it does not know
//! ([`extensions`]) and a clause ([`as_of`]), and errors with PostgreSQL's words and positions.

pub mod extensions;
pub mod as_of;

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};

pub use extensions::Extension;

use super::error::{Error, Result, state};
use super::limits::Limits;

const DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// One statement of a query string, parsed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Statement(Arc<Parsed>);

#[derive(Debug)]
struct Parsed {
    text: String,
    ast: Ast,
    /// What `AS OF SYSTEM TIME` says.
    as_of: Option<ast::Expr>,
    locator: Arc<Locator>,
}

/// What the parser made of a statement.
#[derive(Debug)]
pub enum Ast {
    Sql(Box<ast::Statement>),
    Extension(Extension),
}

impl Statement {
    /// The statement's own text, without the semicolon.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    pub fn ast(&self) -> &Ast {
        &self.0.ast
    }

    /// The time at which it is to be read, if it says so.
    pub fn as_of(&self) -> Option<&ast::Expr> {
        self.0.as_of.as_ref()
    }

    /// Where things stand in the query string that the statement came in.
    pub fn locator(&self) -> &Arc<Locator> {
        &self.0.locator
    }
}

/// Turns the parser's lines and columns into positions in the query string, in characters from 1.
#[derive(Debug, Default)]
pub struct Locator {
    /// For each line the characters, and the bytes, before it.
    lines: Vec<(usize, usize)>,
    text: String,
}

impl Locator {
    fn new(text: &str) -> Locator {
        let mut lines = vec![(0, 0)];
        for (chars, (bytes, _)) in text.char_indices().enumerate().filter(|(_, (_, c))| *c == '\n') {
            lines.push((chars + 1, bytes + 1));
        }
        Locator { lines, text: text.to_string() }
    }

    /// The position of a span's start, if the parser knew it.
    pub fn position(&self, span: Span) -> Option<usize> {
        self.position_of(span.start)
    }

    fn position_of(&self, location: Location) -> Option<usize> {
        let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
        let (chars, _) = self.lines.get(line)?;
        Some(chars + usize::try_from(location.column).ok()?)
    }

    fn byte_of(&self, location: Location) -> Option<usize> {
        let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
        let (_, bytes) = *self.lines.get(line)?;
        let column = usize::try_from(location.column).ok()?.checked_sub(1)?;
        let rest = self.text.get(bytes..)?;
        Some(bytes + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at))
    }
}

/// Splits a query string into statements and parses each.
///
/// # Errors
/// `42601`; `54000` and `54001` for strings beyond the limits.
pub fn parse(text: &str, limits: &Limits) -> Result<Vec<Statement>> {
    if text.len() > limits.statement_bytes_max {
        let message =
            format!("the statement has {} bytes, more than the limit of {}", text.len(), limits.statement_bytes_max);
        return Err(Error::new(state::PROGRAM_LIMIT_EXCEEDED, message)
            .hint("Send the data in several statements, with parameters."));
    }
    let locator = Arc::new(Locator::new(text));
    let tokens = tokenize(text, &locator)?;
    let mut statements = Vec::new();
    for part in tokens.split(|t| t.token == Token::SemiColon) {
        let blank = |t: &TokenWithSpan| matches!(t.token, Token::Whitespace(_) | Token::EOF);
        let Some(first) = part.iter().find(|t| !blank(t)) else { continue };
        let last = part.iter().rfind(|t| !blank(t)).unwrap_or(first);
        check_depth(part, limits, &locator)?;
        let start = locator.byte_of(first.span.start).unwrap_or(0);
        let end = locator.byte_of(last.span.end).unwrap_or(text.len()).max(start);
        let (ast, as_of) = parse_one(part.to_vec(), &locator)?;
        let own_text = text.get(start..end).unwrap_or(text).to_string();
        statements.push(Statement(Arc::new(Parsed { text: own_text, ast, as_of, locator: locator.clone() })));
    }
    Ok(statements)
}

/// Parses a stored expression: the default of a column.
///
/// # Errors
/// `42601`.
pub fn parse_expression(text: &str, limits: &Limits) -> Result<ast::Expr> {
    let locator = Locator::new(text);
    let tokens = tokenize(text, &locator)?;
    check_depth(&tokens, limits, &locator)?;
    let mut parser = Parser::new(&DIALECT).with_tokens_with_locations(tokens);
    parser.parse_expr().map_err(|e| syntax_error(e, &locator))
}

fn tokenize(text: &str, locator: &Locator) -> Result<Vec<TokenWithSpan>> {
    Tokenizer::new(&DIALECT, text).tokenize_with_location().map_err(|e| {
        Error::new(state::SYNTAX_ERROR, format!("syntax error: {}", e.message.to_lowercase()))
            .at(locator.position_of(e.location))
    })
}

/// Refuses text whose syntax tree could be deeper than the limit. Every operator, keyword and opening parenthesis
/// may add a level; a comma begins anew.
fn check_depth(tokens: &[TokenWithSpan], limits: &Limits, locator: &Locator) -> Result<()> {
    let mut depth = 0;
    let mut open: Vec<usize> = Vec::new();
    let mut here = 0;
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) | Token::Period => continue,
            Token::LParen | Token::LBracket | Token::LBrace => {
                open.push(here);
                depth += here + 1;
                here = 0;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                here = open.pop().unwrap_or(0);
                depth = depth.saturating_sub(here + 1);
            }
            Token::Comma => here = 0,
            Token::Word(word) if word.keyword == Keyword::NoKeyword => {}
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => {}
            _ => here += 1,
        }
        if depth + here > limits.expression_depth_max {
            let message =
                format!("the statement may nest more than {} operations at this point", limits.expression_depth_max);
            return Err(Error::new(state::STATEMENT_TOO_COMPLEX, message)
                .hint("Use IN lists instead of long chains of OR, and fewer nested expressions.")
                .at(locator.position(token.span)));
        }
    }
    Ok(())
}

fn parse_one(mut tokens: Vec<TokenWithSpan>, locator: &Locator) -> Result<(Ast, Option<ast::Expr>)> {
    let as_of = as_of::take(&mut tokens).map_err(|e| syntax_error(e, locator))?;
    let mut parser = Parser::new(&DIALECT).with_tokens_with_locations(tokens);
    let parsed = match extensions::parse(&mut parser) {
        Ok(Some(extension)) => Ok(Ast::Extension(extension)),
        Ok(None) => parser.parse_statement().map(|s| Ast::Sql(Box::new(s))),
        Err(error) => Err(error),
    };
    let ast = parsed.map_err(|e| syntax_error(e, locator))?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return Err(unexpected(&rest.token.to_string(), &rest, locator));
    }
    if as_of.is_some() && !as_of::fits(&ast) {
        return Err(Error::unsupported("AS OF SYSTEM TIME with anything but SELECT, BEGIN and SET TRANSACTION"));
    }
    Ok((ast, as_of))
}

fn unexpected(token: &str, at: &TokenWithSpan, locator: &Locator) -> Error {
    Error::new(state::SYNTAX_ERROR, format!("syntax error at or near \"{token}\"")).at(locator.position(at.span))
}

/// Finds the place that the parser's message ends with, and the token there.
fn syntax_error(error: ParserError, locator: &Locator) -> Error {
    let message = match error {
        ParserError::RecursionLimitExceeded => {
            return Error::new(state::STATEMENT_TOO_COMPLEX, "the statement nests too deeply to be parsed");
        }
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
    };
    let (what, location) = match message.rsplit_once(" at Line: ") {
        Some((what, place)) => (what, read_location(place)),
        None => (message.as_str(), None),
    };
    let (expected, found) = match what.rsplit_once(", found: ") {
        Some((expected, found)) => (expected, Some(found)),
        None => (what, None),
    };
    let error = match found {
        Some("EOF") => {
            Error::new(state::SYNTAX_ERROR, "syntax error at end of input").at(Some(locator.text.chars().count() + 1))
        }
        Some(token) => Error::new(state::SYNTAX_ERROR, format!("syntax error at or near \"{token}\"")),
        None => Error::new(state::SYNTAX_ERROR, format!("syntax error: {what}")),
    };
    let error = error.at(location.and_then(|l| locator.position_of(l)));
    if found.is_some() { error.detail(format!("{expected}.")) } else { error }
}

fn read_location(place: &str) -> Option<Location> {
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fails(text: &str) -> Error {
        parse(text, &Limits::default()).unwrap_err()
    }

    #[test]
    fn a_string_is_split_at_semicolons_outside_of_literals() {
        let statements = parse(" SELECT ';'; ; -- done;\n COMMIT ", &Limits::default()).unwrap();
        let texts: Vec<&str> = statements.iter().map(Statement::text).collect();
        assert_eq!(texts, ["SELECT ';'", "-- done;\n COMMIT"].map(|t| t.trim_start_matches("-- done;\n ")));
        assert!(parse(" ; ; ", &Limits::default()).unwrap().is_empty());
    }

    #[test]
    fn syntax_errors_point_at_the_token() {
        let error = fails("SELECT 1;\nSELEC 2");
        assert_eq!(error.sqlstate, "42601");
        assert_eq!(error.position, Some(11));
        assert_eq!(fails("SELECT 1 +").message, "syntax error at end of input");
        assert_eq!(fails("SELECT (1").sqlstate, "42601");
        assert_eq!(fails("SELECT 'ä").sqlstate, "42601");
    }

    #[test]
    fn hostile_nesting_is_refused_before_it_is_parsed() {
        let chain = format!("SELECT 1{}", " + 1".repeat(100_000));
        assert_eq!(fails(&chain).sqlstate, "54001");
        let parens = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert_eq!(fails(&parens).sqlstate, "54001");
        let nots = format!("SELECT {} true", "NOT ".repeat(10_000));
        assert_eq!(fails(&nots).sqlstate, "54001");
        assert_eq!(fails(&format!("SELECT '{}'", "x".repeat(2 << 20))).sqlstate, "54000");
    }

    proptest! {
        #[test]
        fn no_soup_of_tokens_makes_the_parser_panic(words in prop::collection::vec(prop::sample::select(vec![
            "SELECT", "FROM", "t", "(", ")", ",", "1", "'x'", "+", "-", "*", "AND", "OR", "NOT", "IN", "CASE", "WHEN",
            "END", "INSERT", "INTO", "VALUES", "UPDATE", "SET", "=", "DELETE", "CREATE", "TABLE", "INT", "PRIMARY",
            "KEY", "::", "$1", ".", "BETWEEN", "LIKE", "IS", "NULL", "ORDER", "BY", "LIMIT", "SPLIT", "AT", "ALTER",
            "SHOW", "RANGES", "[", "]", "BEGIN", ";", "\"q\"", "EXPLAIN", "DEFAULT", "<", ">", "GROUP", "HAVING",
            "AS", "OF", "SYSTEM", "TIME", "AS OF SYSTEM TIME", "'-5s'",
        ]), 0..20)) {
            let _ = parse(&words.join(" "), &Limits::default());
        }
    }
}
