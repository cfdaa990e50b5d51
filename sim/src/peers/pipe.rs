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

use crate::net::Socket;

/// A socket that gives out a byte at a time, if told so.
pub(super) struct Pipe {
    inner: Socket,
    /// How long to wait after each byte, as long as it does.
    slowness: Box<dyn Fn() -> Option<Duration> + Send>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Pipe {
    pub(super) fn new(inner: Socket, slowness: impl Fn() -> Option<Duration> + Send + 'static) -> Self {
        Self { inner, slowness: Box::new(slowness), alarm: None }
    }
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
        let Some(every) = (this.slowness)() else { return Pin::new(&mut this.inner).poll_write(cx, bytes) };
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
