//! HTTP/1.1 (RFC 9112): one task per connection, which polls hyper's connection. Requests are sent by their callers, one at a time.
//!
//! The task polls while the connection is idle too, so that a peer that closes it is noticed. Whoever has read the last byte of a
//! body gives the connection back to the pool, if hyper says that it is ready for another request; else it is left to the task, which
//! waits for that as long as the peer takes something of the request.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::HOST};
use http_body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{
    body::{Body, Kind},
    event::{Event, Reporter},
    inbox::Inbox,
    link::{Link, PooledLink, Spoken},
    origin::Origin,
    outside::{Counts, Outside, Wire},
    pool::Permit,
    sent::Failed,
};
use crate::{
    env::Timestamp,
    error::{Delivery, ErrorKind, TransportError, TransportResult},
    planted::{self, Bug},
    sync::{Arc, AtomicU64, Ordering},
};

/// What the pool keeps of a connection. Dropped, it ends the task and closes the socket.
pub(crate) struct Handle {
    send: http1::SendRequest<Body>,
    /// The Host header of its requests.
    host: HeaderValue,
    shared: Arc<Shared>,
}

/// What the handle and the task share.
struct Shared {
    /// A connection whose response is over.
    inbox: Inbox<PooledLink>,
    active: AtomicU64,
    reporter: Reporter,
}

/// hyper's two halves of a connection.
pub(crate) struct Halves {
    send: http1::SendRequest<Body>,
    conn: http1::Connection<TokioIo<Wire>, Body>,
    counts: Arc<Counts>,
}

/// Makes the connection. Nothing is sent.
///
/// # Errors
///
/// Those of hyper, which knows none here.
pub(crate) async fn handshake(io: Wire, head_bytes_max: u32) -> TransportResult<Halves> {
    let (limit, counts) = (head_bytes_max as usize, io.counts());
    let result = http1::Builder::new()
        .max_header_size(limit)
        .max_buf_size(limit.max(BUFFER_MIN))
        .handshake(TokioIo::new(io))
        .await;
    let (send, conn) = result.map_err(|error| of_hyper(error, head_bytes_max))?;
    Ok(Halves { send, conn, counts })
}

impl Handle {
    /// For a connection that begins now, and the task that is to run it.
    pub(crate) fn new(halves: Halves, host: HeaderValue, now: Timestamp, reporter: Reporter) -> (Self, Task) {
        let Halves { send, conn, counts } = halves;
        let active = AtomicU64::new(now.as_nanos());
        let shared = Arc::new(Shared { inbox: Inbox::new(), active, reporter });
        (Self { send, host, shared: Arc::clone(&shared) }, Task { conn, counts, shared })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.shared.inbox.is_open()
    }

    pub(crate) fn last_active(&self) -> Timestamp {
        Timestamp::from_nanos(self.shared.active.load(Ordering::Acquire))
    }
}

/// Sends a request over `pooled`. Dropping the future closes the connection: its answer would be taken for another's.
pub(crate) async fn send(
    mut pooled: PooledLink,
    mut request: Request<Body>,
    outside: &dyn Outside,
    head_bytes_max: u32,
) -> Result<Response<Kind>, Failed> {
    let Some(Link { spoken: Spoken::H1(handle), .. }) = pooled.own_mut() else {
        unreachable!("one that is spoken to in HTTP/1.1 is never shared");
    };
    if !handle.shared.inbox.is_open() {
        let text = "the connection was lost: it was closed while it was idle";
        return Err(Failed::unsent(TransportError::new(ErrorKind::Io, text), request));
    }
    if !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, handle.host.clone());
    }
    let answer = handle.send.try_send_request(request);
    match answer.await {
        Ok(response) => Ok(response.map(|body| Kind::H1(Incoming::new(body, pooled, outside)))),
        Err(mut failed) => {
            let (unsent, error) = (failed.take_message(), failed.into_error());
            // hyper takes the end of the task for the caller's fault.
            let is_over = error.is_user() && !is_open(&pooled);
            let error = match is_over {
                true => TransportError::with_source(ErrorKind::Io, "the connection's task has ended", error),
                false => of_hyper(error, head_bytes_max),
            };
            Err(Failed::of(error, unsent))
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.inbox.abandon();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("h1").field("open", &self.is_open()).finish()
    }
}

/// The task's side.
pub(crate) struct Task {
    conn: http1::Connection<TokioIo<Wire>, Body>,
    counts: Arc<Counts>,
    shared: Arc<Shared>,
}

impl Task {
    /// Runs until the peer, the pool or a caller has ended the connection.
    pub(crate) async fn run(
        mut self,
        permit: &Permit<Origin, Link>,
        outside: &dyn Outside,
        body_timeout: Duration,
    ) {
        // It is over with its response, and hyper isn't yet.
        let mut returning: Option<PooledLink> = None;
        let (mut alarm, mut patience) = (None, None);
        poll_fn(|cx| {
            let conn_is_over = pin!(&mut self.conn).poll(cx).is_ready();
            // Bounded: two turns for each request, and no other is sent before the last has been given back.
            loop {
                if conn_is_over {
                    return Poll::Ready(());
                }
                let Some(mut pooled) = returning.take() else {
                    match self.shared.inbox.poll_next(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(None) => return Poll::Ready(()),
                        Poll::Ready(Some(pooled)) => returning = Some(pooled),
                    }
                    continue;
                };
                match poll_ready(&mut pooled, cx) {
                    Poll::Ready(true) => {
                        patience = None;
                        self.shared.release(outside);
                        permit.checkin(pooled);
                    }
                    Poll::Ready(false) => return Poll::Ready(()),
                    Poll::Pending => {
                        returning = Some(pooled);
                        // The peer has answered before it has read the request, and may never read the rest.
                        let alarm = alarm.get_or_insert_with(|| outside.alarm());
                        let (written, now) = (self.counts.written(), outside.now());
                        let by = match patience {
                            Some((seen, by)) if seen == written => by,
                            _ => now + body_timeout,
                        };
                        patience = Some((written, by));
                        return alarm.poll_at(cx, Some(by));
                    }
                }
            }
        })
        .await;
    }
}

impl Shared {
    /// It is ready for another request.
    fn release(&self, outside: &dyn Outside) {
        self.active.store(outside.now().as_nanos(), Ordering::Release);
        self.reporter.tell(|connection| Event::Released { connection });
    }
}

fn is_open(pooled: &PooledLink) -> bool {
    matches!(&pooled.spoken, Spoken::H1(handle) if handle.is_open())
}

/// True once it is ready for another request, false if it never will be.
fn poll_ready(pooled: &mut PooledLink, cx: &mut Context<'_>) -> Poll<bool> {
    match pooled.own_mut() {
        _ if planted::alive(Bug::UnreadBodyReused) => Poll::Ready(true),
        Some(Link { spoken: Spoken::H1(handle), .. }) => {
            handle.send.poll_ready(cx).map(|ready| ready.is_ok())
        }
        _ => Poll::Ready(false),
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        drop(self.shared.inbox.close());
    }
}

/// The body of a response.
pub(crate) struct Incoming {
    body: hyper::body::Incoming,
    /// Until the body has been read to its end. Dropped before, the connection is closed.
    pooled: Option<PooledLink>,
}

impl Incoming {
    fn new(body: hyper::body::Incoming, pooled: PooledLink, outside: &dyn Outside) -> Self {
        let mut incoming = Self { body, pooled: Some(pooled) };
        if incoming.body.is_end_stream() || planted::alive(Bug::UnreadBodyReused) {
            incoming.leave(outside);
        }
        incoming
    }

    /// The body is over: its connection serves the next request. It is left to the task where hyper hasn't noticed yet.
    fn leave(&mut self, outside: &dyn Outside) {
        let Some(pooled) = self.pooled.take() else { return };
        let Spoken::H1(handle) = &pooled.spoken else { return };
        let shared = Arc::clone(&handle.shared);
        if handle.send.is_ready() {
            shared.release(outside);
            pooled.checkin();
        } else {
            // Dropped where the task has ended, outside the lock.
            drop(shared.inbox.leave(pooled));
        }
    }

    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        outside: &dyn Outside,
        trailers: &mut Option<HeaderMap>,
    ) -> Poll<TransportResult<Option<Bytes>>> {
        // Bounded: trailers come once.
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    self.leave(outside);
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Some(Err(error))) => {
                    self.pooled = None;
                    return Poll::Ready(Err(of_hyper(error, 0).with_delivery(Delivery::MaybeSent)));
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            if self.body.is_end_stream() {
                self.leave(outside);
            }
            match frame.into_data() {
                Ok(bytes) => return Poll::Ready(Ok(Some(bytes))),
                Err(frame) => *trailers = frame.into_trailers().ok(),
            }
        }
    }
}

/// hyper's errors in our words. Their own may hold what the peer sent.
fn of_hyper(error: hyper::Error, head_bytes_max: u32) -> TransportError {
    // hyper has a question for this, and answers it only where it is built as a server.
    if error.is_parse() && error.to_string().contains("too large") {
        return TransportError::head_too_large(head_bytes_max);
    }
    let (kind, text) = if error.is_parse() {
        (ErrorKind::Protocol, "the peer sent what is not HTTP/1.1")
    } else if error.is_incomplete_message() {
        (ErrorKind::Io, "the connection was lost before the response was whole")
    } else if error.is_canceled() || error.is_closed() {
        (ErrorKind::Io, "the connection was closed before the request was sent")
    } else if error.is_user() {
        (ErrorKind::Encode, "the request can't be sent over HTTP/1.1")
    } else {
        (ErrorKind::Io, "the connection was lost")
    };
    TransportError::with_source(kind, text, error)
}

/// What hyper insists on.
const BUFFER_MIN: usize = 8192;
