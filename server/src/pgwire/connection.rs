//! One connection, from its first byte to its last.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pgwire::messages::PgWireFrontendMessage as Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tracing::Instrument;

use super::PgServer;
use super::backend::Backend;
use super::errors::{self, Severity};
use super::startup::{self, Started};
use super::wire::{Reader, Writer};
use crate::edge::departure::{self, Departure};
use crate::sql::Error;

/// Serves a connection. What goes wrong with it concerns nobody else.
pub async fn serve(server: Arc<PgServer>, stream: TcpStream, peer: SocketAddr) {
    let (read, write) = stream.into_split();
    let (reader, writer) = (Reader::new(read), Writer::new(write));
    let span = tracing::debug_span!("pgwire", %peer);
    if let Err(error) = run(server, reader, writer).instrument(span).await {
        tracing::debug!(%peer, %error, "a PostgreSQL connection has ended");
    }
}

/// What to do after a message.
enum Next {
    Go,
    End,
    /// The work on it was dropped.
    Cancelled,
    /// The work on it was dropped, as the node is about to stop.
    Leave,
}

async fn run<R, W>(server: Arc<PgServer>, mut reader: Reader<R>, mut writer: Writer<W>) -> io::Result<()>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let startup = match startup::negotiate(&mut reader, &mut writer).await? {
        Started::Session(startup) => startup,
        Started::Cancel { pid, secret } => {
            server.cancellations.cancel(pid, secret);
            return Ok(());
        }
        Started::Gone => return Ok(()),
    };
    let Ok(_permit) = server.connections.try_acquire() else {
        let error = Error::new("53300", "sorry, too many clients already")
            .hint("Close some connections, use a connection pool, or raise the node's limit.");
        return refuse(&mut writer, &error).await;
    };
    let Ok(_stay) = server.departure.enter() else { return refuse(&mut writer, &departure::refusal()).await };
    let session = match startup::open_session(&server.sql, &startup) {
        Ok(session) => session,
        Err(error) => return refuse(&mut writer, &error).await,
    };
    let registration = server.cancellations.register(session.backend_pid(), server.kv.random() as i32);
    let mut backend = Backend::new(session, writer);
    backend.greet(&startup, &registration);
    let result = converse(&mut reader, &mut backend, &registration.cancelled, &server.departure).await;
    backend.close().await;
    result
}

async fn converse<R, W>(
    reader: &mut Reader<R>,
    backend: &mut Backend<W>,
    cancelled: &tokio::sync::Notify,
    departure: &Departure,
) -> io::Result<()>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    backend.ready().await?;
    // No answer is owed, nor the end of an implicit transaction.
    let mut rests = true;
    loop {
        let next = tokio::select! {
            biased;
            () = departure.leaving(), if rests && backend.is_idle() => None,
            () = departure.ending() => None,
            next = reader.next() => Some(next),
        };
        let Some(next) = next else { return backend.fail(&departure::error(), Severity::Fatal).await };
        let message = match next {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    let error = Error::new("08P01", error.to_string());
                    backend.fail(&error, Severity::Fatal).await?;
                }
                return Err(error);
            }
        };
        let is_simple = matches!(message, Message::Query(_));
        rests = is_simple || matches!(message, Message::Sync(_));
        match watch(reader, backend, cancelled, departure, message).await? {
            Next::Go => {}
            Next::End => return Ok(()),
            Next::Leave => return backend.fail(&departure::error(), Severity::Fatal).await,
            Next::Cancelled => backend.cancelled(is_simple).await?,
        }
    }
}

/// Carries out a message. A statement that runs is dropped when it is cancelled, or the client has gone, unless it is
/// committing already.
async fn watch<R, W>(
    reader: &mut Reader<R>,
    backend: &mut Backend<W>,
    cancelled: &tokio::sync::Notify,
    departure: &Departure,
    message: Message,
) -> io::Result<Next>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let next_is_sync = reader.next_is_sync();
    let mut runs = matches!(message, Message::Query(_) | Message::Execute(_));
    let commit = backend.commit_watch();
    let work = handle(backend, message, next_is_sync);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            next = &mut work => return next,
            () = cancelled.notified(), if runs => {
                if !commit.is_committing() {
                    return Ok(Next::Cancelled);
                }
            }
            () = departure.ending_unless(&commit) => return Ok(Next::Leave),
            () = reader.gone(), if runs => {
                if !commit.is_committing() {
                    return Ok(Next::End);
                }
                runs = false;
            }
        }
    }
}

async fn handle<W>(backend: &mut Backend<W>, message: Message, next_is_sync: bool) -> io::Result<Next>
where
    W: AsyncWrite + Unpin + Send,
{
    match message {
        Message::Terminate(_) => return Ok(Next::End),
        Message::Sync(_) => backend.sync().await?,
        // After an error everything up to the next Sync is passed over, except what stands for itself.
        _ if backend.is_skipping() => {}
        Message::Query(query) => backend.query(&query.query).await?,
        Message::Parse(parse) => backend.parse(parse).await?,
        Message::Bind(bind) => backend.bind(bind).await?,
        Message::Describe(describe) => backend.describe(describe).await?,
        Message::Execute(execute) => backend.execute(execute, next_is_sync).await?,
        Message::Close(close) => backend.close_named(close).await?,
        Message::Flush(_) => backend.flush().await?,
        // Left over from a COPY that was refused.
        Message::CopyData(_) | Message::CopyDone(_) | Message::CopyFail(_) => {}
        other => {
            let error = Error::new("08P01", format!("unexpected message: {other:?}"));
            backend.fail(&error, Severity::Fatal).await?;
            return Ok(Next::End);
        }
    }
    Ok(Next::Go)
}

async fn refuse<W: AsyncWrite + Unpin>(writer: &mut Writer<W>, error: &Error) -> io::Result<()> {
    writer.put(&errors::response(error, Severity::Fatal));
    writer.flush().await
}
