//! One host: its connections, its line, and what they may have of each other. Pure, like the [shard](super::shard) it is in.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    task::Waker,
};

use super::{
    permits::Permits,
    rules::Rules,
    seats::{Lent, Seats},
    shard::{Effects, Handed, Reference, Stored},
};
use crate::{
    env::Timestamp,
    error::TransportError,
    planted::{self, Bug},
};

/// A connection for many users.
pub(super) struct Shared<C, H> {
    pub(super) conn: Arc<C>,
    pub(super) host: H,
    pub(super) id: u64,
    pub(super) born: Timestamp,
    pub(super) epoch: u64,
    pub(super) streams: usize,
    pub(super) limit: usize,
    /// Takes no more streams, and goes with the last one.
    pub(super) draining: bool,
    pub(super) since: Timestamp,
}

impl<C, H: Clone> Shared<C, H> {
    pub(super) fn has_room(&self) -> bool {
        !self.draining && (self.streams < self.limit || planted::alive(Bug::StreamLimitIgnored))
    }

    /// One more stream of it.
    pub(super) fn begin(&mut self) -> Handed<C, H> {
        self.streams += 1;
        Handed::Stream { conn: Arc::clone(&self.conn), host: self.host.clone(), id: self.id }
    }
}

/// What a host's connections are good for, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavor {
    /// Nobody has connected yet, and the answer may be many streams on one connection: one dial at a time.
    Unknown,
    /// One request at a time on each.
    Own,
    /// Many streams on one: one dial at a time.
    Shared,
}

pub(super) struct Waiter<C, H> {
    /// Gone once it has been woken: it will look, and leave another.
    pub(super) waker: Option<Waker>,
    pub(super) dial: Dial,
    pub(super) given: Option<Given<C, H>>,
}

pub(super) enum Given<C, H> {
    Connection(Handed<C, H>),
    Failed(TransportError),
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dial {
    No,
    /// It may, and hasn't heard of it.
    Allowed,
    Begun,
}

pub(super) struct Host<K, C, H, A> {
    pub(super) key: K,
    pub(super) hash: u64,
    pub(super) anchor: A,
    /// The most recently used at the back.
    pub(super) idle: VecDeque<Box<Stored<C, H>>>,
    /// Where more of them may lie: each seat that is lent counts as one.
    pub(super) seats: Arc<Seats<C, H>>,
    pub(super) lent: Lent,
    pub(super) shared: Vec<Shared<C, H>>,
    pub(super) flavor: Flavor,
    /// Dials and sockets.
    pub(super) open: usize,
    pub(super) dialing: usize,
    /// By ticket: the oldest first. Those who were given something are no longer in line.
    pub(super) line: BTreeMap<u64, Waiter<C, H>>,
    pub(super) given: BTreeMap<u64, Waiter<C, H>>,
    pub(super) next_ticket: u64,
    /// It is in the queue for a permit.
    pub(super) queued: bool,
}

impl<K, C, H: Reference, A: Clone> Host<K, C, H, A> {
    pub(super) fn new(hash: u64, key: K, shares: bool, anchor: A) -> Self {
        Self {
            key,
            hash,
            anchor,
            idle: VecDeque::new(),
            seats: Arc::new(Seats::new()),
            lent: Lent::default(),
            shared: Vec::new(),
            flavor: if shares { Flavor::Unknown } else { Flavor::Own },
            open: 0,
            dialing: 0,
            line: BTreeMap::new(),
            given: BTreeMap::new(),
            next_ticket: 0,
            queued: false,
        }
    }

    #[cfg(all(test, not(hpx_loom)))]
    pub(super) fn counts(&self) -> OfHost {
        let resting = self.resting().filter(|shared| shared.limit > 0).count();
        OfHost {
            open: self.open,
            dialing: self.dialing,
            idle: self.idle.len() + self.seated() + resting,
            waiting: self.line.len(),
        }
    }

    /// Connections that lie on seats.
    pub(super) fn seated(&self) -> usize {
        self.lent.iter().filter(|seat| self.seats.is_taken(*seat)).count()
    }

    /// Idle connections as far as limits are concerned.
    pub(super) fn idle_at_most(&self) -> usize {
        self.idle.len() + self.lent.len()
    }

    /// Calls the seats in: everything idle is in the list then.
    pub(super) fn call_in(&mut self, credit: &mut Credit) {
        for seat in std::mem::take(&mut self.lent).iter() {
            match self.seats.call_in(seat) {
                Some(stored) => self.rest(stored),
                None => credit.left(),
            }
        }
    }

    /// Puts a connection into the list of idle ones, by when it was last of use.
    pub(super) fn rest(&mut self, stored: Box<Stored<C, H>>) {
        let at = self.idle.partition_point(|other| other.since <= stored.since);
        self.idle.insert(at, stored);
    }

    /// Shared connections without a stream.
    pub(super) fn resting(&self) -> impl Iterator<Item = &Shared<C, H>> {
        self.shared.iter().filter(|shared| shared.streams == 0)
    }

    /// The connection longest idle: since when, and which.
    pub(super) fn oldest_idle(&self) -> Option<(Timestamp, u64)> {
        let own = self.idle.front().map(|stored| (stored.since, stored.id));
        own.into_iter().chain(self.resting().map(|shared| (shared.since, shared.id))).min()
    }

    /// A dial is over. Its owner, if it waits still, may dial again if need be: what it dialed may have served another.
    pub(super) fn end_dial(&mut self, ticket: u64) {
        self.dialing -= 1;
        // One that came back to its place may have been allowed another meanwhile, which it keeps.
        if let Some(waiter) = self.line.get_mut(&ticket).filter(|waiter| waiter.dial == Dial::Begun) {
            waiter.dial = Dial::No;
        }
    }

    /// Takes back the permission to dial that a waiter hasn't made use of.
    pub(super) fn withdraw(&mut self, waiter: &mut Waiter<C, H>, permits: &Permits) {
        if waiter.dial == Dial::Allowed {
            waiter.dial = Dial::No;
            self.dialing -= 1;
            self.open -= 1;
            permits.release();
        }
    }

    /// Hands a connection to the one who has waited longest, of whom there is one.
    pub(super) fn serve(&mut self, handed: Handed<C, H>, permits: &Permits, effects: &mut Effects<C, H, A>) {
        let next = if planted::alive(Bug::Barging) { self.line.pop_last() } else { self.line.pop_first() };
        let Some((ticket, mut waiter)) = next else { return };
        self.withdraw(&mut waiter, permits);
        effects.wake.extend(waiter.waker.take());
        waiter.given = Some(Given::Connection(handed));
        self.given.insert(ticket, waiter);
    }

    /// A connection has died before the waiter that it was given to has looked: that one stands where it stood.
    pub(super) fn take_back(&mut self, id: u64, effects: &mut Effects<C, H, A>) {
        let is_dead = |waiter: &Waiter<C, H>| matches!(&waiter.given, Some(Given::Connection(Handed::Own(stored))) if stored.id == id);
        let Some(ticket) = self.given.iter().find_map(|(ticket, waiter)| is_dead(waiter).then_some(*ticket))
        else {
            return;
        };
        if let Some(mut waiter) = self.given.remove(&ticket) {
            if let Some(Given::Connection(Handed::Own(stored))) = waiter.given.take() {
                effects.drop_own.push(stored);
            }
            // It was woken, and looks.
            self.line.insert(ticket, waiter);
        }
    }

    /// A stream on a shared connection that has room.
    pub(super) fn stream(
        &mut self,
        rules: Rules,
        now: Timestamp,
        credit: &mut Credit,
        effects: &mut Effects<C, H, A>,
    ) -> Option<Handed<C, H>> {
        self.retire(rules, now, credit, effects);
        let shared = self.shared.iter_mut().find(|shared| shared.has_room())?;
        if shared.streams == 0 {
            credit.left();
        }
        Some(shared.begin())
    }

    /// Lets go of shared connections that are too old: at once if no stream is open, else with the last one.
    pub(super) fn retire(
        &mut self,
        rules: Rules,
        now: Timestamp,
        credit: &mut Credit,
        effects: &mut Effects<C, H, A>,
    ) {
        let mut at = 0;
        while at < self.shared.len() {
            let shared = &mut self.shared[at];
            let is_resting = shared.streams == 0;
            shared.draining |= !rules.is_young(shared.born, now);
            let is_over = shared.draining || !rules.is_fresh(shared.since, shared.born, now);
            if is_resting && is_over {
                credit.left();
                let shared = self.shared.swap_remove(at);
                effects.drop_shared.push((shared.conn, shared.host));
            } else {
                at += 1;
            }
        }
    }

    pub(super) fn drop_shared(&mut self, id: u64, credit: &mut Credit, effects: &mut Effects<C, H, A>) {
        if let Some(at) = self.shared.iter().position(|shared| shared.id == id) {
            let shared = self.shared.swap_remove(at);
            if shared.streams == 0 {
                credit.left();
            }
            effects.drop_shared.push((shared.conn, shared.host));
        }
    }

    /// True if one more dial would serve somebody, and the host's own limit allows it.
    pub(super) fn wants_dial(&self, rules: Rules) -> bool {
        let at_once = match self.flavor {
            _ if planted::alive(Bug::DialsAtOnce) => self.line.len(),
            Flavor::Own => self.line.len(),
            Flavor::Unknown | Flavor::Shared => self.line.len().min(1),
        };
        self.dialing < at_once && self.open < rules.open_per_host
    }

    /// The oldest who hasn't dialed may. A permit was acquired for it.
    pub(super) fn allow_dial(&mut self, effects: &mut Effects<C, H, A>) -> bool {
        let Some(waiter) = self.line.values_mut().find(|waiter| waiter.dial == Dial::No) else {
            return false;
        };
        waiter.dial = Dial::Allowed;
        self.open += 1;
        self.dialing += 1;
        effects.wake.extend(waiter.waker.take());
        true
    }
}

/// How many connections of a shard may be idle: a share of the pool's limit, taken as it is needed and kept for the next time, so
/// that what comes and goes touches no counter of the pool.
#[derive(Debug, Default)]
pub(super) struct Credit {
    used: usize,
    lent: usize,
}

impl Credit {
    pub(super) fn has(&mut self, permits: &Permits) -> bool {
        if self.used < self.lent {
            return true;
        }
        let lends = permits.lend_idle();
        self.lent += usize::from(lends);
        lends
    }

    /// One more is idle, if there is room for it.
    pub(super) fn enters(&mut self, permits: &Permits) -> bool {
        let enters = self.has(permits);
        self.used += usize::from(enters);
        enters
    }

    /// One more is idle. True if it is one too many.
    pub(super) fn entered(&mut self, permits: &Permits) -> bool {
        let is_over = !self.has(permits);
        self.used += 1;
        is_over
    }

    pub(super) fn left(&mut self) {
        self.used -= 1;
    }

    pub(super) fn give_back(&mut self, permits: &Permits) {
        let unused = self.lent.saturating_sub(self.used);
        self.lent -= unused;
        permits.return_idle(unused);
    }
}

/// What one host has.
#[cfg(all(test, not(hpx_loom)))]
#[derive(Debug)]
pub(super) struct OfHost {
    pub(super) open: usize,
    pub(super) dialing: usize,
    pub(super) idle: usize,
    pub(super) waiting: usize,
}
