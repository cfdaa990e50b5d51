//! What became of a request that failed.

use http::Request;

use super::body::Body;
use crate::error::{Delivery, TransportError};

/// A failed request, and the request itself if nothing of it was sent.
pub(crate) struct Failed {
    pub(crate) error: TransportError,
    pub(crate) unsent: Option<Request<Body>>,
    /// The connection was at its end when the request came.
    pub(crate) has_ended: bool,
}

impl Failed {
    /// Nothing of it was sent: the connection was at its end.
    pub(crate) fn unsent(error: TransportError, request: Request<Body>) -> Self {
        Self { error: error.with_delivery(Delivery::NotSent), unsent: Some(request), has_ended: true }
    }

    /// Some of it may have been; the error says whether.
    pub(crate) fn sent(error: TransportError) -> Self {
        Self { error, unsent: None, has_ended: false }
    }

    pub(crate) fn of(error: TransportError, unsent: Option<Request<Body>>) -> Self {
        match unsent {
            Some(request) => Self::unsent(error, request),
            None => Self::sent(error.with_delivery(Delivery::MaybeSent)),
        }
    }
}
