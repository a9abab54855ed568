//! The interpreter against a server on a real socket.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::connection::Connection;
use super::interpreter::{Interpreter, Stop};
use super::output::Settings;
use super::source::Lines;
use super::{Exit, Format, report};
use crate::driver::TransactionStatus;
use crate::fake::{Bank, FakeServer};

/// Output that the test can read while the interpreter holds it.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
    }
}

async fn shell(format: Format) -> (FakeServer, Interpreter, Paper) {
    let server = FakeServer::start(1, Arc::new(Bank::default())).await;
    let paper = Paper::default();
    let connection = Connection::new(&server.address.to_string(), "ann", "meridian").unwrap();
    let settings = Settings { format, timing: false, echo: false, unicode: false };
    (server, Interpreter::new(connection, settings, Box::new(paper.clone())), paper)
}

#[tokio::test]
async fn a_script_runs_to_its_end_and_its_last_statement_needs_no_semicolon() {
    let (_server, mut shell, paper) = shell(Format::Table).await;
    let script = "INSERT INTO accounts -- two of them;\n VALUES (1, 100),\n(2, 50); SELECT\ncount(*), sum(x)";
    assert!(shell.run_script(Lines::text(script), None).await.is_ok());
    let expected = "\
INSERT 0 1
+-------+-----+
| count | sum |
+=============+
|     2 | 150 |
+-------+-----+
(1 row)
";
    assert_eq!(paper.take(), expected);
}

#[tokio::test]
async fn machine_formats_hold_nothing_but_data() {
    let (_server, mut shell, paper) = shell(Format::Csv).await;
    assert!(shell.run_script(Lines::text("INSERT INTO t VALUES (1, 2); SELECT count(*);"), None).await.is_ok());
    assert_eq!(paper.take(), "count,sum\n1,2\n");
}

#[tokio::test]
async fn a_script_stops_at_its_first_error_and_says_where() {
    let (_server, mut shell, paper) = shell(Format::Csv).await;
    let stop = shell.run_script(Lines::text("SHOW TABLES;\n\nWRONG;\nSHOW TABLES;"), Some("a.sql")).await.unwrap_err();
    assert_eq!(paper.take(), "table_name\nbank_accounts\n");
    assert_eq!(report::print_stop(&stop), Exit::Failed);
    let Stop::Statement { error, sql, place, .. } = stop else { panic!("the statement failed") };
    assert_eq!(place.as_deref(), Some("a.sql:3"));
    let text = report::describe(&error, &sql);
    assert_eq!(text, "ERROR: syntax error at or near \"WRONG\"\nLINE 1: WRONG\n        ^\nSQLSTATE: 42601\n");
}

#[tokio::test]
async fn the_transaction_status_follows_the_statements() {
    let (_server, mut shell, _) = shell(Format::Table).await;
    for (line, status) in [
        ("BEGIN;", TransactionStatus::InTransaction),
        ("WRONG;", TransactionStatus::Failed),
        ("ROLLBACK;", TransactionStatus::Idle),
    ] {
        let _ = shell.feed(line).await;
        assert_eq!(shell.transaction_status(), status, "after {line}");
    }
}

#[tokio::test]
async fn a_lost_connection_takes_the_transaction_along_and_is_made_again() {
    let (_server, mut shell, paper) = shell(Format::Csv).await;
    assert!(shell.feed("BEGIN;").await.is_ok());
    let Err(Stop::Statement { lost: Some(lost), .. }) = shell.feed("SELECT vanish;").await else {
        panic!("the connection is lost");
    };
    assert!(lost.contains("transaction is lost"));
    assert_eq!(shell.transaction_status(), TransactionStatus::Idle);
    assert!(shell.feed("SHOW TABLES;").await.is_ok());
    assert_eq!(paper.take(), "table_name\nbank_accounts\n");
}

#[tokio::test]
async fn backslash_commands_work_between_statements_only() {
    let (_server, mut shell, paper) = shell(Format::Table).await;
    for line in ["\\format tsv", "\\dt", "SHOW", "TABLES;"] {
        assert!(shell.feed(line).await.is_ok(), "{line}");
    }
    assert_eq!(paper.take(), "The format is tsv.\ntable_name\nbank_accounts\ntable_name\nbank_accounts\n");
    assert!(matches!(shell.feed("\\nonsense").await, Err(Stop::Input { .. })));
    assert!(matches!(shell.feed("\\q").await, Err(Stop::Quit)));
}

#[tokio::test]
async fn an_unreachable_server_has_an_exit_code_of_its_own() {
    let connection = Connection::new("127.0.0.1:1", "ann", "meridian").unwrap();
    let settings = Settings { format: Format::Table, timing: false, echo: false, unicode: false };
    let mut shell = Interpreter::new(connection, settings, Box::new(Paper::default()));
    let stop = shell.run_script(Lines::text("SELECT 1"), None).await.unwrap_err();
    assert_eq!(report::print_stop(&stop), Exit::Unreachable);
}
