//! Figures that something else keeps and that are read when somebody looks: at a scrape, at a push.

use opentelemetry::KeyValue;

use super::{Kind, Labels, MetricName, Metrics, with};

/// Where a reader tells its figures.
pub struct Told<'a> {
    tell: &'a mut dyn FnMut(i64, &[KeyValue]),
    service: &'a Option<KeyValue>,
}

impl Told<'_> {
    /// One figure; of a counter its whole count so far, which never falls.
    pub fn tell(&mut self, value: i64, labels: Labels<'_>) {
        (self.tell)(value, &with(self.service, labels));
    }

    /// A count or a size.
    pub fn count(&mut self, value: impl TryInto<i64>, labels: Labels<'_>) {
        self.tell(value.try_into().unwrap_or(i64::MAX), labels);
    }
}

impl Metrics {
    /// Asks `read` at each look, for a gauge or a counter. What it does not tell is not shown: a label set that is gone
    /// vanishes. It must be quick and must not block. It is asked as long as the process lives: let it hold a `Weak` of
    /// what it looks at, and tell nothing when that is gone.
    pub fn observe(&self, name: MetricName, read: impl Fn(&mut Told<'_>) + Send + Sync + 'static) {
        let (text, kind, unit, help) = name.row();
        let service = self.label();
        let meter = &self.inner.meter;
        debug_assert_ne!(kind, Kind::Histogram, "{name:?} is recorded, not read");
        if kind == Kind::Counter {
            let builder = meter.u64_observable_counter(text).with_description(help);
            let builder = if unit.is_empty() {
                builder
            } else {
                builder.with_unit(unit)
            };
            let observer = builder.with_callback(move |observer| {
                let mut tell = |value: i64, attributes: &[KeyValue]| {
                    observer.observe(u64::try_from(value).unwrap_or(0), attributes);
                };
                read(&mut Told {
                    tell: &mut tell,
                    service: &service,
                });
            });
            let _ = observer.build();
        } else {
            let builder = meter.i64_observable_gauge(text).with_description(help);
            let builder = if unit.is_empty() {
                builder
            } else {
                builder.with_unit(unit)
            };
            let observer = builder.with_callback(move |observer| {
                let mut tell = |value: i64, attributes: &[KeyValue]| observer.observe(value, attributes);
                read(&mut Told {
                    tell: &mut tell,
                    service: &service,
                });
            });
            let _ = observer.build();
        }
    }

    /// Connections of a pool to PostgreSQL, of the role whose it is. `read` answers how many there are, how many of
    /// them are idle, and how many there may be; `None` once the pool is closed.
    pub fn observe_pool<R>(&self, role: &'static str, read: R)
    where
        R: Fn() -> Option<(u32, u32, u32)> + Send + Sync + Clone + 'static,
    {
        let connections = read.clone();
        self.observe(MetricName::PoolConnections, move |told| {
            if let Some((all, idle, _)) = connections() {
                told.count(idle, &[("role", role), ("state", "idle")]);
                told.count(all.saturating_sub(idle), &[("role", role), ("state", "used")]);
            }
        });
        self.observe(MetricName::PoolSize, move |told| {
            if let Some((_, _, allowed)) = read() {
                told.count(allowed, &[("role", role)]);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn what_is_gone_is_not_shown_any_more() {
        let metrics = Metrics::default().for_service("execution");
        let waiting = Arc::new(Mutex::new(vec![("sofia", 3_i64), ("other", 1)]));
        let weak = Arc::downgrade(&waiting);
        metrics.observe(MetricName::QueueWaiting, move |told| {
            let Some(waiting) = weak.upgrade() else { return };
            for (agent, count) in waiting.lock().unwrap().iter() {
                told.tell(*count, &[("agent", agent)]);
            }
        });
        let text = metrics.render().unwrap();
        assert!(
            text.contains(r#"mesh_queue_waiting{agent="sofia",mesh_service="execution"} 3"#),
            "{text}"
        );
        waiting.lock().unwrap().remove(0);
        let text = metrics.render().unwrap();
        assert!(!text.contains("sofia") && text.contains(r#"agent="other""#), "{text}");
        drop(waiting);
        assert!(!metrics.render().unwrap().contains("mesh_queue_waiting{"));
    }

    #[test]
    fn several_readers_of_one_name_are_one_metric_and_a_counter_shows_its_count() {
        let metrics = Metrics::default();
        for (service, bytes) in [("memory", 7), ("registry", 9)] {
            let metrics = metrics.for_service(service);
            metrics.observe(MetricName::NatsTraffic, move |told| {
                told.tell(bytes, &[("direction", "in")]);
            });
            metrics.observe_pool(service, || Some((5, 2, 10)));
        }
        let text = metrics.render().unwrap();
        for line in [
            r#"mesh_nats_traffic_bytes_total{direction="in",mesh_service="memory"} 7"#,
            r#"mesh_nats_traffic_bytes_total{direction="in",mesh_service="registry"} 9"#,
            r#"mesh_pool_connections{mesh_service="memory",role="memory",state="used"} 3"#,
            r#"mesh_pool_size{mesh_service="registry",role="registry"} 10"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
