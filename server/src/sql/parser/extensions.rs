//! Statements that `sqlparser` does not know, or knows with less than we need.
//!
//! ```text
//! ALTER TABLE t SPLIT AT VALUES (k, ...), ...     ALTER TABLE t UNSPLIT AT VALUES (k, ...), ... | ALL
//! ALTER TABLE t SET (option = value, ...)         ALTER TABLE t RESET (option, ...)
//! SHOW RANGES [FROM TABLE t]      SHOW RANGE FROM TABLE t FOR ROW (k, ...)
//! SHOW PLACEMENT [FOR TABLE t]    SHOW JOBS [LIMIT n]             SHOW REFUSALS
//! SHOW CLOCK                      SHOW NODES                      SHOW DATABASES
//! SHOW TABLES                     SHOW COLUMNS FROM t             DESCRIBE t
//! SHOW TRANSACTION ID             SHOW TRANSACTION 'id'           SHOW RETRIES
//! ABORT [WORK | TRANSACTION]
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
    /// Gives up range boundaries that were made so: those at these rows, or all of the table.
    Unsplit {
        table: ast::ObjectName,
        rows: Option<Vec<Vec<ast::Expr>>>,
    },
    /// Sets options of a table, or gives them up where there is no value.
    SetOptions {
        table: ast::ObjectName,
        options: Vec<(ast::Ident, Option<ast::Expr>)>,
    },
    ShowRanges {
        table: Option<ast::ObjectName>,
    },
    /// The range that a row lies in, by its primary key.
    ShowRange {
        table: ast::ObjectName,
        row: Vec<ast::Expr>,
    },
    ShowPlacement {
        table: Option<ast::ObjectName>,
    },
    /// The latest decisions about ranges; all that are kept, or so many.
    ShowJobs {
        limit: Option<u64>,
    },
    ShowRefusals,
    ShowClock,
    ShowRetries,
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
        return alter_table(parser);
    }
    Ok(None)
}

fn show(parser: &mut Parser<'_>) -> Result<Option<Extension>, ParserError> {
    Ok(Some(if words(parser, &["SHOW", "RANGES"]) {
        let table = if words(parser, &["FROM", "TABLE"]) { Some(parser.parse_object_name(false)?) } else { None };
        Extension::ShowRanges { table }
    } else if words(parser, &["SHOW", "RANGE"]) {
        if !words(parser, &["FROM", "TABLE"]) {
            return parser.expected("FROM TABLE, with the table's name, and then FOR ROW", parser.peek_token());
        }
        let table = parser.parse_object_name(false)?;
        if !words(parser, &["FOR", "ROW"]) {
            return parser.expected("FOR ROW", parser.peek_token());
        }
        Extension::ShowRange { table, row: row(parser)? }
    } else if words(parser, &["SHOW", "PLACEMENT"]) {
        let of_table = words(parser, &["FOR", "TABLE"]) || words(parser, &["FROM", "TABLE"]);
        Extension::ShowPlacement { table: of_table.then(|| parser.parse_object_name(false)).transpose()? }
    } else if words(parser, &["SHOW", "JOBS"]) {
        let limited = words(parser, &["LIMIT"]);
        Extension::ShowJobs { limit: limited.then(|| parser.parse_literal_uint()).transpose()? }
    } else if words(parser, &["SHOW", "REFUSALS"]) {
        Extension::ShowRefusals
    } else if words(parser, &["SHOW", "CLOCK"]) {
        Extension::ShowClock
    } else if words(parser, &["SHOW", "RETRIES"]) {
        Extension::ShowRetries
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

/// `ALTER TABLE name` and what we add to it; other statements that begin so are left alone.
fn alter_table(parser: &mut Parser<'_>) -> Result<Option<Extension>, ParserError> {
    let mut ahead = 3;
    while parser.peek_nth_token_ref(ahead).token == Token::Period {
        ahead += 2;
    }
    let parenthesis = parser.peek_nth_token_ref(ahead + 1).token == Token::LParen;
    let splits = is_word(parser, ahead, "SPLIT") && is_word(parser, ahead + 1, "AT");
    let unsplits = is_word(parser, ahead, "UNSPLIT");
    let sets = is_word(parser, ahead, "SET") && parenthesis;
    let resets = is_word(parser, ahead, "RESET") && parenthesis;
    if !(splits || unsplits || sets || resets) {
        return Ok(None);
    }
    let _ = words(parser, &["ALTER", "TABLE"]);
    let table = parser.parse_object_name(false)?;
    if splits {
        return Ok(Some(Extension::SplitAt { table, rows: rows_after(parser, &["SPLIT", "AT"])? }));
    }
    if unsplits {
        let all = words(parser, &["UNSPLIT", "ALL"]);
        let rows = if all { None } else { Some(rows_after(parser, &["UNSPLIT", "AT"])?) };
        return Ok(Some(Extension::Unsplit { table, rows }));
    }
    let _ = words(parser, &["SET"]) || words(parser, &["RESET"]);
    parser.expect_token(&Token::LParen)?;
    let options = parser.parse_comma_separated(|p| {
        let name = p.parse_identifier()?;
        if sets {
            p.expect_token(&Token::Eq)?;
            return Ok((name, Some(p.parse_expr()?)));
        }
        Ok((name, None))
    })?;
    parser.expect_token(&Token::RParen)?;
    Ok(Some(Extension::SetOptions { table, options }))
}

/// `VALUES (value, ...), ...` behind some words.
fn rows_after(parser: &mut Parser<'_>, before: &[&str]) -> Result<Vec<Vec<ast::Expr>>, ParserError> {
    let mut ahead = before.iter().copied().chain(["VALUES"]);
    match ahead.find(|word| !words(parser, &[word])) {
        Some(missing) => parser.expected(missing, parser.peek_token()),
        None => parser.parse_comma_separated(row),
    }
}

/// `(value, ...)`
fn row(parser: &mut Parser<'_>) -> Result<Vec<ast::Expr>, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let row = parser.parse_comma_separated(Parser::parse_expr)?;
    parser.expect_token(&Token::RParen)?;
    Ok(row)
}
