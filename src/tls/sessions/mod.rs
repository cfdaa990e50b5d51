//! TLS sessions, kept so that the next connection to the same server resumes.
//!
//! A full handshake costs a server's signature, a client's verification of a chain, and in TLS 1.2 a round trip more. A
//! resumed one (RFC 8446, section 2.2) proves by a ticket that both have met. Behind rustls's
//! [`ClientSessionStore`] this cache keeps to what that needs:
//!
//! - a ticket is given out once (section C.4: an observer would link connections that share one), the newest first;
//! - sessions are not shared across host name, port, ALPN, verifier and client identity;
//! - no ticket older than [`SessionLimits::lifetime_max`] is given out, by the environment's wall clock; the lifetime that the
//!   server named is rustls's to keep;
//! - what is kept is bounded, and the server longest unused is forgotten first.

mod shelf;
#[cfg(all(test, not(hpx_loom)))]
mod tests;

use std::{fmt, time::Duration};

use rustls::{
    HandshakeKind, NamedGroup,
    client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue},
    pki_types::ServerName,
    time_provider::TimeProvider,
};

use self::shelf::{Rules, Shelf};
use crate::{
    planted::{self, Bug},
    sync::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering},
};

/// TLS sessions by server, for every connection that shares it. Clones are the same cache.
///
/// Each [`TlsConfig`](super::TlsConfig) has one of its own; its clones share it. One for several of them bounds them together,
/// and doesn't mix their sessions.
///
/// ```
/// use hpx_transport::tls::{SessionCache, SessionLimits, TlsConfig};
///
/// let sessions = SessionCache::new(SessionLimits { servers_max: 1000, ..SessionLimits::default() });
/// let tls = TlsConfig::default().sessions(sessions.clone());
/// // .. connect, with `tls` in the connection's configuration; then
/// assert_eq!(sessions.stats().resumed, 0);
/// # let _ = tls;
/// ```
#[derive(Clone)]
pub struct SessionCache {
    inner: Arc<Inner>,
}

/// How much a [`SessionCache`] keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Servers it remembers; zero keeps nothing. Default 256.
    pub servers_max: usize,
    /// TLS 1.3 tickets of one server; zero keeps none. Default 8: servers give out two to four with each connection.
    pub tickets_per_server_max: usize,
    /// The age at which a session is no longer used. Default and at most seven days (RFC 8446, section 4.6.1).
    pub lifetime_max: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { servers_max: 256, tickets_per_server_max: 8, lifetime_max: LIFETIME_MAX }
    }
}

/// What became of the sessions of a cache, counted since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionStats {
    /// Handshakes that resumed a session.
    pub resumed: u64,
    /// Handshakes in full: there was nothing to resume, or the server turned it down.
    pub full: u64,
    /// TLS 1.3 tickets that came in.
    pub tickets_stored: u64,
    /// TLS 1.3 tickets that were given to a handshake.
    pub tickets_taken: u64,
    /// TLS 1.3 tickets that were found too old.
    pub tickets_expired: u64,
    /// Servers that were forgotten because the cache was full.
    pub servers_evicted: u64,
    /// Servers it remembers now.
    pub servers: usize,
    /// TLS 1.3 tickets it holds now.
    pub tickets: usize,
}

type Servers = Shelf<Arc<PartitionKey>, Tls13ClientSessionValue, Tls12ClientSessionValue, NamedGroup>;

struct Inner {
    shards: Box<[Mutex<Servers>]>,
    servers_max: usize,
    rules: Rules,
    /// Servers in all shards.
    servers: AtomicUsize,
    /// Numbers the uses, over all shards: what makes the order of use one order.
    turn: AtomicU64,
    /// Numbers who trusts whom, and as whom.
    identities: AtomicU64,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    resumed: AtomicU64,
    full: AtomicU64,
    stored: AtomicU64,
    taken: AtomicU64,
    expired: AtomicU64,
    evicted: AtomicU64,
}

/// What sessions are never shared across.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartitionKey {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) alpn: Vec<Vec<u8>>,
    /// The verifier and the client's certificate, by the number of the configuration that holds them.
    pub(crate) identity: Identity,
}

/// The number of a verifier and client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity(u64);

impl SessionCache {
    /// An empty cache.
    pub fn new(limits: SessionLimits) -> Self {
        let rules = Rules {
            tickets_max: limits.tickets_per_server_max,
            lifetime: limits.lifetime_max.min(LIFETIME_MAX),
        };
        let inner = Inner {
            shards: (0..SHARDS).map(|_| Mutex::new(Shelf::new())).collect(),
            servers_max: limits.servers_max,
            rules,
            servers: AtomicUsize::new(0),
            turn: AtomicU64::new(0),
            identities: AtomicU64::new(0),
            counts: Counts::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What became of its sessions.
    pub fn stats(&self) -> SessionStats {
        let counts = &self.inner.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (mut servers, mut tickets) = (0, 0);
        for shard in &self.inner.shards {
            let shelf = shard.lock();
            servers += shelf.len();
            tickets += shelf.tickets();
        }
        SessionStats {
            resumed: read(&counts.resumed),
            full: read(&counts.full),
            tickets_stored: read(&counts.stored),
            tickets_taken: read(&counts.taken),
            tickets_expired: read(&counts.expired),
            servers_evicted: read(&counts.evicted),
            servers,
            tickets,
        }
    }

    /// Forgets every session. Handshakes in progress keep what they took.
    pub fn clear(&self) {
        for shard in &self.inner.shards {
            let old = {
                let mut shelf = shard.lock();
                self.inner.servers.fetch_sub(shelf.len(), Ordering::Relaxed);
                std::mem::replace(&mut *shelf, Shelf::new())
            };
            drop(old);
        }
    }

    /// A number for a verifier and client certificate that this cache has not seen.
    pub(crate) fn identify(&self) -> Identity {
        Identity(self.inner.identities.fetch_add(1, Ordering::Relaxed))
    }

    /// What rustls is given: the sessions of one partition.
    pub(crate) fn partition(&self, mut key: PartitionKey, time: Arc<dyn TimeProvider>) -> Resumption {
        if planted::alive(Bug::TicketsOfAllPorts) {
            key.port = 0;
        }
        let shard = shard_of(&key.host, key.port);
        let name = ServerName::try_from(key.host.clone()).ok();
        Resumption::store(Arc::new(Partition { cache: self.clone(), key: Arc::new(key), shard, name, time }))
    }

    /// A handshake is over.
    pub(crate) fn count(&self, kind: Option<HandshakeKind>) {
        let count = match kind {
            Some(HandshakeKind::Resumed) => &self.inner.counts.resumed,
            Some(_) => &self.inner.counts.full,
            None => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Default for SessionCache {
    fn default() -> Self {
        Self::new(SessionLimits::default())
    }
}

impl fmt::Debug for SessionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = self.inner.servers.load(Ordering::Relaxed);
        f.debug_struct("SessionCache").field("servers", &servers).finish_non_exhaustive()
    }
}

impl Inner {
    fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Forgets the servers longest unused until there are no more than the limit. The count changes under the lock of the
    /// shard that changes, so it is never less than what is there.
    fn make_room(&self) {
        // Bounded by the servers there are. A shard whose oldest was used meanwhile is looked at again.
        while self.servers.load(Ordering::Relaxed) > self.servers_max {
            let oldest = |shard: &Mutex<Servers>| shard.lock().oldest();
            let Some((turn, index)) = (self.shards.iter().enumerate())
                .filter_map(|(index, shard)| Some((oldest(shard)?, index)))
                .min()
            else {
                return;
            };
            let mut shelf = self.shards[index].lock();
            let evicted = shelf.evict(turn);
            if evicted.is_some() {
                self.servers.fetch_sub(1, Ordering::Relaxed);
                self.counts.evicted.fetch_add(1, Ordering::Relaxed);
            }
            drop(shelf);
        }
    }
}

/// The sessions of one server, as one configuration may use them.
struct Partition {
    cache: SessionCache,
    key: Arc<PartitionKey>,
    shard: usize,
    name: Option<ServerName<'static>>,
    time: Arc<dyn TimeProvider>,
}

impl Partition {
    /// Runs under the lock of the server's shard. `None` for another server's name, or where nobody knows the time.
    fn with<R>(
        &self,
        name: &ServerName<'_>,
        change: impl FnOnce(&mut Servers, Duration, u64) -> R,
    ) -> Option<R> {
        if self.name.as_ref() != Some(name) {
            return None;
        }
        let now = Duration::from_secs(self.time.current_time()?.as_secs());
        let inner = &self.cache.inner;
        let mut shelf = inner.shards[self.shard].lock();
        Some(change(&mut shelf, now, inner.next_turn()))
    }

    /// The same for what may bring a new server in.
    fn keep(&self, name: &ServerName<'_>, change: impl FnOnce(&mut Servers, Duration, u64) -> bool) {
        let inner = &self.cache.inner;
        if inner.servers_max == 0 {
            return;
        }
        let is_new = self.with(name, |shelf, now, turn| {
            let is_new = change(shelf, now, turn);
            inner.servers.fetch_add(usize::from(is_new), Ordering::Relaxed);
            is_new
        });
        if is_new == Some(true) {
            inner.make_room();
        }
    }
}

impl ClientSessionStore for Partition {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.keep(&server_name, |shelf, _, turn| shelf.set_hint(&self.key, group, turn));
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(server_name, |shelf, _, _| shelf.hint(&self.key)).flatten()
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.keep(&server_name, |shelf, now, turn| shelf.set_session(&self.key, value, now, turn));
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let rules = self.cache.inner.rules;
        self.with(server_name, |shelf, now, turn| shelf.session(&self.key, now, turn, rules)).flatten()
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.with(server_name, |shelf, _, _| shelf.remove_session(&self.key));
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        let rules = self.cache.inner.rules;
        self.cache.inner.counts.stored.fetch_add(1, Ordering::Relaxed);
        self.keep(&server_name, |shelf, now, turn| shelf.insert(&self.key, value, now, turn, rules));
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        if planted::alive(Bug::TicketsUnused) {
            return None;
        }
        let rules = self.cache.inner.rules;
        let taken = self.with(server_name, |shelf, now, turn| shelf.take(&self.key, now, turn, rules))?;
        let counts = &self.cache.inner.counts;
        counts.expired.fetch_add(taken.expired as u64, Ordering::Relaxed);
        counts.taken.fetch_add(u64::from(taken.ticket.is_some()), Ordering::Relaxed);
        taken.ticket
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({}:{})", self.key.host, self.key.port)
    }
}

/// The same in every process: which lock a server has shows nowhere.
fn shard_of(host: &str, port: u16) -> usize {
    let mix = |sum: usize, byte: &u8| sum.wrapping_mul(31).wrapping_add(usize::from(*byte));
    host.as_bytes().iter().fold(usize::from(port), mix) % SHARDS
}

/// Handshakes of as many servers at once don't wait for each other.
const SHARDS: usize = 16;
/// No ticket may live longer (RFC 8446, section 4.6.1).
const LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
