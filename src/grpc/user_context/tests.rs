//! Single request streams.

use sconce_filters::{Code, Refusal};

use crate::grpc::user_context::samples::{
    BOB, LAX, STRICT, USER_CONTEXT, framed, gzip, messages, zlib,
};
use crate::grpc::user_context::samples::{pass, user, writer};
use crate::grpc::user_context::{
    CompressionPolicy, Encoding, Insertion, OutputChunk, Policy, UserContextField,
    UserContextWriter,
};

/// A request with the user Alice.
const ALICE: &[u8] = b"\x0a\x03ids\x12\x0e\x0a\x05alice\x12\x05Alice\x1a\x04plan";

fn refusal(policy: Policy, encoding: Encoding, octets: &[u8]) -> (Code, &'static str) {
    let (_, result) = pass(&mut writer(policy, encoding), octets, &[1_000]);
    result.map_err(|Refusal { code, label, .. }| (code, label)).unwrap_err()
}

#[test]
fn each_message_gets_the_user_context_and_an_extended_prefix() {
    let octets = [framed(0, ALICE), framed(0, b""), framed(0, ALICE)].concat();
    let (passed, result) = pass(&mut writer(STRICT, Encoding::Identity), &octets, &[7]);
    assert_eq!(result, Ok(()));
    let expected = framed(0, &[ALICE, USER_CONTEXT].concat());
    assert_eq!(passed, [&expected, &framed(0, USER_CONTEXT)[..], &expected].concat());
    assert!(messages(&passed).into_iter().all(|it| user(it) == (BOB.0.into(), BOB.1.into())));
}

#[test]
fn a_message_in_one_chunk_is_one_range_with_user_context() {
    let mut chunk = [b"???", &framed(0, ALICE)[..], b"???"].concat();
    let mut rest = 3..chunk.len() - 3;
    let mut writer = writer(STRICT, Encoding::Identity);
    let whole = rest.clone();
    let field = UserContextField::new("bob", "Bob");
    assert_eq!(
        writer.next_chunk(&mut chunk, &mut rest),
        Ok(Some(OutputChunk::ForwardWithUserContext(whole, field)))
    );
    assert!(rest.is_empty() && !writer.expects_more());
    assert_eq!(writer.end(), Ok(()));
    assert_eq!(writer.next_chunk(&mut chunk, &mut rest), Ok(None));
    assert_eq!(chunk[3..8], framed(0, &[ALICE, USER_CONTEXT].concat())[..5]);
}

#[test]
fn the_user_context_of_a_long_message_is_a_separate_output() {
    let long = [&b"\x1a\x80\x20"[..], &[0; 4_096]].concat();
    let mut chunk = framed(0, &long);
    let mut rest = 0..chunk.len();
    let mut writer = writer(STRICT, Encoding::Identity);
    let whole = rest.clone();
    assert_eq!(writer.next_chunk(&mut chunk, &mut rest), Ok(Some(OutputChunk::Forward(whole))));
    assert!(rest.is_empty() && writer.expects_more());
    let field = Insertion::UserContext(UserContextField::new("bob", "Bob"));
    assert_eq!(writer.next_chunk(&mut chunk, &mut rest), Ok(Some(OutputChunk::Insert(field))));
    assert!(!writer.expects_more());
}

#[test]
fn chunks_inside_a_message_are_forwarded_unchanged() {
    let mut writer = writer(STRICT, Encoding::Identity);
    let mut chunk = framed(0, &[&b"\x1a\x80\x80\x80\x20"[..], &[0; 11]].concat());
    chunk[1..5].copy_from_slice(&(5_u32 + (64 << 20)).to_be_bytes());
    assert_eq!(writer.next_chunk(&mut chunk, &mut (0..21)), Ok(Some(OutputChunk::Forward(0..21))));
    let mut left = (64 << 20) - 11;
    let mut chunk = vec![0xff; 1 << 14];
    while left > 0 {
        let mut rest = 0..left.min(1 << 14);
        let whole = rest.clone();
        left -= rest.len();
        assert_eq!(writer.next_chunk(&mut chunk, &mut rest), Ok(Some(OutputChunk::Forward(whole))));
        assert!(rest.is_empty());
    }
    assert!(writer.expects_more());
}

#[test]
fn a_prefix_in_parts_is_buffered_until_it_is_complete() {
    let mut octets = framed(0, ALICE);
    let mut writer = writer(STRICT, Encoding::Identity);
    for at in 0..4 {
        assert_eq!(writer.next_chunk(&mut octets, &mut (at..at + 1)), Ok(None));
    }
    let piece = writer.next_chunk(&mut octets, &mut (4..8)).unwrap().unwrap();
    let length = u8::try_from(ALICE.len() + USER_CONTEXT.len()).unwrap();
    assert_eq!(piece, OutputChunk::Insert(Insertion::Prefix([0, 0, 0, 0, length])));
}

#[test]
fn a_stream_that_ends_within_a_message_is_refused() {
    let octets = framed(0, ALICE);
    for length in 1..octets.len() {
        let got = refusal(STRICT, Encoding::Identity, &octets[..length]);
        assert_eq!(got, (Code::InvalidArgument, "envelope.malformed"));
    }
    assert_eq!(pass(&mut writer(STRICT, Encoding::Identity), b"", &[1]), (Vec::new(), Ok(())));
}

#[test]
fn a_malformed_message_is_refused_before_its_last_octet() {
    let octets = framed(0, b"\x0a\x03ids\x1a\x06plan");
    let (passed, result) = pass(&mut writer(LAX, Encoding::Identity), &octets, &[1]);
    assert_eq!(result.unwrap_err().label, "envelope.malformed");
    assert!(passed.len() < octets.len());
}

#[test]
fn ambiguous_messages_are_refused_or_overridden_according_to_the_policy() {
    let twice = framed(0, b"\x12\x00\x12\x07\x0a\x05alice");
    let extended = framed(0, b"\x12\x03\xba\x3e\x00");
    let unknown = framed(0, b"\x12\x0a\x0a\x05alice\x1a\x01r");
    for (octets, label) in [
        (twice, "envelope.repeated"),
        (extended, "envelope.extensions"),
        (unknown, "envelope.unknown"),
    ] {
        let got = refusal(STRICT, Encoding::Identity, &octets);
        assert_eq!(got, (Code::InvalidArgument, label));
        let (passed, result) = pass(&mut writer(LAX, Encoding::Identity), &octets, &[1_000]);
        assert_eq!(result, Ok(()));
        assert_eq!(user(messages(&passed)[0]), (BOB.0.into(), BOB.1.into()));
    }
}

#[test]
fn a_compressed_message_is_forwarded_uncompressed_with_user_context() {
    let expected = framed(0, &[ALICE, USER_CONTEXT].concat());
    for (encoding, compressed) in [
        (Encoding::from_name(b"gzip"), gzip(ALICE)),
        (Encoding::from_name(b"deflate"), zlib(ALICE)),
    ] {
        let octets = [framed(1, &compressed), framed(0, ALICE), framed(1, &compressed)].concat();
        for size in 1..octets.len() {
            let (passed, result) = pass(&mut writer(LAX, encoding), &octets, &[size]);
            assert_eq!(result, Ok(()));
            assert_eq!(passed, expected.repeat(3));
        }
    }
}

#[test]
fn compressed_messages_are_scanned() {
    let policy = Policy { compressed: LAX.compressed, ..STRICT };
    let got = |message: &[u8]| refusal(policy, Encoding::Gzip, &framed(1, &gzip(message))).1;
    assert_eq!(got(b"\x12\x00\x12\x00"), "envelope.repeated");
    assert_eq!(got(b"\x12\x03\xba\x3e\x00"), "envelope.extensions");
    assert_eq!(got(b"\x12\x02\x20\x01"), "envelope.unknown");
    assert_eq!(got(b"\x12\x03"), "envelope.malformed");
}

#[test]
fn an_unsupported_compressed_message_is_refused_at_its_prefix() {
    use Code::{Internal, ResourceExhausted, Unimplemented};
    let message = framed(1, &gzip(ALICE));
    let small = Policy { compressed: CompressionPolicy::Inflate { octets_max: 8 }, ..STRICT };
    let cases = [
        (STRICT, Encoding::Gzip, Unimplemented, "envelope.compressed"),
        (STRICT, Encoding::default(), Internal, "envelope.compressed"),
        (LAX, Encoding::from_name(b"identity"), Internal, "envelope.compressed"),
        (LAX, Encoding::from_name(b"snappy"), Unimplemented, "envelope.compressed"),
        (small, Encoding::Gzip, ResourceExhausted, "envelope.inflated"),
    ];
    for (policy, encoding, code, label) in cases {
        assert_eq!(refusal(policy, encoding, &message[..5]), (code, label));
    }
    let got = refusal(LAX, Encoding::Gzip, &framed(2, ALICE));
    assert_eq!(got, (Internal, "envelope.compressed"));
}

#[test]
fn a_message_without_room_for_user_context_is_refused() {
    let longest = u32::MAX - u32::try_from(USER_CONTEXT.len()).unwrap();
    let prefix = |length: u32| [&[0], &length.to_be_bytes()[..]].concat();
    let got = refusal(LAX, Encoding::Identity, &prefix(longest + 1));
    assert_eq!(got, (Code::ResourceExhausted, "envelope.length"));
    let (passed, _) = pass(&mut writer(LAX, Encoding::Identity), &prefix(longest), &[5]);
    assert_eq!(passed, prefix(u32::MAX));
}

#[test]
fn an_empty_compressed_message_is_refused() {
    for encoding in [Encoding::Gzip, Encoding::Deflate] {
        let got = refusal(LAX, encoding, &framed(1, b""));
        assert_eq!(got, (Code::InvalidArgument, "envelope.inflated"));
    }
}

#[test]
fn the_session_of_a_message_is_known_with_its_user_context() {
    let long = [&b"\x0a\x03two\x1a\x80\x20"[..], &[0; 4_096]].concat();
    let stream =
        [framed(0, ALICE), framed(0, &long), framed(1, &gzip(b"\x0a\x01z")), framed(0, b"")];
    for piece in [1, 7, 10_000] {
        let mut writer = writer(LAX, Encoding::Gzip);
        let mut got = Vec::new();
        for chunk in stream.concat().chunks(piece) {
            let (mut chunk, mut rest) = (chunk.to_vec(), 0..chunk.len());
            while let Some(piece) = writer.next_chunk(&mut chunk, &mut rest).unwrap() {
                if piece.ends_message() {
                    got.push(writer.session().map(<[u8]>::to_vec));
                }
            }
        }
        assert_eq!(got, [Some(b"ids".to_vec()), Some(b"two".to_vec()), Some(b"z".to_vec()), None]);
    }
}

#[test]
fn any_message_with_the_reattachable_option_makes_the_stream_reattachable() {
    let (no, yes) = (&b"\x2a\x04\x0a\x02\x08\x00"[..], &b"\x2a\x04\x0a\x02\x08\x01"[..]);
    let is_reattachable = |messages: &[Vec<u8>]| {
        let mut writer = writer(LAX, Encoding::Gzip);
        assert_eq!(pass(&mut writer, &messages.concat(), &[7]).1, Ok(()));
        writer.is_reattachable()
    };
    assert!(!is_reattachable(&[framed(0, ALICE), framed(0, no)]));
    assert!(is_reattachable(&[framed(0, yes)]));
    assert!(is_reattachable(&[framed(0, no), framed(1, &gzip(yes)), framed(0, ALICE)]));
}

#[test]
fn only_a_request_with_an_encoding_may_inflate() {
    assert!(!writer(LAX, Encoding::Identity).may_inflate());
    for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Other] {
        assert!(writer(LAX, encoding).may_inflate());
    }
}

#[test]
fn a_compressed_message_counts_as_buffered_until_it_is_complete() {
    let policy = Policy { compressed: CompressionPolicy::Inflate { octets_max: 4_096 }, ..LAX };
    let octets: Vec<u8> = (0..=u8::MAX).cycle().take(4_000).collect();
    let long = [&b"\x1a\xa0\x1f"[..], &octets].concat();
    let mut chunk = [framed(1, &gzip(&long)), framed(0, ALICE)].concat();
    let end = chunk.len() - framed(0, ALICE).len();
    let mut writer = writer(policy, Encoding::Gzip);
    assert_eq!(writer.buffered(), 0);
    assert_eq!(writer.next_chunk(&mut chunk, &mut (0..5)), Ok(None));
    let initial = writer.buffered();
    for at in 5..end - 1 {
        assert_eq!(writer.next_chunk(&mut chunk, &mut (at..at + 1)), Ok(None));
    }
    let window = 32 * 1_024;
    assert!(initial > window && initial < writer.buffered());
    assert!(writer.buffered() <= policy.compressed.buffer_max());
    let whole = writer.next_chunk(&mut chunk, &mut (end - 1..end)).unwrap().unwrap();
    assert!(whole.ends_message() && writer.buffered() == 0);
    assert_eq!(
        writer.next_chunk(&mut chunk, &mut (end..end + 8)).unwrap(),
        Some(OutputChunk::Forward(end..end + 8))
    );
    assert_eq!(writer.buffered(), 0, "uncompressed messages are not buffered");
}

#[test]
fn the_length_limit_applies_before_inflating_too() {
    let compressed = gzip(ALICE);
    let got = |octets_max: usize| {
        let policy = Policy { compressed: CompressionPolicy::Inflate { octets_max }, ..STRICT };
        let octets = framed(1, &compressed);
        pass(&mut writer(policy, Encoding::Gzip), &octets, &[9]).1.map_err(|it| it.label)
    };
    assert!(compressed.len() > ALICE.len(), "its length before inflating decides");
    assert_eq!(got(compressed.len()), Ok(()));
    assert_eq!(got(compressed.len() - 1), Err("envelope.inflated"));
}

#[test]
fn the_refusals_above_a_memory_limit_name_the_connection_or_other_clients() {
    let (own, others) =
        (UserContextWriter::over_connection_limit(), UserContextWriter::over_worker_limit());
    assert!(own.message.contains("of this connection") && others.message.contains("of other"));
    for refusal in [own, others] {
        let got = (refusal.code, refusal.label);
        assert_eq!(got, (Code::ResourceExhausted, "envelope.inflated"));
    }
}
