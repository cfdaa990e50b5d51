//! Reading what happens to a connection.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{event::Event, shared::Shared};

/// The events of a connection. Reading is optional and blocks nothing; dropping it leaves the connection alive.
///
/// While nobody reads, messages beyond `event_channel_capacity` are dropped and counted by [`dropped`](Self::dropped);
/// lifecycle events beyond it are replaced by one [`Event::Skipped`]. [`Event::Closed`] always arrives; after it comes
/// `None`.
pub struct ConnectionStream {
    shared: Arc<Shared>,
}

impl ConnectionStream {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The next event; `None` after `Closed`. Cancel safe: no event is lost.
    pub async fn recv(&mut self) -> Option<Event> {
        poll_fn(|cx| self.shared.poll_event(cx)).await
    }

    /// Messages dropped so far: those that were not read in time, and those that came outside an epoch, where none is
    /// promised (a flood before authentication, or while closing).
    pub fn dropped(&self) -> u64 {
        self.shared.dropped_messages()
    }
}

impl Stream for ConnectionStream {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.shared.poll_event(cx)
    }
}

impl Drop for ConnectionStream {
    fn drop(&mut self) {
        self.shared.abandon_events();
    }
}

impl fmt::Debug for ConnectionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionStream").field("state", &self.shared.state()).finish_non_exhaustive()
    }
}
