//! Makes the certificates of the simulated exchange anew: `cargo run --package hpx-sim --example certificates`.
//!
//! They are kept in the repository, so that every run has the same ones. Ed25519, whose signatures are all of one length: what
//! differs from run to run in a handshake must not show in how long it is. The keys guard nothing.

use std::{error::Error, fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519, date_time_ymd,
};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/peers/tls");
    for name in ["trusted", "unknown"] {
        let (root_key, leaf_key) =
            (KeyPair::generate_for(&PKCS_ED25519)?, KeyPair::generate_for(&PKCS_ED25519)?);
        let mut root = CertificateParams::new(Vec::new())?;
        root.distinguished_name.push(DnType::CommonName, format!("{name} root of a simulation"));
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (root.not_before, root.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        let root_certificate = root.self_signed(&root_key)?;
        let issuer = Issuer::new(root, root_key);
        let mut leaf = CertificateParams::new(vec!["exchange".to_owned()])?;
        // Around the day on which every simulation takes place.
        (leaf.not_before, leaf.not_after) = (date_time_ymd(2029, 12, 1), date_time_ymd(2030, 2, 1));
        let leaf_certificate = leaf.signed_by(&leaf_key, &issuer)?;
        fs::write(folder.join(format!("{name}-root.der")), root_certificate.der())?;
        fs::write(folder.join(format!("{name}-leaf.der")), leaf_certificate.der())?;
        fs::write(folder.join(format!("{name}-key.der")), leaf_key.serialize_der())?;
    }
    Ok(())
}
