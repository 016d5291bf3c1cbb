//! nats-server: durable, on its ports again, and alone on its folder.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mesh_servers::{NatsOptions, NatsServer, ScratchDir, ServersError};

use crate::{busy_port, is_alive, tools};

fn monitor(server: &NatsServer, path: &str) -> String {
    let address = server.monitor_url().replace("http://", "");
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Sends one request over the client protocol and answers the reply's body.
fn request(server: &NatsServer, subject: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let length = body.len();
    let lines =
        format!("CONNECT {{\"verbose\":false}}\r\nSUB _INBOX.t 1\r\nPUB {subject} _INBOX.t {length}\r\n{body}\r\n");
    stream.write_all(lines.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        assert!(
            reader.read_line(&mut line).unwrap() > 0,
            "the server closed the connection"
        );
        if line.starts_with("MSG _INBOX.t") {
            let mut body = String::new();
            reader.read_line(&mut body).unwrap();
            return body;
        }
    }
}

#[test]
fn a_server_is_durable_and_starts_again_on_its_ports_with_its_data() {
    let scratch = ScratchDir::new().unwrap();
    let mut server = NatsServer::start(tools(), NatsOptions::new(scratch.path().join("nats"))).unwrap();
    assert!(monitor(&server, "/jsz").contains("\"sync_always\": true"));
    assert!(monitor(&server, "/varz").contains("\"max_payload\": 8388608"));
    let stream = r#"{"name":"KEPT","subjects":["kept"],"storage":"file"}"#;
    let made = request(&server, "$JS.API.STREAM.CREATE.KEPT", stream);
    assert!(made.contains("\"KEPT\"") && !made.contains("error"), "{made}");
    assert!(request(&server, "kept", "fact").contains("\"seq\":1"));

    let urls = (server.url(), server.monitor_url());
    server.kill().unwrap();
    assert!(!server.is_running() && server.exit().unwrap().contains("signal"));
    server.restart().unwrap();
    assert_eq!((server.url(), server.monitor_url()), urls);
    let info = request(&server, "$JS.API.STREAM.INFO.KEPT", "");
    assert!(info.contains("\"messages\":1"), "{info}");
}

#[test]
fn a_server_that_a_killed_mesh_left_is_stopped_by_the_next_start() {
    let scratch = ScratchDir::new().unwrap();
    let options = NatsOptions::new(scratch.path().join("nats"));
    let left = NatsServer::start(tools(), options.clone()).unwrap();
    let (pid, port) = (left.pid(), left.port());
    // A killed process stops nothing.
    std::mem::forget(left);
    let mut next = NatsServer::start(tools(), NatsOptions { port, ..options }).unwrap();
    assert!(!is_alive(pid) && next.is_running() && next.pid() != pid);
    assert_eq!(next.port(), port);
}

#[test]
fn two_folders_have_two_servers() {
    let scratch = ScratchDir::new().unwrap();
    let mut one = NatsServer::start(tools(), NatsOptions::new(scratch.path().join("one"))).unwrap();
    let two = NatsServer::start(tools(), NatsOptions::new(scratch.path().join("two"))).unwrap();
    assert!(one.is_running() && one.port() != two.port());
}

#[test]
fn a_dropped_server_has_ended() {
    let scratch = ScratchDir::new().unwrap();
    let server = NatsServer::start(tools(), NatsOptions::new(scratch.path().join("nats"))).unwrap();
    let pid = server.pid();
    assert!(is_alive(pid));
    drop(server);
    assert!(!is_alive(pid));
}

#[test]
fn a_lazy_server_must_be_asked_for() {
    let scratch = ScratchDir::new().unwrap();
    let mut options = NatsOptions::new(scratch.path().join("nats"));
    options.lazy_sync = true;
    let server = NatsServer::start(tools(), options).unwrap();
    assert!(!monitor(&server, "/jsz").contains("\"sync_always\": true"));
}

#[test]
fn a_busy_port_is_named_with_the_variable_that_changes_it() {
    let scratch = ScratchDir::new().unwrap();
    let (_listener, port) = busy_port();
    let options = NatsOptions {
        port,
        ..NatsOptions::new(scratch.path().join("nats"))
    };
    let error = NatsServer::start(tools(), options).unwrap_err();
    assert!(matches!(error, ServersError::PortBusy { .. }), "{error}");
    assert!(error.to_string().contains("MESH_NATS_PORT"), "{error}");
}

#[test]
fn a_refused_configuration_is_shown_with_the_log() {
    let scratch = ScratchDir::new().unwrap();
    let mut options = NatsOptions::new(scratch.path().join("nats"));
    options.extra_config = "max_payload: \"many\"".to_owned();
    let error = NatsServer::start(tools(), options).unwrap_err().to_string();
    assert!(error.contains("nats.conf:") && error.contains("nats.log"), "{error}");
}
