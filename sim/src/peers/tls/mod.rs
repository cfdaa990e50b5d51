//! The exchange's TLS: a certificate that a plan's clients trust, and one that nobody does.
//!
//! Made by `examples/certificates.rs`, and good around the day of the simulation: a wall clock that has jumped finds it
//! expired, or not yet valid.

use std::{fmt, io, sync::Arc, time::Duration};

use hpx_transport::tls::TlsConfig;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    server::StoresServerSessions,
    time_provider::TimeProvider,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::cutting::Cutting;
use crate::{
    net::{SimClock, Socket},
    plan::TlsFault,
};

/// What it shows to clients.
#[derive(Clone)]
pub(crate) struct Identity {
    trusted: Arc<ServerConfig>,
    unknown: Arc<ServerConfig>,
}

impl Identity {
    pub(crate) fn new(clock: SimClock) -> Self {
        let config = |leaf: &'static [u8], key: &'static [u8]| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
            ServerConfig::builder_with_details(provider, Arc::new(World(clock)))
                .with_safe_default_protocol_versions()
                .expect("ring has the protocol versions of rustls")
                .with_no_client_auth()
                .with_single_cert(vec![CertificateDer::from(leaf)], key)
                .expect("the certificates in this folder fit their keys")
        };
        Self {
            trusted: Arc::new(config(include_bytes!("trusted-leaf.der"), include_bytes!("trusted-key.der"))),
            unknown: Arc::new(config(include_bytes!("unknown-leaf.der"), include_bytes!("unknown-key.der"))),
        }
    }

    /// The exchange's part of a handshake, as such a fault has it.
    pub(super) async fn shake_hands(
        &self,
        socket: Socket,
        fault: Option<TlsFault>,
    ) -> io::Result<TlsStream<Cutting>> {
        let config = self.config(fault);
        TlsAcceptor::from(Arc::clone(config)).accept(Cutting::new(socket, cut(fault))).await
    }

    /// The same of a host that speaks these protocols and keeps its sessions there.
    pub(super) async fn shake_hands_for(
        &self,
        socket: Socket,
        fault: Option<TlsFault>,
        alpn: &[&[u8]],
        sessions: Arc<dyn StoresServerSessions>,
    ) -> io::Result<TlsStream<Cutting>> {
        let mut config = ServerConfig::clone(self.config(fault));
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.session_storage = sessions;
        TlsAcceptor::from(Arc::new(config)).accept(Cutting::new(socket, cut(fault))).await
    }

    fn config(&self, fault: Option<TlsFault>) -> &Arc<ServerConfig> {
        if fault == Some(TlsFault::BadCertificate) { &self.unknown } else { &self.trusted }
    }
}

/// How much of the exchange's words comes before it is gone.
fn cut(fault: Option<TlsFault>) -> Option<usize> {
    match fault {
        Some(TlsFault::CutMidHandshake { after_bytes }) => Some(after_bytes),
        _ => None,
    }
}

/// What a plan's clients trust.
pub(crate) fn trust() -> TlsConfig {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from(&include_bytes!("trusted-root.der")[..]);
    roots.add(root).expect("the root in this folder is a certificate");
    TlsConfig::with_roots(roots)
}

/// The world's own wall clock.
struct World(SimClock);

impl TimeProvider for World {
    fn current_time(&self) -> Option<UnixTime> {
        let now = self.0.now().unwrap_or_default().since_epoch();
        Some(UnixTime::since_unix_epoch(crate::env::EPOCH + now))
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// From the day of the simulation to the certificate's first and last day: 2029-12-01 and 2030-02-01.
const DAY: Duration = Duration::from_secs(24 * 3600);
pub(crate) const VALID_BEFORE: Duration = DAY.saturating_mul(31);
pub(crate) const VALID_AFTER: Duration = DAY.saturating_mul(31);
