//! Shutdown: the phases of the process, as workers and connections see them.

/// What every connection of a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Serve.
    Run,
    /// Take nothing new, finish what is under way.
    Drain,
    /// End now.
    Terminate,
}
