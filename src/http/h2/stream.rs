//! One request over a shared HTTP/2 connection, written and read by its caller.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, Request, Response};

use super::{
    super::{
        body::{Body, Kind},
        event::Event,
        link::PooledLink,
        sent::Failed,
    },
    connection::Shared,
};
use crate::{
    error::{Delivery, ErrorKind, TransportError, TransportResult},
    sync::Arc,
};

/// Sends a request over `pooled`, whose handle's parts these are. Dropping the future resets the stream; others on the connection go
/// on.
pub(crate) async fn send(
    (mut send, shared): (SendRequest<Bytes>, Arc<Shared>),
    pooled: PooledLink,
    request: Request<Body>,
) -> Result<Response<Kind>, Failed> {
    let lent = Lent { pooled: Some(pooled), shared: Arc::clone(&shared) };
    if let Err(error) = poll_fn(|cx| send.poll_ready(cx)).await {
        return Err(Failed::unsent(of_h2(&error, &shared), request));
    }
    let (parts, body) = request.into_parts();
    let body = body.into_bytes();
    // Order matters: counted before the task can see it, or the task would arm no alarm for a peer that falls silent now.
    let begun = Begun::new(&shared);
    let (mut response, upload) = match send.send_request(Request::from_parts(parts, ()), body.is_empty()) {
        Ok(begun) => begun,
        Err(error) => return Err(Failed::sent(of_h2(&error, &shared))),
    };
    let mut stream = Stream { upload: Upload { stream: upload, rest: body }, begun, _lent: lent };
    let result = poll_fn(|cx| {
        // An upload that the peer cuts short is told by its response, or by the reset that takes its place.
        let _ = stream.upload.poll(cx);
        Pin::new(&mut response).poll(cx)
    })
    .await;
    match result {
        Ok(response) => {
            shared.recorder.record_non_data();
            Ok(response.map(|body| Kind::H2(Incoming::new(body, stream))))
        }
        Err(error) => {
            let has_ended = error.is_go_away();
            Err(Failed { has_ended, ..Failed::sent(of_h2(&error, &shared)) })
        }
    }
}

/// A stream that is open: counted, and given back to the pool with its end.
pub(super) struct Stream {
    upload: Upload,
    begun: Begun,
    /// Dropped after what is done by this one's drop: the pool counts the stream as open until then.
    _lent: Lent,
}

impl Stream {
    /// Goes on with the body of the request. Ready when all of it was handed over.
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.upload.poll(cx)
    }

    /// How much of that is left.
    pub(super) fn left(&self) -> usize {
        self.upload.rest.len()
    }
}

/// A request whose response isn't over, as the task counts it.
struct Begun {
    shared: Arc<Shared>,
}

impl Begun {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.begin_stream();
        Self { shared: Arc::clone(shared) }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.shared.end_stream();
    }
}

/// A stream as the pool counts it, whether or not it was begun.
struct Lent {
    pooled: Option<PooledLink>,
    shared: Arc<Shared>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.shared.reporter.tell(|connection| Event::Released { connection });
        drop(self.pooled.take());
    }
}

struct Upload {
    stream: SendStream<Bytes>,
    rest: Bytes,
}

impl Upload {
    /// Sends as much as flow control allows.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Bounded by the body.
        while !self.rest.is_empty() {
            self.stream.reserve_capacity(self.rest.len().min(PIECE_MAX));
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(capacity)) => {
                    let piece = self.rest.split_to(capacity.min(self.rest.len()));
                    if self.stream.send_data(piece, self.rest.is_empty()).is_err() {
                        self.rest.clear();
                    }
                }
                // Nobody wants the rest.
                Some(Err(_)) | None => self.rest.clear(),
            }
        }
        Poll::Ready(())
    }
}

/// The body of a response.
pub(crate) struct Incoming {
    body: RecvStream,
    /// Gone once the response is over: its place is another's then.
    stream: Option<Stream>,
    shared: Arc<Shared>,
    is_read: bool,
}

impl Incoming {
    fn new(body: RecvStream, stream: Stream) -> Self {
        let shared = Arc::clone(&stream.begun.shared);
        let mut incoming = Self { body, stream: Some(stream), shared, is_read: false };
        if incoming.body.is_end_stream() {
            incoming.end();
        }
        incoming
    }

    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        trailers: &mut Option<HeaderMap>,
    ) -> Poll<TransportResult<Option<Bytes>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(None)) };
        let _ = stream.upload.poll(cx);
        if !self.is_read {
            if let Some(result) = ready!(self.body.poll_data(cx)) {
                let bytes = result.map_err(|error| self.error(&error))?;
                self.shared.recorder.record_data(bytes.len());
                // The peer may send as much again.
                let _ = self.body.flow_control().release_capacity(bytes.len());
                if self.body.is_end_stream() {
                    self.end();
                }
                return Poll::Ready(Ok(Some(bytes)));
            }
            self.is_read = true;
        }
        *trailers = ready!(self.body.poll_trailers(cx)).map_err(|error| self.error(&error))?;
        self.end();
        Poll::Ready(Ok(None))
    }

    /// Nothing more comes. What is left of the request's body is the task's: the peer may have answered before it read it.
    fn end(&mut self) {
        let left = self.stream.take().filter(|stream| stream.left() > 0);
        // Dropped where the task has ended, outside the lock.
        drop(left.and_then(|stream| self.shared.inbox.leave(stream)));
    }

    fn error(&self, error: &h2::Error) -> TransportError {
        of_h2(error, &self.shared).with_delivery(Delivery::MaybeSent)
    }
}

/// The h2 crate's errors in our words, with what became of the request.
fn of_h2(error: &h2::Error, shared: &Shared) -> TransportError {
    if let Some(cause) = shared.cause() {
        return cause.with_delivery(Delivery::MaybeSent);
    }
    lost(error)
}

pub(super) fn lost(error: &h2::Error) -> TransportError {
    let reason = error.reason();
    // RFC 9113, section 8.7: what was refused, or lies beyond the last stream of a GOAWAY, was not processed.
    let is_unprocessed = error.is_remote() && (error.is_go_away() || reason == Some(Reason::REFUSED_STREAM));
    let delivery = if is_unprocessed { Delivery::NotSent } else { Delivery::MaybeSent };
    let (kind, text) = match reason {
        Some(reason) if error.is_remote() && error.is_go_away() => {
            (ErrorKind::PeerClosed, format!("the peer is closing the connection: {reason:?}"))
        }
        Some(reason) if error.is_remote() => {
            (ErrorKind::PeerClosed, format!("the peer reset the stream: {reason:?}"))
        }
        Some(reason) if error.is_library() => {
            (ErrorKind::Protocol, format!("the peer broke HTTP/2: {reason:?}"))
        }
        Some(reason) => (ErrorKind::Io, format!("the stream ended: {reason:?}")),
        None if error.is_io() => (ErrorKind::Io, "the connection was lost".to_owned()),
        None => (ErrorKind::Encode, "the request can't be sent over HTTP/2".to_owned()),
    };
    TransportError::new(kind, text).with_delivery(delivery)
}

/// Asked for at once: the h2 crate counts in 32 bits, and a window has 31.
const PIECE_MAX: usize = 1 << 30;
