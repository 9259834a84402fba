//! Adversarial cases: hostile clients and hostile drivers on real sockets, against the real binary.
//!
//! The tools in `support` share no code with the relay. Each case is a sentence, and ends with a look
//! at the others: the canary must not have suffered and the process must be whole. The same cases run
//! against another proxy with `ATTACK_TARGET=host:port` and `ATTACK_BACKEND_LISTEN=host:port`, or
//! against another build of the binary with `ATTACK_BIN=path`.

#![allow(missing_docs, unreachable_pub, reason = "a test is read, not linked to")]
#![allow(clippy::too_many_lines, reason = "a table is as long as its cases are many")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "cases without libtest are not recognised as tests, and own their clock"
)]

mod addresses;
mod alerts;
mod authorities;
mod buffered;
mod callers;
mod cancelled;
mod cleartext;
mod credentials;
mod crowds;
mod deaths;
mod drivers;
mod exact;
mod expiry;
mod fairness;
mod floods;
mod flow_control;
mod frames;
mod grace;
mod grpc;
mod header_rules;
mod hoarded;
mod honest;
mod hpack;
mod identity;
mod interleavings;
mod jvm;
mod lease;
mod long_tokens;
mod members;
mod memory;
mod pinned;
mod preface;
mod prefixes;
mod providers;
mod queued;
mod reach;
mod rechecks;
mod refusal_lines;
mod refused;
mod rejected;
mod release;
mod removals;
mod responses;
mod slow;
mod spares;
mod squeezed;
mod stalls;
mod stamped;
mod states;
mod still;
mod support;
mod suspended;
mod team_errors;
mod teams;
mod tls;
mod tokens;
mod unread;
mod warnings;
mod windows;

fn main() {
    let mut cases = support::runner::Cases::default();
    preface::cases(&mut cases);
    frames::cases(&mut cases);
    states::cases(&mut cases);
    header_rules::cases(&mut cases);
    rejected::cases(&mut cases);
    hpack::cases(&mut cases);
    windows::cases(&mut cases);
    interleavings::cases(&mut cases);
    responses::cases(&mut cases);
    exact::cases(&mut cases);
    flow_control::cases(&mut cases);
    drivers::cases(&mut cases);
    buffered::cases(&mut cases);
    deaths::cases(&mut cases);
    spares::cases(&mut cases);
    grpc::cases(&mut cases);
    teams::cases(&mut cases);
    fairness::cases(&mut cases);
    slow::cases(&mut cases);
    stalls::cases(&mut cases);
    crowds::cases(&mut cases);
    hoarded::cases(&mut cases);
    pinned::cases(&mut cases);
    honest::cases(&mut cases);
    cancelled::cases(&mut cases);
    floods::cases(&mut cases);
    unread::cases(&mut cases);
    memory::cases(&mut cases);
    tls::cases(&mut cases);
    cleartext::cases(&mut cases);
    expiry::cases(&mut cases);
    authorities::cases(&mut cases);
    identity::cases(&mut cases);
    callers::cases(&mut cases);
    jvm::cases(&mut cases);
    tokens::cases(&mut cases);
    long_tokens::cases(&mut cases);
    prefixes::cases(&mut cases);
    addresses::cases(&mut cases);
    providers::cases(&mut cases);
    rechecks::cases(&mut cases);
    reach::cases(&mut cases);
    removals::cases(&mut cases);
    queued::cases(&mut cases);
    refused::cases(&mut cases);
    refusal_lines::cases(&mut cases);
    grace::cases(&mut cases);
    release::cases(&mut cases);
    lease::cases(&mut cases);
    suspended::cases(&mut cases);
    members::cases(&mut cases);
    stamped::cases(&mut cases);
    still::cases(&mut cases);
    squeezed::cases(&mut cases);
    credentials::cases(&mut cases);
    warnings::cases(&mut cases);
    alerts::cases(&mut cases);
    team_errors::cases(&mut cases);
    std::process::exit(support::runner::run(cases));
}
