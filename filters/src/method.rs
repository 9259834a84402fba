//! The RPCs of Spark Connect, by name.
//!
//! The list grows with Spark; a path that is not on it is a method like any other, kept as it is.

use std::{fmt, sync::Arc};

/// The service whose methods sconce knows by name.
pub const SERVICE: &str = "spark.connect.SparkConnectService";

/// The RPC that a call names in its `:path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Runs a plan and streams its result.
    ExecutePlan,
    /// Asks about a plan without running it.
    AnalyzePlan,
    /// Reads and writes the session's configuration.
    Config,
    /// Streams files up to the session.
    AddArtifacts,
    /// Asks which files the session has.
    ArtifactStatus,
    /// Stops operations of the session.
    Interrupt,
    /// Takes up the result stream of an operation again.
    ReattachExecute,
    /// Lets go of results that were received.
    ReleaseExecute,
    /// Ends the session.
    ReleaseSession,
    /// Asks for the whole story of an error.
    FetchErrorDetails,
    /// Copies the session; Spark 4.1 and later.
    CloneSession,
    /// Asks for the state of operations; Spark 4.2 and later.
    GetStatus,
    /// A method that this list does not know, by its whole path.
    Other(Arc<str>),
}

/// Each known method: the path on the wire, and the word for metrics and messages.
const KNOWN: &[(Method, &str, &str)] = &[
    (Method::ExecutePlan, "/spark.connect.SparkConnectService/ExecutePlan", "ExecutePlan"),
    (Method::AnalyzePlan, "/spark.connect.SparkConnectService/AnalyzePlan", "AnalyzePlan"),
    (Method::Config, "/spark.connect.SparkConnectService/Config", "Config"),
    (Method::AddArtifacts, "/spark.connect.SparkConnectService/AddArtifacts", "AddArtifacts"),
    (Method::ArtifactStatus, "/spark.connect.SparkConnectService/ArtifactStatus", "ArtifactStatus"),
    (Method::Interrupt, "/spark.connect.SparkConnectService/Interrupt", "Interrupt"),
    (
        Method::ReattachExecute,
        "/spark.connect.SparkConnectService/ReattachExecute",
        "ReattachExecute",
    ),
    (Method::ReleaseExecute, "/spark.connect.SparkConnectService/ReleaseExecute", "ReleaseExecute"),
    (Method::ReleaseSession, "/spark.connect.SparkConnectService/ReleaseSession", "ReleaseSession"),
    (
        Method::FetchErrorDetails,
        "/spark.connect.SparkConnectService/FetchErrorDetails",
        "FetchErrorDetails",
    ),
    (Method::CloneSession, "/spark.connect.SparkConnectService/CloneSession", "CloneSession"),
    (Method::GetStatus, "/spark.connect.SparkConnectService/GetStatus", "GetStatus"),
];

impl Method {
    /// The method that a `:path` names. Allocates only for one that is not on the list.
    pub fn from_path(path: &str) -> Self {
        match KNOWN.iter().find(|(_, known, _)| *known == path) {
            Some((method, _, _)) => method.clone(),
            None => Self::Other(path.into()),
        }
    }

    /// The `:path` on the wire.
    pub fn path(&self) -> &str {
        match self {
            Self::Other(path) => path,
            Self::ExecutePlan
            | Self::AnalyzePlan
            | Self::Config
            | Self::AddArtifacts
            | Self::ArtifactStatus
            | Self::Interrupt
            | Self::ReattachExecute
            | Self::ReleaseExecute
            | Self::ReleaseSession
            | Self::FetchErrorDetails
            | Self::CloneSession
            | Self::GetStatus => self.entry().map_or("", |(_, path, _)| path),
        }
    }

    /// Whether it only ends what its caller has begun, and tells nothing of it.
    pub fn is_release(&self) -> bool {
        match self {
            Self::Interrupt | Self::ReleaseExecute | Self::ReleaseSession => true,
            Self::ExecutePlan
            | Self::AnalyzePlan
            | Self::Config
            | Self::AddArtifacts
            | Self::ArtifactStatus
            | Self::ReattachExecute
            | Self::FetchErrorDetails
            | Self::CloneSession
            | Self::GetStatus
            | Self::Other(_) => false,
        }
    }

    /// One word for metrics: the method's own name, or `other`, so that callers cannot add to the
    /// number of time series.
    pub fn label(&self) -> &'static str {
        self.entry().map_or("other", |(_, _, label)| label)
    }

    fn entry(&self) -> Option<&'static (Self, &'static str, &'static str)> {
        KNOWN.iter().find(|(known, _, _)| known == self)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_method_is_found_by_its_path_and_labelled_by_its_last_word() {
        for (method, path, label) in KNOWN {
            assert_eq!(&Method::from_path(path), method);
            assert_eq!(method.path(), *path);
            assert_eq!(*path, format!("/{SERVICE}/{label}"));
            assert_eq!(method.label(), *label);
        }
    }

    #[test]
    fn a_method_of_tomorrow_keeps_its_path_and_shares_one_label() {
        let method = Method::from_path("/spark.connect.SparkConnectService/Tomorrow");
        assert_eq!(method.path(), "/spark.connect.SparkConnectService/Tomorrow");
        assert_eq!(method.label(), "other");
    }
}
