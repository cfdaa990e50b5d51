//! A host that speaks HTTP/2 (RFC 9113): the h2 crate's server, and what it can be made to do wrong.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Request, Response, header::CONTENT_LENGTH};
use tokio::{sync::mpsc, time::sleep};

use super::{super::pipe::Wire, Asked, CONN, Conn, body_of, silence};
use crate::{
    plan::{HttpBehaviour, OriginPlan},
    trace::WebLog,
};

pub(super) async fn serve(
    conn: &Conn<'_>,
    wire: Wire,
    origin: OriginPlan,
    mut orders: mpsc::UnboundedReceiver<()>,
) -> Result<(), h2::Error> {
    let mut settings = h2::server::Builder::new();
    if let Some(most) = origin.streams_max {
        settings.max_concurrent_streams(most);
    }
    // Small frames are the client's choice.
    settings.data_frame_budget(usize::MAX);
    let mut server = settings.handshake::<_, Bytes>(wire).await?;
    let (mut answers, mut number) = (FuturesUnordered::new(), 0);
    loop {
        let accepted = tokio::select! {
            biased;
            Some(()) = orders.recv() => {
                conn.leaves("it was told to");
                server.graceful_shutdown();
                continue;
            }
            accepted = server.accept() => accepted,
            Some(ends) = answers.next() => {
                if ends {
                    return Ok(());
                }
                continue;
            }
        };
        let Some(accepted) = accepted else { return Ok(()) };
        let (request, mut respond) = accepted?;
        number += 1;
        let how = conn.strike(number);
        match how {
            Some(HttpBehaviour::Refuse) => {
                respond.send_reset(Reason::REFUSED_STREAM);
                continue;
            }
            Some(HttpBehaviour::Drop) => {
                log_executed(conn, &request);
                return Ok(());
            }
            Some(HttpBehaviour::GoAway) => {
                conn.leaves("it says GOAWAY");
                server.graceful_shutdown();
            }
            Some(HttpBehaviour::Abrupt) => {
                log_executed(conn, &request);
                conn.leaves("it says GOAWAY, with an error");
                server.abrupt_shutdown(Reason::INTERNAL_ERROR);
                continue;
            }
            Some(HttpBehaviour::Calm) => {
                log_executed(conn, &request);
                conn.leaves("it asks for calm");
                server.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                continue;
            }
            Some(HttpBehaviour::Settings { window }) => {
                // Refused while the client owes an answer to the last.
                let _ = server.set_initial_window_size(window);
            }
            _ => {}
        }
        answers.push(answer(conn, request, respond, how));
    }
}

fn log_executed(conn: &Conn<'_>, request: &Request<RecvStream>) {
    let (label, post) = (Asked::of(request.uri().path()).label, request.method() == http::Method::POST);
    conn.log(WebLog::Executed { conn: conn.number, label, post });
}

/// One response. True if the connection ends behind it.
async fn answer(
    conn: &Conn<'_>,
    mut request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    how: Option<HttpBehaviour>,
) -> bool {
    while let Some(chunk) = request.body_mut().data().await {
        let Ok(chunk) = chunk else { return false };
        let _ = request.body_mut().flow_control().release_capacity(chunk.len());
    }
    log_executed(conn, &request);
    let asked = Asked::of(request.uri().path());
    sleep(asked.reply_after).await;
    // A stream that the client has reset, or a connection that is lost: the log has what was executed.
    let _ = say(conn, asked, respond, how).await;
    how == Some(HttpBehaviour::CloseBehind)
}

async fn say(
    conn: &Conn<'_>,
    asked: Asked,
    mut respond: SendResponse<Bytes>,
    how: Option<HttpBehaviour>,
) -> Result<(), h2::Error> {
    match how {
        Some(HttpBehaviour::Hang) => {
            silence().await;
            return Ok(());
        }
        Some(HttpBehaviour::Reset | HttpBehaviour::Garbage) => {
            respond.send_reset(Reason::CANCEL);
            return Ok(());
        }
        _ => {}
    }
    let body = Bytes::from(body_of(conn.client, asked.label, asked.bytes));
    let length = match how {
        Some(HttpBehaviour::ShortBody) => body.len() + 10,
        Some(HttpBehaviour::LongBody) => body.len().saturating_sub(1),
        _ => body.len(),
    };
    let mut head = Response::builder().header(CONN, conn.number).header(CONTENT_LENGTH, length);
    if how == Some(HttpBehaviour::GiantHead) {
        head = head.header("x-giant", "x".repeat(20_000));
    }
    // Every part of it is from a list of good ones.
    let head = head.body(()).expect("a well-formed head");
    let mut stream = respond.send_response(head, body.is_empty())?;
    let (half, mut rest) = (body.len() / 2, body);
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        // What was given before and not used is not given again.
        while stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                _ => return Ok(()),
            }
        }
        let is_first = rest.len() > half;
        let most = if is_first { rest.len() - half } else { rest.len() };
        let piece = rest.split_to(stream.capacity().min(most).min(16_384));
        stream.send_data(piece, rest.is_empty())?;
        if is_first && rest.len() <= half {
            match how {
                Some(HttpBehaviour::SlowBody { by_ms }) => sleep(Duration::from_millis(by_ms)).await,
                Some(HttpBehaviour::HalfBody) => silence().await,
                _ => {}
            }
        }
    }
    conn.log(WebLog::Answered { conn: conn.number, label: asked.label });
    Ok(())
}
