//! Pings of either side, of either kind.

use std::time::Duration;

use hpx_transport::websocket::{ConnectionEpoch, ErrorKind};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::support::{
    Seen, Server, config,
    raw::{self, RawServer},
    ready, soon,
};

const OFTEN: Duration = Duration::from_millis(20);

#[tokio::test]
async fn websocket_pings_keep_a_healthy_link() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url()).ping_interval(OFTEN)).await;
    server
        .until("10 pings", |lives| {
            lives[0].seen.iter().filter(|seen| matches!(seen, Seen::Ping)).count() >= 10
        })
        .await;
    assert_eq!((handle.epoch(), handle.is_connected()), (ConnectionEpoch(1), true));
}

#[tokio::test]
async fn pings_of_the_application_replace_websocket_pings() {
    let server = Server::start().await;
    let settings = config(&server.url()).ping_interval(OFTEN).use_websocket_ping(false);
    let (handle, mut events) = ready(settings).await;
    server.until_ops("ping", 10).await;
    assert!(server.look(|lives| !lives[0].seen.contains(&Seen::Ping)));
    assert_eq!(handle.epoch(), ConnectionEpoch(1));
    soon("close", handle.close()).await;
    let names = events.names().await;
    assert_eq!(names, ["Connected 1", "Disconnected 1", "Closed 0"], "pongs are no events");
}

#[tokio::test]
async fn a_websocket_ping_is_answered_with_its_payload() {
    let server = Server::start().await;
    let (_handle, _events) = ready(config(&server.url())).await;
    server.send_message(Message::Ping(b"are you there".to_vec().into()));
    server.until("the pong", |lives| lives[0].seen.contains(&Seen::Pong(b"are you there".to_vec()))).await;
}

#[tokio::test]
async fn a_ping_of_the_application_is_answered_by_the_handler() {
    let server = Server::start().await;
    let (_handle, _events) = ready(config(&server.url())).await;
    server.send(&json!({"op": "ping", "number": 3}));
    server.until_ops("pong", 1).await;
    assert_eq!(server.look(|lives| lives[0].ops("pong")[0]["of"].clone()), 3);
}

#[tokio::test]
async fn a_silent_peer_is_given_up_on_and_replaced() {
    let server = RawServer::start(|mut stream, _| async move {
        raw::upgrade(&mut stream).await;
        raw::drain(&mut stream).await;
    })
    .await;
    let settings = config(&server.url()).ping_interval(OFTEN).pong_timeout(Duration::from_millis(60));
    let (_handle, mut events) = ready(settings).await;
    let reason = events.disconnected().await;
    assert_eq!(reason.kind(), ErrorKind::Timeout);
    assert!(reason.to_string().contains("pong_timeout of 60ms"), "{reason}");
    super::support::eventually("the next dial", || server.accepted() >= 2).await;
}

#[tokio::test]
async fn one_ping_at_a_time_is_outstanding() {
    // Answers nothing, and notes what came in until the client gave up.
    let (pings_out, mut pings) = tokio::sync::mpsc::unbounded_channel();
    let server = RawServer::start(move |mut stream, _| {
        let pings_out = pings_out.clone();
        async move {
            raw::upgrade(&mut stream).await;
            let mut count = 0;
            while let Some((opcode, _)) = raw::read_frame(&mut stream).await {
                count += usize::from(opcode == 0x9);
            }
            let _ = pings_out.send(count);
        }
    })
    .await;
    let settings = config(&server.url()).ping_interval(OFTEN).pong_timeout(OFTEN * 20);
    let (_handle, mut events) = ready(settings).await;
    events.disconnected().await;
    assert_eq!(soon("the count", pings.recv()).await, Some(1));
}
