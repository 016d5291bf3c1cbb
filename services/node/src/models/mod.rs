//! Where the models of this node's agents and of its chat answer: at the mesh, or at an endpoint of the node's own. The
//! key of the latter stays here: it is never sent to the mesh.

mod centre;
mod config;
mod local;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use mesh_api::inference::{Chunk, CompleteRequest, Completion, ModelView};
use mesh_types::{Code, Problem};
use serde::{Deserialize, Serialize};

use crate::identity::write_synced;

pub(crate) use centre::{Centre, MeshCentre};
pub use config::{InferenceConfig, Provider};
pub(crate) use local::Local;

/// Below the node's state folder: what was chosen at its page.
const CHOICE_FILE: &str = "inference.json";
/// What most providers have, shown where the centre says nothing.
const WELL_KNOWN: [(&str, &str); 4] = [
    ("gpt-4o", "openai"),
    ("gpt-4o-mini", "openai"),
    ("claude-sonnet", "anthropic"),
    ("mock", "mock"),
];
const OVERRIDE_NAME: &str = "AGENT_RUNTIMES_INFERENCE_PROVIDER_OVERRIDE";

#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    #[error("{} is no choice of an inference provider", file.display())]
    Choice {
        file: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the choice of an inference provider cannot be read")]
    Unreadable(#[source] std::io::Error),
    #[error("node.inference.base_url cannot be asked: {0}")]
    Endpoint(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Choice {
    provider: Provider,
}

/// What the API says of the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ProviderView {
    pub(crate) provider: Provider,
    /// Set by the environment of the node; then nothing else counts.
    #[serde(rename = "override")]
    pub(crate) fixed: Option<Provider>,
    pub(crate) writable: bool,
    pub(crate) options: [Provider; 2],
    pub(crate) local: LocalView,
}

/// The node's own endpoint, without its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LocalView {
    pub(crate) configured: bool,
    pub(crate) base_url: Option<String>,
    pub(crate) model: Option<String>,
}

/// Models that may be named, and who says so.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct OfferedModels {
    pub(crate) provider: Provider,
    /// `node`, `centre`, or `fallback` where the centre has none or cannot be reached.
    pub(crate) source: &'static str,
    /// Why it is the fallback list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) items: Vec<ModelView>,
}

/// The node's way to models. Cheap to share.
pub(crate) struct Models {
    fixed: Option<Provider>,
    chosen: Mutex<Provider>,
    view: LocalView,
    local: Option<Local>,
    centre: Arc<dyn Centre>,
    folder: PathBuf,
}

impl Models {
    /// # Errors
    /// The endpoint's URL is none, or what was chosen before cannot be read.
    pub(crate) fn new(config: &InferenceConfig, folder: &Path, centre: Arc<dyn Centre>) -> Result<Self, ModelsError> {
        let chosen = read_choice(&folder.join(CHOICE_FILE))?.unwrap_or(config.provider);
        let local = Local::new(config).map_err(ModelsError::Endpoint)?;
        Ok(Self {
            fixed: config.provider_override,
            chosen: Mutex::new(chosen),
            view: LocalView {
                configured: local.is_some(),
                base_url: config.base_url.as_deref().map(config::without_user),
                model: config.model.clone(),
            },
            local,
            centre,
            folder: folder.to_owned(),
        })
    }

    pub(crate) fn provider(&self) -> Provider {
        let chosen = *self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        self.fixed.unwrap_or(chosen)
    }

    pub(crate) fn view(&self) -> ProviderView {
        ProviderView {
            provider: self.provider(),
            fixed: self.fixed,
            writable: self.fixed.is_none(),
            options: [Provider::Mesh, Provider::Local],
            local: self.view.clone(),
        }
    }

    /// Kept over restarts.
    ///
    /// # Errors
    /// The environment has fixed another one, or it cannot be kept.
    pub(crate) async fn choose(&self, provider: Provider) -> Result<ProviderView, Problem> {
        if let Some(fixed) = self.fixed
            && fixed != provider
        {
            let detail = format!("{OVERRIDE_NAME} says `{fixed}`");
            return Err(Problem::new(Code::NodeConfigurationFixed, detail)
                .field("provider")
                .next(format!("unset {OVERRIDE_NAME} and start the node again")));
        }
        let folder = self.folder.clone();
        let kept = tokio::task::spawn_blocking(move || {
            write_synced(&folder, CHOICE_FILE, &serde_json::to_vec(&Choice { provider })?)
        });
        let kept = kept.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        kept.map_err(|error| Problem::new(Code::Internal, format!("the choice cannot be kept: {error}")))?;
        *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = provider;
        tracing::info!(%provider, "the inference provider was chosen");
        Ok(self.view())
    }

    /// With `local` nothing is listed: the endpoint is asked for whatever an agent or the configuration names.
    pub(crate) async fn offered(&self) -> OfferedModels {
        let provider = self.provider();
        let listed = |source, reason, items| OfferedModels {
            provider,
            source,
            reason,
            items,
        };
        if provider == Provider::Local {
            return listed("node", None, Vec::new());
        }
        match self.centre.models().await {
            Ok(list) if !list.items.is_empty() => listed("centre", None, list.items),
            Ok(_) => listed("fallback", Some("the mesh lists no model".to_owned()), well_known()),
            Err(problem) => listed("fallback", Some(problem.detail), well_known()),
        }
    }

    /// The node's own endpoint where it is to be used; `None`: the mesh is.
    ///
    /// # Errors
    /// It is to be used, and there is none.
    pub(crate) fn own_endpoint(&self) -> Result<Option<&Local>, Problem> {
        match (self.provider(), &self.local) {
            (Provider::Mesh, _) => Ok(None),
            (Provider::Local, Some(local)) => Ok(Some(local)),
            (Provider::Local, None) => Err(not_configured()),
        }
    }

    /// Asked for where nobody names one.
    pub(crate) fn default_model(&self) -> Option<String> {
        let own = self.own_endpoint().ok().flatten()?;
        own.model().map(str::to_owned)
    }

    /// One call in the name of this node, of no invocation.
    ///
    /// # Errors
    /// No model answered.
    pub(crate) async fn chat(
        &self,
        request: CompleteRequest,
        on_chunk: &mut (dyn FnMut(Chunk) + Send),
    ) -> Result<Completion, Problem> {
        match self.own_endpoint()? {
            Some(local) => local.stream(&request, on_chunk).await,
            None => self.centre.chat(request, on_chunk).await,
        }
    }
}

fn not_configured() -> Problem {
    let detail = "the inference provider is `local`, and no endpoint is configured on this node";
    Problem::new(Code::ProviderNotConfigured, detail)
        .next("set node.inference.base_url (MESH_NODE__INFERENCE__BASE_URL), or choose the provider `mesh`")
}

fn well_known() -> Vec<ModelView> {
    let view = |(name, provider): (&str, &str)| ModelView {
        name: name.to_owned(),
        provider: provider.to_owned(),
        available: false,
    };
    WELL_KNOWN.into_iter().map(view).collect()
}

fn read_choice(file: &Path) -> Result<Option<Provider>, ModelsError> {
    match std::fs::read(file) {
        Ok(bytes) => serde_json::from_slice::<Choice>(&bytes)
            .map(|choice| Some(choice.provider))
            .map_err(|source| ModelsError::Choice {
                file: file.to_owned(),
                source,
            }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ModelsError::Unreadable(error)),
    }
}
