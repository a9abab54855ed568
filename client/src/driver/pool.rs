//! The sessions of a client: opened when needed, kept when given back in order.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{Error, Result};
use super::nodes::Nodes;
use super::{Config, Session};

pub(super) struct Pool {
    pub config: Config,
    pub nodes: Nodes,
    /// One permit a session that is in use.
    permits: Arc<Semaphore>,
    /// Sessions that are not in use; the last one given back is the first one taken.
    idle: Mutex<Vec<Session>>,
}

impl Pool {
    pub fn new(config: Config) -> Result<Pool> {
        let nodes = Nodes::new(&config)?;
        let permits = Arc::new(Semaphore::new(config.sessions_max.max(1)));
        Ok(Pool { config, nodes, permits, idle: Mutex::new(Vec::new()) })
    }

    /// A session nobody else uses: an idle one, or a new one.
    pub async fn take(self: &Arc<Self>) -> Result<PooledSession> {
        let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let session = match self.pop_idle() {
            Some(session) => session,
            None => self.open().await?,
        };
        Ok(PooledSession { session: Some(session), pool: self.clone(), _permit: permit })
    }

    /// Opens a session on the first node that lets it.
    pub async fn open(&self) -> Result<Session> {
        let mut failures = Vec::new();
        for node in self.nodes.in_turn() {
            let opening = Session::open(self.nodes.address(node), self.nodes.channel(node), &self.config);
            let opened = match tokio::time::timeout(self.config.connect_timeout, opening).await {
                Ok(opened) => opened,
                Err(_) => Err(Error::connection(format!("no answer within {:?}", self.config.connect_timeout))),
            };
            match opened {
                Ok(session) => {
                    self.nodes.mark_up(node);
                    return Ok(session);
                }
                Err(error) if !error.retryable() => return Err(error),
                Err(error) => {
                    self.nodes.mark_down(node);
                    failures.push((node, error.message().to_string()));
                }
            }
        }
        Err(self.nodes.unreachable(&failures))
    }

    fn pop_idle(&self) -> Option<Session> {
        loop {
            let mut session = self.lock().pop()?;
            if session.is_reusable() {
                return Some(session);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().expect("no one panics while holding this lock")
    }
}

/// A session that goes back to its pool when dropped, or ends if it is not in order.
pub(super) struct PooledSession {
    /// Always there until it is dropped.
    session: Option<Session>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl PooledSession {
    pub fn pool(&self) -> Arc<Pool> {
        self.pool.clone()
    }
}

impl Deref for PooledSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session.as_ref().expect("a pooled session is there until it is dropped")
    }
}

impl DerefMut for PooledSession {
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("a pooled session is there until it is dropped")
    }
}

impl Drop for PooledSession {
    fn drop(&mut self) {
        if let Some(mut session) = self.session.take()
            && session.is_reusable()
        {
            self.pool.lock().push(session);
        }
    }
}
