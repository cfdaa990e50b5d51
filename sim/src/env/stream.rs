//! One socket as the library holds it: the backend's stream, watched, and hurt as the faults of the moment have it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hpx_transport::env::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    SimEnv,
    fault_io::{Broken, FaultIo, Leave},
    frames::FrameReader,
    pace::Pace,
};
use crate::{
    net::Socket,
    trace::{SocketLog, What},
};

/// A simulated socket.
#[derive(Debug)]
pub struct SimStream {
    /// Gone as soon as a fault has ended the socket: then its peer knows.
    inner: Option<Socket>,
    env: SimEnv,
    socket: u64,
    written: FrameReader,
    faults: FaultIo,
    /// A dribble gives others a turn after each read.
    paused: bool,
    ended: bool,
    /// It took less than it was offered, and has not been flushed since.
    blocked: bool,
    reading: Pace,
    writing: Pace,
    /// Since when the library has not come back after it was given bytes: there may be more.
    unread: Option<Timestamp>,
}

impl SimStream {
    pub(super) fn new(inner: Socket, env: SimEnv, socket: u64) -> Self {
        let faults = FaultIo::new(&env.registry(), socket);
        Self {
            inner: Some(inner),
            env,
            socket,
            written: FrameReader::default(),
            faults,
            paused: false,
            ended: false,
            blocked: false,
            reading: Pace::default(),
            writing: Pace::default(),
            unread: None,
        }
    }

    fn record(&self, log: SocketLog) {
        self.env.record(What::Socket(log));
    }

    fn end(&mut self, how: &str) {
        if !std::mem::replace(&mut self.ended, true) {
            self.record(SocketLog::Ended { socket: self.socket, how: how.to_owned() });
        }
    }

    /// A fault has ended it. The backend's socket goes, so that the peer is told.
    fn break_off(&mut self, broken: Broken) {
        match (self.inner.take(), broken) {
            (Some(inner), Broken::Reset) => inner.abort(),
            (inner, _) => drop(inner),
        }
        self.end(match broken {
            Broken::Reset => "connection reset",
            Broken::Ended => "end of stream",
        });
    }

    /// What a read may do now; `None` is nothing yet.
    fn leave_to_read(&mut self, cx: &mut Context<'_>) -> Option<Leave> {
        loop {
            if self.env.stops_at_bytes() && self.env.inner.recorder.stands_still(cx) {
                return None;
            }
            let leave = self.faults.leave_to_read(&self.env.registry());
            match leave {
                Leave::Stop(byte) => self.record(SocketLog::UpgradeByte { socket: self.socket, byte }),
                // Whoever changes the conditions wakes every task of the client.
                Leave::Wait => return None,
                leave => return Some(leave),
            }
        }
    }

    fn has_written(&mut self, bytes: &[u8]) {
        let inner = &self.env.inner;
        inner.recorder.bytes(inner.client, self.socket, true, bytes);
        self.record(SocketLog::Wrote { socket: self.socket, bytes: bytes.len() });
        if self.env.inner.secure {
            return;
        }
        for frame in self.written.take(bytes) {
            self.record(SocketLog::Frame { socket: self.socket, frame });
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(since) = self.unread.take()
            && since != self.env.world_now()
        {
            self.record(SocketLog::LeftUnread { socket: self.socket, since });
        }
        let poll = self.give(cx, buf);
        let given = matches!(poll, Poll::Ready(Ok(())) if !self.ended);
        self.unread = given.then(|| self.env.world_now());
        poll
    }
}

impl SimStream {
    /// What the faults let through of what the socket has.
    fn give(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self;
        let most = match this.leave_to_read(cx) {
            Some(Leave::Move(most)) => most,
            Some(Leave::Over(broken)) => {
                this.break_off(broken);
                return Poll::Ready(broken.of_read());
            }
            _ => return Poll::Pending,
        };
        let rate = this.env.registry().conditions.throttle;
        let Poll::Ready(most) = this.reading.poll(rate, most, cx) else { return Poll::Pending };
        if this.env.registry().conditions.dribble.is_some() {
            this.paused = !this.paused;
            if !this.paused {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let Some(inner) = &mut this.inner else { return Poll::Ready(Ok(())) };
        let before = buf.filled().len();
        let poll = if most >= buf.remaining() {
            Pin::new(inner).poll_read(cx, buf)
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
            let poll = Pin::new(inner).poll_read(cx, &mut part);
            let bytes = part.filled().len();
            buf.advance(bytes);
            poll
        };
        let read = &mut buf.filled_mut()[before..];
        let bytes = read.len();
        this.faults.has_read(&this.env.registry(), read);
        let env = &this.env.inner;
        env.recorder.bytes(env.client, this.socket, false, read);
        this.reading.moved(bytes);
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
        let poll = self.offer(cx, bytes);
        let blocked = match &poll {
            Poll::Pending => true,
            Poll::Ready(Ok(count)) => *count < bytes.len(),
            Poll::Ready(Err(_)) => false,
        };
        if blocked && !std::mem::replace(&mut self.blocked, true) {
            self.record(SocketLog::Blocked { socket: self.socket });
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        };
        if poll.is_ready() && std::mem::take(&mut self.blocked) {
            self.record(SocketLog::Flushed { socket: self.socket });
        }
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What nobody is there to hear goes where the bytes go.
        let lost = self.faults.is_half_open(&self.env.registry());
        match &mut self.inner {
            Some(inner) if !lost => Pin::new(inner).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl SimStream {
    /// Offers bytes to the socket, as far as the faults let them through.
    fn offer(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self;
        let leave = this.faults.leave_to_write(&this.env.registry());
        let most = match leave {
            Leave::Move(most) => most,
            // Whoever changes the conditions wakes every task of the client.
            Leave::Wait | Leave::Stop(_) => return Poll::Pending,
            Leave::Swallow => {
                this.has_written(bytes);
                return Poll::Ready(Ok(bytes.len()));
            }
            Leave::Over(broken) => {
                this.break_off(broken);
                return Poll::Ready(Err(broken.of_write()));
            }
        };
        let rate = this.env.registry().conditions.throttle;
        let Poll::Ready(most) = this.writing.poll(rate, most, cx) else { return Poll::Pending };
        let part = &bytes[..bytes.len().min(most)];
        let Some(inner) = &mut this.inner else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let poll = Pin::new(inner).poll_write(cx, part);
        match &poll {
            Poll::Ready(Ok(count)) => {
                let cut = this.faults.has_written(&mut this.env.registry(), *count);
                this.writing.moved(*count);
                this.has_written(&part[..*count]);
                if let Some(broken) = cut {
                    this.break_off(broken);
                    // Whoever reads must hear of it.
                    this.env.wake_all();
                }
            }
            Poll::Ready(Err(error)) => this.end(&error.kind().to_string()),
            Poll::Pending => {}
        }
        poll
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.env.registry().sockets -= 1;
        self.record(SocketLog::Closed { socket: self.socket });
    }
}
