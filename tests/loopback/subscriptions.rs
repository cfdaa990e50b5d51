//! Guards, and what the peer is told because of them.

use futures_util::StreamExt;
use hpx_transport::websocket::{ConnectionEpoch, Event, MessageKind, Update};
use serde_json::json;

use super::support::{
    Server, config, connect, data_of, eventually, next_data, ready, runtime, server::Script, soon,
};

/// What the newest link was told of topics, in order.
fn told(server: &Server) -> Vec<String> {
    server.look(|lives| {
        let seen = lives.last().map(|life| life.seen.clone()).unwrap_or_default();
        let lines = seen.iter().filter_map(|seen| match seen {
            super::support::Seen::Json(value) if value["topics"].is_array() => {
                let names = value["topics"].as_array().cloned().unwrap_or_default();
                let names: Vec<_> = names.iter().filter_map(|name| name.as_str()).collect();
                Some(format!("{} {}", value["op"].as_str().unwrap_or_default(), names.join(" ")))
            }
            _ => None,
        });
        lines.collect()
    })
}

#[tokio::test]
async fn dropping_a_guard_unsubscribes() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let guard = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    assert_eq!((handle.subscription_count(), guard.topic().as_str()), (1, "trades"));
    drop(guard);
    server.until_topic("unsub", "trades").await;
    assert_eq!(told(&server), ["sub trades", "unsub trades"]);
    assert_eq!(handle.subscription_count(), 0);
}

#[tokio::test]
async fn two_guards_of_a_topic_unsubscribe_once_at_the_last() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let first = handle.subscribe("trades").await.expect("it lives");
    let mut second = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    drop(first);
    server.push("trades", 1);
    assert_eq!(next_data(&mut second).await, 1);
    assert_eq!(told(&server), ["sub trades"]);
    drop(second);
    server.until_topic("unsub", "trades").await;
    // Nothing more comes: a reply lies behind whatever would have been written.
    soon("a reply", handle.request_raw(r#"{"op":"echo","value":1}"#.into())).await.expect("answered");
    assert_eq!(told(&server), ["sub trades", "unsub trades"]);
}

#[tokio::test]
async fn an_explicit_unsubscribe_ends_the_guards_and_their_drop_does_nothing() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let mut first = handle.subscribe("trades").await.expect("it lives");
    let mut second = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    server.push("trades", 1);
    eventually("a message each", || first.len() == 1 && second.len() == 1).await;
    handle.unsubscribe("trades").await.expect("it lives");
    for guard in [&mut first, &mut second] {
        assert_eq!(next_data(guard).await, 1, "what had come in is still read");
        assert!(soon("the end", guard.recv()).await.is_none());
    }
    server.until_topic("unsub", "trades").await;
    drop((first, second));
    soon("a reply", handle.request_raw(r#"{"op":"echo","value":1}"#.into())).await.expect("answered");
    assert_eq!(told(&server), ["sub trades", "unsub trades"]);
}

#[tokio::test]
async fn a_subscription_after_unsubscribe_is_a_new_generation() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let mut old = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    handle.unsubscribe("trades").await.expect("it lives");
    let mut new = handle.subscribe("trades").await.expect("it lives");
    assert!(soon("the end", old.recv()).await.is_none());
    drop(old);
    soon("a reply", handle.request_raw(r#"{"op":"echo","value":1}"#.into())).await.expect("answered");
    assert!(server.look(|lives| lives[0].topics.contains("trades")), "{:?}", told(&server));
    server.push("trades", 2);
    assert_eq!(next_data(&mut new).await, 2);
    assert_eq!(handle.subscription_count(), 1);
}

#[tokio::test]
async fn unsubscribing_from_what_nobody_holds_does_nothing() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    handle.unsubscribe("nothing").await.expect("it lives");
    soon("a reply", handle.request_raw(r#"{"op":"echo","value":1}"#.into())).await.expect("answered");
    assert!(told(&server).is_empty());
}

#[tokio::test]
async fn every_link_is_told_of_every_live_topic_and_the_gap_is_visible() {
    let mut server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let mut trades = handle.subscribe("trades").await.expect("it lives");
    let gone = handle.subscribe("gone").await.expect("it lives");
    server.until_topic("sub", "gone").await;
    server.push("trades", 1);
    assert!(matches!(soon("an update", trades.next_update()).await, Some(Update::Message(_))));
    drop(gone);
    server.until_topic("unsub", "gone").await;
    server.stop().await;
    server.restart().await;
    server.until("a second link", |lives| lives.len() == 2).await;
    server.until_topic("sub", "trades").await;
    server.push("trades", 2);
    let gap = Update::Gap { from: ConnectionEpoch(1), to: ConnectionEpoch(2) };
    assert_eq!(soon("an update", trades.next_update()).await, Some(gap));
    let Some(Update::Message(message)) = soon("an update", trades.next_update()).await else {
        panic!("a message follows the gap")
    };
    assert_eq!(data_of(&message), 2);
    assert_eq!(told(&server), ["sub trades"]);
    assert_eq!(trades.lagged(), 0, "a gap is no lag");
}

#[tokio::test]
async fn recv_passes_over_gaps() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let mut trades = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    server.push("trades", 1);
    assert_eq!(next_data(&mut trades).await, 1);
    server.cut();
    server.until("a second link", |lives| lives.len() == 2).await;
    server.until_topic("sub", "trades").await;
    server.push("trades", 2);
    assert_eq!(next_data(&mut trades).await, 2);
}

#[tokio::test]
async fn lag_is_counted_and_the_stream_goes_on() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url()).subscription_channel_capacity(4)).await;
    let mut trades = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    for number in 0..20 {
        server.push("trades", number);
    }
    eventually("16 lost", || trades.lagged() == 16).await;
    assert_eq!(trades.len(), 4);
    assert_eq!(soon("an update", trades.next_update()).await, Some(Update::Lagged(16)));
    for number in 16..20 {
        assert_eq!(next_data(&mut trades).await, number);
    }
    server.push("trades", 20);
    assert_eq!(next_data(&mut trades).await, 20);
    assert_eq!(trades.lagged(), 16);
    assert!(told(&server).iter().all(|line| !line.starts_with("unsub")));
}

#[tokio::test]
async fn all_guards_of_a_topic_share_one_payload() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let mut guards = handle.subscribe_many(["trades"; 3]).await.expect("it lives");
    server.until_topic("sub", "trades").await;
    server.push("trades", 1);
    let mut places = Vec::new();
    let mut messages = Vec::new();
    for guard in &mut guards {
        let message = soon("a message", guard.recv()).await.expect("it lives");
        places.push(message.as_bytes().as_ptr());
        messages.push(message);
    }
    assert!(places.iter().all(|place| *place == places[0]));
    assert_eq!(told(&server), ["sub trades"]);
}

#[tokio::test]
async fn topics_are_kept_apart() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let mut guards = handle.subscribe_many(["a", "b", "c"]).await.expect("it lives");
    server.until_topic("sub", "c").await;
    for (number, topic) in ["c", "a", "b"].into_iter().enumerate() {
        server.push(topic, number);
    }
    let mut data = Vec::new();
    for guard in &mut guards {
        data.push((guard.topic().to_string(), next_data(guard).await));
    }
    assert_eq!(data, [("a".into(), json!(1)), ("b".into(), json!(2)), ("c".into(), json!(0))]);
    assert!(guards.iter().all(|guard| guard.is_empty()));
}

#[tokio::test]
async fn many_topics_go_out_in_messages_of_a_bounded_size() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let names: Vec<String> = (0..250).map(|number| format!("t{number:03}")).collect();
    let guards = handle.subscribe_many(names.clone()).await.expect("it lives");
    server.until("all topics", |lives| lives[0].topics.len() == 250).await;
    let sizes = server.look(|lives| {
        let messages = lives[0].ops("sub");
        messages.iter().map(|message| message["topics"].as_array().map_or(0, Vec::len)).collect::<Vec<_>>()
    });
    assert_eq!(sizes, [100, 100, 50]);
    assert_eq!(handle.subscription_count(), 250);
    let topics = handle.subscribed_topics();
    assert_eq!(topics.iter().map(|topic| topic.as_str()).collect::<Vec<_>>(), names);
    drop(guards);
    server.until("no topics", |lives| lives[0].topics.is_empty()).await;
    assert!(handle.subscribed_topics().is_empty());
}

#[tokio::test]
async fn a_guard_is_a_stream_and_can_be_asked_without_waiting() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let mut trades = handle.subscribe("trades").await.expect("it lives");
    assert!(trades.is_empty() && trades.try_recv().is_none());
    server.until_topic("sub", "trades").await;
    for number in 0..3 {
        server.push("trades", number);
    }
    eventually("three messages", || trades.len() == 3).await;
    assert_eq!(trades.try_recv().map(|message| data_of(&message)), Some(json!(0)));
    assert_eq!(trades.len(), 2);
    let next = soon("a message", StreamExt::next(&mut trades)).await;
    assert_eq!(next.map(|message| data_of(&message)), Some(json!(1)));
}

#[tokio::test]
async fn a_rejected_subscription_is_an_event() {
    let server = Server::scripted(Script { rejects_topics: true, ..Script::default() }).await;
    let (handle, mut events) = ready(config(&server.url())).await;
    let _guard = handle.subscribe("nothing").await.expect("it lives");
    let (kind, text) = events
        .find("the rejection", |event| match event {
            Event::Message(message) => Some((message.kind, message.text.clone())),
            _ => None,
        })
        .await;
    assert_eq!(kind, MessageKind::System);
    assert!(text.is_some_and(|text| text.contains("no such topic")));
}

#[tokio::test]
async fn a_topic_dropped_while_down_is_never_told() {
    let mut server = Server::start().await;
    let url = server.url();
    server.stop().await;
    let (handle, _events) = connect(config(&url)).await;
    let dropped = handle.subscribe("dropped").await.expect("it lives");
    let _kept = handle.subscribe("kept").await.expect("it lives");
    drop(dropped);
    server.restart().await;
    server.until_topic("sub", "kept").await;
    soon("a reply", handle.request_raw(r#"{"op":"echo","value":1}"#.into())).await.expect("answered");
    assert_eq!(told(&server), ["sub kept"]);
}

#[tokio::test]
async fn after_any_storm_the_peer_knows_exactly_the_live_topics() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let mut guards = std::collections::BTreeMap::new();
    // A fixed walk: every step takes or drops one of twelve topics; now and then the link is lost.
    let mut walk = 1u32;
    for step in 0..600 {
        walk = walk.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let topic = format!("t{}", (walk >> 16) % 12);
        if guards.remove(&topic).is_none() {
            guards.insert(topic.clone(), handle.subscribe(topic).await.expect("it lives"));
        }
        if step % 97 == 96 {
            handle.reconnect("storm").expect("it lives");
        }
        if step % 5 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let live: std::collections::BTreeSet<String> = guards.keys().cloned().collect();
    assert!(!live.is_empty());
    server
        .until("the live topics", |lives| lives.last().is_some_and(|life| !life.ended && life.topics == live))
        .await;
    server.look(|lives| {
        for life in lives {
            let mut told = std::collections::BTreeSet::new();
            for seen in &life.seen {
                let super::support::Seen::Json(value) = seen else { continue };
                for name in value["topics"].as_array().cloned().unwrap_or_default() {
                    let name = name.to_string();
                    match value["op"].as_str() {
                        Some("sub") => assert!(told.insert(name), "told twice"),
                        _ => assert!(told.remove(&name), "untold before it was told"),
                    }
                }
            }
        }
    });
}

#[test]
fn a_guard_dropped_outside_a_runtime_unsubscribes_without_a_panic() {
    let runtime = runtime();
    let (server, handle, guard) = runtime.block_on(async {
        let server = Server::start().await;
        let (handle, _events) = ready(config(&server.url())).await;
        let guard = handle.subscribe("trades").await.expect("it lives");
        server.until_topic("sub", "trades").await;
        (server, handle, guard)
    });
    std::thread::spawn(move || drop(guard)).join().expect("no panic");
    runtime.block_on(server.until_topic("unsub", "trades"));
    assert_eq!(handle.subscription_count(), 0);
    // The last handle, too.
    std::thread::spawn(move || drop(handle)).join().expect("no panic");
    runtime.block_on(server.until_end());
}
