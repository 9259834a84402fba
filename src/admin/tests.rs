//! The admin port, asked over real sockets by peers of all manners.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::admin::{self, State};
use crate::config::keys::JwksProviders;
use crate::telemetry::{ConfigErrorCount, Metrics};

/// An admin port of its own, on a port that the system chose.
struct Port {
    address: std::net::SocketAddr,
    state: Arc<State>,
    metrics: Metrics,
    server: JoinHandle<std::convert::Infallible>,
}

impl Port {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Metrics::new("9.9.9");
        let state = Arc::new(State::new(metrics.clone(), JwksProviders::default()));
        let handle = tokio::runtime::Handle::current();
        let server = handle.spawn(admin::serve(listener, Arc::clone(&state)));
        Self { address, state, metrics, server }
    }

    /// Sends these octets and tells all that came back until the port closed the connection.
    async fn say(&self, octets: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        // A port that has answered already may close before it has read everything.
        let _ = socket.write_all(octets).await;
        heard(&mut socket).await
    }

    async fn get(&self, path: &str) -> String {
        self.say(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Everything until the end of the connection, which has to come.
async fn heard(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let end = timeout(Duration::from_secs(20), async {
        let mut some = [0; 4096];
        while let Ok(octets) = socket.read(&mut some).await {
            if octets == 0 {
                break;
            }
            all.extend_from_slice(&some[..octets]);
        }
    });
    end.await.expect("the connection was never closed");
    String::from_utf8(all).unwrap()
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn a_process_that_lives_is_healthy_before_it_is_ready() {
    let port = Port::open().await;
    let answer = port.get("/healthz").await;
    assert_eq!((status(&answer), body(&answer)), ("200", "ok\n"));
    let answer = port.get("/readyz").await;
    assert_eq!(status(&answer), "503");
    assert!(body(&answer).contains("the configuration is not loaded yet"), "{answer}");
}

#[tokio::test]
async fn readiness_follows_the_plan_and_the_drain() {
    let port = Port::open().await;
    port.metrics.control().reload_succeeded(1, SystemTime::now());
    port.state.set_ready();
    let answer = port.get("/readyz").await;
    assert_eq!((status(&answer), body(&answer)), ("200", "ready\n"));
    port.state.set_draining();
    let answer = port.get("/readyz").await;
    assert_eq!(status(&answer), "503");
    assert!(body(&answer).starts_with("draining"), "{answer}");
    assert_eq!(status(&port.get("/healthz").await), "200");
}

#[tokio::test]
async fn a_bad_edit_stays_ready_and_is_told() {
    let port = Port::open().await;
    port.metrics.control().reload_succeeded(1, SystemTime::now());
    port.state.set_ready();
    let ml = ConfigErrorCount { team: "ml".to_owned(), count: 3, effect: "its calls are refused" };
    port.metrics.control().set_config_errors(vec![ConfigErrorCount::main_file(2), ml]);
    let answer = port.get("/readyz").await;
    assert_eq!(status(&answer), "200");
    let expected = "ready\nconfig: errors in the main file: 2; no change of any file takes \
                    effect; the last valid configuration stays active\nconfig: errors in the file \
                    of team ml: 3; its calls are refused\nconfig: run sconce check to list all \
                    errors\n";
    assert_eq!(body(&answer), expected);
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let port = Port::open().await;
    let classic = port.get("/metrics").await;
    assert!(classic.contains("text/plain; version=0.0.4"), "{classic}");
    assert!(body(&classic).contains("sconce_build_info{version=\"9.9.9\"} 1\n"), "{classic}");
    assert!(body(&classic).contains("process_resident_memory_bytes "), "{classic}");
    let asked = "GET /metrics HTTP/1.1\r\nhost: a\r\naccept: application/openmetrics-text; \
                 version=1.0.0,text/plain;q=0.3\r\n\r\n";
    let open = port.say(asked.as_bytes()).await;
    assert!(open.contains("application/openmetrics-text"), "{open}");
    assert!(body(&open).ends_with("# EOF\n"), "{open}");
    let asked = "GET /metrics HTTP/1.1\r\nhost: a\r\naccept: \
                 application/openmetrics-text;q=0,text/plain\r\n\r\n";
    let classic = port.say(asked.as_bytes()).await;
    assert!(classic.contains("text/plain; version=0.0.4"), "{classic}");
    let asked = "GET /metrics HTTP/1.1\r\nhost: a\r\naccept: Application/OpenMetrics-Text\r\n\r\n";
    let open = port.say(asked.as_bytes()).await;
    assert!(body(&open).ends_with("# EOF\n"), "{open}");
}

#[tokio::test]
async fn only_reading_is_allowed_and_only_what_exists() {
    let port = Port::open().await;
    let answer = port.say(b"POST /readyz HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(status(&answer), "405");
    assert!(answer.to_lowercase().contains("allow: get, head"), "{answer}");
    for path in ["/nothing", "/metrics/", "/healthz/../metrics", "//healthz"] {
        assert_eq!(status(&port.get(path).await), "404", "{path}");
    }
    assert!(body(&port.get("/").await).contains("/metrics"));
}

#[tokio::test]
async fn head_tells_the_length_and_sends_no_body() {
    let port = Port::open().await;
    let answer = port.say(b"HEAD /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!((status(&answer), body(&answer)), ("200", ""));
    assert!(answer.to_lowercase().contains("content-length: 3"), "{answer}");
}

#[tokio::test]
async fn a_body_is_refused_unread() {
    let port = Port::open().await;
    let head = "GET /metrics HTTP/1.1\r\nhost: a\r\n";
    let long = port.say(format!("{head}content-length: 1000000000\r\n\r\n").as_bytes()).await;
    assert_eq!(status(&long), "413");
    let chunked = port.say(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).await;
    assert_eq!(status(&chunked), "413");
}

#[tokio::test]
async fn a_pipeline_gets_one_answer() {
    let port = Port::open().await;
    let answers = port.say(&b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n".repeat(50)).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
}

#[tokio::test]
async fn garbage_and_oversized_heads_are_turned_away() {
    let port = Port::open().await;
    assert_eq!(
        status(&port.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").await),
        "400"
    );
    let prior_knowledge = port.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!prior_knowledge.contains("200"), "{prior_knowledge}");
    let fat = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    assert_eq!(status(&port.say(fat.as_bytes()).await), "431");
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(1000));
    assert_eq!(status(&port.say(many.as_bytes()).await), "431");
    assert_eq!(status(&port.get("/healthz").await), "200");
}

#[tokio::test]
async fn a_head_that_dribbles_is_cut_off() {
    let port = Port::open().await;
    let mut socket = TcpStream::connect(port.address).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let (mut reader, mut writer) = socket.into_split();
    let dribble = async {
        while writer.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let end = async {
        let mut all = Vec::new();
        let _ = reader.read_to_end(&mut all).await;
        all
    };
    let cut = timeout(Duration::from_secs(15), async {
        tokio::select! { () = dribble => {}, said = end => assert!(!said.starts_with(b"HTTP/1.1 \
        200")) }
    });
    cut.await.expect("a head that never ends kept its connection");
}

#[tokio::test]
async fn silent_connections_block_nobody_for_long() {
    let port = Port::open().await;
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(TcpStream::connect(port.address).await.unwrap());
    }
    for socket in &mut silent {
        assert!(!heard(socket).await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(status(&port.get("/healthz").await), "200");
}
