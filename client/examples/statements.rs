//! What it costs to learn the outcome of single statements: plain ones, settled ones and ones under an idempotency key, side by side.
//!
//! `cargo run --release -p meridian-client --example statements -- 127.0.0.1:7001,127.0.0.1:7002 [ranges]`
//!
//! The three kinds take turns in short phases, so that whatever else the machine does falls on all of them; what counts is the ratios.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::driver::Config;
use client::{Client, Error};

const PHASE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 6;

#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Settled,
    Keyed,
}

const KINDS: [(Kind, &str); 3] = [(Kind::Plain, "plain"), (Kind::Settled, "settled"), (Kind::Keyed, "under a key")];

struct Bench {
    plain: Client,
    settled: Client,
    next: AtomicU64,
}

impl Bench {
    async fn insert(&self, kind: Kind) -> Result<(), Error> {
        // An odd multiplier scatters the numbers over all ranges, and gives none twice.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1) as i64;
        let sql = "INSERT INTO statements VALUES ($1, $2)";
        match kind {
            Kind::Plain => self.plain.execute(sql, &[&id, &"some text"]).await?,
            Kind::Settled => self.settled.execute(sql, &[&id, &"some text"]).await?,
            Kind::Keyed => {
                let key = format!("statement {id:016x}");
                self.settled.with_idempotency_key(key).execute(sql, &[&id, &"some text"]).await?
            }
        };
        Ok(())
    }

    /// Statements, and the sum of their latencies.
    async fn phase(self: &Arc<Self>, kind: Kind, clients: usize) -> Result<(u64, Duration), Error> {
        let until = Instant::now() + PHASE;
        let tasks: Vec<_> = (0..clients)
            .map(|_| {
                let bench = self.clone();
                tokio::spawn(async move {
                    let (mut done, mut spent) = (0, Duration::ZERO);
                    while Instant::now() < until {
                        let began = Instant::now();
                        bench.insert(kind).await?;
                        spent += began.elapsed();
                        done += 1;
                    }
                    Ok::<_, Error>((done, spent))
                })
            })
            .collect();
        let mut all = (0, Duration::ZERO);
        for task in tasks {
            let (done, spent) = task.await.map_err(Error::application)??;
            all = (all.0 + done, all.1 + spent);
        }
        Ok(all)
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let addresses = args.next().unwrap_or_else(|| "127.0.0.1:7250".into());
    let ranges: i64 = args.next().and_then(|n| n.parse().ok()).unwrap_or(4);
    let config = |settle_statements| {
        let config = Config::new(&addresses)?;
        Ok::<_, Error>(Config { settle_statements, sessions_max: 64, ..config })
    };
    let plain = Client::with_config(config(false)?).await?;
    let settled = Client::with_config(config(true)?).await?;
    plain.execute("DROP TABLE IF EXISTS statements", &[]).await?;
    plain.execute("CREATE TABLE statements (id INT8 PRIMARY KEY, data TEXT)", &[]).await?;
    for range in 1..ranges {
        let at = i64::MAX / ranges * range;
        plain.execute(&format!("ALTER TABLE statements SPLIT AT VALUES ({at})"), &[]).await?;
    }
    let bench = Arc::new(Bench { plain, settled, next: AtomicU64::new(1) });
    for clients in [1, 32] {
        let mut totals = [(0, Duration::ZERO); KINDS.len()];
        for _ in 0..ROUNDS {
            for (total, (kind, _)) in totals.iter_mut().zip(KINDS) {
                let (done, spent) = bench.phase(kind, clients).await?;
                *total = (total.0 + done, total.1 + spent);
            }
        }
        println!("{clients} clients, {ranges} ranges:");
        for ((done, spent), (_, name)) in totals.iter().zip(KINDS) {
            let mean = |(done, spent): (u64, Duration)| spent.as_secs_f64() / done.max(1) as f64;
            let per_second = *done as f64 / (PHASE.as_secs_f64() * ROUNDS as f64);
            println!(
                "  {name:12} {per_second:8.0}/s ({:.2} of plain)   mean {:6.2} ms ({:.2} of plain)",
                *done as f64 / totals[0].0.max(1) as f64,
                mean((*done, *spent)) * 1e3,
                mean((*done, *spent)) / mean(totals[0]),
            );
        }
    }
    Ok(())
}
