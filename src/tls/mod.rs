//! How `wss://` connections are secured: rustls with ring.

mod stream;

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, UnixTime},
    time_provider::TimeProvider,
};

pub(crate) use self::stream::{MaybeTls, Meter, Metered};
use crate::{
    env::Clock,
    error::{TransportError, TransportResult},
};

/// What a peer's certificate must prove. The default trusts the roots of Mozilla.
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
}

#[derive(Clone)]
enum Trust {
    Roots(Arc<RootCertStore>),
    Custom(Arc<ClientConfig>),
}

impl TlsConfig {
    /// Trusts these roots and no others.
    pub fn with_roots(roots: RootCertStore) -> Self {
        Self { trust: Trust::Roots(Arc::new(roots)) }
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

    /// Takes a rustls configuration as it is: its verifier, client identity and clock.
    pub fn custom(config: Arc<ClientConfig>) -> Self {
        Self { trust: Trust::Custom(config) }
    }

    /// The rustls configuration, built once per connection. Certificates are judged by the environment's wall clock.
    pub(crate) fn client_config<C: Clock>(&self, clock: &C) -> TransportResult<Arc<ClientConfig>> {
        let roots = match &self.trust {
            Trust::Custom(config) => return Ok(Arc::clone(config)),
            Trust::Roots(roots) => Arc::clone(roots),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let time = Arc::new(WallClock(clock.clone()));
        let config = ClientConfig::builder_with_details(provider, time)
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                TransportError::config("tls", format_args!("has no usable protocol version: {error}"))
            })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
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
            Trust::Roots(roots) => write!(f, "TlsConfig({} roots)", roots.len()),
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
