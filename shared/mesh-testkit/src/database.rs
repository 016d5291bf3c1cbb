//! A fresh database per test, on one Postgres per test process (or per run, when
//! `MESH_TEST_POSTGRES_URL` names one). The migrations run once, into a template that is copied.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Weak};

use mesh_servers::{Postgres, PostgresOptions, PostgresTool, Quiet, ScratchDir};
use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::sync::Mutex;

use crate::nats::blocking;

/// Postgres of the whole run, with a role that may create databases and roles.
const SHARED_URL_VARIABLE: &str = "MESH_TEST_POSTGRES_URL";
/// Keeps processes that share a Postgres from making the template at the same time.
const TEMPLATE_LOCK: i64 = 0x6d65_7368_7465_7374;

/// A database of one test.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    name: String,
    server: Arc<Server>,
}

#[derive(Debug)]
enum Server {
    /// Stopped with the last database on it.
    Own {
        postgres: Box<Postgres>,
        _folder: ScratchDir,
    },
    /// Somebody else's.
    Shared(String),
}

impl Server {
    fn url_of(&self, database: &str) -> String {
        match self {
            Self::Own { postgres, .. } => postgres.url_of(database),
            Self::Shared(url) => with_database(url, database),
        }
    }

    async fn connect(&self, database: &str) -> PgConnection {
        let url = self.url_of(database);
        PgConnection::connect(&url).await.expect("Postgres takes connections")
    }
}

impl TestDatabase {
    /// A database with all migrations applied.
    ///
    /// # Panics
    /// When Postgres cannot be started or a migration fails.
    pub async fn create() -> Self {
        let server = server().await;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
        let migrator = Migrator::new(folder).await.expect("the migrations can be read");
        let template = template(&server, &migrator).await;
        Self::create_from(server, &template).await
    }

    /// A database without anything, for tests of the migrations themselves.
    ///
    /// # Panics
    /// When Postgres cannot be started.
    pub async fn create_empty() -> Self {
        Self::create_from(server().await, "template0").await
    }

    async fn create_from(server: Arc<Server>, template: &str) -> Self {
        let name = unique("test");
        let mut connection = server.connect("postgres").await;
        let statement = format!("CREATE DATABASE {name} TEMPLATE {template}");
        execute(&mut connection, statement).await;
        Self {
            url: server.url_of(&name),
            name,
            server,
        }
    }

    /// Address with the credentials of a superuser.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A small pool of that superuser, for what a test sets up or looks at.
    ///
    /// # Panics
    /// When Postgres takes no connection.
    pub async fn pool(&self) -> PgPool {
        let options = PgPoolOptions::new().max_connections(4);
        options.connect(&self.url).await.expect("Postgres takes connections")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // An own server goes with its data anyway.
        if !matches!(&*self.server, Server::Shared(_)) {
            return;
        }
        let (server, name) = (Arc::clone(&self.server), self.name.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let mut connection = server.connect("postgres").await;
                execute(&mut connection, format!("DROP DATABASE {name} WITH (FORCE)")).await;
            });
        });
        // What stays behind goes with the run's server.
        let _ = dropped.join();
    }
}

/// The server of this process: started for the first test, stopped after the last one that needs
/// it at the same time.
async fn server() -> Arc<Server> {
    static RUNNING: Mutex<Weak<Server>> = Mutex::const_new(Weak::new());
    let mut running = RUNNING.lock().await;
    if let Some(server) = running.upgrade() {
        return server;
    }
    let server = match std::env::var(SHARED_URL_VARIABLE) {
        Ok(url) => Server::Shared(url),
        Err(_) => blocking(start).await,
    };
    let server = Arc::new(server);
    *running = Arc::downgrade(&server);
    server
}

fn start() -> Server {
    let tool = PostgresTool::resolve(&mut Quiet).expect("Postgres is found or fetched");
    let folder = ScratchDir::new().expect("a folder for the test");
    let mut options = PostgresOptions::new(folder.path().join("postgres"));
    options.fast_for_tests = true;
    let postgres = Postgres::start(&tool, options).expect("Postgres starts");
    Server::Own {
        postgres: Box::new(postgres),
        _folder: folder,
    }
}

/// The database that is copied, made once per server and set of migrations.
async fn template(server: &Server, migrator: &Migrator) -> String {
    let name = format!("template_{}", fingerprint(migrator));
    let mut connection = server.connect("postgres").await;
    let lock = format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})");
    execute(&mut connection, lock).await;
    let is_there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(&name)
        .fetch_one(&mut connection)
        .await
        .expect("the databases are listed");
    if !is_there {
        // Under another name until it is complete: a test may be killed half-way.
        let fresh = unique("fresh");
        execute(&mut connection, format!("CREATE DATABASE {fresh} TEMPLATE template0")).await;
        let mut inside = server.connect(&fresh).await;
        migrator.run(&mut inside).await.expect("the migrations apply");
        inside.close().await.expect("the connection closes");
        execute(&mut connection, format!("ALTER DATABASE {fresh} RENAME TO {name}")).await;
    }
    // The lock goes with the connection.
    connection.close().await.expect("the connection closes");
    name
}

/// Of every migration's content, in order.
fn fingerprint(migrator: &Migrator) -> String {
    let mut text = String::new();
    for migration in migrator.iter() {
        let start = migration.checksum.iter().take(4);
        for byte in start {
            write!(text, "{byte:02x}").expect("a String takes everything");
        }
    }
    // Identifiers are cut at 63 bytes: keep their ends apart.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// A name that no other process and no later call gets.
fn unique(prefix: &str) -> String {
    format!(
        "{prefix}_{}_{:016x}",
        std::process::id(),
        RandomState::new().hash_one(prefix)
    )
}

async fn execute(connection: &mut PgConnection, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement.clone()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// The same address with another database.
fn with_database(url: &str, database: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, None), |(a, q)| (a, Some(q)));
    let authority_at = address.find("://").map_or(0, |at| at + 3);
    let base = match address[authority_at..].find('/') {
        Some(at) => &address[..authority_at + at],
        None => address,
    };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{base}/{database}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_an_address_is_replaced() {
        let cases = [
            ("postgres://u:p@h:1/mesh", "postgres://u:p@h:1/x"),
            ("postgres://u:p@h:1", "postgres://u:p@h:1/x"),
            ("postgres://h/mesh?sslmode=disable", "postgres://h/x?sslmode=disable"),
        ];
        for (url, wanted) in cases {
            assert_eq!(with_database(url, "x"), wanted);
        }
    }

    #[tokio::test]
    async fn each_test_has_a_database_of_its_own() {
        let (one, other) = tokio::join!(TestDatabase::create_empty(), TestDatabase::create_empty());
        let (pool, other_pool) = (one.pool().await, other.pool().await);
        sqlx::raw_sql("CREATE TABLE mine (id int)")
            .execute(&pool)
            .await
            .unwrap();
        let seen = "SELECT EXISTS (SELECT FROM pg_tables WHERE tablename = 'mine')";
        let here: bool = sqlx::query_scalar(seen).fetch_one(&pool).await.unwrap();
        let there: bool = sqlx::query_scalar(seen).fetch_one(&other_pool).await.unwrap();
        assert!(here && !there);
    }

    #[tokio::test]
    async fn a_database_comes_with_its_migrations() {
        let (one, other) = tokio::join!(TestDatabase::create(), TestDatabase::create());
        for database in [one, other] {
            let applied = "SELECT count(*) FROM _sqlx_migrations WHERE success";
            let pool = database.pool().await;
            let count: i64 = sqlx::query_scalar(applied).fetch_one(&pool).await.unwrap();
            assert!(count > 0);
        }
    }
}
