//! Server frames in, messages out.
//!
//! | state | leaves by |
//! |---|---|
//! | between frames (`header` is none) | a whole header |
//! | in a frame (`header` is some) | its whole payload |
//!
//! Beside either, a fragmented message may be under way (`partial`); control frames may come between its parts.

use bytes::{Buf, BufMut, Bytes, BytesMut, buf::Limit};

use super::{FIN, MASKED, Opcode};
use crate::{
    planted::{self, Bug},
    websocket::message::{Text, WsMessage},
};

/// What the peer said.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::websocket) enum Received {
    Message(WsMessage),
    Ping(Bytes),
    Pong,
    Close { code: Option<u16>, reason: String },
}

/// How the peer broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::websocket) enum FrameError {
    /// Which rule (RFC 6455, section 5).
    Protocol(&'static str),
    /// Its Close frame has a code that must not be sent (RFC 6455, section 7.4).
    CloseCode(u16),
    NotUtf8,
    TooLarge {
        size: usize,
        limit: usize,
    },
}

/// Cuts bytes into frames and joins frames to messages. A payload is a slice of the buffer it was read into.
pub(in crate::websocket) struct FrameReader {
    /// Received and not yet parsed.
    buffer: BytesMut,
    /// Of the frame whose payload is not whole yet. Its bytes have left the buffer.
    header: Option<Header>,
    partial: Option<Partial>,
    message_size_max: usize,
    /// Room made at once for what comes next: grows while reads fill it, shrinks when they don't.
    chunk: usize,
    chunk_max: usize,
    /// Room last made. The buffer pins so much even when it is empty.
    allocated: usize,
    /// Bytes received since the peer last had nothing more.
    burst: usize,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    fin: bool,
    opcode: Opcode,
    length: usize,
}

/// A message whose last fragment has not come.
struct Partial {
    text: bool,
    bytes: BytesMut,
    /// So many of its bytes are known to be UTF-8.
    valid: usize,
}

impl FrameReader {
    /// `rest` is what has come in already.
    pub(in crate::websocket) fn new(rest: &[u8], message_size_max: usize, chunk_max: usize) -> Self {
        Self {
            buffer: BytesMut::from(rest),
            header: None,
            partial: None,
            message_size_max,
            chunk: CHUNK_MIN_BYTES.min(chunk_max),
            chunk_max,
            allocated: 0,
            burst: 0,
        }
    }

    /// The next thing the peer said, if all of it is here.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol or exceeds the limit: nothing that follows can be understood.
    pub(in crate::websocket) fn next(&mut self) -> Result<Option<Received>, FrameError> {
        // Bounded by the buffer: each turn takes a frame out of it.
        loop {
            let header = match self.header {
                Some(header) => header,
                None => match self.parse_header()? {
                    Some(header) => *self.header.insert(header),
                    None => return Ok(None),
                },
            };
            if self.buffer.len() < header.length {
                return Ok(None);
            }
            self.header = None;
            let payload = self.buffer.split_to(header.length);
            let received = match header.opcode {
                Opcode::Ping => Some(Received::Ping(payload.freeze())),
                Opcode::Pong => Some(Received::Pong),
                Opcode::Close => Some(parse_close(&payload)?),
                Opcode::Text if header.fin => {
                    Some(Received::Message(WsMessage::Text(text(payload.freeze())?)))
                }
                Opcode::Binary if header.fin => Some(Received::Message(WsMessage::Binary(payload.freeze()))),
                Opcode::Text | Opcode::Binary | Opcode::Continuation => self.join(header, &payload)?,
            };
            if received.is_some() {
                return Ok(received);
            }
        }
    }

    /// Where to read into: never without room.
    pub(in crate::websocket) fn room(&mut self) -> Limit<&mut BytesMut> {
        let missing = self.header.map_or(0, |header| header.length.saturating_sub(self.buffer.len()));
        let spare = self.buffer.capacity() - self.buffer.len();
        if self.allocated > 2 * self.chunk_max && self.header.is_none() {
            // After a large message its allocation is let go. What came behind it is at most a chunk.
            let room = BytesMut::with_capacity(self.buffer.len() + self.chunk);
            let rest = std::mem::replace(&mut self.buffer, room);
            self.buffer.extend_from_slice(&rest);
            self.allocated = self.buffer.capacity();
        } else if spare < self.chunk / 4 || (missing > spare && spare < self.chunk) {
            // A length that is only announced gets no memory: what has come is at most doubled at a time.
            self.buffer.reserve(missing.min(self.buffer.len()).max(self.chunk));
            self.allocated = self.buffer.capacity();
        }
        (&mut self.buffer).limit(missing.max(self.chunk))
    }

    /// So many bytes were read, with room for `offered`.
    pub(in crate::websocket) fn filled(&mut self, read: usize, offered: usize) {
        self.burst = self.burst.saturating_add(read);
        if read == offered {
            self.chunk = (2 * self.chunk).min(self.chunk_max);
        }
    }

    /// The peer has nothing more for now.
    pub(in crate::websocket) fn drained(&mut self) {
        if std::mem::take(&mut self.burst) < self.chunk / 4 {
            self.chunk = (self.chunk / 2).max(CHUNK_MIN_BYTES).min(self.chunk_max);
        }
        // An idle connection keeps no large buffer after a burst.
        if self.buffer.is_empty() && self.allocated > 2 * self.chunk && self.header.is_none() {
            self.buffer = BytesMut::new();
            self.allocated = 0;
        }
    }

    fn parse_header(&mut self) -> Result<Option<Header>, FrameError> {
        if planted::alive(Bug::SplitHeaderLost) && self.buffer.len() == 1 {
            self.buffer.clear();
        }
        let &[first, second, ref rest @ ..] = &self.buffer[..] else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(FrameError::Protocol("a reserved bit is set and no extension was agreed on"));
        }
        let Some(opcode) = Opcode::parse(first & OPCODE) else {
            return Err(FrameError::Protocol("an opcode is reserved"));
        };
        if second & MASKED != 0 {
            return Err(FrameError::Protocol("a frame is masked"));
        }
        let fin = first & FIN != 0;
        self.check_order(fin, opcode, second)?;
        let (length, extended) = match (second, rest) {
            (126, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 2),
            (127, &[a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 8),
            (126 | 127, _) => return Ok(None),
            (length, _) => (u64::from(length), 0),
        };
        let length = self.check_size(length)?;
        self.buffer.advance(2 + extended);
        Ok(Some(Header { fin, opcode, length }))
    }

    /// Fragments come in order, and control frames whole and small (RFC 6455, sections 5.4 and 5.5).
    fn check_order(&self, fin: bool, opcode: Opcode, length: u8) -> Result<(), FrameError> {
        let broken = match opcode {
            _ if opcode.is_control() && !fin => "a control frame is fragmented",
            _ if opcode.is_control() && length > 125 => "a control frame is longer than 125 bytes",
            Opcode::Continuation if self.partial.is_none() => "a continuation has nothing to continue",
            Opcode::Text | Opcode::Binary if self.partial.is_some() => {
                "a message begins before the last one ended"
            }
            _ => return Ok(()),
        };
        Err(FrameError::Protocol(broken))
    }

    /// By the header alone: what is too large is not received.
    fn check_size(&self, length: u64) -> Result<usize, FrameError> {
        if length >> 63 != 0 {
            return Err(FrameError::Protocol("the highest bit of a length is set"));
        }
        let before = self.partial.as_ref().map_or(0, |partial| partial.bytes.len());
        let limit = self.message_size_max;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let size = before.saturating_add(length);
        if size > limit { Err(FrameError::TooLarge { size, limit }) } else { Ok(length) }
    }

    /// Adds a fragment, and gives the message with the last one.
    fn join(&mut self, header: Header, payload: &[u8]) -> Result<Option<Received>, FrameError> {
        let text = header.opcode == Opcode::Text;
        let partial = self.partial.get_or_insert_with(|| Partial { text, bytes: BytesMut::new(), valid: 0 });
        partial.bytes.extend_from_slice(payload);
        if partial.text {
            partial.validate(header.fin)?;
        }
        if !header.fin {
            return Ok(None);
        }
        let Some(partial) = self.partial.take() else { return Ok(None) };
        let bytes = partial.bytes.freeze();
        let message =
            if partial.text { WsMessage::Text(self::text(bytes)?) } else { WsMessage::Binary(bytes) };
        Ok(Some(Received::Message(message)))
    }
}

impl Partial {
    /// A character may be cut by the end of a fragment, but not by the end of the message.
    fn validate(&mut self, last: bool) -> Result<(), FrameError> {
        match std::str::from_utf8(&self.bytes[self.valid..]) {
            Ok(text) => self.valid += text.len(),
            Err(error) if error.error_len().is_none() && !last => self.valid += error.valid_up_to(),
            Err(_) => return Err(FrameError::NotUtf8),
        }
        Ok(())
    }
}

fn text(bytes: Bytes) -> Result<Text, FrameError> {
    let text = Text::try_from(bytes);
    if planted::alive(Bug::HostileBytesPanic) {
        return Ok(text.expect("peers send UTF-8"));
    }
    text.map_err(|_| FrameError::NotUtf8)
}

/// RFC 6455, sections 5.5.1 and 7.4.
fn parse_close(payload: &[u8]) -> Result<Received, FrameError> {
    match payload {
        [] => Ok(Received::Close { code: None, reason: String::new() }),
        [_] => Err(FrameError::Protocol("a Close frame has one byte of a code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            // 1004 to 1006 and 1015 are never sent; what is not listed below 3000 is not assigned.
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(FrameError::CloseCode(code));
            }
            let reason = std::str::from_utf8(reason).map_err(|_| FrameError::NotUtf8)?.to_owned();
            Ok(Received::Close { code: Some(code), reason })
        }
    }
}

const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
/// A page: what an idle connection reads into.
const CHUNK_MIN_BYTES: usize = 4 << 10;

#[cfg(test)]
mod tests;
