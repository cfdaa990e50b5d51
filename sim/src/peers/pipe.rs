//! The exchange's end of a socket, which may be slow on purpose.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;

use super::cutting::Cutting;
use crate::net::Socket;

/// How bytes leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// As they come.
    Good,
    /// One at a time, with so much time after each.
    Slow(Duration),
    /// Without the Pong frames among them.
    Mute,
}

/// A socket whose owner may have bad manners.
pub(super) struct Pipe {
    inner: Wire,
    /// As they are now.
    manners: Box<dyn Fn() -> Manners + Send>,
    alarm: Option<Pin<Box<Sleep>>>,
    /// What is left of the frame whose beginning was written.
    frame_left: usize,
    /// That frame is a Pong that goes nowhere.
    swallowed: bool,
    /// The upgrade is answered: frames follow.
    speaks_frames: bool,
}

impl Pipe {
    pub(super) fn new(inner: Wire, manners: impl Fn() -> Manners + Send + 'static) -> Self {
        Self {
            inner,
            manners: Box::new(manners),
            alarm: None,
            frame_left: 0,
            swallowed: false,
            speaks_frames: false,
        }
    }

    /// From here on what is written is frames.
    pub(super) fn upgraded(&mut self) {
        self.speaks_frames = true;
    }

    /// Writes without Pong frames. Whoever writes has whole frames in `bytes`, but for what was written of the first.
    fn write_muted(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.frame_left == 0 {
            let Some((length, is_pong)) = frame(bytes) else {
                return Pin::new(&mut self.inner).poll_write(cx, bytes);
            };
            (self.frame_left, self.swallowed) = (length, is_pong);
        }
        let part = &bytes[..bytes.len().min(self.frame_left)];
        let poll = match self.swallowed {
            true => Poll::Ready(Ok(part.len())),
            false => Pin::new(&mut self.inner).poll_write(cx, part),
        };
        if let Poll::Ready(Ok(count)) = &poll {
            self.frame_left -= count;
        }
        poll
    }
}

/// What carries the bytes.
pub(super) enum Wire {
    Plain(Socket),
    Secure(Box<TlsStream<Cutting>>),
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The length of the server's frame at the front, and whether it is a Pong (RFC 6455, section 5.2).
fn frame(bytes: &[u8]) -> Option<(usize, bool)> {
    let (first, length) = (*bytes.first()?, usize::from(*bytes.get(1)? & 0x7f));
    let (header, length) = match length {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, length),
    };
    Some((header + length, first & 0x0f == 0x0a))
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let every = match (this.manners)() {
            Manners::Slow(every) => every,
            Manners::Mute if this.speaks_frames => return this.write_muted(cx, bytes),
            // To the end of the frame that was begun.
            Manners::Good if this.frame_left > 0 => return this.write_muted(cx, bytes),
            _ => return Pin::new(&mut this.inner).poll_write(cx, bytes),
        };
        if let Some(alarm) = &mut this.alarm
            && alarm.as_mut().poll(cx).is_pending()
        {
            return Poll::Pending;
        }
        this.alarm = Some(Box::pin(sleep_until(Instant::now() + every)));
        Pin::new(&mut this.inner).poll_write(cx, &bytes[..bytes.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
