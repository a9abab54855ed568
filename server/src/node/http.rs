//! Health and metrics over HTTP: `/healthz`, `/readyz`, `/metrics` (Prometheus's text format).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::core::Core;
use super::server::Shared;
use crate::env::Bound;

/// Serves until the node is stopped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shared);
    let end = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
        tracing::error!(%error, "the HTTP server has ended");
    }
}

/// Ready: part of a cluster, and nothing here has stopped.
async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let Some(core) = shared.core.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "not part of a cluster yet\n".to_string());
    };
    let standing = core.clock.standing();
    if standing.doubt.is_some() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("the clock is {standing}\n"));
    }
    match core.picture().await {
        picture if picture.stopped > 0 => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{} replicas have stopped\n", picture.stopped))
        }
        _ => (StatusCode::OK, "ready\n".to_string()),
    }
}

/// What the node counts, by the names under which the metrics show it.
pub(super) async fn counters(core: &Core) -> BTreeMap<String, u64> {
    let picture = core.picture().await;
    let gateway = core.db.stats();
    let mut counters = BTreeMap::from([
        ("commits_total", gateway.commits),
        ("transactions_unknown_total", gateway.unknown),
        ("transactions_recovered_total", gateway.recoveries),
        ("near_reads_total", gateway.near_reads),
        ("near_reads_refused_total", gateway.near_refusals),
        ("past_reads_served_total", picture.stats.counts.past_reads),
        ("commit_queue_microseconds_total", gateway.queue_us),
        ("commit_replication_microseconds_total", gateway.replication_us),
        ("commit_clock_wait_microseconds_total", gateway.clock_wait_us),
        ("commands_applied_total", picture.stats.counts.commands_applied),
        ("elections_won_total", picture.stats.counts.elections_won),
        ("range_ticks_total", picture.stats.group_ticks),
        ("raft_messages_total", picture.stats.raft_messages),
        ("messages_refused_total", picture.stats.refused_messages),
        ("disk_stalled_ticks_total", picture.stats.stalled_ticks),
        ("log_syncs_total", core.disk.log_syncs.load(Ordering::Relaxed)),
        ("log_sync_microseconds_total", core.disk.log_sync_micros.load(Ordering::Relaxed)),
        ("engine_flushes_total", core.disk.engine_flushes.load(Ordering::Relaxed)),
    ])
    .into_iter()
    .map(|(name, value)| (name.to_string(), value))
    .collect::<BTreeMap<String, u64>>();
    for (reason, count) in gateway.retries {
        counters.insert(format!("retries_{reason}_total"), count);
    }
    counters
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut text = String::new();
    if let Some(core) = shared.core.get() {
        for (name, value) in shared.counters().await {
            // Retries are one metric with a label.
            match name.strip_prefix("retries_").and_then(|n| n.strip_suffix("_total")) {
                Some(reason) => line(&mut text, &format!("meridian_retries_total{{reason=\"{reason}\"}}"), value),
                None => line(&mut text, &format!("meridian_{name}"), value),
            }
        }
        let picture = core.picture().await;
        for (name, value) in [
            ("ranges", picture.ranges),
            ("ranges_led", picture.leads),
            ("ranges_stopped", picture.stopped),
            ("raft_log_bytes", picture.log_bytes),
        ] {
            line(&mut text, &format!("meridian_{name}"), value as u64);
        }
        let Bound { error, source, .. } = core.clock.bound();
        let error = error.as_secs_f64();
        let _ = writeln!(text, "meridian_clock_error_seconds_max{{source=\"{source}\"}} {error}");
        line(&mut text, "meridian_clock_confirmed", u64::from(core.clock.standing().doubt.is_none()));
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

fn line(text: &mut String, name: &str, value: u64) {
    let family = name.split('{').next().unwrap_or(name);
    let kind = if family.ends_with("_total") { "counter" } else { "gauge" };
    let declared = format!("# TYPE {family} {kind}\n");
    // Writing to a string does not fail.
    let _ = match text.contains(&declared) {
        true => writeln!(text, "{name} {value}"),
        false => writeln!(text, "{declared}{name} {value}"),
    };
}
