//! A server on tokio-tungstenite that speaks the test dialect and writes down every frame it sees.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{dialect::parse, soon};

/// What a connection's peer sent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    /// A text message, as JSON.
    Json(Value),
    Binary(Vec<u8>),
    Ping,
    Pong(Vec<u8>),
    /// With its code.
    Close(Option<u16>),
    /// The stream ended.
    End,
}

/// One accepted connection.
#[derive(Debug, Default)]
pub(crate) struct Life {
    pub(crate) seen: Vec<Seen>,
    /// Names and values of the upgrade request's headers, names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) ended: bool,
}

impl Life {
    /// The text messages of this `op`.
    pub(crate) fn ops(&self, op: &str) -> Vec<Value> {
        let values = self.seen.iter().filter_map(|seen| match seen {
            Seen::Json(value) if value["op"] == op => Some(value.clone()),
            _ => None,
        });
        values.collect()
    }

    /// The topics named in all messages of this `op`, in order.
    pub(crate) fn topics_of(&self, op: &str) -> Vec<String> {
        let names = self.ops(op).into_iter().flat_map(|value| {
            value["topics"].as_array().cloned().unwrap_or_default().into_iter().map(|name| text_of(&name))
        });
        names.collect()
    }

    pub(crate) fn has_close(&self, code: u16) -> bool {
        self.seen.contains(&Seen::Close(Some(code)))
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// How the server behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    pub(crate) auth: Auth,
    /// Answers subscribe and unsubscribe messages with an error.
    pub(crate) rejects_topics: bool,
    /// Never reads after the upgrade.
    pub(crate) deaf: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum Auth {
    #[default]
    Accept,
    Reject,
    Silence,
}

enum Order {
    Message(Message),
    Close(u16, String),
    /// The socket is dropped.
    Cut,
}

#[derive(Default)]
struct Inner {
    lives: Vec<Life>,
    orders: Vec<mpsc::UnboundedSender<Order>>,
}

/// See the module.
pub(crate) struct Server {
    address: SocketAddr,
    script: Script,
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
    accepting: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::scripted(Script::default()).await
    }

    pub(crate) async fn scripted(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let mut server =
            Self { address, script, inner: Arc::default(), changed: Arc::default(), accepting: None };
        server.listen(listener);
        server
    }

    fn listen(&mut self, listener: TcpListener) {
        let (inner, changed, script) = (self.inner.clone(), self.changed.clone(), self.script.clone());
        self.accepting = Some(tokio::spawn(async move {
            // Dropped with this task, and their sockets with them.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let life =
                    Connection { inner: inner.clone(), changed: changed.clone(), script: script.clone() };
                connections.spawn(life.serve(stream));
            }
        }));
    }

    /// The process dies: the port is closed, every connection is cut.
    pub(crate) async fn stop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _ = accepting.await;
        }
        soon("the server's connections are gone", self.wait(|lives| lives.iter().all(|life| life.ended)))
            .await;
    }

    /// Listens again, on the same port.
    pub(crate) async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still ours");
        self.listen(listener);
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics under the lock")
    }

    /// Looks at what was seen so far.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Life]) -> T) -> T {
        look(&self.lock().lives)
    }

    async fn wait(&self, mut holds: impl FnMut(&[Life]) -> bool) {
        loop {
            let changed = self.changed.notified();
            if holds(&self.lock().lives) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until what was seen satisfies `holds`; says all of it if it never does.
    pub(crate) async fn until(&self, what: &str, holds: impl FnMut(&[Life]) -> bool) {
        if tokio::time::timeout(super::PATIENCE, self.wait(holds)).await.is_err() {
            let seen = self.look(|lives| format!("{lives:#?}"));
            panic!("the server never saw: {what}\n{seen}");
        }
    }

    /// Waits until the newest connection has seen `op` on `topic`.
    pub(crate) async fn until_topic(&self, op: &str, topic: &str) {
        self.until(&format!("{op} {topic}"), |lives| {
            lives.last().is_some_and(|life| life.topics_of(op).iter().any(|name| name == topic))
        })
        .await;
    }

    /// Waits until `count` messages of `op` have been seen on all connections.
    pub(crate) async fn until_ops(&self, op: &str, count: usize) {
        self.until(&format!("{count} of {op}"), |lives| {
            lives.iter().map(|life| life.ops(op).len()).sum::<usize>() >= count
        })
        .await;
    }

    /// Waits until the newest connection has ended.
    pub(crate) async fn until_end(&self) {
        self.until("the end of the connection", |lives| lives.last().is_some_and(|life| life.ended)).await;
    }

    fn order(&self, order: Order) {
        let sent = self.lock().orders.last().expect("a connection was accepted").send(order);
        assert!(sent.is_ok(), "the connection has ended");
    }

    /// Sends JSON on the newest connection.
    pub(crate) fn send(&self, value: &Value) {
        self.order(Order::Message(Message::text(value.to_string())));
    }

    pub(crate) fn send_message(&self, message: Message) {
        self.order(Order::Message(message));
    }

    /// An update of `topic`.
    pub(crate) fn push(&self, topic: &str, data: impl Into<Value>) {
        self.send(&json!({"topic": topic, "data": data.into()}));
    }

    /// Closes the newest connection with these words.
    pub(crate) fn close(&self, code: u16, reason: &str) {
        self.order(Order::Close(code, reason.to_owned()));
    }

    /// Drops the newest connection's socket, if it is still there.
    pub(crate) fn try_cut(&self) -> bool {
        self.lock().orders.last().is_some_and(|orders| orders.send(Order::Cut).is_ok())
    }

    /// Drops the newest connection's socket.
    pub(crate) fn cut(&self) {
        self.order(Order::Cut);
    }

    pub(crate) fn connections(&self) -> usize {
        self.look(<[Life]>::len)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

struct Connection {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<Notify>,
    script: Script,
}

/// Marks the end of a connection, also if its task is aborted.
struct Ending<'a> {
    connection: &'a Connection,
    place: usize,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.connection.note(self.place, |life| {
            life.seen.push(Seen::End);
            life.ended = true;
        });
    }
}

impl Connection {
    fn note(&self, place: usize, write: impl FnOnce(&mut Life)) {
        let mut inner = self.inner.lock().expect("no test panics under the lock");
        write(&mut inner.lives[place]);
        drop(inner);
        self.changed.notify_waiters();
    }

    async fn serve(self, stream: TcpStream) {
        // Small messages must not wait for one another.
        let _ = stream.set_nodelay(true);
        let mut headers = Vec::new();
        #[expect(clippy::result_large_err, reason = "the callback's type is tokio-tungstenite's")]
        let take = |request: &Request, response: Response| {
            for (name, value) in request.headers() {
                headers.push((name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned()));
            }
            headers.push(("(path)".to_owned(), request.uri().to_string()));
            Ok(response)
        };
        let limits = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let accepted = tokio_tungstenite::accept_hdr_async_with_config(stream, take, Some(limits)).await;
        let Ok(socket) = accepted else { return };
        let (orders, mut inbox) = mpsc::unbounded_channel();
        let place = {
            let mut inner = self.inner.lock().expect("no test panics under the lock");
            inner.lives.push(Life { headers, ..Life::default() });
            inner.orders.push(orders);
            inner.lives.len() - 1
        };
        self.changed.notify_waiters();
        let ending = Ending { connection: &self, place };
        self.talk(place, socket, &mut inbox).await;
        drop(ending);
    }

    async fn talk(
        &self,
        place: usize,
        mut socket: WebSocketStream<TcpStream>,
        inbox: &mut mpsc::UnboundedReceiver<Order>,
    ) {
        loop {
            tokio::select! {
                biased;
                order = inbox.recv() => match order {
                    Some(Order::Message(message)) => {
                        if socket.send(message).await.is_err() {
                            return;
                        }
                    }
                    Some(Order::Close(code, reason)) => {
                        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
                        if socket.close(Some(frame)).await.is_err() {
                            return;
                        }
                    }
                    Some(Order::Cut) | None => return,
                },
                message = socket.next(), if !self.script.deaf => {
                    let Some(Ok(message)) = message else { return };
                    if let Some(answer) = self.take(place, message) && socket.send(answer).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Writes a message down, and gives back what to answer.
    fn take(&self, place: usize, message: Message) -> Option<Message> {
        let seen = match &message {
            Message::Text(text) => Seen::Json(parse(text)),
            Message::Binary(bytes) => Seen::Binary(bytes.to_vec()),
            Message::Ping(_) | Message::Frame(_) => Seen::Ping,
            Message::Pong(payload) => Seen::Pong(payload.to_vec()),
            Message::Close(frame) => Seen::Close(frame.as_ref().map(|frame| frame.code.into())),
        };
        let answer = match &seen {
            Seen::Json(value) => self.answer(value),
            _ => None,
        };
        self.note(place, |life| {
            if let Seen::Json(value) = &seen {
                let names = value["topics"].as_array().cloned().unwrap_or_default();
                for name in names.iter().map(text_of) {
                    match value["op"].as_str() {
                        Some("sub") => drop(life.topics.insert(name)),
                        Some("unsub") => drop(life.topics.remove(&name)),
                        _ => {}
                    }
                }
            }
            life.seen.push(seen);
        });
        answer
    }

    fn answer(&self, value: &Value) -> Option<Message> {
        let text = match (value["op"].as_str()?, &value["id"]) {
            ("auth", _) => match self.script.auth {
                Auth::Accept => r#"{"op":"auth","ok":true}"#.to_owned(),
                Auth::Reject => r#"{"op":"auth","ok":false}"#.to_owned(),
                Auth::Silence => return None,
            },
            ("sub" | "unsub", id) if self.script.rejects_topics => {
                format!(r#"{{"id":{id},"error":"no such topic"}}"#)
            }
            ("sub" | "unsub", id) => format!(r#"{{"id":{id},"result":"done"}}"#),
            ("ping", _) => r#"{"op":"pong"}"#.to_owned(),
            ("echo", id) => format!(r#"{{"id":{id},"result":{}}}"#, value["value"]),
            ("fail", id) => format!(r#"{{"id":{id},"error":{}}}"#, value["value"]),
            _ => return None,
        };
        Some(Message::text(text))
    }
}
