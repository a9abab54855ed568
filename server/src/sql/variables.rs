//! Session variables: what `SET` and `SHOW` know.
//!
//! Clients send a handful of settings when they connect and expect them to be taken. Those that mean something here
//! are checked; those that do not are kept and shown back, so that a driver finds what it set. A setting
//! that would ask for other results than statements give is refused, and so is an unknown one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{Error, Result, similar, state};
use super::limits::Limits;
use crate::kv::Isolation;
use crate::kv::idempotency::IdempotencyKey;

/// The PostgreSQL version whose behaviour is followed, and our own.
pub struct ServerVersion {
    pub compatible: &'static str,
    pub own: &'static str,
}

pub const SERVER_VERSION: ServerVersion = ServerVersion { compatible: "15.0", own: env!("CARGO_PKG_VERSION") };

impl ServerVersion {
    /// What `version()` says.
    pub fn full(&self) -> String {
        format!("PostgreSQL {} compatible, Meridian {}", self.compatible, self.own)
    }
}

/// What an expression may ask about its session.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    pub user: String,
    pub database: String,
    pub backend_pid: i32,
    pub variables: Variables,
}

impl SessionInfo {
    /// The only schema.
    pub const SCHEMA: &'static str = "public";
}

/// How a variable may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Kept and shown back.
    Free,
    /// One of these, whatever the case; anything else is refused as unsupported.
    OneOf(&'static [&'static str]),
    Bool,
    Int,
    /// Milliseconds, or a number with a unit.
    Milliseconds,
    Isolation,
    IdempotencyKey,
    /// Shown, never set.
    Fixed,
}

/// Under which key the next transaction runs; see [`super::session`].
pub const IDEMPOTENCY_KEY: &str = "idempotency_key";
/// How long the node keeps keys.
const IDEMPOTENCY_RETENTION: &str = "idempotency_retention";

struct Definition {
    /// As PostgreSQL shows it.
    name: &'static str,
    default: &'static str,
    kind: Kind,
}

const fn def(name: &'static str, default: &'static str, kind: Kind) -> Definition {
    Definition { name, default, kind }
}

/// Every variable, in alphabetical order.
static DEFINITIONS: &[Definition] = &[
    def("application_name", "", Kind::Free),
    def("bytea_output", "hex", Kind::OneOf(&["hex"])),
    def("client_encoding", "UTF8", Kind::OneOf(&["UTF8", "UTF-8", "UNICODE"])),
    def("client_min_messages", "notice", Kind::Free),
    def("DateStyle", "ISO, MDY", Kind::OneOf(&["ISO", "ISO, MDY", "ISO,MDY"])),
    def("default_transaction_isolation", "serializable", Kind::Isolation),
    def("default_transaction_read_only", "off", Kind::Bool),
    def("extra_float_digits", "1", Kind::Int),
    def(IDEMPOTENCY_KEY, "", Kind::IdempotencyKey),
    def(IDEMPOTENCY_RETENTION, "", Kind::Fixed),
    def("idle_in_transaction_session_timeout", "0", Kind::Milliseconds),
    def("integer_datetimes", "on", Kind::Fixed),
    def("IntervalStyle", "postgres", Kind::Free),
    def("is_superuser", "on", Kind::Fixed),
    def("lock_timeout", "0", Kind::Milliseconds),
    def("max_identifier_length", "63", Kind::Fixed),
    def("row_security", "off", Kind::Bool),
    def("search_path", "public", Kind::Free),
    def("server_encoding", "UTF8", Kind::Fixed),
    def("server_version", SERVER_VERSION.compatible, Kind::Fixed),
    def("server_version_num", "150000", Kind::Fixed),
    def("standard_conforming_strings", "on", Kind::OneOf(&["on"])),
    def("statement_timeout", "0", Kind::Milliseconds),
    def("synchronous_commit", "on", Kind::OneOf(&["on"])),
    def("TimeZone", "UTC", Kind::OneOf(&["UTC", "GMT", "Etc/UTC", "+00:00", "0"])),
    def("transaction_isolation", "serializable", Kind::Isolation),
    def("transaction_read_only", "off", Kind::Bool),
];

fn definition(name: &str) -> Result<&'static Definition> {
    DEFINITIONS.iter().find(|d| d.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let error = Error::new(state::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""));
        match similar(&name.to_lowercase(), DEFINITIONS.iter().map(|d| d.name)) {
            Some(known) => error.hint(format!("Perhaps you meant \"{known}\".")),
            None => error,
        }
    })
}

/// A session's settings.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// What differs from the defaults, by PostgreSQL's spelling of the name.
    changed: BTreeMap<&'static str, String>,
}

impl Variables {
    /// The defaults, with what the node was configured to.
    pub fn of_node(limits: &Limits) -> Variables {
        let retention = shown_duration(limits.idempotency_retention);
        Variables { changed: BTreeMap::from([(IDEMPOTENCY_RETENTION, retention)]) }
    }

    /// The value as `SHOW` shows it.
    ///
    /// # Errors
    /// `42704` for an unknown name.
    pub fn get(&self, name: &str) -> Result<String> {
        let definition = definition(name)?;
        Ok(self.changed.get(definition.name).cloned().unwrap_or_else(|| definition.default.to_string()))
    }

    /// The name in PostgreSQL's spelling, which heads the column of `SHOW`.
    ///
    /// # Errors
    /// `42704` for an unknown name.
    pub fn canonical_name(name: &str) -> Result<&'static str> {
        Ok(definition(name)?.name)
    }

    /// Every variable and its value.
    pub fn all(&self) -> Vec<(&'static str, String)> {
        let value = |d: &Definition| self.changed.get(d.name).cloned().unwrap_or_else(|| d.default.to_string());
        DEFINITIONS.iter().map(|d| (d.name, value(d))).collect()
    }

    /// Sets a variable.
    ///
    /// # Errors
    /// `42704` unknown, `22023` not a value for it, `0A000` a value that would ask for other results than statements give, `55P02` fixed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let definition = definition(name)?;
        let value = checked(definition, value)?;
        self.changed.insert(definition.name, value);
        Ok(())
    }

    /// Back to the default.
    ///
    /// # Errors
    /// `42704` for an unknown name.
    pub fn reset(&mut self, name: &str) -> Result<()> {
        let definition = definition(name)?;
        if definition.kind != Kind::Fixed {
            self.changed.remove(definition.name);
        }
        Ok(())
    }

    pub fn reset_all(&mut self) {
        self.changed.retain(|name, _| definition(name).is_ok_and(|d| d.kind == Kind::Fixed));
    }

    /// The key that was set for the next transaction.
    pub fn idempotency_key(&self) -> Option<&str> {
        self.changed.get(IDEMPOTENCY_KEY).map(String::as_str).filter(|key| !key.is_empty())
    }

    /// The limit on a statement's time, if one is set.
    pub fn statement_timeout(&self) -> Option<Duration> {
        let millis: u64 = self.changed.get("statement_timeout")?.parse().ok()?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// What a transaction that says nothing else begins with.
    pub fn default_isolation(&self) -> Isolation {
        match self.changed.get("default_transaction_isolation") {
            Some(level) if level == "repeatable read" => Isolation::Snapshot,
            _ => Isolation::Serializable,
        }
    }

    pub fn default_read_only(&self) -> bool {
        self.changed.get("default_transaction_read_only").is_some_and(|v| v == "on")
    }
}

fn checked(definition: &Definition, value: &str) -> Result<String> {
    let name = definition.name;
    let invalid =
        || Error::new(state::INVALID_PARAMETER, format!("invalid value for parameter \"{name}\": \"{value}\""));
    match definition.kind {
        Kind::Free => Ok(value.to_string()),
        Kind::IdempotencyKey if value.is_empty() => Ok(String::new()),
        Kind::IdempotencyKey => Ok(IdempotencyKey::new(value)?.as_str().to_string()),
        Kind::Fixed => Err(Error::new("55P02", format!("parameter \"{name}\" cannot be changed"))),
        Kind::OneOf(values) => {
            if values.iter().any(|v| v.eq_ignore_ascii_case(value)) {
                Ok(definition.default.to_string())
            } else {
                let error = Error::unsupported(format!("{name} = \"{value}\""));
                Err(error.hint(format!("Only \"{}\" is.", definition.default)))
            }
        }
        Kind::Bool => match value.to_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Ok("on".to_string()),
            "off" | "false" | "no" | "0" => Ok("off".to_string()),
            _ => Err(invalid()),
        },
        Kind::Int => value.parse::<i32>().map(|v| v.to_string()).map_err(|_| invalid()),
        Kind::Milliseconds => milliseconds(value).map(|v| v.to_string()).ok_or_else(invalid),
        Kind::Isolation => match isolation(value).ok_or_else(invalid)? {
            Isolation::Serializable => Ok("serializable".to_string()),
            Isolation::Snapshot => Ok("repeatable read".to_string()),
        },
    }
}

/// The level that is run for a name. Weaker levels are run as the strongest, which SQL allows.
pub fn isolation(name: &str) -> Option<Isolation> {
    match name.to_lowercase().as_str() {
        "serializable" | "read committed" | "read uncommitted" => Some(Isolation::Serializable),
        "repeatable read" => Some(Isolation::Snapshot),
        _ => None,
    }
}

/// The name of a level.
pub fn isolation_name(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Serializable => "serializable",
        Isolation::Snapshot => "repeatable read",
    }
}

/// In the greatest unit that leaves no rest.
fn shown_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let fit = units.into_iter().find(|(size, _)| millis >= *size && millis.is_multiple_of(*size));
    let (size, unit) = fit.unwrap_or((1, "ms"));
    format!("{}{unit}", millis / size)
}

fn milliseconds(value: &str) -> Option<u64> {
    let value = value.trim();
    let split = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(split);
    let factor = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_taken_and_what_would_lie_is_refused() {
        let mut variables = Variables::default();
        variables.set("client_encoding", "utf-8").unwrap();
        variables.set("datestyle", "ISO").unwrap();
        assert_eq!(variables.get("DATESTYLE").unwrap(), "ISO, MDY");
        assert_eq!(variables.set("TimeZone", "Europe/Berlin").unwrap_err().sqlstate, "0A000");
        assert_eq!(variables.set("server_version", "9").unwrap_err().sqlstate, "55P02");
        let unknown = variables.set("statement_timeot", "1").unwrap_err();
        assert_eq!(unknown.hint.as_deref(), Some("Perhaps you meant \"statement_timeout\"."));
    }

    #[test]
    fn timeouts_have_units() {
        let mut variables = Variables::default();
        variables.set("statement_timeout", "2s").unwrap();
        assert_eq!(variables.statement_timeout(), Some(Duration::from_secs(2)));
        variables.set("statement_timeout", "0").unwrap();
        assert_eq!(variables.statement_timeout(), None);
    }
}
