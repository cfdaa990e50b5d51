//! Where a request goes: what tells the hosts of the pool apart.

use http::{HeaderValue, Uri, header::HeaderMap};

use super::pool::PoolKey;
use crate::error::{TransportError, TransportResult};

/// Scheme, host and port (RFC 9110, section 4.3.1). A client has one TLS configuration, one choice of protocols and no proxy, so
/// these three tell its connections apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// HTTP/2 may be spoken.
    pub(crate) may_share: bool,
}

impl PoolKey for Origin {
    fn may_share(&self) -> bool {
        self.may_share
    }
}

impl Origin {
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) of the field `uri` for one without scheme or host, with another scheme than
    /// `http` or `https`, or with credentials, which belong into a header.
    pub(crate) fn of(uri: &Uri) -> TransportResult<Self> {
        let error = |rule: &'static str| TransportError::config("uri", rule);
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(error("must begin with http:// or https://")),
            None => return Err(error("must be absolute, with a scheme and a host")),
        };
        let authority = uri.authority().ok_or_else(|| error("must name a host"))?;
        if authority.as_str().contains('@') {
            return Err(error("must hold no credentials: set the Authorization header"));
        }
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() {
            return Err(error("must name a host"));
        }
        let port = match (uri.port_u16(), authority.port()) {
            (Some(0), _) => return Err(error("must not have port 0")),
            (Some(port), _) => port,
            (None, Some(_)) => return Err(error("must have a port below 65536")),
            (None, None) if tls => 443,
            (None, None) => 80,
        };
        Ok(Self { host: bare.to_ascii_lowercase().into(), port, tls, may_share: false })
    }

    /// The Host header (RFC 9112, section 3.2), as HTTP/1.1 wants it.
    pub(crate) fn host_header(&self) -> TransportResult<HeaderValue> {
        let usual = if self.tls { 443 } else { 80 };
        let host = &self.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        let text = if self.port == usual { host } else { format!("{host}:{}", self.port) };
        HeaderValue::try_from(text)
            .map_err(|_| TransportError::config("uri", "has a host that no header can carry"))
    }
}

/// Takes out what concerns one connection only and HTTP/2 forbids (RFC 9113, section 8.2.2).
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "host"] {
        headers.remove(name);
    }
    let is_trailers = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"trailers");
    if headers.get("te").is_some_and(|value| !is_trailers(value)) {
        headers.remove("te");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn origin(uri: &str) -> TransportResult<Origin> {
        Origin::of(&uri.parse().expect("a URI"))
    }

    #[test]
    fn ports_have_their_defaults_and_hosts_one_spelling() {
        let of = |uri| origin(uri).map(|origin| (origin.host.to_string(), origin.port, origin.tls)).ok();
        assert_eq!(of("http://Example.TEST/a"), Some(("example.test".into(), 80, false)));
        assert_eq!(of("https://example.test"), Some(("example.test".into(), 443, true)));
        assert_eq!(of("https://[::1]:8443/?q"), Some(("::1".into(), 8443, true)));
    }

    #[test]
    fn an_address_that_leads_nowhere_is_refused_by_what_is_wrong_with_it() {
        for (uri, word) in [
            ("/path", "absolute"),
            ("example.test:80", "absolute"),
            ("ftp://example.test/", "http://"),
            ("https://user:secret@example.test/", "credentials"),
            ("http://example.test:0/", "port 0"),
        ] {
            let error = origin(uri).expect_err(uri);
            assert_eq!((error.kind(), error.field()), (ErrorKind::Config, Some("uri")));
            assert!(error.to_string().contains(word), "{uri}: {error}");
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
    }

    #[test]
    fn the_host_header_names_the_port_where_it_is_not_the_usual_one() {
        let header = |uri| origin(uri).and_then(|origin| origin.host_header()).expect("a header");
        assert_eq!(header("http://example.test:80/"), "example.test");
        assert_eq!(header("https://example.test:80/"), "example.test:80");
        assert_eq!(header("http://[::1]:81/"), "[::1]:81");
    }

    #[test]
    fn what_concerns_one_connection_is_not_sent_over_http_2() {
        let mut headers = HeaderMap::new();
        for name in ["connection", "te", "transfer-encoding", "accept", "host"] {
            headers.insert(name, HeaderValue::from_static("gzip"));
        }
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["accept"]);
        headers.insert("te", HeaderValue::from_static("trailers"));
        remove_hop_by_hop(&mut headers);
        assert!(headers.contains_key("te"));
    }
}
