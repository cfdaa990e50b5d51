//! What the faults do to one socket: decided here, carried out by the stream.

use std::io;

use super::{conditions::Cut, registry::Registry};
use crate::plan::{CutHow, Way};

/// How one socket stands towards the faults.
#[derive(Debug)]
pub(super) struct FaultIo {
    /// Bytes that were read, and written, so far.
    read: usize,
    written: usize,
    /// Where it ends, and where a byte comes in changed: of the faults that were active when it opened.
    cut: Option<Cut>,
    corrupt: Option<(usize, u8)>,
    /// Where reading stops until the world has taken note, nearest first.
    stops: Vec<usize>,
    /// What had happened to the client's sockets before it opened.
    resets: u64,
    half_opens: u64,
    broken: Option<Broken>,
}

/// How a socket is over, whatever its peer thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Reset,
    Ended,
}

/// What may be done to a socket now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// At most so many bytes.
    Move(usize),
    /// Nothing: the peer is silent, or doesn't take any.
    Wait,
    /// So many are taken, and go nowhere.
    Swallow,
    /// It is over.
    Over(Broken),
    /// So many bytes were read: the world is told, and takes note, before the next.
    Stop(usize),
}

impl FaultIo {
    pub(super) fn new(registry: &Registry, socket: u64) -> Self {
        let stops = registry.stops.iter().filter(|(dial, _)| *dial == socket).map(|(_, byte)| *byte);
        let mut stops: Vec<usize> = stops.collect();
        stops.sort_unstable();
        stops.dedup();
        Self {
            read: 0,
            written: 0,
            cut: registry.conditions.cut,
            corrupt: registry.conditions.corrupt,
            stops,
            resets: registry.resets,
            half_opens: registry.half_opens,
            broken: None,
        }
    }

    /// What a read may do.
    pub(super) fn leave_to_read(&mut self, registry: &Registry) -> Leave {
        if let Some(leave) = self.stands(registry) {
            return match leave {
                Leave::Swallow => Leave::Wait,
                other => other,
            };
        }
        if let Some(byte) = self.stops.first().copied()
            && byte <= self.read
        {
            self.stops.remove(0);
            return Leave::Stop(byte);
        }
        let to_stop = self.stops.first().map_or(usize::MAX, |byte| byte - self.read);
        let dribble = registry.conditions.dribble.unwrap_or(usize::MAX);
        let most = self.to_cut(registry, Way::Read, self.read).min(to_stop).min(dribble);
        self.over_at(most)
    }

    /// What a write may do.
    pub(super) fn leave_to_write(&mut self, registry: &Registry) -> Leave {
        if let Some(leave) = self.stands(registry) {
            return leave;
        }
        if registry.stall_left == Some(0) {
            return Leave::Wait;
        }
        let conditions = &registry.conditions;
        let most = [conditions.dribble, conditions.partial_writes, registry.stall_left];
        let most = most.into_iter().flatten().min().unwrap_or(usize::MAX);
        let most = most.min(self.to_cut(registry, Way::Write, self.written));
        self.over_at(most)
    }

    /// Bytes were read: one of them may have to be another.
    pub(super) fn has_read(&mut self, registry: &Registry, bytes: &mut [u8]) {
        if let Some((place, mask)) = self.corrupt.filter(|_| registry.conditions.corrupt == self.corrupt)
            && let Some(byte) = place.checked_sub(self.read).and_then(|offset| bytes.get_mut(offset))
        {
            *byte ^= mask;
        }
        self.read += bytes.len();
    }

    /// Bytes were written. A cut comes in the moment its byte has gone, and not when there is another to write.
    pub(super) fn has_written(&mut self, registry: &mut Registry, count: usize) -> Option<Broken> {
        self.written += count;
        if let Some(left) = &mut registry.stall_left {
            *left = left.saturating_sub(count);
        }
        match self.over_at(self.to_cut(registry, Way::Write, self.written)) {
            Leave::Over(broken) => Some(broken),
            _ => None,
        }
    }

    /// True if nobody is at the other end, and the socket doesn't know.
    pub(super) fn is_half_open(&self, registry: &Registry) -> bool {
        registry.half_opens > self.half_opens && self.broken.is_none()
    }

    /// Bytes from here to the cut, while that fault lasts.
    fn to_cut(&self, registry: &Registry, way: Way, from: usize) -> usize {
        match self.cut {
            Some(cut) if cut.way == way && registry.conditions.cut == self.cut => {
                cut.byte.saturating_sub(from)
            }
            _ => usize::MAX,
        }
    }

    fn over_at(&mut self, most: usize) -> Leave {
        let Some(cut) = self.cut.filter(|_| most == 0) else { return Leave::Move(most) };
        let broken = if cut.how == CutHow::Reset { Broken::Reset } else { Broken::Ended };
        self.broken = Some(broken);
        Leave::Over(broken)
    }

    /// What has befallen the whole socket, if anything.
    fn stands(&mut self, registry: &Registry) -> Option<Leave> {
        let orphaned = registry.half_opens > self.half_opens;
        if registry.resets > self.resets || (orphaned && !registry.conditions.half_open) {
            self.broken.get_or_insert(Broken::Reset);
        }
        match self.broken {
            Some(broken) => Some(Leave::Over(broken)),
            None => orphaned.then_some(Leave::Swallow),
        }
    }
}

impl Broken {
    /// What a read gives.
    pub(super) fn of_read(self) -> io::Result<()> {
        match self {
            Self::Reset => Err(io::ErrorKind::ConnectionReset.into()),
            Self::Ended => Ok(()),
        }
    }

    /// What a write gives.
    pub(super) fn of_write(self) -> io::Error {
        match self {
            Self::Reset => io::ErrorKind::ConnectionReset.into(),
            Self::Ended => io::ErrorKind::BrokenPipe.into(),
        }
    }
}
