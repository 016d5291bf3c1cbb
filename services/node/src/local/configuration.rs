//! `/api/v1/agent-node/configuration`: mode, billable account, sharing. The node's id is read here and never written.

use axum::Json;
use axum::extract::State;
use mesh_api::fleet::NodeConfiguration;
use mesh_types::fleet::{NodeMode, Sharing};
use serde::{Deserialize, Deserializer};

use super::App;
use super::problem::{Body, Failure};

/// Only what is given changes anything; `null` takes a billable account away. Whatever else is sent, such as `node_uid`,
/// is ignored: clients send back what they read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Patch {
    mode: Option<NodeMode>,
    #[serde(deserialize_with = "given")]
    billable_account_uid: Option<Option<String>>,
    #[serde(deserialize_with = "given")]
    billable_account_type: Option<Option<String>>,
    #[serde(deserialize_with = "given")]
    billable_account_handle: Option<Option<String>>,
    sharing: Option<Sharing>,
}

impl Patch {
    pub(crate) fn onto(self, known: NodeConfiguration) -> NodeConfiguration {
        // An empty field of a form is none.
        let text = |given: Option<Option<String>>, known: Option<String>| match given {
            Some(text) => text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
            None => known,
        };
        NodeConfiguration {
            mode: self.mode.unwrap_or(known.mode),
            node_uid: known.node_uid,
            billable_account_uid: text(self.billable_account_uid, known.billable_account_uid),
            billable_account_type: text(self.billable_account_type, known.billable_account_type),
            billable_account_handle: text(self.billable_account_handle, known.billable_account_handle),
            sharing: self.sharing.unwrap_or(known.sharing),
        }
    }
}

/// Tells `null` from nothing.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

pub(super) async fn read(State(app): State<App>) -> Json<NodeConfiguration> {
    Json(app.settings.configuration())
}

pub(super) async fn write(
    State(app): State<App>,
    Body(patch): Body<Patch>,
) -> Result<Json<NodeConfiguration>, Failure> {
    let wanted = patch.onto(app.settings.configuration());
    Ok(Json(app.settings.reconfigure(wanted).await?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_given_changes_and_the_id_never_does() {
        let known = NodeConfiguration {
            mode: NodeMode::Shared,
            node_uid: Some("kitchen".parse().unwrap()),
            billable_account_uid: Some("acc_1".into()),
            billable_account_type: Some("team".into()),
            ..NodeConfiguration::default()
        };
        let patch: Patch = serde_json::from_value(json!({
            "node_uid": "other", "billable_account_uid": null, "billable_account_handle": " ann ", "unknown": 1
        }))
        .unwrap();
        let changed = patch.onto(known.clone());
        assert_eq!(changed.node_uid, known.node_uid);
        assert_eq!(changed.mode, NodeMode::Shared);
        assert_eq!(changed.billable_account_uid, None);
        assert_eq!(changed.billable_account_type.as_deref(), Some("team"));
        assert_eq!(changed.billable_account_handle.as_deref(), Some("ann"));
    }
}
