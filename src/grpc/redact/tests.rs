//! Redaction of responses to Config, in every split.

use super::*;
use crate::grpc::protobuf::{put_number, put_octets};
use proptest::prelude::*;

const SECRET: &str = "spark.hadoop.fs.s3a.secret.key";

fn pair(key: Option<&str>, value: Option<&str>) -> Vec<u8> {
    let mut pair = Vec::new();
    for (field, text) in [(1, key), (2, value)] {
        if let Some(text) = text {
            put_octets(&mut pair, field, text.as_bytes());
        }
    }
    pair
}

/// A message with its prefix: session, pairs, a warning, and unknown fields.
fn response(pairs: &[Vec<u8>]) -> Vec<u8> {
    let mut message = Vec::new();
    put_octets(&mut message, 1, b"session");
    for pair in pairs {
        put_octets(&mut message, 2, pair);
    }
    put_octets(&mut message, 3, b"spark.hadoop.fs.s3a.secret.key");
    put_number(&mut message, 9, 300);
    message.extend([0x51, 1, 2, 3, 4, 5, 6, 7, 8, 0x55, 1, 2, 3, 4]);
    framed(&message)
}

/// A request with this operation and its content.
fn request(operation: u8, inner: &[u8]) -> Vec<u8> {
    let (mut message, mut operation_field) = (Vec::new(), Vec::new());
    put_octets(&mut operation_field, operation, inner);
    put_octets(&mut message, 1, b"session");
    put_octets(&mut message, 3, &operation_field);
    framed(&message)
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat()
}

fn shows(output: &[u8]) -> bool {
    output.windows(6).any(|octets| octets == b"s3cret")
}

fn redact(octets: &[u8], piece: usize) -> Result<Vec<u8>, UnreadableResponse> {
    redact_for(&[], octets, piece)
}

fn redact_for(request: &[u8], octets: &[u8], piece: usize) -> Result<Vec<u8>, UnreadableResponse> {
    let hidden = HiddenKeys::of([SECRET.to_owned(), "spark.connect.authenticate.token".into()]);
    let mut redactor = Redactor::new(hidden);
    request.chunks(piece).for_each(|piece| redactor.observe_request(piece));
    let mut all = octets.to_vec();
    for piece in all.chunks_mut(piece) {
        redactor.redact(piece)?;
    }
    Ok(all)
}

/// The redacted response, equal for every split.
fn redacted(octets: &[u8]) -> Result<Vec<u8>, UnreadableResponse> {
    let whole = redact(octets, octets.len());
    for piece in 1..octets.len() {
        assert_eq!(redact(octets, piece), whole, "pieces of {piece}");
    }
    whole
}

#[test]
fn the_value_of_a_hidden_key_is_masked_and_all_others_are_unchanged() {
    let others = [
        pair(Some("spark.app.name"), Some("a.secret.key")),
        pair(Some("spark.none"), None),
        pair(Some(&"k".repeat(KEY_MAX * 2)), Some("long")),
        pair(None, None),
    ];
    let mut before = others.to_vec();
    before.insert(1, pair(Some(SECRET), Some("s3cret")));
    let mut after = others.to_vec();
    after.insert(1, pair(Some(SECRET), Some("******")));
    assert_eq!(redacted(&response(&before)), Ok(response(&after)));
    assert_eq!(redacted(&response(&others)), Ok(response(&others)));
}

#[test]
fn a_hidden_key_without_its_prefix_is_masked() {
    for cut in 1..SECRET.len() {
        let output = redacted(&response(&[pair(SECRET.get(cut..), Some("s3cret"))])).unwrap();
        assert!(!shows(&output), "{cut}");
    }
    let output = redacted(&response(&[pair(None, Some("s3cret"))])).unwrap();
    assert!(!shows(&output));
}

#[test]
fn a_suffix_of_a_hidden_key_is_masked_only_for_get_all_with_a_prefix() {
    let octets = response(&[pair(Some("secret.key"), Some("s3cret"))]);
    for operation in 1..=6 {
        for piece in [1, 2, 7, 100] {
            let output = redact_for(&request(operation, b""), &octets, piece).unwrap();
            assert!(shows(&output), "{operation}");
            let output = redact_for(&request(operation, b"\x0a\x01p"), &octets, piece).unwrap();
            assert_eq!(shows(&output), operation != 5, "{operation}");
        }
    }
}

#[test]
fn a_hidden_key_is_masked_for_every_operation_with_values() {
    let octets = response(&[pair(Some(SECRET), Some("s3cret"))]);
    for operation in 1..=6 {
        for inner in [&b""[..], b"\x0a\x01p"] {
            assert!(!shows(&redact_for(&request(operation, inner), &octets, 9).unwrap()));
        }
    }
}

#[test]
fn responses_to_is_modifiable_are_not_masked() {
    let octets =
        response(&[pair(Some(SECRET), Some("false")), pair(Some("spark.x"), Some("true"))]);
    for piece in 1..octets.len() {
        assert_eq!(redact_for(&request(7, b"\x0a\x01k"), &octets, piece).as_ref(), Ok(&octets));
    }
}

#[test]
fn a_value_before_its_key_is_masked() {
    let mut reversed = Vec::new();
    put_octets(&mut reversed, 2, b"s3cret");
    put_octets(&mut reversed, 1, SECRET.as_bytes());
    let output = redacted(&response(&[reversed])).unwrap();
    assert!(!shows(&output));
}

#[test]
fn several_messages_and_empty_ones_are_redacted() {
    let one = response(&[pair(Some(SECRET), Some("s3cret"))]);
    let all = [&one[..], &[0; 5], &one].concat();
    let output = redacted(&all).unwrap();
    assert!(!shows(&output));
}

#[test]
fn an_unreadable_response_is_an_error() {
    let cases: &[&[u8]] = &[
        &[1, 0, 0, 0, 0],
        &[0, 0, 0, 0, 1, 0x12, 0],
        &[0, 0, 0, 0, 2, 0x12, 1, 0],
        &[0, 0, 0, 0, 3, 0x10, 1, 0],
        &[0, 0, 0, 0, 2, 0x0b, 0],
        &[0, 0, 0, 0, 4, 0x12, 2, 0x10, 1],
        &[0, 0, 0, 0, 4, 0x12, 2, 0x0a, 1],
        &[0, 0, 0, 0, 4, 0x12, 1, 0x12, 1],
        &[0, 0, 0, 0, 8, 0x12, 6, 0x0a, 1, b'a', 0x0a, 1, b'b'],
        &[0, 0, 0, 0, 6, 0x92, 128, 128, 128, 0x10, 0],
        &[0, 0, 0, 0, 11, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1],
    ];
    for octets in cases {
        assert_eq!(redacted(octets), Err(UnreadableResponse), "{octets:02x?}");
    }
}

#[test]
fn with_no_key_nothing_is_hidden() {
    assert!(HiddenKeys::default().is_empty() && HiddenKeys::of([]).is_empty());
    assert!(!HiddenKeys::of([SECRET.to_owned()]).is_empty());
}

proptest! {
    #[test]
    fn no_input_causes_a_panic_or_changes_the_length(
        octets in proptest::collection::vec(any::<u8>(), 1..200), piece in 1_usize..50,
    ) {
        let framed = [&[0, 0, 0, 0, 250][..], &octets].concat();
        if let Ok(output) = redact(&framed, piece) {
            prop_assert_eq!(output.len(), framed.len());
        }
    }

    #[test]
    fn no_hidden_value_is_forwarded_beside_any_other_pairs(
        keys in proptest::collection::vec("[a-z.]{0,40}", 0..6), at in 0_usize..6,
        piece in 1_usize..300,
    ) {
        let mut pairs: Vec<_> =
            keys.iter().map(|key| pair(Some(&format!("x{key}")), Some("v"))).collect();
        pairs.insert(at.min(pairs.len()), pair(Some(SECRET), Some("s3cret")));
        let output = redact(&response(&pairs), piece).unwrap();
        prop_assert!(!shows(&output));
    }
}
