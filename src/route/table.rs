//! The route table: the cluster of each environment of each team.

use crate::telemetry::{DriverHealth, TenantId, WorkerMetrics};
use crate::{
    config::{DriverAddress, Environment, Team},
    grpc::{credential::Credential, redact::HiddenKeys},
};
use rustc_hash::FxHashMap;
use sconce_filters::{EnvironmentName, TeamName};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The Spark cluster of one environment, with its driver.
#[derive(Debug)]
pub struct Cluster {
    name: Box<str>,
    team: TeamName,
    environment: EnvironmentName,
    driver: DriverAddress,
    credential: Option<Credential>,
    hidden_keys: HiddenKeys,
    health: Arc<DriverHealth>,
}

impl PartialEq for Cluster {
    /// Equal configuration; the health is not compared.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.driver == other.driver
            && self.credential == other.credential
            && self.hidden_keys == other.hidden_keys
    }
}

impl Eq for Cluster {}

impl Cluster {
    fn new(team: &TeamName, environment: &EnvironmentName, place: &Environment) -> Self {
        Self {
            name: format!("{team}/{environment}").into(),
            team: team.clone(),
            environment: environment.clone(),
            driver: place.driver.clone(),
            credential: place.credential.clone(),
            hidden_keys: place.hidden_keys.clone(),
            health: Arc::default(),
        }
    }

    /// This cluster with the health history of the cluster that it replaces.
    fn with_health_of(self, before: &Self) -> Self {
        Self { health: Arc::new(before.health.successor()), ..self }
    }

    /// Name in messages: `team/environment`. Unlike an address, it is meaningful to callers and
    /// does not reveal the driver's location.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The team of the cluster.
    pub fn team(&self) -> &TeamName {
        &self.team
    }

    /// The environment of the cluster.
    pub fn environment(&self) -> &EnvironmentName {
        &self.environment
    }

    /// Address of the driver.
    pub fn driver(&self) -> &DriverAddress {
        &self.driver
    }

    /// Token that the driver requires.
    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    /// Spark configuration keys that are hidden from clients.
    pub fn hidden_keys(&self) -> &HiddenKeys {
        &self.hidden_keys
    }

    /// Reachability of the driver.
    pub fn health(&self) -> &Arc<DriverHealth> {
        &self.health
    }

    /// The metrics slot of its calls.
    pub fn tenant(&self, metrics: &WorkerMetrics) -> TenantId {
        self.health.tenant(metrics, (self.team.as_str(), self.environment.as_str()))
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The clusters by team and environment.
///
/// An unchanged cluster keeps its identity (`Arc::ptr_eq`) in the next table, so that its idle
/// connections survive a reload.
#[derive(Debug, Default)]
pub struct Table {
    /// All keys come from the configuration, so a fast hash without flooding protection is safe.
    teams: FxHashMap<TeamName, FxHashMap<EnvironmentName, Arc<Cluster>>>,
}

impl Table {
    /// The table of these teams. Unchanged clusters are shared with the table `before`.
    pub fn new(teams: &BTreeMap<TeamName, Team>, before: Option<&Self>) -> Self {
        let mut table = Self::default();
        for (team, found) in teams {
            let mut clusters = FxHashMap::default();
            for (environment, place) in &found.environments {
                let old = before.and_then(|before| before.cluster(team, environment));
                let new = Cluster::new(team, environment, place);
                let cluster = match old {
                    Some(same) if **same == new => Arc::clone(same),
                    Some(other) => Arc::new(new.with_health_of(other)),
                    None => Arc::new(new),
                };
                clusters.insert(environment.clone(), cluster);
            }
            table.teams.insert(team.clone(), clusters);
        }
        table
    }

    /// The cluster of an environment, if it exists.
    pub fn cluster(&self, team: &TeamName, environment: &EnvironmentName) -> Option<&Arc<Cluster>> {
        self.teams.get(team)?.get(environment)
    }

    /// All clusters, in arbitrary order.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.teams.values().flat_map(FxHashMap::values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Host;
    use std::path::PathBuf;

    fn teams(port: u16) -> BTreeMap<TeamName, Team> {
        with_token(port, None)
    }

    fn with_token(port: u16, token: Option<&str>) -> BTreeMap<TeamName, Team> {
        let place = |port| Environment {
            driver: DriverAddress::new(Host::Name("d".into()), port),
            credential: token.and_then(Credential::from_token),
            hidden_keys: HiddenKeys::default(),
            authorities: Vec::new(),
        };
        let name = |name| EnvironmentName::parse(name).unwrap();
        let environments = [(name("prod"), place(1)), (name("dev"), place(port))].into();
        let (file, members) = (PathBuf::from("ads.yaml"), Default::default());
        let team = Team { file, environments, members };
        [(TeamName::parse("ads").unwrap(), team)].into()
    }

    #[test]
    fn each_environment_has_its_own_cluster() {
        let table = Table::new(&teams(2), None);
        let team = TeamName::parse("ads").unwrap();
        let find = |environment| {
            let found = table.cluster(&team, &EnvironmentName::parse(environment).unwrap());
            found.map(|cluster| format!("{cluster} at {}", cluster.driver()))
        };
        assert_eq!(find("prod").unwrap(), "ads/prod at d:1");
        assert_eq!(find("dev").unwrap(), "ads/dev at d:2");
        assert_eq!(find("test"), None);
        assert_eq!(table.clusters().count(), 2);
    }

    #[test]
    fn an_unchanged_cluster_is_kept_after_a_reload() {
        let before = Table::new(&teams(2), None);
        let after = Table::new(&teams(3), Some(&before));
        let team = TeamName::parse("ads").unwrap();
        let same = |environment| {
            let environment = EnvironmentName::parse(environment).unwrap();
            let [old, new] = [&before, &after].map(|table| table.cluster(&team, &environment));
            Arc::ptr_eq(old.unwrap(), new.unwrap())
        };
        assert!(same("prod"));
        assert!(!same("dev"));
    }

    #[test]
    fn a_cluster_with_a_new_token_is_replaced() {
        let before = Table::new(&with_token(2, Some("old")), None);
        let same = Table::new(&with_token(2, Some("old")), Some(&before));
        let after = Table::new(&with_token(2, Some("new")), Some(&before));
        let team = TeamName::parse("ads").unwrap();
        let prod = EnvironmentName::parse("prod").unwrap();
        let [before, same, after] = [&before, &same, &after].map(|it| it.cluster(&team, &prod));
        assert!(Arc::ptr_eq(before.unwrap(), same.unwrap()));
        assert!(!Arc::ptr_eq(before.unwrap(), after.unwrap()) && before != after);
    }
}
