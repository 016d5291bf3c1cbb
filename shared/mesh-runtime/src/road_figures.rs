//! Figures of the roads of one process: requests answered for each endpoint, dead letters, bytes, reconnects.

use std::sync::Arc;
use std::time::Duration;

use mesh_bus::{Answered, Bus, EndpointObserver, Observer};

use crate::metrics::{BoundCounter, BoundHistogram, MetricName, Metrics};

/// Counts what goes over this connection from now on; the first context of a process does it.
pub(crate) fn count(bus: &Bus, metrics: &Metrics) {
    let roads = Roads {
        metrics: metrics.clone(),
    };
    if !bus.set_observer(Arc::new(roads)) {
        return;
    }
    let traffic = bus.traffic();
    let reconnects = traffic.clone();
    metrics.observe(MetricName::NatsTraffic, move |told| {
        let traffic = traffic();
        told.count(traffic.bytes_in, &[("direction", "in")]);
        told.count(traffic.bytes_out, &[("direction", "out")]);
    });
    metrics.observe(MetricName::BusReconnects, move |told| {
        told.count(reconnects().connections.saturating_sub(1), &[]);
    });
}

struct Roads {
    metrics: Metrics,
}

impl Observer for Roads {
    fn endpoint(&self, service: &'static str, endpoint: &str) -> Arc<dyn EndpointObserver> {
        let metrics = self.metrics.for_service(service);
        let requests = metrics.counter(MetricName::BusRequests);
        let labels = |answered: Answered| [("endpoint", endpoint), ("outcome", answered.as_str())];
        Arc::new(EndpointFigures {
            requests: Answered::ALL.map(|answered| requests.bound(&labels(answered))),
            durations: metrics
                .histogram(MetricName::BusDuration)
                .bound(&[("endpoint", endpoint)]),
        })
    }

    fn buried(&self, stream: &str) {
        let letters = self.metrics.counter(MetricName::DeadLetters);
        letters.add(1, &[("origin", stream)]);
    }
}

struct EndpointFigures {
    /// In the order of [`Answered::ALL`].
    requests: [BoundCounter; Answered::ALL.len()],
    durations: BoundHistogram,
}

impl EndpointObserver for EndpointFigures {
    fn answered(&self, answered: Answered, took: Option<Duration>) {
        let place = Answered::ALL.iter().position(|one| *one == answered);
        if let Some(counter) = place.and_then(|place| self.requests.get(place)) {
            counter.add(1);
        }
        if let Some(took) = took {
            self.durations.record_duration(took);
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_types::{Code, Problem};

    use super::*;

    #[test]
    fn an_endpoint_counts_by_what_became_of_its_requests() {
        let metrics = Metrics::default();
        let roads = Roads {
            metrics: metrics.clone(),
        };
        let endpoint = roads.endpoint("registry", "agent-get");
        let took = Some(Duration::from_millis(2));
        endpoint.answered(Answered::Ok, took);
        endpoint.answered(Answered::of(&Problem::new(Code::AgentNotFound, "no")), took);
        endpoint.answered(Answered::of(&Problem::new(Code::Busy, "later")), None);
        endpoint.answered(Answered::of(&Problem::new(Code::Internal, "oh")), took);
        endpoint.answered(Answered::Late, None);
        roads.buried("INVOCATIONS");
        let text = metrics.render().unwrap();
        for outcome in Answered::ALL.map(Answered::as_str) {
            let line = format!(
                r#"mesh_bus_requests_total{{endpoint="agent-get",mesh_service="registry",outcome="{outcome}"}} 1"#
            );
            assert!(text.contains(&line), "{line}\n{text}");
        }
        let worked = r#"mesh_bus_duration_seconds_count{endpoint="agent-get",mesh_service="registry"} 3"#;
        assert!(text.contains(worked), "{text}");
        assert!(
            text.contains(r#"mesh_dead_letters_total{origin="INVOCATIONS"} 1"#),
            "{text}"
        );
    }
}
