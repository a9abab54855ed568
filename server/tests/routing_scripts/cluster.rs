//! The ranges as they are, and what each node and the meta range know of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use proto::message::Body;
use proto::request::{Operation, RangeRequest, Refusal, Reply, ReplyBody, Response, Row, Target};
use proto::{Epoch, Key, NodeId, RangeDescriptor, RangeId, ReplicaDescriptor, Timestamp, codec, keyspace};
use server::env::Outbox;
use server::kv::Db;
use server::store::recover::{META_RANGE, meta_key};

/// A row's key.
pub fn row(letter: &str) -> Key {
    Key([&[keyspace::APPLICATION], letter.as_bytes()].concat())
}

/// A key as the scripts write it.
pub fn word(key: &Key) -> String {
    match key.0.split_first() {
        _ if *key == Key::max() => "end".into(),
        Some((&keyspace::APPLICATION, rest)) if !rest.is_empty() => String::from_utf8_lossy(rest).into_owned(),
        _ => "start".into(),
    }
}

pub fn show(range: &RangeDescriptor) -> String {
    let nodes: Vec<String> = range.replicas.iter().map(|replica| replica.node.to_string()).collect();
    let span = if range.id == META_RANGE {
        "the meta range".into()
    } else {
        format!("{}..{}", word(&range.start), word(&range.end))
    };
    format!("{} {span} {} on {}", range.id, range.epoch, nodes.join(", "))
}

fn mark(nodes: &mut BTreeSet<NodeId>, node: NodeId, on: bool) {
    if on {
        nodes.insert(node);
    } else {
        nodes.remove(&node);
    }
}

/// A range as some node, or everybody, knows it.
#[derive(Clone)]
struct Known {
    range: RangeDescriptor,
    leader: Option<NodeId>,
}

#[derive(Default)]
pub struct State {
    ranges: BTreeMap<RangeId, Known>,
    nodes: BTreeMap<NodeId, BTreeMap<RangeId, Known>>,
    published: BTreeMap<Key, RangeDescriptor>,
    behind: BTreeSet<NodeId>,
    silent: BTreeSet<NodeId>,
    log: Vec<String>,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Cluster {
    state: Arc<Mutex<State>>,
    gateway: Arc<OnceLock<Db>>,
}

impl State {
    fn range(&mut self, id: RangeId) -> Result<&mut Known, String> {
        self.ranges.get_mut(&id).ok_or_else(|| format!("there is no {id}"))
    }

    /// Lets all nodes that keep up learn how things are.
    fn tell(&mut self) {
        let holders = self.ranges.values().flat_map(|known| known.range.replicas.iter().map(|replica| replica.node));
        let nodes: BTreeSet<NodeId> = holders.chain(self.nodes.keys().copied()).collect();
        for node in nodes.into_iter().filter(|node| !self.behind.contains(node)) {
            let held = self.ranges.iter().filter(|(_, known)| known.range.replica_on(node).is_some());
            self.nodes.insert(node, held.map(|(id, known)| (*id, known.clone())).collect());
        }
    }

    fn publish(&mut self, id: RangeId) -> Result<(), String> {
        let range = self.range(id)?.range.clone();
        self.published.retain(|_, other| !other.span().overlaps(&range.span()) || other.epoch > range.epoch);
        self.published.insert(meta_key(&range.start), range);
        Ok(())
    }

    /// What a node answers.
    fn answer(&mut self, node: NodeId, request: &RangeRequest) -> Option<Response> {
        let name = match &request.operation {
            Operation::Read(read) => match &read.target {
                Target::Keys(keys) => keys.iter().map(word).collect::<Vec<_>>().join(", "),
                Target::Span { span, reverse: true, .. } => {
                    let key = Key(span.end.0[1..].strip_suffix(&[0]).unwrap_or_default().to_vec());
                    format!("the descriptor for {}", word(&key))
                }
                Target::Span { span, .. } => format!("{}..{}", word(&span.start), word(&span.end)),
            },
            other => format!("{other:?}"),
        };
        let asked = format!("→ {node}, {} {}: {name}", request.range, request.epoch);
        if self.silent.contains(&node) {
            self.log.push(format!("{asked}: no answer"));
            return None;
        }
        let response = self.respond(node, request);
        let shown = match &response {
            Response::Refused(Refusal::WrongRange(known)) if known.is_empty() => "does not hold it".into(),
            Response::Refused(Refusal::WrongRange(known)) => {
                format!("knows {}", known.iter().map(show).collect::<Vec<_>>().join("; "))
            }
            Response::Refused(Refusal::NotLeader(Some(leader))) => format!("{leader} leads it"),
            Response::Refused(Refusal::NotLeader(None)) => "knows no leader".into(),
            Response::Done(Reply { body: ReplyBody::Rows { rows, resume, .. }, .. }) => {
                let published = |row: &Row| codec::decode::<RangeDescriptor>("a range descriptor", &row.value);
                let rows = rows.iter().map(|row| published(row).map_or_else(|_| word(&row.key), |range| show(&range)));
                let more = if resume.is_some() { ", and there is more" } else { "" };
                format!("{}{more}", rows.collect::<Vec<_>>().join(" "))
            }
            Response::Done(_) => "done".into(),
            other => format!("{other:?}"),
        };
        self.log.push(format!("{asked}: {shown}"));
        Some(response)
    }

    fn respond(&self, node: NodeId, request: &RangeRequest) -> Response {
        let held = self.nodes.get(&node).into_iter().flatten();
        let Some((_, known)) = held.clone().find(|(id, _)| **id == request.range) else {
            return Response::Refused(Refusal::WrongRange(Vec::new()));
        };
        if known.leader != Some(node) {
            return Response::Refused(Refusal::NotLeader(known.leader));
        }
        let Operation::Read(read) = &request.operation else {
            return Response::Refused(Refusal::Invalid("the scripts only read".into()));
        };
        let spans = txn::participant::named(&request.operation);
        let fits = request.epoch == known.range.epoch && spans.iter().all(|span| known.range.span().covers(span));
        if !fits {
            let overlaps = |range: &RangeDescriptor| spans.iter().any(|span| range.span().overlaps(span));
            let told = held.filter(|(id, known)| **id == request.range || overlaps(&known.range));
            return Response::Refused(Refusal::WrongRange(told.map(|(_, known)| known.range.clone()).collect()));
        }
        let (newest, at) = (Timestamp::ZERO, read.timestamp);
        let body = match &read.target {
            Target::Keys(keys) => {
                ReplyBody::Values { values: keys.iter().map(|key| Some(key.0.clone().into())).collect(), newest, at }
            }
            Target::Span { span, rows_max, reverse, .. } => {
                let letters = ('a'..='z').map(|letter| row(&letter.to_string()));
                let letters = letters.map(|key| Row { value: key.0.clone().into(), key });
                let meta = self.published.iter().map(|(key, range)| (key.clone(), codec::encode(range)));
                let meta = meta.map(|(key, value)| Row { key, value: value.into() });
                let mut rows: Vec<Row> = meta.chain(letters).filter(|row| span.contains(&row.key)).collect();
                if *reverse {
                    rows.reverse();
                }
                let rest = rows.split_off(rows.len().min(*rows_max as usize));
                // Backwards only one descriptor is ever asked for.
                let next = rest.first().filter(|_| !reverse).map(|row| row.key.clone());
                let resume = next.map(|start| proto::Span { start, end: span.end.clone() });
                ReplyBody::Rows { rows, newest, resume }
            }
        };
        Response::Done(Reply { body, queue_us: 0, replication_us: 0 })
    }
}

impl Cluster {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// The gateway to which answers go.
    pub fn attach(&self, db: Db) -> Result<Db, String> {
        self.gateway.set(db.clone()).map_err(|_| "there is a gateway already")?;
        Ok(db)
    }

    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    pub fn published(&self) -> Vec<RangeDescriptor> {
        self.state().published.values().cloned().collect()
    }

    pub fn nodes(&self) -> Vec<NodeId> {
        self.state().nodes.keys().copied().collect()
    }

    pub fn create(&self, id: RangeId, (start, end): (Key, Key), nodes: &[NodeId]) -> Result<(), String> {
        let replicas = nodes.iter().zip(1..).map(|(node, id)| ReplicaDescriptor::voter(*node, proto::ReplicaId(id)));
        let range = RangeDescriptor::new(id, proto::Span { start, end }, Epoch(1), replicas.collect());
        let mut state = self.state();
        state.ranges.insert(id, Known { range, leader: nodes.first().copied() });
        state.tell();
        state.publish(id)
    }

    pub fn split(&self, id: RangeId, at: &Key, right: RangeId, published: bool) -> Result<(), String> {
        let mut state = self.state();
        let known = state.range(id)?;
        let epoch = Epoch(known.range.epoch.0 + 1);
        let mut new = known.clone();
        known.range = RangeDescriptor { end: at.clone(), epoch, ..known.range.clone() };
        new.range = RangeDescriptor { id: right, start: at.clone(), epoch, ..new.range };
        state.ranges.insert(right, new);
        state.changed(&[id, right], published)
    }

    pub fn merge(&self, left: RangeId, right: RangeId, published: bool) -> Result<(), String> {
        let mut state = self.state();
        let gone = state.ranges.remove(&right).ok_or_else(|| format!("there is no {right}"))?.range;
        let known = state.range(left)?;
        let epoch = Epoch(known.range.epoch.max(gone.epoch).0 + 1);
        known.range = RangeDescriptor { end: gone.end, epoch, ..known.range.clone() };
        state.changed(&[left], published)
    }

    pub fn relocate(&self, id: RangeId, from: NodeId, to: NodeId, published: bool) -> Result<(), String> {
        let mut state = self.state();
        let Known { range, leader } = state.range(id)?;
        let replica = ReplicaDescriptor::voter(to, range.next_replica);
        range.replicas.retain(|replica| replica.node != from);
        range.replicas.push(replica);
        range.epoch = Epoch(range.epoch.0 + 1);
        range.next_replica = proto::ReplicaId(range.next_replica.0 + 1);
        if *leader == Some(from) {
            *leader = Some(to);
        }
        state.changed(&[id], published)
    }

    pub fn lead(&self, id: RangeId, leader: Option<NodeId>) -> Result<(), String> {
        let mut state = self.state();
        state.range(id)?.leader = leader;
        state.changed(&[id], false)
    }

    pub fn publish(&self, id: RangeId) -> Result<(), String> {
        self.state().publish(id)
    }

    pub fn set_behind(&self, node: NodeId, behind: bool) {
        let mut state = self.state();
        mark(&mut state.behind, node, behind);
        state.tell();
    }

    pub fn set_silent(&self, node: NodeId, silent: bool) {
        mark(&mut self.state().silent, node, silent);
    }
}

impl State {
    fn changed(&mut self, ranges: &[RangeId], published: bool) -> Result<(), String> {
        self.tell();
        ranges.iter().filter(|_| published).try_for_each(|id| self.publish(*id))
    }
}

impl Outbox for Cluster {
    fn send(&self, to: NodeId, body: Body) {
        let Body::Request { id, request } = body else { return };
        let answer = self.state().answer(to, &request);
        if let (Some(response), Some(gateway)) = (answer, self.gateway.get()) {
            gateway.deliver(id, response);
        }
    }
}
