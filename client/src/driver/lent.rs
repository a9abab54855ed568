//! A transaction that is lent to the body of a retry loop.
//!
//! The body gets it by value, which spares it the lifetimes of a borrow: a future that borrows its argument cannot be
//! shown to be `Send` for a spawned task. When the body lets go of it, it is given back, to be committed or rolled back.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

use super::error::{Error, Result};

/// A transaction on loan. It can be used, but neither committed nor rolled back: that is for the lender.
pub struct Lent<T> {
    /// Always there until it is dropped.
    thing: Option<T>,
    home: Arc<Mutex<Option<T>>>,
}

/// Lends something for some work. Returns it with the work's result.
///
/// # Errors
/// When the work has not given it back.
pub(super) async fn lend_to<T, R, F>(thing: T, mut work: impl FnMut(Lent<T>) -> F) -> Result<(T, Result<R>)>
where
    F: Future<Output = Result<R>>,
{
    let home = Arc::new(Mutex::new(None));
    let result = work(Lent { thing: Some(thing), home: home.clone() }).await;
    let given_back = lock(&home).take();
    let thing = given_back.ok_or_else(|| Error::usage("a transaction was still in use when its body had returned"))?;
    Ok((thing, result))
}

impl<T> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().expect("what is lent is there until it is dropped")
    }
}

impl<T> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().expect("what is lent is there until it is dropped")
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        *lock(&self.home) = self.thing.take();
    }
}

fn lock<T>(home: &Mutex<Option<T>>) -> MutexGuard<'_, Option<T>> {
    home.lock().expect("no one panics while holding this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_dropped_comes_back_and_what_is_kept_does_not() {
        let (thing, result) = lend_to(7, async |lent| Ok(*lent + 1)).await.unwrap();
        assert_eq!((thing, result.unwrap()), (7, 8));
        assert!(lend_to(7, async |lent| Ok(lent)).await.is_err());
    }
}
