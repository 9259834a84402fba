//! The language of `x-script`: what the driver does on one stream, op by op, split by `;`.
//!
//! | op | meaning |
//! |---|---|
//! | `end` | wait for the end of the request |
//! | `got<n>` | wait for n octets of it |
//! | `nocredit` | return no stream credit for it; `credit` repays and returns it from then on |
//! | `starve` | return no credit of the connection either |
//! | `sip<n>x<ms>` | return n octets of stream credit every so many ms, until the request has ended |
//! | `nap<ms>` | do not read the connection for so long |
//! | `h` | HEADERS of an answer; `d<n>` a message of n octets within the windows; `t<code>` trailers |
//! | `B<hex>` | those octets as DATA within the windows |
//! | `m<count>x<n>` | so many messages of n octets, a frame each |
//! | `pad<n>x<pad>` | a message in padded DATA |
//! | `o<code>` | trailers-only |
//! | `z<ms>` | sleep; `hold` until the stream is dropped |
//! | `r<code>` | RST_STREAM |
//! | `F<kind>.<flags>.<stream or s>.<hex>` | that frame; `ssssssss` in it is the stream |
//! | `X<hex>` | those octets; `<n>*<op>` n times |
//! | `bomb<n>` | an answer of n times 4,000 octets in a few of them |
//! | `close` / `slam` | FIN / RST of the connection; `deaf` stops reading it |

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fields;
use super::frame;
use super::session::{Gone, Session};

/// HEADERS, one message that holds the driver's name, trailers with status 0.
pub fn plain_answer(id: u32, name: &str) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(name.len()).unwrap().to_be_bytes());
    body.extend_from_slice(name.as_bytes());
    let mut out = frame::headers(id, false, &answer_block());
    out.extend(frame::data(id, false, &body));
    out.extend(frame::headers(id, true, &fields::literal(b"grpc-status", b"0")));
    out
}

pub fn answer_block() -> Vec<u8> {
    [fields::indexed(8), fields::literal(b"content-type", b"application/grpc")].concat()
}

pub fn play(session: &Session, id: u32) -> Result<(), Gone> {
    let script = session.script_of(id);
    for op in script.split(';') {
        match op.split_once('*') {
            Some((count, op)) => {
                for _ in 0..count.parse().unwrap() {
                    play_op(session, id, op)?;
                }
            }
            None => play_op(session, id, op)?,
        }
    }
    session.forget(id);
    Ok(())
}

fn play_op(session: &Session, id: u32, op: &str) -> Result<(), Gone> {
    let split = op.find(|letter: char| letter.is_ascii_digit() || letter == '.');
    let (name, rest) = match op.as_bytes().first() {
        Some(b'F' | b'X' | b'B') => op.split_at(1),
        _ => op.split_at(split.unwrap_or(op.len())),
    };
    let number = || rest.parse::<usize>().unwrap_or(0);
    match name {
        "end" => session.wait(id, |served| served.ended)?,
        "got" => session.wait(id, |served| served.received >= number())?,
        "hold" => session.wait(id, |_| false)?,
        "nocredit" | "starve" | "" => {}
        "credit" => session.repay(id),
        "sip" => {
            let (octets, pause) = pair(rest);
            let ended = Cell::new(false);
            while !ended.get() {
                std::thread::sleep(Duration::from_millis(pause as u64));
                session.sip(id, u32::try_from(octets).unwrap());
                session.wait(id, |served| {
                    ended.set(served.ended);
                    true
                })?;
            }
        }
        "nap" => {
            session.deaf.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(number() as u64));
            session.deaf.store(false, Ordering::SeqCst);
        }
        "h" => session.send(frame::headers(id, false, &answer_block())),
        "d" => send_message(session, id, number())?,
        "m" => {
            let (count, len) = pair(rest);
            let message = frame::message(len);
            for _ in 0..count {
                send_octets(session, id, &message)?;
            }
        }
        "pad" => {
            let (len, pad) = pair(rest);
            let pad = u8::try_from(pad).unwrap();
            session.send_counted(frame::padded_data(id, false, &frame::message(len), pad));
        }
        "t" => {
            let status = fields::literal(b"grpc-status", rest.as_bytes());
            session.send(frame::headers(id, true, &status));
        }
        "o" => {
            let status = fields::literal(b"grpc-status", rest.as_bytes());
            session.send(frame::headers(id, true, &[answer_block(), status].concat()));
        }
        "z" => std::thread::sleep(Duration::from_millis(number() as u64)),
        "r" => session.send(frame::rst(id, u32::try_from(number()).unwrap())),
        "bomb" => session.send(bomb(id, number())),
        "F" => session.send_counted(raw_frame(id, rest)),
        "X" => session.send_counted(unhex(rest)),
        "B" => send_octets(session, id, &unhex(rest))?,
        "close" | "slam" => {
            // What was said before must be on its way first.
            std::thread::sleep(Duration::from_millis(20));
            if name == "slam" { session.slam() } else { session.shut() }
        }
        "deaf" => session.deaf.store(true, Ordering::SeqCst),
        other => session.log.fault(format!("no such op: {other} in {op}")),
    }
    Ok(())
}

/// An answer whose list names one entry of 4,000 octets so many times.
fn bomb(id: u32, times: usize) -> Vec<u8> {
    let entry = fields::indexing(b"x-bomb", &[b'b'; 4000]);
    frame::headers(id, false, &[answer_block(), entry, fields::indexed(62).repeat(times)].concat())
}

fn pair(text: &str) -> (usize, usize) {
    let (left, right) = text.split_once('x').unwrap();
    (left.parse().unwrap(), right.parse().unwrap())
}

fn send_message(session: &Session, id: u32, len: usize) -> Result<(), Gone> {
    let mut head = vec![0];
    head.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
    send_octets(session, id, &head)?;
    let chunk = [b'm'; 16_384];
    let mut left = len;
    while left > 0 {
        let now = left.min(chunk.len());
        send_octets(session, id, &chunk[..now])?;
        left -= now;
    }
    Ok(())
}

fn send_octets(session: &Session, id: u32, mut octets: &[u8]) -> Result<(), Gone> {
    while !octets.is_empty() {
        let count = session.spend(id, octets.len())?;
        session.send(frame::data(id, false, &octets[..count]));
        octets = &octets[count..];
    }
    Ok(())
}

fn raw_frame(id: u32, text: &str) -> Vec<u8> {
    let parts: Vec<&str> = text.split('.').collect();
    let stream = if parts[2] == "s" { id } else { parts[2].parse().unwrap() };
    let payload = parts[3].replace("ssssssss", &format!("{id:08x}"));
    frame::frame(parts[0].parse().unwrap(), parts[1].parse().unwrap(), stream, &unhex(&payload))
}

pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .map(|digit| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap())
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The op that sends HEADERS with this block.
pub fn headers_op(end: bool, block: &[u8]) -> String {
    format!("F1.{}.s.{}", 4 | u8::from(end), hex(block))
}
