//! The postman: letters to invocations of our shards are read and handed to their lanes; other owners are rung.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use mesh_api::endpoint::Access;
use mesh_api::journal::{About, Outcome, Usage};
use mesh_api::{Caller, Endpoint};
use mesh_runtime::fail_point;
use mesh_runtime::{Context, Doorbell};
use mesh_types::{Code, InvocationId, Problem, Subject};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::core::mail::{ChildRequest, Letter, Mail};
use crate::directory::Owner;
use crate::lane::SharedPauses;
use crate::lane::command::{Action, Command, LaneHandle, Steer, SteerAnswer};
use crate::router::Router;
use crate::shards::{SHARDS, ShardId};
use crate::store::{mail, pauses};

/// Without a ring: what a lost one cost at most.
const TICK: Duration = Duration::from_secs(2);
const LETTERS: i64 = 512;
/// Recipients that are served at the same time.
const AT_ONCE: usize = 64;
const STEER_DEADLINE: Duration = Duration::from_secs(10);
const RING_DEADLINE: Duration = Duration::from_millis(500);

/// Endpoint of one instance: there is something to read in the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bell;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ring {
    Mail,
    Pauses,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rung {}

impl Endpoint for Bell {
    const SERVICE: &'static str = "execution";
    const NAME: &'static str = "bell";
    type Request = Ring;
    type Reply = Rung;
    const ACCESS: Access = Access::Service;
}

/// Who is to be rung; written by lanes, read by the postman.
#[derive(Debug)]
pub(crate) struct Postbox {
    shards: Mutex<BTreeSet<ShardId>>,
    pub(crate) bell: Doorbell,
}

impl Postbox {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: Mutex::default(),
            bell: Doorbell::new(),
        })
    }

    /// There is mail for a shard, here or elsewhere.
    pub(crate) fn posted(&self, shard: ShardId) {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).insert(shard);
        self.bell.ring();
    }

    fn take(&self) -> BTreeSet<ShardId> {
        std::mem::take(&mut *self.shards.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(crate) struct Postman {
    pub(crate) context: Context,
    pub(crate) pool: PgPool,
    pub(crate) router: Arc<Router>,
    pub(crate) postbox: Arc<Postbox>,
    pub(crate) pauses: Arc<SharedPauses>,
}

impl Postman {
    pub(crate) async fn run(self) {
        let shutdown = self.context.shutdown.clone();
        // Until then nothing starts here.
        self.read_pauses().await;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = self.postbox.bell.wait(TICK) => {}
            }
            self.ring_others().await;
            self.read_pauses().await;
            while self.deliver().await > 0 && !shutdown.is_cancelled() {}
        }
    }

    /// One process is rung once, however much there is for it.
    async fn ring_others(&self) {
        let mut instances = BTreeSet::new();
        for shard in self.postbox.take() {
            if let Owner::There(instance) = self.router.directory.owner(shard) {
                instances.insert(instance);
            }
        }
        for instance in instances {
            ring(&self.context, &instance, Ring::Mail).await;
        }
    }

    async fn read_pauses(&self) {
        if let Err(error) = read_pauses(&self.pool, &self.pauses, &self.router.lanes).await {
            tracing::warn!(%error, "pauses cannot be read; trying again");
        }
    }

    /// How many letters were settled.
    async fn deliver(&self) -> usize {
        let owned: Vec<i16> = (0..SHARDS)
            .filter(|shard| self.router.directory.owner(*shard) == Owner::Here)
            .map(ShardId::cast_signed)
            .collect();
        if owned.is_empty() {
            return 0;
        }
        let letters = match mail::waiting(&self.pool, &owned, LETTERS).await {
            Ok(letters) => letters,
            Err(error) => {
                tracing::warn!(%error, "letters cannot be read; trying again");
                return 0;
            }
        };
        // Of one recipient in order: a child is accepted before it is cancelled.
        let mut by_recipient: BTreeMap<InvocationId, Vec<Mail>> = BTreeMap::new();
        for letter in letters {
            by_recipient.entry(letter.recipient).or_default().push(letter);
        }
        let served = futures::stream::iter(by_recipient.into_values()).map(|letters| self.serve(letters));
        let settled: Vec<Vec<Uuid>> = served.buffer_unordered(AT_ONCE).collect().await;
        let settled: Vec<Uuid> = settled.concat();
        // What a batch deleted with its answer is gone already; the others asked for nothing new.
        match mail::discard(&self.pool, &settled).await {
            Ok(()) => settled.len(),
            Err(error) => {
                tracing::warn!(%error, "settled letters cannot be deleted; trying again");
                0
            }
        }
    }

    async fn serve(&self, letters: Vec<Mail>) -> Vec<Uuid> {
        let mut settled = Vec::new();
        for letter in letters {
            let id = letter.id;
            match self.serve_one(letter).await {
                Ok(()) => settled.push(id),
                Err(problem) => {
                    tracing::debug!(letter = %id, %problem, "a letter has to wait");
                    break;
                }
            }
        }
        settled
    }

    async fn serve_one(&self, letter: Mail) -> Result<(), Problem> {
        fail_point!(async "execution.mail.taken");
        let shard = letter.shard;
        let (answer, answered) = oneshot::channel();
        let steer = match told(letter, answer) {
            Told::Child(letter, request) => return self.accept_child(letter, *request).await,
            Told::Open(steer) => steer,
        };
        self.router.lane(shard).send(Command::Steer(steer))?;
        let gone = || Problem::new(Code::Moved, "the lane let go of it");
        let answered = tokio::time::timeout(STEER_DEADLINE, answered).await;
        // Not open: it has ended, and needs no news.
        answered.map_err(|_| gone())?.map_err(|_| gone())?.map(drop)
    }

    /// A child that can never be is told to its parent as one that failed.
    async fn accept_child(&self, letter: Mail, request: ChildRequest) -> Result<(), Problem> {
        let accepted = self.router.accept_child(&letter, &request).await;
        let problem = match accepted {
            Ok(()) => return Ok(()),
            Err(problem) if problem.is_transient() || problem.is(Code::Internal) => return Err(problem),
            Err(problem) => problem,
        };
        let about = About::Child {
            step: request.step,
            invocation: letter.recipient,
            outcome: Outcome::Failed,
            output: None,
            error: Some(problem),
            usage: Usage::default(),
        };
        let order = self.context.clock.now().as_millis();
        let body = Letter::Result(Box::new(about));
        let back = Mail::new(
            &letter.tenant,
            letter.recipient,
            letter.sender,
            request.parent_shard,
            order,
            body,
        );
        let posted = mail::post(&self.pool, &back).await;
        posted.map_err(|error| mesh_store::to_problem(error, "write a letter"))?;
        self.postbox.posted(request.parent_shard);
        Ok(())
    }
}

/// What a letter asks for: a child, or something of an open invocation. The simulator's postman asks for the same.
pub(crate) enum Told {
    Child(Mail, Box<ChildRequest>),
    Open(Box<Steer>),
}

pub(crate) fn told(letter: Mail, answer: SteerAnswer) -> Told {
    let action = match letter.body.clone() {
        Letter::Child(request) => return Told::Child(letter, request),
        Letter::Result(about) => Action::Signal {
            key: Some(format!("child/{}", letter.sender)),
            about: *about,
        },
        Letter::Cancel { reason } => Action::Cancel { reason },
    };
    Told::Open(Box::new(Steer {
        id: letter.recipient,
        shard: letter.shard,
        actor: format!("invocation:{}", letter.sender),
        action,
        letter: Some(letter.read()),
        tenant: letter.tenant,
        answer,
    }))
}

/// Reads what is paused now; the lanes go by it from then on.
///
/// # Errors
/// The database does not answer: what was read before stays.
pub(crate) async fn read_pauses(pool: &PgPool, shared: &SharedPauses, lanes: &[LaneHandle]) -> Result<(), sqlx::Error> {
    let _turn = shared.reading.lock().await;
    let rows = pauses::all(pool).await?;
    let rows = rows.into_iter().map(|row| (row.tenant, row.agent));
    if shared.set(crate::core::pauses::Pauses::new(rows)) {
        for lane in lanes {
            // A lane that is gone needs no ring.
            let _ = lane.send(Command::Ring);
        }
    }
    Ok(())
}

/// Best effort: whoever does not hear it looks every two seconds.
pub(crate) async fn ring(context: &Context, instance: &str, ring: Ring) {
    let (Ok(instance), Ok(command)) = (instance.parse(), Bell::NAME.parse()) else {
        return;
    };
    let subject = Subject::Execution { instance, command };
    let caller = Caller::service("execution", mesh_types::Tenant::default());
    let rung = context
        .bus
        .call_at::<Bell>(&subject, &caller, &ring, RING_DEADLINE)
        .await;
    if let Err(problem) = rung {
        tracing::debug!(%problem, "another owner does not hear its bell");
    }
}
