//! Fetches a page twice, over two connections, and tells what carried them.
//!
//! `cargo run --example fetch -- https://example.com/`. With `--roots file.pem` it trusts the certificates in that file and no
//! others; with `--http1` or `--http2` it speaks that protocol only.

use std::{env, error::Error, fs, process::ExitCode};

use hpx_transport::{
    http::{Client, HttpConfig, Protocol},
    tls::{SessionCache, TlsConfig},
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut config = HttpConfig::default();
    let mut uri = None;
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--http1" => config.protocol = Protocol::Http1,
            "--http2" => config.protocol = Protocol::Http2,
            "--roots" => {
                config.tls = TlsConfig::with_roots(roots(&words.next().ok_or("--roots needs a file")?)?)
            }
            _ if word.starts_with("--") => return Err(format!("{word} is no option").into()),
            _ => uri = Some(word),
        }
    }
    let uri = uri.ok_or("usage: fetch [--http1|--http2] [--roots file.pem] <uri>")?;
    let sessions = SessionCache::default();
    config.tls = config.tls.sessions(sessions.clone());
    let client = Client::new(config)?;
    for number in 1..=2 {
        let response = client.get(&uri).await?;
        let session = match response.body().connection().resumed {
            Some(true) => "TLS session resumed",
            Some(false) => "full TLS handshake",
            None => "no TLS",
        };
        println!("connection {number}: {:?} {} ({session})", response.version(), response.status());
        let body = response.into_body().bytes(BODY_BYTES_MAX).await?;
        println!("    {} bytes", body.len());
        // The next request is to have a connection of its own.
        client.drain();
    }
    let stats = sessions.stats();
    println!("handshakes: {} full, {} resumed", stats.full, stats.resumed);
    client.close().await;
    Ok(())
}

fn roots(file: &str) -> Result<RootCertStore, Box<dyn Error>> {
    let pem = fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate?)?;
    }
    if roots.is_empty() { Err(format!("{file} holds no certificate").into()) } else { Ok(roots) }
}

/// What a page may be long.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
