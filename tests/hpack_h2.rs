//! Our HPACK between `h2`'s own two codecs.
//!
//! An `h2` client and an `h2` server talk through a relay in memory, which decodes every header
//! block with our decoder and writes it anew with our encoder. What either side gets must be what
//! the other one sent, whatever the tables' sizes do meanwhile.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use proptest::prelude::*;
use sconce::wire::hpack::{Decoder, Encoder, Fields, Indexing, Limits};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split,
};
use tokio::sync::Mutex as AsyncMutex;

const LIMITS: Limits = Limits { octets: 1 << 20, count: 4_096 };
const TABLE_MAX: u32 = 65_536;
const FRAME_MAX: usize = 16_384;
const PREFACE: usize = 24;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[derive(Clone, Debug)]
struct Header {
    name: String,
    value: Vec<u8>,
    sensitive: bool,
}

/// One call, and what changes before it.
#[derive(Clone, Debug)]
struct Turn {
    request: Vec<Header>,
    response: Vec<Header>,
    trailers: Vec<Header>,
    /// A table size that the relay tells the client by SETTINGS.
    client_table: Option<u32>,
    /// A size that the relay's encoders go down (or up again) to.
    own_table: Option<u32>,
}

fn header() -> impl Strategy<Value = Header> {
    let known = prop::sample::select(vec![
        "accept",
        "user-agent",
        "content-type",
        "grpc-encoding",
        "grpc-timeout",
        "authorization",
        "cookie",
        "te-x",
        "x-a",
        "x-b",
        "date",
    ]);
    let name = prop_oneof![4 => known.prop_map(String::from), 1 => "x-[a-z0-9-]{1,30}"];
    let value = prop_oneof![
        4 => prop::sample::select(vec!["", "trailers", "application/grpc", "gzip, deflate"])
            .prop_map(|text| text.as_bytes().to_vec()),
        4 => "[ -~]{0,40}".prop_map(String::into_bytes),
        1 => "[ -~]{200,1500}".prop_map(String::into_bytes),
        1 => "[a-zA-Z0-9_-]{2900,5000}".prop_map(String::into_bytes),
        1 => prop::collection::vec(0x80_u8.., 0..60),
    ];
    (name, value, prop::bool::weighted(0.1)).prop_map(|(name, value, sensitive)| Header {
        name,
        value,
        sensitive,
    })
}

fn turn() -> impl Strategy<Value = Turn> {
    let headers = || prop::collection::vec(header(), 0..12);
    let sizes = || {
        let size = prop::sample::select(vec![0, 64, 100, 512, 4_096, TABLE_MAX]);
        prop::option::weighted(0.3, size)
    };
    (headers(), headers(), headers(), sizes(), sizes()).prop_map(
        |(request, response, trailers, client_table, own_table)| Turn {
            request,
            response,
            trailers,
            client_table,
            own_table,
        },
    )
}

fn map(headers: &[Header]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for header in headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).unwrap();
        let mut value = HeaderValue::from_bytes(&header.value).unwrap();
        value.set_sensitive(header.sensitive);
        map.append(name, value);
    }
    map
}

/// What arrives, and in an order of its own: that among different names is not `h2`'s to keep.
fn listed(map: &HeaderMap) -> Vec<(&str, &[u8])> {
    let mut list: Vec<_> =
        map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    list.sort_unstable();
    list
}

/// One direction of the relay.
struct Direction {
    decoder: Decoder,
    encoder: Encoder,
    /// Reads again what the encoder wrote: `h2` does not tell which fields were never-indexed.
    proof: Decoder,
    /// What the receiver allows our encoder.
    peer_max: u32,
    blocks: usize,
    never: usize,
}

impl Direction {
    fn new() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            decoder: Decoder::new(TABLE_MAX),
            encoder: Encoder::new(),
            proof: Decoder::new(4_096),
            peer_max: 4_096,
            blocks: 0,
            never: 0,
        }))
    }

    fn allow(&mut self, peer_max: u32) {
        self.peer_max = peer_max;
        self.encoder.limit_table(peer_max);
    }

    fn relay(&mut self, block: &[u8], own_table: Option<u32>) -> Vec<u8> {
        let mut fields = Fields::default();
        self.decoder.decode(block, LIMITS, &mut fields).expect("h2 writes sound blocks");
        assert_eq!(fields.overflow(), None);
        self.blocks += 1;
        if let Some(size) = own_table {
            self.encoder.limit_table(size.min(self.peer_max));
        }
        let mut out = Vec::new();
        self.encoder.encode(fields.iter(), &mut out);
        let mut written = Fields::default();
        self.proof.decode(&out, LIMITS, &mut written).expect("ours are sound too");
        for (field, written) in fields.iter().zip(written.iter()) {
            assert_eq!(field.name, written.name);
            let credential = field.name == b"authorization";
            if field.indexing == Indexing::Never || credential {
                assert_eq!(written.indexing, Indexing::Never);
                self.never += 1;
            }
        }
        out
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: [u8; 4],
    payload: Vec<u8>,
}

async fn read_frame(io: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    io.read_exact(&mut payload).await.ok()?;
    let stream = [head[5], head[6], head[7], head[8]];
    Some(Frame { kind: head[3], flags: head[4], stream, payload })
}

fn frame(kind: u8, flags: u8, stream: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream, payload].concat()
}

/// A block as HEADERS and as many CONTINUATION as it takes.
fn headers(stream: [u8; 4], end_stream: u8, block: &[u8]) -> Vec<u8> {
    let (first, mut rest) = block.split_at(block.len().min(FRAME_MAX));
    let ends = |rest: &[u8]| if rest.is_empty() { END_HEADERS } else { 0 };
    let mut out = frame(HEADERS, ends(rest) | end_stream, stream, first);
    while !rest.is_empty() {
        let (chunk, tail) = rest.split_at(rest.len().min(FRAME_MAX));
        rest = tail;
        out.extend(frame(CONTINUATION, ends(rest), stream, chunk));
    }
    out
}

type Writer = Arc<AsyncMutex<WriteHalf<DuplexStream>>>;

async fn write(to: &Writer, octets: &[u8]) -> bool {
    to.lock().await.write_all(octets).await.is_ok()
}

/// Relays frames until the sender is done. All but header blocks goes on as it came.
async fn pump(
    mut from: ReadHalf<DuplexStream>,
    to: Writer,
    (this, other): (Arc<Mutex<Direction>>, Arc<Mutex<Direction>>),
    (back, turns): (Writer, Vec<Turn>),
) {
    let (mut acks, mut sent) = (0, 0);
    while let Some(mut head) = read_frame(&mut from).await {
        let out = match head.kind {
            SETTINGS if head.flags & ACK != 0 => {
                acks += 1;
                if acks > 1 {
                    continue; // The answer to SETTINGS of the relay's own.
                }
                frame(head.kind, head.flags, head.stream, &head.payload)
            }
            SETTINGS => {
                for setting in head.payload.chunks_exact(6).filter(|setting| setting[..2] == [0, 1])
                {
                    let size = u32::from_be_bytes(setting[2..].try_into().unwrap());
                    other.lock().unwrap().allow(size);
                }
                frame(head.kind, head.flags, head.stream, &head.payload)
            }
            HEADERS => {
                assert_eq!(
                    head.flags & !(END_STREAM | END_HEADERS),
                    0,
                    "h2 neither pads nor ranks"
                );
                let mut last = head.flags;
                while last & END_HEADERS == 0 {
                    let more = read_frame(&mut from).await.unwrap();
                    assert_eq!(more.kind, CONTINUATION);
                    last = more.flags;
                    head.payload.extend(more.payload);
                }
                let turn = turns.get(sent);
                sent += 1;
                if let Some(size) = turn.and_then(|turn| turn.client_table) {
                    let payload = [&[0, 1][..], &size.to_be_bytes()].concat();
                    write(&back, &frame(SETTINGS, 0, [0; 4], &payload)).await;
                }
                let own_table = turn.and_then(|turn| turn.own_table);
                let block = this.lock().unwrap().relay(&head.payload, own_table);
                headers(head.stream, head.flags & END_STREAM, &block)
            }
            _ => frame(head.kind, head.flags, head.stream, &head.payload),
        };
        if !write(&to, &out).await {
            return;
        }
    }
}

async fn serve(io: impl AsyncRead + AsyncWrite + Unpin, turns: Vec<Turn>, table: u32) {
    let mut connection = h2::server::Builder::new()
        .header_table_size(table)
        .handshake::<_, Bytes>(io)
        .await
        .unwrap();
    for turn in turns {
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        assert_eq!(request.uri().path(), "/spark.connect.SparkConnectService/Config");
        assert_eq!(listed(request.headers()), listed(&map(&turn.request)));
        let mut response = Response::new(());
        *response.headers_mut() = map(&turn.response);
        let mut body = respond.send_response(response, false).unwrap();
        body.send_trailers(map(&turn.trailers)).unwrap();
    }
    while connection.accept().await.is_some() {}
}

async fn call(io: impl AsyncRead + AsyncWrite + Unpin, turns: Vec<Turn>) {
    let (mut sender, connection) = h2::client::handshake(io).await.unwrap();
    let talk = async move {
        for turn in turns {
            sender = sender.ready().await.unwrap();
            let uri = "http://driver:15002/spark.connect.SparkConnectService/Config";
            let mut request = Request::post(uri).body(()).unwrap();
            *request.headers_mut() = map(&turn.request);
            let (response, _) = sender.send_request(request, true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(listed(response.headers()), listed(&map(&turn.response)));
            let trailers = response.into_body().trailers().await.unwrap().unwrap_or_default();
            assert_eq!(listed(&trailers), listed(&map(&turn.trailers)));
        }
    };
    let (ended, ()) = tokio::join!(connection, talk);
    ended.unwrap();
}

/// Lets both `h2` sides talk, and tells what went through each direction.
async fn exchange(
    turns: Vec<Turn>,
    server_table: u32,
) -> (Arc<Mutex<Direction>>, Arc<Mutex<Direction>>) {
    let (client, near) = tokio::io::duplex(1 << 16);
    let (far, server) = tokio::io::duplex(1 << 16);
    let (mut from_client, to_client) = split(near);
    let (from_server, to_server) = split(far);
    let (to_client, to_server) =
        (Arc::new(AsyncMutex::new(to_client)), Arc::new(AsyncMutex::new(to_server)));
    let (up, down) = (Direction::new(), Direction::new());
    let upward = async {
        let mut preface = [0; PREFACE];
        from_client.read_exact(&mut preface).await.unwrap();
        write(&to_server, &preface).await;
        let ways = (Arc::clone(&up), Arc::clone(&down));
        let turns = (Arc::clone(&to_client), turns.clone());
        pump(from_client, Arc::clone(&to_server), ways, turns).await;
        to_server.lock().await.shutdown().await.unwrap();
    };
    let downward = async {
        let ways = (Arc::clone(&down), Arc::clone(&up));
        pump(from_server, Arc::clone(&to_client), ways, (Arc::clone(&to_server), Vec::new())).await;
    };
    tokio::join!(
        upward,
        downward,
        call(client, turns.clone()),
        serve(server, turns.clone(), server_table)
    );
    (up, down)
}

fn run(turns: Vec<Turn>, server_table: u32) -> (Arc<Mutex<Direction>>, Arc<Mutex<Direction>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limit = std::time::Duration::from_secs(60);
    runtime
        .block_on(async { tokio::time::timeout(limit, exchange(turns, server_table)).await })
        .expect("the exchange ends")
}

#[test]
fn every_block_of_h2_comes_through() {
    let header = |name: &str, value: &str, sensitive| Header {
        name: name.into(),
        value: value.into(),
        sensitive,
    };
    let turn = Turn {
        request: vec![
            header("user-agent", "grpc-python/1.71.0 grpc-c/46.0.0 (linux; chttp2)", false),
            header("x-secret", "hush", true),
        ],
        response: vec![header("content-type", "application/grpc", false)],
        trailers: vec![header("grpc-status", "0", false)],
        client_table: None,
        own_table: None,
    };
    let (up, down) = run(vec![turn.clone(), turn.clone(), turn], 4_096);
    let (up, down) = (up.lock().unwrap(), down.lock().unwrap());
    assert_eq!((up.blocks, down.blocks), (3, 6));
    assert_eq!((up.never, down.never), (3, 0), "never-indexed stays so");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_lists_come_through_whatever_the_tables_do(
        turns in prop::collection::vec(turn(), 1..8),
        server_table in prop::sample::select(vec![0, 64, 256, 4_096, TABLE_MAX]),
    ) {
        let blocks = turns.len();
        let (up, down) = run(turns, server_table);
        prop_assert_eq!(up.lock().unwrap().blocks, blocks);
        prop_assert_eq!(down.lock().unwrap().blocks, 2 * blocks);
    }
}
