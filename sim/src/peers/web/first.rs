//! A host that speaks HTTP/1.1 (RFC 9112), by hand: what a well-behaved library would not write is written too.

use std::{io, time::Duration};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::sleep,
};

use super::{super::pipe::Wire, Asked, CONN, Conn, UPLOAD, body_of, silence};
use crate::{plan::HttpBehaviour, trace::WebLog};

pub(super) async fn serve(
    conn: &Conn<'_>,
    mut wire: Wire,
    refuses: Option<u16>,
    mut orders: mpsc::UnboundedReceiver<()>,
) -> io::Result<()> {
    let mut inbox = Vec::new();
    // Bounded by the client, and by u32::MAX.
    for number in 1.. {
        let head = tokio::select! {
            biased;
            _ = orders.recv() => {
                conn.leaves("it was told to");
                return Ok(());
            }
            head = read_head(&mut wire, &mut inbox) => head?,
        };
        let how = conn.strike(number);
        if how == Some(HttpBehaviour::Refuse) {
            return Ok(());
        }
        let post = head.starts_with("POST");
        while post && inbox.len() < UPLOAD.len() {
            read_more(&mut wire, &mut inbox).await?;
        }
        inbox.drain(..if post { UPLOAD.len() } else { 0 });
        let asked = Asked::of(head.split(' ').nth(1).unwrap_or_default());
        let label = asked.label;
        conn.log(WebLog::Executed { conn: conn.number, label, post });
        sleep(asked.reply_after).await;
        if let Some(more) = read_more(&mut wire, &mut inbox).now_or_never() {
            more?;
        }
        if !inbox.is_empty() {
            conn.log(WebLog::Pipelined { conn: conn.number });
        }
        let told = orders.try_recv().is_ok() || how == Some(HttpBehaviour::GoAway);
        if told {
            conn.leaves("it says Connection: close");
        }
        let close = if told { "connection: close\r\n" } else { "" };
        let body = body_of(conn.client, label, asked.bytes);
        let length = body.len() + if how == Some(HttpBehaviour::ShortBody) { 10 } else { 0 };
        let status = refuses.map_or_else(|| "200 OK".to_owned(), |status| format!("{status} Refused"));
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{CONN}: {}\r\n{close}\r\n",
            conn.number
        );
        match how {
            Some(HttpBehaviour::Hang) => {
                silence().await;
                return Ok(());
            }
            Some(HttpBehaviour::Drop | HttpBehaviour::Reset | HttpBehaviour::Calm) => return Ok(()),
            Some(HttpBehaviour::Abrupt) => {
                return wire.write_all(&answer.as_bytes()[..answer.len() / 2]).await;
            }
            Some(HttpBehaviour::Garbage) => {
                let garbage = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
                return wire.write_all(garbage.as_bytes()).await;
            }
            Some(HttpBehaviour::GiantHead) => {
                let head = format!("HTTP/1.1 200 OK\r\nx-giant: {}\r\n\r\n", "x".repeat(20_000));
                return wire.write_all(head.as_bytes()).await;
            }
            Some(HttpBehaviour::EarlyHints) => {
                wire.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await?;
            }
            _ => {}
        }
        wire.write_all(answer.as_bytes()).await?;
        let (one, two) = body.split_at(body.len() / 2);
        wire.write_all(one).await?;
        match how {
            Some(HttpBehaviour::SlowBody { by_ms }) => sleep(Duration::from_millis(by_ms)).await,
            Some(HttpBehaviour::HalfBody) => {
                wire.flush().await?;
                silence().await;
                return Ok(());
            }
            _ => {}
        }
        wire.write_all(two).await?;
        wire.flush().await?;
        if how == Some(HttpBehaviour::ShortBody) {
            return Ok(());
        }
        conn.log(WebLog::Answered { conn: conn.number, label });
        if how == Some(HttpBehaviour::LongBody) {
            return wire.write_all(b"more than was announced").await;
        }
        if told || how == Some(HttpBehaviour::CloseBehind) {
            return Ok(());
        }
    }
    Ok(())
}

/// The end of the stream is an error.
async fn read_more(wire: &mut Wire, inbox: &mut Vec<u8>) -> io::Result<()> {
    let count = wire.read_buf(inbox).await?;
    if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Takes a head out of what has come. Given up, it loses nothing.
async fn read_head(wire: &mut Wire, inbox: &mut Vec<u8>) -> io::Result<String> {
    loop {
        if let Some(at) = inbox.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = inbox.drain(..at + 4).collect();
            return Ok(String::from_utf8_lossy(&head).into_owned());
        }
        read_more(wire, inbox).await?;
    }
}
