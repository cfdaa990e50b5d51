//! The network under a run: turmoil's, or one of our own in memory.
//!
//! | file | job |
//! |---|---|
//! | `mod` | a socket, a listener and a clock that are of one backend or the other |
//! | `memory` | the network in memory as tasks see it: wakers and one lock |
//! | `fabric` | (pure) hosts, listeners, packets under way, and what befalls them |
//! | `endpoint` | (pure) one end of a TCP connection: buffers, window, retransmission |
//! | `link` | (pure) the line between two hosts: latency, jitter, bandwidth, partition, hold |

mod endpoint;
mod fabric;
mod link;
pub(crate) mod memory;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hpx_transport::env::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::link::LinkChange;

/// What carries a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// turmoil: hosts with runtimes of their own, time in ticks. The reference.
    #[default]
    Turmoil,
    /// One paused runtime over a network in memory: windows, retransmission, resets; time jumps from event to event.
    Memory,
}

impl Backend {
    /// Every backend.
    pub const ALL: [Self; 2] = [Self::Turmoil, Self::Memory];

    /// The backend of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.name() == name)
    }

    /// As it is written on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Turmoil => "turmoil",
            Self::Memory => "memory",
        }
    }
}

/// Where the time of a run comes from. Both are tokio's paused time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum SimClock {
    /// Time since the simulation began, as the host of the moment knows it.
    #[default]
    Turmoil,
    /// Time since this instant of the one runtime.
    Memory(tokio::time::Instant),
}

impl SimClock {
    /// Time since the run began. Outside the simulation there is none.
    pub(crate) fn now(self) -> Option<Timestamp> {
        // Outside a runtime tokio's clock is the machine's: a host that is torn down, or nobody's code.
        tokio::runtime::Handle::try_current().ok()?;
        let elapsed = match self {
            Self::Turmoil => turmoil::sim_elapsed()?,
            Self::Memory(start) => tokio::time::Instant::now().saturating_duration_since(start),
        };
        Some(Timestamp::ZERO + elapsed)
    }
}

/// The way a client's dials go.
#[derive(Clone)]
pub(crate) enum Wire {
    Turmoil,
    Memory(memory::Host),
}

impl Wire {
    pub(crate) async fn connect(&self, addr: SocketAddr) -> io::Result<Socket> {
        match self {
            Self::Turmoil => turmoil::net::TcpStream::connect(addr).await.map(Socket::Turmoil),
            Self::Memory(host) => host.connect(addr).await.map(Socket::Memory),
        }
    }
}

/// A stream of either backend.
#[derive(Debug)]
pub(crate) enum Socket {
    Turmoil(turmoil::net::TcpStream),
    Memory(memory::Stream),
}

impl Socket {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Turmoil(stream) => stream.local_addr(),
            Self::Memory(stream) => Ok(stream.local_addr()),
        }
    }

    /// Ends the connection at once, and tells the peer: by a reset, or by the end of the stream on turmoil, where nothing
    /// else can be said.
    pub(crate) fn abort(self) {
        match self {
            Self::Turmoil(stream) => drop(stream),
            Self::Memory(stream) => stream.abort(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // turmoil gives a segment at a time, a kernel what there is: many small ones would look like an attack.
            Self::Turmoil(stream) => {
                let before = buf.filled().len();
                loop {
                    let had = buf.filled().len();
                    let poll = Pin::new(&mut *stream).poll_read(cx, buf);
                    if !matches!(poll, Poll::Ready(Ok(()))) && had > before {
                        // The end, or the error, is there again at the next read.
                        return Poll::Ready(Ok(()));
                    }
                    if !matches!(poll, Poll::Ready(Ok(())))
                        || buf.filled().len() == had
                        || buf.remaining() == 0
                    {
                        return poll;
                    }
                }
            }
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Turmoil(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Turmoil(stream) => Pin::new(stream).poll_flush(cx),
            Self::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Turmoil(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A listener of either backend. Waiting for a connection may be given up at any time.
pub(crate) enum Listener {
    Turmoil(turmoil::net::TcpListener),
    Memory(memory::Listener),
}

impl Listener {
    pub(crate) async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Self::Turmoil(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Socket::Turmoil(stream), peer))
            }
            Self::Memory(listener) => {
                let (stream, peer) = listener.accept().await;
                Ok((Socket::Memory(stream), peer))
            }
        }
    }
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
