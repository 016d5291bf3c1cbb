//! Who may connect to a nats-server that demands credentials: each service by user and password with its own subjects
//! only, everybody else by an answer of the service that holds the issuer's key. What nobody granted is denied.

use std::fmt::Write;

/// Rounds of the hash, as a power of two, and the least that is taken. These passwords are random and long, so no
/// number of rounds adds to them, while the server computes one hash for each connection.
const BCRYPT_COST: u32 = 4;
/// Bytes of a password that the hash takes in; what is longer would be cut in silence.
const BCRYPT_BYTES_MAX: usize = 72;

/// Subjects that may be used, and those among them that may not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsSubjects {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
}

/// What a user may say and hear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsPermissions {
    pub publish: NatsSubjects,
    pub subscribe: NatsSubjects,
}

impl NatsPermissions {
    /// Everything in its account: for tests, and for who administers the server itself.
    #[must_use]
    pub fn everything() -> Self {
        let all = || NatsSubjects {
            allow: vec![">".to_owned()],
            deny: Vec::new(),
        };
        Self {
            publish: all(),
            subscribe: all(),
        }
    }
}

/// A user in the server's own configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUser {
    pub name: String,
    /// In plain; the configuration gets its hash. At most 72 bytes.
    pub password: String,
    pub permissions: NatsPermissions,
}

impl std::fmt::Debug for NatsUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsUser")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Users of a nats-server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsUsers {
    /// The mesh's own services.
    pub services: Vec<NatsUser>,
    /// In the server's system account.
    pub system: NatsUser,
    /// Public key (`A…`) that users of everybody else are signed with.
    pub issuer: String,
    /// Seconds that the server waits for such an answer.
    pub answer_seconds: u32,
}

impl NatsUsers {
    /// The accounts part of a server's configuration; the same on every member of a cluster. Holds hashes of the
    /// passwords, salted anew at each call. Services stay in the default account, where their streams are with and
    /// without users.
    #[must_use]
    pub fn render(&self) -> String {
        let Self {
            services,
            system,
            issuer,
            answer_seconds,
        } = self;
        let names = services.iter().chain([system]).map(|user| quoted(&user.name));
        let names = names.collect::<Vec<_>>().join(", ");
        let mut text = format!(
            "accounts {{\n  SYSTEM {{\n    users: [\n{}    ]\n  }}\n}}\nsystem_account: SYSTEM\nauthorization {{\n  \
             timeout: {answer_seconds}\n  default_permissions: {{ publish: {{ deny: \">\" }}, subscribe: {{ deny: \
             \">\" }} }}\n  users: [\n",
            user_text(system),
        );
        text.extend(services.iter().map(user_text));
        let issuer = quoted(issuer);
        // Who is not named here is asked about; nobody who is can be taken for somebody else.
        writeln!(
            text,
            "  ]\n  auth_callout {{\n    issuer: {issuer}\n    auth_users: [ {names} ]\n  }}\n}}"
        )
        .expect("a String takes everything");
        text
    }

    /// What a member of a cluster demands of the others: the body of its `cluster { … }` block takes this, while the
    /// `routes` there name the same user and its password in plain.
    #[must_use]
    pub fn render_routes(name: &str, password: &str) -> String {
        format!(
            "authorization {{\n  user: {}\n  password: {}\n  timeout: 5\n}}\n",
            quoted(name),
            quoted(&hashed(password))
        )
    }
}

fn user_text(user: &NatsUser) -> String {
    let permissions = &user.permissions;
    format!(
        "    {{\n      user: {}\n      password: {}\n      permissions: {{\n        publish: {}\n        subscribe: {}\n      \
         }}\n    }}\n",
        quoted(&user.name),
        quoted(&hashed(&user.password)),
        subjects_text(&permissions.publish),
        subjects_text(&permissions.subscribe),
    )
}

/// An empty list would be taken for no rule at all, that is for everything.
fn subjects_text(subjects: &NatsSubjects) -> String {
    let list = |subjects: &[String]| {
        let all: Vec<_> = subjects.iter().map(|subject| quoted(subject)).collect();
        format!("[{}]", all.join(", "))
    };
    match (subjects.allow.is_empty(), subjects.deny.is_empty()) {
        (true, _) => r#"{ deny: [">"] }"#.to_owned(),
        (false, true) => format!("{{ allow: {} }}", list(&subjects.allow)),
        (false, false) => format!("{{ allow: {}, deny: {} }}", list(&subjects.allow), list(&subjects.deny)),
    }
}

/// As the server compares it with. A password that the hash would cut stays as it is: the file is its owner's only.
fn hashed(password: &str) -> String {
    if password.len() > BCRYPT_BYTES_MAX {
        return password.to_owned();
    }
    bcrypt::hash(password, BCRYPT_COST).expect("the cost is within bounds, and the system gives random bytes")
}

/// A string of the configuration language.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, password: &str, publish: &[&str], deny: &[&str]) -> NatsUser {
        let owned = |subjects: &[&str]| subjects.iter().map(|one| (*one).to_owned()).collect();
        NatsUser {
            name: name.into(),
            password: password.into(),
            permissions: NatsPermissions {
                publish: NatsSubjects {
                    allow: owned(publish),
                    deny: owned(deny),
                },
                subscribe: NatsSubjects::default(),
            },
        }
    }

    fn users() -> NatsUsers {
        NatsUsers {
            services: vec![
                user(
                    "svc_registry",
                    "pass\"word",
                    &["mesh.event.>"],
                    &["mesh.event.*.audit.>"],
                ),
                user("svc_memory", "other", &[], &[]),
            ],
            system: user("mesh-system", "third", &["$SYS.REQ.>"], &[]),
            issuer: "ABC".into(),
            answer_seconds: 5,
        }
    }

    #[test]
    fn only_services_and_the_system_skip_the_question() {
        let text = users().render();
        assert!(
            text.contains(r#"auth_users: [ "svc_registry", "svc_memory", "mesh-system" ]"#),
            "{text}"
        );
        assert!(
            text.contains("timeout: 5") && text.contains(r#"issuer: "ABC""#),
            "{text}"
        );
    }

    #[test]
    fn what_nobody_granted_is_denied() {
        let text = users().render();
        assert!(
            text.contains(r#"publish: { allow: ["mesh.event.>"], deny: ["mesh.event.*.audit.>"] }"#),
            "{text}"
        );
        // The memory's two lists and the registry's second one are empty, and so is the system's.
        assert_eq!(text.matches(r#"{ deny: [">"] }"#).count(), 4, "{text}");
        assert!(
            text.contains(r#"default_permissions: { publish: { deny: ">" }"#),
            "{text}"
        );
    }

    #[test]
    fn passwords_are_hashed_and_never_shown() {
        let text = users().render();
        assert!(!text.contains("word") || !text.contains("pass\\\""), "{text}");
        for plain in ["pass\"word", "other\"", "\"third\""] {
            assert!(!text.contains(plain), "{plain} in {text}");
        }
        let line = text.lines().find(|line| line.contains("$2")).unwrap();
        let hash = line.split('"').nth(1).unwrap();
        assert!(hash.len() == 60 && hash.starts_with("$2b$04$"), "{hash}");
        assert!(!format!("{:?}", users()).contains("third"));
        let long = "x".repeat(73);
        assert_eq!(hashed(&long), long);
        let routes = NatsUsers::render_routes("route", "secret");
        assert!(
            routes.contains(r#"user: "route""#) && !routes.contains("secret"),
            "{routes}"
        );
    }
}
