//! Requests: one answer each, and an honest word on what became of them.

use std::time::Duration;

use futures_util::future::join_all;
use hpx_transport::websocket::{Delivery, ErrorKind, Origin, WsMessage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::support::{Server, config, connect, eventually, ready, soon};

const SHORT: Duration = Duration::from_millis(60);

fn echo(value: impl Into<Value>) -> Value {
    json!({"op": "echo", "value": value.into()})
}

#[tokio::test]
async fn a_request_gets_its_reply_in_the_type_asked_for() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Quote {
        bid: u32,
    }
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let quote: Quote =
        soon("a reply", handle.request(&echo(json!({"bid": 7})))).await.expect("the server answers");
    assert_eq!(quote, Quote { bid: 7 });
    assert_eq!(handle.pending_count(), 0);
}

#[tokio::test]
async fn many_requests_at_once_each_get_their_own_reply() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let calls = (0..500u32).map(|number| {
        let handle = handle.clone();
        async move { handle.request::<_, u32>(&echo(number)).await.expect("the server answers") == number }
    });
    assert!(soon("all replies", join_all(calls)).await.into_iter().all(|own| own));
    let ids = server.look(|lives| {
        let requests = lives[0].ops("echo");
        requests.iter().map(|request| request["id"].as_u64().expect("a number")).collect::<Vec<_>>()
    });
    let mut distinct = ids.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!((ids.len(), distinct.len()), (500, 500), "every id is used once");
}

#[tokio::test]
async fn a_written_request_without_a_reply_times_out_maybe_sent() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url()).request_timeout(SHORT)).await;
    let error =
        soon("a timeout", handle.request::<_, Value>(&json!({"op": "hold"}))).await.expect_err("no reply");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Timeout, Delivery::MaybeSent));
    assert!(error.is_timeout() && !error.may_retry() && !error.is_closed());
    assert_eq!(error.origin(), Origin::Network);
    assert_eq!((handle.pending_count(), server.look(|lives| lives[0].ops("hold").len())), (0, 1));
}

#[tokio::test]
async fn a_request_may_have_a_timeout_of_its_own() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let payload = json!({"op": "hold"});
    let request = handle.request_with_timeout::<_, Value>(&payload, SHORT);
    assert!(soon("a timeout", request).await.expect_err("no reply").is_timeout());
    let request = handle.request_raw_with_timeout(json!({"op": "hold"}).to_string().into(), SHORT);
    assert!(soon("a timeout", request).await.expect_err("no reply").is_timeout());
}

#[tokio::test]
async fn a_reply_after_the_timeout_answers_nothing() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let payload = json!({"op": "hold"});
    let request = handle.request_with_timeout::<_, Value>(&payload, SHORT);
    assert!(soon("a timeout", request).await.expect_err("no reply").is_timeout());
    server.until_ops("hold", 1).await;
    let late = server.look(|lives| lives[0].ops("hold")[0]["id"].clone());
    let next = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.request_raw(json!({"op": "hold"}).to_string().into()).await })
    };
    server.until_ops("hold", 2).await;
    server.send(&json!({"id": late, "result": "too late"}));
    let id = server.look(|lives| lives[0].ops("hold")[1]["id"].clone());
    assert_ne!(id, late);
    server.send(&json!({"id": id, "result": "in time"}));
    let reply = soon("a reply", next).await.expect("no panic").expect("answered");
    assert!(reply.contains("in time"), "{reply}");
}

#[tokio::test]
async fn a_reply_sent_twice_answers_once() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let request = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.request::<_, u32>(&json!({"op": "hold"})).await })
    };
    server.until_ops("hold", 1).await;
    let id = server.look(|lives| lives[0].ops("hold")[0]["id"].clone());
    server.send(&json!({"id": id, "result": 1}));
    server.send(&json!({"id": id, "result": 2}));
    assert_eq!(soon("a reply", request).await.expect("no panic").expect("answered"), 1);
    assert_eq!(soon("a reply", handle.request::<_, u32>(&echo(3))).await.expect("answered"), 3);
}

#[tokio::test]
async fn request_raw_gives_the_whole_reply_errors_included() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let reply = handle.request_raw(echo("x").to_string().into());
    let reply = soon("a reply", reply).await.expect("answered");
    assert!(reply.starts_with(r#"{"id":"#) && reply.ends_with(r#""result":"x"}"#), "{reply}");
    let reply = handle.request_raw(json!({"op": "fail", "value": "no"}).to_string().into());
    let reply = soon("a reply", reply).await.expect("answered");
    assert!(reply.ends_with(r#""error":"no"}"#), "{reply}");
}

#[tokio::test]
async fn request_message_gives_the_reply_as_it_came() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let reply = soon("a reply", handle.request_message(echo(1).to_string().into())).await.expect("answered");
    assert!(reply.is_text());
    assert!(reply.as_text().is_some_and(|text| text.ends_with(r#""result":1}"#)), "{reply:?}");
}

#[tokio::test]
async fn an_error_of_the_peer_is_rejected_with_its_body() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let request = json!({"op": "fail", "value": {"code": 17, "why": "no funds"}});
    let error = soon("a reply", handle.request::<_, Value>(&request)).await.expect_err("refused");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Rejected, Delivery::Rejected));
    assert_eq!(error.peer_error(), Some(r#"{"code":17,"why":"no funds"}"#));
    assert!(!error.may_retry() && !error.to_string().contains("no funds"), "{error}");
}

#[tokio::test]
async fn a_reply_of_another_type_is_a_decode_error_and_not_to_be_repeated() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let error = soon("a reply", handle.request::<_, u32>(&echo("text"))).await.expect_err("not a number");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Decode, Delivery::MaybeSent));
    assert!(!error.may_retry());
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn a_payload_that_takes_no_id_is_an_encode_error_and_never_sent() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let error = soon("an error", handle.request::<_, Value>(&[1, 2, 3])).await.expect_err("no object");
    assert_eq!(
        (error.kind(), error.delivery(), error.origin()),
        (ErrorKind::Encode, Delivery::NotSent, Origin::Caller)
    );
    assert_eq!(handle.pending_count(), 0);
    // The connection doesn't mind.
    assert_eq!(soon("a reply", handle.request::<_, u32>(&echo(1))).await.expect("answered"), 1);
    assert_eq!(server.look(|lives| lives[0].seen.len()), 1);
}

#[tokio::test]
async fn one_request_too_many_is_refused_at_once() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url()).max_pending_requests(2)).await;
    let hold = || {
        let handle = handle.clone();
        tokio::spawn(async move { handle.request_raw(r#"{"op":"hold"}"#.into()).await })
    };
    let waiting = [hold(), hold()];
    server.until_ops("hold", 2).await;
    assert_eq!(handle.pending_count(), 2);
    let error = handle.request::<_, Value>(&echo(1)).await.expect_err("the limit is 2");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::CapacityExceeded, Delivery::NotSent));
    assert!(error.to_string().contains("max_pending_requests of 2"), "{error}");
    assert!(error.may_retry());
    for task in &waiting {
        task.abort();
    }
    eventually("the places are free", || handle.pending_count() == 0).await;
    assert_eq!(soon("a reply", handle.request::<_, u32>(&echo(1))).await.expect("there is room"), 1);
}

#[tokio::test]
async fn a_written_request_fails_maybe_sent_as_soon_as_its_link_is_lost() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let request = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.request_raw(r#"{"op":"hold"}"#.into()).await })
    };
    server.until_ops("hold", 1).await;
    server.cut();
    let error = soon("an answer", request).await.expect("no panic").expect_err("the link is lost");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Io, Delivery::MaybeSent));
    assert!(!error.may_retry());
    soon("ready", handle.ready()).await.expect("it comes back");
    // Not replayed on the new link.
    assert_eq!(soon("a reply", handle.request::<_, u32>(&echo(1))).await.expect("answered"), 1);
    assert_eq!(server.look(|lives| lives.iter().map(|life| life.ops("hold").len()).sum::<usize>()), 1);
}

#[tokio::test]
async fn a_request_made_while_down_is_answered_on_the_next_link() {
    let mut server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    server.stop().await;
    events.disconnected().await;
    let request = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.request::<_, u32>(&echo(5)).await })
    };
    eventually("it waits", || handle.pending_count() == 1).await;
    events.retrying().await;
    server.restart().await;
    assert_eq!(soon("a reply", request).await.expect("no panic").expect("answered"), 5);
}

#[tokio::test]
async fn a_request_that_finds_no_link_in_time_was_not_sent() {
    let mut server = Server::start().await;
    let url = server.url();
    server.stop().await;
    let (handle, mut events) = connect(config(&url)).await;
    let error = soon("a timeout", handle.request_with_timeout::<_, Value>(&echo(1), SHORT))
        .await
        .expect_err("nobody listens");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::Timeout, Delivery::NotSent));
    assert!(error.may_retry() && error.is_timeout());
    events.retrying().await;
    server.restart().await;
    soon("ready", handle.ready()).await.expect("it comes up");
    assert_eq!(soon("a reply", handle.request::<_, u32>(&echo(2))).await.expect("answered"), 2);
    let values = server.look(|lives| lives[0].ops("echo"));
    assert_eq!(values.len(), 1, "the expired request is never written: {values:?}");
}

#[tokio::test]
async fn a_request_over_the_size_limit_is_refused_before_it_is_sent() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url()).max_message_size(1000)).await;
    let error = handle.request::<_, Value>(&echo("x".repeat(1000))).await.expect_err("too large");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::MessageTooLarge, Delivery::NotSent));
    assert_eq!(error.field(), Some("max_message_size"));
    let message = WsMessage::text(echo("x".repeat(1000)).to_string());
    assert_eq!(
        handle.request_message(message).await.expect_err("too large").kind(),
        ErrorKind::MessageTooLarge
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_are_honest_however_often_the_link_is_cut() {
    const CALLS: u64 = 400;
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url()).request_timeout(Duration::from_millis(500))).await;
    let calls: Vec<_> = (0..CALLS)
        .map(|number| {
            let handle = handle.clone();
            tokio::spawn(async move {
                // Spread over the cuts; a few are dropped on their way.
                for _ in 0..number {
                    tokio::task::yield_now().await;
                }
                let payload = echo(number);
                let request = handle.request::<_, u64>(&payload);
                if number % 10 == 0 {
                    tokio::time::timeout(Duration::from_micros(number), request).await.ok()
                } else {
                    Some(request.await)
                }
            })
        })
        .collect();
    let mut cuts = 0;
    soon("all calls", async {
        while !calls.iter().all(|call| call.is_finished()) {
            let busy =
                server.look(|lives| lives.last().is_some_and(|life| !life.ended && life.seen.len() > 10));
            if busy && server.try_cut() {
                cuts += 1;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(cuts > 0, "no link was cut");
    let outcomes = soon("all outcomes", join_all(calls)).await;
    let times_written = |number: u64| {
        server.look(|lives| {
            let written = lives.iter().flat_map(|life| life.ops("echo"));
            written.filter(|request| request["value"] == number).count()
        })
    };
    for (number, outcome) in (0..CALLS).zip(outcomes) {
        let written = times_written(number);
        assert!(written <= 1, "request {number} was written {written} times");
        match outcome.expect("no panic") {
            Some(Ok(value)) => assert_eq!((value, written), (number, 1)),
            Some(Err(error)) if error.delivery() == Delivery::NotSent => {
                assert_eq!(written, 0, "request {number}: {error:?}");
            }
            Some(Err(_)) | None => {}
        }
    }
    assert_eq!(handle.pending_count(), 0);
}
