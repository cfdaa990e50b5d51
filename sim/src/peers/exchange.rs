//! A mock exchange: authenticates, takes subscriptions, answers requests, pushes; and writes down all it sees.
//!
//! It is tokio-tungstenite over the run's backend, not our own codec: a fault of ours in framing shows here.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt, stream::FuturesUnordered};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::HeaderValue,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    adversary,
    pipe::{Pipe, Wire},
    tls::Identity,
};
use crate::{
    dialect::{Dialect, Heard},
    net::{Listener, Socket},
    plan::{Behaviour, FaultKind, Plan, Stage, Target, TlsFault},
    trace::{Recorder, ServerLog},
};

/// The exchange's state that outlives its crashes, and the knobs by which the world turns it.
#[derive(Clone)]
pub(crate) struct Exchange {
    recorder: Recorder,
    dialect: Arc<dyn Dialect>,
    push_every: Duration,
    /// Clients that dial `wss://`, and what they are shown.
    secure: Arc<[bool]>,
    identity: Option<Identity>,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    conns: u64,
    /// How it treats each client's new connections, while such a fault lasts.
    moods: BTreeMap<usize, FaultKind>,
    /// And how it shakes hands.
    handshakes: BTreeMap<usize, TlsFault>,
    /// The running number of each topic.
    topics: BTreeMap<String, u64>,
    /// What connections that are over were asked and may not have answered, by client.
    owed: BTreeMap<usize, VecDeque<Asked>>,
    /// Open connections: whose, and how to tell them to close.
    open: BTreeMap<u64, (usize, mpsc::UnboundedSender<Order>)>,
}

/// A request: its id and its label.
type Asked = (Value, u64);

/// What the world tells an open connection.
#[derive(Debug, Clone)]
enum Order {
    Close(Goodbye),
    /// Say and hear nothing any more, and leave the socket open.
    Freeze,
}

#[derive(Debug, Clone)]
struct Goodbye {
    code: u16,
    reason: String,
}

impl Exchange {
    pub(crate) fn new(recorder: Recorder, dialect: Arc<dyn Dialect>, plan: &Plan) -> Self {
        let push_every = Duration::from_millis(plan.push_every_ms);
        let secure: Arc<[bool]> = plan.clients.iter().map(|client| client.tls).collect();
        let identity = secure.contains(&true).then(|| Identity::new(recorder.clock()));
        Self { recorder, dialect, push_every, secure, identity, inner: Arc::default() }
    }

    /// Sets how hands are shaken with a client.
    pub(crate) fn set_handshake(&self, client: usize, fault: Option<TlsFault>) {
        let mut inner = self.lock();
        match fault {
            Some(fault) => drop(inner.handshakes.insert(client, fault)),
            None => drop(inner.handshakes.remove(&client)),
        }
    }

    /// The stream under the upgrade: the socket, or TLS over it.
    async fn secure(&self, socket: Socket, conn: u64, client: usize) -> io::Result<Wire> {
        let identity = self.identity.as_ref().filter(|_| self.secure.get(client) == Some(&true));
        let Some(identity) = identity else { return Ok(Wire::Plain(socket)) };
        let fault = self.lock().handshakes.get(&client).copied();
        if fault == Some(TlsFault::BadCertificate) {
            self.log(ServerLog::BadCertificate { conn });
        }
        let stream = identity.shake_hands(socket, fault).await?;
        Ok(Wire::Secure(Box::new(stream)))
    }

    /// Sets how a client's new connections are treated.
    pub(crate) fn set_mood(&self, client: usize, mood: Option<FaultKind>) {
        let mut inner = self.lock();
        match mood {
            Some(mood) => drop(inner.moods.insert(client, mood)),
            None => drop(inner.moods.remove(&client)),
        }
    }

    /// How a connection that began with this behaviour behaves now: well, once that fault is over.
    fn behaviour(&self, client: usize, began_with: Option<Behaviour>) -> Option<Behaviour> {
        let behaviour = began_with?;
        let inner = self.lock();
        (inner.moods.get(&client) == Some(&FaultKind::Misbehave(behaviour))).then_some(behaviour)
    }

    /// Closes the open connections, of one client or all.
    pub(crate) fn close_open(&self, target: Target, code: u16, reason: &str) {
        self.order(target, &Order::Close(Goodbye { code, reason: reason.to_owned() }));
    }

    /// Freezes the open connections of a client: what a partition does to them where nothing is sent twice.
    pub(crate) fn freeze_open(&self, client: usize) {
        self.order(Target::Client(client), &Order::Freeze);
    }

    fn order(&self, target: Target, order: &Order) {
        for (owner, orders) in self.lock().open.values() {
            if target == Target::All || target == Target::Client(*owner) {
                // A connection that has ended takes no orders.
                let _ = orders.send(order.clone());
            }
        }
    }

    /// Listens until the host crashes.
    pub(crate) async fn serve(self, listener: Listener) -> io::Result<()> {
        self.log(ServerLog::Listening);
        // No tasks: they all end with this future, in the moment it is dropped.
        let mut conns = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                accepted = listener.accept() => {
                    let (stream, peer) = accepted?;
                    conns.push(self.clone().welcome(stream, peer));
                }
                Some(()) = conns.next() => {}
            }
        }
    }

    async fn welcome(self, stream: Socket, peer: SocketAddr) {
        let client = self.recorder.client_at(peer.ip()).unwrap_or(usize::MAX);
        let (conn, mood) = {
            let mut inner = self.lock();
            inner.conns += 1;
            (inner.conns, inner.moods.get(&client).cloned())
        };
        self.log(ServerLog::Accepted { conn, client, peer });
        let leaving = Leaving { exchange: &self, conn, why: "the exchange dropped it".to_owned() };
        let why = self.attend(stream, conn, client, mood).await;
        leaving.because(why);
    }

    /// One connection from its upgrade to its end, which it gives back.
    async fn attend(&self, stream: Socket, conn: u64, client: usize, mood: Option<FaultKind>) -> String {
        let behaviour = match &mood {
            Some(FaultKind::Misbehave(behaviour)) => Some(*behaviour),
            _ => None,
        };
        let stage = match &mood {
            Some(FaultKind::AcceptThenClose { stage }) => Some(*stage),
            _ => None,
        };
        if stage == Some(Stage::Accept) {
            self.log(ServerLog::Closing { conn, code: None, reason: "accept, then close".to_owned() });
            return "closed at once".to_owned();
        }
        let refusal = match mood {
            Some(FaultKind::Refuse { status, retry_after_s }) => Some((status, retry_after_s)),
            _ => None,
        };
        if let Some(behaviour @ (Behaviour::Slowloris { .. } | Behaviour::BadAcceptKey)) = behaviour {
            self.log(ServerLog::Misbehaved { conn, behaviour });
        }
        let stream = match self.secure(stream, conn, client).await {
            Ok(stream) => stream,
            // The texts of TLS libraries are not part of a run.
            Err(error) => return format!("no handshake: {}", error.kind()),
        };
        let exchange = self.clone();
        let manners = move || adversary::manners(exchange.behaviour(client, behaviour));
        let pipe = Pipe::new(stream, manners);
        let greeter = Greeter { refusal, lies: behaviour == Some(Behaviour::BadAcceptKey) };
        let mut ws = match accept_hdr_async_with_config(pipe, greeter, Some(small_buffers())).await {
            Ok(ws) => ws,
            Err(error) => {
                let Some((status, _)) = refusal else { return format!("no upgrade: {error}") };
                self.log(ServerLog::Refused { conn, status });
                return "refused".to_owned();
            }
        };
        self.log(ServerLog::Upgraded { conn });
        ws.get_mut().upgraded();
        if behaviour == Some(Behaviour::SilentAfterUpgrade) {
            self.log(ServerLog::Misbehaved { conn, behaviour: Behaviour::SilentAfterUpgrade });
            return silence(ws.get_mut()).await;
        }
        let (sender, orders) = mpsc::unbounded_channel();
        self.lock().open.insert(conn, (client, sender));
        if stage == Some(Stage::Upgrade) {
            return self
                .say_goodbye(&mut ws, conn, Goodbye { code: 1013, reason: "try again".to_owned() })
                .await;
        }
        let mut desk = Desk {
            exchange: self,
            client,
            conn,
            ws,
            topics: BTreeSet::new(),
            due: BTreeMap::new(),
            replies: 0,
            stage,
            behaviour,
            flood: None,
            asked: VecDeque::new(),
        };
        desk.attend(orders).await
    }

    async fn say_goodbye(&self, ws: &mut WebSocketStream<Pipe>, conn: u64, goodbye: Goodbye) -> String {
        let Goodbye { code, reason } = goodbye;
        self.log(ServerLog::Closing { conn, code: Some(code), reason: reason.clone() });
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        if ws.close(Some(frame)).await.is_err() {
            return "lost while closing".to_owned();
        }
        // Until the client has answered or gone: a server that hangs up first would reset what is on its way.
        let patience = Instant::now() + GOODBYE_MAX;
        loop {
            tokio::select! {
                biased;
                message = ws.next() => if !matches!(message, Some(Ok(_))) { return "closed".to_owned() },
                () = sleep_until(patience) => return "closed without an echo".to_owned(),
            }
        }
    }

    fn log(&self, log: ServerLog) {
        self.recorder.exchange(log);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers the upgrade request.
struct Greeter {
    /// The status, and the seconds of a `Retry-After`.
    refusal: Option<(u16, Option<u64>)>,
    /// It answers with another accept key than the client's.
    lies: bool,
}

impl tokio_tungstenite::tungstenite::handshake::server::Callback for Greeter {
    fn on_request(self, _request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        if self.lies {
            // The key of RFC 6455's example, section 1.3.
            let key = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            response.headers_mut().insert("sec-websocket-accept", key);
        }
        let Some((status, retry_after)) = self.refusal else { return Ok(response) };
        let mut refusal = Response::builder().status(status);
        if let Some(seconds) = retry_after {
            refusal = refusal.header("retry-after", seconds.to_string());
        }
        // The plan's check has seen the status, and the header is a number.
        Err(refusal.body(None).expect("the refusal is well formed"))
    }
}

/// Writes down the end of a connection, also when the host crashes under it.
struct Leaving<'a> {
    exchange: &'a Exchange,
    conn: u64,
    why: String,
}

impl Leaving<'_> {
    fn because(mut self, why: String) {
        self.why = why;
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.exchange.lock().open.remove(&self.conn);
        let why = std::mem::take(&mut self.why);
        self.exchange.log(ServerLog::Gone { conn: self.conn, why });
    }
}

/// One open connection.
struct Desk<'a> {
    exchange: &'a Exchange,
    client: usize,
    conn: u64,
    ws: WebSocketStream<Pipe>,
    topics: BTreeSet<String>,
    /// Replies to come, by time and then in the order they were asked for.
    due: BTreeMap<(Instant, u64), Asked>,
    replies: u64,
    /// The last requests, answered or not.
    asked: VecDeque<Asked>,
    stage: Option<Stage>,
    /// With which it began.
    behaviour: Option<Behaviour>,
    /// When the next turn of a ping flood is due, and how many are left.
    flood: Option<(Instant, u32)>,
}

impl Desk<'_> {
    async fn attend(&mut self, mut orders: mpsc::UnboundedReceiver<Order>) -> String {
        let mut next_push = Instant::now() + self.exchange.push_every;
        loop {
            let due = self.due.keys().next().map(|(at, _)| *at);
            let flood = self.flood.map(|(at, _)| at);
            let next = [due, flood].into_iter().flatten().fold(next_push, Instant::min);
            tokio::select! {
                biased;
                Some(order) = orders.recv() => return match order {
                    Order::Close(goodbye) => self.exchange.say_goodbye(&mut self.ws, self.conn, goodbye).await,
                    Order::Freeze => self.freeze().await,
                },
                message = self.ws.next() => {
                    if let Err(why) = self.hear(message).await {
                        return why;
                    }
                }
                () = sleep_until(next) => {
                    if let Err(error) = self.say_what_is_due(&mut next_push).await {
                        return format!("lost: {error}");
                    }
                }
            }
        }
    }

    /// The socket stays open, so that the client sees silence and neither an end nor a reset.
    async fn freeze(&mut self) -> String {
        self.exchange.lock().open.remove(&self.conn);
        self.exchange.log(ServerLog::Frozen { conn: self.conn });
        sleep_until(Instant::now() + FROZEN_MAX).await;
        "frozen by a partition".to_owned()
    }

    /// An error is the end of the connection.
    async fn hear(&mut self, message: Option<Result<Message, Error>>) -> Result<(), String> {
        let text = match message {
            None => return Err("end of stream".to_owned()),
            Some(Err(error)) => return Err(format!("lost: {error}")),
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map_or(1005, |frame| u16::from(frame.code));
                // The echo goes out with the flush that the next read makes.
                while let Some(Ok(_)) = self.ws.next().await {}
                return Err(format!("the client closed with code {code}"));
            }
            Some(Ok(Message::Ping(_))) => {
                self.exchange.log(ServerLog::Pinged { conn: self.conn });
                return Ok(());
            }
            Some(Ok(Message::Text(text))) => text.as_str().to_owned(),
            Some(Ok(_)) => return Ok(()),
        };
        let heard = self.exchange.dialect.read(&text);
        self.exchange.log(ServerLog::Heard { conn: self.conn, heard: heard.clone(), bytes: text.len() });
        self.answer(heard).await.map_err(|error| error.to_string())
    }

    async fn answer(&mut self, heard: Heard) -> Result<(), Error> {
        let dialect = Arc::clone(&self.exchange.dialect);
        match heard {
            Heard::Auth => {
                if let Some(behaviour @ (Behaviour::IgnoreAuth | Behaviour::RejectAuth)) = self.behaviour() {
                    self.exchange.log(ServerLog::Misbehaved { conn: self.conn, behaviour });
                    let rejects = behaviour == Behaviour::RejectAuth;
                    return match dialect.auth_rejected().filter(|_| rejects) {
                        Some(text) => self.say(text).await,
                        None => Ok(()),
                    };
                }
                self.exchange.log(ServerLog::Authenticated { conn: self.conn });
                self.say(dialect.auth_accepted()).await?;
                self.misbehave().await?;
                self.say_what_is_owed().await?;
                if self.stage == Some(Stage::Auth) {
                    let goodbye = Goodbye { code: 1013, reason: "try again".to_owned() };
                    self.exchange.say_goodbye(&mut self.ws, self.conn, goodbye).await;
                    return Err(Error::ConnectionClosed);
                }
            }
            Heard::Subscribe { id, topics } => {
                self.topics.extend(topics);
                self.acknowledge(&id).await?;
            }
            Heard::Unsubscribe { id, topics } => {
                for topic in topics {
                    self.topics.remove(&topic);
                }
                self.acknowledge(&id).await?;
            }
            Heard::Request { id, label, reply_after_ms } => {
                let reply = dialect.reply(&id, label, self.conn);
                self.asked.push_back((id.clone(), label));
                if self.asked.len() > ASKED_MAX {
                    self.asked.pop_front();
                }
                let mut reply_after_ms = reply_after_ms;
                match self.behaviour() {
                    Some(Behaviour::DuplicateReplies) => self.say(reply.clone()).await?,
                    Some(Behaviour::LateReplies { by_ms }) => reply_after_ms += by_ms,
                    Some(Behaviour::UnknownReplies) => {
                        let nobody = Value::from(UNKNOWN_ID);
                        self.say(dialect.reply(&nobody, label, self.conn)).await?;
                    }
                    _ => {}
                }
                if reply_after_ms == 0 {
                    return self.say(reply).await;
                }
                self.replies += 1;
                self.due.insert(
                    (Instant::now() + Duration::from_millis(reply_after_ms), self.replies),
                    (id, label),
                );
            }
            Heard::Message { .. } | Heard::Other => {}
        }
        Ok(())
    }

    fn behaviour(&self) -> Option<Behaviour> {
        self.exchange.behaviour(self.client, self.behaviour)
    }

    /// Strikes, after the authentication.
    async fn misbehave(&mut self) -> Result<(), Error> {
        let Some(behaviour) = self.behaviour() else { return Ok(()) };
        if !matches!(behaviour, Behaviour::Slowloris { .. }) {
            self.exchange.log(ServerLog::Misbehaved { conn: self.conn, behaviour });
        }
        if behaviour == Behaviour::PingFlood {
            self.flood = Some((Instant::now(), adversary::FLOOD_TURNS));
        }
        self.ws.flush().await?;
        self.ws.get_mut().write_all(&adversary::frames(behaviour)).await.map_err(Error::Io)
    }

    /// Answers on this connection what others were asked: an epoch too late.
    async fn say_what_is_owed(&mut self) -> Result<(), Error> {
        if self.behaviour() != Some(Behaviour::StaleReplies) {
            return Ok(());
        }
        let owed = self.exchange.lock().owed.remove(&self.client).unwrap_or_default();
        for (id, label) in owed {
            self.say(self.exchange.dialect.reply(&id, label, self.conn)).await?;
        }
        Ok(())
    }

    async fn acknowledge(&mut self, id: &Value) -> Result<(), Error> {
        match self.exchange.dialect.acknowledge(id) {
            Some(text) => self.say(text).await,
            None => Ok(()),
        }
    }

    async fn say_what_is_due(&mut self, next_push: &mut Instant) -> Result<(), Error> {
        let now = Instant::now();
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= now
        {
            let (id, label) = entry.remove();
            self.say(self.exchange.dialect.reply(&id, label, self.conn)).await?;
        }
        if let Some((at, turns)) = self.flood
            && at <= now
        {
            self.flood = (turns > 1).then(|| (now + adversary::FLOOD_EVERY, turns - 1));
            self.ws.flush().await?;
            self.ws.get_mut().write_all(&adversary::pings()).await.map_err(Error::Io)?;
        }
        if *next_push > now {
            return Ok(());
        }
        *next_push = now + self.exchange.push_every;
        if self.behaviour() == Some(Behaviour::UnknownTopics) {
            self.say(self.exchange.dialect.push("nobody-asked", 1, self.conn)).await?;
        }
        for topic in self.topics.clone() {
            let sequence = {
                let mut inner = self.exchange.lock();
                let sequence = inner.topics.entry(topic.clone()).or_default();
                *sequence += 1;
                *sequence
            };
            self.say(self.exchange.dialect.push(&topic, sequence, self.conn)).await?;
        }
        Ok(())
    }

    async fn say(&mut self, text: String) -> Result<(), Error> {
        self.exchange.log(ServerLog::Said { conn: self.conn, text: text.clone() });
        self.ws.send(Message::text(text)).await
    }
}

impl Drop for Desk<'_> {
    fn drop(&mut self) {
        let mut inner = self.exchange.lock();
        let owed = inner.owed.entry(self.client).or_default();
        owed.append(&mut self.asked);
        let too_many = owed.len().saturating_sub(ASKED_MAX);
        owed.drain(..too_many);
    }
}

/// Takes what comes and answers nothing, until the client has gone.
async fn silence(socket: &mut Pipe) -> String {
    let patience = Instant::now() + FROZEN_MAX;
    let mut buffer = [0; 1024];
    loop {
        tokio::select! {
            biased;
            read = socket.read(&mut buffer) => if !matches!(read, Ok(1..)) { return "silent to the end".to_owned() },
            () = sleep_until(patience) => return "silent for long".to_owned(),
        }
    }
}

/// So many of a client's last requests are remembered.
const ASKED_MAX: usize = 32;
/// An id that no client's requests come to.
const UNKNOWN_ID: u64 = (1 << 53) - 1;

/// tungstenite zeroes its whole buffer for each read: with the default of 128 KiB that was most of what a message cost.
fn small_buffers() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4 << 10)
}

/// Where the exchange listens.
pub(crate) const PORT: u16 = 9000;
/// When a frozen connection is given up: long after the client must have noticed.
const FROZEN_MAX: Duration = Duration::from_secs(30);
/// How long the exchange waits for the echo of its Close frame.
const GOODBYE_MAX: Duration = Duration::from_millis(500);
