//! The floor: a hand-written loop on tokio-tungstenite, writes batched, with the same parsing and no more.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt, future::poll_immediate};
use hpx_transport::websocket::Route;
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::{Ingest, decimal, request_body, scan, server};

pub(crate) struct Floor {
    socket: WebSocketStream<TcpStream>,
}

impl Floor {
    pub(crate) async fn connect(url: &str) -> Self {
        let address = url.trim_start_matches("ws://").trim_end_matches('/');
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket takes its options");
        let (socket, _) = client_async(url, stream).await.expect("the server upgrades");
        Self { socket }
    }

    /// `total` requests, `in_flight` at a time.
    pub(crate) async fn requests(&mut self, in_flight: usize, total: usize) -> Duration {
        let body = request_body();
        let begun = Instant::now();
        let (mut sent, mut done) = (0, 0);
        while sent < in_flight.min(total) {
            self.write(sent, &body).await;
            sent += 1;
        }
        self.socket.flush().await.expect("the peer reads");
        while done < total {
            let message = self.socket.next().await.expect("the peer answers").expect("the peer answers");
            let mut batch = usize::from(answers(&message));
            while let Some(Some(message)) = poll_immediate(self.socket.next()).await {
                batch += usize::from(answers(&message.expect("the peer answers")));
            }
            done += batch;
            let next = (sent + batch).min(total);
            for number in sent..next {
                self.write(number, &body).await;
            }
            sent = next;
            self.socket.flush().await.expect("the peer reads");
        }
        begun.elapsed()
    }

    async fn write(&mut self, number: usize, body: &str) {
        let mut digits = [0; 20];
        let mut text = String::with_capacity(body.len() + 32);
        text.push_str(r#"{"id":"#);
        text.push_str(std::str::from_utf8(decimal(number as u64, &mut digits)).expect("digits are text"));
        text.push(',');
        text.push_str(body);
        self.socket.feed(Message::text(text)).await.expect("the peer reads");
    }

    /// Reads what is pushed.
    pub(crate) async fn ingest(&mut self, ingest: Ingest) -> Duration {
        let total = server::pushed(ingest);
        self.socket.send(Message::text(ingest.command())).await.expect("the peer reads");
        let begun = Instant::now();
        let mut done = 0;
        while done < total {
            let message = self.socket.next().await.expect("the peer pushes").expect("the peer pushes");
            if let Message::Text(text) = &message {
                done += usize::from(matches!(scan(text), Route::Update { .. }));
            }
        }
        begun.elapsed()
    }
}

fn answers(message: &Message) -> bool {
    match message {
        Message::Text(text) => matches!(scan(text), Route::Response { .. }),
        _ => false,
    }
}
