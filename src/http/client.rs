//! The client: from a request to the head of its response.

use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use http::{HeaderValue, Method, Request, Response, Uri, Version, uri::PathAndQuery};
use rustls::pki_types::ServerName;

use super::{
    body::{Body, ConnectionInfo, Kind, ResponseBody},
    config::{HttpConfig, Protocol},
    event::{Event, Reporter, Watch},
    h1, h2,
    link::{Link, PooledLink, Spoken},
    memory::HostMemory,
    origin::{Origin, OriginRef, remove_hop_by_hop, root_path},
    outside::Outside,
    pool::{Permit, Pool, PoolConfig, PoolStats, Step},
    sent::Failed,
};
use crate::{
    dial::Target,
    env::{self, Env, Timestamp},
    error::{Delivery, ErrorKind, TransportError, TransportResult},
    planted::{self, Bug},
    sync::{AtomicBool, AtomicU64, Mutex, Ordering},
};

/// An HTTP client. Clones are the same client and share its connections; when the last one is dropped its pool closes, and what is
/// in progress runs to its end.
///
/// Every future may be dropped at any point. Over HTTP/1.1 that closes the connection if there was one; over HTTP/2 it resets the
/// stream. A request whose response is over before all of its body was sent goes on in the background, until the peer takes nothing
/// of it for `body_timeout`.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    outside: Arc<dyn Outside>,
    config: HttpConfig,
    pool: Pool<Origin, Link>,
    reaps: Arc<AtomicBool>,
    /// Numbers the dials, so that each begins with another address.
    dials: AtomicU64,
    calls: AtomicU64,
    watch: Watch,
    /// What is known of hosts beyond their connections.
    known: Mutex<Known>,
}

/// By host and port.
type Known = BTreeMap<(Box<str>, u16), Arc<HostMemory>>;

/// What a client's pool holds of one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStats {
    /// Its name, or address.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
    /// It is spoken to over TLS.
    pub tls: bool,
    /// What there is.
    pub pool: PoolStats,
}

impl Client {
    /// A client in the real world. Connections are driven by tasks of the Tokio runtime in which requests are made.
    ///
    /// # Errors
    ///
    /// Those of [`HttpConfig::validate`].
    pub fn new(config: HttpConfig) -> TransportResult<Self> {
        Self::new_in(env::Tokio::new(), config)
    }

    /// A client in another environment, such as a simulated one.
    ///
    /// # Errors
    ///
    /// Those of [`HttpConfig::validate`].
    pub fn new_in<E: Env>(env: E, config: HttpConfig) -> TransportResult<Self> {
        config.validate()?;
        let outside: Arc<dyn Outside> = Arc::new(env);
        let seed = outside.seed();
        let hash_seed = seed.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let pool = Pool::new(&PoolConfig { hash_seed, ..config.pool.clone() })?;
        let watch = Watch::new(config.observer.clone());
        let inner = Inner {
            outside,
            config,
            pool,
            reaps: Arc::new(AtomicBool::new(false)),
            dials: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            watch,
            known: Mutex::new(BTreeMap::new()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Asks for a resource.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request), and [`ErrorKind::Config`] for a URI that is none.
    pub async fn get(&self, uri: &str) -> TransportResult<Response<ResponseBody>> {
        let uri: Uri = uri.parse().map_err(|_| TransportError::config("uri", "is not a URI"))?;
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri;
        self.request(request).await
    }

    /// Sends a request and waits for the head of its response; the body comes as it is read. A status is a response and no error.
    ///
    /// It is sent again where that can't execute it twice: up to eight times if the peer refuses it unprocessed, up to twice if its
    /// method is idempotent (RFC 9110, section 9.2.2) and a connection that was used before is lost. A connection that turned out to be at
    /// its end, and took nothing of it, is replaced by the next without counting.
    ///
    /// # Errors
    ///
    /// [`delivery`](TransportError::delivery) says whether the peer may have acted on it. [`ErrorKind::Config`] for a URI without
    /// scheme or host, a host that no certificate or header can name, and CONNECT; [`ErrorKind::Encode`] for a request that the
    /// protocol can't carry; [`ErrorKind::Resolve`], [`ErrorKind::Connect`], [`ErrorKind::Tls`] and [`ErrorKind::Certificate`] of the
    /// dial; [`ErrorKind::Timeout`] after `request_timeout`; [`ErrorKind::Io`] and [`ErrorKind::PeerClosed`] of a lost connection;
    /// [`ErrorKind::Protocol`] and [`ErrorKind::MessageTooLarge`] of a response that is none; [`ErrorKind::Closed`] after
    /// [`close`](Self::close).
    pub async fn request(&self, request: Request<Body>) -> TransportResult<Response<ResponseBody>> {
        let inner = &self.inner;
        let timeout = inner.config.request_timeout;
        let now = inner.outside.now();
        let mut alarm = inner.outside.alarm();
        let handed = AtomicBool::new(false);
        let (response, info) = {
            let mut work = pin!(inner.send(request, now, &handed));
            poll_fn(|cx| {
                if let Poll::Ready(result) = work.as_mut().poll(cx) {
                    return Poll::Ready(result);
                }
                let is_in_time = alarm.poll_at(cx, Some(now + timeout)).is_pending();
                if is_in_time || planted::alive(Bug::RequestTimeoutIgnored) {
                    return Poll::Pending;
                }
                let was_handed = handed.load(Ordering::Relaxed);
                let delivery = if was_handed { Delivery::MaybeSent } else { Delivery::NotSent };
                let text = format!("no response within request_timeout of {timeout:?}");
                Poll::Ready(Err(TransportError::new(ErrorKind::Timeout, text).with_delivery(delivery)))
            })
            .await?
        };
        let (outside, timeout) = (Arc::clone(&inner.outside), inner.config.body_timeout);
        // The body has the request's alarm, which is armed anew where it has to wait.
        Ok(response.map(|kind| ResponseBody::new(kind, info, outside, timeout, alarm)))
    }

    /// What is in the pool.
    pub fn pool(&self) -> PoolStats {
        self.inner.pool.stats()
    }

    /// The same host by host, in the order of their names.
    pub fn pool_by_host(&self) -> Vec<HostStats> {
        let hosts = self.inner.pool.stats_by_host().into_iter().map(|(origin, pool)| {
            let Origin { host, port, tls, .. } = origin;
            HostStats { host, port, tls, pool }
        });
        let mut hosts: Vec<HostStats> = hosts.collect();
        hosts.sort_by(|one, other| (&one.host, one.port, one.tls).cmp(&(&other.host, other.port, other.tls)));
        hosts
    }

    /// Lets go of every connection there is: idle ones now, those in use when they are done. New ones are dialed as needed.
    pub fn drain(&self) {
        self.inner.pool.drain();
    }

    /// Ends the client: no more requests are taken. Ready when the last connection is closed; what is in progress runs to its end,
    /// so a body that nobody reads keeps it waiting. Dropping the future ends the client all the same.
    pub async fn close(&self) {
        self.inner.pool.close();
        self.inner.pool.drained().await;
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("pool", &self.inner.pool).finish_non_exhaustive()
    }
}

impl Inner {
    async fn send(
        self: &Arc<Self>,
        mut request: Request<Body>,
        mut now: Timestamp,
        handed: &AtomicBool,
    ) -> TransportResult<(Response<Kind>, ConnectionInfo)> {
        if request.method() == Method::CONNECT {
            return Err(TransportError::config(
                "method",
                "must not be CONNECT: this client opens no tunnels",
            ));
        }
        // Each protocol has a form of its own, and what is sent again may speak another.
        let mut uri = std::mem::take(request.uri_mut());
        root_path(&mut uri);
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        // Bounded: each turn but the last counts up one of the three.
        let (mut retries, mut moves, mut refusals) = (0, 0, 0);
        loop {
            // What an earlier turn may have sent stays sent.
            let honest = |error: TransportError| match handed.load(Ordering::Relaxed) {
                true => error.with_delivery(Delivery::MaybeSent),
                false => error,
            };
            let origin = OriginRef::of(&uri, self.config.protocol)?;
            let pooled = match self.pool.take_by(&origin, |other| origin.is(other), now) {
                Some(pooled) => pooled,
                None => self.connection(call, origin.to_owned()).await.map_err(honest)?,
            };
            let was_handed = handed.load(Ordering::Relaxed);
            let was_used = pooled.begin_use();
            let connection = pooled.number;
            self.watch.tell(|| Event::Acquired { call, connection, reused: was_used });
            let is_idempotent =
                request.method().is_idempotent() || planted::alive(Bug::ProcessedRequestRetried);
            let may_repeat = was_used && is_idempotent;
            let spare = (pooled.is_shared() || may_repeat).then(|| request.clone());
            handed.store(true, Ordering::Relaxed);
            let info = ConnectionInfo { reused: was_used, resumed: pooled.resumed };
            let failed = match self.send_over(pooled, request, &uri).await {
                Ok(response) => return Ok((response, info)),
                Err(failed) => failed,
            };
            let Failed { error, unsent, has_ended } = failed;
            // A connection at its end turns away all that come too late for it: that says nothing of the next one. One that is at
            // its end as it begins does.
            let is_unsent = error.delivery() == Delivery::NotSent;
            let is_safe = is_unsent || (may_repeat && error.kind() == ErrorKind::Io);
            let (count, most) = match () {
                () if is_unsent && has_ended && was_used => (&mut moves, MOVES_MAX),
                () if is_unsent && !has_ended => (&mut refusals, REFUSALS_MAX),
                () => (&mut retries, RETRIES_MAX),
            };
            *count += 1;
            handed.store(was_handed || !is_unsent, Ordering::Relaxed);
            match unsent.or(spare) {
                Some(again) if is_safe && *count <= most => (request, now) = (again, self.outside.now()),
                _ => return Err(honest(error)),
            }
        }
    }

    /// What comes first of a dial and a connection that becomes free.
    async fn connection(self: &Arc<Self>, call: u64, origin: Origin) -> TransportResult<PooledLink> {
        self.watch.tell(|| Event::Waiting { call });
        let mut checkout = self.pool.host(&origin).checkout();
        // Bounded by the pool: each permission is for one dial, whose failure ends this.
        loop {
            match checkout.next(self.outside.now()).await? {
                Step::Connection(pooled) => return Ok(pooled),
                Step::Dial(permit) => self.dial(permit),
            }
        }
    }

    /// Sends over a connection, in the words of its protocol.
    async fn send_over(
        &self,
        pooled: PooledLink,
        mut request: Request<Body>,
        uri: &Uri,
    ) -> Result<Response<Kind>, Failed> {
        match &pooled.spoken {
            Spoken::H1(_) => {
                // Origin form (RFC 9112, section 3.2.1).
                let target = uri.path_and_query().cloned();
                *request.uri_mut() = target.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
                *request.version_mut() = Version::HTTP_11;
                h1::send(pooled, request, &*self.outside, self.config.head_bytes_max).await
            }
            Spoken::H2(handle) => {
                *request.uri_mut() = uri.clone();
                remove_hop_by_hop(request.headers_mut());
                *request.version_mut() = Version::HTTP_2;
                h2::send(handle.parts(), pooled, request).await
            }
        }
    }

    /// Dials in a task, which becomes the connection's.
    fn dial(self: &Arc<Self>, permit: Permit<Origin, Link>) {
        if !self.reaps.swap(true, Ordering::AcqRel) {
            let (reaper, ends) = (self.outside.reap(self.pool.reaper()), Reaps(Arc::clone(&self.reaps)));
            let task = async move {
                reaper.await;
                drop(ends);
            };
            self.outside.spawn("hpx-http-reaper", Box::pin(task));
        }
        let (outside, config) = (Arc::clone(&self.outside), self.config.clone());
        let number = self.dials.fetch_add(1, Ordering::Relaxed) + 1;
        let origin = permit.key();
        let memory = self.memory_of(origin);
        let reporter = Reporter::new(self.watch.clone(), number);
        reporter.tell(|connection| Event::Dialing {
            connection,
            host: origin.host.clone(),
            port: origin.port,
        });
        let task = drive(permit, outside, config, memory, reporter);
        self.outside.spawn("hpx-http", Box::pin(task));
    }

    fn memory_of(&self, origin: &Origin) -> Arc<HostMemory> {
        let mut known = self.known.lock();
        let key = (origin.host.clone(), origin.port);
        // Bounded: who is forgotten is met anew.
        if known.len() >= HOSTS_KNOWN_MAX && !known.contains_key(&key) {
            known.pop_first();
        }
        Arc::clone(known.entry(key).or_default())
    }
}

/// Somebody closes what is idle; dropped, also with a runtime that ends, another is to do it.
struct Reaps(Arc<AtomicBool>);

impl Drop for Reaps {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A connection's whole life.
async fn drive(
    mut permit: Permit<Origin, Link>,
    outside: Arc<dyn Outside>,
    config: HttpConfig,
    memory: Arc<HostMemory>,
    reporter: Reporter,
) {
    let settings = settings(&config, &memory);
    // Each dial begins with another address.
    let attempt = (reporter.connection() - 1) as u32;
    let (made, resumed) = match make(permit.key(), &*outside, &config, &settings, attempt).await {
        Ok(made) => made,
        Err(error) => {
            let kind = error.kind();
            reporter.tell(|connection| Event::DialFailed { connection, kind });
            return permit.failed(error.with_delivery(Delivery::NotSent));
        }
    };
    let now = outside.now();
    match made {
        Made::H1(halves, host) => {
            let (handle, task) = h1::Handle::new(*halves, host, now, reporter.clone());
            let protocol = Protocol::Http1;
            reporter.tell(|connection| Event::Opened { connection, protocol, resumed, streams: 1 });
            permit.opened(Link::new(Spoken::H1(handle), resumed, &reporter), now);
            task.run(&permit, &*outside, config.body_timeout).await;
            reporter.tell(|connection| Event::Closed { connection, silent: false });
        }
        Made::H2(made) => {
            let (handle, task, streams) = h2::Task::new(*made, &settings, now, reporter.clone());
            let protocol = Protocol::Http2;
            reporter.tell(|connection| Event::Opened { connection, protocol, resumed, streams });
            permit.opened_shared(Link::new(Spoken::H2(handle), resumed, &reporter), streams, now);
            let silent = task.run(&permit, outside, &memory).await;
            reporter.tell(|connection| Event::Closed { connection, silent });
        }
    }
}

/// A connection before its first request. In boxes: this is a large part of what its task would be otherwise.
enum Made {
    H1(Box<h1::Halves>, HeaderValue),
    H2(Box<h2::Made>),
}

/// Dials, and says the first words of the protocol that is spoken; and whether TLS resumed a session.
async fn make(
    origin: &Origin,
    outside: &dyn Outside,
    config: &HttpConfig,
    settings: &h2::Settings,
    attempt: u32,
) -> TransportResult<(Made, Option<bool>)> {
    let deadline = outside.now() + config.connect_timeout;
    let host = origin.host_header()?;
    let dialed = dial(origin, outside, config, attempt).await?;
    let is_h2 = match (config.protocol, dialed.alpn.as_deref()) {
        (_, Some(b"h2")) => true,
        (Protocol::Http2, None) if !origin.tls => true,
        (Protocol::Http2, _) => {
            let text = "the peer does not speak HTTP/2, the only protocol wanted";
            return Err(TransportError::new(ErrorKind::Tls, text).blamed_on(crate::Origin::Peer));
        }
        (_, _) => false,
    };
    if !is_h2 {
        let halves = h1::handshake(dialed.io, config.head_bytes_max).await?;
        return Ok((Made::H1(Box::new(halves), host), dialed.resumed));
    }
    let mut alarm = outside.alarm();
    let mut handshake = pin!(h2::handshake(dialed.io, settings));
    let made = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(made) => Poll::Ready(Some(made)),
        Poll::Pending => alarm.poll_at(cx, Some(deadline)).map(|()| None),
    });
    match made.await {
        Some(made) => Ok((Made::H2(Box::new(made?)), dialed.resumed)),
        None => {
            let text = "the peer did not take the first words of HTTP/2 within connect_timeout";
            Err(TransportError::new(ErrorKind::Timeout, text))
        }
    }
}

async fn dial(
    origin: &Origin,
    outside: &dyn Outside,
    config: &HttpConfig,
    attempt: u32,
) -> TransportResult<super::outside::Dialed> {
    let tls = if origin.tls {
        let alpn: &[&[u8]] = match config.protocol {
            Protocol::Auto => &[b"h2", b"http/1.1"],
            Protocol::Http1 => &[b"http/1.1"],
            Protocol::Http2 => &[b"h2"],
        };
        let secured = outside.secure(&config.tls, &origin.host, origin.port, alpn)?;
        let name = ServerName::try_from(origin.host.to_string())
            .map_err(|_| TransportError::config("uri", "has a host that no certificate can name"))?;
        Some((secured, name))
    } else {
        None
    };
    let target = Target { host: origin.host.to_string(), port: origin.port, tls };
    outside.dial(target, attempt, config.connect_timeout).await
}

fn settings(config: &HttpConfig, memory: &HostMemory) -> h2::Settings {
    h2::Settings {
        pings: h2::PingRules {
            window: config.h2_window,
            window_max: config.h2_window_max,
            interval: config.h2_keep_alive_interval,
            timeout: config.h2_keep_alive_timeout,
            while_idle: config.h2_keep_alive_while_idle,
            complaints: memory.complaints(),
        },
        streams_max: config.h2_streams_max,
        streams_known: memory.streams(),
        head_bytes_max: config.head_bytes_max,
        body_timeout: config.body_timeout,
    }
}

/// Of one request, where the peer may have seen it.
const RETRIES_MAX: u32 = 2;
/// Of one request, where the peer refused it on a connection that goes on: more streams were open than it takes, which it may say
/// after they were.
const REFUSALS_MAX: u32 = 8;
/// Of one request, to another connection because one was at its end: as many as may lie idle for a host, and more.
const MOVES_MAX: u32 = 64;
/// Hosts that are remembered.
const HOSTS_KNOWN_MAX: usize = 1024;
