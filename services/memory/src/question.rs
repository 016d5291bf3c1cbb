//! A query as it is searched: whose memories, by which vector and which words, and why not by a vector.

use mesh_api::memory::{QueryMode, QueryRequest, Scope};
use mesh_types::{Code, Problem, Tenant};

use crate::embed::{Dimensions, Embedding, Model};
use crate::state::State;
use crate::store::vectors::Vector;

/// Candidates of each list where their order may change later.
const POOL_MIN: u32 = 50;
/// Beside the wanted hits, for those that turn out to be superseded or expired.
const SPARE: u32 = 5;

#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// Keys as the tables have them.
    pub(crate) owners: Vec<String>,
    pub(crate) vector: Option<Vector>,
    pub(crate) words: Option<&'a str>,
    /// What the search amounts to: without a vector `Text`, without words `Vector`.
    pub(crate) mode: QueryMode,
    /// Candidates of each list.
    pub(crate) wanted: u32,
    /// Of them, those that are read.
    pub(crate) read: u32,
    pub(crate) degraded: Option<String>,
}

impl<'a> Question<'a> {
    /// Of a checked request. Fails on a vector that cannot be of its model.
    pub(crate) async fn of(state: &State, tenant: &Tenant, request: &'a QueryRequest) -> Result<Self, Problem> {
        let (vector, degraded) = match (request.mode, &request.vector) {
            (QueryMode::Text, _) => (None, None),
            (_, Some(numbers)) => {
                let current = state.embedder.model();
                (Some(given(numbers, request.model.as_deref(), current)?), None)
            }
            (_, None) => embedded(state, tenant, &request.query, request.model.as_deref()).await,
        };
        let has_words = !request.query.trim().is_empty() && (request.mode != QueryMode::Vector || vector.is_none());
        let mode = match (&vector, has_words) {
            (None, _) => QueryMode::Text,
            (Some(_), false) => QueryMode::Vector,
            (Some(_), true) => QueryMode::Hybrid,
        };
        let (wanted, read) = wanted(request, mode);
        Ok(Self {
            owners: owners(request),
            vector,
            words: has_words.then_some(request.query.as_str()),
            mode,
            wanted,
            read,
            degraded,
        })
    }
}

/// The vector of a question's text by the current model, or why it goes by words only. Another `model` than the current
/// one cannot be asked.
async fn embedded(state: &State, tenant: &Tenant, text: &str, model: Option<&str>) -> (Option<Vector>, Option<String>) {
    let current = &state.embedder.model().name;
    if let Some(model) = model.filter(|model| *model != &**current) {
        let why = format!("the text is embedded by `{current}`, not by `{model}`: searched by words only");
        return (None, Some(why));
    }
    match state.embed_text(tenant, text).await {
        Ok(vector) => (Some(vector), None),
        Err(error) => {
            tracing::warn!(%error, "a query goes by words only");
            (None, Some(format!("{error}: searched by words only")))
        }
    }
}

fn given(numbers: &[f32], model: Option<&str>, current: &Model) -> Result<Vector, Problem> {
    let refused = |detail: String| Problem::new(Code::ModelDimensions, detail).field("vector");
    let count = numbers.len();
    let model = match model {
        Some(name) if *name != *current.name => Model {
            name: name.into(),
            dimensions: Dimensions::of(count).ok_or_else(|| {
                let known = Dimensions::ALL.map(|dimensions| dimensions.count().to_string());
                let known = known.join(", ");
                refused(format!("the vector has {count} numbers, vectors of {known} are kept"))
                    .next("send a vector of the model that the memories were embedded with")
            })?,
        },
        _ if current.dimensions.count() == count => current.clone(),
        _ => {
            let (name, wanted) = (&current.name, current.dimensions.count());
            return Err(refused(format!(
                "the vector has {count} numbers, those of `{name}` have {wanted}"
            ))
            .next("name the `model` that made it, or leave the vector out"));
        }
    };
    let embedding = Embedding::normalized(numbers.to_vec()).ok_or_else(|| {
        Problem::new(
            Code::InvalidRequest,
            "a vector of zeros, or of what is no number, is near to nothing",
        )
        .field("vector")
    })?;
    Ok(Vector { embedding, model })
}

/// Without a choice the agent's own and the tenant's, the session's and the user's when they are named.
fn owners(request: &QueryRequest) -> Vec<String> {
    let (filters, agent) = (&request.filters, &request.agent);
    let key = |scope| crate::same::owner(scope, agent, filters.session.as_deref(), filters.user.as_deref());
    let scopes = if filters.scopes.is_empty() {
        &Scope::ALL[..]
    } else {
        &filters.scopes
    };
    let mut owners: Vec<String> = scopes.iter().copied().filter_map(key).collect();
    owners.sort();
    owners.dedup();
    owners
}

/// How many are listed, and how many are read.
fn wanted(request: &QueryRequest, mode: QueryMode) -> (u32, u32) {
    let weights = &request.weights;
    if mode == QueryMode::Hybrid || request.mmr.is_some() || weights.recency > 0.0 || weights.importance > 0.0 {
        let pool = POOL_MIN.max(request.k * 4);
        (pool, pool)
    } else {
        (request.k + SPARE, request.k)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(filters: Value) -> QueryRequest {
        serde_json::from_value(json!({"agent": "sofia", "query": "x", "filters": filters})).unwrap()
    }

    fn model() -> Model {
        Model {
            name: "now".into(),
            dimensions: Dimensions::D384,
        }
    }

    #[test]
    fn an_owner_is_searched_for_each_scope_that_is_named() {
        let of = |filters| owners(&request(filters));
        assert_eq!(of(json!({})), ["a:sofia", "t"]);
        assert_eq!(
            of(json!({"session": "s1", "user": "ann"})),
            ["a:sofia", "s:sofia:s1", "t", "u:ann"]
        );
        assert_eq!(of(json!({"scopes": ["agent", "agent"]})), ["a:sofia"]);
        assert_eq!(
            of(json!({"scopes": ["user"], "user": "ann", "session": "s1"})),
            ["u:ann"]
        );
    }

    #[test]
    fn a_vector_must_fit_its_model() {
        let ok = given(&[1.0; 384], None, &model()).unwrap();
        assert_eq!(&*ok.model.name, "now");
        let other = given(&[1.0; 1_536], Some("other"), &model()).unwrap();
        assert_eq!(
            (&*other.model.name, other.model.dimensions),
            ("other", Dimensions::D1536)
        );
        let wrong = given(&[1.0; 768], Some("now"), &model()).unwrap_err();
        assert!(wrong.is(Code::ModelDimensions));
        let detail = wrong.detail;
        assert!(detail.contains("768") && detail.contains("384"), "{detail}");
        assert!(
            given(&[1.0; 10], Some("other"), &model())
                .unwrap_err()
                .is(Code::ModelDimensions)
        );
        assert!(given(&[0.0; 384], None, &model()).unwrap_err().is(Code::InvalidRequest));
        assert!(
            given(&[f32::NAN; 384], None, &model())
                .unwrap_err()
                .is(Code::InvalidRequest)
        );
    }

    #[test]
    fn more_candidates_are_taken_where_their_order_may_change() {
        let mut request = request(json!({}));
        assert_eq!(wanted(&request, QueryMode::Vector), (10, 5));
        assert_eq!(wanted(&request, QueryMode::Hybrid), (50, 50));
        request.k = 20;
        request.weights.recency = 0.1;
        assert_eq!(wanted(&request, QueryMode::Vector), (80, 80));
    }
}
