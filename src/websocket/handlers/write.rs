//! The JSON that handlers write: requests with an id in front, and lists of topics.

use crate::{
    error::{ErrorKind, TransportError, TransportResult},
    websocket::{
        message::{Topic, WsMessage},
        protocol::object_fields,
    },
};

/// The fields of a request, behind its opening brace.
///
/// # Errors
///
/// [`ErrorKind::Encode`] if `payload` is not a JSON object. A binary payload may be one too.
pub(super) fn payload_fields(payload: &WsMessage) -> TransportResult<&str> {
    match payload {
        WsMessage::Text(text) => object_fields(text),
        WsMessage::Binary(bytes) => object_fields(std::str::from_utf8(bytes).map_err(|error| {
            TransportError::with_source(ErrorKind::Encode, "a binary request payload must be JSON", error)
        })?),
    }
}

/// Appends what [`payload_fields`] found to an object that has a field already.
pub(super) fn write_fields(fields: &str, out: &mut Vec<u8>) {
    if !fields.starts_with('}') {
        out.push(b',');
    }
    out.extend_from_slice(fields.as_bytes());
}

/// Appends a text, quoted and escaped.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    // A Vec takes every byte, and every text has a JSON form.
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok());
}

/// Appends an array of topics.
pub(super) fn write_topics(topics: &[Topic], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, topic) in topics.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_text(topic, out);
    }
    out.push(b']');
}

/// The message of what was written.
pub(super) fn message(out: Vec<u8>) -> WsMessage {
    match String::from_utf8(out) {
        Ok(text) => WsMessage::text(text),
        // Never taken: all that is written above is UTF-8.
        Err(error) => WsMessage::binary(error.into_bytes()),
    }
}
