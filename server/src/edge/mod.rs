//! What both edges, gRPC and the PostgreSQL protocol, need: turning a client's parameters into those of a statement,
//! saying what became of a statement that was cancelled, and letting clients go before the node stops.

pub mod cancellation;
pub mod departure;
pub mod parameter;
