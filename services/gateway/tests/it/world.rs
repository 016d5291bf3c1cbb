//! The services behind the edge, as small as the tests need, on the real bus with the real protocol.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mesh_api::execution::*;
use mesh_api::inference::{Complete, ModelList, ModelView, Models};
use mesh_api::journal::{JournalPage, Record};
use mesh_api::memory::{Hit, MemoryQuery, MemoryStore, QueryReply, QueryRequest, Scores, StoreRequest};
use mesh_api::messaging::*;
use mesh_api::registry::*;
use mesh_api::{Caller, Endpoint, Page, PageQuery};
use mesh_bus::{Bus, ServiceHandle};
use mesh_types::agent::Agent;
use mesh_types::{Code, Problem};
use tokio::sync::Notify;

use crate::made::{at, completion, invocation, memory, message, the_invocation, view};

#[derive(Default)]
pub(crate) struct World {
    pub(crate) agents: Mutex<BTreeMap<String, AgentView>>,
    pub(crate) accepted: Mutex<Vec<(Caller, AcceptRequest)>>,
    /// The journal of the one invocation, as the feed has it.
    pub(crate) journal: Mutex<Vec<Record>>,
    pub(crate) feed_reads: AtomicUsize,
    pub(crate) posts: Mutex<Vec<(Caller, PostRequest)>>,
    pub(crate) memories: Mutex<Vec<(Caller, StoreRequest)>>,
    pub(crate) lists: Mutex<Vec<ListRequest>>,
    /// What the endpoints of steering, memories and knowledge were asked, in order.
    pub(crate) steered: Mutex<Vec<serde_json::Value>>,
    /// Agent `slow` ends when this is rung.
    pub(crate) slow_may_end: Notify,
    /// Requests to it that arrived.
    pub(crate) slow_arrived: AtomicUsize,
}

type Answer<E> = Result<<E as Endpoint>::Reply, Problem>;

/// A plain function as an endpoint's handler.
fn on<E: Endpoint>(
    world: &Arc<World>,
    answer: fn(&World, Caller, E::Request) -> Answer<E>,
) -> impl Fn(Caller, E::Request) -> Ready<Answer<E>> + Clone + Send + Sync + 'static {
    let world = Arc::clone(world);
    move |caller, request| ready(answer(&world, caller, request))
}

impl World {
    #[expect(clippy::too_many_lines, reason = "a table")]
    pub(crate) async fn serve(self: &Arc<Self>, bus: &Bus) -> Vec<ServiceHandle> {
        let registry = bus
            .service("registry", "0.1.0")
            .endpoint::<TenantList, _, _>(on::<TenantList>(self, |_, _, _| {
                let tenant = TenantView {
                    name: mesh_types::Tenant::default(),
                    created_at: at(),
                };
                Ok(Page {
                    items: vec![tenant],
                    next: None,
                })
            }))
            .endpoint::<AgentCreate, _, _>(on::<AgentCreate>(self, Self::agent_create))
            .endpoint::<AgentGet, _, _>(on::<AgentGet>(self, Self::agent_get))
            .endpoint::<AgentList, _, _>(on::<AgentList>(self, Self::agent_list))
            .endpoint::<AgentUpdate, _, _>(on::<AgentUpdate>(self, Self::agent_update))
            .endpoint::<AgentDelete, _, _>(on::<AgentDelete>(self, Self::agent_delete))
            .endpoint::<AgentPublish, _, _>(on::<AgentPublish>(self, Self::agent_publish))
            .start();
        let slow = Arc::clone(self);
        let execution = self
            .serve_steering(bus.service("execution", "0.1.0"))
            .endpoint::<InvocationAccept, _, _>(move |caller, request| {
                let world = Arc::clone(&slow);
                async move {
                    if request.agent.as_str() == "slow" {
                        world.slow_arrived.fetch_add(1, Ordering::SeqCst);
                        world.slow_may_end.notified().await;
                    }
                    world.accept(caller, request)
                }
            })
            .endpoint::<InvocationGet, _, _>(on::<InvocationGet>(self, Self::invocation_get))
            .endpoint::<InvocationList, _, _>(on::<InvocationList>(self, Self::invocation_list))
            .endpoint::<InvocationCounts, _, _>(on::<InvocationCounts>(self, |_, _, _| {
                Ok(Counts {
                    all: 3,
                    ..Counts::default()
                })
            }))
            .endpoint::<InvocationFeed, _, _>(on::<InvocationFeed>(self, Self::feed))
            .endpoint::<DeadLetterList, _, _>(on::<DeadLetterList>(self, |_, _, request| {
                Ok(Page {
                    items: Vec::new(),
                    next: request.all.then(|| "all".to_owned()),
                })
            }))
            .start();
        let messaging = bus
            .service("messaging", "0.1.0")
            .endpoint::<MessagePost, _, _>(on::<MessagePost>(self, Self::post))
            .endpoint::<ChannelHistory, _, _>(on::<ChannelHistory>(self, Self::history))
            .endpoint::<ChannelList, _, _>(on::<ChannelList>(self, |_, _, _| {
                Ok(Page {
                    items: Vec::new(),
                    next: None,
                })
            }))
            .start();
        let memory = self
            .serve_memories(bus.service("memory", "0.1.0"))
            .endpoint::<MemoryStore, _, _>(on::<MemoryStore>(self, Self::memory_store))
            .endpoint::<MemoryQuery, _, _>(on::<MemoryQuery>(self, Self::memory_query))
            .start();
        let model = ModelView {
            name: "mock".into(),
            provider: "mock".into(),
            available: true,
        };
        let inference = bus
            .service("inference", "0.1.0")
            .endpoint::<Models, _, _>(move |_, _| {
                ready(Ok(ModelList {
                    items: vec![model.clone()],
                }))
            })
            .stream_endpoint::<Complete, _, _>(|_caller, request, _sink| async move { Ok(completion(&request.model)) })
            .start();
        let (registry, execution) = (registry.await.unwrap(), execution.await.unwrap());
        vec![
            registry,
            execution,
            messaging.await.unwrap(),
            memory.await.unwrap(),
            inference.await.unwrap(),
        ]
    }

    pub(crate) fn last_accepted(&self) -> (Caller, AcceptRequest) {
        self.accepted
            .lock()
            .unwrap()
            .last()
            .expect("an invocation was accepted")
            .clone()
    }

    fn agent_create(&self, _caller: Caller, agent: Agent) -> Answer<AgentCreate> {
        let mut agents = self.agents.lock().unwrap();
        let name = agent.metadata.name.to_string();
        if agents.contains_key(&name) {
            return Err(Problem::new(Code::AgentAlreadyExists, format!("agent `{name}` exists")));
        }
        agents.insert(name.clone(), view(agent, 1));
        Ok(agents[&name].clone())
    }

    fn agent_get(&self, _caller: Caller, request: AgentRequest) -> Answer<AgentGet> {
        if request.agent.as_str() == "broken" {
            return Err(Problem::new(
                Code::Internal,
                "relation registry.secret_table is missing",
            ));
        }
        self.known(request.agent.as_str())
    }

    fn agent_list(&self, _caller: Caller, page: PageQuery) -> Answer<AgentList> {
        let items: Vec<AgentView> = self.agents.lock().unwrap().values().cloned().collect();
        Ok(Page::cut(items, page.limit(), |view| view.metadata.name.to_string()))
    }

    fn agent_update(&self, _caller: Caller, request: AgentUpdateRequest) -> Answer<AgentUpdate> {
        let name = request.agent.metadata.name.to_string();
        let generation = match (self.known(&name), request.missing) {
            (Err(_), Missing::Create) => 1,
            (known, _) => {
                let known = known?;
                if request.if_match.is_some_and(|etag| etag != known.status.etag) {
                    return Err(Problem::new(Code::PreconditionFailed, "the agent has changed"));
                }
                known.status.generation + 1
            }
        };
        let view = view(request.agent, generation);
        self.agents.lock().unwrap().insert(name, view.clone());
        Ok(view)
    }

    fn agent_delete(&self, _caller: Caller, request: AgentGuarded) -> Answer<AgentDelete> {
        let deleted = self.agents.lock().unwrap().remove(request.agent.as_str()).is_some();
        Ok(AgentDeleted {
            agent: request.agent,
            deleted,
        })
    }

    fn agent_publish(&self, _caller: Caller, request: AgentGuarded) -> Answer<AgentPublish> {
        self.known(request.agent.as_str())?;
        Ok(Published {
            agent: request.agent,
            version: 1,
            hash: "0".repeat(64),
            published_at: at(),
            unchanged: false,
        })
    }

    fn known(&self, name: &str) -> Result<AgentView, Problem> {
        let missing = || Problem::new(Code::AgentNotFound, format!("there is no agent `{name}`"));
        self.agents.lock().unwrap().get(name).cloned().ok_or_else(missing)
    }

    fn accept(&self, caller: Caller, request: AcceptRequest) -> Answer<InvocationAccept> {
        let name = request.agent.as_str();
        if name == "ghost" {
            return Err(Problem::new(Code::AgentNotFound, "there is no agent `ghost`"));
        }
        let state = match (request.wait_ms, name) {
            (0, _) | (_, "endless") => State::Queued,
            (_, "failing") => State::Failed,
            _ => State::Completed,
        };
        let mut invocation = invocation(&request, state);
        invocation.tenant = caller.tenant.clone();
        if state == State::Failed {
            invocation.error = Some(Problem::new(Code::ModelRefused, "the model will not say"));
        }
        self.accepted.lock().unwrap().push((caller, request));
        Ok(invocation)
    }

    fn invocation_get(&self, _caller: Caller, request: InvocationRequest) -> Answer<InvocationGet> {
        let accepted = self.accepted.lock().unwrap();
        let is_accepted = |(_, one): &(Caller, AcceptRequest)| one.request.invocation_id == Some(request.id);
        if request.id != the_invocation() && !accepted.iter().any(is_accepted) {
            return Err(Problem::new(
                Code::InvocationNotFound,
                format!("there is no {}", request.id),
            ));
        }
        let journal = self.journal.lock().unwrap();
        let has_ended = journal
            .iter()
            .any(|record| matches!(record.fact, mesh_api::journal::Fact::Ended(_)));
        let accepted = AcceptRequest {
            agent: "sofia".parse().unwrap(),
            request: InvokeRequest::default(),
            wait_ms: 0,
        };
        let mut found = invocation(&accepted, if has_ended { State::Completed } else { State::Running });
        found.id = request.id;
        found.cursor = u32::try_from(journal.len()).unwrap();
        Ok(found)
    }

    fn invocation_list(&self, _caller: Caller, request: ListRequest) -> Answer<InvocationList> {
        self.lists.lock().unwrap().push(request);
        Ok(Page {
            items: Vec::new(),
            next: None,
        })
    }

    /// Pages of two records, so that every reading takes several.
    fn feed(&self, caller: Caller, request: FeedRequest) -> Answer<InvocationFeed> {
        self.feed_reads.fetch_add(1, Ordering::SeqCst);
        let journal = self.journal.lock().unwrap();
        let above: Vec<Record> = journal
            .iter()
            .filter(|record| record.seq > request.after_seq)
            .cloned()
            .collect();
        let more = above.len() > 2;
        let records = above.into_iter().take(2).collect();
        Ok(JournalPage {
            tenant: caller.tenant,
            invocation: request.invocation,
            records,
            more,
        })
    }

    fn post(&self, caller: Caller, request: PostRequest) -> Answer<MessagePost> {
        let number = self.posts.lock().unwrap().len();
        let message = message(&request, number);
        self.posts.lock().unwrap().push((caller, request));
        Ok(message)
    }

    fn history(&self, caller: Caller, request: HistoryRequest) -> Answer<ChannelHistory> {
        let posts = self.posts.lock().unwrap();
        let ours = posts
            .iter()
            .enumerate()
            .filter(|(_, (by, post))| by.tenant == caller.tenant && post.channel == request.channel);
        let all: Vec<Message> = ours.map(|(number, (_, post))| message(post, number)).collect();
        let from = all.len().saturating_sub(request.limit as usize);
        Ok(History {
            items: all[from..].to_vec(),
            next: None,
        })
    }

    fn memory_store(&self, caller: Caller, request: StoreRequest) -> Answer<MemoryStore> {
        let memory = memory(&request);
        self.memories.lock().unwrap().push((caller, request));
        Ok(memory)
    }

    fn memory_query(&self, caller: Caller, request: QueryRequest) -> Answer<MemoryQuery> {
        let stored = self.memories.lock().unwrap();
        let ours = stored
            .iter()
            .filter(|(by, memory)| by.tenant == caller.tenant && memory.agent == request.agent);
        let hit = |(_, stored): &(Caller, StoreRequest)| Hit {
            memory: memory(stored),
            score: 0.75,
            scores: Scores::default(),
        };
        Ok(QueryReply {
            items: ours.map(hit).take(request.k as usize).collect(),
            knowledge: Vec::new(),
            degraded: None,
        })
    }
}
