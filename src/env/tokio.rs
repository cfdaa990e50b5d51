//! The production environment. The only file that names real clocks, sockets, spawns and the randomness of the system.
#![expect(clippy::disallowed_methods, reason = "this file is where the outside world is read")]

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use pin_project_lite::pin_project;
use tokio::{
    net::TcpStream,
    time::{Instant as TokioInstant, Sleep},
};

use super::{Clock, Entropy, Net, Spawn, Timer, Timestamp};

/// The environment of production: the tokio runtime the caller runs in, real sockets with `TCP_NODELAY`, the clock and
/// the randomness of the system.
///
/// Its epoch is the first use in the process. All values are equal; cloning is free.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tokio(());

impl Tokio {
    /// The one environment of this kind.
    pub const fn new() -> Self {
        Self(())
    }

    fn epoch() -> Instant {
        static EPOCH: OnceLock<Instant> = OnceLock::new();
        *EPOCH.get_or_init(Instant::now)
    }
}

impl Clock for Tokio {
    type Timer = TokioTimer;

    fn now(&self) -> Timestamp {
        // Through tokio, so that a paused test runtime moves this clock too.
        let elapsed = TokioInstant::now().into_std().saturating_duration_since(Self::epoch());
        Timestamp::ZERO + elapsed
    }

    fn unix_time(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn timer(&self) -> TokioTimer {
        TokioTimer { sleep: None }
    }
}

pin_project! {
    /// A tokio `Sleep`, made at the first arming: a connection that never sets a deadline registers no timer.
    #[derive(Debug)]
    pub struct TokioTimer {
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl Timer for TokioTimer {
    fn arm(self: Pin<&mut Self>, at: Timestamp) {
        let wait = at.since_epoch();
        let at = Tokio::epoch().checked_add(wait).unwrap_or_else(|| Tokio::epoch() + FAR_FUTURE);
        let at = TokioInstant::from_std(at);
        let mut sleep = self.project().sleep;
        match sleep.as_mut().as_pin_mut() {
            Some(sleep) => sleep.reset(at),
            None => sleep.set(Some(tokio::time::sleep_until(at))),
        }
    }

    fn poll_expired(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.project().sleep.as_pin_mut() {
            Some(sleep) => sleep.poll(cx),
            None => Poll::Pending,
        }
    }
}

impl Net for Tokio {
    type Stream = TcpStream;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(addr).await?;
        // Writes are already coalesced: one flush per wake.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Entropy for Tokio {
    fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("a system without a source of randomness can't make connections");
        seed
    }
}

impl Spawn for Tokio {
    /// # Panics
    ///
    /// Outside a tokio runtime.
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, _name: &'static str, task: F) {
        tokio::spawn(task);
    }
}

/// About 30 years: what an alarm beyond the range of `Instant` is set to.
const FAR_FUTURE: Duration = Duration::from_secs(1_000_000_000);
