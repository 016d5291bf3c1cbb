//! Sign-in by other providers: which there are, whom they let in, and where a browser may be sent. What they say is a
//! stranger's word until it is checked.

mod github;
pub(crate) mod http;
mod id_token;
mod oidc;

use mesh_api::Role;
use mesh_api::identity::Membership;
use mesh_runtime::Secret;
use mesh_types::{Problem, Tenant, Token};
use serde::{Deserialize, Serialize};

use crate::state::State;
use crate::store::external::OnItsWay;

/// One row of table `identity.providers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// Stands in addresses: letters, digits, `_` and `-`.
    pub id: String,
    pub kind: Kind,
    /// For people; empty: the id.
    pub name: String,
    /// OpenID Connect: the issuer. GitHub: its address, for an installation of one's own.
    pub issuer: String,
    /// GitHub only: address of its API, for an installation of one's own.
    pub api: String,
    pub client_id: String,
    pub client_secret: Secret<String>,
    /// Whom it lets in, and as what. Everybody else is refused.
    pub allow: Vec<Allow>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Oidc,
    Github,
}

/// Either a domain or a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allow {
    /// Of verified e-mail addresses: `example.org`, not those below it.
    pub domain: String,
    /// A verified e-mail address, the login there (GitHub), or the subject (OpenID Connect).
    pub user: String,
    pub tenant: Tenant,
    /// At the first sign-in; an owner changes it afterwards.
    pub role: Role,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            id: String::new(),
            kind: Kind::Oidc,
            name: String::new(),
            issuer: String::new(),
            api: String::new(),
            client_id: String::new(),
            client_secret: Secret::default(),
            allow: Vec::new(),
        }
    }
}

impl Default for Allow {
    fn default() -> Self {
        Self {
            domain: String::new(),
            user: String::new(),
            tenant: Tenant::default(),
            role: Role::Viewer,
        }
    }
}

/// Who somebody is there, as far as it was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct External {
    /// Never changes there.
    pub(crate) subject: String,
    /// Verified ones, in lower case.
    pub(crate) emails: Vec<String>,
    pub(crate) login: Option<String>,
    pub(crate) name: String,
}

impl Provider {
    pub(crate) fn shown_name(&self) -> &str {
        if self.name.is_empty() { &self.id } else { &self.name }
    }

    /// What is wrong with it.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let id = &self.id;
        if id.parse::<Token>().is_err() {
            return Err(format!("`providers`: `{id}` is no id; use letters, digits, _ and -"));
        }
        let wrong = |what: &str| Err(format!("`providers`, {id}: {what}"));
        if self.kind == Kind::Oidc && self.issuer.is_empty() {
            return wrong("`issuer` is missing");
        }
        for (name, address) in [("issuer", &self.issuer), ("api", &self.api)] {
            if !address.is_empty() && !http::is_safe(address) {
                return wrong(&format!("`{name}` must be an https address"));
            }
        }
        if self.client_id.is_empty() {
            return wrong("`client_id` is missing");
        }
        if self.allow.is_empty() {
            return wrong("`allow` is empty, so nobody could sign in");
        }
        if self
            .allow
            .iter()
            .any(|rule| rule.domain.is_empty() == rule.user.is_empty())
        {
            return wrong("each of `allow` names either a `domain` or a `user`");
        }
        Ok(())
    }

    /// Where somebody belongs by the rules, in their order; the most that a tenant's rules give. Empty: refused.
    pub(crate) fn memberships(&self, external: &External) -> Vec<Membership> {
        let mut found: Vec<Membership> = Vec::new();
        for rule in self.allow.iter().filter(|rule| rule.is_for(external, self.kind)) {
            match found.iter_mut().find(|one| one.tenant == rule.tenant) {
                Some(known) if !known.role.covers(rule.role) => known.role = rule.role,
                Some(_) => {}
                None => found.push(Membership {
                    tenant: rule.tenant.clone(),
                    role: rule.role,
                }),
            }
        }
        found
    }

    /// Where the browser goes to sign in.
    ///
    /// # Errors
    /// `Unavailable` while the provider says nothing that can be read.
    pub(crate) async fn location(&self, state: &State, way: &OnItsWay, given: &str) -> Result<String, Problem> {
        match self.kind {
            Kind::Oidc => oidc::location(self, state, way, given).await,
            Kind::Github => github::location(self, way, given),
        }
    }

    /// Who came back with that code.
    ///
    /// # Errors
    /// `Unauthorized` when what the provider says does not hold, `Unavailable` when it says nothing.
    pub(crate) async fn who(&self, state: &State, way: &OnItsWay, code: &str) -> Result<External, Problem> {
        match self.kind {
            Kind::Oidc => oidc::who(self, state, way, code).await,
            Kind::Github => github::who(self, way, code).await,
        }
    }
}

impl Allow {
    fn is_for(&self, external: &External, kind: Kind) -> bool {
        if !self.domain.is_empty() {
            let domain = self.domain.to_lowercase();
            let is_of = |email: &String| email.rsplit_once('@').is_some_and(|(_, of)| of == domain);
            return external.emails.iter().any(is_of);
        }
        let user = self.user.to_lowercase();
        let is_login = || {
            let login = external.login.as_ref();
            // A name that its bearer chooses himself says nothing at most providers.
            kind == Kind::Github && login.is_some_and(|login| login.to_lowercase() == user)
        };
        let is_subject = || kind == Kind::Oidc && external.subject == self.user;
        external.emails.contains(&user) || is_login() || is_subject()
    }
}

/// A name for somebody who comes for the first time: what he is called there, as far as a login may say it.
pub(crate) fn login_for(external: &External, number: u32) -> String {
    let named = external.login.clone().or_else(|| {
        let email = external.emails.first()?;
        email.split('@').next().map(str::to_owned)
    });
    let clean: String = named
        .unwrap_or_default()
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
        .take(40)
        .collect();
    let clean = clean.trim_matches('-');
    let base = match clean {
        "" => "user",
        // Names that stand for more than a person.
        "admin" => "admin-1",
        "dev" => "dev-1",
        other => other,
    };
    if number < 2 {
        base.to_owned()
    } else {
        format!("{base}-{number}")
    }
}

/// A path of this server, and nothing that a browser would take for another one's address.
pub(crate) fn local_path(text: &str) -> Option<&str> {
    let mut bytes = text.bytes();
    let is_local = bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && text.len() <= 512
        && text.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'\\');
    is_local.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(kind: Kind) -> Provider {
        let rule = |domain: &str, user: &str, tenant: &str, role| Allow {
            domain: domain.into(),
            user: user.into(),
            tenant: tenant.parse().unwrap(),
            role,
        };
        Provider {
            id: "corp".into(),
            kind,
            issuer: "https://id.example.org".into(),
            client_id: "mesh".into(),
            allow: vec![
                rule("example.org", "", "default", Role::Developer),
                rule("", "Ann@example.org", "default", Role::Owner),
                rule("", "octocat", "lab", Role::Viewer),
            ],
            ..Provider::default()
        }
    }

    fn external(emails: &[&str], login: Option<&str>, subject: &str) -> External {
        External {
            subject: subject.into(),
            emails: emails.iter().map(|one| (*one).to_owned()).collect(),
            login: login.map(str::to_owned),
            name: String::new(),
        }
    }

    #[test]
    fn who_no_rule_names_is_nobodys_member() {
        let of = |kind, external: &External| {
            let found = provider(kind).memberships(external);
            let text = |one: &Membership| format!("{} {}", one.tenant, one.role.as_str());
            found.iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(
            of(Kind::Oidc, &external(&["bob@example.org"], None, "s")),
            ["default developer"]
        );
        assert_eq!(
            of(Kind::Oidc, &external(&["ann@example.org"], None, "s")),
            ["default owner"]
        );
        for stranger in [
            "bob@sub.example.org",
            "bob@example.org.evil",
            "example.org",
            "bob@evilexample.org",
        ] {
            assert!(
                of(Kind::Oidc, &external(&[stranger], None, "s")).is_empty(),
                "{stranger}"
            );
        }
        assert_eq!(of(Kind::Github, &external(&[], Some("OctoCat"), "7")), ["lab viewer"]);
        // The name that somebody gives himself at an issuer is no proof, the subject is.
        assert!(of(Kind::Oidc, &external(&[], Some("octocat"), "7")).is_empty());
        assert_eq!(of(Kind::Oidc, &external(&[], None, "octocat")), ["lab viewer"]);
    }

    #[test]
    fn a_browser_goes_back_to_a_path_of_this_server_only() {
        for good in ["/", "/agents/sofia?tab=versions", "/a#b", "/a//b"] {
            assert_eq!(local_path(good), Some(good));
        }
        for bad in [
            "",
            "agents",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\nb",
            "/a b",
            "/ü",
            "/a\\b",
        ] {
            assert_eq!(local_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_new_persons_login_is_made_of_what_is_known() {
        let of = |emails: &[&str], login| login_for(&external(emails, login, "7"), 1);
        assert_eq!(of(&["ann.b@example.org"], None), "ann-b");
        assert_eq!(of(&["x@example.org"], Some("OctoCat")), "octocat");
        assert_eq!(
            (of(&[], None), of(&[], Some("Admin"))),
            ("user".into(), "admin-1".into())
        );
        assert_eq!(login_for(&external(&[], Some("ann"), "7"), 3), "ann-3");
        assert!(of(&[], Some(&"x".repeat(99))).parse::<Token>().is_ok());
    }

    #[test]
    fn a_provider_that_cannot_work_is_refused_at_the_start() {
        assert_eq!(provider(Kind::Oidc).validate(), Ok(()));
        let change = |change: fn(&mut Provider)| {
            let mut provider = provider(Kind::Oidc);
            change(&mut provider);
            provider.validate().unwrap_err()
        };
        assert!(change(|one| one.issuer = "http://id.example.org".into()).contains("https"));
        assert!(change(|one| one.issuer.clear()).contains("issuer"));
        assert!(change(|one| one.allow.clear()).contains("nobody"));
        assert!(change(|one| one.allow[0].user = "x".into()).contains("either"));
        assert!(change(|one| one.id = "a b".into()).contains("a b"));
        assert!(change(|one| one.client_id.clear()).contains("client_id"));
    }
}
