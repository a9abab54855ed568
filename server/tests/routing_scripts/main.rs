//! Golden scripts of routing: a gateway, as it is, and nodes that answer as stores do, though nothing is replicated.
//!
//! Every letter is a row. Ranges change by command, in an instant; who has not heard of it (the meta range, a node that is behind, the gateway) goes on
//! with what it knows. Time passes only where the gateway waits.
//!
//! ```text
//! range r2 start..m n1/n2/n3      a range comes into being, led by the first of its nodes, and is published
//! gateway n1                      a gateway at n1 that has asked nothing yet and knows what is published by now
//! split r2 at=f right=r5          r2 is split, and both are published; `unpublished`: neither is
//! merge r2 r5                     r2 takes in r5, which lies right of it; `unpublished`
//! move r2 from=n1 to=n4           a replica moves, and with it the leadership if it led; `unpublished`
//! lead r2 n3                      another replica leads; `nobody`: none does
//! publish r2                      the meta range has it as it is
//! behind n3 / abreast n3          n3 does not learn what becomes of ranges / knows it all again
//! silent n2 / answering n2        n2 does not answer / does
//! lost n2 / back n2               the gateway loses its connection to n2 / hears from n2
//! read f                          reads a row
//! scan b..k                       scans rows; `page=3`: at most so many at a time
//! known                           the ranges that the gateway knows, and who leads them
//! ```
//!
//! In the output `→` is a question to a node and what it answers, `⇒` what comes of the command, and how long the gateway waited.

#[allow(dead_code)] // What else it can is for the scripts of stores.
#[path = "../store_scripts/clock.rs"]
mod clock;
mod env;
mod cluster;
mod runner;

use std::path::Path;

test_each_file::test_each_path! { in "./server/scripts/routing" as scripts => run }

fn run(path: &Path) {
    goldenscript::run(&mut runner::RoutingRunner::default(), path).expect("the script runs as written");
}
