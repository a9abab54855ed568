//! `meridian start` and `meridian init`.

use std::process::ExitCode;

use proto::v1::InitRequest;
use proto::v1::admin_client::AdminClient;
use tokio::signal::unix::{SignalKind, signal};

use super::args::StartArgs;
use super::fail;
use crate::config::Knobs;
use crate::node::{Node, NodeConfig};

/// Runs a node until it is told to stop.
pub async fn run(args: StartArgs) -> ExitCode {
    let config = NodeConfig {
        clock: args.clock(),
        store: args.store,
        listen: args.listen,
        advertise: args.advertise,
        join: args.join.into_iter().filter(|address| !address.is_empty()).collect(),
        pg_listen: args.pg_listen,
        http_listen: args.http_listen,
        locality: args.locality,
        knobs: args.placement.apply(Knobs { idempotency_retention: args.idempotency_retention, ..Knobs::default() }),
    };
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else { return fail("signals cannot be received") };
    let mut node = match Node::start(config).await {
        Ok(node) => node,
        Err(why) => return fail(&why),
    };
    println!("listening on {}", node.address);
    tokio::select! {
        biased;
        why = node.failed() => {
            eprintln!("meridian: {why}");
            return ExitCode::from(1);
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    // A second signal ends it at once: what was acknowledged is on disk in any case.
    tokio::select! {
        biased;
        () = node.stop() => ExitCode::SUCCESS,
        _ = terminate.recv() => ExitCode::from(1),
        _ = interrupt.recv() => ExitCode::from(1),
    }
}

/// Makes a cluster.
pub async fn init(address: &str) -> ExitCode {
    let mut client = match AdminClient::connect(format!("http://{address}")).await {
        Ok(client) => client,
        Err(e) => {
            let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            return fail(&format!("no node answers at {address}: {cause}"));
        }
    };
    match client.init(InitRequest {}).await {
        Ok(response) => {
            println!("cluster {} is initialised", response.into_inner().cluster_id);
            ExitCode::SUCCESS
        }
        Err(status) => {
            eprintln!("meridian: {}", status.message());
            ExitCode::from(1)
        }
    }
}
