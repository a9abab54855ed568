//! Tasks, timers and dice of a production node: tokio's, and the operating system's seed.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::env::{Clock, Env};

/// See the module.
pub struct TokioEnv {
    runtime: Handle,
    clock: Arc<dyn Clock>,
    stopped: CancellationToken,
    seed: RandomState,
    draws: AtomicU64,
}

impl TokioEnv {
    /// An environment whose tasks end when `stopped` is cancelled.
    pub fn new(runtime: Handle, clock: Arc<dyn Clock>, stopped: CancellationToken) -> TokioEnv {
        TokioEnv { runtime, clock, stopped, seed: RandomState::new(), draws: AtomicU64::new(0) }
    }
}

impl Env for TokioEnv {
    fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let stopped = self.stopped.clone();
        self.runtime.spawn(async move {
            let _ = stopped.run_until_cancelled(task).await;
        });
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn random(&self) -> u64 {
        // SipHash under the process's random key: unpredictable enough for ids, and no lock.
        let mut hasher = self.seed.build_hasher();
        hasher.write_u64(self.draws.fetch_add(1, Ordering::Relaxed));
        hasher.finish()
    }
}
