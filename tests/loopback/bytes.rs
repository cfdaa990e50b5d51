//! What comes in, byte by byte: broken, oversized, split.

use std::sync::Arc;

use hpx_transport::websocket::{ErrorKind, Event, Origin, TransportError};
use tokio::{
    io::AsyncWriteExt,
    sync::{Notify, mpsc},
};
use tokio_tungstenite::tungstenite::Message;

use super::support::{
    Server, config, connect, dialect,
    raw::{self, RawServer},
    ready, soon,
};

/// What becomes of a client that is sent `bytes` after the upgrade: why it lost the link, and the code it closed with.
async fn sent(bytes: Vec<u8>, limit: usize) -> (TransportError, Option<u16>) {
    let (code_out, mut codes) = mpsc::unbounded_channel();
    let server = RawServer::start(move |mut stream, _| {
        let (bytes, code_out) = (bytes.clone(), code_out.clone());
        async move {
            raw::upgrade(&mut stream).await;
            let _ = stream.write_all(&bytes).await;
            let _ = code_out.send(raw::close_code(&mut stream).await);
        }
    })
    .await;
    let (_handle, mut events) = connect(config(&server.url()).max_message_size(limit)).await;
    let reason = events.disconnected().await;
    let code = soon("a close code", codes.recv()).await.expect("the server lives");
    (reason, code)
}

const LIMIT: usize = 1000;

#[tokio::test]
async fn a_message_over_the_limit_ends_the_link_with_1009() {
    let (reason, code) = sent(raw::text(&"x".repeat(LIMIT + 1)), LIMIT).await;
    assert_eq!((reason.kind(), code), (ErrorKind::MessageTooLarge, Some(1009)));
    assert_eq!(reason.field(), Some("max_message_size"));
    assert!(reason.to_string().contains("1000 bytes"), "{reason}");
}

#[tokio::test]
async fn an_oversized_length_is_refused_before_its_payload_comes() {
    let mut header = vec![0x82, 127];
    header.extend_from_slice(&(1u64 << 40).to_be_bytes());
    let (reason, code) = sent(header, LIMIT).await;
    assert_eq!((reason.kind(), code), (ErrorKind::MessageTooLarge, Some(1009)));
}

#[tokio::test]
async fn fragments_that_add_up_beyond_the_limit_end_the_link_with_1009() {
    let mut bytes = raw::frame(0x01, &[b'x'; 600]);
    bytes.extend(raw::frame(0x80, &[b'x'; 600]));
    let (reason, code) = sent(bytes, LIMIT).await;
    assert_eq!((reason.kind(), code), (ErrorKind::MessageTooLarge, Some(1009)));
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_is_taken() {
    let server = RawServer::upgraded_then(raw::text(&"x".repeat(LIMIT))).await;
    let (_handle, mut events) = connect(config(&server.url()).max_message_size(LIMIT)).await;
    let text = events
        .find("the message", |event| match event {
            Event::Message(message) => message.text.clone(),
            _ => None,
        })
        .await;
    assert_eq!(text.len(), LIMIT);
}

#[tokio::test]
async fn text_that_is_not_utf8_ends_the_link_with_1007() {
    let (reason, code) = sent(raw::frame(0x81, &[b'a', 0xff, b'b']), LIMIT).await;
    assert_eq!((reason.kind(), code), (ErrorKind::Protocol, Some(1007)));
    assert_eq!(reason.origin(), Origin::Peer);
    assert!(reason.to_string().contains("UTF-8"), "{reason}");
}

#[tokio::test]
async fn text_that_ends_inside_a_character_ends_the_link_with_1007() {
    let (reason, code) = sent(raw::frame(0x81, &"✓".as_bytes()[..2]), LIMIT).await;
    assert_eq!((reason.kind(), code), (ErrorKind::Protocol, Some(1007)));
}

#[tokio::test]
async fn invalid_frames_end_the_link_with_1002() {
    let cases: [(&str, Vec<u8>); 8] = [
        ("a masked frame from a server", vec![0x81, 0x81, 0, 0, 0, 0, b'x']),
        ("a reserved bit", raw::frame(0xc1, b"x")),
        ("a reserved opcode", raw::frame(0x83, b"x")),
        ("a reserved control opcode", raw::frame(0x8b, b"")),
        ("a fragmented ping", raw::frame(0x09, b"x")),
        ("a ping longer than 125 bytes", raw::frame(0x89, &[0; 126])),
        ("a continuation of nothing", raw::frame(0x80, b"x")),
        ("a new message inside a fragmented one", [raw::frame(0x01, b"a"), raw::frame(0x81, b"b")].concat()),
    ];
    for (name, bytes) in cases {
        let (reason, code) = sent(bytes, LIMIT).await;
        assert_eq!((reason.kind(), code), (ErrorKind::Protocol, Some(1002)), "{name}: {reason}");
    }
}

#[tokio::test]
async fn a_close_frame_of_one_byte_is_a_protocol_error() {
    let (reason, code) = sent(raw::frame(0x88, &[3]), LIMIT).await;
    assert_eq!((reason.kind(), code), (ErrorKind::Protocol, Some(1002)));
}

#[tokio::test]
async fn a_close_frame_without_a_code_is_kept_as_such() {
    let (reason, code) = sent(raw::frame(0x88, &[]), LIMIT).await;
    assert_eq!((reason.kind(), reason.close_code()), (ErrorKind::PeerClosed, None));
    assert!(matches!(code, None | Some(1000)), "{code:?}");
}

#[tokio::test]
async fn a_broken_link_is_replaced() {
    let server = RawServer::start(|mut stream, number| async move {
        raw::upgrade(&mut stream).await;
        if number == 0 {
            let _ = stream.write_all(&[0xff; 64]).await;
        }
        raw::drain(&mut stream).await;
    })
    .await;
    let (handle, mut events) = connect(config(&server.url())).await;
    assert_eq!(events.disconnected().await.kind(), ErrorKind::Protocol);
    assert_eq!(soon("ready", handle.ready()).await.expect("it comes back").0, 2);
}

/// All that a client tells about `bytes`, written in pieces of `size` after a subscription was seen.
async fn told(bytes: &[u8], size: usize) -> Vec<String> {
    let bytes: Arc<[u8]> = bytes.into();
    let go = Arc::new(Notify::new());
    let server = RawServer::start({
        let (bytes, go) = (bytes.clone(), go.clone());
        move |mut stream, number| {
            let (bytes, go) = (bytes.clone(), go.clone());
            async move {
                if number > 0 {
                    return std::future::pending().await;
                }
                raw::upgrade(&mut stream).await;
                raw::read_frame(&mut stream).await;
                go.notified().await;
                for piece in bytes.chunks(size) {
                    let _ = stream.write_all(piece).await;
                    // Each piece in a packet of its own, as far as the kernel cares to.
                    tokio::task::yield_now().await;
                }
                raw::drain(&mut stream).await;
            }
        }
    })
    .await;
    let (handle, mut events) = connect(config(&server.url())).await;
    let mut guard = handle.subscribe("t").await.expect("it lives");
    soon("ready", handle.ready()).await.expect("the server accepts");
    go.notify_one();
    let mut told = Vec::new();
    events
        .find("the peer's close", |event| match event {
            Event::Disconnected { reason, .. } => {
                told.push(reason.to_string());
                Some(())
            }
            Event::Message(message) => {
                told.push(format!("{:?} {:?} {:?}", message.kind, message.raw, message.text));
                None
            }
            _ => None,
        })
        .await;
    while let Some(message) = guard.try_recv() {
        told.push(format!("guard {message:?}"));
    }
    told
}

#[tokio::test]
async fn any_split_of_the_byte_stream_tells_the_same() {
    let bytes = [
        raw::text(r#"{"op":"notice","number":1}"#),
        raw::frame(0x89, b"ping"),
        raw::text(r#"{"topic":"t","data":"ünïcode ✓"}"#),
        raw::frame(0x01, br#"{"topic":"t","#),
        raw::frame(0x8a, b""),
        raw::frame(0x80, br#""data":2}"#),
        raw::frame(0x82, &[0, 1, 2]),
        raw::frame(0x82, &dialect::pack(r#"{"topic":"t","data":3}"#)),
        raw::text(&format!(r#"{{"op":"notice","text":"{}"}}"#, "x".repeat(300))),
        raw::frame(0x88, &[0x0f, 0xa1, b'b', b'y', b'e']),
    ]
    .concat();
    let whole = told(&bytes, bytes.len()).await;
    assert_eq!(whole.len(), 7, "{whole:#?}");
    assert!(whole[3].contains("code 4001: bye"), "{whole:#?}");
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(told(&bytes, size).await, whole, "in pieces of {size}");
    }
}

#[tokio::test]
async fn a_binary_message_is_decoded_by_the_handler() {
    let server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url())).await;
    let mut guard = handle.subscribe("t").await.expect("it lives");
    server.until_topic("sub", "t").await;
    server.send_message(Message::binary(dialect::pack(r#"{"topic":"t","data":5}"#)));
    assert_eq!(super::support::next_data(&mut guard).await, 5);
    // What it packs up as a notice comes with both faces.
    let packed = dialect::pack(r#"{"op":"notice"}"#);
    server.send_message(Message::binary(packed.clone()));
    server.send_message(Message::binary(vec![0, 9]));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let message = events
            .find("a message", |event| match event {
                Event::Message(message) => Some(message.clone()),
                _ => None,
            })
            .await;
        seen.push((message.raw.as_bytes().to_vec(), message.text.map(|text| text.to_string())));
    }
    assert_eq!(seen, [(packed, Some(r#"{"op":"notice"}"#.to_owned())), (vec![0, 9], None)]);
}
