//! The hosts of one shard: their idle connections, who waits for one, and what may be dialed.
//!
//! Pure: no lock but the [seats](super::seats)', no clock, no task; wakers, connections and keys are carried and never called,
//! dropped or cloned but where it says so. What is to be woken or dropped is handed out in [`Effects`], for when the lock is gone.
//!
//! Invariants, after every operation that ends in [`pump`](Shard::pump):
//! - nothing is idle at a host while somebody waits there;
//! - nobody waits while a dial is allowed that is needed and not under way.

use std::{sync::Arc, task::Waker};

use slab::Slab;

use super::{
    host::{Credit, Flavor, Given, Host, Shared},
    permits::Permits,
    rules::Rules,
    seats::{Seated, Seats},
};
use crate::{
    env::Timestamp,
    error::TransportError,
    planted::{self, Bug},
};

/// A connection's own reference to its host.
pub(super) trait Reference: Clone {
    /// True once the connection's socket is gone. It becomes so under the lock of its shard.
    fn is_gone(&self) -> bool;
}

/// A connection for one user at a time. `H` is its own reference to its host. It lies in a box of its own, so that a checkout
/// moves a pointer.
pub(super) struct Stored<C, H> {
    pub(super) conn: C,
    pub(super) host: H,
    pub(super) id: u64,
    pub(super) born: Timestamp,
    pub(super) epoch: u64,
    /// When it last was of use.
    pub(super) since: Timestamp,
}

/// A connection, for the one who asked.
pub(super) enum Handed<C, H> {
    /// Its alone.
    Own(Box<Stored<C, H>>),
    /// One stream of it.
    Stream { conn: Arc<C>, host: H, id: u64 },
}

/// What is left to do when the lock is gone.
pub(super) struct Effects<C, H, A> {
    pub(super) wake: Vec<Waker>,
    pub(super) drop_wakers: Vec<Waker>,
    pub(super) drop_own: Vec<Box<Stored<C, H>>>,
    pub(super) drop_shared: Vec<(Arc<C>, H)>,
    /// Hosts where a dial is wanted and the pool as a whole is full: to be queued.
    pub(super) starved: Vec<A>,
    /// Something became idle, and is too old then.
    pub(super) idled: Option<Timestamp>,
}

impl<C, H, A> Effects<C, H, A> {
    pub(super) fn none() -> Self {
        Self {
            wake: Vec::new(),
            drop_wakers: Vec::new(),
            drop_own: Vec::new(),
            drop_shared: Vec::new(),
            starved: Vec::new(),
            idled: None,
        }
    }
}

pub(super) struct Shard<K, C, H, A> {
    pub(super) hosts: Slab<Host<K, C, H, A>>,
    pub(super) index: hashbrown::HashTable<usize>,
    pub(super) rules: Rules,
    /// The latest time anybody brought along.
    pub(super) now: Timestamp,
    pub(super) epoch: u64,
    pub(super) closed: bool,
    pub(super) credit: Credit,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Census {
    pub(super) hosts: usize,
    pub(super) open: usize,
    pub(super) dialing: usize,
    pub(super) idle: usize,
    pub(super) waiting: usize,
}

impl<K, C, H: Reference, A: Clone> Shard<K, C, H, A> {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            hosts: Slab::new(),
            index: hashbrown::HashTable::new(),
            rules,
            now: Timestamp::ZERO,
            epoch: 0,
            closed: false,
            credit: Credit::default(),
        }
    }

    /// The host with this key.
    pub(super) fn find(&self, hash: u64, is_key: impl Fn(&K) -> bool) -> Option<usize> {
        let is_it = |host: &usize| self.hosts[*host].hash == hash && is_key(&self.hosts[*host].key);
        self.index.find(hash, is_it).copied()
    }

    /// A new host.
    pub(super) fn insert(&mut self, hash: u64, key: K, shares: bool, anchor: A) -> usize {
        let host = Host::new(hash, key, shares, anchor);
        let at = self.hosts.insert(host);
        let hosts = &self.hosts;
        self.index.insert_unique(hash, at, |host| hosts[*host].hash);
        at
    }

    /// Forgets a host that nobody refers to any more: it has no connection, and nobody waits.
    pub(super) fn remove(&mut self, host: usize) -> (K, A) {
        let hash = self.hosts[host].hash;
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == host) {
            entry.remove();
        }
        let host = self.hosts.remove(host);
        (host.key, host.anchor)
    }

    pub(super) fn seats(&self, host: usize) -> Arc<Seats<C, H>> {
        Arc::clone(&self.hosts[host].seats)
    }

    pub(super) fn anchor(&self, host: usize) -> &A {
        &self.hosts[host].anchor
    }

    /// What was queued under the old one is not found any more.
    pub(super) fn set_anchor(&mut self, host: usize, anchor: A) {
        let host = &mut self.hosts[host];
        host.anchor = anchor;
        host.queued = false;
    }

    /// The connection most recently used, if one is idle and young enough: what nearly every checkout finds.
    pub(super) fn take_newest(
        &mut self,
        host: usize,
        seat: usize,
        now: Timestamp,
    ) -> Option<Box<Stored<C, H>>> {
        self.now = self.now.max(now);
        let (rules, now) = (self.rules, self.now);
        let Host { idle, seats, lent, .. } = &mut self.hosts[host];
        if lent.contains(seat) {
            let newest = idle.back().map(|stored| stored.since);
            let passes = |stored: &Stored<C, H>| {
                newest.is_none_or(|newest| newest <= stored.since)
                    && rules.is_fresh(stored.since, stored.born, now)
            };
            if let Some(stored) = seats.take(seat, passes) {
                return Some(stored);
            }
        }
        if planted::alive(Bug::OldestHandedOutFirst) {
            idle.rotate_left(usize::from(!idle.is_empty()));
        }
        idle.back().filter(|stored| rules.is_fresh(stored.since, stored.born, now))?;
        self.credit.left();
        idle.pop_back()
    }

    /// A stream of a connection that is there and may be used, where there are no others to choose from: what nearly every checkout
    /// finds where connections are shared.
    pub(super) fn take_stream(&mut self, host: usize, now: Timestamp) -> Option<Handed<C, H>> {
        self.now = self.now.max(now);
        let Host { idle, lent, shared, .. } = &mut self.hosts[host];
        let first = shared.first_mut().filter(|_| idle.is_empty() && lent.is_empty())?;
        if !first.has_room() || !self.rules.is_young(first.born, self.now) || first.streams == 0 {
            return None;
        }
        Some(first.begin())
    }

    /// Keeps a connection that came back, if that is all there is to do: nobody waits for it and it takes nobody's place. Gives
    /// it back where there is more.
    pub(super) fn keep(
        &mut self,
        host: usize,
        seat: usize,
        stored: Box<Stored<C, H>>,
        permits: &Permits,
    ) -> Option<Box<Stored<C, H>>> {
        self.now = self.now.max(stored.since);
        let is_good = !self.closed
            && stored.epoch == self.epoch
            && self.rules.is_young(stored.born, self.now)
            && !stored.host.is_gone();
        let entry = &mut self.hosts[host];
        let is_unwanted = entry.line.is_empty() || planted::alive(Bug::PutAwayBesideWaiters);
        let has_room =
            is_unwanted && entry.shared.is_empty() && entry.idle_at_most() < self.rules.idle_per_host;
        if is_good && has_room && self.credit.enters(permits) {
            match entry.seats.lend(seat, stored) {
                Seated::Lent => entry.lent.insert(seat),
                Seated::Filled => self.credit.left(),
                Seated::InPlaceOf(other) => entry.rest(other),
            }
            return None;
        }
        Some(stored)
    }

    /// A connection that is free now. What is found too old is handed out to be dropped.
    pub(super) fn take(
        &mut self,
        host: usize,
        now: Timestamp,
        effects: &mut Effects<C, H, A>,
    ) -> Option<Handed<C, H>> {
        self.now = self.now.max(now);
        let (rules, now) = (self.rules, self.now);
        let host = &mut self.hosts[host];
        host.call_in(&mut self.credit);
        // Bounded by what is idle: the newest first, and when it is too old the others are.
        while let Some(stored) = host.idle.pop_back() {
            self.credit.left();
            if rules.is_fresh(stored.since, stored.born, now) {
                return Some(Handed::Own(stored));
            }
            effects.drop_own.push(stored);
        }
        if host.shared.is_empty() { None } else { host.stream(rules, now, &mut self.credit, effects) }
    }

    /// A connection comes back from its user, still good.
    pub(super) fn give_back(
        &mut self,
        host: usize,
        stored: Box<Stored<C, H>>,
        permits: &Permits,
        effects: &mut Effects<C, H, A>,
    ) {
        self.now = self.now.max(stored.since);
        // Its socket may have gone since its user looked whether it is open: nobody would ever take it out.
        let is_old = self.closed || stored.epoch != self.epoch || stored.host.is_gone();
        let is_young = self.rules.is_young(stored.born, self.now) || planted::alive(Bug::ExpiredHandedOut);
        if is_old || !is_young {
            effects.drop_own.push(stored);
            return;
        }
        let entry = &mut self.hosts[host];
        if !entry.line.is_empty() {
            entry.serve(Handed::Own(stored), permits, effects);
            self.pump(host, permits, effects);
            return;
        }
        effects.idled = Some(self.rules.expires(stored.since, stored.born));
        entry.call_in(&mut self.credit);
        entry.idle.push_back(stored);
        let is_over = self.credit.entered(permits);
        self.trim(host, is_over, effects);
    }

    /// A connection of a host became idle, and maybe one too many in all: one that was idle for longer may have to go for it.
    fn trim(&mut self, host: usize, is_over: bool, effects: &mut Effects<C, H, A>) {
        let entry = &self.hosts[host];
        let oldest = if entry.idle.len() + entry.resting().count() > self.rules.idle_per_host {
            entry.oldest_idle().map(|(since, id)| (since, id, host))
        } else if is_over {
            self.oldest_idle()
        } else {
            None
        };
        if let Some((_, id, host)) = oldest {
            self.evict(host, id, effects);
        }
    }

    /// What [`keep`](Self::keep) is for a stream that has ended: true if others are open on its connection and nobody waits for it.
    pub(super) fn keep_stream(&mut self, host: usize, id: u64) -> bool {
        let Host { line, shared, .. } = &mut self.hosts[host];
        match shared.iter_mut().find(|shared| shared.id == id) {
            Some(shared) if shared.streams > 1 && line.is_empty() => {
                shared.streams -= 1;
                true
            }
            _ => false,
        }
    }

    /// A stream of a shared connection has ended.
    pub(super) fn end_stream(
        &mut self,
        host: usize,
        id: u64,
        now: Timestamp,
        permits: &Permits,
        effects: &mut Effects<C, H, A>,
    ) {
        self.now = self.now.max(now);
        let entry = &mut self.hosts[host];
        if let Some(at) = entry.shared.iter().position(|shared| shared.id == id) {
            let shared = &mut entry.shared[at];
            shared.streams -= 1;
            if shared.streams == 0 {
                shared.since = now;
                if shared.draining || shared.epoch != self.epoch || self.closed {
                    let shared = entry.shared.swap_remove(at);
                    effects.drop_shared.push((shared.conn, shared.host));
                } else {
                    return self.rested(host, id, permits, effects);
                }
            }
        }
        self.pump(host, permits, effects);
    }

    /// A shared connection has no stream: who waits takes it, or it is idle.
    fn rested(&mut self, host: usize, id: u64, permits: &Permits, effects: &mut Effects<C, H, A>) {
        let rules = self.rules;
        let of_host = self.hosts[host].shared.iter().find(|shared| shared.id == id);
        effects.idled = of_host.map(|shared| rules.expires(shared.since, shared.born));
        self.hosts[host].call_in(&mut self.credit);
        let is_over = self.credit.entered(permits);
        self.pump(host, permits, effects);
        if self.hosts[host].resting().any(|shared| shared.id == id) {
            self.trim(host, is_over, effects);
        }
    }

    /// A dial has become a connection for one user at a time.
    pub(super) fn opened_own(
        &mut self,
        host: usize,
        ticket: u64,
        stored: Box<Stored<C, H>>,
        permits: &Permits,
        effects: &mut Effects<C, H, A>,
    ) {
        let entry = &mut self.hosts[host];
        entry.end_dial(ticket);
        entry.flavor = Flavor::Own;
        self.give_back(host, stored, permits, effects);
        self.pump(host, permits, effects);
    }

    /// A dial has become a connection for many.
    pub(super) fn opened_shared(
        &mut self,
        host: usize,
        ticket: u64,
        stored: Box<Stored<C, H>>,
        limit: usize,
        permits: &Permits,
        effects: &mut Effects<C, H, A>,
    ) {
        let at = host;
        self.now = self.now.max(stored.born);
        let is_closed = self.closed || stored.epoch != self.epoch;
        let entry = &mut self.hosts[host];
        entry.end_dial(ticket);
        entry.flavor = Flavor::Shared;
        if is_closed {
            effects.drop_own.push(stored);
        } else {
            let Stored { conn, host, id, born, epoch, since } = *stored;
            let conn = Arc::new(conn);
            let shared = Shared { conn, host, id, born, epoch, streams: 0, limit, draining: false, since };
            entry.shared.push(shared);
            return self.rested(at, id, permits, effects);
        }
        self.pump(at, permits, effects);
    }

    /// A dial has come to nothing. Its owner, if it still waits, is told why; nobody else is.
    pub(super) fn dial_failed(
        &mut self,
        host: usize,
        ticket: u64,
        error: Option<TransportError>,
        permits: &Permits,
        effects: &mut Effects<C, H, A>,
    ) {
        let entry = &mut self.hosts[host];
        entry.end_dial(ticket);
        if !planted::alive(Bug::PermitLeakedOnDialError) {
            entry.open -= 1;
            permits.release();
        }
        // Abandoned without a word: its owner may try again.
        if let Some(error) = error
            && let Some(mut waiter) = entry.line.remove(&ticket)
        {
            entry.withdraw(&mut waiter, permits);
            effects.wake.extend(waiter.waker.take());
            if planted::alive(Bug::OneErrorForAll) {
                for (ticket, mut other) in std::mem::take(&mut entry.line) {
                    effects.wake.extend(other.waker.take());
                    other.given = Some(Given::Failed(error.clone()));
                    entry.given.insert(ticket, other);
                }
            }
            waiter.given = Some(Given::Failed(error));
            entry.given.insert(ticket, waiter);
        }
        if planted::alive(Bug::FailedDialWakesNobody) {
            return;
        }
        self.pump(host, permits, effects);
    }

    /// A connection's socket is gone, wherever the connection was.
    pub(super) fn gone(&mut self, host: usize, id: u64, permits: &Permits, effects: &mut Effects<C, H, A>) {
        let entry = &mut self.hosts[host];
        entry.open -= 1;
        permits.release();
        entry.call_in(&mut self.credit);
        if let Some(at) = entry.idle.iter().position(|stored| stored.id == id) {
            self.credit.left();
            effects.drop_own.extend(entry.idle.remove(at));
        }
        entry.drop_shared(id, &mut self.credit, effects);
        entry.take_back(id, effects);
        self.pump(host, permits, effects);
    }

    /// A shared connection takes so many streams from now on; those it has go on.
    pub(super) fn set_limit(
        &mut self,
        host: usize,
        id: u64,
        limit: usize,
        permits: &Permits,
        effects: &mut Effects<C, H, A>,
    ) {
        if let Some(shared) = self.hosts[host].shared.iter_mut().find(|shared| shared.id == id) {
            shared.limit = limit;
        }
        self.pump(host, permits, effects);
    }

    /// A shared connection takes no more streams: its peer is about to close it.
    pub(super) fn set_draining(
        &mut self,
        host: usize,
        id: u64,
        permits: &Permits,
        effects: &mut Effects<C, H, A>,
    ) {
        let entry = &mut self.hosts[host];
        match entry.shared.iter_mut().find(|shared| shared.id == id) {
            Some(shared) if shared.streams > 0 => shared.draining = true,
            _ => entry.drop_shared(id, &mut self.credit, effects),
        }
        self.pump(host, permits, effects);
    }

    /// The pool as a whole has room for one more, and this host is the first in the queue, which it leaves: true if it takes it.
    /// If it wants yet another it is to be queued again.
    pub(super) fn feed(&mut self, host: usize, effects: &mut Effects<C, H, A>) -> bool {
        let (rules, closed) = (self.rules, self.closed);
        let host = &mut self.hosts[host];
        host.queued = false;
        let takes = !closed && host.wants_dial(rules) && host.allow_dial(effects);
        if takes && host.wants_dial(rules) {
            host.queued = true;
            effects.starved.push(host.anchor.clone());
        }
        takes
    }

    /// Serves who waits, as far as there is anything to serve them with.
    pub(super) fn pump(&mut self, host: usize, permits: &Permits, effects: &mut Effects<C, H, A>) {
        if self.closed {
            return;
        }
        let (rules, now) = (self.rules, self.now);
        let entry = &mut self.hosts[host];
        // Bounded by what is idle: it became so before somebody came back to its place.
        while !entry.line.is_empty()
            && let Some(stored) = entry.idle.pop_back()
        {
            self.credit.left();
            match rules.is_fresh(stored.since, stored.born, now) {
                true => entry.serve(Handed::Own(stored), permits, effects),
                false => effects.drop_own.push(stored),
            }
        }
        // Bounded by who waits: each turn takes one out of the line.
        while !entry.line.is_empty() {
            let Some(handed) = entry.stream(rules, now, &mut self.credit, effects) else { break };
            entry.serve(handed, permits, effects);
        }
        // Bounded by who waits: each turn begins one's dial.
        while entry.wants_dial(rules) {
            if !permits.acquire() {
                if !entry.queued {
                    entry.queued = true;
                    effects.starved.push(entry.anchor.clone());
                }
                break;
            }
            if !entry.allow_dial(effects) {
                permits.release();
                break;
            }
        }
    }

    /// True if one more may become idle here, now that others gave back what they don't use.
    pub(super) fn has_credit(&mut self, permits: &Permits) -> bool {
        self.credit.has(permits)
    }

    /// Gives back the right to idle connections that aren't there.
    pub(super) fn return_credit(&mut self, permits: &Permits) {
        self.call_in();
        self.credit.give_back(permits);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    #[cfg(all(test, not(hpx_loom)))]
    pub(super) fn of(&self, host: usize) -> super::host::OfHost {
        self.hosts[host].counts()
    }

    pub(super) fn census(&self) -> Census {
        self.each_host().fold(Census::default(), |sum, (_, host)| Census {
            hosts: sum.hosts + host.hosts,
            open: sum.open + host.open,
            dialing: sum.dialing + host.dialing,
            idle: sum.idle + host.idle,
            waiting: sum.waiting + host.waiting,
        })
    }

    /// How much there is of each host.
    pub(super) fn each_host(&self) -> impl Iterator<Item = (&K, Census)> {
        self.hosts.iter().map(|(_, host)| {
            let census = Census {
                hosts: 1,
                open: host.open,
                dialing: host.dialing,
                idle: host.idle.len() + host.seated() + host.resting().count(),
                waiting: host.line.len(),
            };
            (&host.key, census)
        })
    }
}
