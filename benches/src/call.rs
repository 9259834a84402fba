//! One gRPC call, from its request to its trailers, with every octet of the answer checked.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT,
};
use http::{Request, Response, StatusCode, Uri, Version};

use crate::caller::Caller;
use crate::envelope::Method;
use crate::fault::Fault;
use crate::message::{Check, Messages};
use crate::target::Target;

/// Metadata that tells the stub driver how many messages to answer with.
pub const ANSWER_MESSAGES: HeaderName = HeaderName::from_static("x-answer-messages");
/// Metadata that tells the stub driver how long the pattern in each message is, in octets.
pub const ANSWER_SIZE: HeaderName = HeaderName::from_static("x-answer-size");
/// Metadata that tells the stub driver how long to wait before it answers.
pub const ANSWER_DELAY: HeaderName = HeaderName::from_static("x-answer-delay-ms");
/// Metadata by which a caller has its messages checked: how long the pattern in each is.
pub const CHECK_SIZE: HeaderName = HeaderName::from_static("x-check-size");
/// Trailer by which the stub driver tells how many octets of body it got, stamps left out.
pub const RECEIVED: HeaderName = HeaderName::from_static("x-received");
/// Metadata by which a caller numbers a call: the answer tells it again, in its head and in its
/// trailers, and the messages of both bodies are counted from it.
pub const NUMBER: HeaderName = HeaderName::from_static("x-call");
/// Header and trailer by which a stub driver tells its name.
pub const DRIVER: HeaderName = HeaderName::from_static("x-driver");
const TRACE: HeaderName = HeaderName::from_static("traceparent");
const GRPC_STATUS: &str = "grpc-status";
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// How fast the caller reads.
#[derive(Clone, Copy, Debug)]
pub enum Reading {
    /// As fast as octets come.
    Eager,
    /// `step` octets of credit, then a pause, and so on.
    Slow {
        /// Octets taken between two pauses.
        step: usize,
        /// How long each pause is.
        pause: Duration,
    },
}

/// What a call sends and what must come back.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// The messages of the request.
    pub upload: Messages,
    /// How many of them are sent.
    pub upload_count: u64,
    /// The messages of the answer.
    pub answer: Messages,
    /// How many of them must come.
    pub answer_count: u64,
    /// How the answer is read.
    pub reading: Reading,
    /// The call's number, if it has one.
    pub number: Option<u64>,
    /// How long the stub driver waits before it answers.
    pub delay: Duration,
    /// The deadline that the call carries, if any.
    pub timeout: Option<Duration>,
    /// Each call carries a trace context of its own.
    pub traced: bool,
}

/// A whole answer, and a right one.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Octets of messages that went either way.
    pub octets: u64,
    /// The name of the stub driver, if it has one.
    pub driver: Option<HeaderValue>,
}

/// A request head, ready to be sent any number of times, and what is sent and checked with it.
#[derive(Clone, Debug)]
pub struct Call {
    ask: Ask,
    uri: Uri,
    headers: HeaderMap,
    traces: Arc<AtomicU64>,
}

impl Call {
    /// Prepares calls of `caller` to `target`.
    ///
    /// # Errors
    /// When they cannot stand in a request.
    pub fn new(target: &Target, caller: &Caller, ask: Ask) -> Result<Self, Fault> {
        let wrong = |e: http::Error| Fault::Request(e.to_string());
        let value = |s: &str| HeaderValue::from_str(s).map_err(|e| wrong(e.into()));
        let uri = Uri::builder()
            .scheme(target.scheme())
            .authority(target.address.to_string())
            .path_and_query(ask.method.path())
            .build()
            .map_err(wrong)?;
        let headers = [
            (TE, HeaderValue::from_static("trailers")),
            (CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
            (USER_AGENT, HeaderValue::from_static("sconce-bench grpc-c/0.0")),
            (HeaderName::from_static("grpc-accept-encoding"), value("identity, deflate, gzip")?),
            (HeaderName::from_static("x-sconce-env"), value(&caller.environment)?),
            (ANSWER_MESSAGES, ask.answer_count.into()),
            (ANSWER_SIZE, ask.answer.size().into()),
            (CHECK_SIZE, ask.upload.size().into()),
            (AUTHORIZATION, value(&format!("Bearer {}", caller.token))?),
        ];
        let mut headers: HeaderMap = headers.into_iter().collect();
        if let Some(team) = &caller.team {
            headers.insert(HeaderName::from_static("x-sconce-team"), value(team)?);
        }
        headers.extend(ask.number.map(|number| (NUMBER, number.into())));
        if !ask.delay.is_zero() {
            headers.insert(ANSWER_DELAY, value(&ask.delay.as_millis().to_string())?);
        }
        if let Some(timeout) = ask.timeout {
            headers.insert(GRPC_TIMEOUT, value(&format!("{}m", timeout.as_millis()))?);
        }
        Ok(Self { ask, uri, headers, traces: Arc::default() })
    }

    /// Makes the call and checks the answer.
    ///
    /// # Errors
    /// Whatever was not as it must be; a status other than OK before all that it explains.
    pub async fn make(&self, sender: SendRequest<Bytes>) -> Result<Answer, Fault> {
        let (answer, body) = self.open(sender).await?;
        let sent = match self.ask.upload_count {
            1 => send_one(body, self.ask.upload.number(self.first()).clone()),
            count => send_many(body, &self.ask.upload, self.first(), count).await,
        };
        let answer = answer.await.map_err(|e| Fault::Http2("response", e))?;
        check_head(&answer)?;
        let (head, mut body) = answer.into_parts();
        let mut check = Check::new(self.ask.answer.clone(), self.first());
        let octets = self.read(&mut body, &mut check).await?;
        let trailers = body.trailers().await.map_err(|e| Fault::Http2("trailers", e))?;
        let trailers = trailers.unwrap_or_default();
        check_status(&trailers)?;
        equal("messages of the answer", self.ask.answer_count, check.end()?)?;
        let sent = sent.map_err(|e| Fault::Http2("request body", e))?;
        equal("octets at the driver", sent, number(&trailers, &RECEIVED).unwrap_or(0))?;
        let driver = head.headers.get(DRIVER).cloned();
        for told in [&head.headers, &trailers] {
            if number(told, &NUMBER) != self.ask.number || told.get(DRIVER) != driver.as_ref() {
                return Err(Fault::Head(format!("parts of several answers: {told:?}")));
            }
        }
        Ok(Answer { octets: octets + sent, driver })
    }

    fn first(&self) -> u64 {
        self.ask.number.unwrap_or(0)
    }

    async fn open(
        &self,
        sender: SendRequest<Bytes>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Fault> {
        let mut sender = sender.ready().await.map_err(|e| Fault::Http2("connection", e))?;
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().extend(self.trace()?.map(|trace| (TRACE, trace)));
        sender.send_request(request, false).map_err(|e| Fault::Http2("request", e))
    }

    /// The next trace context, as W3C writes it.
    fn trace(&self) -> Result<Option<HeaderValue>, Fault> {
        if !self.ask.traced {
            return Ok(None);
        }
        let number = self.traces.fetch_add(1, Ordering::Relaxed);
        let trace = format!("00-4bf92f3577b34da6{number:016x}-{number:016x}-01");
        let trace = HeaderValue::try_from(trace);
        trace.map(Some).map_err(|e| Fault::Request(e.to_string()))
    }

    async fn read(&self, body: &mut RecvStream, check: &mut Check) -> Result<u64, Fault> {
        let (mut octets, mut unpaid) = (0, 0);
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(|e| Fault::Http2("answer body", e))?;
            check.take(&piece)?;
            octets += piece.len() as u64;
            unpaid += piece.len();
            if let Reading::Slow { step, pause } = self.ask.reading {
                if unpaid < step {
                    continue;
                }
                tokio::time::sleep(pause).await;
            }
            let credit = body.flow_control().release_capacity(std::mem::take(&mut unpaid));
            credit.map_err(|e| Fault::Http2("credit", e))?;
        }
        Ok(octets)
    }
}

fn send_one(mut body: SendStream<Bytes>, message: Bytes) -> Result<u64, h2::Error> {
    let octets = message.len() as u64;
    body.send_data(message, true)?;
    Ok(octets)
}

async fn send_many(
    mut body: SendStream<Bytes>,
    messages: &Messages,
    first: u64,
    count: u64,
) -> Result<u64, h2::Error> {
    let mut sent = 0;
    for index in 0..count {
        let message = messages.number(first.wrapping_add(index));
        send(&mut body, message, index + 1 == count).await?;
        sent += messages.octets() as u64;
    }
    Ok(sent)
}

/// Sends one message when the peer's window has opened; its frames then follow the window.
///
/// # Errors
/// When the peer has ended the stream or the connection is gone.
pub async fn send(
    body: &mut SendStream<Bytes>,
    message: &Bytes,
    last: bool,
) -> Result<(), h2::Error> {
    body.reserve_capacity(message.len());
    match poll_fn(|cx| body.poll_capacity(cx)).await {
        Some(Ok(_)) => body.send_data(message.clone(), last),
        Some(Err(error)) => Err(error),
        None => Err(h2::Reason::STREAM_CLOSED.into()),
    }
}

fn check_head(answer: &Response<RecvStream>) -> Result<(), Fault> {
    if answer.status() != StatusCode::OK {
        return Err(Fault::Head(format!("HTTP status {}", answer.status())));
    }
    match text(answer.headers(), CONTENT_TYPE.as_str()) {
        Some("application/grpc") => {}
        other => return Err(Fault::Head(format!("content-type {other:?}"))),
    }
    if answer.headers().contains_key(GRPC_STATUS) && !answer.body().is_end_stream() {
        return Err(Fault::Head("a status, and then no end".to_owned()));
    }
    if answer.body().is_end_stream() { check_status(answer.headers()) } else { Ok(()) }
}

fn check_status(fields: &HeaderMap) -> Result<(), Fault> {
    let code = text(fields, GRPC_STATUS).and_then(|code| code.parse().ok());
    match code {
        Some(0) => Ok(()),
        Some(code) => {
            let message = text(fields, "grpc-message").unwrap_or_default().to_owned();
            Err(Fault::Refused { code, message })
        }
        None => Err(Fault::Head(format!("an end without a status: {fields:?}"))),
    }
}

fn text<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(|value| value.to_str().ok())
}

fn number(fields: &HeaderMap, name: &HeaderName) -> Option<u64> {
    text(fields, name.as_str())?.parse().ok()
}

fn equal(what: &'static str, wanted: u64, got: u64) -> Result<(), Fault> {
    if wanted == got { Ok(()) } else { Err(Fault::Count { what, wanted, got }) }
}
