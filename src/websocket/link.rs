//! One TCP life: an upgraded stream, read frame by frame, written through a buffer of whole frames.
//!
//! Nothing here awaits; dropping a link closes the socket.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::{
    frame::{FrameError, FrameReader, Opcode, Received, WriteBuffer},
    message::WsMessage,
};
use crate::{
    error::{ErrorKind, TransportError},
    planted::{self, Bug},
    tls::{MaybeTls, Meter},
};

pub(crate) struct Link<S> {
    stream: MaybeTls<S>,
    frames: FrameReader,
    out: WriteBuffer,
    /// The stream may hold back what was written until it is flushed.
    unflushed: bool,
    /// Why an early flush failed.
    failed: Option<TransportError>,
    /// Where in all that is written the watched ping ends.
    ping_end: Option<u64>,
    /// What the socket had taken when a stream that keeps bytes back took it.
    ping_taken: Option<u64>,
    /// What went through the socket by the last look. It begins at nothing: the answer to the upgrade is a sign of life.
    meter: Meter,
    /// A Close frame of ours is in the buffer or gone.
    goodbye: bool,
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
    /// Among them the last one of the watched ping.
    pub(crate) ping_left: bool,
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
        let limit = if planted::alive(Bug::MessageSizeIgnored) { usize::MAX } else { max_message_size };
        Self {
            stream,
            frames: FrameReader::new(&rest, limit, read_buffer_size),
            out: WriteBuffer::new(mask_seed),
            unflushed: false,
            failed: None,
            ping_end: None,
            ping_taken: None,
            meter: Meter::default(),
            goodbye: false,
        }
    }

    /// The next thing that came in. Cancel safe: what was read is kept.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        // Bounded by the peer: each turn but the last reads something.
        loop {
            match self.frames.next() {
                Ok(Some(received)) => return Poll::Ready(self.take_in(received)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(broken(error)),
            }
            let mut room = self.frames.room();
            let offered = room.chunk_mut().len();
            match pin!(self.stream.read_buf(&mut room)).poll(cx) {
                Poll::Pending => {
                    self.frames.drained();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => {
                    let text = "the peer ended the connection without a Close frame";
                    let cause = TransportError::new(ErrorKind::Io, text);
                    return Poll::Ready(Inbound::Lost { cause, code: None });
                }
                Poll::Ready(Ok(read)) => {
                    self.frames.filled(read, offered);
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Inbound::Lost { cause: io_error(error), code: None });
                }
            }
        }
    }

    fn take_in(&mut self, received: Received) -> Inbound {
        match received {
            Received::Message(message) => Inbound::Message(message),
            Received::Ping(payload) => {
                // A peer that pings and never reads must not fill the buffer with pongs. Nothing follows a Close frame.
                if !self.goodbye && self.out.waiting().len() < PONG_ROOM_BYTES {
                    self.out.push_frame(Opcode::Pong, &payload);
                }
                Inbound::Heartbeat
            }
            Received::Pong => Inbound::Heartbeat,
            // RFC 6455, section 5.5.1: a Close frame is answered with one; the code is typically echoed.
            Received::Close { code, reason } => Inbound::Lost {
                cause: TransportError::peer_closed(code, &reason),
                code: Some(code.unwrap_or(1000)),
            },
        }
    }

    /// True once after bytes came in, whether or not they made a message.
    pub(crate) fn take_received(&mut self) -> bool {
        let read = self.stream.meter().read;
        std::mem::replace(&mut self.meter.read, read) != read
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

    /// What was written last is a ping: the flush with which the end of it leaves tells.
    pub(crate) fn watch_ping(&mut self) {
        self.ping_end = Some(self.out.left() + self.out.waiting().len() as u64);
        self.ping_taken = None;
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
        let pending = self.write_out(cx)? || self.push_out(cx)?;
        Ok(Flush { pending, progressed: self.has_progressed(), ping_left: self.has_ping_left(pending) })
    }

    /// Sends on what the stream has taken and kept. True if bytes are left.
    fn push_out(&mut self, cx: &mut Context<'_>) -> Result<bool, TransportError> {
        if !self.unflushed {
            return Ok(false);
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Pending => Ok(true),
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                Ok(false)
            }
            Poll::Ready(Err(error)) => Err(io_error(error)),
        }
    }

    /// True if the socket took bytes since the last look.
    fn has_progressed(&mut self) -> bool {
        let written = self.stream.meter().written;
        std::mem::replace(&mut self.meter.written, written) != written
    }

    /// True once, when the socket has taken the watched ping.
    fn has_ping_left(&mut self, pending: bool) -> bool {
        if self.ping_end.is_none_or(|end| self.out.left() < end) {
            return false;
        }
        if pending && self.stream.keeps_back() {
            // The stream has it, and maybe not the socket. What lies before it is bounded by what TLS keeps.
            let written = self.stream.meter().written;
            let since = *self.ping_taken.get_or_insert(written);
            if written - since <= TLS_KEPT_BYTES {
                return false;
            }
        }
        (self.ping_end, self.ping_taken) = (None, None);
        true
    }
}

/// The link is over because of what the peer sent, and the code to say so with (RFC 6455, section 7.4.1).
fn broken(error: FrameError) -> Inbound {
    let protocol = |text: String| {
        TransportError::new(ErrorKind::Protocol, format!("the peer broke the WebSocket protocol: {text}"))
    };
    let (cause, code) = match error {
        FrameError::Protocol(rule) => (protocol(rule.to_owned()), 1002),
        FrameError::CloseCode(code) => {
            (protocol(format!("it closed with code {code}, which is never sent")), 1002)
        }
        FrameError::NotUtf8 => {
            let text = "the peer sent text that is not UTF-8";
            (TransportError::new(ErrorKind::Protocol, text), 1007)
        }
        FrameError::TooLarge { size, limit } => (TransportError::too_large(size, limit), 1009),
    };
    Inbound::Lost { cause, code: Some(code) }
}

fn io_error(error: io::Error) -> TransportError {
    TransportError::with_source(ErrorKind::Io, format!("the socket failed: {}", error.kind()), error)
}

/// Data waits in the session's queue, where it can still be withdrawn, once so much is laid out.
const WRITE_BUFFER_BYTES: usize = 256 << 10;
/// A part of a batch large enough to be worth a write of its own. With a usual frame on top it fits the 16 KiB that the
/// buffer keeps.
const FLUSH_EARLY_BYTES: usize = 14 << 10;
/// More than rustls keeps of what it was given: 64 KiB of records, and one more.
const TLS_KEPT_BYTES: u64 = 128 << 10;
/// Pongs may go this far beyond.
const PONG_ROOM_BYTES: usize = WRITE_BUFFER_BYTES + (64 << 10);
