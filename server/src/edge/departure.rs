//! How clients come off a node that is about to stop.
//!
//! At first the node takes up nothing new. Whoever asks is refused and knows that nothing was done; sessions without an open transaction are
//! ended, whatever they have sent that was not begun. Open transactions go on to their ends. Those that do not come to one in time are
//! rolled back, unless they are committing. So no transaction is left lying about whose locks others would wait for
//! until it expires, and a client that runs again what was refused notices nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::sql::error::state;
use crate::sql::{CommitWatch, Error};

/// How long transactions that were rolled back in the end may take for that, and commits to be answered.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Whether a node is about to stop, and who is still to be waited for. Clones are of the same node.
#[derive(Clone, Default)]
pub struct Departure(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Nothing new is taken up.
    leaving: CancellationToken,
    /// What is open is ended.
    ending: CancellationToken,
    present: TaskTracker,
}

/// A session, a transaction or a statement that is waited for.
pub struct Stay {
    _token: TaskTrackerToken,
}

impl Departure {
    /// To be called before anything is begun, and held as long as it lasts.
    ///
    /// # Errors
    /// [`error`] when the node takes up nothing any more.
    pub fn enter(&self) -> Result<Stay, Error> {
        // Counted first: whoever is not seen by the one who waits sees that it is too late.
        let stay = Stay { _token: self.0.present.token() };
        if self.0.leaving.is_cancelled() { Err(error()) } else { Ok(stay) }
    }

    /// Waits until nothing new is to be taken up.
    pub async fn leaving(&self) {
        self.0.leaving.cancelled().await;
    }

    /// Waits until what is open is to be ended.
    pub async fn ending(&self) {
        self.0.ending.cancelled().await;
    }

    /// Waits until what runs is to be dropped, so that it has had no effect: never, if a commit has begun when what is open is ended.
    pub async fn ending_unless(&self, commit: &CommitWatch) {
        self.ending().await;
        if commit.has_begun() {
            std::future::pending().await
        }
    }

    /// Has everybody leave: open transactions get so much time for it.
    pub async fn clear(&self, patience: Duration) {
        self.0.leaving.cancel();
        self.0.present.close();
        if tokio::time::timeout(patience, self.0.present.wait()).await.is_err() {
            tracing::info!(open = self.0.present.len(), "transactions that have not ended are rolled back");
        }
        self.0.ending.cancel();
        // What is not gone by then goes with its connection.
        let _ = tokio::time::timeout(LAST_WORDS, self.0.present.wait()).await;
    }
}

/// The error for work that was not begun, or was rolled back. It has had no effect.
pub fn error() -> Error {
    Error::new(state::ADMIN_SHUTDOWN, "the node is about to stop: what it has not answered has had no effect")
        .hint("Run it again on another node.")
}

/// The error for those who would connect.
pub fn refusal() -> Error {
    Error::new(state::CANNOT_CONNECT_NOW, "the node is about to stop").hint("Connect to another node.")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::sql::testing::MemoryKv;
    use crate::sql::{Limits, SessionOptions, Sql};

    fn with_somebody() -> (Departure, Stay) {
        let departure = Departure::default();
        let stay = departure.enter().unwrap_or_else(|e| panic!("{e}"));
        (departure, stay)
    }

    #[tokio::test]
    async fn who_is_there_is_waited_for_and_nobody_enters_any_more() {
        let (departure, stay) = with_somebody();
        let clearing = tokio::spawn({
            let departure = departure.clone();
            async move { departure.clear(Duration::from_secs(3600)).await }
        });
        departure.leaving().await;
        assert!(departure.enter().is_err_and(|error| error.sqlstate == "57P01"));
        assert!(!clearing.is_finished());
        drop(stay);
        clearing.await.unwrap();
    }

    #[tokio::test]
    async fn who_does_not_go_is_told_to_end() {
        let (departure, stay) = with_somebody();
        let ended = tokio::spawn({
            let departure = departure.clone();
            async move {
                departure.ending().await;
                drop(stay);
            }
        });
        departure.clear(Duration::from_millis(1)).await;
        ended.await.unwrap();
    }
    #[tokio::test]
    async fn what_has_begun_to_commit_is_not_said_to_have_had_no_effect() {
        let sql = Sql::new(Arc::new(MemoryKv::default()), Limits::default());
        let mut session = sql.session(SessionOptions::default());
        let mut run = async |text: &str| {
            let watch = session.commit_watch();
            for statement in session.parse(text).unwrap() {
                let prepared = session.prepare(&statement, &[]).await.unwrap();
                session.execute(&prepared, Vec::new()).await.unwrap().collect().await.unwrap();
            }
            watch
        };
        run("CREATE TABLE t (a INT PRIMARY KEY)").await;
        let departure = Departure::default();
        departure.clear(Duration::ZERO).await;
        let watch = run("BEGIN; INSERT INTO t VALUES (1); ROLLBACK").await;
        assert!(departure.ending_unless(&watch).now_or_never().is_some());
        let watch = run("INSERT INTO t VALUES (1)").await;
        assert!(departure.ending_unless(&watch).now_or_never().is_none());
    }
}
