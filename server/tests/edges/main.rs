//! The edges on real sockets, over the SQL layer and an in-memory key-value layer: gRPC with our own driver, the
//! PostgreSQL protocol with tokio-postgres and, byte by byte, without any driver.

mod node;
mod departure;
mod grpc;
mod pgwire;
mod pgwire_bytes;
