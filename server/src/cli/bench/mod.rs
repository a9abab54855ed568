//! `meridian bench`.

mod fleet;
mod median;
mod pace;
mod idle;
mod idle_table;
mod restart;
mod spread;
mod split;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use client::bench::bank::{self, BankOptions};

use super::args::{BankArgs, BenchArgs};
use super::fail;

pub async fn run(args: BenchArgs) -> ExitCode {
    match args {
        BenchArgs::Bank(bank) => run_bank(bank.into_options()).await,
        BenchArgs::Idle(args) => print(idle::run(args).await),
        BenchArgs::Restart(args) => print(restart::run(args).await),
        BenchArgs::Spread(args) => print(spread::run(args).await),
        BenchArgs::Split(args) => print(split::run(args).await),
    }
}

fn print(result: Result<String, String>) -> ExitCode {
    match result {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(why) => fail(&format!("the benchmark could not be carried out: {why}")),
    }
}

impl BankArgs {
    fn into_options(self) -> BankOptions {
        BankOptions {
            accounts: self.accounts,
            clients: self.clients,
            duration: self.duration,
            ranges: self.ranges,
            skew: self.skew,
            json: self.json,
            ..BankOptions::new(self.addr)
        }
    }
}

/// The benchmark's defaults, on some nodes, for some time.
pub fn bank_options(addresses: String, duration: Duration) -> BankOptions {
    BankOptions { duration, ..BankOptions::new(addresses) }
}

/// Runs the bank and prints its report.
pub async fn run_bank(options: BankOptions) -> ExitCode {
    let options = BankOptions { progress: true, ..options };
    match bank::run(options).await {
        Ok(report) => {
            if std::io::stdout().is_terminal() {
                println!();
            }
            println!("{report}");
            ExitCode::from(report.exit_code())
        }
        Err(error) => fail(&format!("the benchmark could not be carried out: {error}")),
    }
}
