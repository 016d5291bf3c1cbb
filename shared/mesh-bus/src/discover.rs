//! Who serves on the bus: every service answers `$SRV.STATS` with what it is and what it has done.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use mesh_types::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Bus, BusError};

const STATS: &str = "$SRV.STATS";

/// One process that serves a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStats {
    pub name: String,
    /// Of this instance, since its start.
    pub id: String,
    pub version: String,
    pub started: Timestamp,
    #[serde(default)]
    pub endpoints: Vec<EndpointStats>,
}

/// One of its endpoints, counted since its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStats {
    pub name: String,
    pub num_requests: u64,
    pub num_errors: u64,
    #[serde(default)]
    pub last_error: String,
    /// Nanoseconds.
    pub average_processing_time: u64,
    /// What our services say besides; absent of other programs.
    #[serde(default)]
    pub data: EndpointData,
}

/// The part of `$SRV.STATS` that each service has for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointData {
    /// Time that 99 of 100 requests took at most, to a quarter of it; 0 where nobody says.
    pub p99_nanoseconds: u64,
}

impl Bus {
    /// Asks who is there and listens for `wait`. Sorted by name, then by start. Other programs'
    /// services on the same server are among them.
    ///
    /// # Errors
    /// [`BusError::Disconnected`], [`BusError::Client`].
    pub async fn discover(&self, wait: Duration) -> Result<Vec<ServiceStats>, BusError> {
        let doing = "ask which services there are";
        let inbox = self.client().new_inbox();
        let mut answers = self.subscribe_at(inbox.clone(), None).await?;
        let asked = self.client().publish_with_reply(STATS, inbox, Bytes::new()).await;
        asked.map_err(|source| BusError::Client {
            doing,
            source: source.into(),
        })?;
        let mut services = Vec::new();
        let collect = async {
            while let Some(answer) = answers.next().await {
                // "Nobody listens" comes as an answer without a body.
                services.extend(serde_json::from_slice::<ServiceStats>(&answer.payload).ok());
            }
        };
        // Nobody knows how many there are: the time is what ends it.
        let _ = tokio::time::timeout(wait, collect).await;
        services.sort_by(|a, b| (&a.name, a.started, &a.id).cmp(&(&b.name, b.started, &b.id)));
        Ok(services)
    }
}
