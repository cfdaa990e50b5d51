//! A connection as the pool keeps it, whichever protocol it speaks.

use super::{
    h1, h2,
    pool::{Connection, Pooled},
};
use crate::{
    env::Timestamp,
    sync::{AtomicU64, Ordering},
};

/// A connection of a client's pool.
pub(crate) struct Link {
    pub(crate) spoken: Spoken,
    /// Whether TLS resumed a session; `None` without TLS.
    pub(crate) resumed: Option<bool>,
    uses: AtomicU64,
}

pub(crate) enum Spoken {
    H1(h1::Handle),
    H2(h2::Handle),
}

pub(crate) type PooledLink = Pooled<super::origin::Origin, Link>;

impl Link {
    pub(crate) fn new(spoken: Spoken, resumed: Option<bool>) -> Self {
        Self { spoken, resumed, uses: AtomicU64::new(0) }
    }

    /// True if it was used more than once, the use in progress included.
    pub(crate) fn has_been_used(&self) -> bool {
        self.uses.load(Ordering::Relaxed) > 1
    }

    /// Counts a use. True if there was one before.
    pub(crate) fn was_used(&self) -> bool {
        self.uses.fetch_add(1, Ordering::Relaxed) > 0
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
