//! What a store is told, and what it asks for. Both closed.

use std::collections::BTreeMap;

use proto::message::{Body, Envelope};
use proto::report::StoreReport;
use proto::{NodeId, NodeState, RangeDescriptor};

use crate::env::{SplitWish, Stray, StuckMerge};
use crate::raft::LogFrame;

/// What a store is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message from a node, possibly this one.
    Message(Envelope),
    /// Time has passed.
    Tick,
    /// Every frame up to this number is on disk.
    Synced(u64),
    /// The engine flush with this number is on disk.
    Flushed(u64),
    /// The process is about to stop: hand leadership over, and take none any more.
    Leave,
    /// These are the members of the cluster, this node included: who is told what the clock shows, and who is to lead nothing.
    Members(BTreeMap<NodeId, NodeState>),
}

/// What a store asks for.
#[derive(Clone, Debug)]
pub enum Effect {
    Send {
        to: NodeId,
        body: Body,
    },
    /// Append a frame to the log and sync it, then say [`Event::Synced`]. Frames are appended in order.
    Append {
        number: u64,
        frame: LogFrame,
        /// What the engine holds must be on disk before the frame is.
        flush_first: bool,
    },
    /// Make durable what the engine holds now, then say [`Event::Flushed`].
    Flush {
        number: u64,
    },
    /// Put this descriptor into the meta range, unless a newer one is there.
    Publish(RangeDescriptor),
    /// Split a range, once there is an id for the right-hand one.
    Split(SplitWish),
    /// Ask those who hold a range now whether a replica here may go.
    AskFor(Stray),
    /// Find out what became of a merge.
    SettleMerge(StuckMerge),
    /// Tell the placement driver, wherever it is.
    Report(StoreReport),
    /// Stop the node: its disk does not do what it is told, for this reason. What was acknowledged is on disk or elsewhere, and a
    /// restart finds out which; going on could only guess.
    Stop(String),
}
