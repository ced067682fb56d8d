//! Metrics for Prometheus, in the text format of OpenMetrics or the one before it.
//!
//! Labels have few values, whoever connects: nothing that a client chooses is one.

use std::collections::HashSet;
use std::fmt;

use kcpq_core::histogram::{Histogram, Scale};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
pub(crate) use prometheus_client::registry::Unit;

/// The two formats. Who does not ask for OpenMetrics gets the one before it.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub(crate) const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All of these as text.
pub(crate) fn write(families: Vec<Family>) -> String {
    let mut registry = Registry::with_prefix("kcpq");
    registry.register_collector(Box::new(Families(families)));
    let mut out = String::new();
    // Fails only where a text cannot grow.
    let _ = text::encode(&mut out, &registry);
    out
}

/// The same in the format before OpenMetrics, in which a counter is called as its values are.
pub(crate) fn classic(text: &str) -> String {
    let counter = |line: &'_ str| line.strip_prefix("# TYPE ")?.strip_suffix(" counter").map(str::to_owned);
    let counters: HashSet<String> = text.lines().filter_map(counter).collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        let line = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) => {
                let total = if counters.contains(name) { "_total" } else { "" };
                format!("# {what} {name}{total} {rest}")
            }
            (Some("#"), ..) => continue,
            _ => line.to_owned(),
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// Values of one name.
#[derive(Debug)]
pub(crate) struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Counter(Vec<(Label, u64)>),
    Gauge(Vec<(Label, f64)>),
    /// The sum, and each bound with how many values lie up to it and beyond the one before.
    Histogram(f64, Vec<(f64, u64)>),
}

/// A name and a value, or none.
type Label = Option<(&'static str, String)>;

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, unit, values } in &self.0 {
            let kind = match values {
                Values::Counter(_) => MetricType::Counter,
                Values::Gauge(_) => MetricType::Gauge,
                Values::Histogram(..) => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            match values {
                Values::Counter(all) => encode(all, metric, ConstCounter::new)?,
                Values::Gauge(all) => encode(all, metric, ConstGauge::new)?,
                Values::Histogram(sum, buckets) => {
                    let count = buckets.iter().map(|(_, count)| count).sum();
                    metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
                }
            }
        }
        Ok(())
    }
}

/// A value without a label, or one for each label.
fn encode<T: Copy, M: EncodeMetric>(
    all: &[(Label, T)],
    mut metric: MetricEncoder<'_>,
    make: impl Fn(T) -> M,
) -> fmt::Result {
    if let [(None, value)] = all {
        return make(*value).encode(metric);
    }
    for (label, value) in all {
        let labels: Vec<_> = label.iter().map(|(name, text)| (*name, text.as_str())).collect();
        make(*value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

pub(crate) fn counter(name: &'static str, help: &'static str, value: u64) -> Family {
    Family { name, help, unit: None, values: Values::Counter(vec![(None, value)]) }
}

pub(crate) fn gauge(name: &'static str, help: &'static str, value: f64) -> Family {
    Family { name, help, unit: None, values: Values::Gauge(vec![(None, value)]) }
}

/// One counter for each value of a label.
pub(crate) fn counters<const N: usize>(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: [(&'static str, u64); N],
) -> Family {
    let values = values.into_iter().map(|(value, count)| (Some((label, value.to_owned())), count)).collect();
    Family { name, help, unit: None, values: Values::Counter(values) }
}

/// Values of which so many make one of the metric's unit.
pub(crate) fn histogram<S: Scale>(name: &'static str, help: &'static str, values: &Histogram<S>, per: f64) -> Family {
    let up_to = values.buckets().map(|(up_to, count)| (up_to as f64 / per, count));
    let buckets = up_to.chain([(f64::INFINITY, values.above())]).collect();
    Family { name, help, unit: None, values: Values::Histogram(values.sum() as f64 / per, buckets) }
}

pub(crate) fn gauges(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    values: impl IntoIterator<Item = (String, f64)>,
) -> Family {
    let values = values.into_iter().map(|(value, amount)| (Some((label, value)), amount)).collect();
    Family { name, help, unit: None, values: Values::Gauge(values) }
}

impl Family {
    pub(crate) fn of(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }
}
