//! Golden scripts of SQL, run on the in-memory key-value layer.
//!
//! A line `c1:> SELECT 1` runs a statement in the session `c1`; without a prefix the session is called `main`. Sessions
//! whose names begin with `other` are sessions of a second node, with a catalog cache of its own. What is
//! shown is rows, then the completion tag and what else there is to tell of it; for an error its SQLSTATE, position,
//! message, detail and hint. Other commands:
//!
//! ```text
//! exec "SELECT $1" 1 x      runs a statement with parameters, given as text
//! types "SELECT $1"         shows the types of parameters and columns
//! keyed k "SELECT $1" 1     runs a statement that comes with an idempotency key
//! keys                      lists the idempotency keys that are known
//! collect                   lets the collector of idempotency keys do what is due
//! block "A; B"              runs a query string as one block
//! cancel "SELECT ..."       pulls one batch of a result and drops it
//! ops                       shows the calls of the key-value layer since the last `ops`
//! conflict wounded/3 ...    lets the next commits that write fail
//! advance 3                 lets so many seconds pass
//! status                    shows the session's status
//! rows                      counts the keys of all tables
//! wishes                    shows what the placement driver is told
//! decision 2 "split at table 100" why done    writes down what was decided about a range
//! refusal "..."             says what the placement driver cannot do
//! note 2 "..." 100          lets a range's leader say something, of the beginning of a table if one is named
//! unled 2                   lets a range have no leader
//! ```

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use futures::executor::block_on;
use goldenscript::{Argument, Command, Context, Runner};
use proto::range::Note;
use proto::{Datum, Key, NodeId, RangeId, Span, keyspace};
use server::kv::{Kv, RetryReason, decisions, idempotency, wishes};
use server::sql::testing::MemoryKv;
use server::sql::{Completion, Error, Limits, Session, SessionOptions, Sql};

test_each_file::test_each_path! { in "./server/scripts/sql" as scripts => run }

fn run(path: &std::path::Path) {
    let kv = MemoryKv::default();
    // Small batches and little memory, so that short scripts reach the edges.
    let limits = Limits {
        batch_rows_max: 8,
        operator_bytes_max: 64 << 10,
        idempotency_bytes_max: 1 << 10,
        idempotency_page_rows: 2,
        ..Limits::default()
    };
    let sql = Sql::new(Arc::new(kv.clone()), limits.clone());
    let other = Sql::new(Arc::new(kv.clone()), limits);
    let mut runner = SqlRunner { kv, sql, other, sessions: BTreeMap::new() };
    goldenscript::run(&mut runner, path).expect("the script runs as written");
}

struct SqlRunner {
    kv: MemoryKv,
    sql: Arc<Sql>,
    other: Arc<Sql>,
    sessions: BTreeMap<String, Session>,
}

type Output = Result<String, Box<dyn StdError>>;

impl SqlRunner {
    fn session(&mut self, context: &Context) -> &mut Session {
        let name = context.prefix.clone().unwrap_or_else(|| "main".to_string());
        let sql = if name.starts_with("other") { self.other.clone() } else { self.sql.clone() };
        self.sessions.entry(name).or_insert_with(|| {
            let text = |s: &str| s.to_string();
            sql.session(SessionOptions {
                user: text("alice"),
                database: text("meridian"),
                application_name: text("script"),
            })
        })
    }

    fn execute(&mut self, context: &Context, text: &str, params: &[String], key: &str) -> Output {
        let session = self.session(context);
        block_on(async {
            let statements = session.parse(text).map_err(report)?;
            let mut out = String::new();
            for statement in &statements {
                let prepared = session.prepare(statement, &[]).await.map_err(report)?;
                let values = params.iter().zip(&prepared.parameters).map(|(text, data_type)| {
                    if text == "NULL" { Ok(Datum::Null) } else { Datum::parse_text(*data_type, text) }
                });
                let values = values.collect::<Result<Vec<_>, _>>()?;
                let rows = session.execute_with_key(&prepared, values, key).await.map_err(report)?;
                let (rows, completion) = rows.collect().await.map_err(report)?;
                show_rows(&mut out, &rows);
                show_completion(&mut out, &completion);
            }
            Ok(out)
        })
    }

    /// Writes a decision down. What ends with a table's number is about the key with which that table begins.
    fn decide(&mut self, args: &[String]) -> Output {
        let [range, what, why, outcome] = args else { return Err("a decision has four parts".into()) };
        let at = self.kv.clock().hlc;
        let (what, table) = what.rsplit_once(" table ").unwrap_or((what, ""));
        let key = table_key(table).ok();
        let (what, why, outcome) = (what.to_string(), why.clone(), outcome.clone());
        let decision =
            decisions::Decision { at, node: NodeId(1), range: RangeId(range.parse()?), what, why, outcome, key };
        block_on(decisions::note(&self.kv, &decision))?;
        Ok(String::new())
    }

    fn collect(&mut self) -> Output {
        let (collector, pause) = (self.sql.key_collector(), Limits::default().idempotency_page_pause);
        let mut pages = 1;
        while block_on(collector.step())? == pause {
            pages += 1;
        }
        Ok(format!("{pages} pages"))
    }

    fn types(&mut self, context: &Context, text: &str) -> Output {
        let session = self.session(context);
        block_on(async {
            let statements = session.parse(text).map_err(report)?;
            let statement = statements.first().ok_or("there is no statement")?;
            let prepared = session.prepare(statement, &[]).await.map_err(report)?;
            let parameters: Vec<String> = prepared.parameters.iter().map(ToString::to_string).collect();
            let columns: Vec<String> = prepared.columns.iter().map(|c| format!("{} {}", c.name, c.data_type)).collect();
            Ok(format!("parameters: {}\ncolumns: {}", parameters.join(", "), columns.join(", ")))
        })
    }

    fn block(&mut self, context: &Context, text: &str) -> Output {
        let session = self.session(context);
        block_on(async {
            let statements = session.parse(text).map_err(report)?;
            let outcome = session.execute_block(&statements).await;
            let mut out = String::new();
            for result in &outcome.results {
                show_rows(&mut out, &result.rows);
                show_completion(&mut out, &result.completion);
            }
            if let Some(error) = outcome.error {
                out.push_str(&report(error));
            }
            Ok(out)
        })
    }

    fn cancel(&mut self, context: &Context, text: &str) -> Output {
        let session = self.session(context);
        block_on(async {
            let statements = session.parse(text).map_err(report)?;
            let statement = statements.first().ok_or("there is no statement")?;
            let prepared = session.prepare(statement, &[]).await.map_err(report)?;
            let mut rows = session.execute(&prepared, Vec::new()).await.map_err(report)?;
            let batch = rows.next().await.map_err(report)?.unwrap_or_default();
            Ok(format!("{} rows, then cancelled", batch.len()))
        })
    }
}

/// Where the rows of a table begin, by its number.
fn table_key(table: &str) -> Result<Key, std::num::ParseIntError> {
    let id: u64 = table.parse()?;
    Ok(Key([&[keyspace::TABLES], &id.to_be_bytes()[..]].concat()))
}

fn report(error: Error) -> String {
    let mut out = error.sqlstate.to_string();
    if let Some(position) = error.position {
        let _ = write!(out, " at {position}");
    }
    let _ = write!(out, ": {}", error.message);
    if let Some(detail) = &error.detail {
        let _ = write!(out, "\n  detail: {detail}");
    }
    if let Some(hint) = &error.hint {
        let _ = write!(out, "\n  hint: {hint}");
    }
    out
}

fn show_rows(out: &mut String, rows: &[Vec<Datum>]) {
    for row in rows {
        let values: Vec<String> = row.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "{}", values.join(" | "));
    }
}

fn show_completion(out: &mut String, completion: &Completion) {
    let _ = write!(out, "{}", completion.tag);
    if completion.replayed {
        out.push_str(" (replayed)");
    }
    for (reason, count) in &completion.retries {
        let _ = write!(out, " (retried {count}: {})", reason.name());
    }
    for notice in &completion.notices {
        let _ = write!(out, "\n  notice: {notice}");
    }
    out.push('\n');
}

fn reason(name: &str) -> Result<RetryReason, String> {
    let all = [RetryReason::ReadChanged, RetryReason::WriteConflict, RetryReason::Wounded, RetryReason::Expired];
    all.into_iter().find(|r| r.name() == name).ok_or_else(|| format!("there is no reason {name}"))
}

impl Runner for SqlRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Output {
        let value = |arg: &Argument| match arg {
            Argument::Positional(value) => value.clone(),
            other => other.to_string(),
        };
        let args: Vec<String> = command.args.iter().map(value).collect();
        let first = args.first().cloned().unwrap_or_default();
        match command.name.as_str() {
            "exec" => self.execute(context, &first, &args[1..], ""),
            "keyed" => self.execute(context, &args[1], &args[2..], &first),
            "keys" => {
                let keys = self.kv.keys(&idempotency::key::rows());
                Ok(keys.iter().map(|row| idempotency::key::shown(row) + "\n").collect())
            }
            "collect" => self.collect(),
            "types" => self.types(context, &first),
            "block" => self.block(context, &first),
            "cancel" => self.cancel(context, &first),
            "ops" => Ok(self.kv.take_operations().join(" ")),
            "conflict" => {
                for arg in &args {
                    let (name, times) = arg.split_once('/').unwrap_or((arg, "1"));
                    self.kv.fail_commits(std::iter::repeat_n(reason(name)?, times.parse()?));
                }
                Ok(String::new())
            }
            "advance" => {
                self.kv.advance(Duration::from_secs(first.parse()?));
                Ok(String::new())
            }
            "wishes" => {
                let wishes = block_on(wishes::all(&self.kv))?;
                let shown = |wish: &wishes::Wish| format!("{} {}: {}\n", wish.owner, wish.span, wish.rules);
                Ok(wishes.iter().map(shown).collect())
            }
            "decision" => self.decide(&args),
            "refusal" => {
                block_on(decisions::note_refusals(&self.kv, &args)).map(|()| String::new()).map_err(Into::into)
            }
            "note" | "unled" => {
                let key = args.get(2).map(|table| table_key(table)).transpose()?;
                let note = args.get(1).map(|text| Note { text: text.clone(), key });
                self.kv.leader_says(RangeId(first.parse()?), note);
                Ok(String::new())
            }
            "status" => Ok(format!("{:?}", self.session(context).status())),
            "rows" => {
                let span = Span::prefix(&Key(vec![keyspace::TABLES]));
                Ok(self.kv.keys(&span).len().to_string())
            }
            sql => self.execute(context, sql, &[], ""),
        }
    }
}
