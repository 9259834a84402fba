//! Arbitrary octets as a frame header and as the payload of SETTINGS.
//!
//! A header survives parsing and writing, apart from the reserved bit; accepted settings survive
//! encoding and applying.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce::wire::frame::{FrameHeader, HEADER_LEN, Kind};
use sconce::wire::settings::Settings;

fuzz_target!(|data: &[u8]| {
    let Some((octets, payload)) = data.split_first_chunk::<HEADER_LEN>() else { return };
    let header = FrameHeader::parse(*octets);
    assert!(header.stream.number() < 1 << 31, "the reserved bit is not ignored");
    if header.kind != Kind::Unknown {
        let mut wanted = *octets;
        wanted[5] &= 0x7f;
        assert_eq!(header.octets(), wanted, "a header changes");
    }
    for from_server in [false, true] {
        let mut settings = Settings::INITIAL;
        if settings.apply(payload, from_server).is_err() {
            continue;
        }
        let mut encoded = Vec::new();
        settings.encode_changes(&Settings::INITIAL, &mut encoded);
        let mut decoded = Settings::INITIAL;
        decoded.apply(&encoded, from_server).expect("valid settings");
        assert_eq!(decoded, settings, "settings change");
    }
});
