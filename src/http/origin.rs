//! Where a request goes: what tells the hosts of the pool apart.

use std::borrow::Cow;

use http::{
    HeaderValue, Uri,
    header::{CONNECTION, HOST, HeaderMap, TE, TRANSFER_ENCODING, UPGRADE},
};

use super::{config::Protocol, pool::PoolKey};
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

/// The same, as it stands in a URI: what is looked for without a copy. Its hash is an [`Origin`]'s.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct OriginRef<'a> {
    host: Cow<'a, str>,
    port: u16,
    tls: bool,
    may_share: bool,
}

impl PoolKey for Origin {
    fn may_share(&self) -> bool {
        self.may_share
    }
}

impl<'a> OriginRef<'a> {
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) of the field `uri` for one without scheme or host, with another scheme than
    /// `http` or `https`, or with credentials, which belong into a header.
    pub(crate) fn of(uri: &'a Uri, protocol: Protocol) -> TransportResult<Self> {
        let error = |rule: &'static str| TransportError::config("uri", rule);
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(error("must begin with http:// or https://")),
            None => return Err(error("must be absolute, with a scheme and a host")),
        };
        let authority = uri.authority().ok_or_else(|| error("must name a host"))?.as_str();
        if authority.bytes().any(|byte| byte == b'@') {
            return Err(error("must hold no credentials: set the Authorization header"));
        }
        // The last colon, where it isn't within the brackets of an address (RFC 3986, section 3.2.2).
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() {
            return Err(error("must name a host"));
        }
        let port = match port.filter(|port| !port.is_empty()).map(str::parse) {
            Some(Ok(0)) => return Err(error("must not have port 0")),
            Some(Ok(port)) => port,
            Some(Err(_)) => return Err(error("must have a port below 65536")),
            None if tls => 443,
            None => 80,
        };
        let host = match bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(bare.to_ascii_lowercase()),
            false => Cow::Borrowed(bare),
        };
        let may_share = match protocol {
            Protocol::Auto => tls,
            Protocol::Http1 => false,
            Protocol::Http2 => true,
        };
        Ok(Self { host, port, tls, may_share })
    }

    pub(crate) fn is(&self, origin: &Origin) -> bool {
        *self.host == *origin.host
            && (self.port, self.tls, self.may_share) == (origin.port, origin.tls, origin.may_share)
    }

    pub(crate) fn to_owned(&self) -> Origin {
        let Self { host, port, tls, may_share } = self;
        Origin { host: (&**host).into(), port: *port, tls: *tls, may_share: *may_share }
    }
}

impl Origin {
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

/// An empty path before a query is `/` on the wire (RFC 9110, section 4.2.3).
pub(crate) fn root_path(uri: &mut Uri) {
    let Some(target) = uri.path_and_query().filter(|target| target.as_str().starts_with('?')) else { return };
    let rooted = format!("/{}", target.as_str()).parse().ok();
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = rooted;
    *uri = Uri::from_parts(parts).unwrap_or_default();
}

/// Takes out what concerns one connection only and HTTP/2 forbids (RFC 9113, section 8.2.2).
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.is_empty() {
        return;
    }
    for name in [&CONNECTION, &TRANSFER_ENCODING, &UPGRADE, &HOST] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
    let is_trailers = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"trailers");
    if headers.get(TE).is_some_and(|value| !is_trailers(value)) {
        headers.remove(TE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn origin(uri: &str) -> TransportResult<Origin> {
        let uri: Uri = uri.parse().expect("a URI");
        OriginRef::of(&uri, Protocol::Auto).map(|origin| origin.to_owned())
    }

    #[test]
    fn what_is_looked_for_in_a_uri_is_what_is_kept_of_it() {
        use std::hash::BuildHasher;
        let state = foldhash::fast::FixedState::with_seed(7);
        for uri in ["http://Example.TEST/a", "https://example.test:8443", "https://[::1]/"] {
            let uri: Uri = uri.parse().expect("a URI");
            let found = OriginRef::of(&uri, Protocol::Auto).expect("an origin");
            let kept = found.to_owned();
            assert!(found.is(&kept));
            assert_eq!(state.hash_one(&found), state.hash_one(&kept));
            assert!(!found.is(&Origin { port: 1, ..kept }));
        }
    }

    #[test]
    fn ports_have_their_defaults_and_hosts_one_spelling() {
        let of = |uri| origin(uri).map(|origin| (origin.host.to_string(), origin.port, origin.tls)).ok();
        assert_eq!(of("http://Example.TEST/a"), Some(("example.test".into(), 80, false)));
        assert_eq!(of("https://example.test"), Some(("example.test".into(), 443, true)));
        assert_eq!(of("https://[::1]:8443/?q"), Some(("::1".into(), 8443, true)));
    }

    #[test]
    fn a_query_without_a_path_is_asked_of_the_root() {
        for (given, wanted) in [
            ("http://example.test?q=1", "http://example.test/?q=1"),
            ("http://example.test", "http://example.test/"),
            ("http://example.test/a?q", "http://example.test/a?q"),
        ] {
            let mut uri: Uri = given.parse().expect("a URI");
            root_path(&mut uri);
            assert_eq!(uri.to_string(), wanted);
        }
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
