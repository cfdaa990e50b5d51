//! What the world is like for one client now: the faults that are active on it, by what they do.

use crate::plan::{ConnectFault, CutHow, DnsFault, FaultKind, Way};

/// The conditions of one client. Without a fault, the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// Bytes per read and write.
    pub(super) dribble: Option<usize>,
    /// Bytes per write.
    pub(super) partial_writes: Option<usize>,
    /// Bytes a second, each way.
    pub(super) throttle: Option<u64>,
    /// The peer reads so many bytes more, from when this began, and then none.
    pub(super) stall_after: Option<usize>,
    /// Where sockets that open now end.
    pub(super) cut: Option<Cut>,
    /// Open sockets have no peer.
    pub(super) half_open: bool,
    /// What comes in changed, in sockets that open now: the place of the byte, and what is flipped in it.
    pub(super) corrupt: Option<(usize, u8)>,
    pub(super) connect: Option<ConnectFault>,
    pub(super) dns: Option<DnsFault>,
    /// The clock gains so many millionths.
    pub(super) skew_ppm: i64,
    /// The process stands still.
    pub(super) paused: bool,
}

/// The end of a socket at a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) way: Way,
    pub(super) byte: usize,
    pub(super) how: CutHow,
}

impl Conditions {
    /// What these active faults come to; a later one of the same kind stands before an earlier one.
    pub(crate) fn of(active: &[&FaultKind]) -> Self {
        let mut conditions = Self::default();
        for kind in active {
            match **kind {
                FaultKind::Dribble { bytes } => conditions.dribble = Some(bytes),
                FaultKind::PartialWrites { bytes } => conditions.partial_writes = Some(bytes),
                FaultKind::Throttle { bytes_per_s } => conditions.throttle = Some(bytes_per_s),
                FaultKind::Stall { after_bytes } => conditions.stall_after = Some(after_bytes),
                FaultKind::Cut { way, byte, how } => conditions.cut = Some(Cut { way, byte, how }),
                FaultKind::HalfOpen => conditions.half_open = true,
                FaultKind::Corrupt { byte, mask } => conditions.corrupt = Some((byte, mask)),
                FaultKind::Connect(how) => conditions.connect = Some(how),
                FaultKind::Dns(how) => conditions.dns = Some(how),
                FaultKind::ClockSkew { ppm } => conditions.skew_ppm = ppm,
                FaultKind::Pause => conditions.paused = true,
                // These befall the network, the exchange, or open sockets at once.
                FaultKind::Partition
                | FaultKind::Hold
                | FaultKind::Crash
                | FaultKind::PowerLoss
                | FaultKind::ServerClose { .. }
                | FaultKind::AcceptThenClose { .. }
                | FaultKind::Refuse { .. }
                | FaultKind::Misbehave(_)
                | FaultKind::Serve { .. }
                | FaultKind::Tls(_)
                | FaultKind::Reset
                | FaultKind::ClockJump { .. } => {}
            }
        }
        conditions
    }
}
