//! Who may refuse a certificate: those who were shown a bad one, or whose wall clock finds the good one expired.

use std::sync::Arc;

use crate::{
    oracle::owners::Owners,
    peers::tls::{VALID_AFTER, VALID_BEFORE},
    plan::{FaultKind, Plan},
    trace::{Entry, FaultLog, ServerLog, What},
};

/// Follows the certificates of every client, entry by entry.
pub(super) struct Certificates {
    plan: Arc<Plan>,
    /// What each wall clock has jumped.
    jumped_ms: Vec<i64>,
    /// There was cause to refuse.
    cause: Vec<bool>,
    owners: Owners,
}

impl Certificates {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        let clients = plan.clients.len();
        Self {
            plan: Arc::clone(plan),
            jumped_ms: vec![0; clients],
            cause: vec![false; clients],
            owners: Owners::default(),
        }
    }

    pub(super) fn observe(&mut self, entry: &Entry) {
        self.owners.observe(entry);
        match &entry.what {
            What::Server(ServerLog::BadCertificate { conn }) => {
                if let Some(cause) = self.owners.of(*conn, &mut self.cause) {
                    *cause = true;
                }
            }
            What::Fault(FaultLog::Began { fault, .. }) => {
                let fault = &self.plan.faults[*fault];
                let FaultKind::ClockJump { by_ms } = fault.kind else { return };
                for client in (0..self.cause.len()).filter(|client| fault.concerns(*client)) {
                    self.jumped_ms[client] = self.jumped_ms[client].saturating_add(by_ms);
                    self.cause[client] |= self.plan.clients[client].tls && self.is_expired(client);
                }
            }
            _ => {}
        }
    }

    /// True if this client may have refused a certificate by now.
    pub(super) fn may_refuse(&self, client: usize) -> bool {
        self.cause[client]
    }

    /// True if the good certificate is none, by this client's wall clock. A run is shorter than what lies between.
    fn is_expired(&self, client: usize) -> bool {
        let jumped = self.jumped_ms[client];
        let most = if jumped < 0 { VALID_BEFORE } else { VALID_AFTER };
        u128::from(jumped.unsigned_abs()) >= most.as_millis()
    }
}
