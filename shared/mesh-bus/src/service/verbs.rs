//! `$SRV.PING`, `$SRV.INFO`, `$SRV.STATS`: how a service shows itself to `nats micro`.

use std::sync::Arc;

use async_nats::Subscriber;
use futures::StreamExt;
use futures::stream::{SelectAll, select_all};
use mesh_types::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::stats::EndpointStats;
use crate::{Bus, BusError, Headers};

pub(super) struct Identity {
    name: &'static str,
    id: String,
    version: String,
    started: Timestamp,
    endpoints: Vec<Arc<EndpointStats>>,
}

impl Identity {
    pub(super) fn new(bus: &Bus, name: &'static str, version: &str, endpoints: Vec<Arc<EndpointStats>>) -> Self {
        Self {
            name,
            id: bus.unique(),
            version: version.to_owned(),
            started: SystemClock::default().now(),
            endpoints,
        }
    }

    /// To all services, to those of this name, to this instance.
    pub(super) async fn subscribe(&self, bus: &Bus) -> Result<SelectAll<Subscriber>, BusError> {
        let subjects = [
            "$SRV.*".to_owned(),
            format!("$SRV.*.{}", self.name),
            format!("$SRV.*.{}.{}", self.name, self.id),
        ];
        let mut subscribers = Vec::new();
        for subject in subjects {
            subscribers.push(bus.subscribe_at(subject, None).await?);
        }
        Ok(select_all(subscribers))
    }

    pub(super) async fn run(self, bus: Bus, mut asked: SelectAll<Subscriber>, stop: CancellationToken) {
        while let Some(Some(message)) = stop.run_until_cancelled(asked.next()).await {
            let verb = message.subject.split('.').nth(1).unwrap_or_default();
            let (Some(answer), Some(reply)) = (self.answer(verb), message.reply) else {
                continue;
            };
            let payload = answer.to_string().into();
            if let Err(error) = bus.enqueue(reply.into_string(), Headers::new(), payload).await {
                tracing::debug!(%error, "a look at the service is not answered");
            }
        }
    }

    fn answer(&self, verb: &str) -> Option<Value> {
        let endpoints = self.endpoints.iter();
        let (kind, more) = match verb {
            "PING" => ("ping", json!({})),
            "INFO" => {
                let endpoints: Vec<_> = endpoints.map(|endpoint| endpoint.info()).collect();
                ("info", json!({ "description": "Agent Mesh", "endpoints": endpoints }))
            }
            "STATS" => {
                let endpoints: Vec<_> = endpoints.map(|endpoint| endpoint.stats()).collect();
                ("stats", json!({ "started": self.started, "endpoints": endpoints }))
            }
            _ => return None,
        };
        let mut answer = json!({
            "type": format!("io.nats.micro.v1.{kind}_response"),
            "name": self.name,
            "id": self.id,
            "version": self.version,
            "metadata": {},
        });
        if let (Value::Object(answer), Value::Object(mut more)) = (&mut answer, more) {
            answer.append(&mut more);
        }
        Some(answer)
    }
}
