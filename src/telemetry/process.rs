//! Metrics of the process, read from `/proc` by a scrape.
//!
//! Without `/proc` (not on Linux) these metrics are absent.

use std::fs;

/// `USER_HZ`, the unit of times in `/proc/self/stat`: 100 on every Linux architecture that Rust
/// supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// Values from `/proc`; `None` if not available.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// Resident memory in bytes.
    pub(super) resident: Option<u64>,
    /// Open descriptors, without the one of this count.
    pub(super) descriptors: Option<u64>,
    /// Soft limit of open descriptors.
    pub(super) descriptors_max: Option<u64>,
    /// CPU time, user and system, in seconds.
    pub(super) cpu: Option<f64>,
    /// Start time, Unix time in seconds.
    pub(super) start: Option<f64>,
}

impl Process {
    /// Reads the current values.
    pub(super) fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let stat = text("/proc/self/stat");
        let listed = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        Self {
            resident: resident(&text("/proc/self/status")),
            descriptors: listed.and_then(|count| u64::try_from(count.saturating_sub(1)).ok()),
            descriptors_max: descriptors_max(&text("/proc/self/limits")),
            cpu: cpu(&stat),
            start: start(&stat, &text("/proc/stat")),
        }
    }
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn descriptors_max(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of `proc_pid_stat(5)`.
fn cpu(stat: &str) -> Option<f64> {
    let ticks = field(stat, 14)? + field(stat, 15)?;
    Some(ticks / TICKS_PER_SECOND)
}

/// Field 22 of `proc_pid_stat(5)` counts from the boot time in `/proc/stat`.
fn start(stat: &str, machine: &str) -> Option<f64> {
    let boot: f64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(boot + field(stat, 22)? / TICKS_PER_SECOND)
}

/// The n-th field, counted from 1 as in the manual. The second field is the name in parentheses,
/// which may contain spaces and parentheses.
fn field(stat: &str, nth: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(nth.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_shifts_no_field() {
        let fields: Vec<String> = (4..=22).map(|n| (n * 100).to_string()).collect();
        let stat = format!("1 (a ) b) S {}", fields.join(" "));
        assert_eq!(cpu(&stat), Some(29.0));
        assert_eq!(start(&stat, "cpu 1\nbtime 1000\n"), Some(1022.0));
    }

    #[test]
    fn values_missing_in_proc_are_absent() {
        assert_eq!((resident(""), descriptors_max(""), cpu(""), start("", "")), Default::default());
        assert_eq!(descriptors_max("Max open files  unlimited unlimited files"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_descriptors_and_a_start() {
        let process = Process::read();
        assert!(process.resident.is_some_and(|bytes| bytes > 100_000));
        assert!(process.descriptors.is_some_and(|open| open >= 3));
        assert!(process.descriptors_max >= process.descriptors);
        assert!(process.cpu.is_some() && process.start.is_some_and(|at| at > 1.0e9));
    }
}
