//! The examples of RFC 7541, appendix C, decoded and encoded.

use crate::wire::hpack::{Decoder, Encoder, Fields, Limits};

/// A block in hexadecimal, and its fields.
type Example = (&'static str, &'static [(&'static str, &'static str)]);

const LIMITS: Limits = Limits { octets: 4_096, count: 32 };

fn octets(hex: &str) -> Vec<u8> {
    let hex: Vec<u8> = hex.bytes().filter(|octet| !octet.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.chunks_exact(2).map(pair).collect()
}

/// Decodes consecutive blocks and encodes each again. With a table of 256 octets, the first block
/// begins with a size update.
fn run(table: u32, examples: &[Example]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut decoder, mut encoder) = (Decoder::new(table), Encoder::new());
    encoder.limit_table(table);
    let mut announced = Vec::new();
    encoder.encode([], &mut announced);
    let mut fields = Fields::default();
    decoder.decode(&announced, LIMITS, &mut fields).unwrap();
    let mut pairs = Vec::new();
    for (hex, want) in examples {
        let block = octets(hex);
        decoder.decode(&block, LIMITS, &mut fields).unwrap();
        let seen: Vec<_> = fields
            .iter()
            .map(|field| {
                let value = field.value.decode(&mut Vec::new()).to_vec();
                let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
                (text(field.name.to_vec()), text(value))
            })
            .collect();
        let want: Vec<_> = want.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        assert_eq!(seen, want, "{hex}");
        let mut written = Vec::new();
        encoder.encode(fields.iter(), &mut written);
        pairs.push((block, written));
    }
    pairs
}

fn reads_and_writes(table: u32, examples: &[Example]) {
    for (block, written) in run(table, examples) {
        assert_eq!(written, block);
    }
}

#[test]
fn c_2_single_fields() {
    for example in [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            &[("custom-key", "custom-header")][..],
        ),
        ("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")]),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")]),
        ("82", &[(":method", "GET")]),
    ] {
        reads_and_writes(4_096, &[example]);
    }
}

const REQUESTS: [&[(&str, &str)]; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

#[test]
fn c_3_requests_without_huffman() {
    reads_and_writes(
        4_096,
        &[
            ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUESTS[0]),
            ("8286 84be 5808 6e6f 2d63 6163 6865", REQUESTS[1]),
            (
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
                REQUESTS[2],
            ),
        ],
    );
}

#[test]
fn c_4_requests_with_huffman() {
    let pairs = run(
        4_096,
        &[
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUESTS[0]),
            ("8286 84be 5886 a8eb 1064 9cbf", REQUESTS[1]),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", REQUESTS[2]),
        ],
    );
    assert_eq!(pairs[0].0, pairs[0].1);
    assert_eq!(pairs[1].0, pairs[1].1);
    // A new name is encoded without Huffman code.
    let own = "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 8925 a849 e95b b8e8 b4bf";
    assert_eq!(pairs[2].1, octets(own));
}

const RESPONSES: [&[(&str, &str)]; 3] = [
    &[
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "307"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    &[
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
];

#[test]
fn c_5_responses_without_huffman_and_with_evictions() {
    reads_and_writes(
        256,
        &[
            (
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
                 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
                 6c65 2e63 6f6d",
                RESPONSES[0],
            ),
            ("4803 3330 37c1 c0bf", RESPONSES[1]),
            (
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
                 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
                 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
                 3d31",
                RESPONSES[2],
            ),
        ],
    );
}

#[test]
fn c_6_responses_with_huffman_and_with_evictions() {
    reads_and_writes(
        256,
        &[
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
                 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                RESPONSES[0],
            ),
            ("4883 640e ffc1 c0bf", RESPONSES[1]),
            (
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
                 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
                 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                RESPONSES[2],
            ),
        ],
    );
}
