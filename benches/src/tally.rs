//! What a run counts, and how it is told.

use std::time::Duration;

use serde::Serialize;

/// Calls that were made and checked.
#[derive(Debug, Default)]
pub struct Tally {
    /// Calls that ended as they must.
    pub calls: u64,
    /// Octets of messages, both ways, prefixes included.
    pub octets: u64,
    /// How long each call took, where that is asked for.
    pub latencies: Vec<Duration>,
}

impl Tally {
    /// Adds what another part of the load counted.
    pub fn add(&mut self, mut other: Self) {
        self.calls += other.calls;
        self.octets += other.octets;
        self.latencies.append(&mut other.latencies);
    }

    /// One call more.
    pub fn count(&mut self, octets: u64) {
        self.calls += 1;
        self.octets += octets;
    }
}

/// The line of JSON that a run ends with.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Which workload ran.
    pub workload: &'static str,
    /// Calls of the measured part.
    pub calls: u64,
    /// Octets of messages of the measured part, both ways.
    pub octets: u64,
    /// How long the measured part was, in seconds.
    pub seconds: f64,
    /// Connections that were open at the same time.
    pub connections: usize,
    /// Latencies, for the open loop only.
    pub latency: Option<Latency>,
    /// Each time that calls ran side by side, for W9 only.
    pub times: Vec<Abreast>,
}

/// Calls that began together, in seconds.
#[derive(Debug, Serialize)]
pub struct Abreast {
    /// Until the first of them had ended.
    pub first: f64,
    /// Until all had.
    pub last: f64,
}

impl Abreast {
    /// Of how long each took, or nothing if there are none.
    #[must_use]
    pub fn of(each: &[Duration]) -> Option<Self> {
        let seconds = |time: Option<&Duration>| time.map(Duration::as_secs_f64);
        Some(Self { first: seconds(each.iter().min())?, last: seconds(each.iter().max())? })
    }
}

/// Percentiles of latency, in microseconds from when a call was due.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// One call in a hundred took longer.
    pub p99: f64,
    /// One call in a thousand took longer.
    pub p99_9: f64,
    /// The slowest call.
    pub max: f64,
}

impl Latency {
    /// Percentiles of `all`, or nothing if there are none.
    #[must_use]
    pub fn of(mut all: Vec<Duration>) -> Option<Self> {
        all.sort_unstable();
        let at = |permille: usize| {
            let rank = (all.len() * permille).div_ceil(1000).saturating_sub(1);
            all.get(rank).map(|latency| latency.as_secs_f64() * 1e6)
        };
        Some(Self { p50: at(500)?, p99: at(990)?, p99_9: at(999)?, max: at(1000)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_calls() {
        let calls = (1..=1000).rev().map(Duration::from_micros).collect();
        let latency = Latency::of(calls).unwrap();
        let told = [latency.p50, latency.p99, latency.p99_9, latency.max];
        for (got, wanted) in told.iter().zip([500.0, 990.0, 999.0, 1000.0]) {
            assert!((got - wanted).abs() < 1e-6, "{got} is not {wanted}");
        }
    }

    #[test]
    fn no_calls_have_no_percentiles() {
        assert!(Latency::of(Vec::new()).is_none());
    }
}
