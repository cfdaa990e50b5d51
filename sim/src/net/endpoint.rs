//! One end of a TCP connection, as far as those who write to it and read from it can tell.
//!
//! | state | means | leaves by |
//! |---|---|---|
//! | `Idle` | the far end of a dial whose SYN has not arrived | SYN -> `Open` |
//! | `Connecting` | a SYN is under way | SYN-ACK -> `Open`; RST, retries used up, given up -> `Dead` |
//! | `Open` | bytes go both ways until each side's FIN | RST, retries used up, crash -> `Dead` |
//! | `Dead` | of no use; what arrives is answered with RST | |
//!
//! There are no acknowledgements: the fabric knows what was lost. A loss stops the end's whole stream, in order, until the
//! retransmission timeout, as TCP's head of line does.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use hpx_transport::env::Timestamp;

use super::fabric::Packet;

/// Names one end. The two ends of a connection differ in the last bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EndId(pub(super) usize);

impl EndId {
    pub(super) fn peer(self) -> Self {
        Self(self.0 ^ 1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    Connecting,
    Open,
    Dead(io::ErrorKind),
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) host: usize,
    pub(super) addr: SocketAddr,
    pub(super) state: State,
    /// Somebody holds the socket.
    pub(super) held: bool,
    /// Written and not yet under way. Bounded by `SEND_BUFFER_BYTES`.
    pub(super) unsent: VecDeque<u8>,
    pub(super) fin: Fin,
    /// Bytes sent in all, and how many the peer's window allows in all.
    pub(super) sent: u64,
    pub(super) allowed: u64,
    /// Lost, in order, and with it all that came after. Bounded by the window.
    pub(super) lost: VecDeque<Packet>,
    pub(super) timeout: Duration,
    pub(super) retries: u32,
    pub(super) timer_armed: bool,
    /// When the packet before arrives: none overtakes another.
    pub(super) last_arrival: Timestamp,
    /// Arrived and not yet read. Bounded by the window.
    pub(super) received: VecDeque<u8>,
    /// Bytes read in all, and how many the peer was allowed in all.
    pub(super) read: u64,
    pub(super) granted: u64,
    /// The peer's FIN has arrived.
    pub(super) ended: bool,
}

/// How far this end is with its FIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fin {
    NotYet,
    Wanted,
    Sent,
}

impl Endpoint {
    /// `windows` are its own and its peer's: what each takes before somebody reads.
    pub(super) fn new(host: usize, addr: SocketAddr, state: State, windows: (u64, u64)) -> Self {
        Self {
            host,
            addr,
            state,
            held: false,
            unsent: VecDeque::new(),
            fin: Fin::NotYet,
            sent: 0,
            allowed: windows.1,
            lost: VecDeque::new(),
            timeout: RETRY_TIMEOUT_MIN,
            retries: 0,
            timer_armed: false,
            last_arrival: Timestamp::ZERO,
            received: VecDeque::new(),
            read: 0,
            granted: windows.0,
            ended: false,
        }
    }

    /// Takes as many bytes as the buffer has room for; `None` if it has none.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        match self.state {
            State::Dead(kind) => return Err(kind.into()),
            _ if self.fin != Fin::NotYet => return Err(io::ErrorKind::BrokenPipe.into()),
            _ => {}
        }
        let count = bytes.len().min(SEND_BUFFER_BYTES - self.unsent.len());
        self.unsent.extend(&bytes[..count]);
        Ok((count > 0 || bytes.is_empty()).then_some(count))
    }

    /// The next bytes for the peer that its window allows.
    pub(super) fn next_segment(&mut self) -> Option<Vec<u8>> {
        let room = usize::try_from(self.allowed.saturating_sub(self.sent)).unwrap_or(usize::MAX);
        let count = self.unsent.len().min(room).min(SEGMENT_BYTES);
        self.sent += count as u64;
        (count > 0).then(|| self.unsent.drain(..count).collect())
    }

    /// Gives out what has arrived: how many bytes, zero at the end of the stream, `None` if there is nothing yet.
    pub(super) fn read(&mut self, mut take: impl FnMut(&[u8]), most: usize) -> io::Result<Option<usize>> {
        let count = most.min(self.received.len());
        if count > 0 {
            let (front, back) = self.received.as_slices();
            let first = count.min(front.len());
            take(&front[..first]);
            take(&back[..count - first]);
            self.received.drain(..count);
            self.read += count as u64;
            return Ok(Some(count));
        }
        match self.state {
            _ if self.ended => Ok(Some(0)),
            State::Dead(kind) => Err(kind.into()),
            _ => Ok(None),
        }
    }

    /// A new limit for the peer, once half a window has been read since the last.
    pub(super) fn grant(&mut self, window: u64) -> Option<u64> {
        let limit = self.read + window;
        let due = limit > self.granted && limit - self.granted >= (window / 2).max(1);
        due.then(|| {
            self.granted = limit;
            limit
        })
    }

    /// The end of it. What has arrived can still be read, as on Linux.
    pub(super) fn die(&mut self, kind: io::ErrorKind) {
        self.state = State::Dead(kind);
        self.unsent = VecDeque::new();
        self.lost = VecDeque::new();
    }
}

/// What a writer may be ahead of the network by.
pub(super) const SEND_BUFFER_BYTES: usize = 64 << 10;
/// The payload of a packet on an Ethernet.
pub(super) const SEGMENT_BYTES: usize = 1460;
/// The first wait for an answer to a SYN; it doubles (RFC 6298, section 2.1).
pub(super) const SYN_TIMEOUT: Duration = Duration::from_secs(1);
/// The least wait before bytes are sent again, as on Linux; it doubles.
pub(super) const RETRY_TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// The longest such wait, as on Linux.
pub(super) const RETRY_TIMEOUT_MAX: Duration = Duration::from_secs(120);
/// After so many the connection is given up: 51 s after the first loss, sooner than most systems do it, so that a run of
/// minutes can see it.
pub(super) const RETRIES_MAX: u32 = 7;
