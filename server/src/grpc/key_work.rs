//! What one call of the key-range API does in its transaction, and what it gives.
//!
//! In a transaction with an idempotency key each call is a request of its own, told apart by everything that it asks for.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use proto::{Key, Span, Value, codec};

use super::handles::Open;
use crate::kv::idempotency::Fingerprint;
use crate::kv::{Error, Lock, ScanOptions, ScanPage, Transaction};

/// See the module.
pub enum Work {
    Get {
        keys: Vec<Key>,
        lock: Lock,
    },
    Scan {
        span: Span,
        options: ScanOptions,
    },
    /// A key without a value is deleted.
    Write(Vec<(Key, Option<Value>)>),
}

/// What it gave.
pub enum Outcome {
    Values(Vec<Option<Value>>),
    Page(ScanPage),
    Written,
}

/// An outcome as it is kept under an idempotency key.
#[derive(Encode, Decode)]
enum Answer {
    #[n(0)]
    Values(#[n(0)] Vec<Option<ByteVec>>),
    /// Rows, and what is left to scan.
    #[n(1)]
    Page(#[n(0)] Vec<(Key, ByteVec)>, #[n(1)] Option<Span>),
    #[n(2)]
    Written,
}

impl Work {
    pub fn is_read(&self) -> bool {
        !matches!(self, Work::Write(_))
    }

    /// Does it, or under a key that is known, finds out what it gave.
    ///
    /// # Errors
    /// Those of the transaction, and of its guard.
    pub async fn run(&self, open: &mut Open, answer_bytes_max: usize) -> Result<Outcome, Error> {
        let Some(guard) = &mut open.guard else { return self.carry_out(open.transaction.as_mut()).await };
        let request = self.fingerprint();
        if let Some(bytes) = guard.replay(&request)? {
            return Outcome::decode(&bytes);
        }
        let outcome = self.carry_out(open.transaction.as_mut()).await?;
        guard.record(request, outcome.encode(), answer_bytes_max)?;
        Ok(outcome)
    }

    async fn carry_out(&self, transaction: &mut dyn Transaction) -> Result<Outcome, Error> {
        match self {
            Work::Get { keys, lock } => transaction.get(keys, *lock).await.map(Outcome::Values),
            Work::Scan { span, .. } if span.is_empty() => Ok(Outcome::Page(ScanPage::default())),
            Work::Scan { span, options } => transaction.scan(span, *options).await.map(Outcome::Page),
            Work::Write(rows) => {
                for (key, value) in rows {
                    match value {
                        Some(value) => transaction.put(key.clone(), value.clone())?,
                        None => transaction.delete(key.clone())?,
                    }
                }
                Ok(Outcome::Written)
            }
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        match self {
            Work::Get { keys, lock } => {
                let what: &[u8] = if *lock == Lock::Exclusive { b"get for update" } else { b"get" };
                Fingerprint::of(&[&[what], keys.iter().map(Key::as_bytes).collect::<Vec<_>>().as_slice()].concat())
            }
            Work::Scan { span, options } => {
                let what: &[u8] = if options.reverse { b"scan in reverse" } else { b"scan" };
                let rows_max = (options.rows_max as u64).to_be_bytes();
                Fingerprint::of(&[what, span.start.as_bytes(), span.end.as_bytes(), &rows_max])
            }
            Work::Write(rows) => {
                let mut parts: Vec<&[u8]> = vec![b"write"];
                for (key, value) in rows {
                    parts.push(key.as_bytes());
                    parts.push(if value.is_some() { b"put" } else { b"delete" });
                    parts.push(value.as_deref().unwrap_or_default());
                }
                Fingerprint::of(&parts)
            }
        }
    }
}

impl Outcome {
    fn encode(&self) -> Vec<u8> {
        codec::encode(&match self {
            Outcome::Values(values) => Answer::Values(values.iter().cloned().map(|v| v.map(ByteVec::from)).collect()),
            Outcome::Page(page) => Answer::Page(
                page.rows.iter().cloned().map(|(key, value)| (key, ByteVec::from(value))).collect(),
                page.resume.clone(),
            ),
            Outcome::Written => Answer::Written,
        })
    }

    fn decode(bytes: &[u8]) -> Result<Outcome, Error> {
        let answer: Answer = codec::decode("a kept answer", bytes).map_err(|e| Error::Corrupt(e.to_string()))?;
        Ok(match answer {
            Answer::Values(values) => Outcome::Values(values.into_iter().map(|v| v.map(Value::from)).collect()),
            Answer::Page(rows, resume) => {
                let rows = rows.into_iter().map(|(key, value)| (key, Value::from(value))).collect();
                Outcome::Page(ScanPage { rows, resume })
            }
            Answer::Written => Outcome::Written,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_differ_in_anything_are_told_apart() {
        let key = |text: &str| Key::from(text);
        let put = |k: &str, v: &str| Work::Write(vec![(key(k), Some(v.as_bytes().to_vec()))]);
        let scan = |rows_max, reverse| Work::Scan {
            span: Span { start: key("a"), end: key("b") },
            options: ScanOptions { rows_max, reverse, ..ScanOptions::default() },
        };
        let all = [
            Work::Get { keys: vec![key("a")], lock: Lock::None },
            Work::Get { keys: vec![key("a")], lock: Lock::Exclusive },
            Work::Get { keys: vec![key("a"), key("b")], lock: Lock::None },
            scan(1, false),
            scan(2, false),
            scan(1, true),
            put("a", "1"),
            put("a", "2"),
            Work::Write(vec![(key("a"), None)]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| other.fingerprint() != one.fingerprint()), "{i}");
        }
    }

    #[test]
    fn outcomes_are_read_back() {
        let page = ScanPage {
            rows: vec![(Key::from("a"), vec![1])],
            resume: Some(Span { start: Key::from("b"), end: Key::from("c") }),
        };
        let Ok(Outcome::Page(back)) = Outcome::decode(&Outcome::Page(page.clone()).encode()) else { panic!("no page") };
        assert_eq!(back, page);
        let values = vec![None, Some(vec![2])];
        let Ok(Outcome::Values(back)) = Outcome::decode(&Outcome::Values(values.clone()).encode()) else { panic!() };
        assert_eq!(back, values);
        assert!(matches!(Outcome::decode(b"nonsense"), Err(Error::Corrupt(_))));
    }
}
