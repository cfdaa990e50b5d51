//! The pool, driven by hand: time is a number, a socket is a permit somebody holds.

mod limits;
mod line;
mod random;
mod reaping;
mod seats;
mod sharing;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::*;
use crate::error::{ErrorKind, TransportError};

/// A host's name, and whether its connections may be shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key(&'static str, bool);

impl PoolKey for Key {
    fn may_share(&self) -> bool {
        self.1
    }
}

const A: Key = Key("a", false);
const B: Key = Key("b", false);
const H2: Key = Key("h2", true);

/// What the pool keeps: the number of a socket, and its state.
struct Conn {
    number: usize,
    socket: Arc<SocketState>,
    /// Asked when it is dropped: that must not be under a lock of the pool.
    pool: Arc<Mutex<Option<Pool<Key, Self>>>>,
}

#[derive(Default)]
struct SocketState {
    closed_by_peer: AtomicBool,
    dropped: AtomicBool,
    active: AtomicU64,
}

impl Connection for Conn {
    fn is_open(&self) -> bool {
        !self.socket.closed_by_peer.load(Ordering::SeqCst)
    }

    fn last_active(&self) -> Timestamp {
        Timestamp::from_nanos(self.socket.active.load(Ordering::SeqCst))
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.socket.dropped.store(true, Ordering::SeqCst);
        let pool = self.pool.try_lock().ok().and_then(|pool| pool.clone());
        if let Some(pool) = pool {
            // Takes every lock of every shard: a deadlock if one is held.
            let _ = pool.stats();
        }
    }
}

/// A waker that counts, and asks the pool: it must not be called under a lock either.
struct Bell {
    rung: AtomicUsize,
    pool: Arc<Mutex<Option<Pool<Key, Conn>>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.fetch_add(1, Ordering::SeqCst);
        let pool = self.pool.try_lock().ok().and_then(|pool| pool.clone());
        if let Some(pool) = pool {
            let _ = pool.stats();
        }
    }
}

/// The right to a socket, and its state.
type Socket = (Permit<Key, Conn>, Arc<SocketState>);

/// A pool, the sockets of its connections, and what time it is.
struct World {
    pool: Pool<Key, Conn>,
    own: Arc<Mutex<Option<Pool<Key, Conn>>>>,
    sockets: Vec<Option<Socket>>,
    now: Timestamp,
}

/// Somebody who wants a connection.
struct Caller {
    checkout: Checkout<Key, Conn>,
    bell: Arc<Bell>,
    dials: Vec<Permit<Key, Conn>>,
}

type Got = Poll<Result<Pooled<Key, Conn>, TransportError>>;

impl World {
    fn new(config: PoolConfig) -> Self {
        let pool = Pool::new(&config).expect("a valid configuration");
        let own = Arc::new(Mutex::new(Some(pool.clone())));
        Self { pool, own, sockets: Vec::new(), now: at(1) }
    }

    fn caller(&self, key: &Key) -> Caller {
        let bell = Bell { rung: AtomicUsize::new(0), pool: Arc::clone(&self.own) };
        Caller { checkout: self.pool.host(key).checkout(), bell: Arc::new(bell), dials: Vec::new() }
    }

    /// A dial succeeds. The number of the socket.
    fn open(&mut self, permit: Permit<Key, Conn>) -> usize {
        self.finish_dial(permit, None)
    }

    fn open_shared(&mut self, permit: Permit<Key, Conn>, limit: usize) -> usize {
        self.finish_dial(permit, Some(limit))
    }

    fn finish_dial(&mut self, mut permit: Permit<Key, Conn>, limit: Option<usize>) -> usize {
        let number = self.sockets.len();
        let socket = Arc::new(SocketState::default());
        socket.active.store(self.now.as_nanos(), Ordering::SeqCst);
        let conn = Conn { number, socket: Arc::clone(&socket), pool: Arc::clone(&self.own) };
        match limit {
            None => permit.opened(conn, self.now),
            Some(limit) => permit.opened_shared(conn, limit, self.now),
        }
        self.sockets.push(Some((permit, socket)));
        number
    }

    /// The peer closes a socket.
    fn close_by_peer(&mut self, number: usize) {
        if let Some((permit, socket)) = self.sockets[number].take() {
            socket.closed_by_peer.store(true, Ordering::SeqCst);
            drop(permit);
        }
    }

    /// Sockets whose connection nobody holds any more are closed. True if there were any.
    fn close_dropped(&mut self) -> bool {
        let mut closed = false;
        for slot in &mut self.sockets {
            if slot.as_ref().is_some_and(|(_, socket)| socket.dropped.load(Ordering::SeqCst)) {
                *slot = None;
                closed = true;
            }
        }
        closed
    }

    fn settle(&mut self) {
        while self.close_dropped() {}
    }

    fn is_open(&self, number: usize) -> bool {
        self.sockets[number].is_some()
    }

    /// A connection of a host where nothing is free: dialed, and used from now on.
    fn connect(&mut self, key: &Key) -> Pooled<Key, Conn> {
        let mut caller = self.caller(key);
        let permit = caller.dial(self);
        self.open(permit);
        caller.take(self)
    }

    fn checkin(&mut self, pooled: Pooled<Key, Conn>) {
        let active = self.now.as_nanos();
        pooled.socket.active.store(active, Ordering::SeqCst);
        pooled.checkin();
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// The books agree with the sockets.
    fn check(&self) {
        let stats = self.pool.stats();
        let sockets = self.sockets.iter().flatten().count();
        assert_eq!(stats.open, sockets + stats.dialing, "{stats:?}, {sockets} sockets");
        assert_eq!(stats.open, self.pool.owner.inner.permits.open(), "{stats:?}");
    }
}

impl Caller {
    /// Looks until there is nothing more to see; keeps what it is to dial.
    fn poll(&mut self, world: &World) -> Got {
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut cx = Context::from_waker(&waker);
        loop {
            return match self.checkout.poll_next(&mut cx, world.now) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(Step::Dial(permit))) => {
                    self.dials.push(permit);
                    continue;
                }
                Poll::Ready(Ok(Step::Connection(pooled))) => Poll::Ready(Ok(pooled)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            };
        }
    }

    fn waits(&mut self, world: &World) -> bool {
        self.poll(world).is_pending()
    }

    fn take(&mut self, world: &World) -> Pooled<Key, Conn> {
        match self.poll(world) {
            Poll::Ready(Ok(pooled)) => {
                self.rung();
                pooled
            }
            other => panic!("no connection: {other:?}"),
        }
    }

    /// The dial it is to make.
    fn dial(&mut self, world: &World) -> Permit<Key, Conn> {
        assert!(self.waits(world));
        self.dials.pop().expect("it may dial")
    }

    fn rung(&self) -> bool {
        self.bell.rung.swap(0, Ordering::SeqCst) > 0
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs(seconds)
}

fn roomy() -> PoolConfig {
    PoolConfig::default()
}

fn failure() -> TransportError {
    TransportError::new(ErrorKind::Connect, "nobody is there")
}
