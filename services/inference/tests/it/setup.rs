//! One inference service on a nats-server of its own, beside a fake provider.

use inference::Config;
use mesh_api::Caller;
use mesh_api::inference::{Chunk, Complete, CompleteRequest, Completion};
use mesh_bus::{Bus, BusOptions};
use mesh_runtime::{Context, Metrics};
use mesh_testkit::TestNats;
use mesh_types::{Problem, Tenant};

use crate::fake_openai::{FakeOpenAi, KEY};

pub(crate) struct Mesh {
    pub(crate) context: Context,
    pub(crate) fake: FakeOpenAi,
    nats: TestNats,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// With short waits; the provider `openai` is the fake one.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let nats = TestNats::start().await;
        let bus = connect(nats.url().to_owned()).await;
        let context = Context::new("inference", bus, Metrics::default());
        let fake = FakeOpenAi::default();
        let mut config = Config {
            openai_base_url: Some(fake.start(&context.tasks).await),
            openai_api_key: Some(KEY.into()),
            ..Config::default()
        };
        config.prices.insert(
            "gpt-4*".to_owned(),
            inference::Price {
                input: 10.0,
                output: 60.0,
                ..inference::Price::default()
            },
        );
        // A provider that answers must not be taken for a silent one on a busy machine.
        patience(&mut config, 60_000);
        config.limits.retry_delay_ms = 5;
        config.limits.response_bytes_max = 64 * 1024;
        // One fake fails in many ways in one test: its circuit opens only where a test wants it.
        config.breaker.failures = 1_000;
        config.breaker.tries_min = 1_000;
        change(&mut config);
        let service = context.clone();
        context.tasks.spawn(
            "inference",
            async move { inference::run(config, service).await.unwrap() },
        );
        Self { context, fake, nats }
    }

    pub(crate) fn caller(&self) -> Caller {
        self.context.caller(Tenant::default())
    }

    /// Clients that the NATS server has now.
    pub(crate) async fn connections(&self) -> u64 {
        let answer = reqwest::get(format!("{}/connz", self.nats.monitor_url()))
            .await
            .unwrap();
        let connz: serde_json::Value = answer.json().await.unwrap();
        connz["num_connections"].as_u64().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        self.nats.url().to_owned()
    }

    /// The answer, and the chunks before it.
    pub(crate) async fn complete(&self, request: &CompleteRequest) -> (Result<Completion, Problem>, Vec<Chunk>) {
        let mut chunks = Vec::new();
        let caller = self.caller();
        let result = self
            .context
            .bus
            .call_stream::<Complete>(&caller, request, |chunk| chunks.push(chunk))
            .await;
        (result, chunks)
    }
}

pub(crate) async fn connect(url: String) -> Bus {
    let options = BusOptions {
        url,
        name: "inference-it".to_owned(),
        monitor_url: None,
        user: None,
    };
    Bus::connect(options).await.unwrap()
}

/// How long a provider may be silent, in milliseconds: before its answer, and within it.
pub(crate) fn patience(config: &mut Config, ms: u64) {
    config.limits.first_byte_timeout_ms = ms;
    config.limits.idle_timeout_ms = ms;
}

/// Of tests whose providers are silent.
pub(crate) const IMPATIENT_MS: u64 = 1_000;

impl Drop for Mesh {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}
