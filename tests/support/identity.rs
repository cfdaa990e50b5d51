//! A certificate made for a test, and what a server needs to show it.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// A certificate that signed itself.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) server: ServerConfig,
}

impl Identity {
    pub(crate) fn new(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a valid name");
        change(&mut params);
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], secret)
            .expect("the key fits the certificate");
        Self { certificate, server }
    }

    /// Roots that trust it, and nobody else.
    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        roots
    }
}
