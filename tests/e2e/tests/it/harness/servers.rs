//! Servers that a test starts beside a mesh of several processes, and kills as it likes.

use mesh_servers::{NatsOptions, NatsServer, NatsTool, Postgres, PostgresOptions, PostgresTool, Quiet, ScratchDir};

pub(crate) async fn start_postgres(folder: &ScratchDir, port: u16) -> Postgres {
    let options = PostgresOptions {
        port,
        ..PostgresOptions::new(folder.path().join("postgres"))
    };
    let start = move || {
        let tool = PostgresTool::resolve(&mut Quiet)?;
        Postgres::start(&tool, options)
    };
    tokio::task::spawn_blocking(start)
        .await
        .unwrap()
        .expect("Postgres starts")
}

pub(crate) async fn start_nats(folder: &ScratchDir, port: u16, monitor_port: u16) -> NatsServer {
    let options = NatsOptions {
        port,
        monitor_port,
        ..NatsOptions::new(folder.path().join("nats"))
    };
    let start = move || {
        let tool = NatsTool::resolve(&mut Quiet)?;
        NatsServer::start(&tool, options)
    };
    tokio::task::spawn_blocking(start)
        .await
        .unwrap()
        .expect("nats-server starts")
}
