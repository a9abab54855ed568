//! What the Tab key offers: backslash commands, keywords, and names of tables and columns.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use super::commands;
use super::connection::Connection;
use crate::driver::{Row, TransactionStatus, Value};

/// How long the editor waits for candidates.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Tables whose columns are looked up for one line.
const TABLES_PER_LINE_MAX: usize = 8;

const KEYWORDS: [&str; 88] = [
    "ADD",
    "ALL",
    "ALTER",
    "ANALYZE",
    "AND",
    "AS",
    "ASC",
    "AT",
    "BEGIN",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BY",
    "BYTEA",
    "CASE",
    "CHECK",
    "CLOCK",
    "COLUMN",
    "COLUMNS",
    "COMMIT",
    "CONFLICT",
    "CONSTRAINT",
    "COUNT",
    "CREATE",
    "CROSS",
    "DATABASES",
    "DATE",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DISTINCT",
    "DO",
    "DROP",
    "ELSE",
    "END",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FOR",
    "FROM",
    "GROUP",
    "HAVING",
    "IF",
    "IN",
    "INDEX",
    "INNER",
    "INSERT",
    "INT8",
    "INTEGER",
    "INTO",
    "IS",
    "ISOLATION",
    "JOIN",
    "KEY",
    "LEFT",
    "LEVEL",
    "LIKE",
    "LIMIT",
    "NODES",
    "NOT",
    "NULL",
    "NUMERIC",
    "OFFSET",
    "ON",
    "ONLY",
    "OR",
    "ORDER",
    "PRIMARY",
    "RANGES",
    "READ",
    "RETRIES",
    "RETURNING",
    "ROLLBACK",
    "SELECT",
    "SET",
    "SHOW",
    "SPLIT",
    "TABLE",
    "TABLES",
    "TEXT",
    "THEN",
    "TRANSACTION",
    "TRUE",
    "UNIQUE",
    "UPDATE",
    "VALUES",
    "WHEN",
    "WHERE",
];

/// A wish for candidates.
pub struct Lookup {
    /// The whole line.
    pub line: String,
    /// The part of a word before the cursor.
    pub word: String,
    pub reply: mpsc::Sender<Vec<String>>,
}

/// The word that ends at the cursor, and where it begins.
pub fn word_before(line: &str, cursor: usize) -> (usize, &str) {
    let before = &line[..cursor];
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '\\' | '?');
    let start = before.char_indices().rev().take_while(|&(_, c)| is_word(c)).last().map_or(cursor, |(at, _)| at);
    (start, &before[start..])
}

/// Names that have been looked up.
#[derive(Default)]
pub struct Names {
    /// Each table with its columns, once those were wanted.
    tables: Option<BTreeMap<String, Option<Vec<String>>>>,
}

impl Names {
    /// Answers a wish, asking the server for what is not known yet.
    pub async fn answer(&mut self, lookup: Lookup, connection: &mut Connection) {
        if !lookup.word.starts_with('\\') {
            // Statements of our own inside the user's transaction could make it fail.
            let idle = connection.current().is_some_and(|s| !s.is_broken())
                && connection.transaction_status() == TransactionStatus::Idle;
            if idle {
                self.look_up(&lookup.line, connection).await;
            }
        }
        // The editor may have stopped waiting.
        let _ = lookup.reply.send(self.candidates(&lookup.line, &lookup.word));
    }

    async fn look_up(&mut self, line: &str, connection: &mut Connection) {
        if self.tables.is_none() {
            self.tables = names_of(connection, "SHOW TABLES", &["table_name", "name"])
                .await
                .map(|names| names.into_iter().map(|name| (name, None)).collect());
        }
        let Some(tables) = &mut self.tables else { return };
        let wanted = tables.iter_mut().filter(|(name, columns)| columns.is_none() && mentions(line, name));
        for (table, columns) in wanted.take(TABLES_PER_LINE_MAX) {
            let sql = format!("SHOW COLUMNS FROM \"{}\"", table.replace('"', "\"\""));
            *columns = names_of(connection, &sql, &["column_name", "name"]).await;
        }
    }

    fn candidates(&self, line: &str, word: &str) -> Vec<String> {
        if word.starts_with('\\') {
            return commands::NAMES.iter().filter(|n| n.starts_with(word)).map(|n| n.to_string()).collect();
        }
        let matches = |name: &str| {
            name.len() >= word.len()
                && name.is_char_boundary(word.len())
                && name[..word.len()].eq_ignore_ascii_case(word)
        };
        let tables = self.tables.iter().flatten();
        let mut found: Vec<String> = tables.clone().map(|(name, _)| name.clone()).collect();
        found.extend(tables.filter(|(name, _)| mentions(line, name)).flat_map(|(_, c)| c.iter().flatten().cloned()));
        let lower = word.chars().next().is_some_and(char::is_lowercase);
        found.extend(KEYWORDS.iter().map(|k| if lower { k.to_ascii_lowercase() } else { k.to_string() }));
        found.retain(|name| matches(name));
        found.sort();
        found.dedup();
        found
    }
}

fn mentions(line: &str, name: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word.eq_ignore_ascii_case(name))
}

/// One column of a statement's result; the first if it has none of the expected ones.
async fn names_of(connection: &mut Connection, sql: &str, expected: &[&str]) -> Option<Vec<String>> {
    let session = connection.session().await.ok()?;
    let (rows, _) = session.query(sql, &[]).await.ok()?;
    let name = |row: &Row| {
        let index = row.columns().iter().position(|c| expected.contains(&c.name.as_str())).unwrap_or(0);
        row.values().get(index).map(Value::to_string)
    };
    Some(rows.iter().filter_map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let columns = Some(vec!["id".to_string(), "balance".to_string()]);
        let tables = [("accounts".to_string(), columns), ("pets".to_string(), None)];
        Names { tables: Some(tables.into_iter().collect()) }
    }

    #[test]
    fn the_word_before_the_cursor_is_completed() {
        assert_eq!(word_before("SELECT ba FROM", 9), (7, "ba"));
        assert_eq!(word_before("SELECT ", 7), (7, ""));
        assert_eq!(word_before("\\ti", 3), (0, "\\ti"));
        assert_eq!(word_before("t.ba", 4), (2, "ba"));
    }

    #[test]
    fn columns_are_offered_for_tables_in_the_line() {
        assert_eq!(names().candidates("SELECT ba FROM accounts", "ba"), ["balance"]);
        assert!(names().candidates("SELECT ba FROM pets", "ba").is_empty());
        assert_eq!(names().candidates("SELECT * FROM pe", "pe"), ["pets"]);
    }

    #[test]
    fn keywords_follow_the_case_in_which_one_types() {
        assert_eq!(names().candidates("sel", "sel"), ["select"]);
        assert_eq!(names().candidates("SEL", "SEL"), ["SELECT"]);
        assert_eq!(names().candidates("\\t", "\\t"), ["\\timing"]);
    }
}
