//! The page of a scrape: families, counters, gauges and labels.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, MetricEncoder};
use prometheus_client::metrics::exemplar::Exemplar;

use super::names::Family;

pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;
const NO_EXEMPLAR: Option<&Exemplar<Labels<'static>, f64>> = None;

/// The page being written.
pub(super) struct MetricsPage<'a>(pub(super) DescriptorEncoder<'a>);

impl MetricsPage<'_> {
    pub(super) fn counter_by_label<'b>(
        &mut self,
        family: &'static Family,
        counts: impl IntoIterator<Item = (&'b str, u64)>,
        labels: fn(&'b str) -> Labels<'b>,
    ) -> fmt::Result {
        let mut family = self.family(family)?;
        counts.into_iter().try_for_each(|(of, count)| count_line(&mut family, labels(of), &count))
    }

    pub(super) fn counter(
        &mut self,
        family: &'static Family,
        figure: &impl EncodeCounterValue,
    ) -> fmt::Result {
        self.family(family)?.encode_counter(figure, NO_EXEMPLAR)
    }

    pub(super) fn gauge(&mut self, family: &'static Family, figure: u64) -> fmt::Result {
        self.family(family)?.encode_gauge(&figure)
    }

    /// Starts a family. The encoder appends `_total` to the name of a counter.
    pub(super) fn family(
        &mut self,
        family: &'static Family,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        let name = family.name.strip_suffix("_total").unwrap_or(family.name);
        self.0.encode_descriptor(name, family.help, None, family.kind)
    }
}

pub(super) fn count_line(
    family: &mut MetricEncoder<'_>,
    labels: Labels<'_>,
    figure: &impl EncodeCounterValue,
) -> fmt::Result {
    family.encode_family(&labels)?.encode_counter(figure, NO_EXEMPLAR)
}
