//! The cache behind real rustls handshakes, in memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    time_provider::TimeProvider,
};

use super::*;
use crate::{env, tls::TlsConfig};

/// A server of some names.
struct Peer {
    config: Arc<ServerConfig>,
    roots: RootCertStore,
}

fn peer(change: impl FnOnce(&mut ServerConfig)) -> Peer {
    let params = CertificateParams::new(["one.test".to_owned(), "two.test".to_owned()]).expect("valid names");
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate").der().clone();
    let secret = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has TLS")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], secret)
        .expect("the key fits the certificate");
    change(&mut config);
    Peer { config: Arc::new(config), roots }
}

impl Peer {
    fn trusted(&self) -> TlsConfig {
        TlsConfig::with_roots(self.roots.clone())
    }
}

/// The same server, giving out no tickets.
fn silent(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

fn secured(tls: &TlsConfig, host: &str, port: u16, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    tls.secure(&env::Tokio::new(), host, port, alpn).expect("a usable configuration").config
}

/// A whole handshake, and the tickets after it.
fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, host: &str) -> HandshakeKind {
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::clone(client), name).expect("a client");
    let mut server = ServerConnection::new(Arc::clone(server)).expect("a server");
    // Bounded: a handshake has a few flights.
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory takes it");
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("memory gives it");
            server.process_new_packets().expect("the client keeps to the protocol");
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory takes it");
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory gives it");
            client.process_new_packets().expect("the server keeps to the protocol");
        }
    }
    client.handshake_kind().expect("the handshake is over")
}

fn resumed(kinds: &[HandshakeKind]) -> usize {
    kinds.iter().filter(|kind| **kind == HandshakeKind::Resumed).count()
}

#[test]
fn as_many_reconnects_resume_as_there_are_tickets() {
    for tickets in 0..4 {
        let peer = peer(|config| config.send_tls13_tickets = tickets);
        // What a resumed handshake brings would be more.
        let silent = Peer { config: silent(&peer.config), roots: peer.roots.clone() };
        let client = secured(&peer.trusted(), "one.test", 443, &[]);
        assert_eq!(shake(&client, &peer.config, "one.test"), HandshakeKind::Full);
        let kinds: Vec<_> = (0..5).map(|_| shake(&client, &silent.config, "one.test")).collect();
        assert_eq!(resumed(&kinds), tickets, "{tickets} tickets: {kinds:?}");
        // The first ones: nothing is wasted in between.
        assert_eq!(resumed(&kinds[..tickets]), tickets);
    }
}

#[test]
fn every_connection_of_a_configuration_shares_its_sessions() {
    let peer = peer(|_| {});
    let tls = peer.trusted();
    shake(&secured(&tls, "one.test", 443, &[]), &peer.config, "one.test");
    let other = secured(&tls.clone(), "one.test", 443, &[]);
    assert_eq!(shake(&other, &peer.config, "one.test"), HandshakeKind::Resumed);
}

#[test]
fn sessions_are_not_shared_across_name_port_protocol_or_trust() {
    let peer = peer(|config| config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()]);
    let sessions = SessionCache::default();
    let tls = peer.trusted().sessions(sessions.clone());
    let kind = |config: &Arc<ClientConfig>, name| shake(config, &peer.config, name);
    kind(&secured(&tls, "one.test", 443, &[b"h2"]), "one.test");
    for (host, port, alpn) in
        [("two.test", 443, "h2"), ("one.test", 444, "h2"), ("one.test", 443, "http/1.1")]
    {
        let other = secured(&tls, host, port, &[alpn.as_bytes()]);
        assert_eq!(kind(&other, host), HandshakeKind::Full, "{host} {port} {alpn}");
    }
    let stranger = secured(&peer.trusted().sessions(sessions.clone()), "one.test", 443, &[b"h2"]);
    assert_eq!(kind(&stranger, "one.test"), HandshakeKind::Full, "another verifier");
    assert_eq!(kind(&secured(&tls, "one.test", 443, &[b"h2"]), "one.test"), HandshakeKind::Resumed);
    assert_eq!(sessions.stats().servers, 5);
}

#[test]
fn a_partition_gives_nothing_for_another_name() {
    let peer = peer(|_| {});
    let client = secured(&peer.trusted(), "one.test", 443, &[]);
    shake(&client, &peer.config, "one.test");
    assert_eq!(shake(&client, &peer.config, "two.test"), HandshakeKind::Full);
}

#[test]
fn a_server_that_forgot_its_tickets_gets_a_full_handshake() {
    let peer = peer(|_| {});
    let client = secured(&peer.trusted(), "one.test", 443, &[]);
    shake(&client, &peer.config, "one.test");
    let mut forgetful = ServerConfig::clone(&peer.config);
    forgetful.session_storage = rustls::server::ServerSessionMemoryCache::new(32);
    let forgetful = Arc::new(forgetful);
    assert_eq!(shake(&client, &forgetful, "one.test"), HandshakeKind::Full);
    assert_eq!(shake(&client, &forgetful, "one.test"), HandshakeKind::Resumed, "its own ticket");
}

#[test]
fn tls_1_2_resumes_with_the_last_session_as_often_as_wanted() {
    let peer = peer(|_| {});
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("ring has TLS 1.2")
        .with_root_certificates(peer.roots.clone())
        .with_no_client_auth();
    let sessions = SessionCache::default();
    let tls = TlsConfig::custom(Arc::new(client)).sessions(sessions.clone());
    let client = secured(&tls, "one.test", 443, &[]);
    let kinds: Vec<_> = (0..4).map(|_| shake(&client, &peer.config, "one.test")).collect();
    assert_eq!(resumed(&kinds), 3, "{kinds:?}");
    assert_eq!(sessions.stats().tickets_stored, 0);
}

#[test]
fn the_key_exchange_the_server_chose_is_remembered() {
    let peer = peer(|_| {});
    let sessions = SessionCache::default();
    let client = secured(&peer.trusted().sessions(sessions), "one.test", 443, &[]);
    shake(&client, &peer.config, "one.test");
    let partition = Partition {
        cache: SessionCache::default(),
        key: Arc::new(key("one.test", 443)),
        shard: 0,
        name: ServerName::try_from("one.test").ok(),
        time: Arc::new(Hands::default()),
    };
    let name = ServerName::try_from("one.test").expect("a name");
    assert_eq!(partition.kx_hint(&name), None);
    partition.set_kx_hint(name.clone(), NamedGroup::X25519);
    assert_eq!(partition.kx_hint(&name), Some(NamedGroup::X25519));
}

/// A wall clock set by hand.
#[derive(Debug, Default, Clone)]
struct Hands(Arc<AtomicU64>);

impl TimeProvider for Hands {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

fn key(host: &str, port: u16) -> PartitionKey {
    PartitionKey { host: host.to_owned(), port, alpn: Vec::new(), identity: Identity(0) }
}

/// A client whose tickets are dated by `hands`, though rustls itself goes by the machine's clock.
fn dated(peer: &Peer, sessions: &SessionCache, hands: &Hands) -> Arc<ClientConfig> {
    let mut client = ClientConfig::clone(&secured(&peer.trusted(), "one.test", 443, &[]));
    client.resumption = sessions.partition(key("one.test", 443), Arc::new(hands.clone()));
    Arc::new(client)
}

#[test]
fn tickets_expire_by_the_environment_s_wall_clock() {
    let peer = peer(|config| config.send_tls13_tickets = 1);
    let limits = SessionLimits { lifetime_max: Duration::from_secs(60), ..SessionLimits::default() };
    let (sessions, hands) = (SessionCache::new(limits), Hands::default());
    let client = dated(&peer, &sessions, &hands);
    let at = |seconds| {
        hands.0.store(seconds, Ordering::Relaxed);
        shake(&client, &peer.config, "one.test")
    };
    assert_eq!(at(1000), HandshakeKind::Full);
    assert_eq!(at(1059), HandshakeKind::Resumed);
    assert_eq!(at(1119), HandshakeKind::Full, "a minute after the last ticket");
    assert_eq!(at(1118), HandshakeKind::Resumed, "the clock was set back");
    assert_eq!(sessions.stats().tickets_expired, 1);
}

#[test]
fn a_lifetime_over_seven_days_is_cut() {
    let limits = SessionLimits { lifetime_max: Duration::from_secs(u64::MAX), ..SessionLimits::default() };
    let sessions = SessionCache::new(limits);
    assert_eq!(sessions.inner.rules.lifetime, Duration::from_secs(604_800));
}

#[test]
fn the_limits_hold_over_all_shards_and_the_longest_unused_server_goes_first() {
    let sessions = SessionCache::new(SessionLimits { servers_max: 20, ..SessionLimits::default() });
    let time: Arc<dyn TimeProvider> = Arc::new(Hands::default());
    let hosts: Vec<String> = (0..50).map(|number| format!("host-{number}.test")).collect();
    let partition = |host: &String| Partition {
        cache: sessions.clone(),
        key: Arc::new(key(host, 443)),
        shard: shard_of(host, 443),
        name: ServerName::try_from(host.clone()).ok(),
        time: Arc::clone(&time),
    };
    let name = |host: &String| ServerName::try_from(host.clone()).expect("a name");
    for host in &hosts {
        partition(host).set_kx_hint(name(host), NamedGroup::X25519);
        // The first is used all the time.
        partition(&hosts[0]).set_kx_hint(name(&hosts[0]), NamedGroup::X25519);
        assert!(sessions.stats().servers <= 20);
    }
    let kept: Vec<_> = hosts.iter().filter(|host| partition(host).kx_hint(&name(host)).is_some()).collect();
    let expected: Vec<_> = hosts[..1].iter().chain(&hosts[31..]).collect();
    assert_eq!(kept, expected);
    assert_eq!(sessions.stats().servers_evicted, 30);
    sessions.clear();
    assert_eq!((sessions.stats().servers, sessions.inner.servers.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_cache_without_room_keeps_nothing() {
    let peer = peer(|_| {});
    for limits in [
        SessionLimits { servers_max: 0, ..SessionLimits::default() },
        SessionLimits { tickets_per_server_max: 0, ..SessionLimits::default() },
        SessionLimits { lifetime_max: Duration::ZERO, ..SessionLimits::default() },
    ] {
        let sessions = SessionCache::new(limits);
        let client = secured(&peer.trusted().sessions(sessions.clone()), "one.test", 443, &[]);
        for _ in 0..3 {
            assert_eq!(shake(&client, &peer.config, "one.test"), HandshakeKind::Full, "{limits:?}");
        }
    }
}

#[test]
fn without_sessions_every_handshake_is_a_full_one() {
    let peer = peer(|_| {});
    let custom = TlsConfig::custom(secured(&peer.trusted(), "one.test", 443, &[]));
    for tls in [peer.trusted().without_sessions(), custom.without_sessions()] {
        let client = secured(&tls, "one.test", 443, &[]);
        for _ in 0..3 {
            assert_eq!(shake(&client, &peer.config, "one.test"), HandshakeKind::Full);
        }
    }
}

#[test]
fn the_same_ticket_is_never_given_to_two_threads() {
    let peer = peer(|config| config.send_tls13_tickets = 8);
    let sessions = SessionCache::default();
    let client = secured(&peer.trusted().sessions(sessions.clone()), "one.test", 443, &[]);
    shake(&client, &peer.config, "one.test");
    let silent = silent(&peer.config);
    let shake_four = || (0..4).map(|_| shake(&client, &silent, "one.test")).collect::<Vec<_>>();
    let kinds: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(shake_four)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    // A ticket given out twice would be turned down by the server, which takes each once.
    assert_eq!((resumed(&kinds), sessions.stats().tickets_taken), (8, 8));
}

#[test]
fn nothing_secret_shows_in_debug() {
    let peer = peer(|_| {});
    let sessions = SessionCache::default();
    let tls = peer.trusted().sessions(sessions.clone());
    let client = secured(&tls, "one.test", 443, &[]);
    shake(&client, &peer.config, "one.test");
    assert_eq!(format!("{sessions:?}"), "SessionCache { servers: 1, .. }");
    assert_eq!(format!("{tls:?}"), "TlsConfig(1 roots)");
    let text = format!("{:?}", client.resumption);
    assert!(text.contains("Partition(one.test:443)"), "{text}");
}
