//! Golden scripts of the transaction protocol: small worlds, told step by step.
//!
//! * `txn/scripts/mvcc`: one engine; reads and validations by hand ([`mvcc`]).
//! * `txn/scripts/participant`: one leader, and the requests that it evaluates ([`participant`]).
//! * `txn/scripts/commit`: one coordinator, and what it makes of events ([`commit`]).
//!
//! A timestamp is written `10` or `10.2`: microseconds, and the counter within the microsecond. A span is written `a..c`, a
//! deletion `nil`. In the output `⇨` marks a change of state, `→` a wish, `⇒` an answer.

mod words;
mod mvcc;
mod participant;
mod commit;

use std::path::Path;

test_each_file::test_each_path! { in "./txn/scripts/mvcc" as mvcc_scripts => run_mvcc }
test_each_file::test_each_path! { in "./txn/scripts/participant" as participant_scripts => run_participant }
test_each_file::test_each_path! { in "./txn/scripts/commit" as commit_scripts => run_commit }

fn run_mvcc(path: &Path) {
    goldenscript::run(&mut mvcc::MvccRunner::default(), path).expect("the script runs as written");
}

fn run_participant(path: &Path) {
    goldenscript::run(&mut participant::ParticipantRunner::default(), path).expect("the script runs as written");
}

fn run_commit(path: &Path) {
    goldenscript::run(&mut commit::CommitRunner::default(), path).expect("the script runs as written");
}
