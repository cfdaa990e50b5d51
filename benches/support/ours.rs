//! Our client, used as a program would: a task per caller or reader.

use std::time::{Duration, Instant};

use hpx_transport::websocket::{Connection, ConnectionHandle, SubscriptionGuard, WsConfig, WsMessage};

use super::{Ingest, Lean, request_body, server};

pub(crate) struct Ours {
    handle: ConnectionHandle,
}

impl Ours {
    pub(crate) async fn connect(url: &str) -> Self {
        let config =
            WsConfig::new(url).max_pending_requests(20_000).request_timeout(Duration::from_secs(3600));
        let (handle, events) = Connection::connect(config, Lean).await.expect("the settings are valid");
        drop(events);
        handle.ready().await.expect("the server upgrades");
        Self { handle }
    }

    pub(crate) fn handle(&self) -> &ConnectionHandle {
        &self.handle
    }

    /// `total` requests from `in_flight` callers, a task each.
    pub(crate) async fn requests(&mut self, in_flight: usize, total: usize) -> Duration {
        let body = format!("{{{}", request_body());
        let begun = Instant::now();
        let mut callers = Vec::new();
        for caller in 0..in_flight {
            let (handle, body) = (self.handle.clone(), body.clone());
            let share = total / in_flight + usize::from(caller < total % in_flight);
            callers.push(tokio::spawn(async move {
                for _ in 0..share {
                    // A text of its own for each, as serialising would make.
                    let reply = handle.request_message(WsMessage::text(body.clone())).await;
                    assert!(reply.is_ok(), "{reply:?}");
                }
            }));
        }
        for caller in callers {
            caller.await.expect("a caller doesn't panic");
        }
        begun.elapsed()
    }

    /// `total` requests, one after the other, without a task.
    pub(crate) async fn one_by_one(&mut self, total: usize) -> Duration {
        let body = format!("{{{}", request_body());
        let begun = Instant::now();
        for _ in 0..total {
            let reply = self.handle.request_message(WsMessage::text(body.clone())).await;
            assert!(reply.is_ok(), "{reply:?}");
        }
        begun.elapsed()
    }

    pub(crate) async fn subscribe(&self, topics: usize) -> Vec<SubscriptionGuard> {
        let names = (0..topics).map(|number| format!("t{number}"));
        let guards = self.handle.subscribe_many(names).await.expect("the connection lives");
        // Written behind the subscribe message: when it is, the driver knows the topics.
        self.handle.send_confirmed(WsMessage::text("hold")).await.expect("the connection lives");
        guards
    }

    /// Reads what is pushed through `guards`, one for each topic, with a task for each; gives them back, and how many
    /// messages were lost to lag.
    pub(crate) async fn ingest(
        &mut self,
        guards: Vec<SubscriptionGuard>,
        ingest: Ingest,
    ) -> (Duration, Vec<SubscriptionGuard>, u64) {
        let each = (server::pushed(ingest) / ingest.topics) as u64;
        let before: u64 = guards.iter().map(SubscriptionGuard::lagged).sum();
        let mut tasks = Vec::new();
        for mut guard in guards {
            tasks.push(tokio::spawn(async move {
                let lagged = guard.lagged();
                let mut received = 0;
                // The newest message is never the one that is dropped.
                while received + (guard.lagged() - lagged) < each {
                    assert!(guard.recv().await.is_some(), "the connection ended");
                    received += 1;
                }
                guard
            }));
        }
        let begun = Instant::now();
        self.handle.send(WsMessage::text(ingest.command())).await.expect("the connection lives");
        let mut guards = Vec::new();
        for task in tasks {
            guards.push(task.await.expect("a reader doesn't panic"));
        }
        let elapsed = begun.elapsed();
        let after: u64 = guards.iter().map(SubscriptionGuard::lagged).sum();
        (elapsed, guards, after - before)
    }
}
