//! Nodes as the registry keeps them: what may be said of one, and what a request makes of what is known. Pure.

use mesh_api::fleet::{NodeConfiguration, NodeEntry, NodeRegisterRequest};
use mesh_types::fleet::{Labels, NodeMode, Sharing};
use mesh_types::{Code, NodeId, Problem, Tenant, Timestamp};

/// Invocations that a node may run at the same time, where it does not say.
const SLOTS_DEFAULT: u32 = 16;
const SLOTS_MAX: u32 = 100_000;
/// Bytes of names that people choose, and of what accounts are called.
const TEXT_BYTES_MAX: usize = 256;
const LABELS_MAX: usize = 64;
const CAPABILITIES_MAX: usize = 128;
/// Entries of each list of a sharing policy.
const SHARED_WITH_MAX: usize = 200;

/// One node as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known {
    pub(crate) entry: NodeEntry,
    /// Of the last report whose mode was taken.
    pub(crate) reported: Report,
}

/// Orders what a node says of itself: by its start, then within it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Report {
    pub(crate) incarnation: u64,
    pub(crate) seq: u64,
}

impl Known {
    /// A node that registers for the first time.
    pub(crate) fn new(
        id: NodeId,
        tenant: Tenant,
        request: NodeRegisterRequest,
        at: Timestamp,
    ) -> Result<Self, Problem> {
        let entry = NodeEntry {
            tenant,
            owner: request.owner.clone(),
            name: id.to_string(),
            configuration: NodeConfiguration {
                node_uid: Some(id.clone()),
                ..NodeConfiguration::default()
            },
            node_id: id,
            labels: Labels::new(),
            capabilities: Vec::new(),
            slots: SLOTS_DEFAULT,
            drained: false,
            registered_at: at,
            updated_at: at,
        };
        let known = Self {
            entry,
            reported: Report::default(),
        };
        known.renewed(request)
    }

    /// The same node again: only what is given changes.
    pub(crate) fn renewed(mut self, request: NodeRegisterRequest) -> Result<Self, Problem> {
        let entry = &mut self.entry;
        let NodeRegisterRequest {
            name,
            mode,
            labels,
            capabilities,
            slots,
            ..
        } = request;
        replace(&mut entry.name, name);
        replace(&mut entry.configuration.mode, mode);
        replace(&mut entry.labels, labels);
        replace(&mut entry.capabilities, capabilities);
        replace(&mut entry.slots, slots);
        self.checked()
    }

    /// As its owner, or the node itself, configures it.
    pub(crate) fn configured(
        mut self,
        configuration: NodeConfiguration,
        labels: Option<Labels>,
    ) -> Result<Self, Problem> {
        let id = &self.entry.node_id;
        if let Some(named) = configuration.node_uid.as_ref().filter(|named| *named != id) {
            let detail = format!("the configuration names node `{named}`, but it is node `{id}`'s");
            return Err(Problem::new(Code::InvalidRequest, detail)
                .field("node_uid")
                .next("leave node_uid out, or name this node: a node's id never changes"));
        }
        self.entry.configuration = NodeConfiguration {
            node_uid: Some(id.clone()),
            ..configuration
        };
        replace(&mut self.entry.labels, labels);
        self.checked()
    }

    /// After a report; `None`: it is not newer than the last that was taken.
    pub(crate) fn reported(mut self, report: Report, mode: NodeMode) -> Option<Self> {
        if report <= self.reported {
            return None;
        }
        self.reported = report;
        self.entry.configuration.mode = mode;
        Some(self)
    }

    fn checked(self) -> Result<Self, Problem> {
        let broken = rules(&self.entry).into_iter().find(|(holds, _, _)| !holds);
        match broken {
            Some((_, field, rule)) => Err(Problem::new(Code::InvalidRequest, format!("{field} {rule}")).field(field)),
            None => Ok(self),
        }
    }
}

fn replace<T>(known: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *known = given;
    }
}

fn rules(entry: &NodeEntry) -> [(bool, &'static str, &'static str); 11] {
    let NodeConfiguration {
        billable_account_uid,
        billable_account_type,
        billable_account_handle,
        sharing,
        ..
    } = &entry.configuration;
    let Sharing {
        tenants, users, agents, ..
    } = sharing;
    let is_account = |text: &Option<String>| text.as_deref().is_none_or(is_text);
    let labels_are_short = entry.labels.len() <= LABELS_MAX
        && entry.labels.iter().all(|(key, value)| {
            is_text(key) && key.len() <= 64 && value.len() <= TEXT_BYTES_MAX && !value.contains('\0')
        });
    let capabilities_are_short =
        entry.capabilities.len() <= CAPABILITIES_MAX && entry.capabilities.iter().all(|text| is_text(text));
    [
        (is_owner(&entry.owner), "owner", OWNER),
        (is_text(&entry.name), "name", TEXT),
        (
            labels_are_short,
            "labels",
            "at most 64; keys have 1 to 64 bytes, values at most 256",
        ),
        (capabilities_are_short, "capabilities", "at most 128 of 1 to 256 bytes"),
        (
            (1..=SLOTS_MAX).contains(&entry.slots),
            "slots",
            "must lie between 1 and 100000",
        ),
        (is_account(billable_account_uid), "billable_account_uid", TEXT),
        (is_account(billable_account_type), "billable_account_type", TEXT),
        (is_account(billable_account_handle), "billable_account_handle", TEXT),
        (tenants.len() <= SHARED_WITH_MAX, "sharing.tenants", "at most 200"),
        (
            users.len() <= SHARED_WITH_MAX && users.iter().all(|user| is_owner(user)),
            "sharing.users",
            "at most 200 owners, each 1 to 64 of the characters A-Z a-z 0-9 _ -",
        ),
        (agents.len() <= SHARED_WITH_MAX, "sharing.agents", "at most 200"),
    ]
}

const TEXT: &str = "must have 1 to 256 bytes without control characters";
const OWNER: &str = "must have 1 to 64 of the characters A-Z a-z 0-9 _ -";

fn is_text(text: &str) -> bool {
    (1..=TEXT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn is_owner(text: &str) -> bool {
    text.parse::<mesh_types::Token>().is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn known() -> Known {
        let request: NodeRegisterRequest = serde_json::from_value(json!({"owner": "ann"})).unwrap();
        Known::new("kitchen".parse().unwrap(), Tenant::default(), request, Timestamp::EPOCH).unwrap()
    }

    #[test]
    fn what_a_node_does_not_say_stays_as_it_is() {
        let first = known();
        assert_eq!(first.entry.name, "kitchen");
        assert_eq!(first.entry.configuration.mode, NodeMode::Private);
        let renewal = |more: Value| {
            let mut request = json!({"owner": "ann"});
            request
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            serde_json::from_value::<NodeRegisterRequest>(request).unwrap()
        };
        assert_eq!(first.clone().renewed(renewal(json!({}))).unwrap(), first);
        let given = json!({"name": "Kitchen", "mode": "shared", "labels": {"region": "eu"}, "capabilities": ["llm"], "slots": 2});
        let second = first.renewed(renewal(given.clone())).unwrap();
        let shown = serde_json::to_value(&second.entry).unwrap();
        for (field, value) in given.as_object().unwrap() {
            assert_eq!(&shown[field], value, "{field}");
        }
        assert_eq!(second.clone().renewed(renewal(json!({}))).unwrap(), second);
    }

    #[test]
    fn a_configuration_of_another_node_is_refused_and_the_id_never_changes() {
        let configuration = |uid: Option<&str>| NodeConfiguration {
            node_uid: uid.map(|uid| uid.parse().unwrap()),
            mode: NodeMode::Sleep,
            ..NodeConfiguration::default()
        };
        let problem = known().configured(configuration(Some("cellar")), None).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("node_uid"));
        for uid in [None, Some("kitchen")] {
            let entry = known().configured(configuration(uid), None).unwrap().entry;
            assert_eq!(entry.configuration.node_uid, Some("kitchen".parse().unwrap()));
            assert_eq!(entry.configuration.mode, NodeMode::Sleep);
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_field() {
        let cases = [
            (json!({"owner": "a b"}), "owner"),
            (json!({"name": ""}), "name"),
            (json!({"name": "a\u{0}"}), "name"),
            (json!({"labels": {"": "x"}}), "labels"),
            (json!({"labels": {"x": "\u{0}"}}), "labels"),
            (json!({"capabilities": [""]}), "capabilities"),
            (json!({"slots": 0}), "slots"),
        ];
        for (change, field) in cases {
            let mut request = json!({"owner": "ann"});
            request
                .as_object_mut()
                .unwrap()
                .extend(change.as_object().unwrap().clone());
            let request = serde_json::from_value(request).unwrap();
            let made = Known::new("kitchen".parse().unwrap(), Tenant::default(), request, Timestamp::EPOCH);
            assert_eq!(made.unwrap_err().field.as_deref(), Some(field));
        }
        let cases = [
            (json!({"billable_account_uid": ""}), "billable_account_uid"),
            (json!({"sharing": {"users": ["a.b"]}}), "sharing.users"),
            (json!({"sharing": {"agents": vec!["a"; 201]}}), "sharing.agents"),
        ];
        for (configuration, field) in cases {
            let configuration = serde_json::from_value(configuration).unwrap();
            let problem = known().configured(configuration, None).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field));
        }
    }

    proptest! {
        /// Reports in any order and any number leave what the newest said.
        #[test]
        fn the_newest_report_counts_in_whatever_order_they_come(
            reports in prop::collection::vec((1_u64..4, 1_u64..4), 1..12)
        ) {
            let modes = [NodeMode::Private, NodeMode::Shared, NodeMode::Sleep];
            // What a report says follows from its number: the same report says the same twice.
            let mode = |(incarnation, seq): (u64, u64)| modes[usize::try_from(incarnation * 5 + seq).unwrap() % 3];
            let mut node = known();
            for &(incarnation, seq) in &reports {
                let report = Report { incarnation, seq };
                if let Some(newer) = node.clone().reported(report, mode((incarnation, seq))) {
                    node = newer;
                }
            }
            let newest = *reports.iter().max().unwrap();
            prop_assert_eq!(node.entry.configuration.mode, mode(newest));
        }
    }
}
