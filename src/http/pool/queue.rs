//! Who waits for the pool as a whole: hosts for a permit, callers for the end of everything.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use super::{Anchor, Connection, HostRef, Inner, Locked, PoolKey, shard::Effects};
use crate::{
    planted::{self, Bug},
    sync::{Arc, Ordering, Weak},
};

/// Who waits for the pool as a whole.
pub(super) struct Queue<K: PoolKey, C: Connection> {
    /// Hosts that want a permit, the longest waiting first.
    starved: VecDeque<Weak<HostRef<K, C>>>,
    /// Idle connections that were taken out for them, and whose sockets aren't gone yet.
    pub(super) reclaimed: Vec<u64>,
    /// Who waits for the end of everything.
    drained: Vec<Waker>,
}

impl<K: PoolKey, C: Connection> Queue<K, C> {
    pub(super) fn new() -> Self {
        Self { starved: VecDeque::new(), reclaimed: Vec::new(), drained: Vec::new() }
    }
}

impl<K: PoolKey, C: Connection> Inner<K, C> {
    pub(super) fn queue_up(&self, starved: Vec<Weak<HostRef<K, C>>>) {
        for host in starved {
            let mut queue = self.queue.lock();
            queue.starved.push_back(host);
            // Order matters: under the lock, so that the count is that of the queue.
            self.permits.queued();
        }
    }

    /// Gives permits to hosts that wait for one, and closes idle connections to have some.
    pub(super) fn feed(&self) {
        // Bounded by who is starved: each turn takes one out of the queue, or is the last.
        while self.permits.starving() > 0 {
            if !self.permits.acquire_first() {
                if !self.reclaim() {
                    return;
                }
                continue;
            }
            // Others may have served it, or it is gone: whoever queued up meanwhile has seen this permit taken, and is looked for
            // in another turn.
            let Some(host) = self.next_starved() else {
                self.hand_back();
                continue;
            };
            let mut effects = Effects::none();
            let took = self.shards[host.shard].0.lock().feed(host.host, &mut effects);
            if !took {
                self.hand_back();
            }
            self.queue_up(effects.starved);
            effects.wake.into_iter().for_each(Waker::wake);
        }
    }

    /// A permit that was held for a moment only comes back: meanwhile the last socket may have gone.
    fn hand_back(&self) {
        self.permits.release();
        self.settle();
    }

    /// The host that has waited longest, out of the queue; `None` if there is none, or nobody refers to it any more.
    fn next_starved(&self) -> Option<Arc<HostRef<K, C>>> {
        let mut queue = self.queue.lock();
        let starved = queue.starved.pop_front()?;
        self.permits.unqueued();
        drop(queue);
        starved.upgrade()
    }

    /// Takes the longest idle connection of all out, so that its permit comes back. True if one went at once.
    fn reclaim(&self) -> bool {
        let is_enough = self.queue.lock().reclaimed.len() >= self.permits.starving();
        if is_enough || planted::alive(Bug::NothingReclaimed) {
            return false;
        }
        let oldest = |shard: &Locked<K, C>| shard.0.lock().oldest_idle();
        // Bounded: what was taken meanwhile is looked for again, and each time somebody else got on.
        while let Some(((_, id, host), place)) =
            self.shards.iter().enumerate().filter_map(|(place, shard)| Some((oldest(shard)?, place))).min()
        {
            let mut effects = Effects::none();
            // Order matters: noted before its socket can be gone.
            self.queue.lock().reclaimed.push(id);
            let evicted = self.shards[place].0.lock().evict(host, id, &mut effects);
            if evicted {
                let before = self.permits.open();
                drop(effects);
                return self.permits.open() < before;
            }
            self.reclaimed(id);
        }
        false
    }

    /// A connection's socket is gone.
    pub(super) fn socket_gone(&self, anchor: &Anchor<K, C>, id: u64) {
        let mut effects = Effects::none();
        {
            let host = &anchor.host;
            let mut shard = self.shards[host.shard].0.lock();
            // Order matters: said before the seats are called in. Who comes back with the connection later keeps it out.
            anchor.gone.store(true, Ordering::Release);
            shard.gone(host.host, id, &self.permits, &mut effects);
        }
        // Order matters: it is idle for nobody any more, so nobody notes it for a starving host after this.
        self.reclaimed(id);
        self.finish(effects);
        self.settle();
    }

    /// Of the sockets that are closed for a starving host, one less is waited for.
    fn reclaimed(&self, id: u64) {
        self.queue.lock().reclaimed.retain(|reclaimed| *reclaimed != id);
    }

    /// A dial or socket is gone: whoever waits for the last one is told.
    pub(super) fn settle(&self) {
        if self.permits.open() == 0 {
            let drained = std::mem::take(&mut self.queue.lock().drained);
            drained.into_iter().for_each(Waker::wake);
        }
    }

    /// Ready when no dial and no socket is left.
    pub(super) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.permits.open() == 0 || planted::alive(Bug::ClosedTooEarly) {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        {
            // Bounded by who waits: each has one place, however often it is polled.
            let drained = &mut self.queue.lock().drained;
            if !drained.iter().any(|other| other.will_wake(&waker)) {
                drained.push(waker);
            }
        }
        // Order matters: whoever takes the count to zero after this look finds the waker.
        if self.permits.open() == 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}
