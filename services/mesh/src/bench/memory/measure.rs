//! One level: the service over NATS and plain SQL in turns, with the same questions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh_api::memory::{MemoryQuery, QueryMode, QueryRequest, Scope};
use mesh_bus::Bus;
use mesh_store::IdExt as _;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::ground::{Ground, caller};
use super::plain::{self, Plain};
use super::report::{Level, Side};
use super::rows::{AGENT, Loaded, Table};
use crate::bench::report::rounded;
use crate::bench::stopwatch::Latencies;

/// Hits of each search.
pub(super) const K: usize = 10;
/// Turns that each side gets of a level's time: what else the machine does meets both.
const TURNS: u32 = 4;
const WARM_UP: Duration = Duration::from_millis(500);
/// Each client walks through the questions in steps of its own (coprime to their number, so that it asks all of them). In
/// one order clients fall into step behind each other: who asks what was just asked reads nothing, and catches up.
const STEPS: [usize; 8] = [1, 3, 7, 9, 11, 13, 17, 19];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// All memories: the tenant's and the agent's.
    None,
    /// The agent's own: one in a hundred.
    OnePercent,
}

impl Filter {
    pub(super) const ALL: [Self; 2] = [Self::None, Self::OnePercent];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::OnePercent => "1 %",
        }
    }
}

/// What is asked, and what is really the nearest.
pub(super) struct Questions {
    pub(super) table: Table,
    pub(super) filter: Filter,
    vectors: Arc<Vec<Vec<f32>>>,
    nearest: Vec<HashSet<Uuid>>,
}

/// Share of the really nearest that each side found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recall {
    service: f64,
    plain: f64,
}

impl Questions {
    pub(super) async fn new(
        ground: &Ground,
        table: Table,
        filter: Filter,
        vectors: Arc<Vec<Vec<f32>>>,
    ) -> anyhow::Result<Self> {
        let mut connection = ground.database().await?;
        let mut nearest = Vec::with_capacity(vectors.len());
        for vector in vectors.iter() {
            nearest.push(plain::exact(&mut connection, table, filter, vector).await?);
        }
        Ok(Self {
            table,
            filter,
            vectors,
            nearest,
        })
    }

    fn request(&self, vector: &[f32]) -> anyhow::Result<QueryRequest> {
        let mut request = QueryRequest::new(AGENT.parse()?, "", K as u32);
        request.mode = QueryMode::Vector;
        request.vector = Some(vector.to_vec());
        request.model = Some(self.table.model());
        if self.filter == Filter::OnePercent {
            request.filters.scopes = vec![Scope::Agent];
        }
        Ok(request)
    }

    pub(super) async fn recall(&self, ground: &Ground) -> anyhow::Result<Recall> {
        let mut plain = Plain::connect(ground, self.table, self.filter).await?;
        let (mut by_service, mut by_plain, mut all) = (0, 0, 0);
        for (vector, nearest) in self.vectors.iter().zip(&self.nearest) {
            let reply = ground
                .bus
                .call::<MemoryQuery>(&caller(), &self.request(vector)?)
                .await?;
            let ids = reply.items.iter().map(|hit| hit.memory.id.to_uuid());
            by_service += ids.filter(|id| nearest.contains(id)).count();
            let ids = plain.search(vector).await?;
            by_plain += ids.iter().filter(|id| nearest.contains(id)).count();
            all += nearest.len();
        }
        Ok(Recall {
            service: by_service as f64 / all.max(1) as f64,
            plain: by_plain as f64 / all.max(1) as f64,
        })
    }

    /// So many clients, each with one search at a time.
    pub(super) async fn level(
        &self,
        ground: &Ground,
        clients: u32,
        time: Duration,
        recall: Recall,
        loaded: Loaded,
    ) -> anyhow::Result<Level> {
        let requests = self.vectors.iter().map(|vector| self.request(vector));
        let requests = Arc::new(requests.collect::<anyhow::Result<Vec<_>>>()?);
        let (mut buses, mut connections) = (Vec::new(), Vec::new());
        for _ in 0..clients {
            buses.push(ground.client().await?);
            connections.push(Plain::connect(ground, self.table, self.filter).await?);
        }
        let (mut service, mut plain) = (Course::default(), Course::default());
        buses = by_service(buses, &requests, WARM_UP, &mut Course::default()).await?;
        connections = by_plain(connections, &self.vectors, WARM_UP, &mut Course::default()).await?;
        for _ in 0..TURNS {
            buses = by_service(buses, &requests, time / TURNS, &mut service).await?;
            connections = by_plain(connections, &self.vectors, time / TURNS, &mut plain).await?;
        }
        let (service, plain) = (service.side(recall.service), plain.side(recall.plain));
        Ok(Level {
            concurrency: u64::from(clients),
            per_second: service.per_second,
            p50_ms: service.p50_ms,
            p99_ms: service.p99_ms,
            ceiling_per_second: plain.per_second,
            ratio: rounded(service.per_second / plain.per_second),
            p99_ratio: rounded(service.p99_ms / plain.p99_ms),
            recall: rounded(service.recall),
            dims: self.table.dims,
            rows: self.table.rows,
            filter: self.filter.as_str(),
            plain,
            load_seconds: rounded(loaded.load.as_secs_f64()),
            build_seconds: rounded(loaded.build.as_secs_f64()),
        })
    }
}

/// What one side did, over its turns.
#[derive(Default)]
struct Course {
    latencies: Vec<Duration>,
    time: Duration,
}

impl Course {
    fn side(&self, recall: f64) -> Side {
        let mut latencies = Latencies::new();
        self.latencies.iter().for_each(|latency| latencies.record(*latency));
        Side {
            per_second: rounded(self.latencies.len() as f64 / self.time.as_secs_f64()),
            p50_ms: latencies.quantile_ms(0.5),
            p99_ms: latencies.quantile_ms(0.99),
            recall: rounded(recall),
        }
    }
}

async fn by_service(
    clients: Vec<Bus>,
    requests: &Arc<Vec<QueryRequest>>,
    time: Duration,
    course: &mut Course,
) -> anyhow::Result<Vec<Bus>> {
    let began = Instant::now();
    let mut running = JoinSet::new();
    for (number, bus) in clients.into_iter().enumerate() {
        let requests = Arc::clone(requests);
        running.spawn(async move {
            let mut latencies = Vec::new();
            let mut at = number;
            while began.elapsed() < time {
                let asked = Instant::now();
                let request = &requests[at % requests.len()];
                bus.call::<MemoryQuery>(&caller(), request)
                    .await
                    .context("the memory service")?;
                latencies.push(asked.elapsed());
                at += STEPS[number % STEPS.len()];
            }
            anyhow::Ok((bus, latencies))
        });
    }
    finish(running, began, course).await
}

async fn by_plain(
    clients: Vec<Plain>,
    vectors: &Arc<Vec<Vec<f32>>>,
    time: Duration,
    course: &mut Course,
) -> anyhow::Result<Vec<Plain>> {
    let began = Instant::now();
    let mut running = JoinSet::new();
    for (number, mut plain) in clients.into_iter().enumerate() {
        let vectors = Arc::clone(vectors);
        running.spawn(async move {
            let mut latencies = Vec::new();
            let mut at = number;
            while began.elapsed() < time {
                let asked = Instant::now();
                plain.search(&vectors[at % vectors.len()]).await.context("plain SQL")?;
                latencies.push(asked.elapsed());
                at += STEPS[number % STEPS.len()];
            }
            anyhow::Ok((plain, latencies))
        });
    }
    finish(running, began, course).await
}

async fn finish<C: 'static>(
    mut running: JoinSet<anyhow::Result<(C, Vec<Duration>)>>,
    began: Instant,
    course: &mut Course,
) -> anyhow::Result<Vec<C>> {
    let mut clients = Vec::with_capacity(running.len());
    while let Some(ended) = running.join_next().await {
        let (client, latencies) = ended??;
        course.latencies.extend(latencies);
        clients.push(client);
    }
    course.time += began.elapsed();
    Ok(clients)
}
