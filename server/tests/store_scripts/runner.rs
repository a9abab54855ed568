//! The commands of the scripts.

use std::collections::BTreeMap;
use std::error::Error;

use goldenscript::{Argument, Command, Context, Runner};
use proto::range::{RangeOperation, ReplicaChange, Split};
use proto::request::{CommitOne, Operation, Prepare, RangeRequest, Read, Target};
use proto::transaction::{TxnMeta, Write};
use proto::{Epoch, Key, NodeId, NodeState, RangeDescriptor, RangeId, Timestamp, TxnId};
use server::store::Event;

use super::show;
use super::world::World;

type Output = Result<String, Box<dyn Error>>;

/// See [the scripts' commands](super).
#[derive(Default)]
pub struct StoreRunner {
    world: World,
    /// Who asked, by the number of the request.
    asked: BTreeMap<u64, String>,
    /// Raft messages that each store had sent when that was last shown.
    sent: BTreeMap<NodeId, u64>,
}

fn node(name: &str) -> Result<NodeId, Box<dyn Error>> {
    let number = name.strip_prefix('n').ok_or_else(|| format!("{name} is no store: write n1, n2 or n3"))?;
    Ok(NodeId(number.parse()?))
}

/// The step that a `members` command names.
fn change(args: &mut Args<'_>) -> Result<ReplicaChange, Box<dyn Error>> {
    let mut nodes = |name: &str| -> Result<Vec<NodeId>, Box<dyn Error>> {
        args.take(name).into_iter().flat_map(|list| list.split('+')).map(node).collect()
    };
    let (learner, non_voter, dropped) = (nodes("learner")?, nodes("nonvoter")?, nodes("drop")?);
    let (promote, remove) = (nodes("promote")?, nodes("remove")?);
    Ok(match (learner.first(), non_voter.first(), dropped.first()) {
        (Some(node), ..) => ReplicaChange::AddLearner(*node),
        (_, Some(node), _) => ReplicaChange::AddNonVoter(*node),
        (.., Some(node)) => ReplicaChange::Remove(*node),
        _ => ReplicaChange::Replace { promote, remove },
    })
}

/// A command's arguments, by kind.
struct Args<'a> {
    words: Vec<&'a str>,
    named: Vec<(&'a str, &'a str)>,
}

impl<'a> Args<'a> {
    fn of(command: &'a Command) -> Args<'a> {
        let mut args = Args { words: Vec::new(), named: Vec::new() };
        for arg in &command.args {
            match arg {
                Argument::Positional(word) => args.words.push(word),
                Argument::KeyValue(name, value) => args.named.push((name, value)),
                other => panic!("an argument of a new kind: {other}"),
            }
        }
        args
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.named.iter().position(|(n, _)| *n == name)?;
        Some(self.named.remove(at).1)
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, Box<dyn Error>> {
        Ok(self.take(name).map(str::parse).transpose()?)
    }

    fn needed(&mut self, name: &str) -> Result<u64, Box<dyn Error>> {
        self.number(name)?.ok_or_else(|| format!("{name}= is missing").into())
    }

    fn flag(&mut self, word: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|w| *w != word);
        self.words.len() < before
    }

    fn word(&mut self) -> Result<&'a str, Box<dyn Error>> {
        if self.words.is_empty() {
            return Err("an argument is missing".into());
        }
        Ok(self.words.remove(0))
    }
}

impl StoreRunner {
    /// Tells every store that runs who the members are.
    fn nodes(&mut self, args: &Args<'_>) -> Result<(), Box<dyn Error>> {
        let mut members: BTreeMap<NodeId, NodeState> = (1..=3).map(|id| (NodeId(id), NodeState::Active)).collect();
        for (name, state) in &args.named {
            let states = [NodeState::Active, NodeState::Draining, NodeState::Decommissioning];
            let state = states.into_iter().find(|s| s.name() == *state).ok_or("no such state")?;
            members.insert(node(name)?, state);
        }
        for id in members.keys() {
            if self.world.store(*id).is_some() {
                self.world.step(*id, Event::Members(members.clone()));
            }
        }
        Ok(())
    }

    fn tick(&mut self, mut args: Args<'_>) -> Result<(), Box<dyn Error>> {
        let times = match args.words.last().map(|last| last.parse::<u64>()) {
            Some(Ok(times)) => {
                args.words.pop();
                times
            }
            _ => 1,
        };
        let ids = if args.flag("all") {
            self.world.ids()
        } else {
            args.words.iter().map(|name| node(name)).collect::<Result<_, _>>()?
        };
        for _ in 0..times {
            self.world.tick(&ids);
        }
        Ok(())
    }

    /// How many Raft messages each store has sent since it was last asked that.
    fn show_sent(&mut self) -> String {
        let mut lines = Vec::new();
        for id in self.world.ids() {
            let now = self.world.raft_messages(id);
            let before = self.sent.insert(id, now).unwrap_or(0);
            lines.push(format!("{id} has sent {} Raft messages", now.saturating_sub(before)));
        }
        lines.join("\n")
    }

    fn ask(&mut self, name: &str, mut args: Args<'_>) -> Result<(), Box<dyn Error>> {
        let later = args.flag("later");
        let who = args.word()?;
        let to = node(args.word()?)?;
        let believed = (args.number("range")?, args.number("epoch")?);
        let hlc = args.number("hlc")?.map_or(Timestamp::ZERO, |ms| Timestamp::from_micros(ms * 1000));
        let number = self.asked.len() as u64 + 1;
        let (key, operation) = match name {
            "write" | "intent" | "read" | "past" => self.of_data(name, to, number, &mut args)?,
            _ => {
                let (key, operation) = self.of_range(name, to, believed.0, &mut args)?;
                (key, Operation::Range(operation))
            }
        };
        let known = self.world.store(to).and_then(|s| s.replicas().find(|r| r.descriptor().contains(&key)));
        let known = known.map(|r| (r.descriptor().id, r.descriptor().epoch)).unwrap_or_default();
        let range = believed.0.map_or(known.0, RangeId);
        let epoch = believed.1.map_or(known.1, Epoch);
        self.asked.insert(number, who.to_string());
        self.world.ask(to, number, hlc, RangeRequest { range, epoch, operation });
        if !later {
            self.world.finish(to);
            self.world.settle();
        }
        Ok(())
    }

    /// What is asked of a range's data, and a key that it names.
    fn of_data(
        &self,
        name: &str,
        to: NodeId,
        number: u64,
        args: &mut Args<'_>,
    ) -> Result<(Key, Operation), Box<dyn Error>> {
        let at = args.number("ts")?.map(|ms| Timestamp::from_micros(ms * 1000));
        if name == "past" && at.is_none() {
            return Err("ts= is missing".into());
        }
        let at = at.unwrap_or_else(|| self.world.reading(to));
        if matches!(name, "read" | "past") {
            let keys: Vec<Key> = args.words.iter().map(|k| Key::from(*k)).collect();
            let first = keys.first().ok_or("nothing to read")?.clone();
            let read = Read { txn: TxnId::default(), timestamp: at, target: Target::Keys(keys), priority: at };
            return Ok((first, if name == "past" { Operation::ReadPast(read) } else { Operation::Read(read) }));
        }
        let attempt = args.number("attempt")?.map_or(1, |attempt| attempt as u32);
        let writes: Vec<Write> =
            args.named.iter().map(|(k, v)| Write::new(Key::from(*k), Some(v.as_bytes().to_vec()))).collect();
        let anchor = writes.first().ok_or("nothing to write")?.key.clone();
        let txn = TxnMeta { id: TxnId(u128::from(number)), attempt, anchor: anchor.clone(), priority: at, start: at };
        if name == "intent" {
            return Ok((anchor, Operation::Prepare(Prepare { txn, timestamp: at, writes, record: None })));
        }
        let commit = CommitOne { txn, read: at, timestamp: at, writes, validate: Vec::new(), complete: true };
        Ok((anchor, Operation::CommitOne(commit)))
    }

    /// What is asked of a range itself, and a key in it.
    fn of_range(
        &self,
        name: &str,
        to: NodeId,
        range: Option<u64>,
        args: &mut Args<'_>,
    ) -> Result<(Key, RangeOperation), Box<dyn Error>> {
        let here = || self.known_at(to, RangeId(range.ok_or("range= is missing")?));
        let a = Key::from("a");
        Ok(match name {
            "split" => {
                let right = RangeId(args.needed("id")?);
                let key = Key::from(args.word()?);
                let pinned = args.number("pinned")?.is_some_and(|pinned| pinned > 0);
                (key.clone(), RangeOperation::Split(Split { key, right, pinned }))
            }
            "freeze" => (here()?.start, RangeOperation::Freeze(self.known_at(to, RangeId(args.needed("left")?))?)),
            "ready" => (
                a,
                RangeOperation::IsReady { left: RangeId(args.needed("left")?), frozen_at: args.needed("frozen-at")? },
            ),
            "merge" => {
                let right = self.known_at(to, RangeId(args.needed("right")?))?;
                (a, RangeOperation::Merge { right, frozen_at: args.needed("frozen-at")? })
            }
            "pin" => (here()?.start, RangeOperation::Pin(args.needed("pinned")? > 0)),
            "advance" => (a, RangeOperation::Advance),
            "thaw" => (here()?.start, RangeOperation::Thaw { frozen_at: args.needed("frozen-at")? }),
            "transfer" => (a, RangeOperation::Transfer(node(args.word()?)?)),
            _ => (a, RangeOperation::ChangeReplicas(change(args)?)),
        })
    }

    /// A range as a node knows it.
    fn known_at(&self, id: NodeId, range: RangeId) -> Result<RangeDescriptor, Box<dyn Error>> {
        let replica = self.world.store(id).and_then(|s| s.replicas().find(|r| r.descriptor().id == range));
        Ok(replica.ok_or_else(|| format!("{id} has no {range}"))?.descriptor().clone())
    }

    fn show_state(&self) -> String {
        let mut out = String::new();
        for id in self.world.ids() {
            match self.world.store(id) {
                None => out.push_str(&format!("{id} does not run\n")),
                Some(store) => {
                    store.replicas().for_each(|r| out.push_str(&format!("{id} {}\n", show::replica(r))));
                }
            }
        }
        out
    }

    fn show_data(&self, mut args: Args<'_>) -> Output {
        let lines = show::versions(self.world.engine(node(args.word()?)?));
        let wanted =
            |line: &&String| args.words.is_empty() || args.words.iter().any(|w| line.starts_with(&format!("{w}@")));
        Ok(lines.iter().filter(wanted).cloned().collect::<Vec<_>>().join("\n"))
    }

    fn show_agreement(&self) -> String {
        let holds = |id: &NodeId| self.world.store(*id).is_none_or(|store| store.replicas().next().is_some());
        let ids: Vec<NodeId> = self.world.ids().into_iter().filter(holds).collect();
        let held: Vec<Vec<String>> = ids.iter().map(|id| show::versions(self.world.engine(*id))).collect();
        if held.iter().all(|lines| *lines == held[0]) {
            return format!("all agree on {} versions", held[0].len());
        }
        let show = |(id, lines): (&NodeId, &Vec<String>)| format!("{id}: {}", lines.join(" "));
        ids.iter().zip(&held).map(show).collect::<Vec<_>>().join("\n")
    }

    /// Whatever happened since the last time.
    fn take_news(&mut self) -> String {
        let mut lines = std::mem::take(&mut self.world.out);
        for (number, answer) in std::mem::take(&mut self.world.answers) {
            let who = self.asked.get(&number).map_or("?", String::as_str);
            lines.push(format!("⇒ {who}: {answer}"));
        }
        lines.join("\n")
    }
}

impl Runner for StoreRunner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Output {
        let mut args = Args::of(command);
        match command.name.as_str() {
            "tick" => self.tick(args)?,
            "write" | "read" | "past" | "intent" | "split" | "members" | "transfer" | "freeze" | "ready" | "merge"
            | "advance" | "thaw" | "pin" => self.ask(&command.name, args)?,
            "add" => self.world.add(node(args.word()?)?),
            "cut" | "join" => self.world.cut(node(args.word()?)?, command.name == "cut"),
            "hold" if args.flag("flushes") => self.world.hold_flushes(node(args.word()?)?, true),
            "hold" => self.world.hold(node(args.word()?)?, true),
            "release" => {
                let flushes = args.flag("flushes");
                let id = node(args.word()?)?;
                if flushes {
                    self.world.hold_flushes(id, false)
                } else {
                    self.world.hold(id, false)
                }
                self.world.settle();
            }
            "crash" => self.world.crash(node(args.word()?)?),
            "start" => {
                self.world.start(node(args.word()?)?);
                self.world.settle();
            }
            "flush" => {
                self.world.flush(node(args.word()?)?);
                self.world.settle();
            }
            "leave" => {
                self.world.step(node(args.word()?)?, Event::Leave);
                self.world.settle();
            }
            "nodes" => {
                self.nodes(&args)?;
                self.world.settle();
            }
            "finish" => {
                self.world.finish(node(args.word()?)?);
                self.world.settle();
            }
            "leisure" => self.world.set_leisure(args.word()?.parse()?),
            "quiet" => self.world.set_quiet_after(args.word()?.parse()?),
            "pieces" => self.world.set_pieces(args.word()?.parse()?, args.word()?.parse()?),
            "sent" => return Ok(self.show_sent()),
            "state" => return Ok(self.show_state()),
            "data" => return self.show_data(args),
            "agree" => return Ok(self.show_agreement()),
            other => return Err(format!("there is no command {other}").into()),
        }
        Ok(self.take_news())
    }
}
