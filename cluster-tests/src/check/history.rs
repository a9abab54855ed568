//! What clients did and saw: the record from which the other checkers judge.
//!
//! A history is a sequence of events. A client (a *process*) invokes an operation and later learns that it took effect (`ok`), that it
//! did not (`fail`), or neither (`info`). An operation is a transaction of micro-operations on numbered keys: appends to lists, writes
//! of registers, and reads of either. A process has one operation at a time, and ends with an `info`: the client goes on under a new number.
//!
//! The form on disk is that of Jepsen's histories, an object a line, so that other tools can judge what we judge:
//!
//! ```json
//! {"index":0,"type":"invoke","process":3,"time":123,"value":[["append",5,1],["r",7,null]]}
//! ```
//!
//! `time` is in nanoseconds. Two fields are ours and may be missing: `timestamp` (of the commit) and `attempt` (which try of the
//! client's work took effect, from 1). The order of events is that of `index`, which may be trusted further than `time`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proto::Timestamp;
use serde_json::{Value, json};

/// What an event says of its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Invoke,
    /// It took effect, and this is what it saw.
    Ok,
    /// It certainly had no effect.
    Fail,
    /// Nobody told the client.
    Info,
}

impl Kind {
    const NAMES: [(&'static str, Kind); 4] =
        [("invoke", Kind::Invoke), ("ok", Kind::Ok), ("fail", Kind::Fail), ("info", Kind::Info)];

    fn name(self) -> &'static str {
        Kind::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// Nothing is there; in an invocation: nothing is known yet.
    Nil,
    /// The value of a register.
    One(u64),
    List(Vec<u64>),
}

/// A part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Micro {
    /// Appends to a list. No value is appended to the same key twice.
    Append {
        key: u64,
        value: u64,
    },
    /// Writes a register. No value is written to the same key twice.
    Write {
        key: u64,
        value: u64,
    },
    Read {
        key: u64,
        found: Found,
    },
}

impl Micro {
    /// The key and the value that it writes, if it writes.
    pub fn written(&self) -> Option<(u64, u64)> {
        match self {
            Micro::Append { key, value } | Micro::Write { key, value } => Some((*key, *value)),
            Micro::Read { .. } => None,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Micro::Append { key, value } => json!(["append", key, value]),
            Micro::Write { key, value } => json!(["w", key, value]),
            Micro::Read { key, found: Found::Nil } => json!(["r", key, null]),
            Micro::Read { key, found: Found::One(value) } => json!(["r", key, value]),
            Micro::Read { key, found: Found::List(values) } => json!(["r", key, values]),
        }
    }

    fn from_json(json: &Value) -> Option<Micro> {
        let parts = json.as_array().filter(|parts| parts.len() == 3)?;
        let key = parts[1].as_u64()?;
        match parts[0].as_str()? {
            "append" => Some(Micro::Append { key, value: parts[2].as_u64()? }),
            "w" => Some(Micro::Write { key, value: parts[2].as_u64()? }),
            "r" => {
                let found = match &parts[2] {
                    Value::Null => Found::Nil,
                    Value::Array(values) => Found::List(values.iter().map(Value::as_u64).collect::<Option<_>>()?),
                    value => Found::One(value.as_u64()?),
                };
                Some(Micro::Read { key, found })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Micro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Micro::Append { key, value } => write!(f, "append {value} to {key}"),
            Micro::Write { key, value } => write!(f, "write {value} to {key}"),
            Micro::Read { key, found: Found::Nil } => write!(f, "read nothing of {key}"),
            Micro::Read { key, found: Found::One(value) } => write!(f, "read {value} of {key}"),
            Micro::Read { key, found: Found::List(values) } => write!(f, "read {values:?} of {key}"),
        }
    }
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the history, from 0.
    pub index: u64,
    pub kind: Kind,
    pub process: u64,
    /// Nanoseconds since the history began.
    pub time_ns: u64,
    pub value: Vec<Micro>,
    /// Where the transaction committed, on an `ok` event.
    pub timestamp: Option<Timestamp>,
    /// Which try of the work this is about, from 1.
    pub attempt: Option<u64>,
}

impl Event {
    fn to_json(&self) -> String {
        let value = Value::Array(self.value.iter().map(Micro::to_json).collect());
        let (index, kind, process, time) = (self.index, self.kind.name(), self.process, self.time_ns);
        let mut line =
            format!(r#"{{"index":{index},"type":"{kind}","process":{process},"time":{time},"value":{value}"#);
        if let Some(timestamp) = self.timestamp {
            line.push_str(&format!(r#","timestamp":{}"#, timestamp.0));
        }
        if let Some(attempt) = self.attempt {
            line.push_str(&format!(r#","attempt":{attempt}"#));
        }
        line.push('}');
        line
    }

    fn from_json(line: &str) -> Option<Event> {
        let json: Value = serde_json::from_str(line).ok()?;
        let number = |name: &str| json.get(name).and_then(Value::as_u64);
        let kind = json.get("type")?.as_str()?;
        Some(Event {
            index: number("index")?,
            kind: Kind::NAMES.iter().find(|(name, _)| *name == kind)?.1,
            process: number("process")?,
            time_ns: number("time")?,
            value: json.get("value")?.as_array()?.iter().map(Micro::from_json).collect::<Option<_>>()?,
            timestamp: number("timestamp").map(Timestamp),
            attempt: number("attempt"),
        })
    }
}

/// How an operation ended, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    /// Certainly without effect.
    Failed,
    Unknown,
}

/// An invocation together with what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The index of its invocation.
    pub began: u64,
    /// The index of the event that acknowledged it; none if its outcome is unknown.
    pub ended: Option<u64>,
    pub process: u64,
    pub started_ns: u64,
    pub ended_ns: Option<u64>,
    pub outcome: Outcome,
    /// With what it read if it committed, else as it was invoked.
    pub value: Vec<Micro>,
    pub timestamp: Option<Timestamp>,
    pub attempt: Option<u64>,
}

impl Operation {
    /// What it wrote, or may have written: keys and values in order.
    pub fn writes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.value.iter().filter_map(Micro::written)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.value.iter().map(Micro::to_string).collect();
        write!(f, "T{} (process {}: {})", self.began, self.process, parts.join(", "))
    }
}

/// A history that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The line or event, from 0.
    pub index: u64,
    pub why: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} of the history makes no sense: {}", self.index, self.why)
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub events: Vec<Event>,
}

impl History {
    /// Adds an event at the end, and gives it back for what is not always there.
    pub fn record(&mut self, kind: Kind, process: u64, time_ns: u64, value: Vec<Micro>) -> &mut Event {
        let index = self.events.len() as u64;
        self.events.push(Event { index, kind, process, time_ns, value, timestamp: None, attempt: None });
        self.events.last_mut().expect("one has just been added")
    }

    /// One JSON object a line.
    pub fn to_json_lines(&self) -> String {
        self.events.iter().map(|event| event.to_json() + "\n").collect()
    }

    /// Reads what [`History::to_json_lines`] writes; fields that it does not know are ignored.
    ///
    /// # Errors
    /// [`Malformed`] with the number of the first line that is no event.
    pub fn from_json_lines(text: &str) -> Result<History, Malformed> {
        let mut events = Vec::new();
        for (index, line) in (0..).zip(text.lines()) {
            if !line.trim().is_empty() {
                events.push(Event::from_json(line).ok_or(Malformed { index, why: "it is not in the known form" })?);
            }
        }
        Ok(History { events })
    }

    /// The operations in the order of their invocations.
    ///
    /// # Errors
    /// [`Malformed`] if events do not pair up, are out of order, or a process goes on after an `info`.
    pub fn operations(&self) -> Result<Vec<Operation>, Malformed> {
        let mut operations: Vec<Operation> = Vec::new();
        let mut open: BTreeMap<u64, usize> = BTreeMap::new();
        let mut over = BTreeSet::new();
        let mut last = None;
        for event in &self.events {
            let wrong = |why| Malformed { index: event.index, why };
            if last.is_some_and(|last| last >= event.index) {
                return Err(wrong("its index is not greater than the one before"));
            }
            last = Some(event.index);
            if event.kind == Kind::Invoke {
                if over.contains(&event.process) {
                    return Err(wrong("its process ended with an operation of unknown outcome"));
                }
                if open.insert(event.process, operations.len()).is_some() {
                    return Err(wrong("its process has an operation under way"));
                }
                operations.push(Operation::invoked(event));
                continue;
            }
            let number = open.remove(&event.process).ok_or(wrong("its process has no operation under way"))?;
            operations[number].complete(event);
            if event.kind == Kind::Info {
                over.insert(event.process);
            }
        }
        Ok(operations)
    }
}

impl Operation {
    fn invoked(event: &Event) -> Operation {
        Operation {
            began: event.index,
            ended: None,
            process: event.process,
            started_ns: event.time_ns,
            ended_ns: None,
            outcome: Outcome::Unknown,
            value: event.value.clone(),
            timestamp: None,
            attempt: event.attempt,
        }
    }

    fn complete(&mut self, event: &Event) {
        self.attempt = event.attempt.or(self.attempt);
        self.outcome = match event.kind {
            Kind::Ok => Outcome::Committed,
            Kind::Fail => Outcome::Failed,
            Kind::Invoke | Kind::Info => return,
        };
        self.ended = Some(event.index);
        self.ended_ns = Some(event.time_ns);
        if self.outcome == Outcome::Committed {
            self.value.clone_from(&event.value);
            self.timestamp = event.timestamp;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_come_back_as_they_went_out() {
        let mut history = History::default();
        let invoked = vec![Micro::Append { key: 5, value: 1 }, Micro::Read { key: 7, found: Found::Nil }];
        let ended = vec![
            Micro::Append { key: 5, value: 1 },
            Micro::Read { key: 7, found: Found::List(vec![1, 2]) },
            Micro::Write { key: 8, value: 3 },
            Micro::Read { key: 8, found: Found::One(3) },
        ];
        history.record(Kind::Invoke, 3, 123, invoked);
        let event = history.record(Kind::Ok, 3, 130, ended);
        (event.timestamp, event.attempt) = (Some(Timestamp(u64::MAX)), Some(2));
        let text = history.to_json_lines();
        let first = r#"{"index":0,"type":"invoke","process":3,"time":123,"value":[["append",5,1],["r",7,null]]}"#;
        assert_eq!(text.lines().next(), Some(first));
        assert_eq!(History::from_json_lines(&text), Ok(history));
        let wrong = History::from_json_lines(&format!("{first}\n{{}}")).expect_err("no event");
        assert_eq!(wrong.index, 1);
    }

    #[test]
    fn operations_pair_up() {
        let mut history = History::default();
        history.record(Kind::Invoke, 1, 10, vec![]);
        history.record(Kind::Invoke, 2, 11, vec![]);
        history.record(Kind::Info, 1, 12, vec![]);
        history.record(Kind::Fail, 2, 13, vec![]);
        let operations = history.operations().expect("well-formed");
        let ends: Vec<_> = operations.iter().map(|o| (o.outcome, o.ended)).collect();
        assert_eq!(ends, [(Outcome::Unknown, None), (Outcome::Failed, Some(3))]);

        let why = |history: &History| history.operations().expect_err("malformed").why;
        history.record(Kind::Invoke, 1, 14, vec![]);
        assert!(why(&history).contains("unknown outcome"));
        history.events[4].process = 2;
        history.record(Kind::Invoke, 2, 15, vec![]);
        assert!(why(&history).contains("under way"));
        history.events[5].process = 7;
        history.events[5].kind = Kind::Ok;
        assert!(why(&history).contains("no operation"));
    }
}
