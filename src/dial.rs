//! From a name to a byte stream: resolve, try the addresses, TLS. Generic over the environment, so all of it is simulated.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::{
    env::{Env, Timer, Timestamp},
    error::{ErrorKind, TransportError, TransportResult},
    tls::{MaybeTls, Metered, Secured},
};

/// Where to dial, prepared once per connection.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// For TLS: how, and the name to verify.
    pub(crate) tls: Option<(Secured, ServerName<'static>)>,
}

/// Opens a stream to `target` within `budget`. Addresses are tried in turn, from the one that `attempt` falls on, each with
/// its share of the budget: an address that swallows packets doesn't keep the next from its chance.
///
/// # Errors
///
/// Of the last address tried.
pub(crate) async fn dial<E: Env>(
    env: &E,
    target: &Target,
    attempt: u32,
    budget: Duration,
) -> TransportResult<MaybeTls<E::Stream>> {
    let addresses = env.resolve(&target.host, target.port).await.map_err(|error| {
        TransportError::with_source(ErrorKind::Resolve, format!("{} did not resolve", target.host), error)
    })?;
    let count = addresses.len().min(ADDRESSES_MAX);
    if count == 0 {
        return Err(TransportError::new(ErrorKind::Resolve, format!("{} has no address", target.host)));
    }
    let share = budget / count as u32;
    let mut last = None;
    for turn in 0..count {
        let address = addresses[(attempt as usize + turn) % count];
        match connect(env, address, share).await {
            Ok(stream) => return secure(target, stream).await,
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| TransportError::new(ErrorKind::Connect, "no address was tried")))
}

/// The same with a limit on the whole of it: name, socket and TLS.
///
/// # Errors
///
/// [`ErrorKind::Timeout`] if it takes longer than `budget`.
pub(crate) async fn dial_within<E: Env>(
    env: &E,
    target: &Target,
    attempt: u32,
    budget: Duration,
) -> TransportResult<MaybeTls<E::Stream>> {
    match within(env, env.now() + budget, dial(env, target, attempt, budget)).await {
        Some(result) => result,
        None => {
            let text = format!("no connection to {} within connect_timeout of {budget:?}", target.host);
            Err(TransportError::new(ErrorKind::Timeout, text))
        }
    }
}

async fn connect<E: Env>(env: &E, address: SocketAddr, share: Duration) -> TransportResult<E::Stream> {
    match within(env, env.now() + share, env.connect(address)).await {
        Some(Ok(stream)) => Ok(stream),
        Some(Err(error)) => {
            let text = format!("{address} did not accept the connection: {}", error.kind());
            Err(TransportError::with_source(ErrorKind::Connect, text, error))
        }
        None => {
            let text = format!("{address} did not answer within {share:?} of connect_timeout");
            Err(TransportError::new(ErrorKind::Timeout, text))
        }
    }
}

/// Order matters: the TLS session is made only after TCP has won, so an abandoned attempt costs no ticket.
async fn secure<S>(target: &Target, stream: S) -> TransportResult<MaybeTls<S>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let stream = Metered::new(stream);
    let Some((secured, name)) = &target.tls else { return Ok(MaybeTls::Plain(stream)) };
    let connector = TlsConnector::from(Arc::clone(&secured.config));
    match connector.connect(name.clone(), stream).await {
        Ok(stream) => {
            if let Some(sessions) = &secured.sessions {
                sessions.count(stream.get_ref().1.handshake_kind());
            }
            Ok(MaybeTls::Tls(Box::new(stream)))
        }
        Err(error) => Err(tls_error(&target.host, error)),
    }
}

fn tls_error(host: &str, error: io::Error) -> TransportError {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            let text = format!("the certificate of {host} was refused: {reason}");
            TransportError::with_source(ErrorKind::Certificate, text, error)
        }
        Some(cause) => {
            let text = format!("the TLS handshake with {host} failed: {cause}");
            TransportError::with_source(ErrorKind::Tls, text, error)
        }
        None => {
            let text = format!("the connection to {host} was lost in the TLS handshake: {}", error.kind());
            TransportError::with_source(ErrorKind::Tls, text, error)
        }
    }
}

/// `future`'s output, or `None` once the clock has reached `deadline`. Dropping it is as safe as dropping `future`.
async fn within<E: Env, F: Future>(env: &E, deadline: Timestamp, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = pin!(env.timer());
    timer.as_mut().arm(deadline);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        timer.as_mut().poll_expired(cx).map(|()| None)
    })
    .await
}

/// More than any name in use has; bounds how thin the budget is cut.
const ADDRESSES_MAX: usize = 8;
