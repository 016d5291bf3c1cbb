//! Who may say and hear what on NATS: a user for each service and each job with only its subjects, one for a mesh that is
//! all in one process. Rendered to `nats/permissions.json`. People, programs and nodes are let
//! in by `identity`, with rights of their own.

mod services;
mod table;

use serde::Serialize;

pub use services::{all, services, system, whole};

/// What the names of these users begin with, and so where they await answers; no node is named so.
pub const USER_PREFIX: &str = "svc_";

/// Subjects that may be used, and those among them that may not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rules {
    pub allow: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

impl Rules {
    /// Whether a literal subject may be used.
    #[must_use]
    pub fn hold(&self, subject: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|pattern| covers(pattern, subject));
        any(&self.allow) && !any(&self.deny)
    }
}

/// What a user may say and hear. Everything else is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Permissions {
    pub publish: Rules,
    pub subscribe: Rules,
}

/// A user of nats-server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// `registry` and so on; a job such as `migrate`; `mesh` for all of them.
    pub service: &'static str,
    /// Its name on the server, and the token of its inboxes.
    pub user: String,
    pub permissions: Permissions,
}

/// As `nats/permissions.json` holds it.
#[must_use]
pub fn render() -> String {
    let all = serde_json::json!({ "users": all(), "system": system() });
    let mut text = serde_json::to_string_pretty(&all).expect("permissions are plain JSON");
    text.push('\n');
    text
}

/// Whether a pattern with `*` and `>` takes that literal subject.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in pattern.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn patterns_take_what_the_server_takes() {
        for (pattern, subject, is_taken) in [
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*.c", "a.b.c", true),
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
        ] {
            assert_eq!(covers(pattern, subject), is_taken, "{pattern} {subject}");
        }
    }

    #[test]
    fn each_user_has_its_own_inbox_and_hears_no_other() {
        let users = services();
        let names: BTreeSet<_> = users.iter().map(|user| user.user.as_str()).collect();
        assert_eq!(names.len(), users.len());
        for user in &users {
            assert_eq!(user.user, format!("{USER_PREFIX}{}", user.service));
            for other in &users {
                let inbox = format!("_INBOX.{}.x.y", other.user);
                assert_eq!(user.permissions.subscribe.hold(&inbox), user == other, "{inbox}");
            }
        }
    }

    #[test]
    fn no_service_deletes_or_purges_and_none_is_allowed_everything() {
        for user in services() {
            for subject in [
                "$JS.API.STREAM.DELETE.EVENTS",
                "$JS.API.STREAM.PURGE.EVENTS",
                "$JS.API.STREAM.MSG.DELETE.EVENTS",
                "$JS.API.CONSUMER.DELETE.INVOCATIONS.intake",
                "$JS.API.CONSUMER.DELETE.EVENTS.audit",
                "$JS.API.ACCOUNT.PURGE.x",
                "elsewhere",
            ] {
                assert!(!user.permissions.publish.hold(subject), "{} {subject}", user.user);
            }
            assert!(!user.permissions.subscribe.hold("elsewhere"), "{}", user.user);
        }
    }

    #[test]
    fn the_whole_may_what_each_of_its_services_may() {
        let all = whole().permissions;
        for user in services() {
            let publish = user.permissions.publish.allow.iter();
            let inbox = format!("_INBOX.{}", user.user);
            let missing: Vec<_> = publish
                .filter(|one| !one.starts_with(&inbox) && !all.publish.allow.contains(one))
                .collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
        for denied in &all.publish.deny {
            assert!(!all.publish.allow.contains(denied), "{denied}");
        }
    }
}
