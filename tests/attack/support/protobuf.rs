//! Protobuf as a driver reads it: of a scalar the last counts, messages merge.

/// The field of every request that names its user, and the fields in it.
const USER_CONTEXT: u64 = 2;
const USER_ID: u64 = 1;
const USER_NAME: u64 = 2;

pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 128 {
        out.push(u8::try_from(value % 128).unwrap() | 0x80);
        value /= 128;
    }
    out.push(u8::try_from(value).unwrap());
    out
}

/// A field that is text, octets or a message.
pub fn field(number: u64, octets: impl AsRef<[u8]>) -> Vec<u8> {
    let octets = octets.as_ref();
    let mut out = varint(number << 3 | 2);
    out.extend(varint(octets.len() as u64));
    out.extend_from_slice(octets);
    out
}

/// A `user_context` that claims these names.
pub fn context(user: &str, name: &str) -> Vec<u8> {
    field(USER_CONTEXT, [field(USER_ID, user), field(USER_NAME, name)].concat())
}

/// A message of gRPC that is not compressed.
pub fn framed(message: &[u8]) -> Vec<u8> {
    flagged(0, message)
}

pub fn flagged(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut out = vec![flag];
    out.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    out.extend_from_slice(message);
    out
}

/// The messages of a body, none of which may be compressed or cut.
pub fn messages(mut body: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while !body.is_empty() {
        assert!(body.len() >= 5 && body[0] == 0, "no plain prefix: {:02x?}", frame_start(body));
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        assert!(body.len() >= 5 + length, "a message of {length} is cut at {}", body.len() - 5);
        all.push(body[5..5 + length].to_vec());
        body = &body[5 + length..];
    }
    all
}

fn frame_start(body: &[u8]) -> &[u8] {
    &body[..body.len().min(16)]
}

/// A request as it reads once everything in it is merged.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Merged {
    pub user_id: Option<String>,
    pub user_name: Option<String>,
    /// The other fields of the user context, octet for octet and in order.
    pub context: Vec<u8>,
    /// The other fields of the request.
    pub others: Vec<u8>,
}

pub fn merged(message: &[u8]) -> Merged {
    let mut all = Merged::default();
    walk(message, |number, octets, whole| match (number, octets) {
        (USER_CONTEXT, Some(inner)) => walk(inner, |number, octets, whole| {
            let text = octets.map(|octets| String::from_utf8(octets.to_vec()).unwrap());
            match number {
                USER_ID if text.is_some() => all.user_id = text,
                USER_NAME if text.is_some() => all.user_name = text,
                _ => all.context.extend_from_slice(whole),
            }
        }),
        _ => all.others.extend_from_slice(whole),
    });
    all
}

/// Calls with each field: its number, what is in it if it has a length, and all its octets.
fn walk(mut octets: &[u8], mut take: impl FnMut(u64, Option<&[u8]>, &[u8])) {
    while !octets.is_empty() {
        let start = octets;
        let tag = number(&mut octets);
        let inner = match tag & 7 {
            0 => {
                number(&mut octets);
                None
            }
            1 => {
                octets = &octets[8..];
                None
            }
            2 => {
                let length = usize::try_from(number(&mut octets)).unwrap();
                let (inner, rest) = octets.split_at(length);
                octets = rest;
                Some(inner)
            }
            5 => {
                octets = &octets[4..];
                None
            }
            other => panic!("wire type {other} at the driver"),
        };
        take(tag >> 3, inner, &start[..start.len() - octets.len()]);
    }
}

fn number(octets: &mut &[u8]) -> u64 {
    let mut value = 0;
    for place in 0..10 {
        let octet = octets[0];
        *octets = &octets[1..];
        value |= u64::from(octet & 0x7f) << (7 * place);
        if octet < 128 {
            return value;
        }
    }
    panic!("a varint without an end at the driver")
}

/// What arrived is what was sent, but for the names of the user.
pub fn assert_stamped(sent: &[u8], arrived: &[u8], (user, name): (&str, &str)) {
    let (before, after) = (merged(sent), merged(arrived));
    assert_eq!(after.user_id.as_deref(), Some(user), "another user at the driver");
    assert_eq!(after.user_name.as_deref(), Some(name), "another name at the driver");
    assert!(before.others == after.others, "the other fields of the request are not as sent");
    assert_eq!(before.context, after.context, "the other fields of the context are not as sent");
}
