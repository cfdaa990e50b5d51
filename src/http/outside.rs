//! The environment, erased once: everything above knows no type parameter.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{link::Link, origin::Origin, pool::Reaper};
use crate::{
    dial::{self, Target},
    env::{Env, Timer, Timestamp},
    error::TransportResult,
    sync::{AtomicU64, Ordering},
    tls::{MaybeTls, Meter, Secured, TlsConfig},
};

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the client asks of the outside world.
pub(crate) trait Outside: Send + Sync {
    fn now(&self) -> Timestamp;
    fn alarm(&self) -> Alarm;
    fn seed(&self) -> [u8; 32];
    fn spawn(&self, name: &'static str, task: BoxFuture<()>);
    fn dial(&self, target: Target, attempt: u32, budget: Duration) -> BoxFuture<TransportResult<Dialed>>;
    fn secure(&self, tls: &TlsConfig, host: &str, port: u16, alpn: &[&[u8]]) -> TransportResult<Secured>;
    /// Runs something generic over the clock.
    fn reap(&self, reaper: Reaper<Origin, Link>) -> BoxFuture<()>;
}

/// A connection to the peer, TLS and all.
pub(crate) struct Dialed {
    pub(crate) io: Wire,
    pub(crate) alpn: Option<Vec<u8>>,
    /// Whether TLS resumed a session; `None` without TLS.
    pub(crate) resumed: Option<bool>,
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {
    /// Bytes that came in and went out since it opened, whether or not they made anything to read.
    fn meter(&self) -> Meter;
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for MaybeTls<S> {
    fn meter(&self) -> Meter {
        self.meter()
    }
}

/// A byte stream that tells what its socket has received, for whoever watches the peer.
pub(crate) struct Wire {
    io: Box<dyn Socket>,
    counts: Arc<Counts>,
}

/// Bytes of whatever kind, that of a TLS record which is not whole too.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    read: AtomicU64,
    written: AtomicU64,
}

impl Counts {
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

impl Wire {
    fn new(io: impl Socket + 'static) -> Self {
        Self { io: Box::new(io), counts: Arc::default() }
    }

    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Written here alone: a store is all it takes.
    fn count(&self) {
        let Meter { read, written } = self.io.meter();
        self.counts.read.store(read, Ordering::Relaxed);
        self.counts.written.store(written, Ordering::Relaxed);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_read(cx, buf);
        self.count();
        poll
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.count();
        poll
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.count();
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_flush(cx);
        self.count();
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A timer of whatever environment.
pub(crate) struct Alarm {
    timer: Pin<Box<dyn ErasedTimer>>,
    at: Option<Timestamp>,
}

trait ErasedTimer: Send {
    fn arm(self: Pin<&mut Self>, at: Timestamp);
    fn poll_expired(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

impl<T: Timer> ErasedTimer for T {
    fn arm(self: Pin<&mut Self>, at: Timestamp) {
        Timer::arm(self, at);
    }

    fn poll_expired(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Timer::poll_expired(self, cx)
    }
}

impl Alarm {
    /// Ready when that time has come; never without one. Arms the timer only when the time changes.
    pub(crate) fn poll_at(&mut self, cx: &mut Context<'_>, at: Option<Timestamp>) -> Poll<()> {
        if self.at != at {
            self.at = at;
            if let Some(at) = at {
                self.timer.as_mut().arm(at);
            }
        }
        match at {
            Some(_) => self.timer.as_mut().poll_expired(cx),
            None => Poll::Pending,
        }
    }
}

impl std::fmt::Debug for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alarm").field("at", &self.at).finish_non_exhaustive()
    }
}

impl<E: Env> Outside for E {
    fn now(&self) -> Timestamp {
        crate::env::Clock::now(self)
    }

    fn alarm(&self) -> Alarm {
        Alarm { timer: Box::pin(self.timer()), at: None }
    }

    fn seed(&self) -> [u8; 32] {
        crate::env::Entropy::seed(self)
    }

    fn spawn(&self, name: &'static str, task: BoxFuture<()>) {
        let env = self;
        env.spawn(name, task);
    }

    fn dial(&self, target: Target, attempt: u32, budget: Duration) -> BoxFuture<TransportResult<Dialed>> {
        let env = self.clone();
        Box::pin(async move {
            let stream = dial::dial_within(&env, &target, attempt, budget).await?;
            let (alpn, resumed) = match &stream {
                MaybeTls::Plain(_) => (None, None),
                MaybeTls::Tls(stream) => {
                    let session = stream.get_ref().1;
                    let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                    (session.alpn_protocol().map(<[u8]>::to_vec), Some(resumed))
                }
            };
            Ok(Dialed { io: Wire::new(stream), alpn, resumed })
        })
    }

    fn secure(&self, tls: &TlsConfig, host: &str, port: u16, alpn: &[&[u8]]) -> TransportResult<Secured> {
        tls.secure(self, host, port, alpn)
    }

    fn reap(&self, reaper: Reaper<Origin, Link>) -> BoxFuture<()> {
        Box::pin(reaper.run(self.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// A TLS stream that has a part of a record, and nothing to read.
    struct Partial;

    impl Socket for Partial {
        fn meter(&self) -> Meter {
            Meter { read: 100, written: 0 }
        }
    }

    impl AsyncRead for Partial {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Partial {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[test]
    fn a_part_of_a_record_is_a_sign_of_life() {
        let mut wire = Wire::new(Partial);
        let counts = wire.counts();
        let mut buffer = [0; 8];
        let mut buf = ReadBuf::new(&mut buffer);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut wire).poll_read(&mut cx, &mut buf).is_pending());
        assert_eq!(counts.read(), 100);
    }
}
