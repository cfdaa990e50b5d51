//! Where every observer writes, in the order things happen.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use hpx_transport::env::Timestamp;

use sha2::{Digest, Sha256};

use super::{Entry, Place, SocketLog, What, digest::half, triggers::Triggers};
use crate::{net::SimClock, oracle::Bench, plan::Plan};

/// A shared, append-only trace. Clones write to the same one. The oracles watch over its shoulder: each sees an entry in
/// the moment it is written, whatever the backend and however long its steps are.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    clock: SimClock,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    entries: Vec<Entry>,
    bench: Option<Bench>,
    /// The time of whoever writes from outside a host.
    world_time: Timestamp,
    /// The run is over: what the teardown does is no part of it.
    sealed: bool,
    addresses: BTreeMap<String, IpAddr>,
    triggers: Triggers,
    /// Faults that have been set off and not yet taken note of: when they begin, and which.
    triggered: Vec<(Timestamp, usize)>,
    /// Whoever drives the world, to be told of them.
    driver: Option<Waker>,
    /// Who stands still until that has happened.
    stopped: Vec<Waker>,
    /// What was written so far, merged or not.
    written: u64,
    /// Of the bytes of the clients' sockets, if somebody wants it.
    bytes: Option<Sha256>,
}

impl Recorder {
    pub(crate) fn new(clock: SimClock, plan: &Plan, bench: Bench) -> Self {
        let inner = Inner { bench: Some(bench), triggers: Triggers::new(plan), ..Inner::default() };
        Self { clock, inner: Arc::new(Mutex::new(inner)) }
    }

    /// Watched by nobody.
    #[cfg(test)]
    pub(crate) fn timed(clock: SimClock) -> Self {
        Self { clock, ..Self::default() }
    }

    pub(crate) fn clock(&self) -> SimClock {
        self.clock
    }

    pub(crate) fn client(&self, client: usize, what: What) {
        self.write(Place::Client(client), what);
    }

    pub(crate) fn exchange(&self, log: super::ServerLog) {
        self.write(Place::Exchange, What::Server(log));
    }

    pub(crate) fn web(&self, log: super::WebLog) {
        self.write(Place::Exchange, What::Web(log));
    }

    pub(crate) fn world(&self, log: super::FaultLog) {
        self.write(Place::World, What::Fault(log));
    }

    fn write(&self, place: Place, what: What) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if inner.sealed {
            return;
        }
        // A host's own clock where there is one; the world's between steps and while a crash tears a host down.
        let own = if place == Place::World { None } else { self.clock.now() };
        let at = own.unwrap_or(inner.world_time);
        inner.written += 1;
        if let Some(last) = inner.entries.last_mut()
            && last.at == at
            && last.place == place
            && merge(&mut last.what, &what)
        {
            return;
        }
        let entry = Entry { at, place, what };
        if let Some(bench) = &mut inner.bench {
            bench.observe(&entry);
        }
        let triggered = &mut inner.triggered;
        inner.triggers.observe(&entry, &mut |at, fault| triggered.push((at, fault)));
        inner.entries.push(entry);
        if !inner.triggered.is_empty()
            && let Some(driver) = inner.driver.take()
        {
            driver.wake();
        }
    }

    /// Takes the digest of the clients' bytes from here on, or doesn't.
    pub(crate) fn take_bytes(&self, takes: bool) {
        self.lock().bytes = takes.then(Sha256::new);
    }

    /// Bytes that a client's socket read, or wrote.
    pub(crate) fn bytes(&self, client: usize, socket: u64, written: bool, bytes: &[u8]) {
        let mut inner = self.lock();
        if inner.sealed {
            return;
        }
        if let Some(digest) = &mut inner.bytes {
            for number in [client as u64, socket, u64::from(written), bytes.len() as u64] {
                digest.update(number.to_le_bytes());
            }
            digest.update(bytes);
        }
    }

    pub(crate) fn byte_digest(&self) -> Option<[u8; 16]> {
        self.lock().bytes.take().map(half)
    }

    /// How much was written so far.
    pub(crate) fn written(&self) -> u64 {
        self.lock().written
    }

    /// True if faults have been set off that the world hasn't taken note of.
    pub(crate) fn has_triggered(&self) -> bool {
        !self.lock().triggered.is_empty()
    }

    /// The faults that events have set off: when each begins, and its index.
    pub(crate) fn take_triggered(&self) -> Vec<(Timestamp, usize)> {
        std::mem::take(&mut self.lock().triggered)
    }

    /// Whoever drives the world is woken when a fault has been set off.
    pub(crate) fn tell_of_triggers(&self, cx: &Context<'_>) {
        self.lock().driver = Some(cx.waker().clone());
    }

    /// True if the caller has to stand still until the world has taken note of what was set off; then it is woken.
    pub(crate) fn stands_still(&self, cx: &Context<'_>) -> bool {
        let mut inner = self.lock();
        let waits = !inner.triggered.is_empty();
        if waits {
            inner.stopped.push(cx.waker().clone());
        }
        waits
    }

    /// The world has taken note.
    pub(crate) fn resume(&self) {
        let stopped = std::mem::take(&mut self.lock().stopped);
        stopped.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn set_world_time(&self, now: Timestamp) {
        self.lock().world_time = now;
    }

    /// The time by which the world changes.
    pub(crate) fn world_time(&self) -> Timestamp {
        self.lock().world_time
    }

    pub(crate) fn seal(&self) {
        self.lock().sealed = true;
    }

    /// The trace, and whoever watched it.
    pub(crate) fn take(&self) -> (Vec<Entry>, Option<Bench>) {
        let mut inner = self.lock();
        (std::mem::take(&mut inner.entries), inner.bench.take())
    }

    pub(crate) fn name(&self, host: &str, address: IpAddr) {
        self.lock().addresses.insert(host.to_owned(), address);
    }

    pub(crate) fn address_of(&self, host: &str) -> Option<IpAddr> {
        self.lock().addresses.get(host).copied()
    }

    /// The client whose host has this address.
    pub(crate) fn client_at(&self, address: IpAddr) -> Option<usize> {
        let inner = self.lock();
        let (name, _) = inner.addresses.iter().find(|(_, other)| **other == address)?;
        name.strip_prefix(super::super::world::CLIENT_PREFIX)?.parse().ok()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("entries", &self.lock().entries.len()).finish_non_exhaustive()
    }
}

/// Adds up reads, or writes, of one socket at one time: a dribble would fill the trace otherwise.
fn merge(last: &mut What, next: &What) -> bool {
    match (last, next) {
        (
            What::Socket(SocketLog::Read { socket, bytes }),
            What::Socket(SocketLog::Read { socket: other, bytes: more }),
        )
        | (
            What::Socket(SocketLog::Wrote { socket, bytes }),
            What::Socket(SocketLog::Wrote { socket: other, bytes: more }),
        ) if socket == other => {
            *bytes += more;
            true
        }
        _ => false,
    }
}
