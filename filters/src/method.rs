//! The RPCs of Spark Connect, by name: for filters, metrics and logs.

use std::fmt;

/// The service whose methods sconce serves.
pub const SERVICE: &str = "spark.connect.SparkConnectService";

/// The RPC that the `:path` of a call names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Runs a plan and streams its result.
    ExecutePlan,
    /// Analyses a plan without running it.
    AnalyzePlan,
    /// Reads and writes the session's configuration.
    Config,
    /// Uploads files to the session.
    AddArtifacts,
    /// Reports which files the session has.
    ArtifactStatus,
    /// Stops operations of the session.
    Interrupt,
    /// Resumes the result stream of an operation.
    ReattachExecute,
    /// Releases received results.
    ReleaseExecute,
    /// Ends the session.
    ReleaseSession,
    /// Returns the details of an error.
    FetchErrorDetails,
    /// Copies the session; Spark 4.1 and later.
    CloneSession,
    /// Returns the state of operations; Spark 4.2 and later.
    GetStatus,
    /// Any other method, later additions to Spark Connect included. Its path is the value of
    /// `:path` in the call's metadata.
    Other,
}

impl Method {
    /// Every method, by its index.
    pub const ALL: [Self; 13] = [
        Self::ExecutePlan,
        Self::AnalyzePlan,
        Self::Config,
        Self::AddArtifacts,
        Self::ArtifactStatus,
        Self::Interrupt,
        Self::ReattachExecute,
        Self::ReleaseExecute,
        Self::ReleaseSession,
        Self::FetchErrorDetails,
        Self::CloneSession,
        Self::GetStatus,
        Self::Other,
    ];

    /// The method that a `:path` names, compared byte for byte: a path is not normalised, so that
    /// a similar one is [`Method::Other`].
    #[must_use]
    pub fn from_path(path: &str) -> Self {
        let name = path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(SERVICE))
            .and_then(|path| path.strip_prefix('/'));
        let known = Self::ALL.into_iter().filter(|method| *method != Self::Other);
        name.and_then(|name| known.into_iter().find(|method| method.label() == name))
            .unwrap_or(Self::Other)
    }

    /// The place in [`Method::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it only ends work of its caller, and returns no results.
    #[must_use]
    pub fn is_release(self) -> bool {
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
            | Self::Other => false,
        }
    }

    /// The label in metrics, logs and messages: the name of the method; `other` for every method
    /// that is not listed, so that clients cannot add time series.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ExecutePlan => "ExecutePlan",
            Self::AnalyzePlan => "AnalyzePlan",
            Self::Config => "Config",
            Self::AddArtifacts => "AddArtifacts",
            Self::ArtifactStatus => "ArtifactStatus",
            Self::Interrupt => "Interrupt",
            Self::ReattachExecute => "ReattachExecute",
            Self::ReleaseExecute => "ReleaseExecute",
            Self::ReleaseSession => "ReleaseSession",
            Self::FetchErrorDetails => "FetchErrorDetails",
            Self::CloneSession => "CloneSession",
            Self::GetStatus => "GetStatus",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_is_found_by_its_path_and_has_its_index() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(Method::from_path(&format!("/{SERVICE}/{method}")), method);
            assert_eq!(method.index(), index);
        }
    }

    #[test]
    fn a_path_that_differs_in_one_byte_is_another_method() {
        for path in [
            "/spark.connect.SparkConnectService/Tomorrow",
            "//spark.connect.SparkConnectService/Config",
            "/spark.connect.SparkConnectService/config",
            "/spark.connect.SparkConnectService/Config/",
            "/grpc.health.v1.Health/Check",
            "",
        ] {
            assert_eq!(Method::from_path(path), Method::Other, "{path}");
        }
    }
}
