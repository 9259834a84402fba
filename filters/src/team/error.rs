//! What the room says to a call that it turns away: always what to put in the URL.

use super::{
    UnservedReason,
    header_value::{ConflictingValues, Escaped},
};
use crate::{Code, EnvironmentName, Refusal, TeamName, name::NameError};
use std::fmt;

/// The header by which a call names its team.
pub const TEAM: &str = "x-sconce-team";
/// The header by which a call names its environment.
pub const ENVIRONMENT: &str = "x-sconce-env";

/// Whom a caller may ask about what a caller cannot change.
pub(super) const OPERATORS: &str = "those who run this service";
/// What is added while nobody can tell who belongs to some team.
const MEMBERS_UNKNOWN: &str = "; the configuration of some teams has errors, so that their members are \
                        refused: yours may be one of them";

/// How many names a refusal lists at most.
const NAMES_SHOWN_MAX: usize = 20;

/// Why a call has no team or no environment.
#[derive(Debug)]
pub(super) enum TeamError {
    /// Nothing says which team.
    TeamMissing { teams: Vec<TeamName> },
    /// There is no such team.
    TeamUnknown { requested: Escaped, by: ResolvedBy, teams: Vec<TeamName> },
    /// Nothing says which of the caller's own teams.
    TeamAmbiguous { teams: Vec<TeamName> },
    /// The caller does not belong to it, whether or not there is such a team.
    NotMember { requested: Escaped, by: ResolvedBy, teams: Vec<TeamName> },
    /// The caller belongs to no team at all; unless it is one whose members cannot be known.
    NoTeam { members_unknown: bool },
    /// The team is known and not served.
    TeamUnserved { team: TeamName, reason: UnservedReason },
    /// The host that was dialled stands for no environment now.
    AuthorityUnserved { reason: UnservedReason },
    /// Nothing says which environment of the team.
    EnvironmentMissing { team: TeamName, environments: Vec<EnvironmentName> },
    /// The team has no such environment.
    EnvironmentUnknown {
        team: TeamName,
        requested: Escaped,
        by: ResolvedBy,
        environments: Vec<EnvironmentName>,
    },
    /// The place that the call was admitted to is gone, and a new call would go elsewhere.
    RouteChanged,
    /// The value of a header is no name.
    Malformed { header: &'static str, value: Escaped, error: NameError },
    /// A header came more than once and says two things.
    ConflictingHeaders { header: &'static str, one: Escaped, other: Escaped },
}

/// What said a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResolvedBy {
    /// The call's metadata.
    Metadata,
    /// The host that the client dialled.
    Authority,
    /// The default in sconce's own config.
    Default,
    /// The caller belongs to this one alone.
    Membership,
    /// The team has this one alone.
    OnlyEnvironment,
}

impl ResolvedBy {
    /// The rule in a person's words.
    pub(super) fn describe(self, header: &str) -> String {
        match self {
            Self::Metadata => format!("metadata {header}"),
            Self::Authority => "the host that was dialled (:authority)".to_owned(),
            Self::Default => "the default".to_owned(),
            Self::Membership => "the only one that the caller belongs to".to_owned(),
            Self::OnlyEnvironment => "the only one of the team".to_owned(),
        }
    }

    fn advice(self, header: &str, what: &str) -> String {
        match self {
            Self::Metadata => format!(": correct ;{header}={what} in the sc:// URL"),
            Self::Authority => {
                format!(", which the host stands for: add ;{header}={what} to the sc:// URL")
            }
            Self::Default | Self::Membership | Self::OnlyEnvironment => {
                format!(", which is the default: add ;{header}={what} to the sc:// URL")
            }
        }
    }
}

impl TeamError {
    pub(super) fn conflicting_headers(header: &'static str, found: ConflictingValues) -> Self {
        let ConflictingValues { one, other } = found;
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
            Self::TeamUnknown { requested: asked, by, teams } => {
                write!(f, "there is no team {asked} here{}", by.advice(TEAM, "<team>"))?;
                list(f, "teams here", teams)
            }
            Self::TeamAmbiguous { teams } => {
                let example = teams.first().map_or("ads", TeamName::as_str);
                write!(f, "you belong to several teams and the call names none: ")?;
                write!(f, "add ;{TEAM}=<team> to the sc:// URL, for example ")?;
                write!(f, "sc://host:port/;{TEAM}={example}")?;
                list(f, "your teams", teams)
            }
            Self::NotMember { requested: asked, by, teams } => {
                write!(f, "you do not belong to team {asked}{}", by.advice(TEAM, "<team>"))?;
                list(f, "your teams", teams)
            }
            Self::NoTeam { members_unknown: is_unknown } => {
                let rest = if *is_unknown { MEMBERS_UNKNOWN } else { "" };
                write!(f, "you belong to no team here: ask {OPERATORS} to add you, or a group ")?;
                write!(f, "of yours, to a team{rest}")
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
            Self::EnvironmentUnknown { team, requested: asked, by, environments } => {
                let advice = by.advice(ENVIRONMENT, "<environment>");
                write!(f, "team '{team}' has no environment {asked}{advice}")?;
                list(f, "its environments", environments)
            }
            Self::RouteChanged => f.write_str(
                "the configuration has changed where this call goes: make the call again",
            ),
            Self::Malformed { header, value: asked, error: fault } => {
                write!(f, "{header} is {asked}, which cannot be a name, since {fault}: ")?;
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
    let Some((first, rest)) = names.split_first() else {
        return Ok(());
    };
    write!(f, "; {what}: {first}")?;
    for name in rest.iter().take(NAMES_SHOWN_MAX.saturating_sub(1)) {
        write!(f, ", {name}")?;
    }
    match names.len().saturating_sub(NAMES_SHOWN_MAX) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

impl From<TeamError> for Refusal {
    fn from(denial: TeamError) -> Self {
        let (code, label) = match &denial {
            TeamError::TeamMissing { .. } => (Code::InvalidArgument, "team.missing"),
            TeamError::TeamUnknown { .. } => (Code::NotFound, "team.unknown"),
            TeamError::TeamAmbiguous { .. } => (Code::InvalidArgument, "team.unsaid"),
            TeamError::NotMember { .. } => (Code::PermissionDenied, "team.not_member"),
            TeamError::NoTeam { .. } => (Code::PermissionDenied, "team.none"),
            TeamError::TeamUnserved { reason, .. } | TeamError::AuthorityUnserved { reason } => {
                match reason {
                    // Clients try UNAVAILABLE again for minutes before they show it.
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
            TeamError::RouteChanged => (Code::Unavailable, "team.moved"),
            TeamError::Malformed { .. } => (Code::InvalidArgument, "team.malformed"),
            TeamError::ConflictingHeaders { .. } => (Code::InvalidArgument, "team.contradiction"),
        };
        Self::new(code, label, denial)
    }
}
