//! `AS OF SYSTEM TIME`, CockroachDB's clause, which `sqlparser` does not know in PostgreSQL's dialect.
//!
//! It is taken out of a statement's tokens before the parser sees them, with the expression behind it, which the parser parses by itself. Only where
//! it stands at the statement's own level: not in parentheses.

use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{Ast, DIALECT};

/// The clause's words.
const CLAUSE: [&str; 4] = ["AS", "OF", "SYSTEM", "TIME"];

/// Takes the first such clause out of a statement, and returns what it says.
///
/// # Errors
/// When no expression follows it.
pub fn take(tokens: &mut Vec<TokenWithSpan>) -> Result<Option<ast::Expr>, ParserError> {
    let Some((start, behind)) = find(tokens) else { return Ok(None) };
    let mut parser = Parser::new(&DIALECT).with_tokens_with_locations(tokens[behind..].to_vec());
    let expr = parser.parse_expr()?;
    let end = (behind + parser.index()).min(tokens.len());
    tokens.drain(start..end);
    Ok(Some(expr))
}

/// Where the clause begins, and where the first token behind its words is.
fn find(tokens: &[TokenWithSpan]) -> Option<(usize, usize)> {
    let mut depth = 0usize;
    // The places of the last words in a row that are the clause's.
    let mut places = [0; CLAUSE.len()];
    let mut matched = 0;
    for (place, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        let is = |word: &str| matches!(&token.token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
        matched = match matched {
            _ if depth > 0 => 0,
            n if is(CLAUSE[n]) => n + 1,
            _ => usize::from(is(CLAUSE[0])),
        };
        if matched > 0 {
            places[matched - 1] = place;
        }
        if matched == CLAUSE.len() {
            return Some((places[0], place + 1));
        }
    }
    None
}

/// Whether a statement can be read at another time, or can begin a transaction that is.
pub fn fits(ast: &Ast) -> bool {
    let Ast::Sql(sql) = ast else { return false };
    match sql.as_ref() {
        ast::Statement::Query(_) | ast::Statement::StartTransaction { .. } => true,
        ast::Statement::Set(ast::Set::SetTransaction { session, .. }) => !session,
        ast::Statement::Explain { statement, .. } => matches!(statement.as_ref(), ast::Statement::Query(_)),
        _ => false,
    }
}
