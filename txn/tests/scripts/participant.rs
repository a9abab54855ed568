//! One leader, and the requests that it evaluates. A prefix says which transaction asks.
//!
//! ```text
//! leader now=20 fence=100 floor=5 low_water=8 expiry=50
//! t1: begin 10 anchor=a priority=3     starts, and reads, at 10
//! t1: get a b [ts=10]    t1: scan a..z    t1: lock a
//! t1: validate a..c from=10 to=20
//! t1: commit a=1 [at=12] [reads=a..c] [elsewhere]     a commit of one range; `elsewhere`: it read in others too
//! t1: prepare a=1 c=2 [at=12] [record]                `record`: this is the anchor's range
//! t1: commit_record 15 a c    t1: abort [pushed]    t1: heartbeat
//! query t1 at=15 a c [attempt=2]       does t1's staged attempt hold these intents?
//! recover t1 at=15 commit | abort      decides by what was found
//! t1: attempt 2                        the next try of the same transaction
//! t2: push t1 intent=12 above=20       a reader at 20 met t1's intent at 12
//! t2: push t1 intent=12 validate=20    a commit that validates its reads up to 20 did
//! t2: push t1 intent=12 abort [key=a]  a writer did; on `k` unless it says otherwise
//! resolve t1 committed=15 a c    resolve t1 aborted a    resolve t1 pushed=20 a
//! state
//! ```
//!
//! What is to be written is written at once: there is no replication here.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::time::Duration;

use goldenscript::{Command, Context, Runner};
use proto::request::{
    AbortRecord, CommitOne, CommitRecord, Heartbeat, LockingRead, Operation, Outcome, Prepare, Push, PushKind,
    QueryIntents, Read, Recover, Refusal, ReplyBody, Resolve, Target, Validate,
};
use proto::transaction::{TxnMeta, Write as KeyWrite};
use proto::{Key, Timestamp, TxnId};
use txn::participant::{self, Evaluation};
use txn::reads::ReadMarks;
use txn::{Engine, MemoryEngine};

use super::words::{
    Args, Output, show, show_batch, show_engine, show_ousting, show_record, show_txn, show_value, span, timestamp, txn,
};

pub struct ParticipantRunner {
    engine: MemoryEngine,
    reads: ReadMarks,
    now: Timestamp,
    fence: Timestamp,
    receipt_floor: Timestamp,
    expiry: Duration,
    transactions: BTreeMap<TxnId, TxnMeta>,
}

/// Reads remembered per half of the timestamp cache: few, so that a script can overflow it.
const READS_MAX: usize = 4;

impl Default for ParticipantRunner {
    fn default() -> Self {
        ParticipantRunner {
            engine: MemoryEngine::default(),
            reads: ReadMarks::new(Timestamp::ZERO, READS_MAX, READS_MAX),
            now: Timestamp::from_micros(100),
            fence: Timestamp::from_micros(1000),
            receipt_floor: Timestamp::ZERO,
            expiry: Duration::from_micros(50),
            transactions: BTreeMap::new(),
        }
    }
}

impl ParticipantRunner {
    fn meta(&self, id: TxnId) -> Result<TxnMeta, Box<dyn Error>> {
        self.transactions.get(&id).cloned().ok_or_else(|| format!("{} has not begun", show_txn(id)).into())
    }

    fn set_leader(&mut self, mut args: Args<'_>) -> Output {
        self.now = args.timestamp("now")?.unwrap_or(self.now);
        self.fence = args.timestamp("fence")?.unwrap_or(self.fence);
        self.receipt_floor = args.timestamp("floor")?.unwrap_or(self.receipt_floor);
        if let Some(low_water) = args.timestamp("low_water")? {
            // A new leader knows nothing of earlier reads but this.
            self.reads = ReadMarks::new(low_water, READS_MAX, READS_MAX);
        }
        if let Some(expiry) = args.take("expiry") {
            self.expiry = Duration::from_micros(expiry.parse()?);
        }
        Ok(String::new())
    }

    fn begin(&mut self, id: TxnId, mut args: Args<'_>) -> Output {
        let start = timestamp(args.word()?)?;
        let priority = args.timestamp("priority")?.unwrap_or(start);
        let anchor = Key::from(args.take("anchor").unwrap_or("a"));
        self.transactions.insert(id, TxnMeta { id, attempt: 1, anchor, priority, start });
        Ok(String::new())
    }

    fn operation(&self, name: &str, me: TxnId, mut args: Args<'_>) -> Result<Operation, Box<dyn Error>> {
        if name == "resolve" {
            return resolve(args);
        }
        if name == "query" || name == "recover" {
            return self.recovery(name, args);
        }
        let meta = self.meta(me)?;
        let read = meta.start;
        let keys_written = |args: &Args<'_>| -> Vec<KeyWrite> {
            args.writes().into_iter().map(|(key, value)| KeyWrite::new(key, value)).collect()
        };
        Ok(match name {
            "get" => {
                let timestamp = args.timestamp("ts")?.unwrap_or(read);
                Operation::Read(Read { txn: me, timestamp, target: Target::Keys(args.keys()), priority: meta.priority })
            }
            "scan" => {
                let timestamp = args.timestamp("ts")?.unwrap_or(read);
                let rows_max = args.take("rows").map_or(Ok(u64::MAX), str::parse)?;
                let target = Target::Span { span: span(args.word()?), rows_max, bytes_max: u64::MAX, reverse: false };
                Operation::Read(Read { txn: me, timestamp, target, priority: meta.priority })
            }
            "lock" => {
                let timestamp = args.timestamp("ts")?.unwrap_or(read);
                Operation::LockingRead(LockingRead { txn: me, priority: meta.priority, timestamp, keys: args.keys() })
            }
            "validate" => {
                let (from, to) = (args.required("from")?, args.required("to")?);
                let spans = args.positional.iter().map(|s| span(s)).collect();
                Operation::Validate(Validate { txn: me, from, to, spans })
            }
            "commit" => {
                let timestamp = args.timestamp("at")?.unwrap_or(read);
                let complete = !args.flag("elsewhere");
                let validate = args.take("reads").map(span).into_iter().collect();
                let writes = keys_written(&args);
                Operation::CommitOne(CommitOne { txn: meta, read, timestamp, writes, validate, complete })
            }
            "prepare" => {
                let timestamp = args.timestamp("at")?.unwrap_or(read);
                let (with_record, elsewhere) = (args.flag("record"), args.take("record"));
                let writes = keys_written(&args);
                let keys = writes.iter().map(|w| w.key.clone());
                let record = match elsewhere {
                    Some(all) => Some(all.split('/').map(Key::from).collect()),
                    None => with_record.then(|| keys.collect()),
                };
                Operation::Prepare(Prepare { txn: meta, timestamp, writes, record })
            }
            "commit_record" => {
                let timestamp = timestamp(args.word()?)?;
                Operation::CommitRecord(CommitRecord { txn: meta, timestamp, keys: args.keys() })
            }
            "abort" => Operation::AbortRecord(AbortRecord { txn: meta, pushed: args.flag("pushed") }),
            "heartbeat" => Operation::Heartbeat(Heartbeat { txn: meta }),
            "push" => {
                let intent = args.required("intent")?;
                let key = Key::from(args.take("key").unwrap_or("k"));
                let kind = match (args.timestamp("above")?, args.timestamp("validate")?) {
                    (Some(at), _) => PushKind::Above(at),
                    (None, Some(at)) => PushKind::Validate(at),
                    (None, None) => PushKind::Abort,
                };
                let owner = self.meta(txn(args.word()?)?)?;
                Operation::Push(Box::new(Push { txn: owner, intent, priority: meta.priority, pusher: me, kind, key }))
            }
            other => return Err(format!("there is no command {other}").into()),
        })
    }

    /// A step of somebody who recovers a transaction.
    fn recovery(&self, name: &str, mut args: Args<'_>) -> Result<Operation, Box<dyn Error>> {
        let mut txn = self.meta(txn(args.word()?)?)?;
        txn.attempt = args.take("attempt").map_or(Ok(1), str::parse)?;
        let timestamp = args.required("at")?;
        if name == "query" {
            return Ok(Operation::QueryIntents(QueryIntents { txn, timestamp, keys: args.keys() }));
        }
        Ok(Operation::Recover(Recover { txn, timestamp, commit: args.flag("commit"), by: None }))
    }

    fn evaluate(&mut self, operation: &Operation) -> Output {
        let mut context = participant::Context {
            engine: &self.engine,
            reads: &mut self.reads,
            now: self.now,
            fence: self.fence,
            receipt_floor: self.receipt_floor,
            expiry: self.expiry,
        };
        Ok(match participant::evaluate(&mut context, operation)? {
            Evaluation::Answer(body) => show_answer(&body),
            Evaluation::Refuse(refusal) => format!("⇒ refused: {}", show_refusal(&refusal)),
            Evaluation::BeyondFence(at) => format!("waits: {} is beyond the fence", show(at)),
            Evaluation::Blocked(intents) => {
                let mut out = "waits for".to_string();
                for intent in intents {
                    write!(out, " {}@{} of {}", intent.key, show(intent.timestamp), show_txn(intent.txn.id))?;
                }
                out
            }
            Evaluation::Write { batch, reply, .. } => {
                let shown = show_batch(&batch);
                self.engine.write(batch)?;
                shown + &show_answer(&reply)
            }
        })
    }
}

fn resolve(mut args: Args<'_>) -> Result<Operation, Box<dyn Error>> {
    let id = txn(args.word()?)?;
    let attempt = args.take("attempt").map_or(Ok(1), str::parse)?;
    let outcome = match (args.timestamp("committed")?, args.timestamp("pushed")?) {
        (Some(timestamp), _) => Outcome::Committed { attempt, timestamp },
        (None, Some(timestamp)) => Outcome::Pushed(timestamp),
        (None, None) if args.flag("aborted") => Outcome::Aborted,
        (None, None) => return Err("say committed=, pushed= or aborted".into()),
    };
    Ok(Operation::Resolve(Resolve { txn: id, outcome, keys: args.keys() }))
}

fn show_answer(body: &ReplyBody) -> String {
    match body {
        ReplyBody::Values { values, newest, at } => {
            let values: Vec<String> = values.iter().map(|v| show_value(v.as_deref().map(Vec::as_slice))).collect();
            format!("⇒ {} (read at {}, newest {})", values.join(" "), show(*at), show(*newest))
        }
        ReplyBody::Rows { rows, newest, resume } => {
            let rows: Vec<String> = rows.iter().map(|r| format!("{}={}", r.key, show_value(Some(&r.value)))).collect();
            let rest = resume.as_ref().map(|rest| format!(", left {rest}")).unwrap_or_default();
            format!("⇒ [{}] (newest {}{rest})", rows.join(" "), show(*newest))
        }
        ReplyBody::Ok => "⇒ ok".into(),
        ReplyBody::At(timestamp) => format!("⇒ at {}", show(*timestamp)),
        ReplyBody::Record(record) => format!("⇒ {}", show_record(record)),
        ReplyBody::Ranges(_) | ReplyBody::Status(_) => "⇒ about the range".into(),
        ReplyBody::Present(true) => "⇒ all there".into(),
        ReplyBody::Present(false) => "⇒ something is missing, and will not come at or below".into(),
        ReplyBody::ToRecover { record, .. } => format!("⇒ to be recovered: {}", show_record(record)),
    }
}

fn show_refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Changed(changed) => {
            let by = changed.other.map_or(String::new(), |by| format!(" by {}", show_txn(by)));
            format!("{} changed at {}{by}", changed.key, show(changed.at))
        }
        Refusal::Pushed(timestamp) => format!("pushed to {}", show(*timestamp)),
        Refusal::Aborted(None) => "aborted".into(),
        Refusal::Aborted(Some(by)) => format!("aborted, {}", show_ousting(by)),
        Refusal::TooOld => "too old".into(),
        other => format!("{other:?}"),
    }
}

impl Runner for ParticipantRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Output {
        let mut args = Args::of(command);
        let me = context.prefix.as_deref().map(txn).transpose()?.unwrap_or_default();
        match command.name.as_str() {
            "leader" => self.set_leader(args),
            "begin" => self.begin(me, args),
            "attempt" => {
                let attempt = args.word()?.parse()?;
                self.transactions.get_mut(&me).ok_or("it has not begun")?.attempt = attempt;
                Ok(String::new())
            }
            "state" => Ok(show_engine(&self.engine)),
            name => {
                let operation = self.operation(name, me, args)?;
                self.evaluate(&operation)
            }
        }
    }
}
