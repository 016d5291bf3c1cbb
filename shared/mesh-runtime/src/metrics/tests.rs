//! Names, labels and kinds, as Prometheus shows them.

use std::time::Duration;

use super::*;

#[test]
fn a_metric_says_its_service() {
    let metrics = Metrics::default();
    metrics
        .for_service("registry")
        .counter(MetricName::AgentsPublished)
        .add(2, &[]);
    metrics
        .for_service("memory")
        .counter(MetricName::MemoriesStored)
        .add(1, &[("type", "fact")]);
    let text = metrics.render().unwrap();
    assert!(
        text.contains(r#"mesh_agents_published_total{mesh_service="registry"} 2"#),
        "{text}"
    );
    assert!(
        text.contains(r#"mesh_memories_stored_total{mesh_service="memory",type="fact"} 1"#),
        "{text}"
    );
}

#[test]
fn the_same_name_made_twice_is_one_series() {
    let metrics = Metrics::default().for_service("execution");
    metrics.counter(MetricName::Commits).add(1, &[]);
    metrics.clone().counter(MetricName::Commits).add(1, &[]);
    let text = metrics.render().unwrap();
    assert!(
        text.contains(r#"mesh_commits_total{mesh_service="execution"} 2"#),
        "{text}"
    );
}

#[test]
fn durations_are_seconds_in_buckets() {
    let metrics = Metrics::default();
    metrics
        .histogram(MetricName::CommitDuration)
        .record_duration(Duration::from_millis(2), &[]);
    let text = metrics.render().unwrap();
    assert!(
        text.contains(r#"mesh_commit_duration_seconds_bucket{le="0.0025"} 1"#),
        "{text}"
    );
    assert!(
        text.contains(r#"mesh_commit_duration_seconds_bucket{le="0.001"} 0"#),
        "{text}"
    );
}

#[test]
fn names_are_unique_and_of_one_form() {
    let mut names: Vec<_> = MetricName::ALL.iter().map(|name| name.row().0).collect();
    assert!(names.iter().all(|name| name.starts_with("mesh.")));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), MetricName::ALL.len());
}
