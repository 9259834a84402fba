//! One state of the configuration, whole.

use crate::{
    config::{ClientAuthorities, Config, Drain, Limits, Network, Timeouts, Tls, TokenLeeway},
    grpc::user_context::Policy,
    route::{Cluster, Removal, Table, removal},
};
use rustls::ServerConfig;
use sconce_filters::{Attributes, FilterChain};
use std::{sync::Arc, time::SystemTime};

/// All that a call and its connection need to know. Never changed once it is made.
#[derive(Debug)]
pub struct Snapshot {
    /// The how-manieth plan of this process it is, from 1.
    pub generation: u64,
    /// When it was made.
    pub loaded_at: SystemTime,
    /// The rooms that a call passes.
    pub chain: FilterChain,
    /// Where the calls of a team go.
    pub table: Table,
    /// What reloads took away a short while ago, the latest last.
    pub removals: Vec<Arc<Removal>>,
    /// How long each thing may take.
    pub timeouts: Timeouts,
    /// How sconce goes away.
    pub drain: Drain,
    /// How large a request's head may be.
    pub limits: Limits,
    /// How many client connections there may be at once.
    pub connections: u32,
    /// How many of them may come from one source.
    pub connections_per_source: u32,
    /// Networks whose addresses may have more than that.
    pub exempt_networks: Vec<Network>,
    /// How many TLS handshakes a worker goes on with before its other connections have their turn.
    pub handshakes_per_worker: u32,
    /// How many streams a new client connection may have open at once.
    pub streams_per_connection: u32,
    /// What may stand in a message beside the caller who is written into it.
    pub user_context: Policy,
    /// How much longer a caller's proof is good than it says.
    pub token_leeway: TokenLeeway,
    /// The TLS that new client connections are met with.
    pub tls: Option<Arc<ServerConfig>>,
    /// Whether clients that come without that TLS are told so.
    pub cleartext_hint: bool,
    /// Who signs clients' certificates; the same one as long as they stay the same.
    pub client_authorities: Option<Arc<ClientAuthorities>>,
}

impl Snapshot {
    /// The snapshot of a plan that follows upon another one. Clusters that have not changed since
    /// `before` stay the same ones.
    pub(super) fn new(
        plan: &Config,
        before: Option<(&Self, &Config)>,
        generation: u64,
        loaded_at: SystemTime,
    ) -> Self {
        let removals = before
            .map_or_else(Vec::new, |before| removal::removals(before, plan, generation, loaded_at));
        let filters = removals.iter().map(|removal| Arc::clone(removal.filter())).collect();
        let chain = match removals.is_empty() {
            true => plan.filters.chain().clone(),
            false => plan.filters.chain_with_removed(filters),
        };
        let before = before.map(|(before, _)| before);
        let authorities = plan.listen.tls.as_ref().and_then(Tls::authorities).map(|now| {
            let before = before.and_then(|before| before.client_authorities.as_ref());
            Arc::clone(before.filter(|before| *before == now).unwrap_or(now))
        });
        Self {
            generation,
            loaded_at,
            chain,
            removals,
            table: Table::new(&plan.teams, before.map(|before| &before.table)),
            timeouts: plan.timeouts,
            drain: plan.drain,
            limits: plan.limits,
            connections: plan.listen.connections,
            connections_per_source: plan.listen.connections_per_source,
            exempt_networks: plan.listen.exempt_networks.clone(),
            handshakes_per_worker: plan.listen.handshakes_per_worker,
            streams_per_connection: plan.listen.streams_per_connection,
            user_context: plan.user_context,
            token_leeway: plan.filters.token_leeway(),
            client_authorities: authorities,
            cleartext_hint: plan.listen.tls.as_ref().is_some_and(Tls::cleartext_hint),
            tls: plan.listen.tls.as_ref().map(|tls| Arc::clone(tls.server_config())),
        }
    }

    /// The cluster of an admitted call. One that is admitted for its session alone stays on the
    /// driver that its session is on: what has come into its place since is nothing to its caller.
    pub fn cluster(&self, slots: &Attributes) -> Option<&Arc<Cluster>> {
        let (team, environment) = (slots.team.as_ref()?, slots.environment.as_ref()?);
        match &slots.revoked {
            Some(revoked) if revoked.generation <= self.generation => {
                self.removal(revoked.generation)?.cluster(team, environment)
            }
            // A removal that came later has changed nothing here.
            Some(_) | None => self.table.cluster(team, environment),
        }
    }

    /// What the reload of this number took away.
    pub fn removal(&self, number: u64) -> Option<&Arc<Removal>> {
        self.removals.iter().find(|removal| removal.generation() == number)
    }
}
