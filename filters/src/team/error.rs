//! The refusals of the filter: each says what to change in the sc:// URL.

use super::{
    UnservedReason,
    header_value::{ConflictingValues, Escaped},
};
use crate::{Code, EnvironmentName, Refusal, TeamName, name::NameError};
use std::fmt;

/// The metadata key with the team.
pub const TEAM: &str = "x-sconce-team";
/// The metadata key with the environment.
pub const ENVIRONMENT: &str = "x-sconce-env";

/// The contact for errors that a caller cannot correct.
pub(super) const OPERATORS: &str = "the operators of this service";
/// Added while the members of some teams are unknown.
const MEMBERS_UNKNOWN: &str = "; the configuration of some teams has errors, so that their members \
                        refused: yours may be one of them";

/// Maximum number of names in a refusal.
const NAMES_SHOWN_MAX: usize = 20;

/// Why a call has no route.
#[derive(Debug)]
pub(super) enum TeamError {
    /// The call names no team, and there is no default.
    TeamMissing { teams: Vec<TeamName> },
    /// The team does not exist.
    TeamUnknown { requested: Escaped, by: ResolvedBy, teams: Vec<TeamName> },
    /// The caller has several teams, and the call names none.
    TeamAmbiguous { teams: Vec<TeamName> },
    /// The caller does not belong to the team, which may or may not exist.
    NotMember { requested: Escaped, by: ResolvedBy, teams: Vec<TeamName> },
    /// The caller belongs to no team, as far as members are known.
    NoTeam { members_unknown: bool },
    /// The team is known but not served.
    TeamUnserved { team: TeamName, reason: UnservedReason },
    /// The dialled host is known but not served.
    AuthorityUnserved { reason: UnservedReason },
    /// The call names no environment, and the team has several.
    EnvironmentMissing { team: TeamName, environments: Vec<EnvironmentName> },
    /// The team does not have this environment.
    EnvironmentUnknown {
        team: TeamName,
        requested: Escaped,
        by: ResolvedBy,
        environments: Vec<EnvironmentName>,
    },
    /// The route of the call was removed, and a new call would take another one.
    RouteChanged,
    /// The value of a header is not a valid name.
    Malformed { header: &'static str, value: Escaped, error: NameError },
    /// A header has two different values.
    ConflictingHeaders { header: &'static str, one: Escaped, other: Escaped },
}

/// The rule that names a team or an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResolvedBy {
    /// Metadata of the call.
    Metadata,
    /// The host that the client dialled.
    Authority,
    /// The default of the configuration.
    Default,
    /// The only team of the caller.
    Membership,
    /// The only environment of the team.
    OnlyEnvironment,
}

impl ResolvedBy {
    /// The rule in `sconce explain`.
    pub(super) fn describe(self, header: &str) -> String {
        match self {
            Self::Metadata => format!("metadata {header}"),
            Self::Authority => "the dialled host (:authority)".to_owned(),
            Self::Default => "the default".to_owned(),
            Self::Membership => "the only team of the caller".to_owned(),
            Self::OnlyEnvironment => "the only environment of the team".to_owned(),
        }
    }

    fn advice(self, header: &str, what: &str) -> String {
        match self {
            Self::Metadata => format!(": correct ;{header}={what} in the sc:// URL"),
            Self::Authority => {
                format!(", which the dialled host selects: add ;{header}={what} to the sc:// URL")
            }
            Self::Default | Self::Membership | Self::OnlyEnvironment => {
                format!(", which is the default: add ;{header}={what} to the sc:// URL")
            }
        }
    }
}

impl TeamError {
    pub(super) fn conflicting_headers(header: &'static str, values: ConflictingValues) -> Self {
        let ConflictingValues { one, other } = values;
        Self::ConflictingHeaders { header, one, other }
    }
}

impl fmt::Display for TeamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TeamMissing { teams } => {
                write!(f, "the call names no team: ")?;
                write!(f, "add ;{TEAM}=<team> to the sc:// URL, for example ")?;
                write!(f, "sc://host:port/;{TEAM}=ads;{ENVIRONMENT}=prod")?;
                list(f, "teams here", teams)
            }
            Self::TeamUnknown { requested, by, teams } => {
                write!(f, "there is no team {requested} here{}", by.advice(TEAM, "<team>"))?;
                list(f, "teams here", teams)
            }
            Self::TeamAmbiguous { teams } => {
                let example = teams.first().map_or("ads", TeamName::as_str);
                write!(f, "you belong to several teams and the call names none: ")?;
                write!(f, "add ;{TEAM}=<team> to the sc:// URL, for example ")?;
                write!(f, "sc://host:port/;{TEAM}={example}")?;
                list(f, "your teams", teams)
            }
            Self::NotMember { requested, by, teams } => {
                write!(f, "you do not belong to team {requested}{}", by.advice(TEAM, "<team>"))?;
                list(f, "your teams", teams)
            }
            Self::NoTeam { members_unknown } => {
                let note = if *members_unknown { MEMBERS_UNKNOWN } else { "" };
                write!(f, "you belong to no team here: ask {OPERATORS} to add you, or a group ")?;
                write!(f, "of yours, to a team{note}")
            }
            Self::TeamUnserved { team, reason } => f.write_str(&reason.team_message(team)),
            Self::AuthorityUnserved { reason } => f.write_str(&reason.authority_message()),
            Self::EnvironmentMissing { team, environments } => {
                let example = environments.first().map_or("prod", EnvironmentName::as_str);
                write!(f, "the call names no environment of team '{team}': ")?;
                write!(f, "add ;{ENVIRONMENT}=<environment> to the sc:// URL, for example ")?;
                write!(f, "sc://host:port/;{TEAM}={team};{ENVIRONMENT}={example}")?;
                list(f, "its environments", environments)
            }
            Self::EnvironmentUnknown { team, requested, by, environments } => {
                let advice = by.advice(ENVIRONMENT, "<environment>");
                write!(f, "team '{team}' has no environment {requested}{advice}")?;
                list(f, "its environments", environments)
            }
            Self::RouteChanged => f.write_str("a reload has changed the route of this call: retry"),
            Self::Malformed { header, value: requested, error } => {
                write!(f, "{header} is {requested}, which cannot be a name, since {error}: ")?;
                write!(f, "correct ;{header}=... in the sc:// URL")
            }
            Self::ConflictingHeaders { header, one, other } => {
                write!(f, "{header} is given more than once, as {one} and as {other}: ")?;
                write!(f, "keep one ;{header}=... in the sc:// URL")
            }
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, names: &[impl fmt::Display]) -> fmt::Result {
    let Some((first, others)) = names.split_first() else {
        return Ok(());
    };
    write!(f, "; {what}: {first}")?;
    for name in others.iter().take(NAMES_SHOWN_MAX.saturating_sub(1)) {
        write!(f, ", {name}")?;
    }
    match names.len().saturating_sub(NAMES_SHOWN_MAX) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

impl From<TeamError> for Refusal {
    fn from(error: TeamError) -> Self {
        let (code, label) = match &error {
            TeamError::TeamMissing { .. } => (Code::InvalidArgument, "team.missing"),
            TeamError::TeamUnknown { .. } => (Code::NotFound, "team.unknown"),
            TeamError::TeamAmbiguous { .. } => (Code::InvalidArgument, "team.ambiguous"),
            TeamError::NotMember { .. } => (Code::PermissionDenied, "team.not_member"),
            TeamError::NoTeam { .. } => (Code::PermissionDenied, "team.no_membership"),
            TeamError::TeamUnserved { reason, .. } | TeamError::AuthorityUnserved { reason } => {
                match reason {
                    // Clients retry UNAVAILABLE for minutes before they report it.
                    UnservedReason::Misconfigured => {
                        (Code::FailedPrecondition, "team.misconfigured")
                    }
                    UnservedReason::Removed => (Code::NotFound, "team.removed"),
                }
            }
            TeamError::EnvironmentMissing { .. } => {
                (Code::InvalidArgument, "team.environment_missing")
            }
            TeamError::EnvironmentUnknown { .. } => (Code::NotFound, "team.environment_unknown"),
            TeamError::RouteChanged => (Code::Unavailable, "team.route_changed"),
            TeamError::Malformed { .. } => (Code::InvalidArgument, "team.malformed"),
            TeamError::ConflictingHeaders { .. } => {
                (Code::InvalidArgument, "team.conflicting_headers")
            }
        };
        Self::new(code, label, error)
    }
}
