//! What is known of a host beyond the life of a connection.

use crate::{
    planted::{self, Bug},
    sync::{AtomicU64, Ordering},
};

/// Shared by the connections of one host.
#[derive(Debug)]
pub(crate) struct HostMemory {
    complaints: AtomicU64,
    streams: AtomicU64,
}

impl Default for HostMemory {
    fn default() -> Self {
        Self { complaints: AtomicU64::new(0), streams: AtomicU64::new(u64::MAX) }
    }
}

impl HostMemory {
    /// How often it has asked for fewer pings (ENHANCE_YOUR_CALM; RFC 9113, section 7).
    pub(crate) fn complaints(&self) -> u32 {
        if planted::alive(Bug::CalmForgotten) {
            return 0;
        }
        u32::try_from(self.complaints.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    pub(crate) fn complain(&self) {
        self.complaints.fetch_add(1, Ordering::Relaxed);
    }

    /// How many streams its last connection took: its next one most likely takes as many, and says so only when it has begun. None
    /// at all may have been for a moment: the next is asked.
    pub(crate) fn streams(&self) -> usize {
        usize::try_from(self.streams.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    pub(crate) fn set_streams(&self, limit: usize) {
        self.streams.store(limit as u64, Ordering::Relaxed);
    }
}
