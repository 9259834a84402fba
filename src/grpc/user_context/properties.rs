//! Properties for arbitrary messages and octets in any split.

use proptest::collection::vec;
use proptest::prelude::*;
use sconce_filters::Refusal;

use crate::grpc::user_context::samples::{
    BOB, LAX, USER_CONTEXT, framed, gzip, messages, pass, user, writer,
};
use crate::grpc::user_context::samples::{STRICT, zlib};
use crate::grpc::user_context::{CompressionPolicy, Encoding, Policy};

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 1 << 14);
    let length = u16::try_from(content.len()).unwrap();
    let [low, high] = [length & 0x7f | 0x80, length >> 7].map(|it| u8::try_from(it).unwrap());
    [&[number << 3 | 2, low, high], content].concat()
}

/// A `user_context` of a client with arbitrary fields.
fn context() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        (1_u8..=3, vec(any::<u8>(), 0..200)).prop_map(|(number, text)| field(number, &text)),
        Just(vec![0xba, 0x3e, 2, 0x0a, 0]),
        Just(vec![0x20, 0xff, 0xff, 1]),
    ];
    vec(part, 0..4).prop_map(|parts| field(2, &parts.concat()))
}

/// A message that every parser accepts.
fn valid_message() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        context(),
        (3_u8..16, vec(any::<u8>(), 0..300)).prop_map(|(number, text)| field(number, &text)),
        any::<[u8; 8]>().prop_map(|octets| [&[0x19], &octets[..]].concat()),
        any::<[u8; 4]>().prop_map(|octets| [&[0x2d], &octets[..]].concat()),
        Just(vec![0x92, 0x80, 0x00, 0]),
    ];
    vec(part, 0..6).prop_map(|parts| parts.concat())
}

/// Random octets, mostly of values with a meaning.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![
        4 => prop::sample::select(vec![0x0a, 0x12, 0x1a, 0x08, 0x10, 0xba, 0x3e, 0x80, 0xff]),
        4 => 0_u8..9,
        1 => any::<u8>(),
    ];
    vec(octet, 0..40)
}

/// A stream of messages, compressed or not, and of random octets.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let message = prop_oneof![3 => valid_message(), 1 => any_bytes()];
    let part = prop_oneof![
        4 => message.clone().prop_map(|message| framed(0, &message)),
        2 => message.clone().prop_map(|message| framed(1, &gzip(&message))),
        1 => message.clone().prop_map(|message| framed(1, &zlib(&message))),
        1 => (message, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(message, at, octet)| {
            let mut octets = framed(1, &gzip(&message));
            let at = at.index(octets.len());
            octets[at] = octet;
            octets
        }),
        1 => any_bytes(),
    ];
    (vec(part, 0..5), any::<prop::sample::Index>(), any::<bool>()).prop_map(|(parts, at, cut)| {
        let mut octets = parts.concat();
        if cut && !octets.is_empty() {
            octets.truncate(at.index(octets.len()));
        }
        octets
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let compressed = prop::sample::select(vec![
        CompressionPolicy::Refuse,
        CompressionPolicy::Inflate { octets_max: 100 },
        LAX.compressed,
    ]);
    let action = || prop::sample::select(vec![STRICT.repeated, LAX.repeated]);
    (action(), action(), action(), compressed).prop_map(
        |(repeated, extensions, unknown, compressed)| Policy {
            repeated,
            extensions,
            unknown,
            compressed,
        },
    )
}

fn encoding() -> impl Strategy<Value = Encoding> {
    use Encoding::{Deflate, Gzip, Identity, Other};
    prop::sample::select(vec![Identity, Gzip, Gzip, Deflate, Other])
}

/// Whether two results for the same octets agree. A compressed message with several errors may be
/// refused for the one that is detected first.
fn agree(one: &Result<(), Refusal>, other: &Result<(), Refusal>) -> bool {
    let inflated = |result: &Result<(), Refusal>| {
        result.as_ref().is_err_and(|refusal| refusal.label == "envelope.inflated")
    };
    one == other || (one.is_err() && other.is_err() && (inflated(one) || inflated(other)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn every_split_gives_the_same_octets_and_the_same_result(
        octets in stream(),
        sizes in vec(1_usize..40, 1..6),
        policy in policy(),
        encoding in encoding(),
    ) {
        let (whole, result) = pass(&mut writer(policy, encoding), &octets, &[usize::MAX >> 1]);
        let (split, other) = pass(&mut writer(policy, encoding), &octets, &sizes);
        prop_assert!(agree(&result, &other), "{result:?} {other:?}");
        if result.is_ok() {
            prop_assert_eq!(whole, split);
        } else {
            prop_assert!(whole.starts_with(&split) || split.starts_with(&whole));
        }
    }

    #[test]
    fn the_verified_user_overrides_any_user_of_the_client(
        claimed in vec((valid_message(), any::<bool>()), 0..4),
        sizes in vec(1_usize..400, 1..4),
    ) {
        let parts = claimed.iter().map(|(message, compressed)| match compressed {
            false => framed(0, message),
            true => framed(1, &gzip(message)),
        });
        let octets = parts.collect::<Vec<_>>().concat();
        let (passed, result) = pass(&mut writer(LAX, Encoding::Gzip), &octets, &sizes);
        prop_assert_eq!(result, Ok(()));
        let messages = messages(&passed);
        prop_assert_eq!(messages.len(), claimed.len());
        for (message, (claimed, _)) in messages.into_iter().zip(claimed) {
            let (id, name) = user(message);
            prop_assert_eq!((&id[..], &name[..]), BOB);
            prop_assert_eq!(message, [&claimed, USER_CONTEXT].concat());
        }
    }

    #[test]
    fn no_input_causes_a_panic_and_forwarded_messages_have_the_verified_user(
        octets in stream(),
        size in 1_usize..100,
        policy in policy(),
        encoding in encoding(),
    ) {
        let (passed, result) = pass(&mut writer(policy, encoding), &octets, &[size]);
        if result.is_ok() {
            for message in messages(&passed) {
                let (id, name) = user(message);
                prop_assert_eq!((&id[..], &name[..]), BOB);
            }
        }
    }

    #[test]
    fn no_message_causes_a_panic_and_a_forwarded_one_has_the_verified_user(
        message in any_bytes(),
        size in 1_usize..50,
    ) {
        let octets = framed(0, &message);
        let (passed, result) = pass(&mut writer(LAX, Encoding::Identity), &octets, &[size]);
        if result.is_ok() {
            let (id, name) = user(messages(&passed)[0]);
            prop_assert_eq!((&id[..], &name[..]), BOB);
        }
    }
}
