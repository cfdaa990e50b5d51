//! HTTP/1.1 (RFC 9112): one task per connection, which polls hyper's connection and serves one request at a time.
//!
//! The task polls while the connection is idle too, so that a peer that closes it is noticed. It gives the connection back to the
//! pool itself, once hyper says that it is ready for another request: the last byte of the body was read.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::{
    body::Body,
    event::{Event, Reporter},
    inbox::Inbox,
    link::{Link, PooledLink},
    origin::Origin,
    outside::{Outside, Wire},
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
    shared: Arc<Shared>,
}

/// What the handle and the task share.
pub(crate) struct Shared {
    inbox: Inbox<Job>,
    active: AtomicU64,
}

type Reply = Result<Response<hyper::body::Incoming>, Failed>;

struct Job {
    request: Request<Body>,
    pooled: PooledLink,
    reply: oneshot::Sender<Reply>,
}

/// hyper's two halves of a connection.
pub(crate) struct Halves {
    send: http1::SendRequest<Body>,
    conn: http1::Connection<TokioIo<Wire>, Body>,
}

/// Makes the connection. Nothing is sent.
///
/// # Errors
///
/// Those of hyper, which knows none here.
pub(crate) async fn handshake(io: Wire, head_bytes_max: u32) -> TransportResult<Halves> {
    let limit = head_bytes_max as usize;
    let result = http1::Builder::new()
        .max_header_size(limit)
        .max_buf_size(limit.max(BUFFER_MIN))
        .handshake(TokioIo::new(io))
        .await;
    let (send, conn) = result.map_err(|error| of_hyper(error, head_bytes_max))?;
    Ok(Halves { send, conn })
}

impl Handle {
    /// For a connection that begins now; the task runs with the same.
    pub(crate) fn new(now: Timestamp) -> (Self, Task) {
        let shared = Arc::new(Shared { inbox: Inbox::new(), active: AtomicU64::new(now.as_nanos()) });
        (Self { shared: Arc::clone(&shared) }, Task { shared })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.shared.inbox.is_open()
    }

    pub(crate) fn last_active(&self) -> Timestamp {
        Timestamp::from_nanos(self.shared.active.load(Ordering::Acquire))
    }

    /// What [`send`] takes.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

/// Sends a request over `pooled`, of whose handle `shared` is. Dropping the future closes the connection: its answer would be taken
/// for another's.
pub(crate) async fn send(
    shared: Arc<Shared>,
    pooled: PooledLink,
    request: Request<Body>,
) -> Result<Response<Incoming>, Failed> {
    let (reply, answer) = oneshot::channel();
    if let Some(job) = shared.inbox.leave(Job { request, pooled, reply }) {
        return Err(Failed::unsent(lost("it was closed while it was idle"), job.request));
    }
    match answer.await {
        Ok(Ok(response)) => Ok(response.map(|body| Incoming { body })),
        Ok(Err(failed)) => Err(failed),
        Err(_) => Err(Failed::sent(lost("its task has ended").with_delivery(Delivery::MaybeSent))),
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
    shared: Arc<Shared>,
}

type Sending = Pin<
    Box<dyn Future<Output = Result<Response<hyper::body::Incoming>, TrySendError<Request<Body>>>> + Send>,
>;

/// | stage | left by | to |
/// |---|---|---|
/// | idle | a request | waiting |
/// | waiting | the head of the response | reading |
/// | reading | the end of its body | idle |
enum Stage {
    Idle,
    Waiting { sending: Sending, pooled: PooledLink, reply: oneshot::Sender<Reply> },
    Reading { pooled: PooledLink },
}

impl Task {
    /// Runs until the peer, the pool or a caller has ended the connection.
    pub(crate) async fn run(
        self,
        halves: Halves,
        permit: &Permit<Origin, Link>,
        outside: Arc<dyn Outside>,
        head_bytes_max: u32,
        reporter: &Reporter,
    ) {
        let Halves { mut send, conn } = halves;
        let mut conn = pin!(conn);
        let (mut stage, mut conn_is_over) = (Stage::Idle, false);
        poll_fn(|cx| {
            // Bounded: each turn moves on by a stage, and a request has three.
            loop {
                conn_is_over = conn_is_over || conn.as_mut().poll(cx).is_ready();
                stage = match std::mem::replace(&mut stage, Stage::Idle) {
                    Stage::Idle if conn_is_over => return Poll::Ready(()),
                    Stage::Idle => match self.shared.inbox.poll_next(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(None) => return Poll::Ready(()),
                        Poll::Ready(Some(Job { request, pooled, reply })) => Stage::Waiting {
                            sending: Box::pin(send.try_send_request(request)),
                            pooled,
                            reply,
                        },
                    },
                    Stage::Waiting { mut sending, pooled, mut reply } => match sending.as_mut().poll(cx) {
                        Poll::Ready(Ok(response)) => match reply.send(Ok(response)) {
                            Ok(()) if planted::alive(Bug::UnreadBodyReused) => {
                                permit.checkin(pooled);
                                Stage::Idle
                            }
                            Ok(()) => Stage::Reading { pooled },
                            Err(_) => return Poll::Ready(()),
                        },
                        Poll::Ready(Err(mut failed)) => {
                            let unsent = failed.take_message();
                            let error = of_hyper(failed.into_error(), head_bytes_max);
                            let _ = reply.send(Err(Failed::of(error, unsent)));
                            return Poll::Ready(());
                        }
                        // Its caller is gone: what comes now would be taken for another's answer.
                        Poll::Pending if reply.poll_closed(cx).is_ready() => return Poll::Ready(()),
                        Poll::Pending => {
                            stage = Stage::Waiting { sending, pooled, reply };
                            return Poll::Pending;
                        }
                    },
                    Stage::Reading { pooled } => match send.poll_ready(cx) {
                        Poll::Ready(Ok(())) if !conn_is_over => {
                            self.shared.active.store(outside.now().as_nanos(), Ordering::Release);
                            reporter.tell(|connection| Event::Released { connection });
                            permit.checkin(pooled);
                            Stage::Idle
                        }
                        Poll::Ready(_) => return Poll::Ready(()),
                        Poll::Pending if conn_is_over => return Poll::Ready(()),
                        Poll::Pending => {
                            stage = Stage::Reading { pooled };
                            return Poll::Pending;
                        }
                    },
                };
            }
        })
        .await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(Job { request, pooled, reply }) = self.shared.inbox.close() {
            let _ = reply.send(Err(Failed::unsent(lost("it was closed while it was idle"), request)));
            drop(pooled);
        }
    }
}

/// The body of a response.
pub(crate) struct Incoming {
    body: hyper::body::Incoming,
}

impl Incoming {
    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        trailers: &mut Option<HeaderMap>,
    ) -> Poll<TransportResult<Option<Bytes>>> {
        // Bounded: trailers come once.
        loop {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(of_hyper(error, 0).with_delivery(Delivery::MaybeSent)));
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(bytes) => return Poll::Ready(Ok(Some(bytes))),
                Err(frame) => *trailers = frame.into_trailers().ok(),
            }
        }
    }
}

fn lost(how: &'static str) -> TransportError {
    TransportError::new(ErrorKind::Io, format!("the connection was lost: {how}"))
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
