//! The fingerprint of a run: equal for equal runs, in any process and on any machine.

use std::{fmt, io::Write};

use sha2::{Digest, Sha256};

use super::{Entry, Place, ServerLog, SocketLog, What, WorkLog};

/// Two fingerprints of one trace: of what it means, and of every byte on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// Of events, outcomes, faults and the life of sockets and tasks, with their times.
    pub semantic: [u8; 16],
    /// Of frames with unmasked payloads, lengths and times.
    pub frames: [u8; 16],
}

impl Digests {
    pub(crate) fn of(entries: &[Entry]) -> Self {
        let (mut semantic, mut frames) = (Sha256::new(), Sha256::new());
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.clear();
            spell(entry, &mut bytes);
            let hasher = if entry.is_wire() { &mut frames } else { &mut semantic };
            hasher.update(&bytes);
        }
        Self { semantic: half(semantic), frames: half(frames) }
    }
}

/// An entry in bytes: different ones for different entries. What there is much of is not put into words, which took a sixth
/// of a run.
fn spell(entry: &Entry, out: &mut Vec<u8>) {
    let place = match entry.place {
        Place::World => u64::MAX,
        Place::Exchange => u64::MAX - 1,
        Place::Client(client) => client as u64,
    };
    let mut fields = |kind: u64, fields: [u64; 3]| {
        for number in [entry.at.as_nanos(), place, kind].into_iter().chain(fields) {
            out.extend_from_slice(&number.to_le_bytes());
        }
    };
    match &entry.what {
        What::Socket(SocketLog::Read { socket, bytes }) => fields(1, [*socket, *bytes as u64, 0]),
        What::Socket(SocketLog::Wrote { socket, bytes }) => fields(2, [*socket, *bytes as u64, 0]),
        What::Socket(SocketLog::Frame { socket, frame }) => {
            fields(3, [*socket, u64::from(frame.opcode), frame.payload.len() as u64]);
            out.extend_from_slice(&frame.payload);
        }
        What::Server(ServerLog::Said { conn, text }) => {
            fields(4, [*conn, text.len() as u64, 0]);
            out.extend_from_slice(text.as_bytes());
        }
        What::Work(WorkLog::GuardMessage { guard, topic, sequence, conn }) => {
            fields(5, [u64::from(*guard), *sequence, *conn]);
            out.extend_from_slice(topic.as_bytes());
            out.push(b'\n');
        }
        what => {
            fields(0, [0; 3]);
            // A Vec takes every write. Strings in it are escaped: a line ends where it ends.
            let _ = writeln!(out, "{what:?}");
        }
    }
}

impl Entry {
    /// True for bytes and frames, false for what they mean.
    pub(crate) fn is_wire(&self) -> bool {
        matches!(
            self.what,
            What::Socket(
                SocketLog::Read { .. }
                    | SocketLog::Wrote { .. }
                    | SocketLog::Frame { .. }
                    | SocketLog::LeftUnread { .. }
                    | SocketLog::Blocked { .. }
                    | SocketLog::Flushed { .. }
            ) | What::Server(ServerLog::Heard { .. } | ServerLog::Said { .. } | ServerLog::Pinged { .. })
        )
    }
}

/// 128 bits tell runs apart; nobody forges them.
pub(super) fn half(hasher: Sha256) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&hasher.finalize()[..16]);
    out
}

impl fmt::Display for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.semantic {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("-")?;
        for byte in self.frames {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
