//! The validated configuration: every value checked, every reference resolved.
//!
//! Must never happen here: a value that needs further validation.

use crate::config::{
    CertValidity, ConfigError, DriverAddress, Network, Tls, cert_validity, keys::JwksProvider,
};
use crate::grpc::{credential::Credential, redact::HiddenKeys, user_context::Policy};
use sconce_filters::{
    EnvironmentName, FilterChain, FilterConfig, Method, TeamName, authenticate,
    identity::IdentitySource,
    team::{self, Authority, Members, RemovalKind, Removed},
};
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use tracing::level_filters::LevelFilter;

/// Effect of a missing `listen.tls`.
const WITHOUT_TLS: &str = "tokens would be unencrypted";

/// The complete configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Listener for clients. A new address requires a restart.
    pub listen: Listen,
    /// Address of the admin listener. Requires a restart.
    pub admin: SocketAddr,
    /// Number of worker threads. Requires a restart.
    pub workers: Workers,
    /// Log level and format. A new format requires a restart.
    pub log: Log,
    /// The filter chain.
    pub filters: Filters,
    /// The sources of the identity providers' keys.
    pub providers: Vec<JwksProvider>,
    /// Time after a start for which `/readyz` answers 503 while an issuer has no usable keys.
    pub initial_fetch_timeout: Duration,
    /// All teams.
    pub teams: BTreeMap<TeamName, Team>,
    /// Time for which sessions with an open execution continue after the removal of their team or
    /// member.
    pub removal_delay: Duration,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Times of the drain.
    pub drain: Drain,
    /// Size limits.
    pub limits: Limits,
    /// Policy for user context sent by clients.
    pub user_context: Policy,
}

impl Config {
    /// The validity of all certificates.
    pub fn certificates(&self) -> &[CertValidity] {
        self.listen.tls.as_ref().map(Tls::certificates).unwrap_or_default()
    }

    /// Whether sessions end when their tokens expire.
    pub fn ends_sessions_with_tokens(&self) -> bool {
        !self.providers.is_empty() && self.filters.token_leeway().grace.is_zero()
    }

    /// This config, read from `file`, if a reload may replace the live config with it.
    ///
    /// # Errors
    /// A valid certificate would be replaced by an expired one, or a protection would be removed.
    pub fn validate_reload(
        self,
        live: &Self,
        file: &Path,
        now: SystemTime,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut lost = cert_validity::expired_replacements(
            (self.certificates(), live.certificates()),
            file,
            now,
        );
        lost.extend(self.removed_protections(live, file));
        if lost.is_empty() { Ok(self) } else { Err(lost) }
    }

    /// Removed protections: a reload must not remove authentication or TLS, because the file may be
    /// truncated.
    fn removed_protections(&self, live: &Self, file: &Path) -> Vec<ConfigError> {
        let has_authenticate =
            |config: &Self| config.filters.chain.names().any(|name| name == authenticate::NAME);
        let parts = [
            (
                "authenticate",
                has_authenticate(live) && !has_authenticate(self),
                "callers would not be authenticated",
            ),
            ("listen.tls", live.listen.tls.is_some() && self.listen.tls.is_none(), WITHOUT_TLS),
        ];
        let gone = parts.into_iter().filter(|(_, is_gone, _)| *is_gone);
        gone.map(|(key, _, what)| ConfigError {
            file: file.to_owned(),
            line: 0,
            key: key.to_owned(),
            what: format!("was removed: {what}"),
            help: "put it back, or restart sconce to remove it".to_owned(),
        })
        .collect()
    }
}

/// Listener for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Listen address; with port 0 the system chooses a port.
    pub address: SocketAddr,
    /// Length of the accept queue; `None`: the kernel's maximum.
    pub backlog: Option<u32>,
    /// Maximum concurrent client connections.
    pub connections: u32,
    /// Maximum concurrent connections from one source: an IPv4 address or an IPv6 /64 network.
    pub connections_per_source: u32,
    /// Networks without a limit per source.
    pub exempt_networks: Vec<Network>,
    /// Maximum concurrent TLS handshakes of one worker.
    pub handshakes_per_worker: u32,
    /// Maximum concurrent streams of a client connection.
    pub streams_per_connection: u32,
    /// Whether a proxy in front of sconce terminates TLS. Then there is no warning about tokens
    /// without TLS.
    pub is_tls_external: bool,
    /// TLS for clients; `None`: no encryption.
    pub tls: Option<Tls>,
}

/// Number of worker threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One for each CPU core available to this process.
    OnePerCore,
    /// This number.
    Fixed(NonZeroUsize),
}

impl Workers {
    /// The number of threads on this host; at least one.
    pub fn count(self) -> usize {
        match self {
            Self::OnePerCore => thread::available_parallelism().map_or(1, NonZeroUsize::get),
            Self::Fixed(count) => count.get(),
        }
    }
}

/// Log settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Format of log lines.
    pub format: Format,
    /// Minimum level of log lines.
    pub level: Level,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Text for a terminal.
    Pretty,
}

/// Minimum level of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is what its word says")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// The level filter for `tracing`.
    pub fn level_filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }

    /// The value in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The filter chain and its settings.
#[derive(Clone)]
pub struct Filters {
    pub(super) chain: FilterChain,
    pub(super) configs: Vec<FilterConfig>,
}

impl Filters {
    /// Prefixes that were reserved for one issuer in `before` and are not reserved any more.
    pub fn freed_prefixes<'b>(&self, before: &'b Self) -> Vec<&'b str> {
        let Some(before) = before.authenticate() else { return Vec::new() };
        let reserved = self.authenticate().map(|now| now.reserved.clone()).unwrap_or_default();
        reserved.no_longer_reserved(&before.reserved)
    }

    /// The losses of teams between the two.
    pub fn losses_since(&self, before: &Self) -> BTreeMap<TeamName, RemovalKind> {
        let unset = team::Settings::default();
        before.team().unwrap_or(&unset).removed_in(self.team().unwrap_or(&unset))
    }

    /// Whether authentication is enabled in both or in neither.
    pub fn has_same_authentication(&self, other: &Self) -> bool {
        let has_authenticate =
            |filters: &Self| filters.team().is_some_and(|team| team.members.is_some());
        has_authenticate(self) == has_authenticate(other)
    }

    /// The record of the removals by a reload: see [`Removed::new`].
    pub fn removed<'t>(
        &self,
        teams: impl Iterator<Item = &'t TeamName>,
        number: u64,
        until: SystemTime,
    ) -> Arc<Removed> {
        let unset = team::Settings::default();
        Removed::new(self.team().unwrap_or(&unset), teams, number, until)
    }

    /// The chain with filters that also admit calls because of removals.
    pub fn chain_with_removed(&self, removed: Vec<Arc<Removed>>) -> FilterChain {
        let build = |config: &FilterConfig| match config.get::<team::Settings>() {
            Some(settings) => {
                let settings = team::Settings { removed: removed.clone(), ..settings.clone() };
                FilterConfig::new(team::Factory, settings).build()
            }
            None => config.build(),
        };
        // The same filters in the same order were validated before.
        FilterChain::new(self.configs.iter().map(build).collect())
            .unwrap_or_else(|_| self.chain.clone())
    }

    /// The settings of the filter `team`, if it is in the chain.
    pub(super) fn team(&self) -> Option<&team::Settings> {
        self.configs.iter().find_map(FilterConfig::get)
    }

    fn authenticate(&self) -> Option<&authenticate::Settings> {
        self.configs.iter().find_map(FilterConfig::get)
    }

    /// The validated filter chain.
    pub fn chain(&self) -> &FilterChain {
        &self.chain
    }

    /// Extra validity of tokens after their expiry.
    pub fn token_leeway(&self) -> TokenLeeway {
        let Some(authenticate) = self.authenticate() else { return TokenLeeway::default() };
        let (grace, release_grace) = (authenticate.grace, authenticate.release_grace);
        TokenLeeway { skew: authenticate.skew, grace, release_grace }
    }
}

/// Extra validity of tokens after their expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenLeeway {
    /// For all uses: the tolerated clock difference.
    pub skew: Duration,
    /// In addition, for existing sessions.
    pub grace: Duration,
    /// In addition to the skew, for calls that release resources of their user.
    pub release_grace: Duration,
}

impl TokenLeeway {
    /// The total for an identity from this source. A certificate has no grace.
    pub fn for_source(self, source: &IdentitySource) -> Duration {
        match source {
            IdentitySource::Certificate => self.skew,
            IdentitySource::Token { .. } | IdentitySource::StaticToken { .. } => {
                self.skew.saturating_add(self.grace)
            }
        }
    }

    /// The part for calls of a method in any session.
    pub fn for_any_session(self, method: Method) -> Duration {
        match method.is_release() {
            true => self.skew.saturating_add(self.release_grace),
            false => self.skew,
        }
    }
}

impl PartialEq for Filters {
    /// Equal if they make equal decisions.
    fn eq(&self, other: &Self) -> bool {
        self.configs == other.configs
    }
}

impl Eq for Filters {}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chain.fmt(f)
    }
}

/// One team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Team {
    /// Its file.
    pub file: PathBuf,
    /// Its environments; at least one.
    pub environments: BTreeMap<EnvironmentName, Environment>,
    /// Its members, in addition to callers whose token names the team.
    pub members: Members,
}

/// One environment of a team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Address of its driver.
    pub driver: DriverAddress,
    /// Token that the driver requires.
    pub credential: Option<Credential>,
    /// Spark configuration keys that are hidden from clients.
    pub hidden_keys: HiddenKeys,
    /// Host names of this environment; unique over all environments.
    pub authorities: Vec<Authority>,
}

/// Time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection preface and SETTINGS of a client, and for each header block.
    pub handshake: Duration,
    /// For a client to acknowledge SETTINGS.
    pub settings_ack: Duration,
    /// For 1 KiB of a request body while its window is open.
    pub body_progress: Duration,
    /// From the start of a call to the end of its request body.
    pub body_age: Duration,
    /// For a client to read 1 KiB of a response while its window is closed.
    pub window_closed: Duration,
    /// From the start of a client connection to its first admitted call.
    pub unauthenticated: Duration,
    /// Of a client connection without an open stream.
    pub idle: Duration,
    /// Without data from a client before a PING.
    pub keepalive: Duration,
    /// For a client to answer the PING.
    pub keepalive_ack: Duration,
    /// For the TCP connect and the HTTP/2 handshake with a driver.
    pub connect: Duration,
    /// Without data from a driver with open calls before a PING.
    pub driver_keepalive: Duration,
    /// For a driver to answer the PING.
    pub driver_keepalive_ack: Duration,
}

/// Times of the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Time not ready, but still accepting connections.
    pub delay: Duration,
    /// Time for open streams to finish after that.
    pub grace: Duration,
}

/// Size limits of request headers and flow-control windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum header list in bytes: for each field, name, value and 32 (RFC 7541, 4.1).
    pub header_list: u32,
    /// Maximum number of header fields.
    pub header_count: u32,
    /// Maximum header list to a driver in bytes, counted alike.
    pub driver_header_list: u32,
    /// Maximum flow-control window of an upload in bytes.
    pub upload_window: u32,
}
