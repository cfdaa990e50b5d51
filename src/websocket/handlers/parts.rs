//! The methods of a handler that its route already answers, so that they can't disagree with it.

use crate::{
    error::{ErrorKind, TransportError, TransportResult},
    websocket::{
        event::MessageKind,
        message::{RequestId, Topic, WsMessage},
        protocol::{ProtocolHandler, Route, RouteId},
    },
};

/// The trait's own default.
pub(super) const TOPICS_PER_MESSAGE: usize = 100;

/// What a message so routed is.
pub(super) fn kind(route: &Route<'_>) -> MessageKind {
    match route {
        Route::Response { .. } => MessageKind::Response,
        Route::Update { .. } => MessageKind::Update,
        Route::Ping | Route::Pong => MessageKind::Control,
        Route::Event(kind) => *kind,
    }
}

/// The id a message so routed answers to.
pub(super) fn request_id(route: Route<'_>) -> Option<RequestId> {
    match route {
        Route::Response { id: RouteId::Number(number), .. } => RequestId::number(number),
        Route::Response { id: RouteId::Text(text), .. } => Some(RequestId::text(text)),
        _ => None,
    }
}

/// The topic of a message so routed.
pub(super) fn topic(route: Route<'_>) -> Option<Topic> {
    match route {
        Route::Update { topic } => Some(Topic::new(topic)),
        _ => None,
    }
}

/// [`ProtocolHandler::inject_request_id`] by way of the handler's `encode_request`.
pub(super) fn inject<H: ProtocolHandler>(
    handler: &H,
    payload: &str,
    id: &RequestId,
) -> TransportResult<String> {
    let mut out = Vec::with_capacity(payload.len() + HEAD_SIZE_BYTES);
    handler.encode_request(id, &WsMessage::text(payload), &mut out)?;
    String::from_utf8(out).map_err(|error| {
        TransportError::with_source(ErrorKind::Encode, "the request with its id is not UTF-8", error)
    })
}

/// Room for what goes in front of a request with a numeric id.
const HEAD_SIZE_BYTES: usize = 64;
