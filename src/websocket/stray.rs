//! Sockets beside the one a connection may have: only planted bugs own any.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    link::{Inbound, Link},
    message::WsMessage,
};
use crate::error::TransportResult;

type Dialing<S> = Pin<Box<dyn Future<Output = TransportResult<Link<S>>> + Send>>;

pub(super) struct Stray<S> {
    dialing: Vec<(Dialing<S>, Vec<WsMessage>)>,
    links: Vec<Link<S>>,
}

impl<S> Default for Stray<S> {
    fn default() -> Self {
        Self { dialing: Vec::new(), links: Vec::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stray<S> {
    pub(super) fn keep_dialing(&mut self, dialing: Dialing<S>, messages: Vec<WsMessage>) {
        self.dialing.push((dialing, messages));
    }

    pub(super) fn keep_link(&mut self, link: Link<S>) {
        self.links.push(link);
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let links = &mut self.links;
        self.dialing.retain_mut(|(dialing, messages)| match dialing.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(Err(_)) => false,
            Poll::Ready(Ok(mut link)) => {
                for message in messages.drain(..) {
                    link.write_message(&message);
                }
                links.push(link);
                false
            }
        });
        self.links.retain_mut(|link| {
            let _ = link.flush(cx);
            loop {
                match link.poll_next(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Inbound::Lost { .. }) => return false,
                    Poll::Ready(_) => {}
                }
            }
        });
    }
}
