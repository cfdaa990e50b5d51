//! The count of everything a client holds of the world.

use std::collections::BTreeMap;

use super::Conditions;

#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) tasks: BTreeMap<&'static str, usize>,
    pub(super) timers: usize,
    pub(super) timers_armed: usize,
    pub(super) dials: usize,
    pub(super) sockets: usize,
    pub(super) conditions: Conditions,
    dialed: u64,
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
