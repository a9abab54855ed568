//! Versions and intents, read and validated by hand.
//!
//! ```text
//! put ts=10 a=1 b=nil           commits versions
//! t1: intent ts=10 a=1          writes intents
//! remove a                      removes an intent
//! get a ts=10                   reads keys; with a prefix as that transaction
//! scan a..z ts=10 rows=2 bytes=9 reverse
//! changed a..z from=10 to=20    validates; says what changed
//! state
//! ```

use std::fmt::Write;

use goldenscript::{Command, Context, Runner};
use proto::request::IntentInTheWay;
use proto::transaction::{Intent, TxnMeta};
use proto::{Key, TxnId};
use txn::mvcc::{self, Found, ScanLimits};
use txn::{Engine, MemoryEngine, WriteBatch};

use super::words::{Args, Output, show, show_engine, show_txn, show_value, span, txn};

#[derive(Default)]
pub struct MvccRunner {
    engine: MemoryEngine,
}

fn show_in_the_way(intents: &[IntentInTheWay]) -> String {
    let show = |i: &IntentInTheWay| format!("in the way: {}@{} of {}\n", i.key, show(i.timestamp), show_txn(i.txn.id));
    intents.iter().map(show).collect()
}

impl MvccRunner {
    fn get(&self, mut args: Args<'_>, me: TxnId) -> Output {
        let at = args.required("ts")?;
        let mut out = String::new();
        for key in args.keys() {
            match mvcc::get(&self.engine, &key, at, me)? {
                Found::InTheWay(intents) => out.push_str(&show_in_the_way(&intents)),
                Found::Data(None) => writeln!(out, "{key}: nothing")?,
                Found::Data(Some(version)) => {
                    writeln!(out, "{key}@{} = {}", show(version.timestamp), show_value(version.value.as_deref()))?;
                }
            }
        }
        Ok(out)
    }

    fn scan(&self, mut args: Args<'_>, me: TxnId) -> Output {
        let at = args.required("ts")?;
        let number = |text: Option<&str>| text.map_or(Ok(u64::MAX), str::parse);
        let limits = ScanLimits {
            rows_max: number(args.take("rows"))?,
            bytes_max: number(args.take("bytes"))?,
            reverse: args.flag("reverse"),
        };
        let page = match mvcc::scan(&self.engine, &span(args.word()?), at, me, limits)? {
            Found::InTheWay(intents) => return Ok(show_in_the_way(&intents)),
            Found::Data(page) => page,
        };
        let mut out = String::new();
        for row in &page.rows {
            writeln!(out, "{} = {}", row.key, show_value(Some(&row.value)))?;
        }
        write!(out, "newest {}", show(page.newest))?;
        if let Some(rest) = page.resume {
            write!(out, ", left {rest}")?;
        }
        Ok(out)
    }

    fn changed(&self, mut args: Args<'_>, me: TxnId) -> Output {
        let (from, to) = (args.required("from")?, args.required("to")?);
        Ok(match mvcc::changed(&self.engine, &span(args.word()?), from, to, me)? {
            None => "nothing changed".into(),
            Some(changed) => {
                let by = changed.other.map(|id| format!(" by the intent of {}", show_txn(id))).unwrap_or_default();
                format!("changed: {}@{}{by}", changed.key, show(changed.at))
            }
        })
    }

    fn write(&mut self, mut args: Args<'_>, owner: Option<TxnId>) -> Output {
        let timestamp = args.required("ts")?;
        let mut batch = WriteBatch::default();
        for (key, value) in args.writes() {
            let Some(id) = owner else {
                mvcc::put_version(&mut batch, &key, timestamp, mvcc::NOBODY, value.as_deref());
                continue;
            };
            let meta = TxnMeta { id, attempt: 1, anchor: key.clone(), priority: timestamp, start: timestamp };
            mvcc::put_intent(&mut batch, &key, &Intent { txn: meta, timestamp, value: value.map(Into::into) });
        }
        self.engine.write(batch)?;
        Ok(String::new())
    }
}

impl Runner for MvccRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Output {
        let args = Args::of(command);
        let me = context.prefix.as_deref().map(txn).transpose()?;
        let reader = me.unwrap_or_default();
        match command.name.as_str() {
            "put" => self.write(args, None),
            "intent" => self.write(args, Some(reader)),
            "remove" => {
                let mut batch = WriteBatch::default();
                args.keys().iter().for_each(|key: &Key| mvcc::remove_intent(&mut batch, key));
                self.engine.write(batch)?;
                Ok(String::new())
            }
            "get" => self.get(args, reader),
            "scan" => self.scan(args, reader),
            "changed" => self.changed(args, reader),
            "newest" => {
                let newest = mvcc::newest(&self.engine, &Key::from(args.positional[0]))?;
                Ok(newest.map_or_else(|| "nothing".into(), |version| show(version.timestamp)))
            }
            "state" => Ok(show_engine(&self.engine)),
            other => Err(format!("there is no command {other}").into()),
        }
    }
}
