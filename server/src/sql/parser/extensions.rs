//! Statements that `sqlparser` does not know, or knows with less than we need.
//!
//! ```text
//! ALTER TABLE t SPLIT AT VALUES (k, ...), ...
//! SHOW RANGES [FROM TABLE t]      SHOW CLOCK      SHOW NODES      SHOW DATABASES
//! SHOW TABLES                     SHOW COLUMNS FROM t             DESCRIBE t
//! SHOW TRANSACTION ID             ABORT [WORK | TRANSACTION]
//! ```

use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// A statement of our own.
#[derive(Debug)]
pub enum Extension {
    /// Makes range boundaries at rows with these first values of the primary key.
    SplitAt { table: ast::ObjectName, rows: Vec<Vec<ast::Expr>> },
    ShowRanges { table: Option<ast::ObjectName> },
    ShowClock,
    ShowNodes,
    ShowDatabases,
    ShowTables,
    ShowColumns { table: ast::ObjectName },
    ShowTransactionId,
    Abort,
}

/// Takes the words off the front if they are all there.
fn words(parser: &mut Parser<'_>, wanted: &[&str]) -> bool {
    let start = parser.index();
    for word in wanted {
        let found = matches!(&parser.peek_token_ref().token,
            Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
        if !found {
            while parser.index() > start {
                parser.prev_token();
            }
            return false;
        }
        parser.next_token();
    }
    true
}

/// Parses a statement of our own, if it begins like one.
///
/// # Errors
/// When it begins like one and goes on differently.
pub fn parse(parser: &mut Parser<'_>) -> Result<Option<Extension>, ParserError> {
    if words(parser, &["SHOW"]) {
        let shown = show(parser)?;
        if shown.is_none() {
            parser.prev_token();
        }
        return Ok(shown);
    }
    if words(parser, &["ABORT"]) {
        let _ = words(parser, &["WORK"]) || words(parser, &["TRANSACTION"]);
        return Ok(Some(Extension::Abort));
    }
    if words(parser, &["DESCRIBE"]) || words(parser, &["DESC"]) {
        return Ok(Some(Extension::ShowColumns { table: parser.parse_object_name(false)? }));
    }
    if words(parser, &["ALTER", "TABLE"]) {
        return split_at(parser);
    }
    Ok(None)
}

fn show(parser: &mut Parser<'_>) -> Result<Option<Extension>, ParserError> {
    Ok(Some(if words(parser, &["RANGES"]) {
        let table =
            if words(parser, &["FROM", "TABLE"]) { Some(parser.parse_object_name(false)?) } else { None };
        Extension::ShowRanges { table }
    } else if words(parser, &["CLOCK"]) {
        Extension::ShowClock
    } else if words(parser, &["NODES"]) {
        Extension::ShowNodes
    } else if words(parser, &["DATABASES"]) {
        Extension::ShowDatabases
    } else if words(parser, &["TABLES"]) {
        Extension::ShowTables
    } else if words(parser, &["COLUMNS", "FROM"]) {
        Extension::ShowColumns { table: parser.parse_object_name(false)? }
    } else if words(parser, &["TRANSACTION", "ID"]) {
        Extension::ShowTransactionId
    } else {
        return Ok(None);
    }))
}

/// After `ALTER TABLE`: goes back to its start unless `name SPLIT AT` follows.
fn split_at(parser: &mut Parser<'_>) -> Result<Option<Extension>, ParserError> {
    let start = parser.index();
    let table = parser.parse_object_name(false);
    if let Ok(table) = table
        && words(parser, &["SPLIT", "AT"])
    {
        if !words(parser, &["VALUES"]) {
            return parser.expected("VALUES", parser.peek_token());
        }
        let rows = parser.parse_comma_separated(|p| {
            p.expect_token(&Token::LParen)?;
            let row = p.parse_comma_separated(Parser::parse_expr)?;
            p.expect_token(&Token::RParen)?;
            Ok(row)
        })?;
        return Ok(Some(Extension::SplitAt { table, rows }));
    }
    while parser.index() > start {
        parser.prev_token();
    }
    parser.prev_token();
    parser.prev_token();
    Ok(None)
}
