//! The shell's session: opened when needed, and again after a loss.

use std::time::Duration;

use crate::driver::{Client, Config, Result, Session, TransactionStatus};

/// One session at a time on whichever node can be reached.
pub struct Connection {
    config: Config,
    /// Made with the first session, since it needs a running tokio.
    client: Option<Client>,
    session: Option<Session>,
}

impl Connection {
    /// # Errors
    /// When an address is not `host:port`. Nothing is sent yet.
    pub fn new(addresses: &str, user: &str, database: &str) -> Result<Connection> {
        let mut config = Config::new(addresses)?;
        config.user = user.to_string();
        config.database = database.to_string();
        config.application_name = "meridian sql".into();
        config.connect_timeout = Duration::from_secs(5);
        Ok(Connection { config, client: None, session: None })
    }

    /// The session, opened now if there is none.
    pub async fn session(&mut self) -> Result<&mut Session> {
        if self.session.is_none() {
            self.session = Some(self.client().await?.session().await?);
        }
        Ok(self.session.as_mut().expect("a session has just been opened"))
    }

    /// The session, if there is one.
    pub fn current(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    pub fn database(&self) -> &str {
        &self.config.database
    }

    pub fn transaction_status(&self) -> TransactionStatus {
        self.session.as_ref().map_or(TransactionStatus::Idle, Session::transaction_status)
    }

    /// Ends the session: the server rolls back what is open.
    pub fn close(&mut self) {
        self.session = None;
    }

    /// Lets go of a session that is lost, and says what was lost with it.
    pub fn drop_if_lost(&mut self) -> Option<&'static str> {
        let session = self.session.take_if(|session| session.is_broken())?;
        Some(match session.transaction_status() {
            TransactionStatus::Idle => "The next statement connects again.",
            _ => "The open transaction is lost with the connection. The next statement connects again.",
        })
    }

    async fn client(&mut self) -> Result<Client> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = Client::with_config(self.config.clone()).await?;
        self.client = Some(client.clone());
        Ok(client)
    }
}
