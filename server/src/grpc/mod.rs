//! The gRPC API: SQL sessions, transactions over keys, and administration, as `proto/proto/meridian/v1` describes them.
//!
//! Generated types come in here and are turned into our own at once ([`convert`]); errors go out in one place
//! ([`status`]). A SQL session is one task that owns one [`sql::Session`](crate::sql::Session) ([`session`]). Answers
//! go through a bounded channel, so a client that does not read stops its own statement and nothing else. Beside our own
//! services stand gRPC's health check and reflection, so that `grpcurl` and load balancers find their way.
//!
//! Left out: encryption and authentication.

mod convert;
mod status;
mod session;
mod sql;
mod handles;
mod key_work;
mod key_range;
mod admin;

use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use proto::v1::admin_server::AdminServer;
use proto::v1::key_range_server::KeyRangeServer;
use proto::v1::sql_server::SqlServer;
use tonic::transport::server::Router;

use crate::edge::departure::Departure;
use crate::kv::Kv;
use crate::sql::{Limits, Sql};

pub use admin::{AdminBackend, InitError, NodeStatus};
pub use handles::HandleLimits;

/// The longest message that a client may send.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What may be on its way on one stream, and on one connection, before the receiver has read on.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// How often a silent connection is asked for a sign of life, and how long that may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the API is served from.
pub struct GrpcApi {
    pub sql: Arc<Sql>,
    pub kv: Arc<dyn Kv>,
    pub backend: Arc<dyn AdminBackend>,
    pub sql_limits: Limits,
    pub handle_limits: HandleLimits,
    pub departure: Departure,
}

impl GrpcApi {
    /// The services, ready to be served; others can be added. Must be called within a tokio runtime, for tasks in the background.
    pub async fn router(self) -> Router {
        let departure = self.departure;
        let handles = Arc::new(handles::Handles::new(self.kv.clone(), departure.clone(), self.handle_limits));
        let expiring = handles.clone();
        tokio::spawn(async move { expiring.expire().await });
        let sql =
            SqlServer::new(sql::SqlService::new(self.sql, self.kv.clone(), self.backend.clone(), departure.clone()))
                .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let key_range = KeyRangeServer::new(key_range::KeyRangeService::new(
            self.kv.clone(),
            handles,
            departure.clone(),
            self.sql_limits.idempotency_bytes_max,
        ))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
        let admin = AdminServer::new(admin::AdminService::new(self.kv, self.sql_limits, self.backend));
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<SqlServer<sql::SqlService>>().await;
        reporter.set_serving::<KeyRangeServer<key_range::KeyRangeService>>().await;
        tokio::spawn(async move {
            departure.leaving().await;
            reporter.set_not_serving::<SqlServer<sql::SqlService>>().await;
            reporter.set_not_serving::<KeyRangeServer<key_range::KeyRangeService>>().await;
        });
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .tcp_nodelay(true)
            .add_service(health)
            .add_service(reflection().build_v1().expect("the generated descriptors are valid"))
            .add_service(reflection().build_v1alpha().expect("the generated descriptors are valid"))
            .add_service(sql)
            .add_service(key_range)
            .add_service(admin)
    }
}
