//! What a pool's configuration means to its shards: how many, and how old. Pure.

use std::time::Duration;

use super::config::PoolConfig;
use crate::env::Timestamp;

/// What the pool's configuration means to a shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) idle_per_host: usize,
    pub(super) open_per_host: usize,
    idle_timeout: u64,
    lifetime_max: u64,
}

impl Rules {
    pub(super) fn new(config: &PoolConfig) -> Self {
        // Once, and not in every checkout: a duration is added in 128 bits.
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            idle_per_host: config.idle_per_host_max,
            open_per_host: config.open_per_host_max,
            idle_timeout: nanos(config.idle_timeout),
            lifetime_max: nanos(config.lifetime_max),
        }
    }

    pub(super) fn is_young(self, born: Timestamp, now: Timestamp) -> bool {
        now < self.dies(born)
    }

    pub(super) fn is_fresh(self, since: Timestamp, born: Timestamp, now: Timestamp) -> bool {
        now < self.expires(since, born)
    }

    pub(super) fn expires(self, since: Timestamp, born: Timestamp) -> Timestamp {
        let rests = since.as_nanos().saturating_add(self.idle_timeout);
        Timestamp::from_nanos(rests).min(self.dies(born))
    }

    pub(super) fn dies(self, born: Timestamp) -> Timestamp {
        Timestamp::from_nanos(born.as_nanos().saturating_add(self.lifetime_max))
    }
}
