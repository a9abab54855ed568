//! How timestamps, frames, answers and replicas are shown.

use std::fmt::Write;

use proto::message::Body;
use proto::request::{Refusal, ReplyBody, Response};
use proto::{Key, RangeDescriptor, ReplicaRole, Timestamp, codec};
use server::raft::GroupRecord;
use server::range::Replica;
use server::range::command::{Command, Trigger};
use server::range::snapshot::Word;
use txn::engine::{self, Engine, Space};
use txn::keys;
use txn::mvcc;

/// Milliseconds, then what there is beside whole ones.
pub fn timestamp(timestamp: Timestamp) -> String {
    let (ms, us) = (timestamp.micros() / 1000, timestamp.micros() % 1000);
    let mut out = ms.to_string();
    if us > 0 {
        let _ = write!(out, ".{us:03}");
    }
    if timestamp.logical() > 0 {
        let _ = write!(out, "+{}", timestamp.logical());
    }
    out
}

pub fn descriptor(descriptor: &RangeDescriptor) -> String {
    let end = if descriptor.end == Key::max() { "end".to_string() } else { descriptor.end.to_string() };
    let start = if descriptor.start == Key::MIN { "start".to_string() } else { descriptor.start.to_string() };
    format!("{} [{start}, {end}) {}{}", descriptor.id, descriptor.epoch, members(descriptor))
}

/// The members, unless they are the first three.
fn members(descriptor: &RangeDescriptor) -> String {
    let shown = descriptor.replicas.iter().map(|r| match r.role {
        ReplicaRole::Voter => r.node.to_string(),
        role => format!("{} ({})", r.node, format!("{role:?}").to_lowercase()),
    });
    match shown.collect::<Vec<_>>().join(", ") {
        usual if usual == "n1, n2, n3" || usual.is_empty() => String::new(),
        others => format!(" on {others}"),
    }
}

/// What a frame holds of a group; nothing if it is only what was known.
pub fn group(record: &GroupRecord, with_vote: bool) -> Option<String> {
    let mut parts = Vec::new();
    if record.removed {
        parts.push("forgotten".to_string());
    }
    if let Some(position) = record.truncated {
        let what = if record.reset { "replaced by a Raft snapshot up to" } else { "begins after" };
        parts.push(format!("{what} {}", position.index));
    }
    if let Some(state) = record.hard_state.filter(|_| with_vote) {
        let vote = if state.vote == 0 { "no vote".into() } else { format!("vote for p{}", state.vote) };
        parts.push(format!("term {}, {vote}", state.term));
    }
    for entry in &record.entries {
        let what = if entry.kind != 0 {
            "members".into()
        } else {
            match codec::decode::<Command>("a command", &entry.data) {
                Err(_) => "empty".into(),
                Ok(Command { trigger: Some(trigger), .. }) => kind(&trigger).into(),
                Ok(command) if command.batch.is_empty() && command.closed.is_some() => "nothing".into(),
                Ok(command) => format!("{} writes", command.batch.writes.len()),
            }
        };
        let closed = codec::decode::<Command>("a command", &entry.data).ok().and_then(|command| command.closed);
        let what = closed.map_or(what.clone(), |closed| format!("{what}; closes {}", timestamp(closed)));
        parts.push(format!("entry {} ({what})", entry.index));
    }
    (!parts.is_empty()).then(|| format!("{}: {}", record.range, parts.join(", ")))
}

fn kind(trigger: &Trigger) -> &'static str {
    match trigger {
        Trigger::Split { .. } => "split",
        Trigger::Members { .. } => "members",
        Trigger::Settled { .. } => "settled",
        Trigger::HandOver { .. } => "hand-over",
        Trigger::Freeze { .. } => "freeze",
        Trigger::Merge(_) => "merge",
        Trigger::Thaw { .. } => "thaw",
        Trigger::Advance { .. } => "advance",
        Trigger::Pin(true) => "pin",
        Trigger::Pin(false) => "unpin",
    }
}

pub fn response(response: &Response) -> String {
    match response {
        Response::Done(reply) => match &reply.body {
            ReplyBody::Values { values, .. } => {
                let shown = values.iter().map(|v| v.as_ref().map_or("nothing".into(), |v| value(v)));
                shown.collect::<Vec<_>>().join(" ")
            }
            ReplyBody::At(at) => format!("committed at {}", timestamp(*at)),
            ReplyBody::Ranges(descriptors) => {
                let shown = descriptors.iter().map(descriptor).collect::<Vec<_>>().join(" and ");
                if descriptors.len() > 1 { format!("split into {shown}") } else { format!("now {shown}") }
            }
            ReplyBody::Ok => "done".into(),
            other => format!("{other:?}"),
        },
        Response::Refused(Refusal::NotLeader(leader)) => {
            format!("not the leader here; {}", leader.map_or("nobody known is".into(), |n| format!("perhaps {n}")))
        }
        Response::Refused(Refusal::WrongRange(descriptors)) => {
            let here = descriptors.iter().map(descriptor).collect::<Vec<_>>().join(" and ");
            format!("wrong range; here is {}", if here.is_empty() { "none" } else { &here })
        }
        Response::Refused(Refusal::Unknown) => "unknown: it may yet take effect".into(),
        Response::Refused(Refusal::Intents(intents)) => {
            let shown = intents.iter().map(|i| format!("{}@{} of {}", i.key, timestamp(i.timestamp), i.txn.id));
            format!("intents in the way: {}", shown.collect::<Vec<_>>().join(" and "))
        }
        Response::Refused(Refusal::Busy(why)) => format!("busy: {why}"),
        Response::Refused(other) => format!("{other:?}"),
    }
}

/// What a message asks for, if it asks for contents.
pub fn ask(body: &Body) -> Option<String> {
    let Body::Contents(message) = body else { return None };
    let Ok(Word::Ask { at, .. }) = codec::decode("a word about contents", &message.payload) else { return None };
    let what = match (at.space, keys::parse_version(&at.key)) {
        (Space::Versions, Ok((key, at))) => format!("versions from {key}@{} on", timestamp(at)),
        (space, _) => format!("{space:?}").to_lowercase(),
    };
    Some(format!("contents of {}: {what}", message.range))
}

pub fn value(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a replica is, in a line.
pub fn replica(replica: &Replica) -> String {
    let mut out = format!(
        "{}: term {}, applied {}",
        descriptor(replica.descriptor()),
        replica.group.term(),
        replica.applied.index
    );
    match &replica.leading {
        Some(leading) => {
            let serving = if leading.serving { "serves" } else { "does not serve yet" };
            let (low, fence) = (timestamp(leading.reads.low_water()), timestamp(leading.fence));
            let _ = write!(out, ", leads and {serving}, low-water mark {low}, fence {fence}");
        }
        None => {
            let _ = match replica.leader_node() {
                Some(leader) => write!(out, ", follows {leader}"),
                None => write!(out, ", knows no leader"),
            };
        }
    }
    if replica.state.closed > Timestamp::ZERO {
        let _ = write!(out, ", closed up to {}", timestamp(replica.state.closed));
    }
    if replica.is_quiet() {
        out.push_str(", quiet");
    }
    if let Some(frozen) = &replica.state.frozen {
        let _ = write!(out, ", frozen for {} {} by entry {}", frozen.left, frozen.left_epoch, frozen.index);
    }
    if replica.hollow {
        out.push_str(", hollow");
    }
    if let Some(why) = &replica.stopped {
        let _ = write!(out, ", stopped: {why}");
    }
    out
}

/// The versions that an engine holds of user keys, in order.
pub fn versions(engine: &dyn Engine) -> Vec<String> {
    let mut lines = Vec::new();
    engine::visit(engine, Space::Versions, b"a", &[0xff], |key, bytes| {
        let (key, at) = keys::parse_version(key)?;
        let (_, found) = mvcc::decode_version(bytes)?;
        let shown = found.map_or_else(|| "deleted".into(), |bytes| value(&bytes));
        lines.push(format!("{key}@{} = {shown}", timestamp(at)));
        Ok(true)
    })
    .expect("memory does not fail");
    lines
}
