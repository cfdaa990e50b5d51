//! What a user of the pool holds: a place in the line, a connection, the right to a socket.

use std::{
    fmt,
    future::{Future, poll_fn},
    ops::Deref,
    task::{Context, Poll},
};

use super::{
    Anchor, Connection, HostEffects, HostRef, HostShard, HostStored, PoolKey,
    line::Found,
    permits::Permits,
    shard::{Handed, Stored},
};
use crate::{
    env::Timestamp,
    error::{ErrorKind, TransportError, TransportResult},
    sync::{Arc, AtomicBool},
};

/// A place in the line of a host. Dropped at any point, it loses nothing: what it was given goes to the next in line.
///
/// Ask [`next`](Self::next) until it gives a connection. On the way it may say that a connection is to be dialed; whoever asked
/// goes on waiting, and takes whatever is there first.
pub struct Checkout<K: PoolKey, C: Connection> {
    host: Arc<HostRef<K, C>>,
    ticket: Option<u64>,
    /// It was given something that was of no use, and goes back to its place.
    is_out_of_line: bool,
    is_over: bool,
}

/// What [`Checkout::next`] gives.
#[derive(Debug)]
pub enum Step<K: PoolKey, C: Connection> {
    /// A connection.
    Connection(Pooled<K, C>),
    /// A connection is to be dialed, best in a task of its own: it may serve another in the end. Then ask again.
    Dial(Permit<K, C>),
}

impl<K: PoolKey, C: Connection> Checkout<K, C> {
    pub(super) fn new(host: Arc<HostRef<K, C>>) -> Self {
        Self { host, ticket: None, is_out_of_line: false, is_over: false }
    }

    /// Waits for a connection, or for the permission to dial one. First come, first served: the longest waiting is given what
    /// becomes free. Dropping the future loses nothing; ask again.
    ///
    /// # Errors
    ///
    /// Of the dial that this checkout was permitted; [`ErrorKind::Closed`] once the pool is closed.
    pub fn next(&mut self, now: Timestamp) -> impl Future<Output = TransportResult<Step<K, C>>> + '_ {
        poll_fn(move |cx| self.poll_next(cx, now))
    }

    /// The same for one poll.
    ///
    /// # Panics
    ///
    /// Never. After it has given a connection or an error it gives [`ErrorKind::Closed`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Poll<TransportResult<Step<K, C>>> {
        // Bounded: a connection that died while it was idle costs a turn, and there are so many.
        loop {
            match self.look(cx, now) {
                Found::Nothing => return Poll::Pending,
                Found::Connection(handed) => {
                    let pooled = Pooled::new(handed);
                    if pooled.is_stale() {
                        drop(pooled);
                        self.is_out_of_line = true;
                        continue;
                    }
                    self.is_over = true;
                    return Poll::Ready(Ok(Step::Connection(pooled)));
                }
                Found::Dial => {
                    let ticket = self.ticket.unwrap_or_default();
                    return Poll::Ready(Ok(Step::Dial(Permit::new(Arc::clone(&self.host), ticket))));
                }
                Found::Failed(error) => {
                    self.is_over = true;
                    return Poll::Ready(Err(error));
                }
                Found::Closed => {
                    self.is_over = true;
                    return Poll::Ready(Err(closed()));
                }
            }
        }
    }

    #[cfg(all(test, not(hpx_loom)))]
    pub(super) fn is_new(&self) -> bool {
        self.ticket.is_none()
    }

    fn look(&mut self, cx: &mut Context<'_>, now: Timestamp) -> Found<C, Arc<Anchor<K, C>>> {
        if self.is_over {
            return Found::Closed;
        }
        let host = self.host.host;
        // Order matters: cloned and dropped outside the lock, since a waker is foreign code.
        let waker = cx.waker().clone();
        let (ticket, is_out) = (&mut self.ticket, std::mem::take(&mut self.is_out_of_line));
        self.host.inner.with(&self.host, |shard, permits, effects| {
            if let (Some(ticket), false) = (*ticket, is_out) {
                return shard.look(host, ticket, waker, effects);
            }
            if shard.is_closed() {
                effects.drop_wakers.push(waker);
                return Found::Closed;
            }
            if let Some(handed) = shard.take(host, now, effects) {
                effects.drop_wakers.push(waker);
                return Found::Connection(handed);
            }
            let new = shard.wait(host, *ticket);
            *ticket = Some(new);
            shard.pump(host, permits, effects);
            shard.look(host, new, waker, effects)
        })
    }
}

impl<K: PoolKey, C: Connection> Drop for Checkout<K, C> {
    fn drop(&mut self) {
        if let (Some(ticket), false) = (self.ticket, self.is_over) {
            let host = self.host.host;
            self.host.inner.with(&self.host, |shard, permits, effects| {
                shard.leave(host, ticket, permits, effects);
            });
            self.host.inner.settle();
        }
    }
}

impl<K: PoolKey, C: Connection> fmt::Debug for Checkout<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkout").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

/// A connection out of the pool, or a stream of one that is shared.
///
/// Dropped, a stream is given back, and a connection of one's own is closed: nobody knows what its user left in it.
/// [`checkin`](Self::checkin) gives it back.
pub struct Pooled<K: PoolKey, C: Connection> {
    /// Gone once it is given back.
    handed: Option<Handed<C, Arc<Anchor<K, C>>>>,
}

impl<K: PoolKey, C: Connection> Pooled<K, C> {
    pub(super) fn new(handed: Handed<C, Arc<Anchor<K, C>>>) -> Self {
        Self { handed: Some(handed) }
    }

    /// Gives it back for the next user. One that is not open any more is dropped.
    pub fn checkin(self) {
        if let Some(Handed::Own(stored)) = &self.handed {
            // Order matters: its own reference, whose count nobody else touches.
            let anchor = Arc::clone(&stored.host);
            self.checkin_through(&anchor.host);
        }
    }

    /// The same by a reference to its host that is at hand: nothing is counted up and down.
    pub(super) fn checkin_through(mut self, host: &Arc<HostRef<K, C>>) {
        match self.handed.take() {
            Some(Handed::Own(mut stored))
                if stored.conn.is_open() && Arc::ptr_eq(&stored.host.host, host) =>
            {
                stored.since = stored.conn.last_active();
                host.inner.give_back(host, stored);
            }
            other => self.handed = other,
        }
    }

    /// True for a stream of a connection that others use too.
    pub fn is_shared(&self) -> bool {
        matches!(self.handed, Some(Handed::Stream { .. }))
    }

    /// When the connection was opened; `None` for a stream.
    pub fn born(&self) -> Option<Timestamp> {
        match &self.handed {
            Some(Handed::Own(stored)) => Some(stored.born),
            _ => None,
        }
    }

    /// Its host.
    pub(super) fn host(&self) -> Option<Arc<HostRef<K, C>>> {
        match self.handed.as_ref()? {
            Handed::Own(stored) => Some(Arc::clone(&stored.host.host)),
            Handed::Stream { host, .. } => Some(Arc::clone(&host.host)),
        }
    }

    /// Idle, it may have been closed by its peer.
    pub(super) fn is_stale(&self) -> bool {
        match &self.handed {
            Some(Handed::Own(stored)) => !stored.conn.is_open(),
            Some(Handed::Stream { conn, .. }) => !conn.is_open(),
            None => true,
        }
    }
}

impl<K: PoolKey, C: Connection> Deref for Pooled<K, C> {
    type Target = C;

    fn deref(&self) -> &C {
        match self.handed.as_ref().expect("it is taken only by what consumes or drops it") {
            Handed::Own(stored) => &stored.conn,
            Handed::Stream { conn, .. } => conn,
        }
    }
}

impl<K: PoolKey, C: Connection> Pooled<K, C> {
    /// The connection itself, where it is not shared.
    pub fn own_mut(&mut self) -> Option<&mut C> {
        match &mut self.handed {
            Some(Handed::Own(stored)) => Some(&mut stored.conn),
            _ => None,
        }
    }
}

impl<K: PoolKey, C: Connection> Drop for Pooled<K, C> {
    fn drop(&mut self) {
        if let Some(Handed::Stream { conn, host: anchor, id }) = self.handed.take() {
            let host = &anchor.host;
            let now = conn.last_active();
            // Order matters: the pool's own reference decides when the connection goes.
            drop(conn);
            host.inner.end_stream(host, id, now);
        }
    }
}

impl<K: PoolKey, C: Connection> fmt::Debug for Pooled<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").field("shared", &self.is_shared()).finish_non_exhaustive()
    }
}

/// The right to one socket, from its dial to its end. Whoever owns the socket holds it, and drops it after the socket.
///
/// Dropped before [`opened`](Self::opened), [`opened_shared`](Self::opened_shared) or [`failed`](Self::failed), the dial counts
/// as abandoned: whoever was to make it may make another.
pub struct Permit<K: PoolKey, C: Connection> {
    host: Arc<HostRef<K, C>>,
    id: u64,
    /// When the pool was last drained as it was given.
    epoch: u64,
    state: State<K, C>,
}

enum State<K: PoolKey, C: Connection> {
    /// For the one with this ticket.
    Dialing(u64),
    Open(Arc<Anchor<K, C>>),
    Over,
}

impl<K: PoolKey, C: Connection> Permit<K, C> {
    fn new(host: Arc<HostRef<K, C>>, ticket: u64) -> Self {
        let id = host.inner.next_id();
        let epoch = host.inner.epoch();
        Self { host, id, epoch, state: State::Dialing(ticket) }
    }

    /// The host to dial.
    pub fn key(&self) -> &K {
        &self.host.key
    }

    /// It is a connection for one user at a time. It goes to the longest waiting, or is idle from now on.
    pub fn opened(&mut self, conn: C, now: Timestamp) {
        self.open(conn, now, |shard, host, ticket, stored, permits, effects| {
            shard.opened_own(host, ticket, stored, permits, effects);
        });
    }

    /// It is a connection for up to `limit` users at a time.
    pub fn opened_shared(&mut self, conn: C, limit: usize, now: Timestamp) {
        self.open(conn, now, |shard, host, ticket, stored, permits, effects| {
            shard.opened_shared(host, ticket, stored, limit, permits, effects);
        });
    }

    fn open(
        &mut self,
        conn: C,
        now: Timestamp,
        enter: impl FnOnce(&mut HostShard<K, C>, usize, u64, HostStored<K, C>, &Permits, &mut HostEffects<K, C>),
    ) {
        let State::Dialing(ticket) = self.state else { return };
        let host = Arc::new(Anchor { host: Arc::clone(&self.host), gone: AtomicBool::new(false) });
        self.state = State::Open(Arc::clone(&host));
        let stored = Stored { conn, host, id: self.id, born: now, epoch: self.epoch, since: now };
        let stored = Box::new(stored);
        let at = self.host.host;
        self.host.inner.collect_credit(&self.host);
        self.host
            .inner
            .with(&self.host, |shard, permits, effects| enter(shard, at, ticket, stored, permits, effects));
    }

    /// Gives the connection it stands for back, for the next user, as [`Pooled::checkin`] does. One of another host is dropped.
    pub fn checkin(&self, pooled: Pooled<K, C>) {
        pooled.checkin_through(&self.host);
    }

    /// The dial came to nothing. Whoever was to make it is told, if it still waits; nobody else. Once there was a connection this
    /// is the same as dropping it.
    pub fn failed(mut self, error: TransportError) {
        self.end_dial(Some(error));
    }

    /// A shared connection takes so many streams from now on; those it has go on.
    pub fn set_limit(&self, limit: usize) {
        let (at, id) = (self.host.host, self.id);
        self.host.inner.with(&self.host, |shard, permits, effects| {
            shard.set_limit(at, id, limit, permits, effects);
        });
    }

    /// A shared connection takes no more streams, and is let go with the last one.
    pub fn set_draining(&self) {
        let (at, id) = (self.host.host, self.id);
        self.host.inner.with(&self.host, |shard, permits, effects| {
            shard.set_draining(at, id, permits, effects);
        });
    }

    fn end_dial(&mut self, error: Option<TransportError>) {
        let State::Dialing(ticket) = self.state else { return };
        self.state = State::Over;
        let at = self.host.host;
        self.host.inner.with(&self.host, |shard, permits, effects| {
            shard.dial_failed(at, ticket, error, permits, effects);
        });
        self.host.inner.settle();
    }
}

impl<K: PoolKey, C: Connection> Drop for Permit<K, C> {
    fn drop(&mut self) {
        match &self.state {
            State::Dialing(_) => self.end_dial(None),
            State::Open(anchor) => self.host.inner.socket_gone(anchor, self.id),
            State::Over => {}
        }
    }
}

impl<K: PoolKey, C: Connection> fmt::Debug for Permit<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = matches!(self.state, State::Open(_));
        f.debug_struct("Permit").field("id", &self.id).field("is_open", &is_open).finish_non_exhaustive()
    }
}

fn closed() -> TransportError {
    TransportError::new(ErrorKind::Closed, "the connection pool is closed")
}
