//! The PostgreSQL protocol, version 3.
//!
//! psql, pgbench, and the drivers of most languages connect here. A connection is one task, which owns one
//! [`sql::Session`](crate::sql::Session) and does one thing after the other:
//!
//! ```text
//! startup    decline encryption, read the start-up parameters, greet     startup
//! message    Query                                                        simple
//!            Parse, Bind, Describe, Execute, Close, Sync                  extended
//! bytes      messages in and out, one row at a time into a buffer         wire, format, numeric
//! ```
//!
//! A statement that runs is dropped, and with it rolled back, when another connection brings a cancel request with the
//! right secret ([`cancel`]), and when the client goes away. A client that does not read what it asked for is waited
//! for: no more than one batch of rows and one output buffer are held for it.
//!
//! The messages between two Syncs are one implicit transaction, and so are the statements of one simple query
//! string, as in PostgreSQL. A portal that is read in parts (`Execute` with a row limit) holds its remaining rows in
//! memory, up to [`extended::SUSPENDED_BYTES_MAX`], so that other statements can run in between.
//!
//! Left out: encryption, authentication, `COPY`, `LISTEN`, and the function call message.

mod wire;
mod format;
mod numeric;
mod errors;
mod cancel;
mod startup;
mod backend;
mod simple;
mod extended;
mod connection;

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::edge::departure::Departure;
use crate::kv::Kv;
use crate::sql::Sql;
use cancel::Cancellations;

/// What the connections of a node share.
pub struct PgServer {
    sql: Arc<Sql>,
    kv: Arc<dyn Kv>,
    cancellations: Arc<Cancellations>,
    departure: Departure,
    /// One permit a connection.
    connections: Arc<Semaphore>,
}

impl PgServer {
    /// `connections_max` connections may be open at a time; more are refused with a clear error.
    pub fn new(sql: Arc<Sql>, kv: Arc<dyn Kv>, departure: Departure, connections_max: usize) -> PgServer {
        let connections = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        PgServer { sql, kv, cancellations: Arc::default(), departure, connections }
    }

    /// Serves connections until told to stop, which ends all of them.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let server = Arc::new(self);
        let mut tasks = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                // Those that have ended need no further thought.
                Some(_) = tasks.join_next() => continue,
                () = &mut shutdown => return Ok(()),
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Small answers are to leave at once; a connection for which that cannot be set works too.
                    let _ = stream.set_nodelay(true);
                    tasks.spawn(connection::serve(server.clone(), stream, peer));
                }
                // The client was gone before it was accepted, or we are short of file descriptors for the moment.
                Err(error) => {
                    tracing::warn!(%error, "a PostgreSQL connection could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
    }
}
