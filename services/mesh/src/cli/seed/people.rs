//! The administrator: his password is written down before he is made, and forgotten once it was shown.

use std::path::{Path, PathBuf};

use mesh_api::identity::{UserCreate, UserList, UserRequest};
use mesh_api::{PageQuery, Role};
use mesh_runtime::Context;
use mesh_servers::write_private;
use mesh_types::{Code, Tenant};

use super::SeedArgs;

/// Owner of tenant `default` by this login runs the installation.
const LOGIN: &str = "admin";

/// Somebody to be told of.
pub(super) struct Admin {
    pub(super) login: String,
    pub(super) password: String,
    file: PathBuf,
}

impl Admin {
    /// It was shown.
    pub(super) fn forget(&self) -> std::io::Result<()> {
        std::fs::remove_file(&self.file)
    }
}

/// Makes him if nobody has his login; `None` where there is nothing to tell.
pub(super) async fn ensure_admin(context: &Context, args: &SeedArgs) -> anyhow::Result<Option<Admin>> {
    let file = args.folder.join("seed/admin-password");
    let known = read(&file);
    let is_there = exists(context).await?;
    let password = match (known, is_there) {
        (None, true) => return Ok(None),
        // An earlier start was killed before it showed it.
        (Some(password), _) => password,
        (None, false) => {
            let made = identity::random_password().expose().clone();
            write_private(&file, made.as_bytes())?;
            made
        }
    };
    let admin = Admin {
        login: LOGIN.to_owned(),
        password,
        file,
    };
    if !is_there {
        create(context, &admin).await?;
    }
    Ok(Some(admin))
}

async fn exists(context: &Context) -> anyhow::Result<bool> {
    let caller = context.caller(Tenant::default());
    let mut query = PageQuery::default();
    loop {
        let page = context.bus.call::<UserList>(&caller, &query).await?;
        if page.items.iter().any(|user| user.login == LOGIN) {
            return Ok(true);
        }
        if page.next.is_none() {
            return Ok(false);
        }
        query.after = page.next;
    }
}

async fn create(context: &Context, admin: &Admin) -> anyhow::Result<()> {
    let request = UserRequest {
        login: admin.login.clone(),
        name: "Administrator".into(),
        role: Role::Owner,
        password: Some(admin.password.clone()),
        tenant: None,
    };
    let caller = context.caller(Tenant::default());
    match context.bus.call::<UserCreate>(&caller, &request).await {
        Ok(_) => Ok(()),
        // Made in the same moment by a seed that ended after it.
        Err(problem) if problem.is(Code::UserAlreadyExists) => Ok(()),
        Err(problem) => Err(problem.into()),
    }
}

fn read(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
