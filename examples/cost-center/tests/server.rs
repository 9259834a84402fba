//! The binary of this crate as a server, between a real client and a real driver.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use h2::{client, server};
use http::{HeaderMap, Request, Response};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Output, Stdio},
};
use tokio::net::{TcpListener, TcpStream};

const SECTION: &str = "cost_center: { allowed: [cc-100] }\n";

/// A driver that answers each call with OK.
async fn driver() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let mut connection = server::handshake(socket).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let response = Response::builder()
                        .header("content-type", "application/grpc")
                        .header("grpc-status", "0");
                    let _ = respond.send_response(response.body(()).unwrap(), true);
                }
            });
        }
    });
    address
}

fn write_config(home: &Path, driver: SocketAddr, section: &str) {
    let main = format!(
        "listen: {{ address: '127.0.0.1:0' }}\nadmin: {{ address: '127.0.0.1:0' }}\nworkers: 1\n\
         teams: {{ directory: teams }}\nchain: [team, cost_center]\n{section}"
    );
    fs::write(home.join("sconce.yaml"), main).unwrap();
    fs::create_dir_all(home.join("teams")).unwrap();
    let team = format!("team: ads\nenvironments: {{ prod: {{ driver: '{driver}' }} }}\n");
    fs::write(home.join("teams/ads.yaml"), team).unwrap();
}

fn command(home: &Path, subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sconce-example-cost-center"));
    command.arg(subcommand).arg("--config").arg(home.join("sconce.yaml"));
    command
}

fn output(mut command: Command) -> (String, Option<i32>) {
    let Output { status, stdout, .. } = command.output().unwrap();
    (String::from_utf8(stdout).unwrap(), status.code())
}

struct Server {
    process: Child,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    fn start(home: &Path) -> Self {
        let mut process =
            command(home, "serve").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("\"listening\"") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server ended");
        }
        // The pipe stays open, and is read, so that the server never waits for it.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        let address = |key: &str| {
            let (_, rest) = line.split_once(&format!("\"{key}\":\"")).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        Self { address: address("address"), admin: address("admin"), process }
    }

    /// The head of the answer to a call with this cost center.
    async fn call(&self, cost_center: Option<&str>) -> HeaderMap {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let (mut client, connection) = client::handshake(socket).await.unwrap();
        tokio::task::spawn_local(connection);
        let mut request = Request::post("http://sconce/spark.connect.SparkConnectService/Config")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-sconce-team", "ads");
        if let Some(cost_center) = cost_center {
            request = request.header("x-cost-center", cost_center);
        }
        let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
        response.await.unwrap().into_parts().0.headers
    }

    fn metrics(&self) -> String {
        let mut socket = std::net::TcpStream::connect(self.admin).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        socket.read_to_string(&mut page).unwrap();
        page
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[test]
fn the_server_asks_a_filter_of_another_crate_about_each_call() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let home = tempfile::tempdir().unwrap();
        write_config(home.path(), driver().await, SECTION);
        let server = Server::start(home.path());
        let admitted = server.call(Some("cc-100")).await;
        assert_eq!(text(&admitted, "grpc-status"), "0");
        let refused = server.call(Some("cc-300")).await;
        assert_eq!(text(&refused, "grpc-status"), "7");
        let refused = server.call(None).await;
        assert_eq!(text(&refused, "grpc-status"), "3");
        let message = text(&refused, "grpc-message");
        assert!(message.contains("add ;x-cost-center=<cost center> to the sc:// URL"), "{message}");
        let metrics = server.metrics();
        for label in ["cost_center.missing", "cost_center.not_allowed"] {
            let line = format!("sconce_refusals_total{{label=\"{label}\"}} 1\n");
            assert!(metrics.contains(&line), "{label} is not in the metrics");
        }
    });
}

#[test]
fn check_reports_the_errors_of_its_section_by_file_and_line() {
    let home = tempfile::tempdir().unwrap();
    let driver = ([127, 0, 0, 1], 1).into();
    write_config(home.path(), driver, "cost_center:\n  header: X\n  allow: [cc-100]\n");
    let (printed, status) = output(command(home.path(), "check"));
    assert_eq!(status, Some(1));
    for expected in [
        "sconce.yaml:7: cost_center.header: is not a metadata key; ",
        "sconce.yaml:8: cost_center.allow: ",
        "sconce.yaml:7: cost_center.allowed: allows no call; ",
    ] {
        assert!(printed.contains(expected), "{expected}\n{printed}");
    }
    write_config(home.path(), driver, SECTION);
    let (printed, status) = output(command(home.path(), "check"));
    assert_eq!(
        (printed.trim(), status),
        ("ok: 1 team, 1 environment, chain team > cost_center", Some(0))
    );
}

#[test]
fn explain_shows_what_the_filter_decides() {
    let home = tempfile::tempdir().unwrap();
    write_config(home.path(), ([127, 0, 0, 1], 1).into(), SECTION);
    let mut explain = command(home.path(), "explain");
    explain.arg("sc://localhost/;x-sconce-team=ads;x-cost-center=cc-100");
    let (printed, status) = output(explain);
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("cost_center  admits: cost center 'cc-100'"), "{printed}");
}
