//! WebSocket frames (RFC 6455, section 5): a writer of client frames, a reader of server frames. Neither knows a socket.

mod read;
mod write;

pub(super) use self::{
    read::{FrameError, FrameReader, Received},
    write::WriteBuffer,
};

/// What a frame carries (RFC 6455, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    fn parse(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The last frame of its message.
const FIN: u8 = 0x80;
/// The payload is masked: every frame of a client is, and none of a server.
const MASKED: u8 = 0x80;
