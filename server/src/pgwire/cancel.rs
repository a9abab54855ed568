//! Who may cancel whose statement: a process number and a secret, which each client is told when it connects.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

/// The connections of a node, by process number.
#[derive(Default)]
pub struct Cancellations {
    connections: Mutex<BTreeMap<i32, (i32, Arc<Notify>)>>,
}

/// A connection's entry, removed when dropped.
pub struct Registration {
    pub pid: i32,
    pub secret: i32,
    /// Told when the running statement is to stop. A statement has to be waiting for it already.
    pub cancelled: Arc<Notify>,
    all: Arc<Cancellations>,
}

impl Cancellations {
    /// Enters a connection under its process number. Numbers come round after two thousand million connections; a
    /// connection that has lived so long can then no longer be cancelled.
    pub fn register(self: &Arc<Self>, pid: i32, secret: i32) -> Registration {
        let cancelled = Arc::new(Notify::new());
        self.lock().insert(pid, (secret, cancelled.clone()));
        Registration { pid, secret, cancelled, all: self.clone() }
    }

    /// Stops the statement of a connection, if the secret is right and one is running.
    pub fn cancel(&self, pid: i32, secret: i32) {
        if let Some((expected, cancelled)) = self.lock().get(&pid)
            && *expected == secret
        {
            cancelled.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, (i32, Arc<Notify>)>> {
        self.connections.lock().expect("no one panics while holding this lock")
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.all.lock().remove(&self.pid);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn only_the_right_secret_stops_a_running_statement() {
        let all = Arc::new(Cancellations::default());
        let one = all.register(7, 9);
        let two = all.register(8, 10);
        // Nothing runs: the request is lost.
        all.cancel(7, 9);
        let mut running = Box::pin(one.cancelled.notified());
        assert!(running.as_mut().now_or_never().is_none());
        all.cancel(7, 10);
        all.cancel(8, 9);
        assert!(running.as_mut().now_or_never().is_none());
        all.cancel(7, 9);
        assert!(running.as_mut().now_or_never().is_some());
        drop(two);
        assert_eq!(all.lock().len(), 1);
    }
}
