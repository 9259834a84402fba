//! What a stamper does with single streams.

use sconce_filters::{Code, Refusal};

use crate::grpc::user_context::samples::{BOB, LAX, STRICT, TAIL, framed, gzip, messages, zlib};
use crate::grpc::user_context::samples::{pass, stamper, user};
use crate::grpc::user_context::{
    CompressionPolicy, Encoding, Insertion, OutputChunk, Policy, UserContextField,
    UserContextWriter,
};

/// A request of somebody who says to be Alice.
const ALICE: &[u8] = b"\x0a\x03ids\x12\x0e\x0a\x05alice\x12\x05Alice\x1a\x04plan";

fn refusal(policy: Policy, encoding: Encoding, octets: &[u8]) -> (Code, &'static str) {
    let (_, verdict) = pass(&mut stamper(policy, encoding), octets, &[1_000]);
    verdict.map_err(|Refusal { code, label, .. }| (code, label)).unwrap_err()
}

#[test]
fn each_message_of_a_stream_gets_the_stamp_and_a_prefix_that_counts_it() {
    let octets = [framed(0, ALICE), framed(0, b""), framed(0, ALICE)].concat();
    let (passed, verdict) = pass(&mut stamper(STRICT, Encoding::Identity), &octets, &[7]);
    assert_eq!(verdict, Ok(()));
    let stamped = framed(0, &[ALICE, TAIL].concat());
    assert_eq!(passed, [&stamped, &framed(0, TAIL)[..], &stamped].concat());
    assert!(messages(&passed).into_iter().all(|it| user(it) == (BOB.0.into(), BOB.1.into())));
}

#[test]
fn a_message_in_one_chunk_is_one_range_and_the_stamp() {
    let mut chunk = [b"???", &framed(0, ALICE)[..], b"???"].concat();
    let mut rest = 3..chunk.len() - 3;
    let mut stamper = stamper(STRICT, Encoding::Identity);
    let whole = rest.clone();
    let tail = UserContextField::new("bob", "Bob");
    assert_eq!(
        stamper.next_chunk(&mut chunk, &mut rest),
        Ok(Some(OutputChunk::ForwardWithUserContext(whole, tail)))
    );
    assert!(rest.is_empty() && !stamper.expects_more());
    assert_eq!(stamper.end(), Ok(()));
    assert_eq!(stamper.next_chunk(&mut chunk, &mut rest), Ok(None));
    assert_eq!(chunk[3..8], framed(0, &[ALICE, TAIL].concat())[..5]);
}

#[test]
fn the_stamp_of_a_long_message_is_a_piece_of_its_own() {
    let long = [&b"\x1a\x80\x20"[..], &[0; 4_096]].concat();
    let mut chunk = framed(0, &long);
    let mut rest = 0..chunk.len();
    let mut stamper = stamper(STRICT, Encoding::Identity);
    let whole = rest.clone();
    assert_eq!(stamper.next_chunk(&mut chunk, &mut rest), Ok(Some(OutputChunk::Forward(whole))));
    assert!(rest.is_empty() && stamper.expects_more());
    let tail = Insertion::UserContext(UserContextField::new("bob", "Bob"));
    assert_eq!(stamper.next_chunk(&mut chunk, &mut rest), Ok(Some(OutputChunk::Insert(tail))));
    assert!(!stamper.expects_more());
}

#[test]
fn chunks_in_the_middle_of_an_upload_pass_whole() {
    let mut stamper = stamper(STRICT, Encoding::Identity);
    let mut chunk = framed(0, &[&b"\x1a\x80\x80\x80\x20"[..], &[0; 11]].concat());
    chunk[1..5].copy_from_slice(&(5_u32 + (64 << 20)).to_be_bytes());
    assert_eq!(stamper.next_chunk(&mut chunk, &mut (0..21)), Ok(Some(OutputChunk::Forward(0..21))));
    let mut left = (64 << 20) - 11;
    let mut chunk = vec![0xff; 1 << 14];
    while left > 0 {
        let mut rest = 0..left.min(1 << 14);
        let whole = rest.clone();
        left -= rest.len();
        assert_eq!(
            stamper.next_chunk(&mut chunk, &mut rest),
            Ok(Some(OutputChunk::Forward(whole)))
        );
        assert!(rest.is_empty());
    }
    assert!(stamper.expects_more());
}

#[test]
fn a_prefix_in_parts_is_held_back_until_it_is_whole() {
    let mut octets = framed(0, ALICE);
    let mut stamper = stamper(STRICT, Encoding::Identity);
    for at in 0..4 {
        assert_eq!(stamper.next_chunk(&mut octets, &mut (at..at + 1)), Ok(None));
    }
    let piece = stamper.next_chunk(&mut octets, &mut (4..8)).unwrap().unwrap();
    let length = u8::try_from(ALICE.len() + TAIL.len()).unwrap();
    assert_eq!(piece, OutputChunk::Insert(Insertion::Prefix([0, 0, 0, 0, length])));
}

#[test]
fn a_stream_that_ends_within_a_message_is_refused() {
    let octets = framed(0, ALICE);
    for length in 1..octets.len() {
        let told = refusal(STRICT, Encoding::Identity, &octets[..length]);
        assert_eq!(told, (Code::InvalidArgument, "envelope.malformed"));
    }
    assert_eq!(pass(&mut stamper(STRICT, Encoding::Identity), b"", &[1]), (Vec::new(), Ok(())));
}

#[test]
fn a_malformed_message_is_refused_before_its_last_octet() {
    let octets = framed(0, b"\x0a\x03ids\x1a\x06plan");
    let (passed, verdict) = pass(&mut stamper(LAX, Encoding::Identity), &octets, &[1]);
    assert_eq!(verdict.unwrap_err().label, "envelope.malformed");
    assert!(passed.len() < octets.len());
}

#[test]
fn what_is_odd_is_refused_or_overruled_as_the_policy_says() {
    let twice = framed(0, b"\x12\x00\x12\x07\x0a\x05alice");
    let extended = framed(0, b"\x12\x03\xba\x3e\x00");
    let unknown = framed(0, b"\x12\x0a\x0a\x05alice\x1a\x01r");
    for (octets, label) in [
        (twice, "envelope.repeated"),
        (extended, "envelope.extensions"),
        (unknown, "envelope.unknown"),
    ] {
        let told = refusal(STRICT, Encoding::Identity, &octets);
        assert_eq!(told, (Code::InvalidArgument, label));
        let (passed, verdict) = pass(&mut stamper(LAX, Encoding::Identity), &octets, &[1_000]);
        assert_eq!(verdict, Ok(()));
        assert_eq!(user(messages(&passed)[0]), (BOB.0.into(), BOB.1.into()));
    }
}

#[test]
fn a_compressed_message_passes_uncompressed_with_its_stamp() {
    let stamped = framed(0, &[ALICE, TAIL].concat());
    for (encoding, compressed) in [
        (Encoding::from_name(b"gzip"), gzip(ALICE)),
        (Encoding::from_name(b"deflate"), zlib(ALICE)),
    ] {
        let octets = [framed(1, &compressed), framed(0, ALICE), framed(1, &compressed)].concat();
        for size in 1..octets.len() {
            let (passed, verdict) = pass(&mut stamper(LAX, encoding), &octets, &[size]);
            assert_eq!(verdict, Ok(()));
            assert_eq!(passed, stamped.repeat(3));
        }
    }
}

#[test]
fn what_a_compressed_message_hides_is_found() {
    let policy = Policy { compressed: LAX.compressed, ..STRICT };
    let told = |message: &[u8]| refusal(policy, Encoding::Gzip, &framed(1, &gzip(message))).1;
    assert_eq!(told(b"\x12\x00\x12\x00"), "envelope.repeated");
    assert_eq!(told(b"\x12\x03\xba\x3e\x00"), "envelope.extensions");
    assert_eq!(told(b"\x12\x02\x20\x01"), "envelope.unknown");
    assert_eq!(told(b"\x12\x03"), "envelope.malformed");
}

#[test]
fn a_compressed_message_that_cannot_be_taken_is_refused_by_its_prefix() {
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
    let told = refusal(LAX, Encoding::Gzip, &framed(2, ALICE));
    assert_eq!(told, (Internal, "envelope.compressed"));
}

#[test]
fn a_message_that_has_no_room_for_the_stamp_is_refused() {
    let longest = u32::MAX - u32::try_from(TAIL.len()).unwrap();
    let prefix = |length: u32| [&[0], &length.to_be_bytes()[..]].concat();
    let told = refusal(LAX, Encoding::Identity, &prefix(longest + 1));
    assert_eq!(told, (Code::ResourceExhausted, "envelope.length"));
    let (passed, _) = pass(&mut stamper(LAX, Encoding::Identity), &prefix(longest), &[5]);
    assert_eq!(passed, prefix(u32::MAX));
}

#[test]
fn a_compressed_message_of_no_octets_is_refused() {
    for encoding in [Encoding::Gzip, Encoding::Deflate] {
        let told = refusal(LAX, encoding, &framed(1, b""));
        assert_eq!(told, (Code::InvalidArgument, "envelope.inflated"));
    }
}

#[test]
fn the_session_of_a_message_is_told_with_its_stamp() {
    let long = [&b"\x0a\x03two\x1a\x80\x20"[..], &[0; 4_096]].concat();
    let stream =
        [framed(0, ALICE), framed(0, &long), framed(1, &gzip(b"\x0a\x01z")), framed(0, b"")];
    for piece in [1, 7, 10_000] {
        let mut stamper = stamper(LAX, Encoding::Gzip);
        let mut told = Vec::new();
        for chunk in stream.concat().chunks(piece) {
            let (mut chunk, mut rest) = (chunk.to_vec(), 0..chunk.len());
            while let Some(piece) = stamper.next_chunk(&mut chunk, &mut rest).unwrap() {
                if piece.ends_message() {
                    told.push(stamper.session().map(<[u8]>::to_vec));
                }
            }
        }
        assert_eq!(told, [Some(b"ids".to_vec()), Some(b"two".to_vec()), Some(b"z".to_vec()), None]);
    }
}

#[test]
fn a_request_whose_stream_may_be_taken_up_again_is_known_by_any_of_its_messages() {
    let (no, yes) = (&b"\x2a\x04\x0a\x02\x08\x00"[..], &b"\x2a\x04\x0a\x02\x08\x01"[..]);
    let said = |messages: &[Vec<u8>]| {
        let mut stamper = stamper(LAX, Encoding::Gzip);
        assert_eq!(pass(&mut stamper, &messages.concat(), &[7]).1, Ok(()));
        stamper.is_reattachable()
    };
    assert!(!said(&[framed(0, ALICE), framed(0, no)]));
    assert!(said(&[framed(0, yes)]));
    assert!(said(&[framed(0, no), framed(1, &gzip(yes)), framed(0, ALICE)]));
}

#[test]
fn only_messages_of_a_request_with_an_encoding_may_become_longer() {
    assert!(!stamper(LAX, Encoding::Identity).may_inflate());
    for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Other] {
        assert!(stamper(LAX, encoding).may_inflate());
    }
}

#[test]
fn what_is_kept_of_a_compressed_message_is_counted_until_it_is_whole() {
    let policy = Policy { compressed: CompressionPolicy::Inflate { octets_max: 4_096 }, ..LAX };
    let octets: Vec<u8> = (0..=u8::MAX).cycle().take(4_000).collect();
    let long = [&b"\x1a\xa0\x1f"[..], &octets].concat();
    let mut chunk = [framed(1, &gzip(&long)), framed(0, ALICE)].concat();
    let end = chunk.len() - framed(0, ALICE).len();
    let mut stamper = stamper(policy, Encoding::Gzip);
    assert_eq!(stamper.buffered(), 0);
    assert_eq!(stamper.next_chunk(&mut chunk, &mut (0..5)), Ok(None));
    let begun = stamper.buffered();
    for at in 5..end - 1 {
        assert_eq!(stamper.next_chunk(&mut chunk, &mut (at..at + 1)), Ok(None));
    }
    let window = 32 * 1_024;
    assert!(begun > window && begun < stamper.buffered());
    assert!(stamper.buffered() <= policy.compressed.buffer_max());
    let whole = stamper.next_chunk(&mut chunk, &mut (end - 1..end)).unwrap().unwrap();
    assert!(whole.ends_message() && stamper.buffered() == 0);
    assert_eq!(
        stamper.next_chunk(&mut chunk, &mut (end..end + 8)).unwrap(),
        Some(OutputChunk::Forward(end..end + 8))
    );
    assert_eq!(stamper.buffered(), 0, "what is not compressed passes");
}

#[test]
fn a_compressed_message_may_have_as_many_octets_as_the_policy_says() {
    let compressed = gzip(ALICE);
    let told = |octets_max: usize| {
        let policy = Policy { compressed: CompressionPolicy::Inflate { octets_max }, ..STRICT };
        let octets = framed(1, &compressed);
        pass(&mut stamper(policy, Encoding::Gzip), &octets, &[9]).1.map_err(|it| it.label)
    };
    assert!(compressed.len() > ALICE.len(), "its length before inflating decides");
    assert_eq!(told(compressed.len()), Ok(()));
    assert_eq!(told(compressed.len() - 1), Err("envelope.inflated"));
}

#[test]
fn a_call_for_which_there_is_no_room_is_told_whose_messages_take_it() {
    let (own, others) =
        (UserContextWriter::over_connection_limit(), UserContextWriter::over_worker_limit());
    assert!(own.message.contains("of this connection") && others.message.contains("of other"));
    for refusal in [own, others] {
        let told = (refusal.code, refusal.label);
        assert_eq!(told, (Code::ResourceExhausted, "envelope.inflated"));
    }
}
