//! The words that all scripts share: how they write keys, timestamps and transactions, and how state is shown.

use std::error::Error;
use std::fmt::Write;

use goldenscript::{Argument, Command};
use proto::transaction::{Intent, Ousting, TxnRecord, TxnStatus};
use proto::{Key, Span, Timestamp, TxnId, codec};
use txn::engine::{EngineWrite, WriteBatch};
use txn::{MemoryEngine, Space, keys, mvcc};

pub type Output = Result<String, Box<dyn Error>>;

/// A command's arguments.
pub struct Args<'a> {
    pub positional: Vec<&'a str>,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Args<'a> {
    pub fn of(command: &'a Command) -> Args<'a> {
        let mut args = Args { positional: Vec::new(), pairs: Vec::new() };
        for arg in &command.args {
            match arg {
                Argument::Positional(value) => args.positional.push(value),
                Argument::KeyValue(key, value) => args.pairs.push((key, value)),
                other => panic!("an argument of a new kind: {other}"),
            }
        }
        args
    }

    /// The value of a named argument, which is then gone.
    pub fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.pairs.iter().position(|(key, _)| *key == name)?;
        Some(self.pairs.remove(at).1)
    }

    /// A named timestamp.
    pub fn timestamp(&mut self, name: &str) -> Result<Option<Timestamp>, Box<dyn Error>> {
        self.take(name).map(timestamp).transpose()
    }

    /// A named timestamp that must be there.
    pub fn required(&mut self, name: &str) -> Result<Timestamp, Box<dyn Error>> {
        self.timestamp(name)?.ok_or_else(|| format!("{name}= is missing").into())
    }

    /// Whether a word is among the positional arguments; it is then gone.
    pub fn flag(&mut self, word: &str) -> bool {
        let before = self.positional.len();
        self.positional.retain(|w| *w != word);
        self.positional.len() < before
    }

    /// The first positional argument, which is then gone.
    pub fn word(&mut self) -> Result<&'a str, Box<dyn Error>> {
        if self.positional.is_empty() {
            return Err("an argument is missing".into());
        }
        Ok(self.positional.remove(0))
    }

    /// The remaining positional arguments as keys.
    pub fn keys(&self) -> Vec<Key> {
        self.positional.iter().map(|k| Key::from(*k)).collect()
    }

    /// The remaining named arguments as writes.
    pub fn writes(&self) -> Vec<(Key, Option<Vec<u8>>)> {
        self.pairs.iter().map(|(key, value)| (Key::from(*key), bytes(value))).collect()
    }
}

/// A value as scripts write it: `nil` is a deletion.
fn bytes(value: &str) -> Option<Vec<u8>> {
    (value != "nil").then(|| value.as_bytes().to_vec())
}

pub fn timestamp(text: &str) -> Result<Timestamp, Box<dyn Error>> {
    let (micros, logical) = text.split_once('.').unwrap_or((text, "0"));
    Ok(Timestamp(Timestamp::from_micros(micros.parse()?).0 + logical.parse::<u64>()?))
}

pub fn show(timestamp: Timestamp) -> String {
    match timestamp.logical() {
        _ if timestamp == Timestamp::MAX => "max".into(),
        0 => timestamp.micros().to_string(),
        logical => format!("{}.{logical}", timestamp.micros()),
    }
}

pub fn span(text: &str) -> Span {
    match text.split_once("..") {
        Some((start, end)) => Span::new(start, end),
        None => Span::point(&Key::from(text)),
    }
}

/// `t1` is transaction 1.
pub fn txn(name: &str) -> Result<TxnId, Box<dyn Error>> {
    let number = name.strip_prefix('t').ok_or_else(|| format!("{name} is no transaction: write t1, t2, ..."))?;
    Ok(TxnId(number.parse()?))
}

pub fn show_txn(id: TxnId) -> String {
    if id == TxnId::default() { "nobody".into() } else { format!("t{}", id.0) }
}

pub fn show_value(value: Option<&[u8]>) -> String {
    value.map_or_else(|| "nil".into(), |v| String::from_utf8_lossy(v).into_owned())
}

/// Who made a transaction give way.
pub fn show_ousting(by: &Ousting) -> String {
    let why = if by.silent { "after its silence" } else { "who is older" };
    format!("ousted from {} by {} {why}", by.key, show_txn(by.by))
}

pub fn show_record(record: &TxnRecord) -> String {
    let status = match record.status {
        TxnStatus::Pending => "pending, at or above",
        TxnStatus::Committed => "committed at",
        TxnStatus::Aborted => "aborted, was at",
        TxnStatus::Staging => "staging at",
    };
    let attempt = if record.attempt > 1 { format!(" (attempt {})", record.attempt) } else { String::new() };
    let mut out = format!("record of {}{attempt}: {status} {}", show_txn(record.id), show(record.timestamp));
    if matches!(record.status, TxnStatus::Pending | TxnStatus::Staging) {
        let _ = write!(out, ", heard of at {}", show(record.heartbeat));
    }
    if let Some(by) = &record.ousted {
        let _ = write!(out, ", {}", show_ousting(by));
    }
    if !record.keys.is_empty() {
        let keys: Vec<String> = record.keys.iter().map(ToString::to_string).collect();
        let _ = write!(out, ", wrote {}", keys.join(" "));
    }
    out
}

fn show_entry(space: Space, key: &[u8], value: Option<&[u8]>) -> String {
    let damaged = "the engine holds what was written";
    match (space, value) {
        (Space::Versions, Some(value)) => {
            let (key, at) = keys::parse_version(key).expect(damaged);
            let (by, value) = mvcc::decode_version(value).expect(damaged);
            let by = if by == mvcc::NOBODY { String::new() } else { format!(" by {}", show_txn(by)) };
            format!("{key}@{} = {}{by}", show(at), show_value(value.as_deref()))
        }
        (Space::Intents, Some(value)) => {
            let intent: Intent = codec::decode("an intent", value).expect(damaged);
            let attempt =
                if intent.txn.attempt > 1 { format!(" (attempt {})", intent.txn.attempt) } else { String::new() };
            let (owner, at) = (show_txn(intent.txn.id), show(intent.timestamp));
            let value = show_value(intent.value.as_deref().map(Vec::as_slice));
            format!("intent of {owner} on {}@{at} = {value}{attempt}", Key::from(key))
        }
        (Space::Applied, Some(_)) => "what is applied".into(),
        (Space::Local, Some(value)) => show_record(&codec::decode("a record", value).expect(damaged)),
        (Space::Intents, None) => format!("no intent on {}", Key::from(key)),
        (Space::Versions | Space::Local | Space::Applied, None) => format!("removed: {space:?} {}", Key::from(key)),
    }
}

/// What a batch changes, one line a write.
pub fn show_batch(batch: &WriteBatch) -> String {
    let show = |w: &EngineWrite| format!("⇨ {}\n", show_entry(w.space, &w.key, w.value.as_deref()));
    batch.writes.iter().map(show).collect()
}

/// Everything that the engine holds.
pub fn show_engine(engine: &MemoryEngine) -> String {
    let mut out = String::new();
    for space in Space::ALL {
        let all = txn::engine::visit(engine, space, &[], &[0xff; 64], |key, value| {
            let _ = writeln!(out, "{}", show_entry(space, key, Some(value)));
            Ok(true)
        });
        all.expect("memory does not fail");
    }
    out
}
