//! What an observer is told.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use hpx_transport::{
    ErrorKind,
    http::{Event, HttpConfig, Observer, PoolStats, Protocol},
};

use super::support::*;

/// Keeps what it is told, and asks the client for its pool each time: no lock is held while it is told.
#[derive(Default)]
struct Notes {
    events: Mutex<Vec<Event>>,
    client: Mutex<Option<hpx_transport::http::Client>>,
}

impl Observer for Notes {
    fn observe(&self, event: &Event) {
        if let Some(client) = &*self.client.lock().expect("no panic") {
            let open: usize = client.pool_by_host().iter().map(|host| host.pool.open).sum();
            assert_eq!(client.pool().open, open);
        }
        self.events.lock().expect("no panic").push(event.clone());
    }
}

fn watched(change: impl FnOnce(&mut HttpConfig)) -> (hpx_transport::http::Client, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let client = client(|config| {
        config.observer = Some(notes.clone());
        change(config);
    });
    *notes.client.lock().expect("no panic") = Some(client.clone());
    (client, notes)
}

impl Notes {
    fn told(&self) -> Vec<Event> {
        self.events.lock().expect("no panic").clone()
    }

    async fn until(&self, event: &Event) {
        soon("it is told", async {
            while !self.told().contains(event) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn an_observer_is_told_of_a_connection_from_its_dial_to_its_end() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    let (client, notes) = watched(|_| {});
    for _ in 0..2 {
        assert_eq!(text(client.get(&server.uri("/")).await).await, "hello");
        settles(&client, |pool| pool.idle == 1).await;
    }
    let by_host = client.pool_by_host();
    assert_eq!((by_host.len(), by_host[0].port), (1, server.address.port()));
    assert_eq!((&*by_host[0].host, by_host[0].tls, by_host[0].pool), ("127.0.0.1", false, client.pool()));
    client.close().await;
    settles(&client, |pool| pool == PoolStats { hosts: pool.hosts, ..PoolStats::default() }).await;
    let (connection, host, port) = (1, "127.0.0.1".into(), server.address.port());
    let protocol = Protocol::Http1;
    notes.until(&Event::Closed { connection, silent: false }).await;
    assert_eq!(
        notes.told(),
        [
            Event::Waiting { call: 1 },
            Event::Dialing { connection, host, port },
            Event::Opened { connection, protocol, resumed: None, streams: 1 },
            Event::Acquired { call: 1, connection, reused: false },
            Event::Released { connection },
            Event::Acquired { call: 2, connection, reused: true },
            Event::Released { connection },
            Event::Closed { connection, silent: false },
        ]
    );
}

#[tokio::test]
async fn an_observer_is_told_why_a_dial_failed() {
    let (client, notes) = watched(|_| {});
    let error = client.get("http://127.0.0.1:1/").await.expect_err("nobody listens there");
    assert_eq!(error.kind(), ErrorKind::Connect);
    let failed = Event::DialFailed { connection: 1, kind: ErrorKind::Connect };
    assert!(notes.told().contains(&failed), "{:?}", notes.told());
}

#[tokio::test]
async fn an_observer_is_told_of_pings_and_of_the_verdict() {
    let server = Server::silent().await;
    let (client, notes) = watched(|config| {
        config.protocol = Protocol::Http2;
        config.h2_keep_alive_interval = Some(Duration::from_secs(1));
        config.h2_keep_alive_timeout = Duration::from_millis(200);
    });
    soon("the verdict", client.get(&server.uri("/"))).await.expect_err("it is silent");
    notes.until(&Event::Closed { connection: 1, silent: true }).await;
    let is_told = |test: fn(&Event) -> bool| notes.told().iter().any(test);
    let pinged = |event: &Event| matches!(event, Event::PingSent { connection: 1, keep_alive: true, silent } if *silent >= Duration::from_secs(1));
    assert!(is_told(pinged), "{:?}", notes.told());
    assert!(is_told(|event| *event == Event::StreamsChanged { connection: 1, streams: 0 }));
    assert!(is_told(|event| *event == Event::Released { connection: 1 }));
}
