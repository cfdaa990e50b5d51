//! A connection through a restart of its exchange: connect, authenticate, subscribe, request, lose the link, go on.
//!
//! `cargo run --example quickstart` needs nothing but itself: the exchange runs in the same process, on a free port of the
//! loopback. It ends in about a second. The code to read is [`client`]; below it stands the exchange.

use std::{error::Error, net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use hpx_transport::websocket::{Connection, Event, GenericJsonHandler, Update, WsConfig, WsMessage};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::broadcast,
    task::JoinSet,
    time::{interval, timeout},
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

/// The part of a reply this client is interested in.
#[derive(Debug, Deserialize)]
struct Ticker {
    last_trade: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut exchange = Exchange::new().await?;
    timeout(Duration::from_secs(20), client(&mut exchange)).await?
}

async fn client(exchange: &mut Exchange) -> Result<(), Box<dyn Error>> {
    // The dialect: replies repeat the `id`, updates name a `topic`, every new link starts with an authentication.
    let dialect = GenericJsonHandler::new()
        .result_field("result")
        .error_field("error")
        .auth(|| Some(WsMessage::text(json!({"op": "auth", "token": TOKEN}).to_string())))
        .auth_accepted_when("auth", "accepted")
        .auth_rejected_when("auth", "rejected");
    let config = WsConfig::new(format!("ws://{}", exchange.address))
        .reconnect_initial_delay(Duration::from_millis(100))
        // No jitter, so that this output is always the same. Leave it on where many clients share a server.
        .reconnect_jitter(0.0);

    say("connect", "starts one task and returns at once; the peer has not been reached yet");
    let (handle, mut events) = Connection::connect(config, dialect).await?;

    say("subscribe", "trades.BTC is wanted from here on; the peer is told once the link is ready");
    let mut trades = handle.subscribe("trades.BTC").await?;

    let epoch = handle.ready().await?;
    say("ready", &format!("link {epoch}: dialed, upgraded, authenticated, subscribed, in this order"));
    if let Some(Event::Connected { epoch }) = events.recv().await {
        say("event", &format!("connected, link {epoch}: the event stream tells it too"));
    }

    for _ in 0..3 {
        let trade = trades.recv().await.ok_or("the feed ended")?;
        say("update", trade.as_text().unwrap_or_default());
    }

    let ticker: Ticker = handle.request(&json!({"op": "ticker"})).await?;
    say("request", &format!("the id was put in and matched for us; last trade: {}", ticker.last_trade));

    let refused = handle.request::<_, Value>(&json!({"op": "fly"})).await.err().ok_or("it can fly")?;
    let words = refused.peer_error().unwrap_or_default();
    say("request", &format!("one that the exchange refuses: {refused}: {words} ({:?})", refused.delivery()));

    exchange.stop().await;
    say("exchange", "stopped: its sockets are closed, nobody listens on its port");
    let mut restarted = false;
    while let Some(event) = events.recv().await {
        match event {
            Event::Connected { epoch } => say("event", &format!("connected, link {epoch}")),
            Event::Disconnected { epoch, .. } => say("event", &format!("disconnected, link {epoch} is lost")),
            Event::Retrying { attempt, delay, .. } => {
                say("event", &format!("retry {attempt} in {delay:?}"));
                if attempt == 2 {
                    exchange.start().await?;
                    say("exchange", "restarted on the same port before retry 2");
                    restarted = true;
                }
            }
            _ => {}
        }
        if restarted && handle.is_connected() {
            break;
        }
    }
    say("ready", "authenticated and subscribed again by the connection; this program did nothing for it");

    // What was queued when the link was lost is still delivered, in order, before the gap.
    let (mut gap, mut after_the_gap) = (false, 0);
    while after_the_gap < 3 {
        match trades.next_update().await.ok_or("the feed ended")? {
            Update::Message(trade) => {
                after_the_gap += usize::from(gap);
                say("update", trade.as_text().unwrap_or_default());
            }
            Update::Gap { from, to } => {
                gap = true;
                say("gap", &format!("what was traded between link {from} and link {to} is missing here"));
            }
            Update::Lagged(missed) => say("lag", &format!("{missed} updates were not read in time")),
        }
    }

    drop(trades);
    say("drop", "the last guard of trades.BTC is gone: the exchange is told");
    handle.close().await;
    say("close", "what was accepted is written, the Close frame is exchanged, the task has ended");
    while let Some(event) = events.recv().await {
        if let Event::Closed { cause, unsent } = event {
            say("event", &format!("closed: {cause}; {unsent} sends were never written"));
        }
    }
    Ok(())
}

/// Prints what was done or happened, and what it means.
fn say(what: &str, meaning: &str) {
    println!("{what:>10}  {meaning}");
}

/// The embedded exchange: a market that trades for as long as the program runs, and a gateway to it that can be stopped.
struct Exchange {
    address: SocketAddr,
    market: broadcast::Sender<u64>,
    /// Its tasks: dropping it drops their sockets.
    gateway: JoinSet<()>,
}

impl Exchange {
    async fn new() -> Result<Self, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (market, _) = broadcast::channel(64);
        tokio::spawn(trade(market.clone()));
        let mut exchange = Self { address: listener.local_addr()?, market, gateway: JoinSet::new() };
        exchange.gateway.spawn(accept(listener, exchange.market.clone()));
        Ok(exchange)
    }

    async fn start(&mut self) -> Result<(), Box<dyn Error>> {
        let listener = TcpListener::bind(self.address).await?;
        self.gateway.spawn(accept(listener, self.market.clone()));
        Ok(())
    }

    async fn stop(&mut self) {
        self.gateway.shutdown().await;
    }
}

/// One trade every 20 ms, numbered.
async fn trade(market: broadcast::Sender<u64>) {
    let mut tick = interval(Duration::from_millis(20));
    for number in 1.. {
        tick.tick().await;
        // An error says that nobody listens: trading goes on.
        let _ = market.send(number);
    }
}

async fn accept(listener: TcpListener, market: broadcast::Sender<u64>) {
    let mut sessions = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let trades = market.subscribe();
        sessions.spawn(async move {
            // A client that goes away ends its session, and nothing else.
            let _ = serve(stream, trades).await;
        });
    }
}

async fn serve(stream: TcpStream, mut trades: broadcast::Receiver<u64>) -> Result<(), Box<dyn Error>> {
    let mut socket = accept_async(stream).await?;
    let (mut authenticated, mut topics, mut last_trade) = (false, Vec::<String>::new(), 0);
    loop {
        tokio::select! {
            biased;
            message = socket.next() => {
                let Some(message) = message else { return Ok(()) };
                let Message::Text(text) = message? else { continue };
                let request: Value = serde_json::from_str(&text)?;
                let reply = match request["op"].as_str() {
                    Some("auth") => {
                        authenticated = request["token"] == TOKEN;
                        json!({"auth": if authenticated { "accepted" } else { "rejected" }})
                    }
                    _ if !authenticated => json!({"id": request["id"], "error": "authenticate first"}),
                    Some("subscribe") => {
                        topics.extend(names(&request["args"]));
                        json!({"id": request["id"], "result": "subscribed"})
                    }
                    Some("unsubscribe") => {
                        let gone: Vec<String> = names(&request["args"]).collect();
                        topics.retain(|topic| !gone.contains(topic));
                        json!({"id": request["id"], "result": "unsubscribed"})
                    }
                    Some("ticker") => json!({"id": request["id"], "result": {"last_trade": last_trade}}),
                    _ => json!({"id": request["id"], "error": "no such operation"}),
                };
                socket.send(Message::text(reply.to_string())).await?;
            }
            trade = trades.recv() => {
                // An error tells of trades missed by a slow socket; the next one will do.
                let Ok(number) = trade else { continue };
                last_trade = number;
                for topic in &topics {
                    let update = json!({"topic": topic, "trade": number, "price": 60_000 + number % 7});
                    socket.send(Message::text(update.to_string())).await?;
                }
            }
        }
    }
}

fn names(args: &Value) -> impl Iterator<Item = String> {
    args.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned)
}

const TOKEN: &str = "a token that is fresh on every link";
