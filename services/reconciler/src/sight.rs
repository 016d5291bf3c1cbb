//! What of nodes one caller may read in plans, passes and lists: a node that he does not see has neither id nor name
//! there. Who sees a node is `fleet_policy`'s word alone; what is not understood is hidden.

use std::collections::HashMap;

use mesh_api::Caller;
use mesh_api::fleet::{NodeEntry, Viewer};
use mesh_api::reconciler::{Action, ActionKind};
use mesh_types::{NodeId, fleet_policy};

/// What stands for a node that the caller does not see.
const OTHERS: &str = "a node of somebody else";
/// For one that the registry does not know, or no longer: whose it was, nobody can say.
const UNKNOWN: &str = "an unknown node";

const READY_ON: &str = "its first replica is ready on ";
const FAILED_ON: &str = "it failed on ";
const NOT_READY_ON: &str = "it was not ready on ";
const WITHIN: &str = " within ";
const INSTEAD_OF: &str = " in place of ";

/// Which nodes one caller sees.
pub(crate) struct Sight {
    /// Nobody is signed in, in development mode: what is unknown is no secret.
    trusts: bool,
    nodes: HashMap<NodeId, bool>,
    /// By id and by name; of a name that several have, whether all of them are seen.
    labels: HashMap<String, bool>,
}

impl Sight {
    /// `nodes` are all that the registry knows, of every tenant.
    pub(crate) fn of<'a>(caller: &Caller, nodes: impl IntoIterator<Item = &'a NodeEntry>) -> Self {
        let viewer = Viewer::of(caller);
        let mut sight = Self {
            trusts: viewer.owner.is_none(),
            nodes: HashMap::new(),
            labels: HashMap::new(),
        };
        for entry in nodes {
            let is_seen = fleet_policy::sees(viewer.in_tenant(&caller.tenant), entry.facts());
            sight.nodes.insert(entry.node_id.clone(), is_seen);
            for label in [entry.node_id.as_str(), &entry.name] {
                *sight.labels.entry(label.to_owned()).or_insert(true) &= is_seen;
            }
        }
        sight
    }

    /// Whether it is registered, and the caller sees it.
    pub(crate) fn sees(&self, node: &NodeId) -> bool {
        self.nodes.get(node).copied().unwrap_or_default()
    }

    /// Whether its id is kept from the caller.
    pub(crate) fn hides(&self, node: &NodeId) -> bool {
        self.instead(self.nodes.get(node)).is_some()
    }

    pub(crate) fn hides_a_node_of(&self, action: &Action) -> bool {
        action.from.iter().chain(&action.to).any(|node| self.hides(node))
    }

    /// Takes what the caller does not see out of an action, and leaves the rest of it.
    pub(crate) fn cover(&self, action: &mut Action) {
        match action.kind {
            ActionKind::Place | ActionKind::Stop | ActionKind::Remove => self.cover_move(action),
            ActionKind::Serve | ActionKind::RollBack => self.cover_reason(action),
            // Their reasons count nodes and name none.
            ActionKind::Scale | ActionKind::Hold => {}
        }
    }

    fn cover_move(&self, action: &mut Action) {
        let instead = |node: &Option<NodeId>| node.as_ref().and_then(|node| self.instead(self.nodes.get(node)));
        let (hidden_from, hidden_to) = (instead(&action.from), instead(&action.to));
        if hidden_from.is_none() && hidden_to.is_none() {
            return;
        }
        let labels = labels(action);
        if let Some(hidden) = hidden_from {
            // A reason is always about the node that something leaves.
            let label = labels.from.as_deref().filter(|label| !label.is_empty());
            action.because = covered(&action.because, label, hidden);
        }
        let shown = |hidden: Option<&str>, label: Option<String>, node: &Option<NodeId>| {
            let hidden = hidden.map(str::to_owned).or(label);
            hidden.or_else(|| node.as_ref().map(NodeId::to_string))
        };
        let from = shown(hidden_from, labels.from, &action.from).filter(|_| action.from.is_some());
        let to = shown(hidden_to, labels.to, &action.to).filter(|_| action.to.is_some());
        let mut sentence = beginning(action);
        sentence.push_str(&match (action.kind, from, to) {
            (ActionKind::Place, Some(from), Some(to)) => format!("{to}{INSTEAD_OF}{from}"),
            (_, from, to) => to.or(from).unwrap_or_default(),
        });
        action.sentence = format!("{sentence} because {}", action.because);
        action.from.take_if(|_| hidden_from.is_some());
        action.to.take_if(|_| hidden_to.is_some());
    }

    /// For actions whose node stands in their reason only.
    fn cover_reason(&self, action: &mut Action) {
        if let Some(hidden) = self.hidden_in(&action.because) {
            let because = covered(&action.because, None, hidden);
            let what = action
                .sentence
                .strip_suffix(action.because.as_str())
                .unwrap_or_default();
            action.sentence = format!("{what}{because}");
            action.because = because;
        }
    }

    /// What stands for the node of such a reason, if it is to be hidden.
    fn hidden_in(&self, because: &str) -> Option<&'static str> {
        if let Some(label) = because.strip_prefix(READY_ON) {
            return self.instead(self.labels.get(label));
        }
        if let Some((label, _)) = because
            .strip_prefix(NOT_READY_ON)
            .and_then(|rest| rest.rsplit_once(WITHIN))
        {
            return self.instead(self.labels.get(label));
        }
        // A name may have a colon in it, and what follows the name is free text.
        let rest = because.strip_prefix(FAILED_ON).unwrap_or_default();
        let candidates = rest.match_indices(": ").filter_map(|(end, _)| rest.get(..end));
        let known = candidates.filter_map(|label| self.labels.get(label));
        self.instead(known.min())
    }

    /// What stands for a node of which this is known; `None`: the caller may read of it.
    fn instead(&self, is_seen: Option<&bool>) -> Option<&'static str> {
        match is_seen {
            Some(true) => None,
            Some(false) => Some(OTHERS),
            None if self.trusts => None,
            None => Some(UNKNOWN),
        }
    }
}

/// Nodes as a sentence calls them.
#[derive(Default)]
struct Labels {
    from: Option<String>,
    to: Option<String>,
}

/// The sentence's words up to the first node.
fn beginning(action: &Action) -> String {
    let agent = action.agent.as_ref().map_or("an agent", |agent| agent.as_str());
    let version = action.version.map(|version| format!(" v{version}")).unwrap_or_default();
    match action.kind {
        ActionKind::Place => format!("place {agent}{version} on "),
        ActionKind::Stop => format!("stop {agent}{version} on "),
        _ => format!("remove {agent}{version} from "),
    }
}

fn labels(action: &Action) -> Labels {
    let what = action.sentence.strip_suffix(action.because.as_str());
    let what = what.and_then(|what| what.strip_suffix(" because "));
    let Some(places) = what.and_then(|what| what.strip_prefix(beginning(action).as_str())) else {
        return Labels::default();
    };
    let (from, to) = match (&action.from, &action.to) {
        (Some(_), None) => (Some(places), None),
        (None, Some(_)) => (None, Some(places)),
        // One whose name has those words in it cannot be told apart.
        _ => match places.split(INSTEAD_OF).collect::<Vec<_>>()[..] {
            [to, from] => (Some(from), Some(to)),
            _ => (None, None),
        },
    };
    Labels {
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    }
}

/// A reason that is about a hidden node, which is called `label` there.
fn covered(because: &str, label: Option<&str>, hidden: &str) -> String {
    if because.starts_with(READY_ON) {
        return format!("{READY_ON}{hidden}");
    }
    if because.starts_with(FAILED_ON) {
        // Why is the node's own text.
        return format!("{FAILED_ON}{hidden}");
    }
    if let Some((_, span)) = because
        .strip_prefix(NOT_READY_ON)
        .and_then(|rest| rest.rsplit_once(WITHIN))
    {
        return format!("{NOT_READY_ON}{hidden}{WITHIN}{span}");
    }
    let rest = label.and_then(|label| because.strip_prefix(label));
    match (rest, label) {
        (Some(rest), _) if rest.starts_with(' ') && label.is_none_or(|label| !rest.contains(label)) => {
            format!("{hidden}{rest}")
        }
        (_, Some(label)) if !because.contains(label) => because.to_owned(),
        _ => format!("of {hidden}"),
    }
}

#[cfg(test)]
mod tests;
