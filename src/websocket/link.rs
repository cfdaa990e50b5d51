//! One TCP life: an upgraded stream, read through tungstenite, written through a buffer of whole frames.
//!
//! tungstenite's protocol machine is driven directly, without its async wrapper: reading needs no second waker, and what
//! it writes of its own (pongs) goes into the same buffer as our frames, so frames never interleave. Nothing here awaits;
//! dropping a link closes the socket.

use std::{
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::{
    Message,
    error::{CapacityError, Error as WsError, ProtocolError},
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use super::{
    frame::{Opcode, WriteBuffer},
    message::{Text, WsMessage},
};
use crate::{
    error::{ErrorKind, TransportError},
    tls::MaybeTls,
};

pub(crate) struct Link<S> {
    stream: MaybeTls<S>,
    codec: WebSocketContext,
    out: WriteBuffer,
    /// Came in behind the answer to the upgrade: read before the stream.
    rest: Bytes,
    /// The stream may hold back what was written until it is flushed.
    unflushed: bool,
    /// The socket took bytes since the last flush.
    progressed: bool,
    /// Why an early flush failed.
    failed: Option<TransportError>,
    /// A Close frame of ours is in the buffer or gone.
    goodbye: bool,
    /// Bytes came in since the last look.
    received: bool,
}

/// What came in.
#[derive(Debug)]
pub(crate) enum Inbound {
    Message(WsMessage),
    /// A Ping or Pong frame. A Ping is already answered.
    Heartbeat,
    /// The link is over: why, and the code of the Close frame to answer with.
    Lost {
        cause: TransportError,
        code: Option<u16>,
    },
}

/// What a flush came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flush {
    /// Bytes are left: the socket takes no more for now.
    pub(crate) pending: bool,
    /// The socket took bytes.
    pub(crate) progressed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// `rest` is what came in behind the answer to the upgrade.
    pub(crate) fn new(
        stream: MaybeTls<S>,
        rest: Vec<u8>,
        mask_seed: [u8; 32],
        max_message_size: usize,
        read_buffer_size: usize,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(read_buffer_size)
            .write_buffer_size(0)
            .max_write_buffer_size(CODEC_WRITE_MAX_BYTES)
            .max_message_size(Some(max_message_size))
            .max_frame_size(Some(max_message_size));
        Self {
            stream,
            // Not `from_partially_read`: a buffer begun with few bytes would be replaced by ones as small, whenever messages
            // still held by their readers keep it from being reused.
            codec: WebSocketContext::new(Role::Client, Some(config)),
            rest: Bytes::from(rest),
            out: WriteBuffer::new(mask_seed),
            unflushed: false,
            progressed: false,
            failed: None,
            goodbye: false,
            received: true,
        }
    }

    /// The next thing that came in. Cancel safe: what was read is kept.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        let mut io = Io {
            stream: &mut self.stream,
            rest: &mut self.rest,
            out: &mut self.out,
            received: &mut self.received,
            cx,
        };
        let inbound = match self.codec.read(&mut io) {
            Ok(Message::Text(text)) => Inbound::Message(WsMessage::Text(Text::from_utf8(text))),
            Ok(Message::Binary(bytes)) => Inbound::Message(WsMessage::Binary(bytes)),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Inbound::Heartbeat,
            Ok(Message::Close(frame)) => {
                let code = frame.as_ref().map(|frame| frame.code.into());
                let reason = frame.as_ref().map_or("", |frame| frame.reason.as_str());
                // RFC 6455, section 5.5.1: a Close frame is answered with one; the code is typically echoed.
                Inbound::Lost {
                    cause: TransportError::peer_closed(code, reason),
                    code: Some(code.unwrap_or(1000)),
                }
            }
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => read_error(error),
        };
        Poll::Ready(inbound)
    }

    /// True once after bytes came in, whether or not they made a message.
    pub(crate) fn take_received(&mut self) -> bool {
        std::mem::take(&mut self.received)
    }

    pub(crate) fn write_message(&mut self, message: &WsMessage) {
        let opcode = if message.is_text() { Opcode::Text } else { Opcode::Binary };
        self.out.push_frame(opcode, message.as_bytes());
    }

    pub(crate) fn write_text(&mut self, text: &[u8]) {
        self.out.push_frame(Opcode::Text, text);
    }

    pub(crate) fn write_binary(&mut self, bytes: &[u8]) {
        self.out.push_frame(Opcode::Binary, bytes);
    }

    pub(crate) fn write_ping(&mut self) {
        self.out.push_frame(Opcode::Ping, &[]);
    }

    /// Says goodbye, once: a Close frame that answers ours is not answered (RFC 6455, section 5.5.1).
    pub(crate) fn write_close(&mut self, code: u16) {
        if !std::mem::replace(&mut self.goodbye, true) {
            self.out.push_frame(Opcode::Close, &code.to_be_bytes());
        }
    }

    /// True while the buffer takes more data. Control frames are always taken.
    pub(crate) fn has_room(&self) -> bool {
        self.out.waiting().len() < WRITE_BUFFER_BYTES
    }

    /// Gives the socket what it takes, once there is enough: the peer reads the first part of a large batch while the rest
    /// is being laid out. What it came to, the next [`flush`](Self::flush) tells.
    pub(crate) fn flush_early(&mut self, cx: &mut Context<'_>) {
        if self.out.waiting().len() >= FLUSH_EARLY_BYTES && self.failed.is_none() {
            self.failed = self.write_out(cx).err();
        }
    }

    /// True if bytes are left.
    fn write_out(&mut self, cx: &mut Context<'_>) -> Result<bool, TransportError> {
        while !self.out.waiting().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, self.out.waiting()) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Ok(0)) => return Err(io_error(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(taken)) => {
                    self.out.advance(taken);
                    self.progressed = true;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(io_error(error)),
            }
        }
        Ok(false)
    }

    /// Gives the socket what it takes.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) -> Result<Flush, TransportError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let pending = self.write_out(cx)?;
        let progressed = std::mem::take(&mut self.progressed);
        if pending {
            return Ok(Flush { pending, progressed });
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Pending => return Ok(Flush { pending: true, progressed }),
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Err(io_error(error)),
            }
        }
        Ok(Flush { pending: false, progressed })
    }
}

/// The stream as tungstenite sees it: reads go to the socket, writes into the buffer.
struct Io<'a, 'b, S> {
    stream: &'a mut MaybeTls<S>,
    rest: &'a mut Bytes,
    out: &'a mut WriteBuffer,
    received: &'a mut bool,
    cx: &'a mut Context<'b>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Read for Io<'_, '_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if !self.rest.is_empty() {
            let length = self.rest.len().min(bytes.len());
            bytes[..length].copy_from_slice(&self.rest.split_to(length));
            return Ok(length);
        }
        let mut buf = ReadBuf::new(bytes);
        match Pin::new(&mut *self.stream).poll_read(self.cx, &mut buf) {
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(result) => {
                result?;
                let read = buf.filled().len();
                *self.received |= read > 0;
                Ok(read)
            }
        }
    }
}

impl<S> Write for Io<'_, '_, S> {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        // A peer that pings and never reads must not fill the buffer with pongs.
        if self.out.waiting().len() >= PONG_ROOM_BYTES {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.out.push_raw(frames);
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_error(error: WsError) -> Inbound {
    match error {
        WsError::Io(error) => Inbound::Lost { cause: io_error(error), code: None },
        WsError::ConnectionClosed
        | WsError::AlreadyClosed
        | WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            let text = "the peer ended the connection without a Close frame";
            Inbound::Lost { cause: TransportError::new(ErrorKind::Io, text), code: None }
        }
        WsError::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            Inbound::Lost { cause: TransportError::too_large(size, max_size), code: Some(1009) }
        }
        WsError::Utf8(_) => {
            let cause =
                TransportError::new(ErrorKind::Protocol, "the peer sent a text message that is not UTF-8");
            Inbound::Lost { cause, code: Some(1007) }
        }
        error => {
            let text = format!("the peer broke the WebSocket protocol: {error}");
            let cause = TransportError::with_source(ErrorKind::Protocol, text, error);
            Inbound::Lost { cause, code: Some(1002) }
        }
    }
}

fn io_error(error: io::Error) -> TransportError {
    TransportError::with_source(ErrorKind::Io, format!("the socket failed: {}", error.kind()), error)
}

/// Data waits in the session's queue, where it can still be withdrawn, once so much is laid out.
const WRITE_BUFFER_BYTES: usize = 256 << 10;
/// A part of a batch large enough to be worth a write of its own. With a usual frame on top it fits the 16 KiB that the
/// buffer keeps.
const FLUSH_EARLY_BYTES: usize = 14 << 10;
/// Pongs may go this far beyond.
const PONG_ROOM_BYTES: usize = WRITE_BUFFER_BYTES + (64 << 10);
/// What tungstenite itself may hold: one control frame is at most 131 bytes.
const CODEC_WRITE_MAX_BYTES: usize = 1024;
