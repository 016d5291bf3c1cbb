//! A nats-server, a `mesh serve gateway` and a bare broadcast of the measurement's own. They go with this value, and soon
//! after this process if that is killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use mesh_api::Caller;
use mesh_api::live::{SHARDS, ShardFeed, ShardFeedPage, ShardFeedRequest, ShardHead};
use mesh_bus::{Bus, Headers, ServiceHandle, topology};
use mesh_servers::{NatsOptions, NatsServer, Quiet, ScratchDir, Tools};
use mesh_types::event::{Event, Fact};
use mesh_types::{Clock as _, EventId, Id as _, SystemClock, Tenant};
use tokio::net::TcpStream;

use super::client;
use crate::bench::place;
use crate::bench::progress::Progress;
use crate::bench::service::Service;

const READY_DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a client that does not read is sent before, so that every buffer on its way is full.
const STUFFING_PUSHES: usize = 120;
const STUFFING_BYTES: usize = 64 * 1024;
const STOPPED: client::Protocol = ("/api/v1/ws", r#"{"subscribe":["agents","audit"]}"#);

pub(super) struct Ground {
    pub(super) gateway: SocketAddr,
    pub(super) bare: SocketAddr,
    bus: Bus,
    http: reqwest::Client,
    published: AtomicU64,
    clock: SystemClock,
    // In this order: stopped, then removed.
    _feed: ServiceHandle,
    services: [Service; 2],
    nats: NatsServer,
    folder: ScratchDir,
}

impl Ground {
    pub(super) async fn start(progress: &Progress) -> anyhow::Result<Self> {
        progress.phase("starting nats-server, the gateway and a bare broadcast");
        let (folder, nats) = tokio::task::spawn_blocking(start_nats).await??;
        let bus = place::connect(&nats.url(), None).await?;
        bus.apply_topology(&topology::standard()).await?;
        let feed = serve_feed(&bus).await?;
        let free = || mesh_servers::free_port().context("no port is free");
        let (http_port, ops_port, bare_port) = (free()?, free()?, free()?);
        let environment = [
            ("MESH_NATS_URL", nats.url()),
            ("MESH_NATS_MONITOR_URL", nats.monitor_url()),
            ("MESH_HTTP_PORT", http_port.to_string()),
            ("MESH_OPS_PORT", ops_port.to_string()),
        ];
        let gateway = Service::start("gateway", folder.path(), &environment)?;
        let port = bare_port.to_string();
        let bare = Service::start_as(
            "bare",
            &["bench", "bare-broadcast", "--port", &port],
            folder.path(),
            &[],
        )?;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut ground = Self {
            gateway: local(http_port),
            bare: local(bare_port),
            bus,
            http: reqwest::Client::builder().no_proxy().build()?,
            published: AtomicU64::new(0),
            clock: SystemClock::default(),
            _feed: feed,
            services: [gateway, bare],
            nats,
            folder,
        };
        ground.wait_ready().await?;
        Ok(ground)
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        let readyz = format!("http://{}/readyz", self.gateway);
        loop {
            self.services.iter_mut().try_for_each(Service::check)?;
            let gateway = self.http.get(&readyz).send().await;
            let bare = TcpStream::connect(self.bare).await;
            if gateway.is_ok_and(|answer| answer.status().is_success()) && bare.is_ok() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("the gateway is not ready after 60 s");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn publish(&self, fact: Fact) -> anyhow::Result<()> {
        let count = self.published.fetch_add(1, Ordering::Relaxed);
        let event = Event {
            id: EventId::new(self.clock.now(), count.into()),
            tenant: Tenant::default(),
            at: self.clock.now(),
            actor: "user:bench".into(),
            fact,
            change: None,
            request_id: None,
        };
        let payload = Bytes::from(serde_json::to_vec(&event)?);
        let id = event.id.to_string();
        self.bus
            .publish_durable(&event.subject(), &id, Headers::new(), payload)
            .await?;
        Ok(())
    }

    /// An event that every client is pushed.
    pub(super) async fn push(&self, number: u64) -> anyhow::Result<()> {
        let agent = "bench".parse().context("a name")?;
        self.publish(Fact::AgentUpdated {
            agent,
            generation: number,
        })
        .await
    }

    /// As [`Self::push`] with the next number.
    pub(super) async fn push_one(&self, number: &mut u64) -> anyhow::Result<u64> {
        *number += 1;
        self.push(*number).await?;
        Ok(*number)
    }

    pub(super) async fn send_bare(&self, template: &str, number: u64) -> anyhow::Result<()> {
        let text = client::numbered(template, number);
        let answer = self
            .http
            .post(format!("http://{}/send", self.bare))
            .body(text)
            .send()
            .await?;
        answer.error_for_status()?;
        Ok(())
    }

    /// A client that subscribes and never reads, with all that lies between full.
    pub(super) async fn stopped_reader(&self) -> anyhow::Result<TcpStream> {
        let stream = client::open(self.gateway, STOPPED, Some(4_096)).await?;
        for _ in 0..STUFFING_PUSHES {
            self.publish(Fact::AuditNoted {
                action: "bench".into(),
                subject: "bench".into(),
                outcome: "done".into(),
                reason: "x".repeat(STUFFING_BYTES),
            })
            .await?;
        }
        Ok(stream)
    }

    pub(super) async fn stop(self, progress: &Progress) -> anyhow::Result<()> {
        progress.phase("stopping the servers of the measurement");
        let parts = (self.services, self.nats, self.folder);
        // Stopping waits for them.
        Ok(tokio::task::spawn_blocking(move || {
            let (services, nats, folder) = parts;
            drop(services);
            drop(nats);
            drop(folder);
        })
        .await?)
    }
}

fn start_nats() -> anyhow::Result<(ScratchDir, NatsServer)> {
    let tools = Tools::resolve(&mut Quiet)?;
    let folder = ScratchDir::new()?;
    let nats = NatsServer::start(&tools.nats, NatsOptions::new(folder.path().join("nats")))?;
    Ok((folder, nats))
}

/// The feed of an installation in which nothing was ever committed: nothing else is asked of `execution` here.
async fn serve_feed(bus: &Bus) -> anyhow::Result<ServiceHandle> {
    let head = |shard| ShardHead {
        shard,
        batch: 0,
        oldest: 1,
    };
    let page = ShardFeedPage {
        feed_id: "bench".into(),
        heads: (0..SHARDS).map(head).collect(),
        pages: Vec::new(),
    };
    let started = bus
        .service("execution", env!("CARGO_PKG_VERSION"))
        .endpoint::<ShardFeed, _, _>(move |_: Caller, _: ShardFeedRequest| {
            let page = page.clone();
            async move { Ok(page) }
        })
        .start();
    Ok(started.await?)
}
