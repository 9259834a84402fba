//! Shutdown: the phases of the process, as workers and connections see them.

/// A phase of the process. Phases only advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Connections are accepted.
    Run,
    /// No new connections and calls; open calls may finish.
    Drain,
    /// Open calls are refused, and connections closed.
    Terminate,
}
