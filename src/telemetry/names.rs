//! All metric names and label values, in one table.
//!
//! No other file contains a metric name. Names follow the Prometheus conventions: base units
//! (seconds, bytes), unit in the name, `_total` on counters.
//!
//! Every label is bounded: methods and codes by the enums below, teams and environments by the
//! configuration and [`TENANTS_MAX`], reasons by literals in the code and [`LABELS_MAX`]. Input of
//! a peer is never a label value.

use prometheus_client::metrics::MetricType;

/// Limit of (team, environment) pairs that are counted separately in the life of a process; later
/// pairs are counted together as [`OTHER`].
pub(crate) const TENANTS_MAX: usize = 1024;

/// Limit of values of one label of reasons; further ones are counted as [`OTHER`].
pub(crate) const LABELS_MAX: usize = 128;

/// An unknown team or environment. Not a valid team name.
pub(crate) const UNKNOWN: &str = "-";

/// All values beyond a limit. Not a valid team name.
pub(crate) const OTHER: &str = "_other";

/// A metric family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::Counter }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::Gauge }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: MetricType::Histogram }
}

pub(super) const CALLS: Family = counter(
    "sconce_calls_total",
    "Completed calls, by method, team, environment, gRPC status and source of the status",
);
pub(super) const CALL_DURATION: Family = histogram(
    "sconce_call_duration_seconds",
    "Time from the request headers of a call to the end of its stream",
);
pub(super) const FIRST_BYTE: Family = histogram(
    "sconce_call_first_byte_seconds",
    "Time from the request headers of a call to the first byte of the driver's response",
);
pub(super) const CALL_BYTES: Family = counter(
    "sconce_call_bytes_total",
    "Bytes of gRPC messages relayed in completed calls, by direction",
);
pub(super) const CALLS_ACTIVE: Family =
    gauge("sconce_calls_active", "Open calls, by method, team and environment");
pub(super) const DOWNSTREAM_CONNECTIONS_ACTIVE: Family =
    gauge("sconce_downstream_connections_active", "Open client connections");
pub(super) const DOWNSTREAM_CONNECTIONS: Family =
    counter("sconce_downstream_connections_total", "Client connections accepted");
pub(super) const UPSTREAM_CONNECTIONS_ACTIVE: Family =
    gauge("sconce_upstream_connections_active", "Open driver connections");
pub(super) const UPSTREAM_CONNECTIONS: Family =
    counter("sconce_upstream_connections_total", "Driver connections established");
pub(super) const UPSTREAM_CONNECTIONS_REUSED: Family = counter(
    "sconce_upstream_connections_reused_total",
    "Idle driver connections reused by another client connection",
);
pub(super) const UPSTREAM_CONNECTIONS_CLOSED: Family =
    counter("sconce_upstream_connections_closed_total", "Driver connections closed, by reason");
pub(super) const UPSTREAM_CONNECT_FAILURES: Family = counter(
    "sconce_upstream_connect_failures_total",
    "Failed connection attempts to drivers, by team, environment and reason",
);
pub(super) const DRIVER_UP: Family = gauge(
    "sconce_driver_up",
    "1 if the driver was reachable at the last attempt, 0 if not; absent before the first attempt",
);
pub(super) const REFUSALS: Family = counter(
    "sconce_refusals_total",
    "Calls and connections refused by sconce, by label of the refusal",
);
pub(super) const ABUSE_LIMIT_EXCEEDED: Family = counter(
    "sconce_abuse_limit_exceeded_total",
    "Abuse limits exceeded, by limit and side of the peer",
);
pub(super) const JWKS_FETCHES: Family = counter(
    "sconce_jwks_fetches_total",
    "Attempts to fetch the keys of an identity provider, by outcome",
);
pub(super) const JWKS_LAST_FETCH: Family = gauge(
    "sconce_jwks_last_fetch_timestamp_seconds",
    "Unix time of the last successful fetch of an issuer's keys; 0 before the first",
);
pub(super) const JWKS_REFRESH_INTERVAL: Family = gauge(
    "sconce_jwks_refresh_interval_seconds",
    "Configured interval between fetches of an issuer's keys",
);
pub(super) const CONFIG_RELOADS: Family =
    counter("sconce_config_reloads_total", "Reads of the configuration files, by outcome");
pub(super) const CONFIG_GENERATION: Family = gauge(
    "sconce_config_generation",
    "Generation of the active configuration: 1 at startup, +1 for each applied reload",
);
pub(super) const CONFIG_LAST_RELOAD_SUCCESS: Family = gauge(
    "sconce_config_last_reload_success_timestamp_seconds",
    "Unix time at which the active configuration was read",
);
pub(super) const CONFIG_ERRORS: Family = gauge(
    "sconce_config_errors",
    "Configuration errors at the last read, by team; - is the main file",
);
pub(super) const CERTIFICATE_EXPIRY: Family = gauge(
    "sconce_certificate_expiry_timestamp_seconds",
    "Unix time at which the first active certificate of a file expires, by use and file",
);
pub(super) const READY: Family = gauge("sconce_ready", "1 while /readyz returns 200");
pub(super) const DRAINING: Family = gauge("sconce_draining", "1 since the start of the drain");
pub(super) const LOG_DROPPED: Family = counter(
    "sconce_log_lines_dropped_total",
    "Log lines dropped because stderr was not read fast enough",
);
pub(super) const INTERNAL_ERRORS: Family = counter(
    "sconce_internal_errors_total",
    "Internal states that should be impossible, by reason; any increase is a bug",
);
pub(super) const BUILD_INFO: Family = gauge("sconce_build_info", "Always 1; labels name the build");
pub(super) const PROCESS_CPU: Family =
    counter("process_cpu_seconds_total", "CPU time of this process, user and system");
pub(super) const PROCESS_RESIDENT: Family =
    gauge("process_resident_memory_bytes", "Resident memory of this process");
pub(super) const PROCESS_FDS: Family = gauge("process_open_fds", "Open file descriptors");
pub(super) const PROCESS_FDS_MAX: Family =
    gauge("process_max_fds", "Soft limit of open file descriptors");
pub(super) const PROCESS_START: Family =
    gauge("process_start_time_seconds", "Unix time at which this process started");

/// Label names.
pub(super) mod key {
    pub(crate) const METHOD: &str = "method";
    pub(crate) const TEAM: &str = "team";
    pub(crate) const ENVIRONMENT: &str = "environment";
    pub(crate) const CODE: &str = "code";
    pub(crate) const ANSWERED_BY: &str = "answered_by";
    pub(crate) const DIRECTION: &str = "direction";
    pub(crate) const REASON: &str = "reason";
    pub(crate) const LABEL: &str = "label";
    pub(crate) const LIMIT: &str = "limit";
    pub(crate) const SIDE: &str = "side";
    pub(crate) const OUTCOME: &str = "outcome";
    pub(crate) const VERSION: &str = "version";
    pub(crate) const ISSUER: &str = "issuer";
    pub(crate) const USE: &str = "use";
    pub(crate) const FILE: &str = "file";
}

/// Upper bounds of the buckets of [`CALL_DURATION`] in milliseconds: from a small unary call to the
/// 2 minutes after which a Spark server ends a stream, and beyond.
pub(super) const DURATION_BOUNDS_MS: [u64; 14] =
    [1, 2, 5, 10, 25, 100, 500, 1_000, 5_000, 15_000, 60_000, 150_000, 600_000, 3_600_000];

/// Upper bounds of the buckets of [`FIRST_BYTE`] in milliseconds.
pub(super) const FIRST_BYTE_BOUNDS_MS: [u64; 8] = [5, 25, 100, 500, 2_000, 10_000, 60_000, 600_000];

/// Source of the status that a client received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweredBy {
    /// sconce: a refusal, a lost driver, or a call cancelled by the client.
    Sconce,
    /// The driver.
    Driver,
}

impl AnsweredBy {
    /// All values, in the order of the enum.
    pub(super) const ALL: [Self; 2] = [Self::Sconce, Self::Driver];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Sconce => "sconce",
            Self::Driver => "driver",
        }
    }
}

/// Reason of a failed connection attempt to a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// DNS lookup failed.
    Unresolved,
    /// The host or the network refused the connection.
    Refused,
    /// Timeout.
    TimedOut,
}

impl ConnectFailure {
    /// All values, in the order of the enum.
    pub(super) const ALL: [Self; 3] = [Self::Unresolved, Self::Refused, Self::TimedOut];

    /// The value in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Side of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerSide {
    /// A client of sconce.
    Downstream,
    /// A Spark driver.
    Upstream,
}

impl PeerSide {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
        }
    }
}

/// gRPC status names by code. An undefined code counts as `UNKNOWN`, as clients treat it.
pub(super) const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Index of `UNKNOWN` in [`CODES`].
pub(super) const CODE_UNKNOWN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_in_the_order_of_their_enum() {
        assert_eq!(AnsweredBy::ALL.map(|by| by as usize), [0, 1]);
        assert_eq!(ConnectFailure::ALL.map(|reason| reason as usize), [0, 1, 2]);
    }
}
