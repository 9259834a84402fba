//! A stub driver: takes any gRPC call and answers as the call's metadata asks.
//!
//! `x-answer-messages` (1 unless said), `x-answer-size` (octets of each payload, 32 unless said)
//! and `x-answer-delay-ms` shape the answer; the request body is read to its end first, and its
//! octets are told in the trailer `x-received`. With `x-check-size`, each message of the request
//! must be the rig's own for that method, with a pattern of that size and, if `--stamp` says so,
//! the stamp of that user behind it. A call with a number in `x-call` has it told again, and its
//! messages counted from there. It must be cheap, or it would be what is measured.
//!
//! SIGTERM makes it leave as a driver does that is asked to: no more connections, GOAWAY on those
//! there are, and the end when the last call has been answered.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response};
use sconce_benches::call::{
    ANSWER_DELAY, ANSWER_MESSAGES, ANSWER_SIZE, CHECK_SIZE, DRIVER, NUMBER, RECEIVED, send,
};
use sconce_benches::envelope::{self, Stamp};
use sconce_benches::fault::Fault;
use sconce_benches::growth::{self, Growth, Received};
use sconce_benches::line::FRAME_BUDGET;
use sconce_benches::message::{Check, Messages};
use sconce_benches::socket::{self, Turn};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// grpc-java takes header lists of so many octets at most.
const HEADER_LIST_MAX: u32 = 8192;
/// grpc-java gives credit for shorter messages when they are whole.
const WHOLE_MAX: usize = 64 << 10;
/// Kinds of messages that are kept ready, at most.
const KINDS_MAX: usize = 16;
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A gRPC server without TLS that answers every method.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one. The address is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A name that every answer tells, in its head and in its trailers.
    #[arg(long)]
    name: Option<HeaderValue>,
    /// `user,display name` that must be written behind every message of a request.
    #[arg(long)]
    stamp: Option<Stamp>,
    /// Octets that are granted to a stream, and to a connection.
    #[arg(long, default_value_t = growth::FIRST)]
    window: u32,
    /// Let these windows grow with what comes, as grpc-java does.
    #[arg(long, conflicts_with = "window")]
    grow: bool,
    /// Read as `h2` does of its own, about 8 KiB at a time, and not from a buffer.
    #[arg(long, conflicts_with = "grow")]
    plain: bool,
}

/// What all calls of this driver have in common.
#[derive(Debug)]
struct Stub {
    name: Option<HeaderValue>,
    stamp: Option<Stamp>,
    window: u32,
    turn: Turn,
}

impl Stub {
    /// As grpc-java is, whose windows grow.
    fn grows(&self) -> bool {
        self.turn == Turn::OneRead
    }
}

/// What messages are: requests of a method, or else answers; and their size.
type Kind = (Option<envelope::Method>, usize);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stub_driver: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> std::io::Result<()> {
    let Arguments { listen, name, stamp, window, grow, plain } = arguments;
    let turn = match (grow, plain) {
        (true, _) => Turn::OneRead,
        (false, true) => Turn::Plain,
        (false, false) => Turn::Whole,
    };
    let stub = Arc::new(Stub { name, stamp, window, turn });
    let listener = TcpListener::bind(listen).await?;
    let mut asked = signal(SignalKind::terminate())?;
    println!("listening {}", listener.local_addr()?);
    let (leave, leaving) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                connections.spawn(attend(accepted?.0, Arc::clone(&stub), leaving.clone()));
            }
            Some(_) = connections.join_next() => {}
            Some(()) = asked.recv() => break,
        }
    }
    drop(listener);
    leave.send_replace(());
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// A connection that fails is its client's to complain about.
async fn attend(stream: TcpStream, stub: Arc<Stub>, mut leaving: watch::Receiver<()>) {
    let Ok(socket) = socket::ready(stream, stub.turn) else { return };
    let connection = Builder::new()
        .initial_window_size(stub.window)
        .initial_connection_window_size(stub.window)
        .max_header_list_size(HEADER_LIST_MAX)
        .data_frame_budget(FRAME_BUDGET)
        .handshake(socket);
    let Ok(mut connection) = connection.await else { return };
    let mut growth = Growth::new(&mut connection, stub.grows());
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                let call = Wish::of(&request, Arc::clone(&stub), growth.received());
                calls.spawn(answer(request, respond, call));
                while calls.try_join_next().is_some() {}
            }
            window = growth.next() => {
                connection.set_target_window_size(window);
                // Refused while the last change is not acknowledged; the next one tells it.
                connection.set_initial_window_size(window).unwrap_or_default();
            }
            Ok(()) = leaving.changed() => connection.graceful_shutdown(),
        }
    }
}

/// What a call's metadata asks for.
#[derive(Debug)]
struct Wish {
    messages: u64,
    size: usize,
    delay: Duration,
    check: Option<Kind>,
    number: Option<u64>,
    stub: Arc<Stub>,
    received: Arc<Received>,
}

impl Wish {
    fn of<T>(request: &Request<T>, stub: Arc<Stub>, received: Arc<Received>) -> Self {
        let headers = request.headers();
        let number = |name| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let size = |name| number(name).and_then(|size| usize::try_from(size).ok());
        Self {
            messages: number(ANSWER_MESSAGES).unwrap_or(1),
            size: size(ANSWER_SIZE).unwrap_or(32),
            delay: Duration::from_millis(number(ANSWER_DELAY).unwrap_or(0)),
            check: size(CHECK_SIZE).map(|size| (envelope::Method::of(request.uri().path()), size)),
            number: number(NUMBER),
            stub,
            received,
        }
    }

    fn first(&self) -> u64 {
        self.number.unwrap_or(0)
    }

    /// What tells whose answer it is, and to which call.
    fn sign(&self, fields: &mut HeaderMap) {
        fields.extend(self.stub.name.clone().map(|name| (DRIVER, name)));
        fields.extend(self.number.map(|number| (NUMBER, number.into())));
    }
}

/// A call that cannot be answered is reset: the load counts that as a fault.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, wish: Wish) {
    if request.method() != Method::POST {
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return;
    }
    let read = read(request.into_body(), &wish).await;
    if !wish.delay.is_zero() {
        tokio::time::sleep(wish.delay).await;
    }
    let told = match read {
        Ok(received) => tell(&mut respond, &wish, received).await,
        Err(fault) => refuse(&mut respond, &fault),
    };
    if told.is_err() {
        respond.send_reset(Reason::INTERNAL_ERROR);
    }
}

/// Tells how many octets came, without the stamps.
async fn read(mut body: RecvStream, wish: &Wish) -> Result<u64, Fault> {
    let stamp = wish.stub.stamp.as_ref();
    let mut check = wish.check.map(|kind| Check::new(messages(kind, stamp), wish.first()));
    let (mut received, mut whole, mut unpaid) = (0, 0, 0);
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|e| Fault::Http2("request body", e))?;
        received += piece.len() as u64;
        wish.received.add(piece.len());
        if let Some(check) = &mut check {
            check.take(&piece)?;
        }
        unpaid += piece.len();
        let waits = |check: &Check| check.octets() <= WHOLE_MAX && check.complete() == whole;
        if wish.stub.grows() && check.as_ref().is_some_and(waits) {
            continue;
        }
        whole = check.as_ref().map_or(0, Check::complete);
        let credit = wish.received.credit(body.flow_control(), std::mem::take(&mut unpaid));
        credit.map_err(|e| Fault::Http2("credit", e))?;
    }
    wish.received.settle().map_err(|e| Fault::Http2("credit", e))?;
    let stamped = check.map(|check| check.end()).transpose()?.unwrap_or(0);
    let stamp = stamp.map_or(0, |stamp| stamp.octets().len() as u64);
    Ok(received - stamped * stamp)
}

async fn tell(
    respond: &mut SendResponse<Bytes>,
    wish: &Wish,
    received: u64,
) -> Result<(), h2::Error> {
    let mut head = head();
    wish.sign(head.headers_mut());
    let mut body = respond.send_response(head, false)?;
    let ready = messages((None, wish.size), None);
    for index in 0..wish.messages {
        send(&mut body, ready.number(wish.first().wrapping_add(index)), false).await?;
    }
    let mut trailers = HeaderMap::with_capacity(4);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers.insert(RECEIVED, received.into());
    wish.sign(&mut trailers);
    body.send_trailers(trailers)
}

fn refuse(respond: &mut SendResponse<Bytes>, fault: &Fault) -> Result<(), h2::Error> {
    let mut head = head();
    head.headers_mut().insert(GRPC_STATUS, HeaderValue::from_static("3"));
    if let Ok(message) = HeaderValue::from_str(&fault.to_string()) {
        head.headers_mut().insert("grpc-message", message);
    }
    respond.send_response(head, true).map(drop)
}

fn head() -> Response<()> {
    let mut head = Response::new(());
    head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head
}

/// The messages of a kind, made at its first use. Of one process, all have the same stamp.
fn messages(kind: Kind, stamp: Option<&Stamp>) -> Messages {
    thread_local! {
        static READY: RefCell<HashMap<Kind, Messages>> = RefCell::default();
    }
    let make = || match kind {
        (None, size) => Messages::answers(size),
        (Some(method), size) => Messages::requests(method, size, stamp),
    };
    READY.with_borrow_mut(|ready| {
        if ready.len() >= KINDS_MAX && !ready.contains_key(&kind) {
            return make();
        }
        ready.entry(kind).or_insert_with(make).clone()
    })
}
