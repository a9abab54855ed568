//! One session of the server for tests.

use std::collections::VecDeque;
use std::sync::Arc;

use proto::v1;
use proto::v1::session_request::Request;
use proto::v1::session_response::Response;
use proto::v1::value::Kind;
use proto::v1::{TransactionStatus, TypeKind};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::bank::{Bank, BankTransaction};

/// Rows of `SELECT numbers`.
pub const NUMBERS: i64 = 100_000;

pub struct Session {
    node_id: u64,
    bank: Arc<Bank>,
    requests: Streaming<v1::SessionRequest>,
    responses: mpsc::Sender<Result<v1::SessionResponse, Status>>,
    /// Requests that came while a slow statement was running.
    waiting: VecDeque<v1::SessionRequest>,
    transaction: Option<BankTransaction>,
    failed: bool,
}

enum Outcome {
    Done {
        tag: &'static str,
        rows: u64,
    },
    Rows {
        columns: Vec<(&'static str, TypeKind)>,
        rows: Vec<Vec<Kind>>,
    },
    Failed(Box<v1::Failure>),
    /// The server dies without an answer.
    Vanish,
}

impl Session {
    pub fn new(
        node_id: u64,
        bank: Arc<Bank>,
        requests: Streaming<v1::SessionRequest>,
        responses: mpsc::Sender<Result<v1::SessionResponse, Status>>,
    ) -> Session {
        Session { node_id, bank, requests, responses, waiting: VecDeque::new(), transaction: None, failed: false }
    }

    pub async fn run(mut self) {
        while let Some(message) = self.next_request().await {
            let id = message.id;
            let answered = match message.request {
                Some(Request::Start(_)) => {
                    let started = v1::Started { node_id: self.node_id, version: "test".into() };
                    self.answer(id, Response::Started(started)).await
                }
                Some(Request::Execute(execute)) => self.execute(id, execute).await,
                Some(Request::Prepare(_)) => self.answer(id, Response::Described(v1::Described::default())).await,
                // What it wanted to stop is over.
                Some(Request::Cancel(_)) | None => Some(()),
            };
            if answered.is_none() {
                return;
            }
        }
    }

    async fn next_request(&mut self) -> Option<v1::SessionRequest> {
        match self.waiting.pop_front() {
            Some(request) => Some(request),
            None => self.requests.message().await.ok()?,
        }
    }

    async fn answer(&self, id: u64, response: Response) -> Option<()> {
        self.responses.send(Ok(v1::SessionResponse { id, response: Some(response) })).await.ok()
    }

    async fn execute(&mut self, id: u64, execute: v1::Execute) -> Option<()> {
        let words: Vec<&str> = execute.sql.split_whitespace().collect();
        if execute.begin {
            self.transaction = Some(self.bank.begin());
        }
        let outcome = match words.as_slice() {
            ["SELECT", "slow"] => self.wait_for_cancel(id).await?,
            _ if self.failed && !matches!(words[0], "COMMIT" | "ROLLBACK") => {
                failure("25P02", "the transaction has failed", "")
            }
            _ => self.evaluate(&words, &execute),
        };
        let (tag, rows) = match outcome {
            Outcome::Done { tag, rows } => (tag.to_string(), rows),
            Outcome::Rows { columns, rows } => {
                let count = rows.len() as u64;
                self.send_rows(id, columns, rows).await?;
                (format!("SELECT {count}"), count)
            }
            Outcome::Failed(mut failure) => {
                self.failed = self.transaction.is_some();
                failure.set_transaction_status(self.status());
                return self.answer(id, Response::Failure(*failure)).await;
            }
            Outcome::Vanish => return None,
        };
        let transaction_id = self.transaction.as_ref().and_then(BankTransaction::id);
        let transaction_id = transaction_id.map(|id| id.to_string()).unwrap_or_default();
        let mut complete = v1::Complete { tag, rows, transaction_id, ..Default::default() };
        complete.set_transaction_status(self.status());
        self.answer(id, Response::Complete(complete)).await
    }

    async fn send_rows(&self, id: u64, columns: Vec<(&str, TypeKind)>, rows: Vec<Vec<Kind>>) -> Option<()> {
        let column = |(name, kind): (&str, TypeKind)| v1::Column {
            name: name.into(),
            r#type: Some(v1::Type { kind: kind.into(), ..Default::default() }),
        };
        let description = v1::RowDescription { columns: columns.into_iter().map(column).collect() };
        self.answer(id, Response::RowDescription(description)).await?;
        for chunk in rows.chunks(1000) {
            let value = |kind: &Kind| v1::Value { kind: Some(kind.clone()) };
            let rows = chunk.iter().map(|row| v1::Row { values: row.iter().map(value).collect() }).collect();
            self.answer(id, Response::RowBatch(v1::RowBatch { rows })).await?;
        }
        Some(())
    }

    fn status(&self) -> TransactionStatus {
        match (&self.transaction, self.failed) {
            (None, _) => TransactionStatus::Idle,
            (Some(_), false) => TransactionStatus::InTransaction,
            (Some(_), true) => TransactionStatus::Failed,
        }
    }

    async fn wait_for_cancel(&mut self, id: u64) -> Option<Outcome> {
        loop {
            let message = self.requests.message().await.ok()??;
            match message.request {
                Some(Request::Cancel(cancel)) if cancel.id == id => {
                    return Some(failure("57014", "canceling statement due to user request", ""));
                }
                _ => self.waiting.push_back(message),
            }
        }
    }

    fn evaluate(&mut self, words: &[&str], execute: &v1::Execute) -> Outcome {
        match words {
            ["BEGIN", ..] => {
                self.transaction = Some(self.bank.begin());
                Outcome::Done { tag: "BEGIN", rows: 0 }
            }
            ["COMMIT"] if std::mem::take(&mut self.failed) => {
                self.transaction = None;
                Outcome::Done { tag: "ROLLBACK", rows: 0 }
            }
            ["COMMIT"] => {
                let lost = self.bank.lose_commit.lock().unwrap().take();
                let outcome = if lost == Some(false) { Outcome::Vanish } else { self.commit("COMMIT", 0) };
                if lost.is_some() { Outcome::Vanish } else { outcome }
            }
            ["SHOW", "TRANSACTION", id] => {
                let took_effect = self.bank.outcome(id.trim_matches('\'').parse().expect("the tests ask for numbers"));
                let (status, at) = if took_effect { ("committed", "1.000000,0") } else { ("aborted", "") };
                Outcome::Rows {
                    columns: vec![("status", TypeKind::Text), ("commit_timestamp", TypeKind::Text)],
                    rows: vec![vec![Kind::Text(status.into()), Kind::Text(at.into())]],
                }
            }
            ["ROLLBACK"] => {
                (self.transaction, self.failed) = (None, false);
                Outcome::Done { tag: "ROLLBACK", rows: 0 }
            }
            ["DROP", ..] => {
                self.bank.clear();
                Outcome::Done { tag: "DROP TABLE", rows: 0 }
            }
            ["CREATE", ..] => Outcome::Done { tag: "CREATE TABLE", rows: 0 },
            ["ALTER", ..] => Outcome::Done { tag: "ALTER TABLE", rows: 0 },
            ["SHOW", "TABLES"] => Outcome::Rows {
                columns: vec![("table_name", TypeKind::Text)],
                rows: vec![vec![Kind::Text("bank_accounts".into())]],
            },
            ["SELECT", "numbers"] => Outcome::Rows {
                columns: vec![("n", TypeKind::Int8)],
                rows: (0..NUMBERS).map(|n| vec![Kind::Int64(n)]).collect(),
            },
            ["SELECT", "conflict"] => failure("40001", "run it again", "wounded"),
            ["SELECT", "vanish"] | ["DELETE", "vanish"] => Outcome::Vanish,
            ["INSERT" | "UPDATE", ..] if std::mem::take(&mut *self.bank.lose_statement.lock().unwrap()) => {
                Outcome::Vanish
            }
            [first, ..] if matches!(*first, "SELECT" | "INSERT" | "UPDATE") => self.access(words, execute),
            [first, ..] => {
                let Outcome::Failed(mut failure) =
                    failure("42601", &format!("syntax error at or near \"{first}\""), "")
                else {
                    unreachable!("failure() makes a failure");
                };
                failure.position = 1 + execute.sql.find(first).unwrap_or(0) as u32;
                Outcome::Failed(failure)
            }
            [] => Outcome::Done { tag: "", rows: 0 },
        }
    }

    /// Reads or writes accounts, outside a transaction block in a transaction of its own.
    fn access(&mut self, words: &[&str], execute: &v1::Execute) -> Outcome {
        let in_block = self.transaction.is_some();
        let bank = self.bank.clone();
        let transaction = self.transaction.get_or_insert_with(|| bank.begin());
        let outcome = access_accounts(&bank, transaction, words, execute);
        match outcome {
            Outcome::Done { tag, rows } if !in_block => self.commit(tag, rows),
            outcome => {
                if !in_block {
                    self.transaction = None;
                }
                outcome
            }
        }
    }

    fn commit(&mut self, tag: &'static str, rows: u64) -> Outcome {
        if self.transaction.take().is_none_or(|transaction| self.bank.commit(transaction)) {
            return Outcome::Done { tag, rows };
        }
        failure("40001", "an account has changed since it was read", "read_changed")
    }
}

fn access_accounts(bank: &Bank, transaction: &mut BankTransaction, words: &[&str], execute: &v1::Execute) -> Outcome {
    let int = |n: usize| match execute.params.get(n).and_then(|v| v.kind.as_ref()) {
        Some(Kind::Int64(i)) => *i,
        other => panic!("parameter {n} is {other:?}"),
    };
    match words {
        ["SELECT", "balance", ..] => {
            let rows = transaction.read(int(0)).map(|balance| vec![Kind::Int64(balance)]);
            Outcome::Rows { columns: vec![("balance", TypeKind::Int8)], rows: rows.into_iter().collect() }
        }
        ["SELECT", ..] => {
            let (count, sum) = bank.count(transaction);
            let columns = vec![("count", TypeKind::Int8), ("sum", TypeKind::Numeric)];
            Outcome::Rows { columns, rows: vec![vec![Kind::Int64(count), Kind::Numeric(sum.to_string())]] }
        }
        ["UPDATE", ..] => {
            transaction.write(int(0), int(1));
            Outcome::Done { tag: "UPDATE 1", rows: 1 }
        }
        ["INSERT", ..] => {
            let values = execute.sql.split_once("VALUES").expect("the tests insert VALUES").1;
            for row in values.split("),") {
                let (id, balance) = row.split_once(',').expect("the tests insert pairs");
                let number = |text: &str| text.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
                transaction.write(number(id), number(balance));
            }
            Outcome::Done { tag: "INSERT 0 1", rows: 1 }
        }
        other => panic!("the tests do not send {other:?}"),
    }
}

fn failure(sqlstate: &str, message: &str, reason: &str) -> Outcome {
    Outcome::Failed(Box::new(v1::Failure {
        sqlstate: sqlstate.into(),
        message: message.into(),
        retryable: sqlstate == "40001",
        reason: reason.into(),
        ..Default::default()
    }))
}
