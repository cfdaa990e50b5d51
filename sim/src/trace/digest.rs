//! The fingerprint of a run: equal for equal runs, in any process and on any machine.

use std::fmt;

use sha2::{Digest, Sha256};

use super::{Entry, ServerLog, SocketLog, What};

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
        for entry in entries {
            let line = format!("{} {:?} {:?}\n", entry.at.as_nanos(), entry.place, entry.what);
            let hasher = if entry.is_wire() { &mut frames } else { &mut semantic };
            hasher.update(line.as_bytes());
        }
        Self { semantic: half(semantic), frames: half(frames) }
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
                    | SocketLog::Blocked { .. }
                    | SocketLog::Flushed { .. }
            ) | What::Server(ServerLog::Heard { .. } | ServerLog::Said { .. } | ServerLog::Pinged { .. })
        )
    }
}

/// 128 bits tell runs apart; nobody forges them.
fn half(hasher: Sha256) -> [u8; 16] {
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
