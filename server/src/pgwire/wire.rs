//! One connection's bytes: messages in, messages out.

use std::io;

use bytes::{BufMut, BytesMut};
use pgwire::messages::{DecodeContext, Message, PgWireFrontendMessage, ProtocolVersion};
use proto::Datum;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::format::{Format, put_field};

/// The longest message that a client may send.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What is read ahead while a statement runs.
const READ_AHEAD_BYTES_MAX: usize = 64 << 10;

/// Output is sent on when it has grown to this.
const FLUSH_BYTES: usize = 32 << 10;

/// The type bytes of messages that are written, or looked for, here.
const DATA_ROW: u8 = b'D';
const SYNC: u8 = b'S';

/// The receiving half.
pub struct Reader<R> {
    stream: R,
    buffer: BytesMut,
    context: DecodeContext,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub fn new(stream: R) -> Reader<R> {
        let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
        Reader { stream, buffer: BytesMut::new(), context }
    }

    /// The messages of a connection's start are told by the state it is in, not by a type byte.
    pub fn context(&mut self) -> &mut DecodeContext {
        &mut self.context
    }

    /// The next message; `None` when the client has closed the connection.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no message.
    pub async fn next(&mut self) -> io::Result<Option<PgWireFrontendMessage>> {
        loop {
            self.check_length()?;
            let decoded = PgWireFrontendMessage::decode(&mut self.buffer, &self.context);
            if let Some(message) = decoded.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))? {
                return Ok(Some(message));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Returns when the client has gone away, reading ahead a little meanwhile.
    pub async fn gone(&mut self) {
        while self.buffer.len() < READ_AHEAD_BYTES_MAX {
            if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(n) if n > 0) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Whether the next message has been read already and is a Sync.
    pub fn next_is_sync(&self) -> bool {
        self.buffer.first() == Some(&SYNC)
    }

    /// Refuses a message by its length, before its bytes are waited for.
    fn check_length(&self) -> io::Result<()> {
        // Before the start-up message is complete, there is no type byte.
        let offset = if self.context.awaiting_frontend_startup { 0 } else { 1 };
        let Some(bytes) = self.buffer.get(offset..offset + 4) else { return Ok(()) };
        let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if length <= MESSAGE_BYTES_MAX {
            return Ok(());
        }
        let message = format!("a message has {length} bytes, more than the limit of {MESSAGE_BYTES_MAX}");
        Err(io::Error::new(io::ErrorKind::InvalidData, message))
    }
}

/// The sending half. Messages gather in a buffer until it is flushed or full.
pub struct Writer<W> {
    stream: W,
    buffer: BytesMut,
    scratch: String,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub fn new(stream: W) -> Writer<W> {
        Writer { stream, buffer: BytesMut::new(), scratch: String::new() }
    }

    pub fn put(&mut self, message: &impl Message) {
        let start = self.buffer.len();
        if message.encode(&mut self.buffer).is_err() {
            // Only a message beyond the protocol's limits cannot be encoded, and those with unlimited parts are cut first.
            self.buffer.truncate(start);
            tracing::error!(length = message.message_length(), "a message was too long for the protocol");
        }
    }

    /// A single byte, with which encryption is declined.
    pub fn put_byte(&mut self, byte: u8) {
        self.buffer.put_u8(byte);
    }

    pub fn put_row(&mut self, row: &[Datum], formats: &[Format]) {
        assert_eq!(row.len(), formats.len(), "a row has a value for each column");
        self.buffer.put_u8(DATA_ROW);
        let length_at = self.buffer.len();
        self.buffer.put_i32(0);
        self.buffer.put_i16(i16::try_from(row.len()).expect("the number of columns is limited"));
        for (datum, format) in row.iter().zip(formats) {
            put_field(datum, *format, &mut self.buffer, &mut self.scratch);
        }
        let length = i32::try_from(self.buffer.len() - length_at).expect("a row is smaller than 2 GiB");
        self.buffer[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Sends on what has gathered, if it is enough to be worth it. Waits for a client that does not read.
    pub async fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= FLUSH_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends on what has gathered. May be dropped midway and called again.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.buffer.is_empty() {
            if self.stream.write_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.stream.flush().await
    }
}
