//! The monitoring of the nats-servers: memory, processor, clients; streams and durable consumers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use mesh_bus::{Monitored, ServerFigures, StreamFigures};
use mesh_runtime::metrics::Told;
use mesh_runtime::{Context, MetricName};

use super::{EVERY, Said};

/// Of streams, and of consumers over all of them, sorted by name; the others are not shown.
const SHOWN_MAX: usize = 500;

type Seen = Mutex<Vec<Monitored>>;

pub(super) async fn watch(context: Context) {
    if context.bus.options().monitor_url.is_none() {
        tracing::info!("MESH_NATS_MONITOR_URL is not set: nats-server is not watched");
        return;
    }
    let seen: Arc<Seen> = Arc::default();
    observe(&context, &seen);
    let mut said: HashMap<String, Said> = HashMap::new();
    loop {
        let found = context.bus.monitor().await;
        for one in &found {
            let error = one.figures.as_ref().err().cloned();
            said.entry(one.server.clone()).or_default().say(&one.server, error);
        }
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = found;
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn observe(context: &Context, seen: &Arc<Seen>) {
    let read = |name: MetricName, read: fn(&[Monitored], &mut Told<'_>)| {
        let seen = Arc::downgrade(seen);
        context.metrics.observe(name, move |told| {
            if let Some(seen) = seen.upgrade() {
                read(&seen.lock().unwrap_or_else(PoisonError::into_inner), told);
            }
        });
    };
    read(MetricName::NatsServerUp, |seen, told| {
        for one in seen {
            told.tell(i64::from(one.figures.is_ok()), &[("server", &one.server)]);
        }
    });
    read(MetricName::NatsServerMemory, |seen, told| {
        each(seen, told, |server| server.memory_bytes)
    });
    read(MetricName::NatsServerCpu, |seen, told| {
        each(seen, told, |server| server.cpu_thousandths)
    });
    read(MetricName::NatsServerConnections, |seen, told| {
        each(seen, told, |server| server.connections)
    });
    read(MetricName::NatsSlowConsumers, |seen, told| {
        each(seen, told, |server| server.slow_consumers)
    });
    read(MetricName::StreamMessages, |seen, told| {
        of_streams(seen, told, |stream| Some(stream.messages))
    });
    read(MetricName::StreamBytes, |seen, told| {
        of_streams(seen, told, |stream| Some(stream.bytes))
    });
    read(MetricName::StreamBytesMax, |seen, told| {
        of_streams(seen, told, |stream| stream.bytes_max)
    });
    read(MetricName::ConsumerPending, |seen, told| {
        of_consumers(seen, told, |(pending, _)| pending)
    });
    read(MetricName::ConsumerUnacked, |seen, told| {
        of_consumers(seen, told, |(_, unacked)| unacked)
    });
}

fn each(seen: &[Monitored], told: &mut Told<'_>, figure: fn(&ServerFigures) -> u64) {
    for one in seen {
        if let Ok(figures) = &one.figures {
            told.count(figure(figures), &[("server", &one.server)]);
        }
    }
}

fn streams(seen: &[Monitored]) -> impl Iterator<Item = &StreamFigures> {
    let servers = seen.iter().filter_map(|one| one.figures.as_ref().ok());
    servers.flat_map(|server| &server.streams)
}

/// In a cluster each server tells of its own copy; the fullest is how the stream is.
fn of_streams(seen: &[Monitored], told: &mut Told<'_>, figure: fn(&StreamFigures) -> Option<u64>) {
    let mut all: BTreeMap<&str, u64> = BTreeMap::new();
    for stream in streams(seen) {
        if let Some(figure) = figure(stream) {
            let most = all.entry(&stream.name).or_default();
            *most = figure.max(*most);
        }
    }
    for (stream, figure) in all.into_iter().take(SHOWN_MAX) {
        told.count(figure, &[("stream", stream)]);
    }
}

fn of_consumers(seen: &[Monitored], told: &mut Told<'_>, figure: fn((u64, u64)) -> u64) {
    let mut all: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for stream in streams(seen) {
        for consumer in &stream.consumers {
            let (pending, unacked) = all.entry((&stream.name, &consumer.name)).or_default();
            *pending = consumer.pending.max(*pending);
            *unacked = consumer.unacked.max(*unacked);
        }
    }
    for ((stream, consumer), figures) in all.into_iter().take(SHOWN_MAX) {
        told.count(figure(figures), &[("stream", stream), ("consumer", consumer)]);
    }
}

#[cfg(test)]
mod tests {
    use mesh_bus::ConsumerFigures;
    use mesh_runtime::Metrics;

    use super::*;

    #[test]
    fn of_several_servers_the_fullest_copy_counts_and_one_that_is_away_is_down() {
        let stream = |messages: u64, pending: u64| StreamFigures {
            name: "INVOCATIONS".into(),
            messages,
            bytes: 10 * messages,
            bytes_max: None,
            consumers: vec![ConsumerFigures {
                name: "intake".into(),
                pending,
                unacked: 1,
            }],
        };
        let server = |name: &str, streams: Vec<StreamFigures>| Monitored {
            server: name.into(),
            figures: Ok(ServerFigures {
                connections: 4,
                streams,
                ..ServerFigures::default()
            }),
        };
        let away = Monitored {
            server: "c:8222".into(),
            figures: Err("away".into()),
        };
        let seen = Arc::new(vec![
            server("a:8222", vec![stream(7, 2)]),
            server("b:8222", vec![stream(5, 3)]),
            away,
        ]);
        let metrics = Metrics::default();
        let read = |name: MetricName, read: fn(&[Monitored], &mut Told<'_>)| {
            let seen = Arc::clone(&seen);
            metrics.observe(name, move |told| read(&seen, told));
        };
        read(MetricName::StreamMessages, |seen, told| {
            of_streams(seen, told, |stream| Some(stream.messages))
        });
        read(MetricName::StreamBytesMax, |seen, told| {
            of_streams(seen, told, |stream| stream.bytes_max)
        });
        read(MetricName::ConsumerPending, |seen, told| {
            of_consumers(seen, told, |(pending, _)| pending)
        });
        read(MetricName::NatsServerConnections, |seen, told| {
            each(seen, told, |server| server.connections)
        });
        let text = metrics.render().unwrap();
        for line in [
            r#"mesh_stream_messages{stream="INVOCATIONS"} 7"#,
            r#"mesh_consumer_pending{consumer="intake",stream="INVOCATIONS"} 3"#,
            r#"mesh_nats_server_connections{server="b:8222"} 4"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("c:8222") && !text.contains("bytes_max_bytes{"), "{text}");
    }
}
