//! What both edges, gRPC and the PostgreSQL protocol, need: turning a client's parameters into those of a statement, and
//! saying what became of a statement that was cancelled.

pub mod cancellation;
pub mod parameter;
