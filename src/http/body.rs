//! What is sent with a request, and what comes with a response.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::{
    h1, h2,
    outside::{Alarm, Outside},
};
use crate::{
    env::Timestamp,
    error::{Delivery, ErrorKind, TransportError, TransportResult},
};

/// The body of a request: nothing, or bytes that are there already. It can be sent again where that is safe.
///
/// ```
/// use hpx_transport::http::Body;
///
/// assert_eq!(Body::from("text").len(), 4);
/// assert!(Body::empty().is_empty());
/// ```
#[derive(Clone, Default)]
pub struct Body {
    bytes: Bytes,
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self::default()
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self { bytes: bytes.into() }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.bytes.len())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

/// What carried a response.
///
/// ```no_run
/// # async fn run(client: hpx_transport::http::Client) -> hpx_transport::TransportResult<()> {
/// let response = client.get("https://example.com/").await?;
/// assert!(!response.body().connection().reused);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The connection had carried a request before.
    pub reused: bool,
    /// TLS had resumed a session when it was opened; `None` without TLS.
    pub resumed: Option<bool>,
}

/// The body of a response, as it comes in.
///
/// Read to its end, it lets the connection serve the next request. Dropped before, an HTTP/1.1 connection is closed and an HTTP/2
/// stream is reset; nobody else gets what was left. While nobody reads, the peer is held back by flow control.
pub struct ResponseBody {
    kind: Kind,
    connection: ConnectionInfo,
    outside: Arc<dyn Outside>,
    timeout: Duration,
    alarm: Alarm,
    deadline: Option<Timestamp>,
    trailers: Option<HeaderMap>,
    is_over: bool,
}

pub(crate) enum Kind {
    H1(h1::Incoming),
    H2(h2::Incoming),
}

impl ResponseBody {
    pub(crate) fn new(
        kind: Kind,
        connection: ConnectionInfo,
        outside: Arc<dyn Outside>,
        timeout: Duration,
        alarm: Alarm,
    ) -> Self {
        Self { kind, connection, outside, timeout, alarm, deadline: None, trailers: None, is_over: false }
    }

    /// What carried the response.
    pub fn connection(&self) -> ConnectionInfo {
        self.connection
    }

    /// The next piece; `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`] if nothing came for `body_timeout`, [`ErrorKind::Io`] if the connection was lost or the body ended
    /// short of its length, [`ErrorKind::Protocol`] if the peer broke the protocol. After an error there is no more.
    pub async fn chunk(&mut self) -> TransportResult<Option<Bytes>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The whole of it, if it is no longer than `limit`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::MessageTooLarge`] if it is, and those of [`chunk`](Self::chunk).
    pub async fn bytes(mut self, limit: usize) -> TransportResult<Bytes> {
        let mut all = BytesMut::new();
        let mut first = Bytes::new();
        while let Some(chunk) = self.chunk().await? {
            let size = all.len() + first.len() + chunk.len();
            if size > limit {
                return Err(TransportError::body_too_large(limit).with_delivery(Delivery::MaybeSent));
            }
            if first.is_empty() && all.is_empty() {
                // Most bodies are one piece, and need no copy.
                first = chunk;
                continue;
            }
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&chunk);
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    /// The trailers, once the body has been read to its end, if there were any.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// The same as [`chunk`](Self::chunk), for one poll.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<TransportResult<Option<Bytes>>> {
        if self.is_over {
            return Poll::Ready(Ok(None));
        }
        let poll = match &mut self.kind {
            Kind::H1(body) => body.poll_chunk(cx, &*self.outside, &mut self.trailers),
            Kind::H2(body) => body.poll_chunk(cx, &mut self.trailers),
        };
        if let Poll::Ready(result) = poll {
            self.is_over = !matches!(result, Ok(Some(_)));
            self.deadline = None;
            return Poll::Ready(result);
        }
        let deadline = *self.deadline.get_or_insert_with(|| self.outside.now() + self.timeout);
        if self.alarm.poll_at(cx, Some(deadline)).is_pending() {
            return Poll::Pending;
        }
        self.is_over = true;
        let text = format!("no piece of the body came within body_timeout of {:?}", self.timeout);
        Poll::Ready(Err(TransportError::new(ErrorKind::Timeout, text).with_delivery(Delivery::MaybeSent)))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        match self.poll_chunk(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(bytes))) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Poll::Ready(Ok(None)) => {
                Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
