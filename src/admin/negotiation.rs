//! Content negotiation for `/metrics` (RFC 9110, 12.4.2 and 12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

use crate::telemetry::MetricsFormat;

/// Maximum number of media ranges of an `Accept` header that are evaluated.
const RANGES_MAX: usize = 64;

const OPENMETRICS: Media =
    Media { kind: "application", subtype: "openmetrics-text", versions: OPENMETRICS_VERSIONS };
const PLAIN_TEXT: Media = Media { kind: "text", subtype: "plain", versions: &["0.0.4"] };
/// The page uses no feature that differs between these versions.
const OPENMETRICS_VERSIONS: &[&str] = &["1.0.0", "0.0.1"];

/// The format of the response: the one with the higher weight. With equal weights, OpenMetrics if
/// the header names it, otherwise the text format. The text format also if both have weight 0.
pub(super) fn negotiate(headers: &HeaderMap) -> MetricsFormat {
    let all = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let ranges: Vec<Range<'_>> = all.flat_map(split).take(RANGES_MAX).map(Range::of).collect();
    let (open, classic) = (OPENMETRICS.weight(&ranges), PLAIN_TEXT.weight(&ranges));
    let is_named = open.specificity == Specificity::Named;
    let is_open = open.weight > 0
        && (open.weight > classic.weight || (is_named && open.weight == classic.weight));
    if is_open { MetricsFormat::OpenMetrics } else { MetricsFormat::Classic }
}

/// Splits at commas. A comma in a quoted string also splits, which is harmless: no supported media
/// type contains one.
fn split(accept: &str) -> impl Iterator<Item = &str> {
    accept.split(',').map(str::trim).filter(|range| !range.is_empty())
}

/// A supported media type.
struct Media {
    kind: &'static str,
    subtype: &'static str,
    versions: &'static [&'static str],
}

/// Specificity of a media range for a media type: the most specific range decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Specificity {
    #[default]
    None,
    Any,
    Kind,
    Named,
}

/// Preference of a client for a media type; the weight in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    specificity: Specificity,
    weight: u16,
}

/// One media range of an `Accept` header.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    version: Option<&'a str>,
    weight: u16,
}

impl<'a> Range<'a> {
    fn of(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let (kind, subtype) = media.split_once('/').unwrap_or((media, ""));
        let mut range = Self { kind, subtype, version: None, weight: 1_000 };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            if key.eq_ignore_ascii_case("q") {
                range.weight = weight(value);
            } else if key.eq_ignore_ascii_case("version") {
                range.version = Some(value.trim_matches('"'));
            }
        }
        range
    }

    fn specificity(&self, media: &Media) -> Specificity {
        let is_kind = self.kind.eq_ignore_ascii_case(media.kind);
        let fits = |version: &str| media.versions.contains(&version);
        match (self.kind, self.subtype) {
            ("*", "*") => Specificity::Any,
            (_, "*") if is_kind => Specificity::Kind,
            (_, subtype) if is_kind && subtype.eq_ignore_ascii_case(media.subtype) => {
                if self.version.is_none_or(fits) { Specificity::Named } else { Specificity::None }
            }
            _ => Specificity::None,
        }
    }
}

impl Media {
    /// The preference by the most specific range; among equally specific ranges, the highest
    /// weight.
    fn weight(&self, ranges: &[Range<'_>]) -> Preference {
        let wanted = ranges
            .iter()
            .map(|it| Preference { specificity: it.specificity(self), weight: it.weight });
        wanted.filter(|it| it.specificity != Specificity::None).max().unwrap_or_default()
    }
}

/// A weight in thousandths: `0.75` is 750. An invalid weight counts as 1, like a missing one.
fn weight(text: &str) -> u16 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let thousandths = format!("{part:0<3}").get(..3).and_then(|part| part.parse().ok());
    match (whole, thousandths) {
        ("0", Some(part)) => part,
        _ => 1_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &[&str]) -> MetricsFormat {
        let mut headers = HeaderMap::new();
        for accept in accept {
            headers.append(ACCEPT, accept.parse().unwrap());
        }
        negotiate(&headers)
    }

    #[test]
    fn the_higher_weight_decides_and_weight_0_excludes_a_format() {
        for accept in [
            "application/openmetrics-text;q=0,text/plain",
            "application/openmetrics-text;q=0.3,text/plain;q=0.4",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0,*/*",
            "application/openmetrics-text;version=2.0.0",
            "text/plain, application/openmetrics-text ; Q=0.999",
            "*/*",
            "text/*",
            "",
            "text/html",
            "application/openmetrics-textual",
        ] {
            assert_eq!(asked(&[accept]), MetricsFormat::Classic, "{accept}");
        }
        for accept in [
            "application/openmetrics-text",
            "Application/OpenMetrics-Text",
            "application/openmetrics-text;q=0.001",
            "application/openmetrics-text,text/plain",
            "application/openmetrics-text;q=0.5,text/plain;q=0.4",
            "application/openmetrics-text, */*",
            "text/plain;q=0, */*;q=0.1",
            "application/*",
            "text/plain;version=0.0.3, application/openmetrics-text;q=0.1",
        ] {
            assert_eq!(asked(&[accept]), MetricsFormat::OpenMetrics, "{accept}");
        }
    }

    #[test]
    fn several_accept_headers_are_one_list() {
        let format = asked(&["text/plain;q=0.1", "application/openmetrics-text;q=0.2"]);
        assert_eq!(format, MetricsFormat::OpenMetrics);
        assert_eq!(asked(&[]), MetricsFormat::Classic);
    }

    #[test]
    fn prometheus_gets_openmetrics() {
        let accept = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                      version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(asked(&[accept]), MetricsFormat::OpenMetrics);
        let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                      encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;\
                      escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;q=0.3,\
                      text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(asked(&[accept]), MetricsFormat::OpenMetrics);
    }

    #[test]
    fn a_weight_has_up_to_three_decimal_places() {
        for (text, expected) in
            [("0", 0), ("0.5", 500), ("0.05", 50), ("0.1234", 123), ("1", 1000), ("1.000", 1000)]
        {
            assert_eq!(weight(text), expected, "{text}");
        }
        for odd in ["", "2", "-1", "0.x", "nonsense"] {
            assert_eq!(weight(odd), 1000, "{odd}");
        }
    }
}
