//! Connections kept for the next request: sharded, bounded, fair.
//!
//! ```text
//! checkout --- free? ---> Pooled --- checkin ---> the longest waiting, else idle
//!     |                                              | timeout, limit, lifetime, peer
//!     +--> in line --- allowed to dial ---> Permit --+--> gone
//! ```
//!
//! - What is free is given to the longest waiting, at once, and stays the pool's until that one looks: a waiter that goes away
//!   loses nothing.
//! - A [`Permit`] stands for a dial or a socket from its beginning to its end, so the limits count what is there.
//! - Nothing foreign runs under a lock: no waker, no `Drop` of a connection, no connector.
//! - A hit takes one lock, hashes nothing if the [`HostSlot`] is kept, and allocates nothing.
//!
//! The pool knows no protocol and reads no clock: it is told the time, and its user dials.

mod checkout;
mod config;
mod ending;
mod host;
mod line;
#[cfg(all(test, hpx_loom))]
mod loom_tests;
mod permits;
mod queue;
mod reaper;
mod rules;
mod seats;
mod shard;
#[cfg(all(test, not(hpx_loom)))]
mod tests;

use std::{
    fmt,
    future::poll_fn,
    hash::{BuildHasher, Hash},
    task::Waker,
};

use foldhash::fast::FixedState;

pub(crate) use self::reaper::Reaper;
pub use self::{
    checkout::{Checkout, Permit, Pooled, Step},
    config::PoolConfig,
};
use self::{
    permits::Permits,
    queue::Queue,
    rules::Rules,
    seats::Seats,
    shard::{Census, Effects, Handed, Reference, Shard, Stored},
};
use crate::{
    env::Timestamp,
    error::TransportResult,
    planted::{self, Bug},
    sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, Padded, Weak},
};

/// What can be kept in a pool.
pub trait Connection: Send + Sync + 'static {
    /// False once it can't be used any more. Asked before it is handed out, and when it comes back.
    fn is_open(&self) -> bool;

    /// When it was last of use. Its idle time counts from then.
    fn last_active(&self) -> Timestamp;
}

/// What tells hosts apart.
pub trait PoolKey: Eq + Hash + Clone + Send + Sync + 'static {
    /// True if a connection may turn out to be one that many share: then one is dialed at a time, until that is known.
    fn may_share(&self) -> bool {
        false
    }
}

/// A pool of connections. Clones are the same pool; when the last one is dropped it closes.
pub struct Pool<K: PoolKey, C: Connection> {
    owner: Arc<Owner<K, C>>,
}

struct Owner<K: PoolKey, C: Connection> {
    inner: Arc<Inner<K, C>>,
}

/// What there is in a pool, counted shard by shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStats {
    /// Hosts that somebody refers to.
    pub hosts: usize,
    /// Dials and sockets.
    pub open: usize,
    /// Dials among them.
    pub dialing: usize,
    /// Connections nobody uses.
    pub idle: usize,
    /// Who waits for a connection.
    pub waiting: usize,
}

impl PoolStats {
    fn of(census: Census) -> Self {
        let Census { hosts, open, dialing, idle, waiting } = census;
        Self { hosts, open, dialing, idle, waiting }
    }
}

type HostShard<K, C> = Shard<K, C, Arc<Anchor<K, C>>, Weak<HostRef<K, C>>>;
type Locked<K, C> = Padded<Mutex<HostShard<K, C>>>;
type HostSeats<K, C> = Seats<C, Arc<Anchor<K, C>>>;
type HostStored<K, C> = Box<Stored<C, Arc<Anchor<K, C>>>>;
type HostEffects<K, C> = Effects<C, Arc<Anchor<K, C>>, Weak<HostRef<K, C>>>;

struct Inner<K: PoolKey, C: Connection> {
    shards: Box<[Locked<K, C>]>,
    permits: Permits,
    hasher: FixedState,
    ids: AtomicU64,
    epoch: AtomicU64,
    closed: AtomicBool,
    queue: Mutex<Queue<K, C>>,
    rules: Rules,
    /// When the reaper looks next, in nanoseconds: when the first grows too old.
    reaps_at: AtomicU64,
    reaper: Mutex<Option<Waker>>,
}

/// A host in its shard. The last one to go takes the host with it.
struct HostRef<K: PoolKey, C: Connection> {
    inner: Arc<Inner<K, C>>,
    key: K,
    shard: usize,
    host: usize,
    seats: Arc<HostSeats<K, C>>,
}

/// A connection's own reference to its host: its count is touched only by whoever has the connection, and as it begins and ends.
struct Anchor<K: PoolKey, C: Connection> {
    host: Arc<HostRef<K, C>>,
    /// Its socket is gone.
    gone: AtomicBool,
}

impl<K: PoolKey, C: Connection> Reference for Arc<Anchor<K, C>> {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

/// A host of a pool, found once and kept: what goes through it hashes nothing and compares no keys, and a thread that gives a
/// connection back has it at hand for its next checkout.
pub struct HostSlot<K: PoolKey, C: Connection> {
    host: Arc<HostRef<K, C>>,
}

impl<K: PoolKey, C: Connection> Pool<K, C> {
    /// An empty pool.
    ///
    /// # Errors
    ///
    /// Those of [`PoolConfig::validate`].
    pub fn new(config: &PoolConfig) -> TransportResult<Self> {
        config.validate()?;
        let rules = Rules::new(config);
        let inner = Inner {
            shards: (0..config.shards).map(|_| Padded(Mutex::new(Shard::new(rules)))).collect(),
            permits: Permits::new(config.open_total_max, config.idle_total_max),
            hasher: FixedState::with_seed(config.hash_seed),
            ids: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            queue: Mutex::new(Queue::new()),
            rules,
            reaps_at: AtomicU64::new(reaper::NEVER),
            reaper: Mutex::new(None),
        };
        Ok(Self { owner: Arc::new(Owner { inner: Arc::new(inner) }) })
    }

    /// The host of this key. Keep it: what goes through it is found without a hash.
    pub fn host(&self, key: &K) -> HostSlot<K, C> {
        HostSlot { host: self.owner.inner.host(key) }
    }

    /// A connection that is free now. The key is hashed once and never cloned.
    pub fn take(&self, key: &K, now: Timestamp) -> Option<Pooled<K, C>> {
        self.take_by(key, |other| other == key, now)
    }

    /// The same by something that hashes as the key does.
    pub(crate) fn take_by(
        &self,
        key: &impl Hash,
        is_key: impl Fn(&K) -> bool,
        now: Timestamp,
    ) -> Option<Pooled<K, C>> {
        let inner = &self.owner.inner;
        let (hash, shard) = inner.place(key);
        inner.take(shard, now, |shard| shard.find(hash, is_key))
    }

    /// What there is.
    pub fn stats(&self) -> PoolStats {
        self.owner.inner.shards.iter().fold(PoolStats::default(), |sum, shard| {
            let of_shard = PoolStats::of(shard.0.lock().census());
            PoolStats {
                hosts: sum.hosts + of_shard.hosts,
                open: sum.open + of_shard.open,
                dialing: sum.dialing + of_shard.dialing,
                idle: sum.idle + of_shard.idle,
                waiting: sum.waiting + of_shard.waiting,
            }
        })
    }

    /// The same host by host, in no order.
    pub fn stats_by_host(&self) -> Vec<(K, PoolStats)> {
        let mut hosts = Vec::new();
        for shard in &self.owner.inner.shards {
            let shard = shard.0.lock();
            hosts.extend(shard.each_host().map(|(key, census)| (key.clone(), PoolStats::of(census))));
        }
        hosts
    }

    /// Lets go of every connection there is: those that are idle now, those in use when their users are done. New ones are
    /// dialed as they are needed.
    pub fn drain(&self) {
        let inner = &self.owner.inner;
        let epoch = inner.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        for shard in &inner.shards {
            inner.run(shard, |shard, permits, effects| shard.drain(epoch, permits, effects));
        }
    }

    /// Ends the pool: no more checkouts, who waits is told, and every connection is let go of when its user is done.
    pub fn close(&self) {
        self.owner.inner.close();
    }

    /// Ready when no dial and no socket is left; after [`close`](Self::close) that stays so.
    pub async fn drained(&self) {
        poll_fn(|cx| self.owner.inner.poll_drained(cx)).await;
    }

    /// Takes out what has been idle, or alive, for too long. When there will be more to do; `None` if there is nothing that
    /// could grow too old.
    pub fn expire(&self, now: Timestamp) -> Option<Timestamp> {
        self.owner.inner.expire(now)
    }

    /// What calls [`expire`](Self::expire) when it is time. It ends with the pool.
    pub(crate) fn reaper(&self) -> Reaper<K, C> {
        Reaper::new(Arc::downgrade(&self.owner.inner))
    }
}

impl<K: PoolKey, C: Connection> HostSlot<K, C> {
    /// A connection that is free now.
    pub fn take(&self, now: Timestamp) -> Option<Pooled<K, C>> {
        let HostRef { inner, seats, .. } = &*self.host;
        let is_fresh = |stored: &Stored<C, _>| inner.rules.is_fresh(stored.since, stored.born, now);
        if let Some(stored) = seats.take(HostSeats::<K, C>::own(), is_fresh) {
            let pooled = Pooled::new(Handed::Own(stored));
            if !pooled.is_stale() {
                return Some(pooled);
            }
        }
        inner.take(self.host.shard, now, |_| Some(self.host.host))
    }

    /// Gives a connection of this host back for the next user, as [`Pooled::checkin`] does. One of another host is dropped, and
    /// with it closed.
    pub fn checkin(&self, pooled: Pooled<K, C>) {
        pooled.checkin_through(&self.host);
    }

    /// A place in the line, for when nothing is free.
    pub fn checkout(&self) -> Checkout<K, C> {
        Checkout::new(Arc::clone(&self.host))
    }

    /// Its key.
    pub fn key(&self) -> &K {
        &self.host.key
    }
}

impl<K: PoolKey, C: Connection> Inner<K, C> {
    fn place(&self, key: &impl Hash) -> (u64, usize) {
        let hash = self.hasher.hash_one(key);
        // The high half picks the shard, by a multiplication instead of a division.
        let shard = ((hash >> 32) * self.shards.len() as u64) >> 32;
        (hash, shard as usize)
    }

    fn host(self: &Arc<Self>, key: &K) -> Arc<HostRef<K, C>> {
        let (hash, place) = self.place(key);
        let mut shard = self.shards[place].0.lock();
        let found = shard.find(hash, |other| other == key);
        if let Some(host) = found.and_then(|host| shard.anchor(host).upgrade()) {
            return host;
        }
        // Not there, or just about to be taken out by the last who referred to it.
        let at = found.unwrap_or_else(|| shard.insert(hash, key.clone(), key.may_share(), Weak::new()));
        let (inner, seats) = (Arc::clone(self), shard.seats(at));
        let host = Arc::new(HostRef { inner, key: key.clone(), shard: place, host: at, seats });
        shard.set_anchor(at, Arc::downgrade(&host));
        host
    }

    fn take(
        &self,
        place: usize,
        now: Timestamp,
        find: impl FnOnce(&HostShard<K, C>) -> Option<usize>,
    ) -> Option<Pooled<K, C>> {
        let (handed, host) = {
            let mut shard = self.shards[place].0.lock();
            let at = find(&shard)?;
            let own = shard.take_newest(at, HostSeats::<K, C>::own(), now).map(Handed::Own);
            match own.or_else(|| shard.take_stream(at, now)) {
                Some(handed) => (Some(handed), None),
                // Gone: whoever was the last to refer to it is about to take it out, and there is nothing.
                None => (None, Some(shard.anchor(at).upgrade()?)),
            }
        };
        let host = match (handed, host) {
            (Some(handed), host) => {
                let pooled = Pooled::new(handed);
                if !pooled.is_stale() {
                    return Some(pooled);
                }
                // Order matters: it may be the last to refer to its host, and is dropped when that is held.
                host.or_else(|| pooled.host())?
            }
            (None, host) => host?,
        };
        self.take_any(&host, now)
    }

    /// The same for what is shared, and where the newest is too old or dead.
    #[cold]
    fn take_any(&self, host: &HostRef<K, C>, now: Timestamp) -> Option<Pooled<K, C>> {
        // Bounded by what is idle: what died there is passed over.
        loop {
            let take = |shard: &mut HostShard<K, C>, _: &Permits, effects: &mut HostEffects<K, C>| {
                shard.take(host.host, now, effects)
            };
            let pooled = Pooled::new(self.with(host, take)?);
            if !pooled.is_stale() {
                return Some(pooled);
            }
        }
    }

    /// A connection comes back from its user, still good.
    fn give_back(&self, host: &HostRef<K, C>, stored: HostStored<K, C>) {
        let shard = &self.shards[host.shard];
        let expires = self.rules.expires(stored.since, stored.born);
        let seat = HostSeats::<K, C>::own();
        let left = match self.rules.is_young(stored.born, stored.since) {
            true => host.seats.put(seat, stored),
            false => Some(stored),
        };
        let left = left.and_then(|stored| shard.0.lock().keep(host.host, seat, stored, &self.permits));
        match left {
            Some(stored) => {
                self.collect_credit(host);
                self.run(shard, |shard, permits, effects| {
                    shard.give_back(host.host, stored, permits, effects);
                });
            }
            // Somebody may want its place, and its age counts from now.
            None => self.look_around(expires),
        }
    }

    /// A stream of a shared connection has ended.
    fn end_stream(&self, host: &HostRef<K, C>, id: u64, now: Timestamp) {
        if self.shards[host.shard].0.lock().keep_stream(host.host, id) {
            return;
        }
        self.collect_credit(host);
        self.with(host, |shard, permits, effects| shard.end_stream(host.host, id, now, permits, effects));
    }

    /// Before something becomes idle: if this shard has used up its share of the limit, what others don't use of theirs comes
    /// back.
    fn collect_credit(&self, host: &HostRef<K, C>) {
        if !self.shards[host.shard].0.lock().has_credit(&self.permits) {
            self.shards.iter().for_each(|shard| shard.0.lock().return_credit(&self.permits));
        }
    }

    fn look_around(&self, expires: Timestamp) {
        if self.permits.starving() > 0 {
            self.feed();
        }
        self.reap_at(expires);
    }

    /// The reaper is to look by then.
    fn reap_at(&self, at: Timestamp) {
        let is_sooner = at.as_nanos() < self.reaps_at.load(Ordering::Acquire);
        if is_sooner && !planted::alive(Bug::IdleNeverClosed) {
            self.reap_sooner(at);
        }
    }

    #[cold]
    fn reap_sooner(&self, at: Timestamp) {
        self.reaps_at.fetch_min(at.as_nanos(), Ordering::SeqCst);
        self.wake_reaper();
    }

    /// Changes the shard of a host, and does what is left when the lock is gone.
    fn with<R>(
        &self,
        host: &HostRef<K, C>,
        change: impl FnOnce(&mut HostShard<K, C>, &Permits, &mut HostEffects<K, C>) -> R,
    ) -> R {
        self.run(&self.shards[host.shard], change)
    }

    fn run<R>(
        &self,
        shard: &Locked<K, C>,
        change: impl FnOnce(&mut HostShard<K, C>, &Permits, &mut HostEffects<K, C>) -> R,
    ) -> R {
        let mut effects = Effects::none();
        let result = change(&mut shard.0.lock(), &self.permits, &mut effects);
        self.finish(effects);
        result
    }

    /// What an operation left to do: no lock is held here.
    fn finish(&self, effects: HostEffects<K, C>) {
        let Effects { wake, drop_wakers, drop_own, drop_shared, starved, idled } = effects;
        self.queue_up(starved);
        wake.into_iter().for_each(Waker::wake);
        drop(drop_wakers);
        drop(drop_own);
        drop(drop_shared);
        if self.permits.starving() > 0 {
            self.feed();
        }
        if let Some(expires) = idled {
            self.reap_at(expires);
        }
    }

    fn expire(&self, now: Timestamp) -> Option<Timestamp> {
        let next = |shard| self.run(shard, |shard, _, effects| shard.expire(now, effects));
        self.shards.iter().filter_map(next).min()
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        for shard in &self.shards {
            self.run(shard, |shard, permits, effects| shard.close(permits, effects));
        }
        self.wake_reaper();
        self.settle();
    }

    fn wake_reaper(&self) {
        let waker = self.reaper.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }
}

impl<K: PoolKey, C: Connection> Drop for HostRef<K, C> {
    fn drop(&mut self) {
        let mut shard = self.inner.shards[self.shard].0.lock();
        // Another may have been made of the same host in the meantime, and may be gone too, the host with it.
        let is_own = shard.hosts.get(self.host).is_some_and(|host| std::ptr::eq(host.anchor.as_ptr(), self));
        let removed = is_own.then(|| shard.remove(self.host));
        drop(shard);
        drop(removed);
    }
}

impl<K: PoolKey, C: Connection> Drop for Owner<K, C> {
    fn drop(&mut self) {
        if planted::alive(Bug::OutlivesItsClients) {
            return;
        }
        self.inner.close();
    }
}

impl<K: PoolKey, C: Connection> Clone for Pool<K, C> {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner) }
    }
}

impl<K: PoolKey, C: Connection> Clone for HostSlot<K, C> {
    fn clone(&self) -> Self {
        Self { host: Arc::clone(&self.host) }
    }
}

impl<K: PoolKey, C: Connection> fmt::Debug for Pool<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

impl<K: PoolKey, C: Connection> fmt::Debug for HostSlot<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostSlot").finish_non_exhaustive()
    }
}
