//! A socket that may be cut after so many bytes of what is written.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Socket;

pub(super) struct Cutting {
    inner: Socket,
    /// So many bytes still go.
    left: Option<usize>,
}

impl Cutting {
    pub(super) fn new(inner: Socket, after_bytes: Option<usize>) -> Self {
        Self { inner, left: after_bytes }
    }
}

impl AsyncRead for Cutting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cutting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(left) = &mut this.left else { return Pin::new(&mut this.inner).poll_write(cx, bytes) };
        if *left == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let poll = Pin::new(&mut this.inner).poll_write(cx, &bytes[..bytes.len().min(*left)]);
        if let Poll::Ready(Ok(count)) = &poll {
            *left -= count;
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
