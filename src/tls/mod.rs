//! How connections are secured: rustls with ring.

mod sessions;
mod stream;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, Resumption, WebPkiServerVerifier},
    pki_types::{CertificateDer, UnixTime},
    sign::CertifiedKey,
    time_provider::TimeProvider,
};

use self::sessions::{Identity, PartitionKey};
pub use self::sessions::{SessionCache, SessionLimits, SessionStats};
pub(crate) use self::stream::{MaybeTls, Meter, Metered};
use crate::{
    env::Clock,
    error::{TransportError, TransportResult},
};

/// What a peer's certificate must prove, and where sessions are kept. The default trusts the roots of Mozilla.
///
/// Connections made with the same configuration, or a clone of it, resume each other's sessions, where they go to the same
/// server for the same protocol. A resumed session shows no certificate: one that expired, or was replaced, is noticed at the
/// next full handshake, after [`SessionLimits::lifetime_max`] at the latest.
///
/// ```
/// use hpx_transport::tls::TlsConfig;
///
/// let tls = TlsConfig::default();
/// # let _ = tls;
/// ```
#[derive(Clone)]
pub struct TlsConfig {
    trust: Trust,
    sessions: Option<Sessions>,
}

#[derive(Clone)]
enum Trust {
    Roots(Arc<Roots>),
    Custom(Arc<ClientConfig>),
}

/// Built once, and shared by every rustls configuration made of it: rustls tells by the identity of these two whether a session
/// was made under the same rules.
struct Roots {
    roots: Arc<RootCertStore>,
    verifier: OnceLock<Arc<WebPkiServerVerifier>>,
    nobody: Arc<Nobody>,
}

#[derive(Clone)]
struct Sessions {
    cache: SessionCache,
    identity: Identity,
}

impl Sessions {
    fn of(cache: SessionCache) -> Self {
        let identity = cache.identify();
        Self { cache, identity }
    }
}

/// A rustls configuration for one server, and where its handshakes are counted.
#[derive(Clone)]
pub(crate) struct Secured {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) sessions: Option<SessionCache>,
}

impl TlsConfig {
    /// Trusts these roots and no others.
    pub fn with_roots(roots: RootCertStore) -> Self {
        let roots = Roots { roots: Arc::new(roots), verifier: OnceLock::new(), nobody: Arc::new(Nobody) };
        Self { trust: Trust::Roots(Arc::new(roots)), sessions: Some(Sessions::of(SessionCache::default())) }
    }

    /// Trusts the roots of Mozilla and these.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if one of them is no certificate.
    pub fn with_extra_roots<'a>(
        extra: impl IntoIterator<Item = CertificateDer<'a>>,
    ) -> TransportResult<Self> {
        let mut roots = mozilla_roots();
        for certificate in extra {
            roots.add(certificate).map_err(|error| {
                TransportError::config("tls", format_args!("has a bad root certificate: {error}"))
            })?;
        }
        Ok(Self::with_roots(roots))
    }

    /// Takes a rustls configuration as it is: its verifier, client identity, clock and session store. Where a
    /// connection offers protocols (ALPN), they are its own. With [`sessions`](Self::sessions) its store is replaced.
    pub fn custom(config: Arc<ClientConfig>) -> Self {
        Self { trust: Trust::Custom(config), sessions: None }
    }

    /// Keeps sessions in this cache. Others may keep theirs there too: they don't mix.
    #[must_use]
    pub fn sessions(mut self, cache: SessionCache) -> Self {
        self.sessions = Some(Sessions::of(cache));
        self
    }

    /// Keeps no sessions, so that no two connections can be linked by them: every handshake is a full one.
    #[must_use]
    pub fn without_sessions(mut self) -> Self {
        if let Trust::Custom(config) = &mut self.trust {
            Arc::make_mut(config).resumption = Resumption::disabled();
        }
        self.sessions = None;
        self
    }

    /// The rustls configuration for one server. Certificates and tickets are judged by the environment's wall clock.
    pub(crate) fn secure<C: Clock>(
        &self,
        clock: &C,
        host: &str,
        port: u16,
        alpn: &[&[u8]],
    ) -> TransportResult<Secured> {
        let time = Arc::new(WallClock(clock.clone()));
        let mut config = match &self.trust {
            Trust::Custom(config) => ClientConfig::clone(config),
            Trust::Roots(roots) => roots.client_config(Arc::clone(&time) as Arc<dyn TimeProvider>)?,
        };
        if !alpn.is_empty() {
            config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        }
        match (&self.sessions, &self.trust) {
            (Some(sessions), _) => {
                let alpn = config.alpn_protocols.clone();
                let key = PartitionKey { host: host.to_owned(), port, alpn, identity: sessions.identity };
                config.resumption = sessions.cache.partition(key, time);
            }
            (None, Trust::Roots(_)) => config.resumption = Resumption::disabled(),
            (None, Trust::Custom(_)) => {}
        }
        let sessions = self.sessions.as_ref().map(|sessions| sessions.cache.clone());
        Ok(Secured { config: Arc::new(config), sessions })
    }
}

impl Roots {
    fn client_config(&self, time: Arc<dyn TimeProvider>) -> TransportResult<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = match self.verifier.get() {
            Some(verifier) => Arc::clone(verifier),
            None => {
                let roots = Arc::clone(&self.roots);
                let built = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
                let built = built
                    .map_err(|error| TransportError::config("tls", format_args!("can't verify: {error}")))?;
                Arc::clone(self.verifier.get_or_init(|| built))
            }
        };
        let config = ClientConfig::builder_with_details(provider, time)
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                TransportError::config("tls", format_args!("has no usable protocol version: {error}"))
            })?
            .with_webpki_verifier(verifier)
            .with_client_cert_resolver(Arc::clone(&self.nobody) as Arc<dyn ResolvesClientCert>);
        Ok(config)
    }
}

/// A client without a certificate. rustls makes a new one of its own for each configuration, and takes no session of another's.
#[derive(Debug)]
struct Nobody;

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self::with_roots(mozilla_roots())
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.trust {
            Trust::Roots(roots) => write!(f, "TlsConfig({} roots)", roots.roots.len()),
            Trust::Custom(_) => f.write_str("TlsConfig(custom)"),
        }
    }
}

fn mozilla_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The environment's wall clock, as rustls asks for it.
struct WallClock<C>(C);

impl<C: Clock> TimeProvider for WallClock<C> {
    fn current_time(&self) -> Option<UnixTime> {
        let since_1970: Duration = self.0.unix_time();
        Some(UnixTime::since_unix_epoch(since_1970))
    }
}

impl<C> fmt::Debug for WallClock<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}
