//! The opening handshake of RFC 6455, section 4: one request, one answer, checked.

use std::{sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::handshake::derive_accept_key;

use super::{
    config::{Endpoint, WsConfig},
    link::Link,
};
use crate::{
    error::{ErrorKind, TransportError, TransportResult},
    tls::MaybeTls,
};

/// What every upgrade request of a connection says, built once. Holds credentials: never logged.
pub(crate) struct Upgrade {
    /// Request line and headers, up to the key.
    head: String,
    subprotocols: Vec<String>,
    max_message_size: usize,
    read_buffer_size: usize,
}

/// The randomness of one link.
pub(crate) struct Draws {
    /// Base of `Sec-WebSocket-Key`.
    pub(crate) nonce: [u8; 16],
    /// Seeds the masks of the link's frames.
    pub(crate) masks: [u8; 32],
}

impl Upgrade {
    pub(crate) fn new(config: &WsConfig, endpoint: &Endpoint) -> Arc<Self> {
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            endpoint.target, endpoint.authority
        );
        if !config.subprotocols.is_empty() {
            head.push_str(&format!("Sec-WebSocket-Protocol: {}\r\n", config.subprotocols.join(", ")));
        }
        for (name, value) in &config.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        Arc::new(Self {
            head,
            subprotocols: config.subprotocols.clone(),
            max_message_size: config.max_message_size,
            read_buffer_size: config.read_buffer_size,
        })
    }

    /// Turns a byte stream into a link.
    ///
    /// # Errors
    ///
    /// `UpgradeRefused` with the status, `Handshake` for an answer that isn't one, `Io` if the stream ends.
    pub(crate) async fn perform<S>(&self, mut stream: MaybeTls<S>, draws: Draws) -> TransportResult<Link<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let key = data_encoding::BASE64.encode(&draws.nonce);
        let request = format!("{}Sec-WebSocket-Key: {key}\r\n\r\n", self.head);
        stream.write_all(request.as_bytes()).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let (head_length, answer) = read_head(&mut stream).await?;
        self.check(&answer[..head_length], &key)?;
        let rest = answer[head_length..].to_vec();
        Ok(Link::new(stream, rest, draws.masks, self.max_message_size, self.read_buffer_size))
    }

    fn check(&self, head: &[u8], key: &str) -> TransportResult<()> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(head).map_err(|error| {
            TransportError::with_source(
                ErrorKind::Handshake,
                "the peer's answer to the upgrade is not HTTP",
                error,
            )
        })?;
        if parsed.is_partial() {
            return Err(invalid("is not HTTP"));
        }
        let status = response.code.unwrap_or_default();
        let field = |name: &str| -> Option<&str> {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok().map(str::trim)
        };
        if status != 101 {
            let seconds = field("retry-after").and_then(|value| value.parse().ok());
            return Err(TransportError::refused(status, seconds.map(Duration::from_secs)));
        }
        // Several lines of one name are one list (RFC 9110, section 5.3).
        let has_token = |name: &str, token: &str| {
            let lines = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            let mut parts = lines.flat_map(|line| line.value.split(|byte| *byte == b','));
            parts.any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        };
        if !has_token("upgrade", "websocket") {
            return Err(invalid("has no header Upgrade: websocket"));
        }
        if !has_token("connection", "upgrade") {
            return Err(invalid("has no header Connection: Upgrade"));
        }
        if field("sec-websocket-accept") != Some(derive_accept_key(key.as_bytes()).as_str()) {
            return Err(invalid("has a wrong Sec-WebSocket-Accept"));
        }
        let mut lines = response.headers.iter();
        let name = "sec-websocket-extensions";
        if lines.any(|line| line.name.eq_ignore_ascii_case(name) && !line.value.trim_ascii().is_empty()) {
            return Err(invalid("names an extension that was not offered"));
        }
        match field("sec-websocket-protocol") {
            None if self.subprotocols.is_empty() => Ok(()),
            None => Err(invalid("picks none of the subprotocols offered")),
            Some(picked) if self.subprotocols.iter().any(|name| name == picked) => Ok(()),
            Some(_) => Err(invalid("picks a subprotocol that was not offered")),
        }
    }
}

/// Reads up to the empty line that ends the head. Gives back its length and all that was read.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> TransportResult<(usize, Vec<u8>)> {
    let mut answer = Vec::with_capacity(1024);
    loop {
        let searched = answer.len().saturating_sub(HEAD_END.len() - 1);
        let read = stream.read_buf(&mut answer).await.map_err(lost)?;
        if read == 0 {
            let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(lost(error));
        }
        let end = answer[searched..].windows(HEAD_END.len()).position(|window| window == HEAD_END);
        if let Some(end) = end {
            return Ok((searched + end + HEAD_END.len(), answer));
        }
        if answer.len() > HEAD_SIZE_MAX_BYTES {
            return Err(invalid("is longer than 16384 bytes"));
        }
        // A peer that doesn't speak HTTP need not be heard out.
        let expected = &HTTP_PREFIX[..HTTP_PREFIX.len().min(answer.len())];
        if !answer.starts_with(expected) {
            return Err(invalid("is not HTTP"));
        }
    }
}

fn invalid(what: &str) -> TransportError {
    TransportError::new(ErrorKind::Handshake, format!("the peer's answer to the upgrade {what}"))
}

fn lost(error: std::io::Error) -> TransportError {
    let text = format!("the connection was lost in the upgrade: {}", error.kind());
    TransportError::with_source(ErrorKind::Io, text, error)
}

const HEAD_END: &[u8] = b"\r\n\r\n";
const HTTP_PREFIX: &[u8] = b"HTTP/1.";
/// Beyond any real answer: what servers commonly allow for a request head.
const HEAD_SIZE_MAX_BYTES: usize = 16 << 10;
/// As many as fit a head of that size in practice.
const HEADERS_MAX: usize = 100;
