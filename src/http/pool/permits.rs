//! The limits of the pool as a whole. They are exact for any number of shards: each is one counter.

use crate::{
    planted::{self, Bug},
    sync::{AtomicUsize, Ordering, Padded, fence},
};

/// Dials and sockets, the right to idle connections, and how many hosts wait for one of the former.
pub(super) struct Permits {
    open: Padded<AtomicUsize>,
    open_max: usize,
    idle: Padded<AtomicUsize>,
    idle_max: usize,
    /// Hosts in the queue for a permit.
    starving: AtomicUsize,
}

impl Permits {
    pub(super) fn new(open_max: usize, idle_max: usize) -> Self {
        let padded = || Padded(AtomicUsize::new(0));
        Self { open: padded(), open_max, idle: padded(), idle_max, starving: AtomicUsize::new(0) }
    }

    /// A permit to dial, unless there is none or others have waited longer for one.
    pub(super) fn acquire(&self) -> bool {
        self.starving() == 0 && self.acquire_first()
    }

    /// A permit for the host that has waited longest.
    pub(super) fn acquire_first(&self) -> bool {
        // Order matters: who has queued up looks again, and who has given one back looks at the queue. One of them sees the
        // other.
        fence(Ordering::SeqCst);
        let has_room = |open| open < self.open_max || planted::alive(Bug::TotalLimitIgnored);
        let more = |open: usize| has_room(open).then(|| open + 1);
        self.open.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// A permit comes back. Whoever gives it back asks [`starving`](Self::starving) afterwards.
    pub(super) fn release(&self) {
        self.open.0.fetch_sub(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    pub(super) fn open(&self) -> usize {
        self.open.0.load(Ordering::Acquire)
    }

    /// The right to one more idle connection.
    pub(super) fn lend_idle(&self) -> bool {
        let more = |lent: usize| (lent < self.idle_max).then(|| lent + 1);
        self.idle.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(super) fn return_idle(&self, rights: usize) {
        self.idle.0.fetch_sub(rights, Ordering::Relaxed);
    }

    #[cfg(all(test, not(hpx_loom)))]
    pub(super) fn idle(&self) -> usize {
        self.idle.0.load(Ordering::Relaxed)
    }

    pub(super) fn starving(&self) -> usize {
        self.starving.load(Ordering::Acquire)
    }

    pub(super) fn queued(&self) {
        self.starving.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    pub(super) fn unqueued(&self) {
        self.starving.fetch_sub(1, Ordering::AcqRel);
    }
}
