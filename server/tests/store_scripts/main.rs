//! Golden scripts of stores: three of them, wired by hand, on engines in memory and a clock that moves when told to.
//!
//! Each command ends when everything that it set off has come to rest: messages are delivered, frames synced. `cut` and `hold`
//! keep things from happening. Every request has a name, which comes back with its answer. Time is in milliseconds; it moves by ten with
//! each tick, and to where its clock was when a store that crashed begins again.
//!
//! ```text
//! tick n1 20            n1 ticks twenty times; `tick all` ticks every store that runs
//! write w1 n1 a=1       commits a transaction of one range, at n1; `later`: not taken further before the next command
//! read q1 n1 a [ts=50]  reads at n1, at its present or a timestamp
//! past q1 n2 a ts=50    reads at n2, whether it leads or not, what it knows to be closed
//! intent i1 n1 a=1      writes an intent at n1, at its present or `ts=`; `attempt=2`: the transaction tries again
//! split s1 n1 m id=2    makes m the first key of the new range r2; `pinned=1`: by an operator's wish
//! pin p1 n1 range=2 pinned=0             r2 may be merged with what lies left of it; `pinned=1`: not any more
//! freeze f1 n1 range=2 left=1            freezes r2, so that r1 can take it in
//! ready y1 n1 range=2 left=1 frozen-at=7 asks n1 whether its replicas of both are ready, as entry 7 froze r2
//! merge m1 n1 range=1 right=2 frozen-at=7 has r1 take in r2
//! advance v1 n1 range=1 / thaw h1 n1 range=2 frozen-at=7   r1 moves on / r2 serves again
//! epoch=1 range=1       with any request: what it believes; else what n1 knows
//! hlc=2000              with any request: what its sender's clock showed
//! cut n1 / join n1      messages to and from n1 are lost / pass again
//! hold n1 / release n1  nothing that n1 writes to its log is synced / everything is
//! hold n1 flushes / release n1 flushes   n1's engine is not flushed when the store asks for it / is again
//! crash n1 / start n1   n1 loses what was not synced or flushed / begins with what is left
//! flush n1              n1's engine is made durable, and the log cut behind it
//! nodes n1=draining     every store learns who the members are: the others are active
//! leave n1              n1 is about to stop: it hands over what it leads, and takes nothing
//! leisure 5             stores that begin from now on count one Raft tick in five where ranges are at leisure; else all
//! quiet 3000            in stores that begin from now on, ranges fall quiet after so many milliseconds
//! pieces 40 500         stores that begin from now on take in contents in pieces of 40 bytes, 500 bytes a second
//! sent                  how many Raft messages each store has sent since the last time
//! state                 what each replica is
//! data n1 [a]           the versions in n1's engine
//! agree                 whether all engines hold the same
//! ```
//!
//! In the output `⇨` is a change of state, `⇒` an answer to a client.

mod clock;
mod show;
mod world;
mod runner;

use std::path::Path;

test_each_file::test_each_path! { in "./server/scripts/store" as scripts => run }

fn run(path: &Path) {
    goldenscript::run(&mut runner::StoreRunner::default(), path).expect("the script runs as written");
}
