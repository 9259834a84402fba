//! Numbers of configuration errors at the last read, by team.

use super::names::{OTHER, TENANTS_MAX, UNKNOWN};

/// Number of errors in the file of one team, or in the main file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrorCount {
    /// The team, or the name of a file whose team cannot be read; `-` for the main file.
    pub team: String,
    /// Number of errors.
    pub count: usize,
    /// Effect of the errors, as a sentence for an operator.
    pub effect: &'static str,
}

impl ConfigErrorCount {
    /// For the main file.
    #[must_use]
    pub fn main_file(count: usize) -> Self {
        let effect =
            "no change of any file takes effect; the last valid configuration stays active";
        Self { team: UNKNOWN.to_owned(), count, effect }
    }

    /// Whether these are errors of the main file.
    #[must_use]
    pub fn is_main_file(&self) -> bool {
        self.team == UNKNOWN
    }
}

/// Counts by label: the main file always, then up to [`TENANTS_MAX`] teams, then the rest together.
pub(super) fn counts(errors: &[ConfigErrorCount]) -> Vec<(&str, usize)> {
    let (main, teams): (Vec<_>, Vec<_>) = errors.iter().partition(|it| it.is_main_file());
    let main = main.iter().map(|it| it.count).sum();
    let rest = teams.iter().skip(TENANTS_MAX).map(|it| it.count).sum::<usize>();
    let teams = teams.iter().take(TENANTS_MAX).map(|it| (it.team.as_str(), it.count));
    let rest = (rest > 0).then_some((OTHER, rest));
    [(UNKNOWN, main)].into_iter().chain(teams).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_beyond_the_limit_are_counted_together_and_the_main_file_is_always_counted() {
        assert_eq!(counts(&[]), [("-", 0)]);
        let team = |at| ConfigErrorCount { team: format!("t{at}"), count: 2, effect: "" };
        let teams = (0..TENANTS_MAX + 3).map(team);
        let all: Vec<_> = teams.chain([ConfigErrorCount::main_file(4)]).collect();
        let counts = counts(&all);
        assert_eq!((counts[0], counts.len()), (("-", 4), TENANTS_MAX + 2));
        assert_eq!(counts.last(), Some(&("_other", 6)));
    }
}
