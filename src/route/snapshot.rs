//! One complete state of the configuration.

use crate::{
    config::{ClientAuthorities, Config, Drain, Limits, Network, Timeouts, Tls, TokenLeeway},
    grpc::user_context::Policy,
    route::{Cluster, Removal, Table, removal},
};
use rustls::ServerConfig;
use sconce_filters::{Attributes, FilterChain};
use std::{sync::Arc, time::SystemTime};

/// The configuration for calls and their connections. Immutable.
#[derive(Debug)]
pub struct Snapshot {
    /// Configuration generation: 1 at startup, +1 for each applied reload.
    pub generation: u64,
    /// Time of creation.
    pub loaded_at: SystemTime,
    /// The rooms that a call passes.
    pub chain: FilterChain,
    /// The clusters of all teams.
    pub table: Table,
    /// Active removals, in order of reloads.
    pub removals: Vec<Arc<Removal>>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Times of the drain.
    pub drain: Drain,
    /// Size limits.
    pub limits: Limits,
    /// Maximum concurrent client connections.
    pub connections: u32,
    /// Maximum concurrent client connections from one source.
    pub connections_per_source: u32,
    /// Networks without a limit per source.
    pub exempt_networks: Vec<Network>,
    /// Maximum concurrent TLS handshakes of a worker.
    pub handshakes_per_worker: u32,
    /// Maximum concurrent streams of a new client connection.
    pub streams_per_connection: u32,
    /// Policy for user context sent by clients.
    pub user_context: Policy,
    /// Extra validity of tokens after their expiry.
    pub token_leeway: TokenLeeway,
    /// TLS configuration of new client connections; `None` without TLS.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether a client without TLS gets an unencrypted error that requires TLS.
    pub cleartext_hint: bool,
    /// Certificate authorities for client certificates. The `Arc` stays the same while they are
    /// unchanged.
    pub client_authorities: Option<Arc<ClientAuthorities>>,
}

impl Snapshot {
    /// The snapshot of a config. Unchanged clusters are shared with the snapshot `before`.
    pub(super) fn new(
        config: &Config,
        before: Option<(&Self, &Config)>,
        generation: u64,
        loaded_at: SystemTime,
    ) -> Self {
        let removals = before.map_or_else(Vec::new, |before| {
            removal::removals(before, config, generation, loaded_at)
        });
        let filters = removals.iter().map(|removal| Arc::clone(removal.filter())).collect();
        let chain = match removals.is_empty() {
            true => config.filters.chain().clone(),
            false => config.filters.chain_with_removed(filters),
        };
        let before = before.map(|(before, _)| before);
        let authorities = config.listen.tls.as_ref().and_then(Tls::authorities).map(|now| {
            let before = before.and_then(|before| before.client_authorities.as_ref());
            Arc::clone(before.filter(|before| *before == now).unwrap_or(now))
        });
        Self {
            generation,
            loaded_at,
            chain,
            removals,
            table: Table::new(&config.teams, before.map(|before| &before.table)),
            timeouts: config.timeouts,
            drain: config.drain,
            limits: config.limits,
            connections: config.listen.connections,
            connections_per_source: config.listen.connections_per_source,
            exempt_networks: config.listen.exempt_networks.clone(),
            handshakes_per_worker: config.listen.handshakes_per_worker,
            streams_per_connection: config.listen.streams_per_connection,
            user_context: config.user_context,
            token_leeway: config.filters.token_leeway(),
            client_authorities: authorities,
            cleartext_hint: config.listen.tls.as_ref().is_some_and(Tls::cleartext_hint),
            tls: config.listen.tls.as_ref().map(|tls| Arc::clone(tls.server_config())),
        }
    }

    /// The cluster of an admitted call. A call admitted because of a removal goes to the cluster
    /// before that removal, which has its session.
    pub fn cluster(&self, slots: &Attributes) -> Option<&Arc<Cluster>> {
        let (team, environment) = (slots.team.as_ref()?, slots.environment.as_ref()?);
        match &slots.revoked {
            Some(revoked) if revoked.generation <= self.generation => {
                self.removal(revoked.generation)?.cluster(team, environment)
            }
            // A later removal has no effect on this snapshot.
            Some(_) | None => self.table.cluster(team, environment),
        }
    }

    /// The active removal of a reload, by generation.
    pub fn removal(&self, number: u64) -> Option<&Arc<Removal>> {
        self.removals.iter().find(|removal| removal.generation() == number)
    }
}
