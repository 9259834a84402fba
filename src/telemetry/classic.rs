//! Converts OpenMetrics text into Prometheus text format 0.0.4.
//!
//! For sconce's output they differ in three ways: OpenMetrics names a counter's family without
//! `_total`, ends with `# EOF`, and may contain `# UNIT` lines. Samples are equal. The input comes
//! from our own encoder, never from a peer.

/// Converts a page.
pub(super) fn from_open_metrics(page: &str) -> String {
    let mut classic = String::with_capacity(page.len());
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let of_counter = is_type_of_counter(line, line)
            || lines.peek().is_some_and(|next| is_type_of_counter(next, line));
        match family(line) {
            Some((mark, name, rest)) if of_counter => {
                classic.extend([mark, name, "_total", rest, "\n"]);
            }
            Some(_) | None => classic.extend([line, "\n"]),
        }
    }
    classic
}

/// Whether `line` is the `# TYPE` of a counter whose `# HELP` is `help`.
fn is_type_of_counter(line: &str, help: &str) -> bool {
    line.starts_with("# TYPE ")
        && line.ends_with(" counter")
        && family(line).map(|of| of.1) == family(help).map(|of| of.1)
}

/// `# HELP name rest` or `# TYPE name rest` in three parts.
fn family(line: &str) -> Option<(&str, &str, &str)> {
    let (mark, after) = line.split_at_checked("# HELP ".len())?;
    let name_len = after.find(' ')?;
    let (name, rest) = after.split_at_checked(name_len)?;
    matches!(mark, "# HELP " | "# TYPE ").then_some((mark, name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_counters_change_their_family_name() {
        let open = "# HELP a_b What\n# TYPE a_b counter\na_b_total{x=\"y\"} 1\n\
                    # HELP c Gauge\n# TYPE c gauge\n# UNIT c s\nc 2\n# EOF\n";
        let classic = "# HELP a_b_total What\n# TYPE a_b_total counter\na_b_total{x=\"y\"} 1\n\
                       # HELP c Gauge\n# TYPE c gauge\nc 2\n";
        assert_eq!(from_open_metrics(open), classic);
    }

    #[test]
    fn a_help_that_ends_like_a_type_is_no_counter() {
        let page = "# HELP c Is no counter\n# TYPE c gauge\nc 2\n";
        assert_eq!(from_open_metrics(page), page);
    }
}
