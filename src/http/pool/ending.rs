//! What is let go of: what is idle for longest where its place is wanted, what is too old, everything at the end. Pure, like the
//! [shard](super::shard) it is in.

use super::{
    host::{Given, Host},
    permits::Permits,
    shard::{Effects, Reference, Shard},
};
use crate::env::Timestamp;

impl<K, C, H: Reference, A: Clone> Shard<K, C, H, A> {
    /// Calls the seats of every host in.
    pub(super) fn call_in(&mut self) {
        self.hosts.iter_mut().for_each(|(_, host)| host.call_in(&mut self.credit));
    }

    /// The connection longest idle: since when, which, and where.
    pub(super) fn oldest_idle(&mut self) -> Option<(Timestamp, u64, usize)> {
        self.call_in();
        let of =
            |(at, host): (usize, &Host<K, C, H, A>)| host.oldest_idle().map(|(since, id)| (since, id, at));
        self.hosts.iter().filter_map(of).min()
    }

    /// Takes an idle connection out. True if it was there, and was idle.
    pub(super) fn evict(&mut self, host: usize, id: u64, effects: &mut Effects<C, H, A>) -> bool {
        let Some(entry) = self.hosts.get_mut(host) else { return false };
        entry.call_in(&mut self.credit);
        if let Some(at) = entry.idle.iter().position(|stored| stored.id == id) {
            self.credit.left();
            effects.drop_own.extend(entry.idle.remove(at));
            return true;
        }
        let resting = entry.shared.iter().any(|shared| shared.id == id && shared.streams == 0);
        if resting {
            entry.drop_shared(id, &mut self.credit, effects);
        }
        resting
    }

    /// Takes out what is too old. When there is more to do; `None` if nothing is idle.
    pub(super) fn expire(&mut self, now: Timestamp, effects: &mut Effects<C, H, A>) -> Option<Timestamp> {
        self.now = self.now.max(now);
        let (rules, now) = (self.rules, self.now);
        let mut next = None;
        let mut sooner = |at: Timestamp| next = Some(next.map_or(at, |next: Timestamp| next.min(at)));
        for (_, host) in &mut self.hosts {
            host.call_in(&mut self.credit);
            for _ in 0..host.idle.len() {
                let Some(stored) = host.idle.pop_front() else { break };
                if rules.is_fresh(stored.since, stored.born, now) {
                    sooner(rules.expires(stored.since, stored.born));
                    host.idle.push_back(stored);
                } else {
                    self.credit.left();
                    effects.drop_own.push(stored);
                }
            }
            host.retire(rules, now, &mut self.credit, effects);
            for shared in &host.shared {
                match shared.streams {
                    0 => sooner(rules.expires(shared.since, shared.born)),
                    _ if !shared.draining => sooner(rules.dies(shared.born)),
                    _ => {}
                }
            }
        }
        next
    }

    /// Everything that is there ends: what is idle now, what is out when it comes back.
    pub(super) fn drain(&mut self, epoch: u64, permits: &Permits, effects: &mut Effects<C, H, A>) {
        // Another drain may have come by before.
        self.epoch = self.epoch.max(epoch);
        let hosts: Vec<usize> = self.hosts.iter().map(|(at, _)| at).collect();
        for at in hosts {
            let host = &mut self.hosts[at];
            host.call_in(&mut self.credit);
            for stored in host.idle.drain(..) {
                self.credit.left();
                effects.drop_own.push(stored);
            }
            for shared in &mut host.shared {
                shared.draining = true;
            }
            host.retire(self.rules, self.now, &mut self.credit, effects);
            self.pump(at, permits, effects);
        }
    }

    /// The same, for good: who waits is told.
    pub(super) fn close(&mut self, permits: &Permits, effects: &mut Effects<C, H, A>) {
        self.closed = true;
        self.drain(self.epoch + 1, permits, effects);
        for (_, host) in &mut self.hosts {
            for (ticket, mut waiter) in std::mem::take(&mut host.line) {
                host.withdraw(&mut waiter, permits);
                effects.wake.extend(waiter.waker.take());
                waiter.given = Some(Given::Closed);
                host.given.insert(ticket, waiter);
            }
        }
    }
}
