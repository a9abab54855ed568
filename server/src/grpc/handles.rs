//! Open transactions of the key-range API, by handle.
//!
//! A handle is random, so nobody guesses another one's. A transaction that is not used for the idle time is rolled back,
//! since its client may be gone without a word. Calls on one handle take turns.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as BlockingMutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tonic::Status;

use crate::edge::departure::{Departure, Stay};
use crate::kv::idempotency::Guard;
use crate::kv::{Kv, Transaction};

/// One open transaction.
pub struct Open {
    pub transaction: Box<dyn Transaction>,
    /// If it has an idempotency key.
    pub guard: Option<Guard>,
    /// Lets the node wait for its end.
    pub _stay: Stay,
}

/// It is taken out when it ends.
pub type Slot = Option<Open>;

/// Limits of the key-range API.
#[derive(Clone, Debug)]
pub struct HandleLimits {
    /// Transactions open at a time on one node.
    pub open_max: usize,
    /// How long a transaction may go unused before it is rolled back.
    pub idle_max: Duration,
}

impl Default for HandleLimits {
    fn default() -> HandleLimits {
        HandleLimits { open_max: 10_000, idle_max: Duration::from_secs(30) }
    }
}

/// The open transactions of one node.
pub struct Handles {
    kv: Arc<dyn Kv>,
    departure: Departure,
    limits: HandleLimits,
    open: BlockingMutex<BTreeMap<u128, Entry>>,
}

struct Entry {
    slot: Arc<Mutex<Slot>>,
    /// By [`Kv::monotonic`].
    used: Duration,
}

impl Handles {
    pub fn new(kv: Arc<dyn Kv>, departure: Departure, limits: HandleLimits) -> Handles {
        Handles { kv, departure, limits, open: BlockingMutex::new(BTreeMap::new()) }
    }

    /// Keeps a transaction, and names it.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` when too many are open.
    pub fn insert(&self, transaction: Open) -> Result<Vec<u8>, Status> {
        let (handle, used) = (self.kv.random(), self.kv.monotonic());
        let mut open = self.lock();
        if open.len() >= self.limits.open_max {
            let message = format!(
                "{} transactions are open on this node, which is the limit; end some, or wait {:?} for idle ones to \
                 expire",
                self.limits.open_max, self.limits.idle_max
            );
            return Err(Status::resource_exhausted(message));
        }
        open.insert(handle, Entry { slot: Arc::new(Mutex::new(Some(transaction))), used });
        Ok(handle.to_be_bytes().to_vec())
    }

    /// The transaction of a handle, for as long as the guard is held.
    ///
    /// # Errors
    /// `NOT_FOUND` for a handle that is unknown, ended or expired.
    pub async fn get(&self, handle: &[u8]) -> Result<OwnedMutexGuard<Slot>, Status> {
        let slot = {
            let mut open = self.lock();
            let entry = id(handle).and_then(|id| open.get_mut(&id)).ok_or_else(unknown)?;
            entry.used = self.kv.monotonic();
            entry.slot.clone()
        };
        let guard = slot.lock_owned().await;
        if guard.is_none() { Err(unknown()) } else { Ok(guard) }
    }

    /// Takes a transaction out, to end it.
    ///
    /// # Errors
    /// As [`Handles::get`].
    pub async fn take(&self, handle: &[u8]) -> Result<Open, Status> {
        let mut slot = self.get(handle).await?;
        if let Some(id) = id(handle) {
            self.lock().remove(&id);
        }
        slot.take().ok_or_else(unknown)
    }

    /// Rolls back, again and again, what has not been used for too long; at last all, when what is open is to be ended.
    pub async fn expire(&self) {
        let mut lasts = true;
        while lasts {
            let idle_max = tokio::select! {
                () = self.kv.sleep(self.limits.idle_max / 4) => Some(self.limits.idle_max),
                () = self.departure.ending() => None,
            };
            lasts = idle_max.is_some();
            for slot in self.remove_idle(idle_max) {
                // One that is in use right now was not idle after all; it ends with its last user.
                let open = slot.try_lock().ok().and_then(|mut slot| slot.take());
                if let Some(mut open) = open {
                    open.transaction.rollback().await;
                }
            }
        }
    }

    /// Takes out those that nobody uses, and has used for so long.
    fn remove_idle(&self, idle_max: Option<Duration>) -> Vec<Arc<Mutex<Slot>>> {
        let now = self.kv.monotonic();
        let is_idle = |entry: &Entry| {
            idle_max.is_none_or(|max| now.saturating_sub(entry.used) > max) && Arc::strong_count(&entry.slot) == 1
        };
        let mut open = self.lock();
        let idle: Vec<u128> = open.iter().filter(|(_, entry)| is_idle(entry)).map(|(&id, _)| id).collect();
        idle.iter().filter_map(|id| open.remove(id)).map(|entry| entry.slot).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u128, Entry>> {
        self.open.lock().expect("no one panics while holding this lock")
    }
}

fn id(handle: &[u8]) -> Option<u128> {
    handle.try_into().ok().map(u128::from_be_bytes)
}

fn unknown() -> Status {
    Status::not_found(
        "no transaction has this handle on this node: it has ended, or was rolled back after being idle for too long",
    )
}
