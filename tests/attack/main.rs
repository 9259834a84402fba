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

mod alerts;
mod authentication;
mod buffered_responses;
mod certificate_expiry;
mod cleartext;
mod client_authorities;
mod compression;
mod config_warnings;
mod connection_limits;
mod driver_credentials;
mod driver_failures;
mod driver_health;
mod driver_violations;
mod email_claims;
mod fairness;
mod floods;
mod flow_control;
mod frames;
mod grace;
mod grpc;
mod head_of_line;
mod header_rules;
mod hpack;
mod identity_confusion;
mod identity_providers;
mod idle_cpu;
mod idle_pool;
mod idle_windows;
mod interleavings;
mod issuer_prefixes;
mod jvm_tokens;
mod legitimate_traffic;
mod long_tokens;
mod memory;
mod permission_rechecks;
mod preface;
mod queued_calls;
mod reauthentication;
mod refusal_budget;
mod refusal_log;
mod rejected_requests;
mod release_grace;
mod request_matching;
mod reset_streams;
mod response_repair;
mod slow;
mod stalled_uploads;
mod stream_states;
mod support;
mod team_errors;
mod team_isolation;
mod team_membership;
mod team_removals;
mod tls;
mod token_expiry;
mod tokens;
mod unread_refusals;
mod user_context;
mod window_settings;

fn main() {
    let mut cases = support::runner::Cases::default();
    preface::cases(&mut cases);
    frames::cases(&mut cases);
    stream_states::cases(&mut cases);
    header_rules::cases(&mut cases);
    rejected_requests::cases(&mut cases);
    hpack::cases(&mut cases);
    window_settings::cases(&mut cases);
    interleavings::cases(&mut cases);
    response_repair::cases(&mut cases);
    request_matching::cases(&mut cases);
    flow_control::cases(&mut cases);
    driver_violations::cases(&mut cases);
    buffered_responses::cases(&mut cases);
    driver_failures::cases(&mut cases);
    idle_pool::cases(&mut cases);
    grpc::cases(&mut cases);
    team_isolation::cases(&mut cases);
    fairness::cases(&mut cases);
    slow::cases(&mut cases);
    head_of_line::cases(&mut cases);
    connection_limits::cases(&mut cases);
    idle_windows::cases(&mut cases);
    stalled_uploads::cases(&mut cases);
    legitimate_traffic::cases(&mut cases);
    reset_streams::cases(&mut cases);
    floods::cases(&mut cases);
    unread_refusals::cases(&mut cases);
    memory::cases(&mut cases);
    tls::cases(&mut cases);
    cleartext::cases(&mut cases);
    certificate_expiry::cases(&mut cases);
    client_authorities::cases(&mut cases);
    authentication::cases(&mut cases);
    identity_confusion::cases(&mut cases);
    jvm_tokens::cases(&mut cases);
    tokens::cases(&mut cases);
    long_tokens::cases(&mut cases);
    issuer_prefixes::cases(&mut cases);
    email_claims::cases(&mut cases);
    identity_providers::cases(&mut cases);
    permission_rechecks::cases(&mut cases);
    driver_health::cases(&mut cases);
    team_removals::cases(&mut cases);
    queued_calls::cases(&mut cases);
    refusal_budget::cases(&mut cases);
    refusal_log::cases(&mut cases);
    grace::cases(&mut cases);
    release_grace::cases(&mut cases);
    token_expiry::cases(&mut cases);
    reauthentication::cases(&mut cases);
    team_membership::cases(&mut cases);
    user_context::cases(&mut cases);
    idle_cpu::cases(&mut cases);
    compression::cases(&mut cases);
    driver_credentials::cases(&mut cases);
    config_warnings::cases(&mut cases);
    alerts::cases(&mut cases);
    team_errors::cases(&mut cases);
    std::process::exit(support::runner::run(cases));
}
