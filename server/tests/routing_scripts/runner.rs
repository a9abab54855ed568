//! The commands of the scripts.

use std::error::Error;
use std::sync::Arc;

use futures::executor::block_on;
use goldenscript::{Command, Context, Runner};
use proto::{Key, NodeDescriptor, NodeId, NodeRecord, RangeId, Span, keyspace};
use server::config::Knobs;
use server::kv::{BeginOptions, Db, DbConfig, Kv, Lock, ScanOptions};
use server::store::recover::META_RANGE;

use super::clock::Time;
use super::cluster::{Cluster, row, show, word};
use super::env::ScriptEnv;

/// Questions past which those that follow are only counted.
const SHOWN_MAX: usize = 12;

/// See [the scripts' commands](super).
#[derive(Default)]
pub struct RoutingRunner {
    time: Time,
    cluster: Cluster,
    gateway: Option<Db>,
}

fn number(name: &str, prefix: char) -> Result<u64, Box<dyn Error>> {
    let digits = name.strip_prefix(prefix).ok_or_else(|| format!("{name} does not begin with {prefix}"))?;
    Ok(digits.parse()?)
}

fn node(name: &str) -> Result<NodeId, Box<dyn Error>> {
    number(name, 'n').map(NodeId)
}

fn range(name: &str) -> Result<RangeId, Box<dyn Error>> {
    number(name, 'r').map(RangeId)
}

fn key(word: &str) -> Key {
    match word {
        "start" => keyspace::start_of(keyspace::CATALOG),
        "end" => Key::max(),
        letter => row(letter),
    }
}

fn span(words: &str) -> Result<Span, Box<dyn Error>> {
    let (start, end) = words.split_once("..").ok_or_else(|| format!("{words} is no span: write b..k"))?;
    Ok(Span { start: key(start), end: key(end) })
}

impl RoutingRunner {
    fn gateway(&self) -> Result<&Db, Box<dyn Error>> {
        self.gateway.as_ref().ok_or_else(|| "there is no gateway yet".into())
    }

    fn open(&mut self, node: NodeId) -> Result<(), Box<dyn Error>> {
        let member = |id: &NodeId| {
            let (address, boot_id, locality) = Default::default();
            NodeRecord::founding(NodeDescriptor { id: *id, address, boot_id, locality })
        };
        let config = DbConfig {
            env: Arc::new(ScriptEnv::new(self.time.clone())),
            outbox: Arc::new(self.cluster.clone()),
            knobs: Arc::new(Knobs::default()),
            node,
            members: self.cluster.nodes().iter().map(member).collect(),
            ranges: self.cluster.published(),
        };
        self.gateway = Some(self.cluster.attach(Db::new(config))?);
        Ok(())
    }

    /// What comes of a read, in words.
    fn read(&self, key: Key) -> Result<String, Box<dyn Error>> {
        let db = self.gateway()?;
        let read = async {
            let mut txn = db.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
            txn.get(&[key], Lock::None).await
        };
        Ok(match block_on(read) {
            Ok(values) => values.into_iter().flatten().map(|value| word(&Key(value))).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        })
    }

    fn scan(&self, span: Span, rows_max: usize) -> Result<String, Box<dyn Error>> {
        let db = self.gateway()?;
        let scan = async {
            let mut txn = db.begin(BeginOptions { read_only: true, ..BeginOptions::default() }).await?;
            let mut rows = Vec::new();
            let mut rest = Some(span);
            while let Some(span) = rest {
                let page = txn.scan(&span, ScanOptions { rows_max, ..ScanOptions::default() }).await?;
                rows.extend(page.rows.iter().map(|(key, _)| word(key)));
                rest = page.resume;
            }
            Ok::<_, server::kv::Error>(rows)
        };
        Ok(match block_on(scan) {
            Ok(rows) => rows.join(" "),
            Err(error) => error.to_string(),
        })
    }

    /// Has the gateway do something. Says what it asked, what came of it, and how long it waited.
    fn watch(&self, act: impl FnOnce() -> Result<String, Box<dyn Error>>) -> Result<String, Box<dyn Error>> {
        let before = self.time.now();
        let outcome = act()?;
        let waited = (self.time.now() - before).as_millis();
        let mut lines = self.cluster.take_log();
        if lines.len() > SHOWN_MAX {
            let more = lines.len() - SHOWN_MAX;
            lines.splice(SHOWN_MAX.., [format!("… {more} more of the kind")]);
        }
        let waited = if waited > 0 { format!(" (waited {waited} ms)") } else { String::new() };
        lines.push(format!("⇒ {outcome}{waited}\n"));
        Ok(lines.join("\n"))
    }

    fn known(&self) -> Result<String, Box<dyn Error>> {
        let known = self.gateway()?.known_ranges(&Span { start: Key::MIN, end: Key::max() });
        Ok(known.iter().map(|range| format!("{}\n", show(range))).collect())
    }
}

impl Runner for RoutingRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mut named = |name: &str| args.take_key(name);
        let (at, right, from, to, page) = (named("at"), named("right"), named("from"), named("to"), named("page"));
        let mut words: Vec<&str> = std::iter::from_fn(|| args.next_pos()).collect();
        args.reject_next()?;
        let before = words.len();
        words.retain(|word| *word != "unpublished");
        let published = words.len() == before;
        match (command.name.as_str(), words.as_slice()) {
            ("range", [id, keys, nodes]) => {
                let id = range(id)?;
                let keys = match id {
                    META_RANGE => Span { start: Key::MIN, end: key("start") },
                    _ => span(keys)?,
                };
                let nodes = nodes.split('/').map(node).collect::<Result<Vec<_>, _>>()?;
                self.cluster.create(id, (keys.start, keys.end), &nodes)?;
            }
            ("gateway", [at]) => self.open(node(at)?)?,
            ("split", [id]) => {
                let (Some(at), Some(right)) = (at, right) else { return Err("at= and right= are needed".into()) };
                self.cluster.split(range(id)?, &key(at), range(right)?, published)?;
            }
            ("merge", [left, right]) => self.cluster.merge(range(left)?, range(right)?, published)?,
            ("move", [id]) => {
                let (Some(from), Some(to)) = (from, to) else { return Err("from= and to= are needed".into()) };
                self.cluster.relocate(range(id)?, node(from)?, node(to)?, published)?;
            }
            ("lead", [id, "nobody"]) => self.cluster.lead(range(id)?, None)?,
            ("lead", [id, leader]) => self.cluster.lead(range(id)?, Some(node(leader)?))?,
            ("publish", [id]) => self.cluster.publish(range(id)?)?,
            ("behind" | "abreast", [who]) => self.cluster.set_behind(node(who)?, command.name == "behind"),
            ("silent" | "answering", [who]) => self.cluster.set_silent(node(who)?, command.name == "silent"),
            ("lost", [who]) => self.gateway()?.lost(node(who)?),
            ("back", [who]) => self.gateway()?.heard_of(node(who)?),
            ("read", [letter]) => return self.watch(|| self.read(key(letter))),
            ("scan", [keys]) => {
                let (span, page) = (span(keys)?, page.map_or(Ok(1024), str::parse)?);
                return self.watch(|| self.scan(span, page));
            }
            ("known", []) => return self.known(),
            _ => return Err(format!("no such command: {command}").into()),
        }
        Ok(String::new())
    }
}
