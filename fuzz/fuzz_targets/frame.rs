//! Frame: any nine octets as a frame's header, and any payload as SETTINGS.
//!
//! A header reads back as it was written, but for what receivers must ignore; settings that were
//! taken can be told to a peer, who then has the same ones.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce::wire::frame::{HEAD, Head, Kind};
use sconce::wire::settings::Settings;

fuzz_target!(|data: &[u8]| {
    let Some((octets, payload)) = data.split_first_chunk::<HEAD>() else { return };
    let head = Head::parse(*octets);
    assert!(head.stream.number() < 1 << 31, "the reserved bit came through");
    if head.kind != Kind::Unknown {
        let mut wanted = *octets;
        wanted[5] &= 0x7f;
        assert_eq!(head.octets(), wanted, "a header does not read back");
    }
    for from_server in [false, true] {
        let mut taken = Settings::INITIAL;
        if taken.apply(payload, from_server).is_err() {
            continue;
        }
        let mut told = Vec::new();
        taken.payload_since(&Settings::INITIAL, &mut told);
        let mut heard = Settings::INITIAL;
        heard.apply(&told, from_server).expect("settings of our own");
        assert_eq!(heard, taken, "settings changed on the way");
    }
});
