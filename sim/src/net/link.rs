//! The line between two hosts, both ways: latency, jitter, bandwidth, partition, hold.

use std::{collections::VecDeque, time::Duration};

use hpx_transport::env::Timestamp;
use rand_chacha::{ChaCha12Rng, rand_core::Rng};

use super::fabric::Packet;

/// What is to become of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkChange {
    /// Everything is lost, both ways.
    Partition,
    /// A partition is over.
    Repair,
    /// Everything is kept back.
    Hold,
    /// What was kept back is delivered.
    Release,
}

/// A line between two hosts.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// One way.
    pub(super) latency: Duration,
    /// At most this much more, drawn for each packet. It never reorders the packets of a connection.
    pub(super) jitter: Duration,
    /// Bytes a second, each way; `None` is no limit.
    pub(super) bandwidth: Option<u64>,
    pub(super) partitioned: bool,
    /// Packets kept back, while a hold lasts.
    pub(super) held: Option<VecDeque<Packet>>,
    /// Until when each direction is busy with the bytes before.
    busy_until: [Timestamp; 2],
}

impl Link {
    /// When a packet of so many bytes arrives that is sent now.
    pub(super) fn arrival(
        &mut self,
        now: Timestamp,
        direction: usize,
        bytes: usize,
        jitter: &mut ChaCha12Rng,
    ) -> Timestamp {
        let mut sent = now;
        if let Some(rate) = self.bandwidth {
            let takes = (bytes + HEADER_BYTES) as u128 * 1_000_000_000 / u128::from(rate.max(1));
            let start = self.busy_until[direction].max(now);
            sent = start + Duration::from_nanos(u64::try_from(takes).unwrap_or(u64::MAX));
            self.busy_until[direction] = sent;
        }
        let span = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX);
        // No draw without jitter: a line that has none costs none.
        let more = if span == 0 { 0 } else { jitter.next_u64() % (span + 1) };
        sent + self.latency + Duration::from_nanos(more)
    }
}

/// Of IP and TCP: what a packet weighs beyond its payload.
const HEADER_BYTES: usize = 40;
