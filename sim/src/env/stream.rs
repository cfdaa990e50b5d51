//! One socket as the library holds it: the backend's stream, watched, and dribbling where the plan says so.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{SimEnv, frames::FrameReader};
use crate::{
    net::Socket,
    trace::{SocketLog, What},
};

/// A simulated socket. While the dribble fault lasts it takes and gives a few bytes at a time, with a pause for others
/// after each read.
#[derive(Debug)]
pub struct SimStream {
    inner: Socket,
    env: SimEnv,
    socket: u64,
    written: FrameReader,
    paused: bool,
    ended: bool,
}

impl SimStream {
    pub(super) fn new(inner: Socket, env: SimEnv, socket: u64) -> Self {
        Self { inner, env, socket, written: FrameReader::default(), paused: false, ended: false }
    }

    fn record(&self, log: SocketLog) {
        self.env.record(What::Socket(log));
    }

    fn end(&mut self, how: &str) {
        if !std::mem::replace(&mut self.ended, true) {
            self.record(SocketLog::Ended { socket: self.socket, how: how.to_owned() });
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let most = this.env.registry().conditions.dribble.unwrap_or(usize::MAX);
        if most < usize::MAX {
            this.paused = !this.paused;
            if !this.paused {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let before = buf.filled().len();
        let poll = if most >= buf.remaining() {
            Pin::new(&mut this.inner).poll_read(cx, buf)
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
            let poll = Pin::new(&mut this.inner).poll_read(cx, &mut part);
            let bytes = part.filled().len();
            buf.advance(bytes);
            poll
        };
        let bytes = buf.filled().len() - before;
        if poll.is_pending() {
            this.paused = false;
        }
        match &poll {
            Poll::Ready(Ok(())) if bytes == 0 && buf.remaining() > 0 => this.end("end of stream"),
            Poll::Ready(Ok(())) => this.record(SocketLog::Read { socket: this.socket, bytes }),
            Poll::Ready(Err(error)) => this.end(&error.kind().to_string()),
            Poll::Pending => {}
        }
        poll
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let most = this.env.registry().conditions.dribble.unwrap_or(usize::MAX);
        let part = &bytes[..bytes.len().min(most)];
        let poll = Pin::new(&mut this.inner).poll_write(cx, part);
        match &poll {
            Poll::Ready(Ok(count)) => {
                this.record(SocketLog::Wrote { socket: this.socket, bytes: *count });
                for frame in this.written.take(&part[..*count]) {
                    this.record(SocketLog::Frame { socket: this.socket, frame });
                }
            }
            Poll::Ready(Err(error)) => this.end(&error.kind().to_string()),
            Poll::Pending => {}
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

impl Drop for SimStream {
    fn drop(&mut self) {
        self.env.registry().sockets -= 1;
        self.record(SocketLog::Closed { socket: self.socket });
    }
}
