//! Where every observer writes, in the order things happen.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hpx_transport::env::Timestamp;

use super::{Entry, Place, SocketLog, What};
use crate::env::sim_now;

/// A shared, append-only trace. Clones write to the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: Vec<Entry>,
    /// The time of whoever writes from outside a host.
    world_time: Timestamp,
    /// The run is over: what the teardown does is no part of it.
    sealed: bool,
    addresses: BTreeMap<String, IpAddr>,
}

impl Recorder {
    pub(crate) fn client(&self, client: usize, what: What) {
        self.write(Place::Client(client), what);
    }

    pub(crate) fn exchange(&self, log: super::ServerLog) {
        self.write(Place::Exchange, What::Server(log));
    }

    pub(crate) fn world(&self, log: super::FaultLog) {
        self.write(Place::World, What::Fault(log));
    }

    fn write(&self, place: Place, what: What) {
        // A host's own clock where there is one; the world's between steps and while a crash tears a host down.
        let own = if place == Place::World { None } else { sim_now() };
        let mut inner = self.lock();
        if inner.sealed {
            return;
        }
        let at = own.unwrap_or(inner.world_time);
        if let Some(last) = inner.entries.last_mut()
            && last.at == at
            && last.place == place
            && merge(&mut last.what, &what)
        {
            return;
        }
        inner.entries.push(Entry { at, place, what });
    }

    pub(crate) fn set_world_time(&self, now: Timestamp) {
        self.lock().world_time = now;
    }

    pub(crate) fn seal(&self) {
        self.lock().sealed = true;
    }

    /// Entries from `start` on.
    pub(crate) fn since(&self, start: usize) -> Vec<Entry> {
        self.lock().entries[start..].to_vec()
    }

    pub(crate) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.lock().entries)
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
