use std::time::{Duration, Instant};

use super::*;
use crate::wire::frame::{FrameHeader, PREFACE};
use crate::wire::hpack::Indexing;
use crate::wire::settings::WINDOW_MAX;

const LIMITS: Limits = Limits { octets: 16_384, count: 128 };
pub(super) const POST: &[(&str, &str)] =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/s/m"), (":authority", "h")];

pub(super) fn local_config() -> LocalConfig {
    let settings = Settings { max_concurrent_streams: 8, ..Settings::INITIAL };
    LocalConfig { settings, window: 1 << 20, headers: LIMITS }
}

/// A scripted peer.
pub(super) struct Peer {
    pub(super) octets: Vec<u8>,
    pub(super) encoder: Encoder,
}

impl Peer {
    pub(super) fn client() -> Self {
        let mut peer = Self::server();
        peer.octets.splice(0..0, PREFACE.iter().copied());
        peer
    }

    pub(super) fn server() -> Self {
        let peer = Self { octets: Vec::new(), encoder: Encoder::new() };
        peer.frame(Kind::Settings, Flags::NONE, 0, &[])
    }

    pub(super) fn frame(mut self, kind: Kind, flags: Flags, stream: u32, payload: &[u8]) -> Self {
        let length = payload.len().try_into().unwrap();
        let head = FrameHeader { length, kind, flags, stream: StreamId::new(stream) };
        self.octets.extend(head.octets());
        self.octets.extend(payload);
        self
    }

    fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut list = Fields::default();
        for (name, value) in fields {
            list.push(name.as_bytes(), value.as_bytes(), Indexing::Incremental);
        }
        let mut block = Vec::new();
        self.encoder.encode(list.iter(), &mut block);
        block
    }

    pub(super) fn headers(mut self, stream: u32, fields: &[(&str, &str)], end: bool) -> Self {
        let block = self.block(fields);
        let flags = Flags::END_HEADERS.with(Flags::END_STREAM, end);
        self.frame(Kind::Headers, flags, stream, &block)
    }

    pub(super) fn data(self, stream: u32, octets: &[u8], end: bool) -> Self {
        self.frame(Kind::Data, Flags::NONE.with(Flags::END_STREAM, end), stream, octets)
    }

    pub(super) fn reset(self, stream: u32) -> Self {
        self.frame(Kind::Reset, Flags::NONE, stream, &8_u32.to_be_bytes())
    }

    fn credit(self, stream: u32, octets: u32) -> Self {
        self.frame(Kind::WindowUpdate, Flags::NONE, stream, &octets.to_be_bytes())
    }
}

/// The events of a connection for some octets. Consecutive DATA of one stream is joined.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are formatted alike")]
pub(super) fn feed(
    connection: &mut Connection,
    octets: &[u8],
    piece: usize,
    now: Instant,
) -> Result<Vec<String>, ConnectionError> {
    let mut events: Vec<String> = Vec::new();
    for piece in octets.chunks(piece.max(1)) {
        let mut at = 0;
        loop {
            let (taken, event) = connection.receive(&piece[at..], now)?;
            let from = at;
            at += taken;
            match event {
                Event::NeedMoreData => break,
                Event::Request { stream, end } => {
                    connection.set_tag(stream, stream.number());
                    events.push(format!("opened {} {end}", stream.number()));
                }
                Event::Data { tag, octets, end } => {
                    let octets = &piece[from + octets.start..from + octets.end];
                    let prefix = format!("data {tag} ");
                    match events.last_mut().filter(|last| last.starts_with(&prefix)) {
                        Some(last) => last.push_str(&format!("{octets:?}")),
                        None => events.push(format!("{prefix}{octets:?}")),
                    }
                    if let Some(last) = events.last_mut() {
                        *last = last.replace("][", ", ").replace("[, ", "[").replace(", ]", "]");
                        if end {
                            last.push_str(" end");
                        }
                    }
                }
                Event::MalformedRequest { stream, error } => {
                    connection.reject_request(stream);
                    events.push(format!("malformed {} {:?}", stream.number(), error.rule));
                }
                event => events.push(format!("{event:?}")),
            }
        }
        assert_eq!(at, piece.len(), "NeedMoreData means that all octets are consumed");
    }
    Ok(events)
}

fn serve(peer: Peer) -> Result<Vec<String>, ConnectionError> {
    let now = Instant::now();
    feed(&mut Connection::new(Role::Server, local_config(), now), &peer.octets, usize::MAX, now)
}

fn code(peer: Peer) -> ErrorCode {
    serve(peer).expect_err("no connection error").code
}

/// The RST_STREAMs that some octets provoke.
fn resets(peer: Peer) -> Vec<(u32, ErrorCode)> {
    let now = Instant::now();
    let mut connection = Connection::new(Role::Server, local_config(), now);
    feed(&mut connection, &peer.octets, usize::MAX, now).unwrap();
    frames(&connection)
        .into_iter()
        .filter(|(head, _)| head.kind == Kind::Reset)
        .map(|(head, payload)| {
            let code = u32::from_be_bytes(payload.try_into().unwrap());
            (head.stream.number(), ErrorCode::from_number(code))
        })
        .collect()
}

pub(super) fn frames(connection: &Connection) -> Vec<(FrameHeader, Vec<u8>)> {
    let octets = connection.write_buffer.to_vec(&[]);
    let mut rest = &octets[..];
    let mut frames = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk::<9>() {
        let head = FrameHeader::parse(*head);
        let (payload, behind) = behind.split_at(head.length as usize);
        frames.push((head, payload.to_vec()));
        rest = behind;
    }
    frames
}

#[test]
fn a_request_with_body_and_trailers_is_read() {
    let peer = Peer::client().headers(1, POST, false).data(1, b"abc", false).headers(
        1,
        &[("x", "y")],
        true,
    );
    let events = serve(peer).unwrap();
    assert_eq!(
        events,
        ["Settings", "opened 1 false", "data 1 [97, 98, 99]", "Trailers { tag: 1 }"]
    );
}

#[test]
fn padding_is_removed_and_its_window_released() {
    let now = Instant::now();
    let mut connection = Connection::new(Role::Server, local_config(), now);
    let peer = Peer::client().headers(1, POST, false);
    let peer = peer.frame(Kind::Data, Flags::PADDED, 1, &[3, b'a', b'b', 0, 0, 0]);
    let events = feed(&mut connection, &peer.octets, 1, now).unwrap();
    assert_eq!(events.last().unwrap(), "data 1 [97, 98]");
    assert_eq!(
        connection.recv_window(StreamId::new(1)),
        i64::from(DEFAULT_INITIAL_WINDOW_SIZE) - 2
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table, one claim")]
fn each_connection_error_has_the_code_of_the_rfc() {
    let open = || Peer::client().headers(1, POST, false);
    let bare = Flags::NONE;
    let block = Peer::client().block(POST);
    let cases: Vec<(&str, Peer, ErrorCode)> = vec![
        (
            "first not SETTINGS",
            Peer { octets: PREFACE.to_vec(), encoder: Encoder::new() }.frame(
                Kind::Ping,
                bare,
                0,
                &[0; 8],
            ),
            ErrorCode::ProtocolError,
        ),
        ("DATA on 0", open().data(0, b"x", false), ErrorCode::ProtocolError),
        ("DATA on idle", open().data(3, b"x", false), ErrorCode::ProtocolError),
        ("HEADERS on 0", open().headers(0, POST, true), ErrorCode::ProtocolError),
        ("HEADERS on even", open().headers(2, POST, true), ErrorCode::ProtocolError),
        (
            "HEADERS on lower",
            Peer::client().headers(5, POST, false).headers(3, POST, true),
            ErrorCode::ProtocolError,
        ),
        ("SETTINGS on 1", open().frame(Kind::Settings, bare, 1, &[]), ErrorCode::ProtocolError),
        (
            "SETTINGS of 5",
            open().frame(Kind::Settings, bare, 0, &[0; 5]),
            ErrorCode::FrameSizeError,
        ),
        (
            "SETTINGS ACK of 6",
            open().frame(Kind::Settings, Flags::ACK, 0, &[0; 6]),
            ErrorCode::FrameSizeError,
        ),
        ("PING of 7", open().frame(Kind::Ping, bare, 0, &[0; 7]), ErrorCode::FrameSizeError),
        ("PING on 1", open().frame(Kind::Ping, bare, 1, &[0; 8]), ErrorCode::ProtocolError),
        ("GOAWAY on 1", open().frame(Kind::GoAway, bare, 1, &[0; 8]), ErrorCode::ProtocolError),
        ("GOAWAY of 7", open().frame(Kind::GoAway, bare, 0, &[0; 7]), ErrorCode::FrameSizeError),
        ("RST of 3", open().frame(Kind::Reset, bare, 1, &[0; 3]), ErrorCode::FrameSizeError),
        ("RST on idle", open().reset(3), ErrorCode::ProtocolError),
        ("RST on 0", open().reset(0), ErrorCode::ProtocolError),
        (
            "WINDOW_UPDATE of 3",
            open().frame(Kind::WindowUpdate, bare, 1, &[0; 3]),
            ErrorCode::FrameSizeError,
        ),
        ("WINDOW_UPDATE 0", open().credit(0, 0), ErrorCode::ProtocolError),
        ("WINDOW_UPDATE on idle", open().credit(3, 1), ErrorCode::ProtocolError),
        ("WINDOW_UPDATE overflow", open().credit(0, WINDOW_MAX), ErrorCode::FlowControlError),
        (
            "PUSH_PROMISE",
            open().frame(Kind::PushPromise, Flags::END_HEADERS, 1, &[0; 4]),
            ErrorCode::ProtocolError,
        ),
        (
            "CONTINUATION without a header block",
            open().frame(Kind::Continuation, bare, 1, &[]),
            ErrorCode::ProtocolError,
        ),
        (
            "interrupted block",
            Peer::client().frame(Kind::Headers, bare, 1, &block).frame(
                Kind::Ping,
                bare,
                0,
                &[0; 8],
            ),
            ErrorCode::ProtocolError,
        ),
        (
            "CONTINUATION elsewhere",
            Peer::client().frame(Kind::Headers, bare, 1, &block).frame(
                Kind::Continuation,
                Flags::END_HEADERS,
                3,
                &[],
            ),
            ErrorCode::ProtocolError,
        ),
        (
            "bad HPACK",
            Peer::client().frame(Kind::Headers, Flags::END_HEADERS, 1, &[0x80]),
            ErrorCode::CompressionError,
        ),
        (
            "padding too long",
            open().frame(Kind::Data, Flags::PADDED, 1, &[9, 0]),
            ErrorCode::ProtocolError,
        ),
        ("DATA too large", open().data(1, &[0; 16_385], false), ErrorCode::FrameSizeError),
        ("PRIORITY on 0", open().frame(Kind::Priority, bare, 0, &[0; 5]), ErrorCode::ProtocolError),
        (
            "PRIORITY of 4 on idle",
            open().frame(Kind::Priority, bare, 3, &[0; 4]),
            ErrorCode::FrameSizeError,
        ),
        (
            "window setting",
            open().frame(Kind::Settings, bare, 0, &[0, 4, 0x80, 0, 0, 0]),
            ErrorCode::FlowControlError,
        ),
        (
            "PING of 9 after a reset",
            Peer::client().headers(1, POST, true).reset(1).frame(Kind::Ping, bare, 0, &[0; 9]),
            ErrorCode::FrameSizeError,
        ),
    ];
    for (name, peer, wanted) in cases {
        assert_eq!(code(peer), wanted, "{name}");
    }
}

#[test]
fn a_stream_error_resets_the_stream_and_not_the_connection() {
    let open = || Peer::client().headers(1, POST, false);
    let cases: Vec<(&str, Peer, ErrorCode)> = vec![
        (
            "DATA after END",
            open().data(1, b"x", true).data(1, b"x", false),
            ErrorCode::StreamClosed,
        ),
        (
            "HEADERS after END",
            open().data(1, b"x", true).headers(1, &[("x", "y")], true),
            ErrorCode::StreamClosed,
        ),
        ("trailers without END", open().headers(1, &[("x", "y")], false), ErrorCode::ProtocolError),
        ("DATA after RST", open().reset(1).data(1, b"x", false), ErrorCode::StreamClosed),
        ("WINDOW_UPDATE 0", open().credit(1, 0), ErrorCode::ProtocolError),
        ("WINDOW_UPDATE overflow", open().credit(1, WINDOW_MAX), ErrorCode::FlowControlError),
        (
            "PRIORITY of 4",
            open().frame(Kind::Priority, Flags::NONE, 1, &[0; 4]),
            ErrorCode::FrameSizeError,
        ),
        (
            "PRIORITY on itself",
            open().frame(Kind::Priority, Flags::NONE, 1, &[0, 0, 0, 1, 0]),
            ErrorCode::ProtocolError,
        ),
        (
            "upper case",
            Peer::client().headers(1, &[POST, &[("X", "y")]].concat(), true),
            ErrorCode::ProtocolError,
        ),
        (
            "body too long",
            Peer::client()
                .headers(1, &[POST, &[("content-length", "2")]].concat(), false)
                .data(1, b"abc", true),
            ErrorCode::ProtocolError,
        ),
        (
            "body too short",
            Peer::client()
                .headers(1, &[POST, &[("content-length", "2")]].concat(), false)
                .data(1, b"a", true),
            ErrorCode::ProtocolError,
        ),
        (
            "no body",
            Peer::client().headers(1, &[POST, &[("content-length", "2")]].concat(), true),
            ErrorCode::ProtocolError,
        ),
    ];
    for (name, peer, wanted) in cases {
        let peer = peer.frame(Kind::Ping, Flags::NONE, 0, &[7; 8]);
        assert_eq!(resets(peer), [(1, wanted)], "{name}");
    }
}

#[test]
fn data_beyond_the_stream_window_resets_the_stream() {
    let mut peer = Peer::client().headers(1, POST, false);
    for _ in 0..4 {
        peer = peer.data(1, &[0; 16_384], false);
    }
    assert_eq!(resets(peer), [(1, ErrorCode::FlowControlError)]);
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    let mut peer = Peer::client();
    for stream in 0..9 {
        peer = peer.headers(2 * stream + 1, POST, true);
    }
    assert_eq!(resets(peer), [(17, ErrorCode::RefusedStream)]);
}

#[test]
fn every_flood_exhausts_its_own_budget() {
    let repeat = |times: u32, step: &dyn Fn(Peer, u32) -> Peer| {
        let mut peer = Peer::client();
        for index in 0..times {
            peer = step(peer, index);
        }
        serve(peer).expect_err("no connection error").budget
    };
    let none = Flags::NONE;
    let ping = repeat(2_000, &|peer, _| peer.frame(Kind::Ping, none, 0, &[0; 8]));
    assert_eq!(ping, Some(Budget::Pings));
    let settings = repeat(400, &|peer, _| peer.frame(Kind::Settings, none, 0, &[]));
    assert_eq!(settings, Some(Budget::Settings));
    let rapid = repeat(1_000, &|peer, i| peer.headers(2 * i + 1, POST, false).reset(2 * i + 1));
    assert_eq!(rapid, Some(Budget::Resets));
    let provoked =
        repeat(1_000, &|peer, i| peer.headers(2 * i + 1, POST, false).credit(2 * i + 1, 0));
    assert_eq!(provoked, Some(Budget::ProvokedResets));
    let priority = repeat(2_000, &|peer, _| peer.frame(Kind::Priority, none, 1, &[0, 0, 0, 3, 0]));
    assert_eq!(priority, Some(Budget::Priorities));
    let updates = repeat(8_000, &|peer, _| peer.credit(0, 1));
    assert_eq!(updates, Some(Budget::WindowUpdates));
    let empty = repeat(2_000, &|peer, i| {
        if i == 0 { peer.headers(1, POST, false) } else { peer.data(1, b"", false) }
    });
    assert_eq!(empty, Some(Budget::EmptyData));
    let continuations = repeat(100, &|peer, i| {
        let kind = if i == 0 { Kind::Headers } else { Kind::Continuation };
        peer.frame(kind, none, 1, &[])
    });
    assert_eq!(continuations, Some(Budget::Continuations));
}

#[test]
fn ten_times_the_rate_of_a_normal_client_never_exhausts_a_budget() {
    let mut now = Instant::now();
    let mut connection = Connection::new(Role::Server, local_config(), now);
    let mut stream = 1;
    let hello = Peer::client();
    feed(&mut connection, &hello.octets, usize::MAX, now).unwrap();
    let mut encoder = hello.encoder;
    for _ in 0..5_000 {
        let peer = Peer { octets: Vec::new(), encoder }
            .headers(stream, POST, false)
            .data(stream, b"small", true)
            .credit(0, 5)
            .frame(Kind::Ping, Flags::NONE, 0, &[0; 8]);
        let events = feed(&mut connection, &peer.octets, usize::MAX, now).unwrap();
        assert_eq!(events[0], format!("opened {stream} false"));
        encoder = peer.encoder;
        let id = StreamId::new(stream);
        connection.send_data(id, b"response", false);
        connection.send_headers(id, std::iter::empty(), true);
        let waiting = connection.write_buffer.len();
        connection.write_buffer.advance(waiting);
        stream += 2;
        now += Duration::from_millis(5);
    }
    assert_eq!(connection.open_streams(), 0);
}

#[test]
fn the_last_stream_id_of_goaway_never_increases() {
    let now = Instant::now();
    let mut connection = Connection::new(Role::Server, local_config(), now);
    connection.send_goaway(true);
    let peer = Peer::client().headers(1, POST, true);
    feed(&mut connection, &peer.octets, usize::MAX, now).unwrap();
    connection.send_goaway(false);
    let late = Peer { octets: Vec::new(), encoder: peer.encoder }.headers(5, POST, true);
    feed(&mut connection, &late.octets, usize::MAX, now).unwrap();
    connection.send_goaway(false);
    connection.fail(ConnectionError::new(ErrorCode::ProtocolError, "odd"));
    let last: Vec<u32> = frames(&connection)
        .iter()
        .filter(|(head, _)| head.kind == Kind::GoAway)
        .map(|(_, payload)| u32::from_be_bytes(payload[..4].try_into().unwrap()))
        .collect();
    assert_eq!(last, [StreamId::MAX.number(), 1, 1, 1]);
}

#[test]
fn a_reduced_send_window_can_be_negative_and_recovers() {
    let now = Instant::now();
    let mut connection = Connection::new(Role::Server, local_config(), now);
    let peer = Peer::client().headers(1, POST, true);
    feed(&mut connection, &peer.octets, usize::MAX, now).unwrap();
    let id = StreamId::new(1);
    connection.send_data(id, &[0; 60_000], false);
    let shrink = Peer { octets: Vec::new(), encoder: Encoder::new() }.frame(
        Kind::Settings,
        Flags::NONE,
        0,
        &[0, 4, 0, 0, 0, 100],
    );
    feed(&mut connection, &shrink.octets, 1, now).unwrap();
    assert_eq!(connection.stream_send_window(id), 100 - 60_000);
    assert_eq!(connection.send_capacity(id), 0);
    let grow = Peer { octets: Vec::new(), encoder: Encoder::new() }.credit(1, 59_950);
    feed(&mut connection, &grow.octets, 1, now).unwrap();
    assert_eq!(connection.send_capacity(id), 50);
}

#[test]
fn a_table_size_of_zero_and_back_in_one_frame_clears_the_encoder_table() {
    let now = Instant::now();
    let mut connection = Connection::new(Role::Server, local_config(), now);
    feed(&mut connection, &Peer::client().octets, 1_000, now).unwrap();
    let mut list = Fields::default();
    list.push(b"x", b"y", Indexing::Incremental);
    let encode = |connection: &mut Connection| {
        let mut block = Vec::new();
        connection.encode(list.iter(), &mut block);
        block
    };
    encode(&mut connection);
    assert_eq!(encode(&mut connection), [0xbe]);
    let sizes = [[0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0x10, 0]].concat();
    let peer = Peer { octets: Vec::new(), ..Peer::client() };
    let peer = peer.frame(Kind::Settings, Flags::NONE, 0, &sizes);
    feed(&mut connection, &peer.octets, 1_000, now).unwrap();
    assert_eq!(encode(&mut connection), [0x20, 0x3f, 0xe1, 0x1f, 0x40, 1, b'x', 1, b'y']);
}

#[test]
fn the_client_role_reads_responses_and_rejects_malformed_ones() {
    let now = Instant::now();
    let response_events = |peer: Peer| {
        let mut connection = Connection::new(Role::Client, local_config(), now);
        let mut list = Fields::default();
        for (name, value) in POST {
            list.push(name.as_bytes(), value.as_bytes(), Indexing::Incremental);
        }
        let mut block = Vec::new();
        connection.encode(list.iter(), &mut block);
        connection.open_stream(7, &block, true);
        feed(&mut connection, &peer.octets, 3, now)
    };
    let good = Peer::server()
        .headers(1, &[(":status", "103")], false)
        .headers(1, &[(":status", "200")], false)
        .data(1, b"a", false)
        .headers(1, &[("grpc-status", "0")], true);
    let events = response_events(good).unwrap();
    assert_eq!(
        events[1..],
        [
            "Informational { tag: 7 }",
            "Response { tag: 7, status: 200, end: false }",
            "data 7 [97]",
            "Trailers { tag: 7 }",
        ]
    );
    for (bad, what) in [
        (Peer::server().data(1, b"a", false), "DATA before HEADERS"),
        (Peer::server().headers(1, &[("x", "y")], false), "PseudoMissing"),
        (
            Peer::server().headers(1, &[(":status", "101")], false),
            "invalid or too many informational responses",
        ),
    ] {
        let events = response_events(bad).unwrap();
        assert!(events[1].contains("{ tag: 7, error") && events[1].contains(what), "{events:?}");
    }
    assert!(response_events(Peer::server().headers(2, &[(":status", "200")], false)).is_err());
}

proptest::proptest! {
    #[test]
    fn any_split_of_the_input_gives_the_same_events(
        steps in proptest::collection::vec((0_u8..9, 0_usize..3_000), 1..30),
        piece in 1_usize..200,
    ) {
        let mut peer = Peer::client();
        for (stream, (step, size)) in (0_u32..).zip(steps) {
            let id = 2 * (stream / 3) + 1;
            peer = match step {
                0..=2 => peer.headers(2 * stream + 101, POST, step == 2),
                3 => peer.data(2 * stream + 99, &vec![5; size], false),
                4 => peer.frame(Kind::Data, Flags::PADDED, 2 * stream + 99, &[2, 1, 0, 0]),
                5 => peer.frame(Kind::Unknown, Flags::NONE, id, &vec![0; size]),
                6 => peer.frame(Kind::Ping, Flags::NONE, 0, &[1; 8]),
                7 => peer.credit(0, 1),
                _ => peer.frame(Kind::Settings, Flags::NONE, 0, &[0, 4, 0, 1, 0, 0]),
            };
        }
        let now = Instant::now();
        let whole = &mut Connection::new(Role::Server, local_config(), now);
        let split = &mut Connection::new(Role::Server, local_config(), now);
        let one = feed(whole, &peer.octets, usize::MAX, now);
        let many = feed(split, &peer.octets, piece, now);
        match (&one, &many) {
            (Ok(one), Ok(many)) => proptest::prop_assert_eq!(one, many),
            (Err(one), Err(many)) => proptest::prop_assert_eq!(one, many),
            _ => proptest::prop_assert!(false, "{:?} but {:?}", one, many),
        }
        proptest::prop_assert_eq!(whole.write_buffer.to_vec(&[]), split.write_buffer.to_vec(&[]));
    }

    #[test]
    fn no_input_causes_a_panic(octets in proptest::collection::vec(0_u8.., 0..2_000)) {
        let now = Instant::now();
        for role in [Role::Server, Role::Client] {
            let mut connection = Connection::new(role, local_config(), now);
            let hello = if role == Role::Server { Peer::client() } else { Peer::server() };
            let all = [hello.octets, octets.clone()].concat();
            let _ = feed(&mut connection, &all, 7, now);
        }
    }
}

#[test]
fn no_stream_can_be_opened_after_the_last_stream_id() {
    let now = Instant::now();
    let mut connection = Connection::new(Role::Client, local_config(), now);
    connection.next_local_id = StreamId::new(0x7fff_fffb);
    assert!(connection.can_open_stream() && !connection.is_going_away());
    connection.open_stream(1, &[], true);
    assert!(connection.can_open_stream() && !connection.is_going_away());
    connection.open_stream(2, &[], true);
    assert!(!connection.can_open_stream() && connection.is_going_away());
}
