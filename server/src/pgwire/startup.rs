//! The beginning of a connection: encryption is declined, parameters are read, the client is greeted.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey, Startup,
};
use pgwire::messages::{PgWireFrontendMessage as Message, SslNegotiationMetaMessage};
use tokio::io::{AsyncRead, AsyncWrite};

use super::backend::Backend;
use super::cancel::Registration;
use super::wire::{Reader, Writer};
use crate::sql::{Error, Session, SessionOptions, Sql};

/// What a new connection turned out to be.
pub enum Started {
    Session(Startup),
    /// A message to another connection.
    Cancel {
        pid: i32,
        secret: i32,
    },
    /// The client has gone without saying what it wanted.
    Gone,
}

/// The answer to a request for encryption.
const NO: u8 = b'N';

/// Variables whose values clients are told unasked.
const REPORTED: [&str; 10] = [
    "server_version",
    "server_encoding",
    "client_encoding",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "integer_datetimes",
    "standard_conforming_strings",
    "is_superuser",
    "application_name",
];

/// Parameters that do not become variables of the session.
const NOT_VARIABLES: [&str; 4] = ["user", "database", "options", "replication"];

/// Reads up to the start-up message.
///
/// # Errors
/// When the connection breaks, or what comes is no message of the protocol.
pub async fn negotiate<R, W>(reader: &mut Reader<R>, writer: &mut Writer<W>) -> io::Result<Started>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        match reader.next().await? {
            None => return Ok(Started::Gone),
            Some(Message::SslNegotiation(SslNegotiationMetaMessage::None)) => {
                reader.context().awaiting_frontend_ssl = false;
            }
            Some(Message::SslNegotiation(_)) => {
                writer.put_byte(NO);
                writer.flush().await?;
            }
            Some(Message::CancelRequest(request)) => {
                let secret = match request.secret_key {
                    SecretKey::I32(secret) => secret,
                    // Longer keys are only given out under versions of the protocol that are not spoken here.
                    _ => return Ok(Started::Gone),
                };
                return Ok(Started::Cancel { pid: request.pid, secret });
            }
            Some(Message::Startup(startup)) => {
                reader.context().awaiting_frontend_startup = false;
                return Ok(Started::Session(startup));
            }
            Some(other) => {
                let message = format!("expected a start-up message, got {other:?}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
    }
}

/// Opens the session that the client asks for.
///
/// # Errors
/// With which the connection is to be refused.
pub fn open_session(sql: &Arc<Sql>, startup: &Startup) -> Result<Session, Error> {
    if startup.protocol_number_major != 3 {
        let version = format!("{}.{}", startup.protocol_number_major, startup.protocol_number_minor);
        return Err(Error::unsupported(format!("version {version} of the frontend protocol")));
    }
    let parameters = &startup.parameters;
    let user = parameters.get("user").filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| Error::new("28000", "no PostgreSQL user name specified in startup packet"))?;
    let options = SessionOptions {
        user: user.clone(),
        database: parameters.get("database").unwrap_or(user).clone(),
        application_name: parameters.get("application_name").cloned().unwrap_or_default(),
    };
    let mut session = sql.session(options);
    for (name, value) in variables(parameters) {
        set(&mut session, &name, &value);
    }
    Ok(session)
}

/// The variables that the start-up parameters set; of `options` only `-c name=value` and `--name=value`.
fn variables(parameters: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let direct = parameters
        .iter()
        .filter(|(name, _)| !NOT_VARIABLES.contains(&name.as_str()) && !name.starts_with("_pq_."))
        .map(|(name, value)| (name.clone(), value.trim_matches('\'').to_string()));
    let options = parameters.get("options").map(String::as_str).unwrap_or_default();
    let words = options.split_whitespace().filter(|word| *word != "-c");
    let optional = words.filter_map(|word| {
        let (name, value) = word.trim_start_matches("-c").trim_start_matches("--").split_once('=')?;
        Some((name.replace('-', "_"), value.to_string()))
    });
    direct.chain(optional).collect()
}

/// Sets a variable. One that is refused, as unknown or for its value, must not keep a client out.
fn set(session: &mut Session, name: &str, value: &str) {
    if let Err(error) = session.set_variable(name, value) {
        tracing::debug!(name, value, %error, "a start-up parameter was passed over");
    }
}

impl<W: AsyncWrite + Unpin + Send> Backend<W> {
    /// Tells the client that it is welcome, what it talks to, and how to cancel.
    pub fn greet(&mut self, startup: &Startup, registration: &Registration) {
        let unknown: Vec<String> =
            startup.parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
        if startup.protocol_number_minor > 0 || !unknown.is_empty() {
            self.writer.put(&NegotiateProtocolVersion::new(0, unknown));
        }
        self.writer.put(&Authentication::Ok);
        let user = startup.parameters.get("user").cloned().unwrap_or_default();
        for (name, value) in [("in_hot_standby", "off".to_string()), ("session_authorization", user)] {
            self.writer.put(&ParameterStatus::new(name.to_string(), value));
        }
        self.report_variables();
        self.writer.put(&BackendKeyData::new(registration.pid, SecretKey::I32(registration.secret)));
    }

    /// Reports the variables that clients keep an eye on, as far as they have changed since they were last reported.
    pub(super) fn report_variables(&mut self) {
        for name in REPORTED {
            let Ok(value) = self.session.variable(name) else { continue };
            if self.reported.get(name) != Some(&value) {
                self.writer.put(&ParameterStatus::new(name.to_string(), value.clone()));
                self.reported.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_variables() {
        let parameters = [
            ("user", "ann"),
            ("client_encoding", "'utf-8'"),
            ("options", "-c statement_timeout=5s --search-path=public -cfoo=bar"),
            ("_pq_.x", "1"),
        ];
        let parameters = parameters.map(|(name, value)| (name.to_string(), value.to_string())).into();
        let names: Vec<String> = variables(&parameters).into_iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(names, ["client_encoding=utf-8", "statement_timeout=5s", "search_path=public", "foo=bar"]);
    }
}
