//! The words that Meridian's parts say to each other.
//!
//! This crate holds data and its encodings, and no behaviour beyond them: [`Timestamp`]s, ids, [`Key`]s and
//! [`Span`]s, [`RangeDescriptor`]s, the [`request`]s that a gateway sends to a range and the
//! [`message`]s that nodes exchange. SQL values are [`Datum`]s. The public gRPC API is generated
//! from `proto/meridian/v1` into [`v1`]; generated types stay at the edges of the server and in the
//! driver.
//!
//! Internal messages and disk records are encoded as CBOR with numbered fields (see [`codec`]): each
//! variant and field has a stable number, an unknown optional field is skipped, and a new one is optional.

pub mod timestamp;
pub mod clock;
pub mod id;
pub mod key;
pub mod keyspace;
pub mod codec;
pub mod datum;
pub mod locality;
pub mod placement;
pub mod descriptor;
pub mod member;
pub mod transaction;
pub mod range;
pub mod report;
pub mod request;
pub mod message;
pub mod v1;

pub use datum::{DataType, Datum, InputError};
pub use descriptor::{NodeDescriptor, RangeDescriptor, ReplicaDescriptor, ReplicaRole};
pub use id::{ClusterId, Epoch, NodeId, RangeId, ReplicaId, StoreId, TxnId};
pub use key::{Key, Span, Value};
pub use locality::Locality;
pub use member::{NodeRecord, NodeRun, NodeState};
pub use placement::PlacementRules;
pub use timestamp::Timestamp;
