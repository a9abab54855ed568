//! Meridian's transaction protocol, as pure state machines.
//!
//! Nothing here does I/O, reads a clock or draws a number: time comes in as arguments, storage is the port
//! [`engine::Engine`], and what is to be done goes out as values. Read in this order: [`clock`] issues the timestamps;
//! [`engine`], [`keys`] and [`mvcc`] store versions and intents by them; [`reads`], [`latches`] and [`locks`] are what a range's leader
//! remembers in memory; [`record`] is where a transaction's fate is decided; [`participant`] carries out one request at a
//! leader, and [`invariants`] says what it may never do; [`coordinator`] drives a commit from the gateway.

pub mod clock;
pub mod engine;
pub mod memory;
pub mod keys;
pub mod mvcc;
pub mod reads;
pub mod latches;
pub mod locks;
pub mod record;
pub mod participant;
pub mod invariants;
pub mod coordinator;

pub use engine::{Cursor, Engine, EngineError, Space, WriteBatch};
pub use memory::MemoryEngine;
