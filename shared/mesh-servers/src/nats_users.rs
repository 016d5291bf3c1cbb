//! Who may connect to a nats-server that demands credentials: the mesh's services by user and password, everybody else
//! by an answer of the service that holds the issuer's key.

/// Users of a nats-server.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUsers {
    /// User and password of the mesh's own services.
    pub services: (String, String),
    /// User and password in the server's system account.
    pub system: (String, String),
    /// Public key (`A…`) that users of everybody else are signed with.
    pub issuer: String,
    /// Seconds that the server waits for such an answer.
    pub answer_seconds: u32,
}

impl std::fmt::Debug for NatsUsers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsUsers")
            .field("services", &self.services.0)
            .field("system", &self.system.0)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl NatsUsers {
    /// The part of the server's configuration. Services stay in the default account, where their streams are with and
    /// without users.
    pub(crate) fn render(&self) -> String {
        let Self {
            services,
            system,
            issuer,
            answer_seconds,
        } = self;
        let user = |(name, password): &(String, String)| {
            format!("{{ user: {}, password: {} }}", quoted(name), quoted(password))
        };
        format!(
            r#"accounts {{
  SYSTEM {{ users: [ {system_user} ] }}
}}
system_account: SYSTEM
authorization {{
  timeout: {answer_seconds}
  users: [ {services_user} ]
  auth_callout {{
    issuer: {issuer}
    auth_users: [ {services_name}, {system_name} ]
  }}
}}
"#,
            system_user = user(system),
            services_user = user(services),
            issuer = quoted(issuer),
            services_name = quoted(&services.0),
            system_name = quoted(&system.0),
        )
    }
}

/// A string of the configuration language.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_services_and_the_system_skip_the_question() {
        let users = NatsUsers {
            services: ("mesh".into(), "pass\"word".into()),
            system: ("system".into(), "other".into()),
            issuer: "ABC".into(),
            answer_seconds: 5,
        };
        let text = users.render();
        assert!(text.contains(r#"auth_users: [ "mesh", "system" ]"#), "{text}");
        assert!(
            text.contains(r#"password: "pass\"word""#) && text.contains("timeout: 5"),
            "{text}"
        );
        assert!(!format!("{users:?}").contains("other"));
    }
}
