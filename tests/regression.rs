//! Two promises whose breach is what such clients are known for, and the planted bugs that break them.
//!
//! In an ordinary build both must hold. In a build with `RUSTFLAGS="--cfg hpx_planted"` each must be seen to break while its
//! bug is alive, and to hold again without it.
#![allow(
    dead_code,
    unused_imports,
    reason = "the support is shared with the loopback tests, which use all of it"
)]

#[path = "loopback/support/mod.rs"]
mod support;

use std::time::Duration;

use hpx_transport::websocket::{ConnectionState, WsMessage};
use support::{
    config, connect_with,
    dialect::Dialect,
    runtime,
    server::{Auth, Script, Server},
    soon,
};

/// Authenticates, subscribes, loses the link; true if all that follows happens on one and the same new socket.
async fn auth_and_resubscribe_survive_on_the_same_socket() -> bool {
    let server = Server::scripted(Script { auth: Auth::Accept, ..Script::default() }).await;
    let (handle, _events) = connect_with(config(&server.url()), Dialect::with_token("secret")).await;
    let _guard = handle.subscribe("trades").await.expect("it lives");
    soon("the first link", handle.ready()).await.expect("the peer accepts");
    server.until_topic("sub", "trades").await;
    server.cut();
    server
        .until("the second link", |lives| {
            lives.len() >= 2 && lives.iter().skip(1).any(|life| !life.ops("auth").is_empty())
        })
        .await;
    // Sent behind the resubscription: whatever socket it was to go to, it has by the time this is answered.
    let echo = handle.request_raw(WsMessage::text(r#"{"op":"echo","value":1}"#));
    soon("an answer on the second link", echo).await.expect("the second link works");
    tokio::time::sleep(A_MOMENT).await;
    server.look(|lives| {
        let ops: Vec<String> = lives[1].seen.iter().filter_map(op).collect();
        lives.len() == 2 && ops == ["auth", "sub", "echo"]
    })
}

/// Drops the last handle of a live connection; true if the task, and with it the socket, ends in time.
async fn the_task_ends_after_the_last_handle_drop() -> bool {
    let server = Server::start().await;
    let (handle, events) = connect_with(config(&server.url()), Dialect::default()).await;
    soon("the link", handle.ready()).await.expect("the peer accepts");
    assert_eq!(handle.state(), ConnectionState::Ready);
    let mut events = events.0;
    drop(handle);
    let end = async { while events.recv().await.is_some() {} };
    // `close_timeout` is a second by default.
    tokio::time::timeout(Duration::from_millis(2500), end).await.is_ok()
}

fn op(seen: &support::server::Seen) -> Option<String> {
    match seen {
        support::server::Seen::Json(value) => value["op"].as_str().map(str::to_owned),
        _ => None,
    }
}

/// Long enough for a stray socket to show.
const A_MOMENT: Duration = Duration::from_millis(100);

#[cfg(not(hpx_planted))]
#[test]
fn auth_and_resubscribe_survive_into_the_ready_loop_on_the_same_socket() {
    assert!(runtime().block_on(auth_and_resubscribe_survive_on_the_same_socket()));
}

#[cfg(not(hpx_planted))]
#[test]
fn task_ends_after_the_last_handle_drop() {
    assert!(runtime().block_on(the_task_ends_after_the_last_handle_drop()));
}

/// One test, since a planted bug lives in the whole process.
#[cfg(hpx_planted)]
#[test]
fn each_promise_breaks_with_its_planted_bug_and_holds_without_it() {
    use hpx_transport::planted::{Bug, plant};

    plant(Some(Bug::ResubscribeElsewhere));
    assert!(!runtime().block_on(auth_and_resubscribe_survive_on_the_same_socket()));
    plant(Some(Bug::DriverOutlivesHandles));
    assert!(!runtime().block_on(the_task_ends_after_the_last_handle_drop()));
    plant(None);
    assert!(runtime().block_on(auth_and_resubscribe_survive_on_the_same_socket()));
    assert!(runtime().block_on(the_task_ends_after_the_last_handle_drop()));
}
