//! Who connects to the installation's nats-servers, and as whom: a part of their configuration and the services' URLs.

use std::collections::BTreeMap;

use anyhow::Context as _;
use mesh_bus::permissions;
use mesh_runtime::Secret;
use mesh_servers::NatsUsers;

use super::vault::Vault;
use crate::up::nats_user;

/// User of the servers among themselves.
const ROUTES: &str = "mesh-routes";
/// What nats-server waits for identity's answer; a database that restarts takes seconds.
const ANSWER_SECONDS: u32 = 5;
/// Where the servers of a cluster reach each other.
const ROUTE_PORT: u16 = 6222;
const HEADER: &str = "# Written by mesh setup: changes here are lost.\n";

pub(super) struct Users {
    /// By the service's one word: the user's name and password.
    known: BTreeMap<&'static str, (String, String)>,
    system: (String, String),
    issuer_seed: Secret<String>,
    conf: String,
}

impl Users {
    /// A user for each of these services and jobs, each with its own rights.
    pub(super) fn new(vault: &mut Vault, services: &[&'static str]) -> anyhow::Result<Self> {
        let seed = vault.made("nats-issuer-seed", || identity::nats_issuer_seed().expose().clone());
        let issuer_seed = Secret::new(seed);
        let (mut known, mut users) = (BTreeMap::new(), Vec::new());
        let all = permissions::all().into_iter();
        for user in all.filter(|user| services.contains(&user.service)) {
            let password = vault.password(&format!("nats/{}", user.service));
            known.insert(user.service, (user.user.clone(), password.clone()));
            users.push(nats_user(user, password));
        }
        let system = nats_user(permissions::system(), vault.password("nats-system"));
        let named = (system.name.clone(), system.password.clone());
        let conf = NatsUsers {
            services: users,
            system,
            issuer: identity::nats_issuer_key(&issuer_seed).map_err(anyhow::Error::msg)?,
            answer_seconds: ANSWER_SECONDS,
        };
        Ok(Self {
            known,
            system: named,
            issuer_seed,
            conf: format!("{HEADER}{}", conf.render()),
        })
    }

    /// Address of the servers for one service; names and passwords need no escape.
    pub(super) fn url(&self, service: &str, servers: &[String]) -> anyhow::Result<String> {
        let (user, password) = self
            .known
            .get(service)
            .with_context(|| format!("nobody is {service}"))?;
        let one = |server: &String| format!("nats://{user}:{password}@{server}");
        Ok(servers.iter().map(one).collect::<Vec<_>>().join(","))
    }

    pub(super) fn issuer_seed(&self) -> &str {
        self.issuer_seed.expose()
    }

    pub(super) fn system(&self) -> String {
        format!("{}:{}", self.system.0, self.system.1)
    }

    /// `users.conf`. Its hashes differ each time; see [`same_users`].
    pub(super) fn render(&self) -> String {
        self.conf.clone()
    }
}

/// Whether two configurations say the same but for the salts of passwords, which are of the same vault.
pub(super) fn same_users(one: &str, other: &str) -> bool {
    let told = |text: &str| {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("password:"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    told(one) == told(other)
}

/// `routes.conf` of a cluster: who is in it, and what they show each other. Clients are not told of the others: they may
/// be outside, where the others have no address.
pub(super) fn routes(vault: &mut Vault, servers: &[String]) -> String {
    let password = vault.password("nats-routes");
    let host = |server: &String| server.split(':').next().unwrap_or(server).to_owned();
    let route = |server: &String| format!("    \"nats://{ROUTES}:{password}@{}:{ROUTE_PORT}\"\n", host(server));
    let routes: String = servers.iter().map(route).collect();
    format!(
        "{HEADER}cluster {{\n  name: mesh\n  listen: \"0.0.0.0:{ROUTE_PORT}\"\n  no_advertise: true\n  authorization {{ user: \
         {ROUTES}, password: \"{password}\", timeout: 5 }}\n  routes: [\n{routes}  ]\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_of_a_cluster_is_named_to_services_and_to_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut vault = Vault::open(&folder.path().join("vault.json")).unwrap();
        let servers: Vec<_> = ["nats-1:4222", "nats-2:4222"].map(str::to_owned).into();
        let users = Users::new(&mut vault, &["registry", "seed"]).unwrap();
        let url = users.url("registry", &servers).unwrap();
        assert_ne!(url, users.url("seed", &servers).unwrap());
        assert!(users.url("gateway", &servers).is_err());
        assert_eq!(url.split(',').count(), 2);
        assert!(url.starts_with("nats://") && url.ends_with("@nats-2:4222"), "{url}");
        let routes = routes(&mut vault, &servers);
        assert!(
            routes.contains("@nats-1:6222") && routes.contains("@nats-2:6222"),
            "{routes}"
        );
        assert!(users.render().contains("auth_callout"));
    }

    #[test]
    fn new_salts_are_no_change_and_new_rights_are() {
        let folder = tempfile::tempdir().unwrap();
        let mut vault = Vault::open(&folder.path().join("vault.json")).unwrap();
        let of = |vault: &mut Vault, services: &[&'static str]| Users::new(vault, services).unwrap().render();
        let (one, again) = (of(&mut vault, &["registry"]), of(&mut vault, &["registry"]));
        assert_ne!(one, again);
        assert!(same_users(&one, &again));
        assert!(!same_users(&one, &of(&mut vault, &["registry", "seed"])));
    }
}
