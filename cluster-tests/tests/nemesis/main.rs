//! Real processes under a nemesis: three nodes, killed, frozen, cut off, out of disk, and with clocks that jump, while clients move
//! money and append to lists. What the clients saw is judged by the simulator's checkers.
//!
//! `NEMESIS_SECONDS` makes it longer, `NEMESIS_SEED` draws other misfortunes; `make soak` does both.

mod bank;
mod clients;
mod cluster;
mod lists;
mod misfortune;
mod proxy;
mod small_disk;

use std::time::{Duration, Instant};

use cluster::Cluster;
use misfortune::Misfortune;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_see_nothing_wrong_whatever_befalls_the_nodes() {
    let mut cluster = Cluster::start().await;
    let began = Instant::now();
    let bank = bank::Bank::open(&cluster.addresses()).await;
    let lists = lists::Lists::open(&cluster.addresses()).await;
    let clients: Vec<_> = bank.clients().into_iter().chain(lists.clients()).map(tokio::spawn).collect();
    let mut dice = misfortune::Dice::new(from_environment("NEMESIS_SEED").unwrap_or(1));
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Each kind once; then, in a long run, whatever the dice say.
    let mut plan = Misfortune::each(&mut dice);
    let until = began + Duration::from_secs(from_environment("NEMESIS_SECONDS").unwrap_or(0));
    loop {
        let Some(next) = plan.pop() else {
            if Instant::now() >= until {
                break;
            }
            plan.push(Misfortune::draw(&mut dice));
            continue;
        };
        let committed = bank.committed() + lists.committed();
        println!("{:>6.1} s  {committed} committed; {next:?}", began.elapsed().as_secs_f64());
        next.befall(&mut cluster).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    cluster.heal().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    bank.stop();
    lists.stop();
    for client in clients {
        client.await.expect("no client panics");
    }
    let (bank, lists) = (bank.judge().await, lists.judge().await);
    println!("{bank}\n{lists}");
    assert!(bank.found.is_empty() && lists.found.is_empty(), "{:#?}\n{:#?}", bank.found, lists.found);
    assert!(bank.committed > 100 && lists.committed > 100, "hardly anything was done");
}
