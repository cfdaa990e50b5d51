//! The HTTP client against servers that were not written here: nginx over TLS, and nghttpd. Each test is skipped, with a message,
//! where its server is not installed (Debian: `nginx-light`, `nghttp2-server`).

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use hpx_transport::{
    ErrorKind,
    http::{Body, Client, ConnectionInfo, Event, HttpConfig, Observer, Protocol},
    tls::{SessionCache, TlsConfig},
};
use http::{Request, Version};
use rcgen::{CertificateParams, KeyPair};
use rustls::{RootCertStore, pki_types::CertificateDer};
use tokio::process::{Child, Command};

/// Far beyond what anything here takes: reached only by what hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of its own, a certificate for `localhost`, and a server that is killed when dropped.
struct Peer {
    folder: PathBuf,
    port: u16,
    certificate: CertificateDer<'static>,
    child: Option<Child>,
}

/// Where an installed program is.
fn installed(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&folders)
        .chain(more)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: {name} is not installed");
    }
    found
}

impl Peer {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("hpx-peers-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(folder.join("pages")).expect("a folder");
        fs::write(folder.join("pages/index.html"), PAGE).expect("a page");
        fs::write(folder.join("pages/large"), "x".repeat(LARGE)).expect("a large page");
        // OpenSSL of any age has it.
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a valid name");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(folder.join("cert.pem"), certificate.pem()).expect("a file");
        fs::write(folder.join("key.pem"), key.serialize_pem()).expect("a file");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        Self { folder, port, certificate: certificate.der().clone(), child: None }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// nginx with these lines in its server's block.
    async fn nginx(program: &Path, lines: &str) -> Self {
        let mut peer = Self::new();
        let at = |name: &str| peer.path(name);
        let config = format!(
            "daemon off; pid {}; error_log {} warn; worker_processes 1; events {{ worker_connections 256; }}
             http {{ access_log off; client_body_temp_path {}; proxy_temp_path {}; fastcgi_temp_path {};
             uwsgi_temp_path {}; scgi_temp_path {};
             server {{ listen 127.0.0.1:{} {lines}
             ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3; root {}; }} }}",
            at("pid"),
            at("errors"),
            at("t1"),
            at("t2"),
            at("t3"),
            at("t4"),
            at("t5"),
            peer.port,
            at("cert.pem"),
            at("key.pem"),
            at("pages"),
        );
        fs::write(peer.folder.join("nginx.conf"), config).expect("a file");
        peer.nginx_again(program).await;
        peer
    }

    async fn nginx_again(&mut self, program: &Path) {
        let mut command = Command::new(program);
        command.args(["-p", &self.path(""), "-e", &self.path("errors"), "-c", &self.path("nginx.conf")]);
        self.run(command).await;
    }

    /// Asks nginx to end when it is done with what it does.
    async fn quit(&self) {
        let pid = fs::read_to_string(self.path("pid")).expect("it is running");
        let status = Command::new("kill").args(["-QUIT", pid.trim()]).status().await;
        assert!(status.expect("there is a kill").success());
    }

    async fn nghttpd(program: &Path, words: &[&str]) -> Self {
        let mut peer = Self::new();
        peer.nghttpd_again(program, words).await;
        peer
    }

    async fn nghttpd_again(&mut self, program: &Path, words: &[&str]) {
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-d", &self.path("pages")]).args(words);
        command.args([&self.port.to_string(), &self.path("key.pem"), &self.path("cert.pem")]);
        self.run(command).await;
    }

    async fn run(&mut self, mut command: Command) {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.expect("the server starts"));
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let errors = fs::read_to_string(self.folder.join("errors")).unwrap_or_default();
        panic!("the server does not listen: {errors}");
    }

    async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.expect("it ran");
        }
    }

    fn uri(&self, page: &str) -> String {
        format!("https://localhost:{}/{page}", self.port)
    }

    fn client(&self, protocol: Protocol, sessions: &SessionCache) -> Client {
        self.client_with(protocol, sessions, |_| {})
    }

    fn client_with(
        &self,
        protocol: Protocol,
        sessions: &SessionCache,
        change: impl FnOnce(&mut HttpConfig),
    ) -> Client {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a certificate");
        let tls = TlsConfig::with_roots(roots).sessions(sessions.clone());
        let mut config = HttpConfig { tls, protocol, ..HttpConfig::default() };
        change(&mut config);
        Client::new(config).expect("a valid configuration")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

async fn page(client: &Client, uri: &str) -> (Version, ConnectionInfo, usize) {
    let response =
        tokio::time::timeout(PATIENCE, client.get(uri)).await.expect("in time").expect("a response");
    assert_eq!(response.status(), 200);
    let info = response.body().connection();
    let version = response.version();
    let body = response.into_body().bytes(2 * LARGE).await.expect("a whole page");
    (version, info, body.len())
}

async fn drained(client: &Client) {
    client.drain();
    for _ in 0..500 {
        if client.pool().open == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", client.pool());
}

#[tokio::test]
async fn nginx_serves_both_protocols_and_the_second_connection_resumes() {
    let Some(program) = installed("nginx") else { return };
    let peer = Peer::nginx(&program, "ssl http2;").await;
    for (protocol, version) in [
        (Protocol::Http1, Version::HTTP_11),
        (Protocol::Http2, Version::HTTP_2),
        (Protocol::Auto, Version::HTTP_2),
    ] {
        let sessions = SessionCache::default();
        let client = peer.client(protocol, &sessions);
        for number in 0..4 {
            let (spoken, info, size) = page(&client, &peer.uri("")).await;
            assert_eq!((spoken, size), (version, PAGE.len()));
            assert_eq!(
                info,
                ConnectionInfo { reused: false, resumed: Some(number > 0) },
                "{protocol:?} {number}"
            );
            let (_, info, size) = page(&client, &peer.uri("large")).await;
            assert_eq!((info.reused, size), (true, LARGE));
            drained(&client).await;
        }
        assert_eq!((sessions.stats().full, sessions.stats().resumed), (1, 3));
    }
}

#[tokio::test]
async fn nginx_may_close_its_connections_whenever_it_likes() {
    let Some(program) = installed("nginx") else { return };
    // After three requests, and when idle for a second.
    let peer = Peer::nginx(&program, "ssl http2; keepalive_requests 3; keepalive_timeout 1s;").await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = peer.client(protocol, &SessionCache::default());
        let uri = peer.uri("");
        let all = join_all((0..8).map(|_| async {
            for _ in 0..25 {
                assert_eq!(page(&client, &uri).await.2, PAGE.len());
            }
        }));
        all.await;
        // The race for the last second: the request and the end cross, or one comes just before the other.
        for millis in [980, 995, 1000, 1005, 1020] {
            page(&client, &uri).await;
            tokio::time::sleep(Duration::from_millis(millis)).await;
        }
        page(&client, &uri).await;
        drained(&client).await;
    }
}

#[derive(Default)]
struct Goodbyes(AtomicU32);

impl Observer for Goodbyes {
    fn observe(&self, event: &Event) {
        if let Event::GoingAway { .. } = event {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test]
async fn nginx_says_goodbye_when_it_is_shut_down_and_what_is_open_comes_whole() {
    let Some(program) = installed("nginx") else { return };
    let mut peer = Peer::nginx(&program, "ssl http2;").await;
    let goodbyes = Arc::new(Goodbyes::default());
    let client = peer.client_with(Protocol::Http2, &SessionCache::default(), |config| {
        // Small, so that the page is held back half way.
        (config.h2_window, config.h2_window_max) = (65_535, 65_535);
        config.observer = Some(Arc::<Goodbyes>::clone(&goodbyes));
    });
    let response = client.get(&peer.uri("large")).await.expect("a response");
    let mut body = response.into_body();
    let first = body.chunk().await.expect("a piece").expect("not the end").len();
    peer.quit().await;
    let rest = tokio::time::timeout(PATIENCE, body.bytes(2 * LARGE)).await.expect("in time");
    assert_eq!(first + rest.expect("the rest").len(), LARGE);
    assert!(goodbyes.0.load(Ordering::SeqCst) >= 1, "it went without a word");
    drained(&client).await;
    peer.kill().await;
    peer.nginx_again(&program).await;
    assert_eq!(page(&client, &peer.uri("")).await.2, PAGE.len());
}

#[tokio::test]
async fn the_example_fetches_a_page_of_nginx_and_resumes() {
    let Some(program) = installed("nginx") else { return };
    let peer = Peer::nginx(&program, "ssl http2;").await;
    for (word, version) in [("--http1", "HTTP/1.1"), ("--http2", "HTTP/2.0")] {
        let mut fetch = Command::new(env!("CARGO"));
        fetch.args(["run", "--quiet", "--example", "fetch", "--", word, "--roots", &peer.path("cert.pem")]);
        let output = fetch.arg(peer.uri("")).output().await.expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let wanted = format!(
            "connection 1: {version} 200 OK (full TLS handshake)\n    {size} bytes\n\
             connection 2: {version} 200 OK (TLS session resumed)\n    {size} bytes\n\
             handshakes: 1 full, 1 resumed\n",
            size = PAGE.len()
        );
        assert_eq!(text, wanted, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test]
async fn nginx_takes_a_body_and_its_refusals_are_responses() {
    let Some(program) = installed("nginx") else { return };
    let peer = Peer::nginx(&program, "ssl http2; client_max_body_size 1k;").await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = peer.client(protocol, &SessionCache::default());
        let request = Request::post(peer.uri("")).body(Body::from(vec![b'x'; 500_000])).expect("a request");
        // It answers early, and closes: the response counts, if it is still readable.
        match client.request(request).await {
            Ok(response) => assert!(matches!(response.status().as_u16(), 405 | 413)),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::PeerClosed), "{error}"),
        }
        assert_eq!(client.get(&peer.uri("nothing")).await.expect("a response").status(), 404);
    }
}

#[tokio::test]
async fn nghttpd_s_limit_on_streams_is_kept() {
    let Some(program) = installed("nghttpd") else { return };
    let peer = Peer::nghttpd(&program, &["-m", "2"]).await;
    let client = peer.client(Protocol::Auto, &SessionCache::default());
    let uri = peer.uri("large");
    page(&client, &uri).await;
    // It resets what is too much, which would be told.
    let all = join_all((0..30).map(|_| page(&client, &uri))).await;
    assert!(all.iter().all(|(version, _, size)| (*version, *size) == (Version::HTTP_2, LARGE)));
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_is_found_again() {
    let Some(program) = installed("nghttpd") else { return };
    let mut peer = Peer::nghttpd(&program, &[]).await;
    let client = peer.client(Protocol::Auto, &SessionCache::default());
    for _ in 0..3 {
        page(&client, &peer.uri("")).await;
        peer.kill().await;
        let error = client.get(&peer.uri("")).await.expect_err("nobody is there");
        assert!(matches!(error.kind(), ErrorKind::Connect | ErrorKind::Io), "{error:?}");
        peer.nghttpd_again(&program, &[]).await;
    }
    page(&client, &peer.uri("")).await;
}

const PAGE: &str = "<p>hello</p>\n";
const LARGE: usize = 1_000_000;
