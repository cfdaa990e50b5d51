//! The words a connection is spoken to in: messages, topics, request ids.

use std::{borrow::Borrow, fmt, ops::Deref, sync::Arc};

use bytes::Bytes;
use tungstenite::Utf8Bytes;

/// Text over shared bytes, known to be UTF-8. Cloning never copies.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text(Utf8Bytes);

impl Text {
    /// The text as a slice.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The shared bytes under the text.
    pub fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl TryFrom<Bytes> for Text {
    type Error = std::str::Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        Utf8Bytes::try_from(bytes).map(Self)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// One WebSocket message. Its payload is shared: cloning never copies.
///
/// ```
/// use hpx_transport::websocket::WsMessage;
///
/// let message = WsMessage::text(r#"{"op":"hello"}"#);
/// assert!(message.is_text());
/// assert_eq!(message.as_text(), Some(r#"{"op":"hello"}"#));
/// assert_eq!(message.as_bytes().len(), 14);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WsMessage {
    /// A text message (opcode 1).
    Text(Text),
    /// A binary message (opcode 2).
    Binary(Bytes),
}

impl WsMessage {
    /// A text message.
    pub fn text(text: impl Into<Text>) -> Self {
        Self::Text(text.into())
    }

    /// A binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// The text, if it is a text message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }

    /// The payload of either kind.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }

    /// True for a text message.
    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// True for a binary message.
    pub fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
    }
}

impl From<&str> for WsMessage {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for WsMessage {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

/// The name of a feed. Cloning shares it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// A topic of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Topic {
    fn from(name: T) -> Self {
        Self(name.into())
    }
}

impl From<&Topic> for Topic {
    fn from(topic: &Topic) -> Self {
        topic.clone()
    }
}

impl Deref for Topic {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// What ties a reply to its request: a number of at most 2^53-1, which every JSON reader keeps exact, or a text.
///
/// A number and the text of the same digits are different ids, as they are in JSON. `From<&str>` and `From<String>` take
/// canonical decimals as numbers; [`RequestId::text`] keeps them text.
///
/// ```
/// use hpx_transport::websocket::RequestId;
///
/// assert_eq!(RequestId::from("42"), RequestId::number(42).unwrap());
/// assert_ne!(RequestId::text("42"), RequestId::number(42).unwrap());
/// assert_eq!(RequestId::from("042").as_text(), Some("042"));
/// assert!(RequestId::number(1 << 53).is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Id);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Id {
    Number(u64),
    Text(Arc<str>),
}

impl RequestId {
    /// The largest number an id may be: 2^53-1.
    pub const NUMBER_MAX: u64 = (1 << 53) - 1;

    /// A numeric id, unless it is above [`NUMBER_MAX`](Self::NUMBER_MAX).
    pub fn number(number: u64) -> Option<Self> {
        (number <= Self::NUMBER_MAX).then_some(Self(Id::Number(number)))
    }

    /// A text id, also if it looks like a number.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self(Id::Text(text.into()))
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<u64> {
        match self.0 {
            Id::Number(number) => Some(number),
            Id::Text(_) => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.0 {
            Id::Number(_) => None,
            Id::Text(text) => Some(text),
        }
    }

    /// The number `text` is the canonical decimal of: no sign, no leading zero, in range.
    pub(crate) fn parse_canonical(text: &str) -> Option<u64> {
        let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
        let number = if canonical { text.parse().ok()? } else { return None };
        (number <= Self::NUMBER_MAX).then_some(number)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Id::Number(number) => write!(f, "{number}"),
            Id::Text(text) => f.write_str(text),
        }
    }
}

impl From<&str> for RequestId {
    fn from(text: &str) -> Self {
        match Self::parse_canonical(text) {
            Some(number) => Self(Id::Number(number)),
            None => Self::text(text),
        }
    }
}

impl From<String> for RequestId {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<u32> for RequestId {
    fn from(number: u32) -> Self {
        Self(Id::Number(number.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_decimals_become_numbers() {
        for text in ["0", "7", "9007199254740991"] {
            assert!(RequestId::from(text).as_number().is_some(), "{text}");
            assert_eq!(RequestId::from(text).to_string(), text);
        }
        for text in
            ["", "00", "01", "-1", "+1", "1.0", "9007199254740992", "18446744073709551616", "a1", " 1"]
        {
            assert_eq!(RequestId::from(text).as_text(), Some(text));
        }
    }

    #[test]
    fn cloning_a_message_shares_its_bytes() {
        let message = WsMessage::text("x".repeat(64));
        let clone = message.clone();
        assert_eq!(message.as_bytes().as_ptr(), clone.as_bytes().as_ptr());
    }
}
