//! The command line.
//!
//! Exit codes: 0 when all went well, 1 when the work failed (an SQL error in a script, a violation found by the benchmark, a
//! node that cannot go on), 2 when it could not begin (a wrong flag, an address in use, an unreachable server).

pub mod args;
pub mod placement_args;
pub mod start;
pub mod node;
pub mod recover;
pub mod verify;
pub mod scratch;
pub mod demo;
pub mod bench;

use std::process::ExitCode;

use clap::Parser;

use self::args::{Args, Command};

/// Prints what kept the work from beginning, in one line.
fn fail(why: &str) -> ExitCode {
    eprintln!("meridian: {why}");
    ExitCode::from(2)
}

/// Runs the command.
pub fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(why) = crate::telemetry::start(&args.log, args.log_format) {
        return fail(&why);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("no threads to run on: {e}")),
    };
    let code = runtime.block_on(async move {
        match args.command {
            Command::Start(start) => start::run(start).await,
            Command::Init { addr } => start::init(&addr).await,
            Command::Node(node) => node::run(node).await,
            Command::Recover(recover) => recover::run(recover).await,
            Command::Demo(demo) => demo::run(demo).await,
            Command::Sql(sql) => sql::run(sql).await,
            Command::Bench(bench) => bench::run(bench).await,
        }
    });
    // Tasks that block on a terminal shall not keep the process.
    runtime.shutdown_background();
    code
}

/// `meridian sql`.
mod sql {
    use std::process::ExitCode;

    use super::args::SqlArgs;

    pub async fn run(args: SqlArgs) -> ExitCode {
        client::shell::run(args.into_options()).await.into()
    }
}
