//! OpenMetrics 1.0, the text that Prometheus prefers: as the older format, with exemplars and an end that says that
//! nothing was cut off.

use std::fmt::Write;

use mesh_types::Timestamp;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::exemplars::{Exemplar, Exemplars, key};

/// What an answer in this format says it is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether who asks with that `Accept` takes it. Prometheus names every format that it takes; who says nothing, such
/// as a person with curl, gets the older one.
pub(crate) fn is_accepted(accept: &str) -> bool {
    accept.split(',').any(|media| {
        let mut parts = media.split(';').map(str::trim);
        let is_it = parts
            .next()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
        let is_refused = |part: &str| {
            let quality = part.strip_prefix("q=").and_then(|text| text.parse::<f64>().ok());
            quality == Some(0.0)
        };
        is_it && !parts.any(is_refused)
    })
}

/// The families as they were gathered, the exemplars at the buckets of their histograms.
pub(super) fn encode(families: &[MetricFamily], exemplars: &Exemplars) -> String {
    let mut out = String::new();
    for family in families {
        // Writing into a text cannot fail.
        let _ = write_family(&mut out, family, exemplars);
    }
    out.push_str("# EOF\n");
    out
}

fn write_family(out: &mut String, family: &MetricFamily, exemplars: &Exemplars) -> std::fmt::Result {
    let kind = family.get_field_type();
    // A counter's family has the plain name; only its sample ends in `_total`.
    let name = match kind {
        MetricType::COUNTER => family.name().strip_suffix("_total").unwrap_or(family.name()),
        _ => family.name(),
    };
    let word = match kind {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "unknown",
    };
    writeln!(out, "# TYPE {name} {word}")?;
    if !family.help().is_empty() {
        writeln!(out, "# HELP {name} {}", escaped(family.help()))?;
    }
    for metric in family.get_metric() {
        match kind {
            MetricType::COUNTER => write_sample(out, name, "_total", metric, None, metric.get_counter().get_value())?,
            MetricType::HISTOGRAM => write_histogram(out, name, metric, exemplars)?,
            _ => write_sample(out, name, "", metric, None, metric.get_gauge().get_value())?,
        }
    }
    Ok(())
}

fn write_histogram(out: &mut String, name: &str, metric: &Metric, exemplars: &Exemplars) -> std::fmt::Result {
    let histogram = metric.get_histogram();
    let kept = exemplars.of(&key(name, metric.get_label().iter().map(pair)));
    let mut buckets: Vec<(f64, u64)> = histogram
        .get_bucket()
        .iter()
        .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
        .filter(|(end, _)| end.is_finite())
        .collect();
    buckets.push((f64::INFINITY, histogram.get_sample_count()));
    for (at, (end, count)) in buckets.into_iter().enumerate() {
        let exemplar = kept.get(at).copied().flatten();
        let end = number(end);
        write!(out, "{name}_bucket")?;
        write_labels(out, metric.get_label(), Some(("le", &end)))?;
        write!(out, " {count}")?;
        if let Some(Exemplar { trace_id, value, at }) = exemplar {
            let (value, at) = (number(value), seconds(at));
            write!(out, " # {{trace_id=\"{trace_id:032x}\"}} {value} {at}")?;
        }
        out.push('\n');
    }
    write_sample(out, name, "_sum", metric, None, histogram.get_sample_sum())?;
    write!(out, "{name}_count")?;
    write_labels(out, metric.get_label(), None)?;
    writeln!(out, " {}", histogram.get_sample_count())
}

fn write_sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    metric: &Metric,
    extra: Option<(&str, &str)>,
    value: f64,
) -> std::fmt::Result {
    write!(out, "{name}{suffix}")?;
    write_labels(out, metric.get_label(), extra)?;
    writeln!(out, " {}", number(value))
}

fn write_labels(out: &mut String, labels: &[LabelPair], extra: Option<(&str, &str)>) -> std::fmt::Result {
    let mut before = '{';
    for (name, value) in labels.iter().map(pair).chain(extra) {
        write!(out, "{before}{name}=\"{}\"", escaped(value))?;
        before = ',';
    }
    if before == ',' {
        out.push('}');
    }
    Ok(())
}

fn pair(label: &LabelPair) -> (&str, &str) {
    (label.name(), label.value())
}

/// With a point or an exponent, as the format's canonical numbers: `1.0`, `0.0005`, `+Inf`.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        format!("{value:?}")
    }
}

/// Since 1970, to the millisecond.
fn seconds(at: Timestamp) -> String {
    let millis = at.as_millis();
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mesh_trace::TraceContext;

    use super::*;
    use crate::metrics::{MetricName, Metrics};

    fn sample() -> String {
        let metrics = Metrics::default();
        let of = metrics.for_service("gateway");
        of.counter(MetricName::Commits).add(3, &[("outcome", "a \"b\"\\\n")]);
        of.gauge(MetricName::ShardsOwned).set(-2, &[]);
        let durations = of.histogram(MetricName::HttpDuration);
        durations.record_duration(Duration::from_millis(3), &[("route", "/")]);
        let trace = TraceContext::new(0xabc, 1, true);
        durations.record_in(Some(trace), 0.007, &[("route", "/")]);
        durations.record_in(Some(trace), 1e9, &[("route", "/")]);
        let unsampled = TraceContext::new(0xdef, 1, false);
        durations.record_in(Some(unsampled), 0.02, &[("route", "/")]);
        metrics.render_openmetrics()
    }

    #[test]
    fn a_family_of_counters_has_the_plain_name() {
        let text = sample();
        assert!(text.contains("# TYPE mesh_commits counter\n"), "{text}");
        let line = r#"mesh_commits_total{mesh_service="gateway",outcome="a \"b\"\\\n"} 3.0"#;
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("mesh_shards_owned{mesh_service=\"gateway\"} -2.0\n"),
            "{text}"
        );
        assert!(text.ends_with("\n# EOF\n") && !text.contains("\n\n"), "{text}");
    }

    #[test]
    fn a_bucket_names_the_trace_that_fell_into_it() {
        let text = sample();
        let line = |le: &str| {
            let start =
                format!("mesh_http_duration_seconds_bucket{{mesh_service=\"gateway\",route=\"/\",le=\"{le}\"}} ");
            let line = text.lines().find(|line| line.starts_with(&start));
            line.unwrap_or_else(|| panic!("no {le} in {text}"))[start.len()..].to_owned()
        };
        assert_eq!(line("0.0025"), "0");
        assert_eq!(line("0.005"), "1", "made outside of any trace");
        let exemplar = line("0.01");
        let start = "2 # {trace_id=\"00000000000000000000000000000abc\"} 0.007 ";
        assert!(exemplar.starts_with(start), "{exemplar}");
        assert!(exemplar[start.len()..].parse::<f64>().unwrap() > 1.6e9, "{exemplar}");
        assert_eq!(line("0.025"), "3", "a trace that is not recorded leads nowhere");
        assert_eq!(line("1.0"), "3");
        assert!(line("+Inf").starts_with("4 # {trace_id="), "{text}");
        assert!(text.contains("mesh_http_duration_seconds_count{mesh_service=\"gateway\",route=\"/\"} 4\n"));
    }

    #[test]
    fn families_are_written_once_and_names_are_those_of_the_older_format() {
        let metrics = Metrics::default();
        for service in ["registry", "memory"] {
            metrics.for_service(service).counter(MetricName::Commits).add(1, &[]);
        }
        let text = metrics.render_openmetrics();
        assert_eq!(text.matches("# TYPE mesh_commits counter").count(), 1, "{text}");
        let names = |text: &str| -> std::collections::BTreeSet<String> {
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            let names = samples.filter_map(|line| line.split(['{', ' ']).next());
            names.map(str::to_owned).collect()
        };
        assert_eq!(names(&text), names(&metrics.render().unwrap()));
    }

    #[test]
    fn only_who_names_the_format_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,*/*;q=0.1";
        assert!(is_accepted(prometheus) && is_accepted("text/plain, Application/OpenMetrics-Text"));
        for other in ["", "*/*", "text/plain", "application/openmetrics-text;q=0"] {
            assert!(!is_accepted(other), "{other}");
        }
    }
}
