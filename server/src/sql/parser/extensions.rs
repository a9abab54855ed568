//! Statements that `sqlparser` does not know, or knows with less than we need.
//!
//! ```text
//! ALTER TABLE t SPLIT AT VALUES (k, ...), ...
//! SHOW RANGES [FROM TABLE t]      SHOW CLOCK      SHOW NODES      SHOW DATABASES
//! SHOW TABLES                     SHOW COLUMNS FROM t             DESCRIBE t
//! SHOW TRANSACTION ID             SHOW TRANSACTION 'id'           ABORT [WORK | TRANSACTION]
//! ```

use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// A statement of our own.
#[derive(Debug)]
pub enum Extension {
    /// Makes range boundaries at rows with these first values of the primary key.
    SplitAt {
        table: ast::ObjectName,
        rows: Vec<Vec<ast::Expr>>,
    },
    ShowRanges {
        table: Option<ast::ObjectName>,
    },
    ShowClock,
    ShowNodes,
    ShowDatabases,
    ShowTables,
    ShowColumns {
        table: ast::ObjectName,
    },
    ShowTransactionId,
    /// How the transaction with this id ended.
    ShowTransaction {
        id: String,
    },
    Abort,
}

/// Whether the token so many places ahead is a word, unquoted.
fn is_word(parser: &Parser<'_>, ahead: usize, word: &str) -> bool {
    matches!(&parser.peek_nth_token_ref(ahead).token,
        Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// Takes the words off the front if they are all there.
fn words(parser: &mut Parser<'_>, wanted: &[&str]) -> bool {
    if !wanted.iter().enumerate().all(|(ahead, word)| is_word(parser, ahead, word)) {
        return false;
    }
    wanted.iter().for_each(|_| parser.advance_token());
    true
}

/// Parses a statement of our own, if it begins like one.
///
/// # Errors
/// When it begins like one and goes on differently.
pub fn parse(parser: &mut Parser<'_>) -> Result<Option<Extension>, ParserError> {
    if is_word(parser, 0, "SHOW") {
        return show(parser);
    }
    if words(parser, &["ABORT"]) {
        let _ = words(parser, &["WORK"]) || words(parser, &["TRANSACTION"]);
        return Ok(Some(Extension::Abort));
    }
    if words(parser, &["DESCRIBE"]) || words(parser, &["DESC"]) {
        return Ok(Some(Extension::ShowColumns { table: parser.parse_object_name(false)? }));
    }
    if is_word(parser, 0, "ALTER") && is_word(parser, 1, "TABLE") {
        return split_at(parser);
    }
    Ok(None)
}

fn show(parser: &mut Parser<'_>) -> Result<Option<Extension>, ParserError> {
    Ok(Some(if words(parser, &["SHOW", "RANGES"]) {
        let table = if words(parser, &["FROM", "TABLE"]) { Some(parser.parse_object_name(false)?) } else { None };
        Extension::ShowRanges { table }
    } else if words(parser, &["SHOW", "CLOCK"]) {
        Extension::ShowClock
    } else if words(parser, &["SHOW", "NODES"]) {
        Extension::ShowNodes
    } else if words(parser, &["SHOW", "DATABASES"]) {
        Extension::ShowDatabases
    } else if words(parser, &["SHOW", "TABLES"]) {
        Extension::ShowTables
    } else if words(parser, &["SHOW", "COLUMNS", "FROM"]) {
        Extension::ShowColumns { table: parser.parse_object_name(false)? }
    } else if words(parser, &["SHOW", "TRANSACTION", "ID"]) {
        Extension::ShowTransactionId
    } else if is_word(parser, 1, "TRANSACTION")
        && let Token::SingleQuotedString(id) = &parser.peek_nth_token_ref(2).token
    {
        let id = id.clone();
        (0..3).for_each(|_| parser.advance_token());
        Extension::ShowTransaction { id }
    } else {
        return Ok(None);
    }))
}

/// `ALTER TABLE name SPLIT AT ...`; other statements that begin with `ALTER TABLE` are left alone.
fn split_at(parser: &mut Parser<'_>) -> Result<Option<Extension>, ParserError> {
    let mut ahead = 3;
    while parser.peek_nth_token_ref(ahead).token == Token::Period {
        ahead += 2;
    }
    if !(is_word(parser, ahead, "SPLIT") && is_word(parser, ahead + 1, "AT")) {
        return Ok(None);
    }
    let _ = words(parser, &["ALTER", "TABLE"]);
    let table = parser.parse_object_name(false)?;
    if !words(parser, &["SPLIT", "AT", "VALUES"]) {
        let _ = words(parser, &["SPLIT", "AT"]);
        return parser.expected("VALUES", parser.peek_token());
    }
    let rows = parser.parse_comma_separated(|p| {
        p.expect_token(&Token::LParen)?;
        let row = p.parse_comma_separated(Parser::parse_expr)?;
        p.expect_token(&Token::RParen)?;
        Ok(row)
    })?;
    Ok(Some(Extension::SplitAt { table, rows }))
}
