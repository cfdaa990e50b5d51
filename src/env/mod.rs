//! The traits through which everything else sees time, randomness, sockets and tasks.
//!
//! Production code is generic over [`Env`] and ends the generic at the spawn: no public type carries it. [`Tokio`] is the
//! production environment; `hpx-sim` brings a simulated one. Any implementation must pass the `conformance` suite (feature
//! `test-util`).
//!
//! All bounds are `Send`: `!Send` runtimes are a non-goal.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
mod timestamp;
mod tokio;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use ::tokio::io::{AsyncRead, AsyncWrite};

pub use self::{
    timestamp::Timestamp,
    tokio::{Tokio, TokioTimer},
};

/// Reads time and makes timers.
pub trait Clock: Clone + Send + Sync + 'static {
    /// The timer this clock arms.
    type Timer: Timer;

    /// Monotonic time since the environment's epoch.
    fn now(&self) -> Timestamp;

    /// Wall-clock time since 1970, for certificates and tickets. It may jump either way.
    fn unix_time(&self) -> Duration;

    /// A timer that is not armed.
    fn timer(&self) -> Self::Timer;
}

/// One alarm, re-armed in place: arming allocates nothing.
///
/// A timer that isn't armed never expires. An expiry is a hint: the reader asks the clock whether its deadline has passed.
pub trait Timer: Send + 'static {
    /// Sets the alarm to `at`, replacing an earlier one. `at` in the past expires at the next poll.
    fn arm(self: Pin<&mut Self>, at: Timestamp);

    /// Ready once the armed time has come, never before; stays ready until armed again.
    fn poll_expired(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

/// Resolves names and opens sockets.
pub trait Net: Clone + Send + Sync + 'static {
    /// A connected byte stream. Dropping it closes the socket.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The addresses of `host`, in the order to try them. An empty list is an error of the caller's making to handle.
    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Opens a socket to one address. Dropping the future abandons the attempt.
    fn connect(&self, addr: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// A source of seeds: one per connection, which expands it with ChaCha. A seed rather than a shared generator, so that the
/// draws of one connection never move those of another.
pub trait Entropy: Clone + Send + Sync + 'static {
    /// A fresh, unpredictable seed.
    fn seed(&self) -> [u8; 32];
}

/// Starts tasks.
pub trait Spawn: Clone + Send + Sync + 'static {
    /// Runs `task` to its end. `name` is for diagnostics. The environment may drop it earlier, at shutdown.
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, name: &'static str, task: F);
}

/// All of the outside world.
pub trait Env: Clock + Net + Entropy + Spawn {}

impl<T: Clock + Net + Entropy + Spawn> Env for T {}
