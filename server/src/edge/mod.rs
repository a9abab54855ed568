//! What both edges, gRPC and the PostgreSQL protocol, need: turning a client's parameters into those of a statement.

pub mod parameter;
