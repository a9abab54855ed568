//! Runs asynchronous code under simulated time.
//!
//! Tasks belong to a node and die with it. Among the tasks that are ready the seed chooses, so that interleavings differ from
//! seed to seed and never within one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;

use super::rng::Rng;

/// A task's number, unique in a run.
pub type TaskId = u64;

#[derive(Default)]
struct Ready(Mutex<BTreeSet<TaskId>>);

struct TaskWaker {
    task: TaskId,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.0.lock().expect("no holder of this lock panics").insert(self.task);
    }
}

struct Task {
    node: usize,
    future: BoxFuture<'static, ()>,
}

/// See the module.
pub struct Executor {
    tasks: BTreeMap<TaskId, Task>,
    ready: Arc<Ready>,
    next: TaskId,
    rng: Rng,
}

impl Executor {
    pub fn new(rng: Rng) -> Executor {
        Executor { tasks: BTreeMap::new(), ready: Arc::default(), next: 0, rng }
    }

    pub fn spawn(&mut self, node: usize, future: BoxFuture<'static, ()>) {
        self.next += 1;
        self.tasks.insert(self.next, Task { node, future });
        self.ready.0.lock().expect("no holder of this lock panics").insert(self.next);
    }

    /// A node's process is gone, and its tasks with it.
    pub fn kill(&mut self, node: usize) {
        // Dropped in order of their numbers, and not while iterating: a drop may wake others.
        let doomed: Vec<TaskId> = self.tasks.iter().filter(|(_, t)| t.node == node).map(|(id, _)| *id).collect();
        for id in doomed {
            self.tasks.remove(&id);
        }
    }

    /// Polls one ready task of a node that `runs`, if there is one. Returns its number.
    pub fn run_one(&mut self, runs: impl Fn(usize) -> bool) -> Option<TaskId> {
        let id = {
            let mut ready = self.ready.0.lock().expect("no holder of this lock panics");
            let able: Vec<TaskId> =
                ready.iter().filter(|id| self.tasks.get(id).is_none_or(|task| runs(task.node))).copied().collect();
            let id = *able.get(self.rng.below(able.len() as u64) as usize)?;
            ready.remove(&id);
            id
        };
        let Some(mut task) = self.tasks.remove(&id) else { return Some(id) };
        let waker = Waker::from(Arc::new(TaskWaker { task: id, ready: self.ready.clone() }));
        match task.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => {}
            Poll::Pending => {
                self.tasks.insert(id, task);
            }
        }
        Some(id)
    }

    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }
}
