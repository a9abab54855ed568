//! `SET` and `SET LOCAL`.
//!
//! What `SET LOCAL` has set ends with the transaction, whichever way that ends. An idempotency key that is set inside of a transaction is
//! always local: it is the transaction's.

use super::super::error::Result;
use super::super::variables::IDEMPOTENCY_KEY;
use super::Session;
use super::rows::Outcome;

impl Session {
    /// Carries out `SET` and, without a value, `RESET`.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<Outcome> {
        let mut outcome = Outcome::done("SET");
        if self.is_explicit() && (local || name == IDEMPOTENCY_KEY) {
            self.set_local(name, value)?;
        } else if local {
            outcome.completion.notices.push("SET LOCAL can only be used in transaction blocks".to_string());
        } else {
            if name == IDEMPOTENCY_KEY {
                self.check_key_can_be_set()?;
            }
            self.set_now(name, value)?;
            self.before_local.remove(name);
        }
        Ok(outcome)
    }

    /// Sets a variable until the transaction ends.
    pub(super) fn set_local(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        if name == IDEMPOTENCY_KEY {
            self.check_key_can_be_set()?;
        }
        let before = self.info.variables.get(name)?;
        self.set_now(name, value)?;
        self.before_local.entry(name.to_string()).or_insert(before);
        Ok(())
    }

    fn set_now(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        match value {
            Some(value) => self.info.variables.set(name, value),
            None => self.info.variables.reset(name),
        }
    }

    /// A transaction block ends: what was set for it alone is as before.
    pub(super) fn end_local_settings(&mut self) {
        for (name, value) in std::mem::take(&mut self.before_local) {
            // The value was taken before.
            let _ = self.info.variables.set(&name, &value);
        }
    }
}
