//! What the proxy trusts: every value checked, every reference resolved.
//!
//! If you hold a [`Plan`], it is sound. Must never happen here: a value that somebody still has to
//! check.

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

/// What it would mean to go on without TLS.
const WITHOUT_TLS: &str = "tokens would come in clear text";

/// All that the files say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where clients come in. The address needs a restart to change.
    pub listen: Listen,
    /// Where operators look in. Needs a restart to change.
    pub admin: SocketAddr,
    /// How many threads move bytes. Needs a restart to change.
    pub workers: Workers,
    /// What is logged, and how. The format needs a restart to change.
    pub log: Log,
    /// The filters, in their order.
    pub filters: Filters,
    /// Where the keys of identity providers come from.
    pub providers: Vec<JwksProvider>,
    /// How long `/readyz` says no at the start while an issuer's keys have not come.
    pub initial_fetch_timeout: Duration,
    /// Every team.
    pub teams: BTreeMap<TeamName, Team>,
    /// How long sessions with an open execution go on when their team or member is removed.
    pub removal_delay: Duration,
    /// How long each thing may take.
    pub timeouts: Timeouts,
    /// How sconce goes away.
    pub drain: Drain,
    /// How large a request's head may be.
    pub limits: Limits,
    /// What may stand in a message beside the caller who is written into it.
    pub user_context: Policy,
}

impl Config {
    /// From when to when the certificates of all files are good.
    pub fn certificates(&self) -> &[CertValidity] {
        self.listen.tls.as_ref().map(Tls::certificates).unwrap_or_default()
    }

    /// Whether sessions end with the tokens that they were begun with.
    pub fn ends_sessions_with_tokens(&self) -> bool {
        !self.providers.is_empty() && self.filters.token_leeway().grace.is_zero()
    }

    /// This plan, which `file` says, if it may follow upon the one that is live.
    ///
    /// # Errors
    /// What would be lost by it.
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

    /// What was asked of callers and is not any more: half a file must not open the door.
    fn removed_protections(&self, live: &Self, file: &Path) -> Vec<ConfigError> {
        let asks = |plan: &Self| plan.filters.chain.names().any(|name| name == authenticate::NAME);
        let parts = [
            ("authenticate", asks(live) && !asks(self), "who calls would not be asked any more"),
            ("listen.tls", live.listen.tls.is_some() && self.listen.tls.is_none(), WITHOUT_TLS),
        ];
        let gone = parts.into_iter().filter(|(_, is_gone, _)| *is_gone);
        gone.map(|(key, _, what)| ConfigError {
            file: file.to_owned(),
            line: 0,
            key: key.to_owned(),
            what: format!("is gone: {what}"),
            help: "put it back; where it is to go for good, restart sconce".to_owned(),
        })
        .collect()
    }
}

/// Where clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address to bind; with port 0 the system chooses one.
    pub address: SocketAddr,
    /// How many connections may wait to be accepted; `None`: as many as the kernel allows.
    pub backlog: Option<u32>,
    /// How many client connections there may be at once.
    pub connections: u32,
    /// How many of them may come from one source: an IPv4 address, or a /64 of IPv6.
    pub connections_per_source: u32,
    /// Networks whose addresses may have more than that.
    pub exempt_networks: Vec<Network>,
    /// How many TLS handshakes a worker goes on with before its other connections have their turn.
    pub handshakes_per_worker: u32,
    /// How many streams a client connection may have open at once.
    pub streams_per_connection: u32,
    /// Whether something in front of sconce, such as a load balancer, ends the clients' TLS: then
    /// nobody is warned of tokens in clear text.
    pub is_tls_external: bool,
    /// The TLS that clients are met with; without it they come in clear text.
    pub tls: Option<Tls>,
}

/// How many threads move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One for each core that this process may use.
    OnePerCore,
    /// So many.
    Fixed(NonZeroUsize),
}

impl Workers {
    /// The number of threads on this machine; at least one.
    pub fn count(self) -> usize {
        match self {
            Self::OnePerCore => thread::available_parallelism().map_or(1, NonZeroUsize::get),
            Self::Fixed(count) => count.get(),
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: Format,
    /// How much is said.
    pub level: Level,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// For a person at a terminal.
    Pretty,
}

/// How much is said.
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
    /// What the log takes for it.
    pub fn level_filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }

    /// The word in config.
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

/// The filters in their order, and what they were built from.
#[derive(Clone)]
pub struct Filters {
    pub(super) chain: FilterChain,
    pub(super) configs: Vec<FilterConfig>,
}

impl Filters {
    /// The prefixes that names of one source alone could begin with before, and any name can now.
    pub fn freed_prefixes<'b>(&self, before: &'b Self) -> Vec<&'b str> {
        let Some(before) = before.authenticate() else { return Vec::new() };
        let reserved = self.authenticate().map(|now| now.reserved.clone()).unwrap_or_default();
        reserved.no_longer_reserved(&before.reserved)
    }

    /// What those before had for teams, and these have not.
    pub fn losses_since(&self, before: &Self) -> BTreeMap<TeamName, RemovalKind> {
        let unset = team::Settings::default();
        before.team().unwrap_or(&unset).removed_in(self.team().unwrap_or(&unset))
    }

    /// Whether both know who calls, or neither does.
    pub fn has_same_authentication(&self, other: &Self) -> bool {
        let asks = |rooms: &Self| rooms.team().is_some_and(|team| team.members.is_some());
        asks(self) == asks(other)
    }

    /// The record of what a reload takes away from some teams: see [`Removed::new`].
    pub fn removed<'t>(
        &self,
        teams: impl Iterator<Item = &'t TeamName>,
        number: u64,
        until: SystemTime,
    ) -> Arc<Removed> {
        let unset = team::Settings::default();
        Removed::new(self.team().unwrap_or(&unset), teams, number, until)
    }

    /// The chain, of filters that admit with a mark what was removed.
    pub fn chain_with_removed(&self, removed: Vec<Arc<Removed>>) -> FilterChain {
        let build = |config: &FilterConfig| match config.get::<team::Settings>() {
            Some(settings) => {
                let settings = team::Settings { removed: removed.clone(), ..settings.clone() };
                FilterConfig::new(team::Factory, settings).build()
            }
            None => config.build(),
        };
        // The contract of the same filters in the same order holds.
        FilterChain::new(self.configs.iter().map(build).collect())
            .unwrap_or_else(|_| self.chain.clone())
    }

    /// The settings of `team`, if it is in the chain.
    pub(super) fn team(&self) -> Option<&team::Settings> {
        self.configs.iter().find_map(FilterConfig::get)
    }

    fn authenticate(&self) -> Option<&authenticate::Settings> {
        self.configs.iter().find_map(FilterConfig::get)
    }

    /// The chain, its contract checked.
    pub fn chain(&self) -> &FilterChain {
        &self.chain
    }

    /// How much longer a caller's proof is good than it says.
    pub fn token_leeway(&self) -> TokenLeeway {
        let Some(authenticate) = self.authenticate() else { return TokenLeeway::default() };
        let (grace, release_grace) = (authenticate.grace, authenticate.release_grace);
        TokenLeeway { skew: authenticate.skew, grace, release_grace }
    }
}

/// How much longer a caller's proof is good than it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenLeeway {
    /// For whatever it is used: clocks may be apart by so much.
    pub skew: Duration,
    /// And after that, for sessions that began before.
    pub grace: Duration,
    /// And after the skew, for calls that release what their caller has begun.
    pub release_grace: Duration,
}

impl TokenLeeway {
    /// All of it, for what this proves: a certificate has no grace.
    pub fn for_source(self, source: &IdentitySource) -> Duration {
        match source {
            IdentitySource::Certificate => self.skew,
            IdentitySource::Token { .. } | IdentitySource::StaticToken { .. } => {
                self.skew.saturating_add(self.grace)
            }
        }
    }

    /// What of it calls of a method have for any session.
    pub fn for_any_session(self, method: Method) -> Duration {
        match method.is_release() {
            true => self.skew.saturating_add(self.release_grace),
            false => self.skew,
        }
    }
}

impl PartialEq for Filters {
    /// Two are equal when they would decide alike.
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

/// One team, from its own file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Team {
    /// The file that says so.
    pub file: PathBuf,
    /// Its environments; at least one.
    pub environments: BTreeMap<EnvironmentName, Environment>,
    /// Who belongs to it, apart from those whose proof itself names it.
    pub members: Members,
}

/// One environment of a team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Where its driver listens.
    pub driver: DriverAddress,
    /// What the driver wants to see before it takes a call.
    pub credential: Option<Credential>,
    /// The keys of the driver's configuration that clients do not see.
    pub hidden_keys: HiddenKeys,
    /// The hosts that stand for this environment; each belongs to one environment alone.
    pub authorities: Vec<Authority>,
}

/// How long each thing may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A client's preface and SETTINGS, and each header block of clients and drivers, whole.
    pub handshake: Duration,
    /// A client's acknowledgement of SETTINGS.
    pub settings_ack: Duration,
    /// A request body whose window is open moves on by at least 1 KiB in such a time.
    pub body_progress: Duration,
    /// A request body is complete so long after its call was opened.
    pub body_age: Duration,
    /// A client takes at least 1 KiB of an answer in such a time, unless its window is open.
    pub window_closed: Duration,
    /// A client's connection has its first admitted call by then, counted from its beginning.
    pub unauthenticated: Duration,
    /// A client's connection may be without a stream for so long.
    pub idle: Duration,
    /// A client that is silent for so long is sent a PING.
    pub keepalive: Duration,
    /// A client's answer to that PING.
    pub keepalive_ack: Duration,
    /// The TCP connection and the HTTP/2 handshake with a driver.
    pub connect: Duration,
    /// A driver with open calls that is silent for so long is sent a PING.
    pub driver_keepalive: Duration,
    /// A driver's answer to that PING.
    pub driver_keepalive_ack: Duration,
}

/// How sconce goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// For so long it is not ready any more but still takes connections.
    pub delay: Duration,
    /// For so long streams may finish after that.
    pub grace: Duration,
}

/// How large a request's head and its flow-control window may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of the header list: each field counts name, value and 32 (RFC 7541, 4.1).
    pub header_list: u32,
    /// Fields of the header list.
    pub header_count: u32,
    /// Octets of the header list that goes to a driver, counted alike.
    pub driver_header_list: u32,
    /// Octets of the largest flow-control window that an upload can earn.
    pub upload_window: u32,
}
