//! The count of everything a client holds of the world, and how the world stands towards it.

use std::{collections::BTreeMap, task::Waker};

use hpx_transport::env::Timestamp;

use super::{Conditions, clock::OwnClock};

#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) tasks: BTreeMap<&'static str, usize>,
    pub(super) timers: usize,
    pub(super) timers_armed: usize,
    pub(super) dials: usize,
    pub(super) sockets: usize,
    dialed: u64,
    pub(super) conditions: Conditions,
    pub(super) clock: OwnClock,
    /// It has run fast or slow: timers armed before may be wrong.
    pub(super) clock_was_set: bool,
    /// What the wall clock has jumped, in milliseconds.
    pub(super) jumped_ms: i64,
    /// How often open sockets were reset, and how often they lost their peer.
    pub(super) resets: u64,
    pub(super) half_opens: u64,
    /// What a peer that stops reading still takes.
    pub(super) stall_left: Option<usize>,
    /// Dials and the bytes of their upgrade responses at which the plan has a fault begin.
    pub(super) stops: Vec<(u64, usize)>,
    /// Of the client's tasks: to be woken when the world changes for it.
    pub(super) wakers: BTreeMap<u64, Waker>,
    futures: u64,
    /// The future that is polled now, and the socket that each has opened last.
    pub(super) running: u64,
    pub(super) opened: BTreeMap<u64, u64>,
}

/// What one client holds of the world at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Tasks that run.
    pub tasks: usize,
    /// Timers that exist, armed or not.
    pub timers: usize,
    /// Timers that were armed.
    pub timers_armed: usize,
    /// Dials under way.
    pub dials: usize,
    /// Open sockets.
    pub sockets: usize,
}

impl Census {
    /// True if nothing is left.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Registry {
    /// A number for the dial, and for the socket that may come of it.
    pub(super) fn start_dial(&mut self) -> u64 {
        self.dials += 1;
        self.dialed += 1;
        self.dialed
    }

    /// A dial has become a socket.
    pub(super) fn opened(&mut self, socket: u64) {
        self.sockets += 1;
        self.opened.insert(self.running, socket);
    }

    pub(super) fn next_future(&mut self) -> u64 {
        self.futures += 1;
        self.futures
    }

    /// The world has changed.
    pub(super) fn set_conditions(&mut self, now: Timestamp, conditions: Conditions) {
        let before = std::mem::replace(&mut self.conditions, conditions);
        if before.stall_after != self.conditions.stall_after {
            self.stall_left = self.conditions.stall_after;
        }
        self.half_opens += u64::from(self.conditions.half_open && !before.half_open);
        self.clock_was_set |= self.conditions.skew_ppm != 0;
        self.clock.set(now, self.conditions.skew_ppm);
    }

    pub(super) fn census(&self) -> Census {
        Census {
            tasks: self.tasks.values().sum(),
            timers: self.timers,
            timers_armed: self.timers_armed,
            dials: self.dials,
            sockets: self.sockets,
        }
    }
}
