//! `mesh users`: people who may sign in.

use std::io::Read;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use mesh_api::identity::{PasswordSet, UserCreated, UserView};
use mesh_api::{Page, Role};
use mesh_types::Token;
use reqwest::Method;
use serde_json::{Value, json};

use super::Session;
use super::get::nothing;
use crate::client::Client;
use crate::failure::advised;
use crate::output::{Mood, Output, Table, age, now};

/// People who may sign in to the tenant, for its owners
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct UsersArgs {
    #[command(subcommand)]
    action: Option<UsersAction>,
}

#[derive(Debug, Subcommand)]
enum UsersAction {
    /// List them
    #[command(after_help = "Examples:\n  mesh users list\n  mesh users list --json")]
    List,
    /// Make one; a password that is made is shown this once
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// What he signs in as: letters, digits, _ and -
        #[arg(long, value_name = "LOGIN")]
        login: Token,
        #[arg(long, value_enum)]
        role: RoleName,
        /// What people call him
        #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Change what somebody may do in this tenant
    #[command(after_help = "Examples:\n  mesh users set-role ann operator")]
    SetRole {
        login: Token,
        #[arg(value_enum)]
        role: RoleName,
    },
    /// Let nobody sign in as one any more; open sessions end within ten seconds
    #[command(after_help = "Examples:\n  mesh users disable ann")]
    Disable { login: Token },
    /// Let them sign in again
    #[command(after_help = "Examples:\n  mesh users enable ann")]
    Enable { login: Token },
    /// Take somebody out of the tenant, with all keys and join tokens
    #[command(after_help = "Examples:\n  mesh users delete ann")]
    Delete { login: Token },
    /// Set a new password; other sessions end
    #[command(
        after_help = "Examples:\n  mesh users password ann\n  echo \"$NEW\" | mesh users password ann --password-stdin"
    )]
    Password {
        login: Token,
        #[command(flatten)]
        password: PasswordArgs,
    },
}

#[derive(Debug, Args)]
struct PasswordArgs {
    /// Read the password from standard input [default: one is made and shown once]
    #[arg(long)]
    password_stdin: bool,
    /// Ask for the password here
    #[arg(long, conflicts_with = "password_stdin")]
    ask: bool,
}

/// As `Role`, for the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleName {
    Viewer,
    Service,
    Operator,
    Developer,
    Owner,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => Self::Viewer,
            RoleName::Service => Self::Service,
            RoleName::Operator => Self::Operator,
            RoleName::Developer => Self::Developer,
            RoleName::Owner => Self::Owner,
        }
    }
}

const EXAMPLES: &str = "Examples:
  mesh users
  mesh users create --login ann --role owner
  mesh users set-role ann operator
  mesh users disable ann

Roles, each with all of those before it: viewer, service, operator, developer, owner.";

const CREATE_EXAMPLES: &str = "Examples:
  mesh users create --login ann --role owner           a password is made, and shown once
  mesh users create --login bob --role viewer --ask
  mesh users create --login ci --role service --password-stdin < secret
  mesh users create --login ann --role owner --tenant daarion";

/// Bytes of a password that is read.
const PASSWORD_BYTES_MAX: u64 = 4_096;

pub(crate) async fn run(args: UsersArgs, session: &Session) -> anyhow::Result<()> {
    let (output, client) = (session.output, session.client()?);
    match args.action {
        None | Some(UsersAction::List) => list(&client, output).await,
        Some(UsersAction::Create {
            login,
            role,
            name,
            password,
        }) => {
            let request = json!({"login": login, "name": name, "role": Role::from(role),
                "password": password.read()?, "tenant": session.tenant()});
            // The tenant is the new person's; who asks is of his own.
            create(&client.for_tenant(None), output, &request).await
        }
        Some(UsersAction::SetRole { login, role }) => {
            change(&client, output, &login, json!({"role": Role::from(role)})).await
        }
        Some(UsersAction::Disable { login }) => change(&client, output, &login, json!({"disabled": true})).await,
        Some(UsersAction::Enable { login }) => change(&client, output, &login, json!({"disabled": false})).await,
        Some(UsersAction::Delete { login }) => delete(&client, output, &login).await,
        Some(UsersAction::Password { login, password }) => set_password(&client, output, &login, &password).await,
    }
}

impl PasswordArgs {
    fn read(&self) -> anyhow::Result<Option<String>> {
        if self.ask {
            let asked = inquire::Password::new("Password:")
                .with_display_mode(inquire::PasswordDisplayMode::Masked)
                .prompt()
                .context("nobody answered")?;
            return Ok(Some(asked));
        }
        if !self.password_stdin {
            return Ok(None);
        }
        let mut text = String::new();
        std::io::stdin()
            .take(PASSWORD_BYTES_MAX)
            .read_to_string(&mut text)
            .context("the password cannot be read")?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

async fn all(client: &Client) -> anyhow::Result<Page<UserView>> {
    client.list("/api/v1/users", &[], 100_000).await
}

async fn list(client: &Client, output: Output) -> anyhow::Result<()> {
    let page = all(client).await?;
    output.show(&page, || {
        if page.items.is_empty() {
            nothing(output)?;
            output.note("mesh users create --login NAME --role owner makes the first one");
            return Ok(());
        }
        let mut table = Table::new(output, &["LOGIN", "NAME", "ROLE", "AGE", "SIGNED IN", "STATE"]);
        let now = now();
        for user in &page.items {
            table.row([
                user.login.clone(),
                user.name.clone(),
                user.role.as_str().to_owned(),
                age(user.created_at, now),
                user.last_sign_in_at
                    .map_or_else(|| "never".to_owned(), |at| format!("{} ago", age(at, now))),
                if user.disabled {
                    output.mood(Mood::Doubtful, "disabled")
                } else {
                    "good".to_owned()
                },
            ]);
        }
        table.print()
    })
}

async fn create(client: &Client, output: Output, request: &Value) -> anyhow::Result<()> {
    let created: UserCreated = client.post("/api/v1/users", request).await?;
    output.show(&created, || {
        let user = &created.user;
        show_password(output, created.password.as_deref())?;
        output.note(&format!("{} may sign in as {}", user.login, user.role.as_str()));
        Ok(())
    })
}

async fn change(client: &Client, output: Output, login: &Token, change: Value) -> anyhow::Result<()> {
    let user = find(client, login).await?;
    let changed: UserView = client.send(Method::PATCH, &path(&user, ""), &[], Some(&change)).await?;
    output.show(&changed, || {
        let state = if changed.disabled { "disabled" } else { "good" };
        output.line(&format!("{}: {}, {state}", changed.login, changed.role.as_str()))
    })
}

async fn delete(client: &Client, output: Output, login: &Token) -> anyhow::Result<()> {
    let user = find(client, login).await?;
    let deleted: Value = client
        .send(Method::DELETE, &path(&user, ""), &[], None::<&Value>)
        .await?;
    output.show(&deleted, || output.line(&format!("{} has left", user.login)))
}

async fn set_password(client: &Client, output: Output, login: &Token, password: &PasswordArgs) -> anyhow::Result<()> {
    let user = find(client, login).await?;
    let request = json!({"password": password.read()?});
    let set: PasswordSet = client.post(&path(&user, "/password"), &request).await?;
    output.show(&set, || {
        show_password(output, set.password.as_deref())?;
        output.note(&format!(
            "{} has a new password; {} sessions ended",
            user.login, set.sessions_ended
        ));
        Ok(())
    })
}

fn show_password(output: Output, password: Option<&str>) -> anyhow::Result<()> {
    let Some(password) = password else {
        return Ok(());
    };
    output.line(password)?;
    output.note("that is the password; it is shown this once");
    Ok(())
}

async fn find(client: &Client, login: &Token) -> anyhow::Result<UserView> {
    let wanted = login.as_str().to_lowercase();
    let found = all(client).await?.items.into_iter().find(|user| user.login == wanted);
    found.ok_or_else(|| {
        advised(
            anyhow::anyhow!("there is no user `{login}` in this tenant"),
            "mesh users lists them",
        )
    })
}

fn path(user: &UserView, rest: &str) -> String {
    format!("/api/v1/users/{}{rest}", user.id)
}
