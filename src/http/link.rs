//! A connection as the pool keeps it, whichever protocol it speaks.

use super::{
    event::Reporter,
    h1, h2,
    pool::{Connection, Pooled},
};
use crate::{
    env::Timestamp,
    sync::{AtomicBool, Ordering},
};

/// A connection of a client's pool.
pub(crate) struct Link {
    pub(crate) spoken: Spoken,
    /// Whether TLS resumed a session; `None` without TLS.
    pub(crate) resumed: Option<bool>,
    used: AtomicBool,
    /// Its number among the client's connections.
    pub(crate) number: u64,
}

pub(crate) enum Spoken {
    H1(h1::Handle),
    H2(h2::Handle),
}

pub(crate) type PooledLink = Pooled<super::origin::Origin, Link>;

impl Link {
    pub(crate) fn new(spoken: Spoken, resumed: Option<bool>, reporter: &Reporter) -> Self {
        Self { spoken, resumed, used: AtomicBool::new(false), number: reporter.connection() }
    }

    /// It is about to be used. True if it was before.
    pub(crate) fn begin_use(&self) -> bool {
        self.used.swap(true, Ordering::Relaxed)
    }
}

impl Connection for Link {
    fn is_open(&self) -> bool {
        match &self.spoken {
            Spoken::H1(handle) => handle.is_open(),
            Spoken::H2(handle) => handle.is_open(),
        }
    }

    fn last_active(&self) -> Timestamp {
        match &self.spoken {
            Spoken::H1(handle) => handle.last_active(),
            Spoken::H2(handle) => handle.last_active(),
        }
    }
}
