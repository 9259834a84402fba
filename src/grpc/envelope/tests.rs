//! Findings of the scanner, in every split.

use super::*;

/// The findings in a message that arrives in pieces of this length.
fn scan_in_pieces(message: &[u8], piece: usize) -> Result<Vec<Finding>, MalformedMessage> {
    let mut scanner = Scanner::new(u32::try_from(message.len()).unwrap());
    let mut all = Vec::new();
    for mut octets in message.chunks(piece) {
        while let Some(found) = scanner.scan(&mut octets)? {
            all.push(found);
        }
        assert!(octets.is_empty());
    }
    assert_eq!(scanner.left(), 0);
    Ok(all)
}

/// The findings, equal for every split.
fn found(message: &[u8]) -> Result<Vec<Finding>, MalformedMessage> {
    let whole = scan_in_pieces(message, message.len().max(1));
    for piece in 1..message.len() {
        assert_eq!(scan_in_pieces(message, piece), whole, "pieces of {piece}");
    }
    whole
}

#[test]
fn a_normal_request_has_no_findings() {
    let mut request = vec![0x0a, 3, b'i', b'd', b's'];
    request.extend([0x12, 6, 0x0a, 1, b'a', 0x12, 1, b'A']);
    request.extend([0x1a, 4, 0x12, 0xff, 0x0b, 0]);
    request.extend([0x20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    request.extend([0x29, 1, 2, 3, 4, 5, 6, 7, 8, 0x35, 1, 2, 3, 4]);
    assert_eq!(found(&request), Ok(Vec::new()));
    assert_eq!(found(&[]), Ok(Vec::new()));
    assert_eq!(found(&[0x12, 0]), Ok(Vec::new()));
}

#[test]
fn a_repeated_user_context_is_found_at_any_position() {
    let request = [0x12, 0, 0x1a, 2, 0x12, 0, 0x92, 0x00, 2, 0x0a, 0, 0x12, 0];
    assert_eq!(found(&request), Ok(vec![Finding::Repeated, Finding::Repeated]));
}

#[test]
fn extensions_are_found_only_in_a_user_context() {
    let request = [0x12, 4, 0xba, 0x3e, 1, 0x0a, 0xba, 0x3e, 1, 7];
    assert_eq!(found(&request), Ok(vec![Finding::Extensions]));
    assert_eq!(found(&[0x12, 3, 0xb8, 0x3e, 1]), Ok(vec![Finding::Extensions]));
}

#[test]
fn an_unknown_field_of_a_user_context_is_found_with_any_wire_type() {
    let fields: [&[u8]; 6] = [
        &[0x1a, 1, b'x'],
        &[0x1a, 0],
        &[0x20, 7],
        &[0x29, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x35, 1, 2, 3, 4],
        &[0xfa, 0xff, 0xff, 0xff, 0x0f, 1, b'x'],
    ];
    for field in fields {
        for parts in [[&[0x0a, 1, b'a'], field], [field, &[0x12, 1, b'A']]] {
            let context = parts.concat();
            let length = u8::try_from(context.len()).unwrap();
            let request = [&[0x0a, 1, b'i', 0x12, length], &context[..], &[0x1a, 1, b'p']].concat();
            assert_eq!(found(&request), Ok(vec![Finding::Unknown]), "{request:02x?}");
        }
        // Outside of the user context, and deeper in it, the field is not a finding.
        assert_eq!(found(&[&[0x12, 0], field].concat()), Ok(Vec::new()));
    }
    assert_eq!(found(&[0x12, 5, 0x0a, 3, 0x1a, 1, b'x']), Ok(Vec::new()));
    let both = [0x12, 9, 0x1a, 0, 0xba, 0x3e, 0, 0x28, 1, 0x1a, 0];
    let [unknown, extensions] = [Finding::Unknown, Finding::Extensions];
    assert_eq!(found(&both), Ok(vec![unknown, extensions, unknown, unknown]));
}

#[test]
fn encodings_that_parsers_interpret_differently_are_malformed() {
    use MalformedMessage::{FieldNumber, Length, Truncated, UserContext, Varint, WireType};
    let cases: &[(&[u8], MalformedMessage)] = &[
        (&[0x20, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], Varint),
        (&[0x20, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x81, 0], Varint),
        (&[0x80, 128, 128, 128, 128, 128, 128, 128, 128, 128, 0], Varint),
        (&[0x02, 0], FieldNumber),
        (&[0x92, 0x80, 0x80, 0x80, 0x10, 0], FieldNumber),
        (&[0x0b, 0x0c], WireType),
        (&[0x0c], WireType),
        (&[0x0e], WireType),
        (&[0x0f], WireType),
        (&[0x10, 1], UserContext),
        (&[0x12, 2, 0x08, 1], UserContext),
        (&[0x12, 5, 0x15, 1, 2, 3, 4], UserContext),
        (&[0x0a, 2, 0], Length),
        (&[0x0a, 0x81, 0x80, 0x80, 0x80, 0x10, 0], Length),
        (&[0x12, 2, 0x0a, 1, 0], Length),
        (&[0x12, 3, 0], Length),
        (&[0x1d, 1, 2, 3], Length),
        (&[0x12, 2, 0x19, 0, 0, 0, 0, 0, 0, 0, 0], Length),
        (&[0x0a], Truncated),
        (&[0x20, 0x80], Truncated),
        (&[0x92], Truncated),
        (&[0x12, 1, 0x0a, 0], Truncated),
        (&[0x12, 1, 0x8a, 0], Truncated),
    ];
    for (message, why) in cases {
        assert_eq!(found(message), Err(*why), "{message:02x?}");
    }
}

#[test]
fn octets_behind_the_message_are_not_consumed() {
    let mut scanner = Scanner::new(2);
    let mut octets: &[u8] = &[0x0a, 0, 0xff, 0xff];
    assert_eq!(scanner.scan(&mut octets), Ok(None));
    assert_eq!((octets, scanner.left()), (&[0xff, 0xff][..], 0));
}

#[test]
fn a_long_field_is_skipped() {
    let mut scanner = Scanner::new(u32::MAX);
    let mut octets: &[u8] = &[0x1a, 0xf9, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(scanner.scan(&mut octets), Ok(None));
    let mut octets: &[u8] = &[0xff; 1 << 16];
    assert_eq!(scanner.scan(&mut octets), Ok(None));
    assert_eq!((octets.len(), scanner.left()), (0, u64::from(u32::MAX) - 6 - (1 << 16)));
}

/// The session id of a message, equal for every split.
fn session(message: &[u8]) -> Option<Vec<u8>> {
    let in_pieces = |piece: usize| {
        let length = u32::try_from(message.len()).unwrap();
        let mut scanner = Scanner::new(length);
        for mut octets in message.chunks(piece) {
            while scanner.scan(&mut octets).unwrap().is_some() {}
        }
        scanner.session().id().map(<[u8]>::to_vec)
    };
    let whole = in_pieces(message.len().max(1));
    for piece in 1..message.len() {
        assert_eq!(in_pieces(piece), whole, "pieces of {piece}");
    }
    whole
}

#[test]
fn the_last_session_id_of_a_message_counts() {
    assert_eq!(session(b"\x0a\x03ids\x12\x03\x0a\x01a\x1a\x01p"), Some(b"ids".to_vec()));
    assert_eq!(session(b"\x0a\x03ids\x12\x03\x0a\x01a\x0a\x02no"), Some(b"no".to_vec()));
    assert_eq!(session(b"\x0a\x03ids\x8a\x00\x02no"), Some(b"no".to_vec()));
    assert_eq!(session(b"\x0a\x03ids\x0a\x00"), None);
    assert_eq!(session(b"\x12\x05\x0a\x03ids\x1a\x03\x0a\x01i"), None);
    assert_eq!(session(b"\x0a\x03ids\x08\x07"), Some(b"ids".to_vec()));
    let id = [b'7'; 36];
    assert_eq!(session(&[b"\x0a\x24", &id[..]].concat()), Some(id.to_vec()));
    assert_eq!(session(&[b"\x0a\x25", &id[..], b"7"].concat()), None);
    assert_eq!(session(&[b"\x0a\x25", &id[..], b"7\x0a\x01i"].concat()), Some(b"i".to_vec()));
}

#[test]
fn the_reattachable_option_is_found_in_the_encoding_of_clients() {
    let yes = [0x2a, 4, 0x0a, 2, 8, 1];
    let cases: [&[u8]; 7] = [
        &[0x2a, 4, 0x0a, 2, 8, 0],
        &[0x2a, 4, 0x0a, 2, 16, 1],
        &[0x2a, 4, 0x12, 2, 8, 1],
        &[0x2a, 6, 0x0a, 4, 8, 1, 16, 1],
        &[0x2a, 2, 0x0a, 0],
        &[0x2a, 0],
        &[0x22, 4, 0x0a, 2, 8, 1],
    ];
    assert_eq!(found(&yes), Ok(vec![Finding::Reattachable]));
    for no in cases {
        assert_eq!(found(no), Ok(Vec::new()), "{no:02x?}");
        let all = [no, &yes, &[0x0a, 1, b'x']].concat();
        assert_eq!(found(&all), Ok(vec![Finding::Reattachable]), "{no:02x?}");
    }
    assert_eq!(found(&[&[0x12, 6], &yes[..]].concat()), Ok(vec![Finding::Unknown]));
}

/// Number of octets that the fast path skips at the start of a message.
fn skip_from_start(mut scanner: Scanner, message: &[u8]) -> usize {
    let mut rest = message;
    scanner.skip_whole_fields(&mut rest);
    let skipped = message.len() - rest.len();
    assert_eq!(scanner.left(), scanner.length - u64::try_from(skipped).unwrap());
    skipped
}

#[test]
fn complete_short_fields_take_the_fast_path() {
    let over = |message: &[u8]| skip_from_start(Scanner::new(u32::MAX), message);
    let long = [&[0x1a, 0x7f][..], &[7; 0x7f]].concat();
    let whole: [&[u8]; 6] = [
        b"",
        b"\x0a\x03ids\x12\x06\x0a\x01a\x12\x01A\x1a\x04plan\x22\x00",
        b"\x12\x00\x1a\x01p",
        b"\x12\x03\x0a\x01a",
        b"\x0a\x01i\x12\x02\x0a\x00\x7a\x01x",
        &long,
    ];
    for message in whole {
        assert_eq!(over(message), message.len(), "{message:02x?}");
    }
    assert_eq!(
        skip_from_start(Scanner::new(5), b"\x0a\x03ids\x1a\x00"),
        5,
        "octets behind the message"
    );
}

#[test]
fn findings_and_unusual_encodings_do_not_take_the_fast_path() {
    let first = b"\x0a\x03ids";
    let unusual: [&[u8]; 9] = [
        b"\x2a\x04\x0a\x02\x08\x01",
        b"\x20\x01\x1a\x00",
        b"\x8a\x00\x00\x1a\x00",
        b"\x02\x00",
        b"\x1a\x80\x00\x1a\x00",
        b"\x1a\x04pla",
        b"\x12\x04\x0a\x01a",
        b"\x1a",
        b"\x1d\x01\x02\x03\x04",
    ];
    for unusual in unusual {
        let skipped = skip_from_start(Scanner::new(u32::MAX), &[&first[..], unusual].concat());
        assert_eq!(skipped, first.len(), "{unusual:02x?}");
    }
    let twice = b"\x12\x03\x0a\x01a\x12\x00";
    assert_eq!(skip_from_start(Scanner::new(7), twice), 5, "a repeated user_context");
    let inside = b"\x12\x06\x0a\x01a\x1a\x01r\x1a\x00";
    assert_eq!(skip_from_start(Scanner::new(10), inside), 5, "an unknown field of user_context");
    let beyond = b"\x12\x02\x0a\x01a\x1a\x00";
    assert_eq!(skip_from_start(Scanner::new(7), beyond), 2, "a field longer than user_context");
    let cut = b"\x1a\x01p\x0a\x04ids";
    assert_eq!(skip_from_start(Scanner::new(9), cut), 3, "an incomplete session id");
}

#[test]
fn the_fast_path_continues_inside_and_behind_a_user_context() {
    let message = b"\x12\x06\x0a\x01a\x12\x01A\x1a\x01p";
    for cut in 2..message.len() {
        let mut scanner = Scanner::new(11);
        assert_eq!(scanner.scan(&mut &message[..cut]), Ok(None));
        let mut rest = &message[cut..];
        assert_eq!(scanner.scan(&mut rest), Ok(None));
        assert_eq!(
            (scanner.left(), scanner.user_context_end, scanner.has_user_context),
            (0, None, true),
            "{cut}"
        );
    }
    let mut scanner = Scanner::new(11);
    assert_eq!(scanner.scan(&mut &message[..2]), Ok(None));
    let mut rest = &message[2..];
    scanner.skip_whole_fields(&mut rest);
    assert!(rest.is_empty() && scanner.left() == 0, "the rest is complete");
    let mut scanner = Scanner::new(11);
    assert_eq!(scanner.scan(&mut &message[..2]), Ok(None));
    let mut rest = &message[2..7];
    scanner.skip_whole_fields(&mut rest);
    assert_eq!(rest.len(), 5, "the field is incomplete");
}

#[test]
fn each_malformed_encoding_has_its_message() {
    use MalformedMessage::{FieldNumber, Length, Truncated, UserContext, Varint, WireType};
    for (error, words) in [
        (Varint, "longer than 64 bits"),
        (FieldNumber, "out of range"),
        (WireType, "wire type"),
        (UserContext, "user_context"),
        (Length, "longer than the message"),
        (Truncated, "ends inside"),
    ] {
        assert!(error.to_string().contains(words), "{error:?}");
    }
}
