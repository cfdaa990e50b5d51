//! An environment with the network of nobody, for what real loopback sockets can't do.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use hpx_transport::env::{self, Clock, Entropy, Net, Spawn, Timestamp};
use tokio::net::TcpStream;

/// Where names lead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Names {
    /// They don't resolve.
    Unknown,
    /// They have no address.
    Nowhere,
    /// To an address at which nobody listens.
    Refusing,
}

/// Tokio, but for names and addresses.
#[derive(Debug, Clone)]
pub(crate) struct Elsewhere {
    tokio: env::Tokio,
    names: Names,
}

impl Elsewhere {
    pub(crate) fn new(names: Names) -> Self {
        Self { tokio: env::Tokio::new(), names }
    }
}

impl Clock for Elsewhere {
    type Timer = env::TokioTimer;

    fn now(&self) -> Timestamp {
        self.tokio.now()
    }

    fn unix_time(&self) -> Duration {
        self.tokio.unix_time()
    }

    fn timer(&self) -> Self::Timer {
        self.tokio.timer()
    }
}

impl Net for Elsewhere {
    type Stream = TcpStream;

    async fn resolve(&self, _host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self.names {
            Names::Unknown => Err(io::ErrorKind::NotFound.into()),
            Names::Nowhere => Ok(Vec::new()),
            // RFC 5737: never anybody's.
            Names::Refusing => Ok(vec![([192, 0, 2, 1], port).into()]),
        }
    }

    async fn connect(&self, _address: SocketAddr) -> io::Result<TcpStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

impl Entropy for Elsewhere {
    fn seed(&self) -> [u8; 32] {
        self.tokio.seed()
    }
}

impl Spawn for Elsewhere {
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, name: &'static str, task: F) {
        self.tokio.spawn(name, task);
    }
}
