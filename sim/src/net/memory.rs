//! The network in memory as tasks see it: the fabric under a lock, and who waits for what.

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use hpx_transport::env::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    SimClock,
    endpoint::{EndId, State},
    fabric::{Fabric, Woken},
    link::LinkChange,
};

/// A network. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Network {
    clock: SimClock,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    fabric: Fabric,
    /// By end: who reads and who writes.
    readers: Vec<Option<Waker>>,
    writers: Vec<Option<Waker>>,
    acceptors: BTreeMap<(usize, u16), Waker>,
    /// Whoever drives the network, and when it looks next.
    driver: Option<Waker>,
    looks_at: Option<Timestamp>,
}

impl Network {
    /// A network whose time is that of the runtime it is used in, from `clock` on.
    pub(crate) fn new(seed: u64, clock: SimClock) -> Self {
        let shared = Shared {
            fabric: Fabric::new(seed),
            readers: Vec::new(),
            writers: Vec::new(),
            acceptors: BTreeMap::new(),
            driver: None,
            looks_at: None,
        };
        Self { clock, shared: Arc::new(Mutex::new(shared)) }
    }

    /// Adds a host.
    pub(crate) fn host(&self) -> Host {
        let index = self.act(|fabric, _| fabric.add_host());
        Host { network: self.clone(), index }
    }

    /// How long a packet takes between two hosts, one way.
    pub(crate) fn set_latency(&self, one: &Host, two: &Host, latency: Duration) {
        self.act(|fabric, _| fabric.link(one.index, two.index).latency = latency);
    }

    /// What the line between two hosts is like beyond its latency: how much longer a packet may take, and how many bytes a
    /// second go each way.
    pub(crate) fn set_quality(&self, one: &Host, two: &Host, jitter: Duration, bandwidth: Option<u64>) {
        self.act(|fabric, _| {
            let link = fabric.link(one.index, two.index);
            (link.jitter, link.bandwidth) = (jitter, bandwidth);
        });
    }

    pub(crate) fn change(&self, one: &Host, two: &Host, change: LinkChange) {
        self.act(|fabric, now| fabric.change(now, one.index, two.index, change));
    }

    /// Lets happen what is due, and gives the time of what is next. The waker is woken if that changes.
    pub(crate) fn poll_due(&self, cx: &mut Context<'_>) -> Option<Timestamp> {
        // Whoever looks need not be told to.
        self.lock().driver = None;
        let next = self.act(|fabric, now| {
            fabric.advance(now);
            fabric.next_event()
        });
        let mut shared = self.lock();
        // Nobody has run since `act` let go of the lock: the runtime has one thread.
        shared.driver = Some(cx.waker().clone());
        shared.looks_at = next;
        next
    }

    /// Does something to the fabric, then wakes whom it concerns, without the lock.
    fn act<R>(&self, act: impl FnOnce(&mut Fabric, Timestamp) -> R) -> R {
        let now = self.clock.now().unwrap_or_default();
        let mut shared = self.lock();
        let result = act(&mut shared.fabric, now);
        let mut wakers = Vec::new();
        for woken in shared.fabric.take_woken() {
            wakers.extend(match woken {
                Woken::Acceptor(host, port) => shared.acceptors.remove(&(host, port)),
                Woken::Reader(id) => shared.readers.get_mut(id.0).and_then(Option::take),
                Woken::Writer(id) => shared.writers.get_mut(id.0).and_then(Option::take),
            });
        }
        let next = shared.fabric.next_event();
        if next.is_some_and(|next| shared.looks_at.is_none_or(|looks_at| next < looks_at)) {
            wakers.extend(shared.driver.take());
        }
        drop(shared);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_read(&self, id: EndId, cx: &Context<'_>) {
        leave(&mut self.lock().readers, id, cx);
    }

    fn await_write(&self, id: EndId, cx: &Context<'_>) {
        leave(&mut self.lock().writers, id, cx);
    }
}

/// Leaves a waker in the place of this end.
fn leave(places: &mut Vec<Option<Waker>>, id: EndId, cx: &Context<'_>) {
    if places.len() <= id.0 {
        places.resize(id.0 + 1, None);
    }
    match &mut places[id.0] {
        Some(waker) => waker.clone_from(cx.waker()),
        place => *place = Some(cx.waker().clone()),
    }
}

/// A host of the network.
#[derive(Clone)]
pub(crate) struct Host {
    network: Network,
    index: usize,
}

impl Host {
    pub(crate) fn ip(&self) -> IpAddr {
        self.network.act(|fabric, _| fabric.ip(self.index))
    }

    /// What it takes of a connection before somebody reads, of those that begin from now on.
    pub(crate) fn set_window(&self, bytes: u64) {
        self.network.act(|fabric, _| fabric.set_window(self.index, bytes));
    }

    pub(crate) fn listen(&self, port: u16) -> Listener {
        self.network.act(|fabric, _| fabric.listen(self.index, port));
        Listener { host: self.clone(), port }
    }

    /// Dials. A dial that is dropped is given up.
    pub(crate) async fn connect(&self, to: SocketAddr) -> io::Result<Stream> {
        let id = self.network.act(|fabric, now| fabric.dial(now, self.index, to));
        let stream = Stream::new(self.network.clone(), id);
        poll_fn(|cx| match self.network.act(|fabric, _| fabric.end(id).state) {
            State::Open => Poll::Ready(Ok(())),
            State::Dead(kind) => Poll::Ready(Err(kind.into())),
            State::Idle | State::Connecting => {
                self.network.await_read(id, cx);
                Poll::Pending
            }
        })
        .await
        .map(|()| stream)
    }

    /// Every process ends and says so to its peers; nothing answers until `boot`.
    pub(crate) fn crash(&self) {
        self.network.act(|fabric, now| fabric.go_down(now, self.index));
    }

    /// Nothing is said any more, and nothing answers until `boot`; then what comes for old connections is reset.
    pub(crate) fn lose_power(&self) {
        self.network.act(|fabric, now| fabric.lose_power(now, self.index));
    }

    pub(crate) fn boot(&self) {
        self.network.act(|fabric, _| fabric.boot(self.index));
    }
}

/// Accepts connections of one port.
pub(crate) struct Listener {
    host: Host,
    port: u16,
}

impl Listener {
    pub(crate) async fn accept(&self) -> (Stream, SocketAddr) {
        let network = &self.host.network;
        poll_fn(|cx| {
            if let Some(id) = network.act(|fabric, _| fabric.accept(self.host.index, self.port)) {
                let peer = network.act(|fabric, _| fabric.peer_addr(id));
                return Poll::Ready((Stream::new(network.clone(), id), peer));
            }
            network.lock().acceptors.insert((self.host.index, self.port), cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// One end of a connection, or of a dial.
pub(crate) struct Stream {
    network: Network,
    id: EndId,
    local: SocketAddr,
}

impl Stream {
    fn new(network: Network, id: EndId) -> Self {
        let local = network.act(|fabric, _| fabric.end(id).addr);
        Self { network, id, local }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Ends the connection by a reset.
    pub(crate) fn abort(self) {
        self.network.act(|fabric, now| fabric.abort(now, self.id));
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = buf.remaining();
        let read =
            self.network.act(|fabric, now| fabric.read(now, self.id, |bytes| buf.put_slice(bytes), most));
        match read {
            Ok(Some(_)) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
            Ok(None) => {
                self.network.await_read(self.id, cx);
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.network.act(|fabric, now| fabric.write(now, self.id, bytes)) {
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Err(error) => Poll::Ready(Err(error)),
            Ok(None) => {
                self.network.await_write(self.id, cx);
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.act(|fabric, now| fabric.shut_down(now, self.id));
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.network.act(|fabric, now| fabric.close(now, self.id));
    }
}
