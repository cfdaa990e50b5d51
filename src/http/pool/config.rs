//! The limits of a pool.

use std::time::Duration;

use crate::error::{TransportError, TransportResult};

/// The limits of a [`Pool`](super::Pool).
///
/// ```
/// use std::time::Duration;
/// use hpx_transport::http::pool::PoolConfig;
///
/// let config = PoolConfig { open_per_host_max: 6, idle_timeout: Duration::from_secs(30), ..PoolConfig::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Locks that the hosts are spread over, from 1 to 1024. Default 16.
    pub shards: usize,
    /// Idle connections kept for one host; the longest idle is closed for one more. Zero keeps none. Default 32.
    pub idle_per_host_max: usize,
    /// Idle connections kept in all; of those in the same shard the longest idle is closed for one more. Default 1024.
    pub idle_total_max: usize,
    /// Dials and sockets of one host, at least 1. Default 256.
    pub open_per_host_max: usize,
    /// Dials and sockets in all, at least 1. When a host waits for one of them, the longest idle connection of any other is
    /// closed for it. Default 4096.
    pub open_total_max: usize,
    /// How long a connection may be idle. Default 90 s.
    pub idle_timeout: Duration,
    /// How old a connection may become before it is given to nobody any more. Default one hour.
    pub lifetime_max: Duration,
    /// Seeds the hash of the keys. The order of nothing depends on it.
    pub hash_seed: u64,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            shards: 16,
            idle_per_host_max: 32,
            idle_total_max: 1024,
            open_per_host_max: 256,
            open_total_max: 4096,
            idle_timeout: Duration::from_secs(90),
            lifetime_max: Duration::from_secs(3600),
            hash_seed: 0,
        }
    }
}

impl PoolConfig {
    /// The rules that hold between the fields.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), which names the field.
    pub fn validate(&self) -> TransportResult<()> {
        let rule = |holds: bool, field, text: &str| match holds {
            true => Ok(()),
            false => Err(TransportError::config(field, text)),
        };
        rule((1..=SHARDS_MAX).contains(&self.shards), "shards", "must lie between 1 and 1024")?;
        rule(self.open_per_host_max >= 1, "open_per_host_max", "must be at least 1")?;
        rule(self.open_total_max >= 1, "open_total_max", "must be at least 1")?;
        rule(!self.lifetime_max.is_zero(), "lifetime_max", "must be longer than nothing")
    }
}

/// More locks than this are of no use, and each is two cache lines.
const SHARDS_MAX: usize = 1024;
