//! `WsClient`: the same methods, and nobody reads events.

use std::time::Duration;

use hpx_transport::{
    env,
    websocket::{ConnectionEpoch, ConnectionState, ErrorKind, WsClient, WsMessage},
};
use serde_json::{Value, json};

use super::support::{Dialect, Server, config, eventually, next_data, soon};

async fn client(server: &Server) -> WsClient<Dialect> {
    let client = WsClient::connect(config(&server.url()), Dialect::default()).await.expect("a valid config");
    soon("ready", client.ready()).await.expect("the server accepts");
    client
}

#[tokio::test]
async fn a_client_has_the_methods_of_a_handle() {
    let server = Server::start().await;
    let client = client(&server).await;
    assert!(client.is_connected());
    assert_eq!((client.state(), client.epoch()), (ConnectionState::Ready, ConnectionEpoch(1)));
    assert_eq!(client.handle().epoch(), ConnectionEpoch(1));
    let echo = json!({"op": "echo", "value": 4});
    let text = || WsMessage::text(echo.to_string());
    assert_eq!(soon("a reply", client.request::<_, u8>(&echo)).await.expect("answered"), 4);
    let patience = Duration::from_secs(5);
    assert_eq!(
        soon("a reply", client.request_with_timeout::<_, u8>(&echo, patience)).await.expect("answered"),
        4
    );
    assert!(soon("a reply", client.request_raw(text())).await.expect("answered").contains("result"));
    assert!(
        soon("a reply", client.request_raw_with_timeout(text(), patience))
            .await
            .expect("answered")
            .contains("result")
    );
    assert!(soon("a reply", client.request_message(text())).await.expect("answered").is_text());
    assert_eq!(client.pending_count(), 0);
    client.send(WsMessage::text(r#"{"op":"note"}"#)).await.expect("accepted");
    client.send_json(&json!({"op": "note"})).await.expect("accepted");
    soon("confirmed", client.send_confirmed(WsMessage::text(r#"{"op":"note"}"#))).await.expect("written");
    server.until_ops("note", 3).await;
}

#[tokio::test]
async fn a_client_subscribes_and_survives_a_restart() {
    let mut server = Server::start().await;
    let client = client(&server).await;
    let mut guard = client.subscribe("trades").await.expect("it lives");
    let more = client.subscribe_many(["a", "b"]).await.expect("it lives");
    assert_eq!((client.subscription_count(), client.subscribed_topics().len(), more.len()), (3, 3, 2));
    server.until_topic("sub", "b").await;
    server.stop().await;
    server.restart().await;
    server.until("a second link", |lives| lives.len() == 2).await;
    server.until_topic("sub", "trades").await;
    server.push("trades", 1);
    assert_eq!(next_data(&mut guard).await, 1);
    client.unsubscribe("trades").await.expect("it lives");
    assert!(soon("the end", guard.recv()).await.is_none());
    client.reconnect("once more").expect("it lives");
    server.until("a third link", |lives| lives.len() == 3).await;
}

#[tokio::test]
async fn a_client_ends_with_its_last_clone() {
    let server = Server::start().await;
    let client = client(&server).await;
    let clone = client.clone();
    drop(client);
    assert_eq!(
        soon("a reply", clone.request::<_, u8>(&json!({"op": "echo", "value": 1}))).await.expect("answered"),
        1
    );
    drop(clone);
    server.until_end().await;
    assert!(server.look(|lives| lives[0].has_close(1000)));
}

#[tokio::test]
async fn a_closed_client_says_so() {
    let server = Server::start().await;
    let client = client(&server).await;
    soon("close", client.close()).await;
    assert_eq!(client.state(), ConnectionState::Closed);
    let error = client.request::<_, Value>(&json!({"op": "echo"})).await.expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn messages_nobody_claims_hold_up_nothing() {
    let server = Server::start().await;
    let client = client(&server).await;
    for number in 0..2000 {
        server.send(&json!({"op": "notice", "number": number}));
    }
    let reply = soon("a reply", client.request::<_, u8>(&json!({"op": "echo", "value": 1}))).await;
    assert_eq!(reply.expect("answered"), 1);
}

#[tokio::test]
async fn a_client_takes_an_environment_of_the_caller_s() {
    let server = Server::start().await;
    let client = WsClient::connect_in(env::Tokio::new(), config(&server.url()), Dialect::default())
        .await
        .expect("a valid config");
    eventually("ready", || client.is_connected()).await;
}
