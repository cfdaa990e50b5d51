//! The HTTP hosts: ports of the exchange's machine that answer, misbehave on order, and write down all they see.
//!
//! HTTP/1.1 is written out here by hand, and HTTP/2 is the h2 crate's server: a fault of the client's shows in either.

mod first;
mod second;
mod tickets;

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, future::try_join_all, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::sleep};

use self::tickets::Tickets;
use super::{pipe::Wire, tls::Identity};
use crate::{
    net::{Listener, Socket},
    plan::{FaultKind, HttpBehaviour, OriginPlan, Plan, Stage, Target, TlsFault, http::port_of},
    trace::{Recorder, WebLog},
};

/// The hosts' state that outlives their crashes, and the knobs by which the world turns it.
#[derive(Clone)]
pub(crate) struct Web {
    recorder: Recorder,
    /// The number of the first HTTP client, and what each of them asks.
    first: usize,
    origins: Arc<[Vec<OriginPlan>]>,
    identity: Option<Identity>,
    tickets: Tickets,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    conns: u64,
    /// What each client is met with, while such a fault lasts.
    moods: BTreeMap<usize, FaultKind>,
    behaviours: BTreeMap<usize, (HttpBehaviour, u32)>,
    handshakes: BTreeMap<usize, TlsFault>,
    /// Open connections: whose, and how to tell them to close.
    open: BTreeMap<u64, (usize, mpsc::UnboundedSender<()>)>,
}

/// A request, as its path has it.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    label: u64,
    reply_after: Duration,
    bytes: usize,
}

impl Asked {
    fn of(path: &str) -> Self {
        let mut parts = path.trim_start_matches('/').split('/').map(|part| part.parse::<u64>().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        let (label, after, bytes) = (next(), next(), next());
        Self { label, reply_after: Duration::from_millis(after), bytes: bytes as usize }
    }
}

/// The path that asks for this.
pub(crate) fn path(label: u64, reply_after_ms: u64, bytes: usize) -> String {
    format!("/{label}/{reply_after_ms}/{bytes}")
}

/// The body of the response to a client's request.
pub(crate) fn body_of(client: usize, label: u64, bytes: usize) -> Vec<u8> {
    format!("{client}-{label} ").into_bytes().into_iter().cycle().take(bytes).collect()
}

/// The header by which a response names the connection it came over.
pub(crate) const CONN: &str = "x-conn";
/// The body of a request that has one.
pub(crate) const UPLOAD: &str = "8 bytes!";

impl Web {
    pub(crate) fn new(recorder: Recorder, plan: &Plan) -> Self {
        let origins: Arc<[Vec<OriginPlan>]> = plan.http.iter().map(|client| client.origins.clone()).collect();
        let secure = origins.iter().flatten().any(|origin| origin.tls);
        let identity = secure.then(|| Identity::new(recorder.clock()));
        let tickets = Tickets::new(recorder.clone());
        Self { recorder, first: plan.clients.len(), origins, identity, tickets, inner: Arc::default() }
    }

    /// The ports of all hosts.
    pub(crate) fn ports(&self) -> impl Iterator<Item = u16> {
        let most = self.origins.iter().map(Vec::len).max().unwrap_or(0);
        (0..most).map(port_of)
    }

    /// Sets how a client's new connections are met.
    pub(crate) fn set_mood(&self, client: usize, mood: Option<FaultKind>) {
        set(&mut self.lock().moods, client, mood);
    }

    /// Sets how its requests are treated.
    pub(crate) fn set_behaviour(&self, client: usize, behaviour: Option<(HttpBehaviour, u32)>) {
        set(&mut self.lock().behaviours, client, behaviour);
    }

    /// Sets how hands are shaken with it.
    pub(crate) fn set_handshake(&self, client: usize, fault: Option<TlsFault>) {
        set(&mut self.lock().handshakes, client, fault);
    }

    /// Closes the open connections, of one client or all, in the orderly way.
    pub(crate) fn close_open(&self, target: Target) {
        for (owner, orders) in self.lock().open.values() {
            if target == Target::All || target == Target::Client(*owner) {
                // A connection that has ended takes no orders.
                let _ = orders.send(());
            }
        }
    }

    /// Listens until the machine crashes.
    pub(crate) async fn serve(self, listeners: Vec<(u16, Listener)>) -> io::Result<()> {
        let ports = listeners.into_iter().map(|(port, listener)| self.attend(port, listener));
        try_join_all(ports).await.map(drop)
    }

    async fn attend(&self, port: u16, listener: Listener) -> io::Result<()> {
        // No tasks: they all end with this future, in the moment it is dropped.
        let mut conns = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                accepted = listener.accept() => {
                    let (socket, peer) = accepted?;
                    let client = self.recorder.client_at(peer.ip()).unwrap_or(usize::MAX);
                    conns.push(self.welcome(socket, client, port));
                }
                Some(()) = conns.next() => {}
            }
        }
    }

    async fn welcome(&self, socket: Socket, client: usize, port: u16) {
        let (sender, orders) = mpsc::unbounded_channel();
        let (number, mood) = {
            let mut inner = self.lock();
            inner.conns += 1;
            let number = inner.conns;
            inner.open.insert(number, (client, sender));
            (number, inner.moods.get(&client).cloned())
        };
        self.log(WebLog::Accepted { conn: number, client, port });
        let conn = Conn { web: self, number, client, port };
        if matches!(mood, Some(FaultKind::AcceptThenClose { stage: Stage::Accept })) {
            return;
        }
        let refuses = match mood {
            Some(FaultKind::Refuse { status, .. }) => Some(status),
            _ => None,
        };
        let Some(origin) = conn.origin() else { return };
        let Ok((wire, h2)) = conn.secure(socket, origin).await else { return };
        // However it ends: the log has what was said, and the rest is the client's to notice.
        if h2 {
            let _ = second::serve(&conn, wire, origin, orders).await;
        } else {
            let _ = first::serve(&conn, wire, refuses, orders).await;
        }
    }

    fn log(&self, log: WebLog) {
        self.recorder.web(log);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set<T>(map: &mut BTreeMap<usize, T>, client: usize, value: Option<T>) {
    match value {
        Some(value) => drop(map.insert(client, value)),
        None => drop(map.remove(&client)),
    }
}

/// One open connection.
struct Conn<'a> {
    web: &'a Web,
    number: u64,
    client: usize,
    port: u16,
}

impl Conn<'_> {
    fn origin(&self) -> Option<OriginPlan> {
        let of_client = self.web.origins.get(self.client.checked_sub(self.web.first)?)?;
        of_client.get(usize::from(self.port - port_of(0))).copied()
    }

    /// The stream under the first request, and whether it is HTTP/2's.
    async fn secure(&self, socket: Socket, origin: OriginPlan) -> io::Result<(Wire, bool)> {
        let Some(identity) = self.web.identity.as_ref().filter(|_| origin.tls) else {
            return Ok((Wire::Plain(socket), origin.h2));
        };
        let fault = self.web.lock().handshakes.get(&self.client).copied();
        let forgets = matches!(self.strike(0), Some(HttpBehaviour::ForgetTickets));
        let tickets = self.web.tickets.of(self.number, forgets);
        let alpn: &[&[u8]] = if origin.h2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        let stream = identity.shake_hands_for(socket, fault, alpn, tickets).await?;
        let session = stream.get_ref().1;
        let resumed = session.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        let h2 = session.alpn_protocol() == Some(b"h2");
        self.web.log(WebLog::Secured { conn: self.number, resumed });
        Ok((Wire::Secure(Box::new(stream)), h2))
    }

    /// What is done to the request of this number, if anything.
    fn strike(&self, number: u32) -> Option<HttpBehaviour> {
        let (how, nth) = self.web.lock().behaviours.get(&self.client).copied()?;
        number.is_multiple_of(nth).then_some(how)
    }

    fn log(&self, log: WebLog) {
        self.web.log(log);
    }

    fn leaves(&self, why: &'static str) {
        self.log(WebLog::Leaving { conn: self.number, why });
    }
}

/// Writes down the end of a connection, also when the machine crashes under it.
impl Drop for Conn<'_> {
    fn drop(&mut self) {
        self.web.lock().open.remove(&self.number);
        self.log(WebLog::Gone { conn: self.number });
    }
}

/// Says nothing for longer than any client waits.
fn silence() -> impl Future<Output = ()> {
    sleep(Duration::from_secs(30))
}
