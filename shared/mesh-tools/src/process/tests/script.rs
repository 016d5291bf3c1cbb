//! Commands: what goes in and out, and how they end.

use std::time::{Duration, Instant};

use mesh_types::agent::{Script, Span};
use mesh_types::tool::ToolReply;
use mesh_types::{Code, Problem};
use serde_json::{Value, json};

use super::{Bench, LONG, MUCH, runs};
use crate::process::run_script;

fn script(command: &[&str]) -> Script {
    Script {
        command: command.iter().map(|part| (*part).to_owned()).collect(),
        effect: None,
        timeout: None,
        memory: None,
    }
}

async fn run(command: &[&str], input: Value) -> Result<ToolReply, Problem> {
    run_script(&script(command), &input, LONG, MUCH).await
}

#[tokio::test]
async fn json_goes_in_and_comes_out() {
    let input = json!({"n": 0.1, "text": "Привіт $(id) `id`", "deep": [{"a": null}]});
    assert_eq!(run(&["cat"], input.clone()).await.unwrap(), ToolReply::of(input));
}

#[tokio::test]
async fn what_is_no_json_comes_out_as_text() {
    let reply = run(&["printf", "two\nlines\n\n"], json!({})).await.unwrap();
    assert_eq!(reply.output, json!({"text": "two\nlines"}));
    assert_eq!(run(&["true"], json!({})).await.unwrap().output, json!({"text": ""}));
}

#[tokio::test]
async fn arguments_stay_literal() {
    let odd = [
        "a b",
        "\"q\" 'q'",
        "$(id)",
        "`id`",
        "*",
        "",
        "--x=;rm -rf /",
        "нові\nрядки",
    ];
    let bench = Bench::new();
    let echo = bench.program("echo", "for a in \"$@\"; do printf '<%s>' \"$a\"; done");
    let command: Vec<&str> = std::iter::once(echo.as_str()).chain(odd).collect();
    let expected: String = odd.iter().map(|part| format!("<{part}>")).collect();
    assert_eq!(
        run(&command, json!({})).await.unwrap().output,
        json!({"text": expected})
    );
}

#[tokio::test]
async fn the_environment_is_withheld_and_the_folder_is_empty_and_removed() {
    let reply = run(&["sh", "-c", "env; touch left; pwd; ls -a | tr '\\n' ' '"], json!({}))
        .await
        .unwrap();
    let text = reply.output["text"].as_str().unwrap().to_owned();
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !text.contains("CARGO_MANIFEST_DIR"),
        "{text}"
    );
    assert!(text.contains("PATH="), "{text}");
    assert!(text.ends_with(". .. left "), "{text}");
    let folder = text.lines().rev().nth(1).unwrap();
    assert!(!std::path::Path::new(folder).exists(), "{folder} is there still");
}

#[tokio::test]
async fn a_failed_command_tells_its_code_and_the_end_of_its_standard_error() {
    let command = "i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; echo 'the reason' >&2; exit 3";
    let problem = run(&["sh", "-c", command], json!({})).await.unwrap_err();
    assert!(problem.is(Code::ToolFailed));
    assert!(problem.detail.contains("exit status: 3: …"), "{problem}");
    assert!(problem.detail.ends_with("line 1999\nthe reason"), "{problem}");
    assert!(problem.detail.len() < 5000);
}

#[tokio::test]
async fn a_command_that_cannot_start_says_what_to_do() {
    let missing = run(&["no-such-program-here"], json!({})).await.unwrap_err();
    assert!(
        missing.detail.contains("no program `no-such-program-here`"),
        "{missing}"
    );
    assert!(missing.next.unwrap().contains("script.command"));
    let bench = Bench::new();
    let plain = bench.path("plain");
    std::fs::write(&plain, "#!/bin/sh\n").unwrap();
    let refused = run(&[plain.to_str().unwrap()], json!({})).await.unwrap_err();
    assert!(refused.next.unwrap().contains("chmod +x"));
    assert!(run(&["./here"], json!({})).await.unwrap_err().is(Code::AgentInvalid));
    assert!(run(&[], json!({})).await.unwrap_err().is(Code::AgentInvalid));
}

#[tokio::test]
async fn large_input_and_large_output_do_not_wait_for_each_other() {
    let input = json!({"text": "x".repeat(3 * MUCH)});
    let reply = run_script(&script(&["cat"]), &input, LONG, 4 * MUCH).await.unwrap();
    assert_eq!(reply.output, input);
    let unread = run(&["printf", "done"], input).await.unwrap();
    assert_eq!(unread.output, json!({"text": "done"}));
}

#[tokio::test]
async fn too_much_output_ends_the_command() {
    let bench = Bench::new();
    let endless = bench.program(
        "endless",
        "echo $$ > $bench/pid; while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done",
    );
    let problem = run_script(&script(&[&endless]), &json!({}), LONG, 4096)
        .await
        .unwrap_err();
    assert!(
        problem.is(Code::ToolFailed) && problem.detail.contains("output limit of 4096 bytes"),
        "{problem}"
    );
    assert!(!runs(bench.pid("pid").await));
    let exact = run_script(&script(&["printf", "1234"]), &json!({}), LONG, 4)
        .await
        .unwrap();
    assert_eq!(exact.output, json!(1234));
    assert!(
        run_script(&script(&["printf", "12345"]), &json!({}), LONG, 4)
            .await
            .is_err()
    );
}

/// A child that ignores SIGTERM, in the background.
const STUBBORN: &str = "sh -c 'trap \"\" TERM; echo $$ > \"$0\"; while :; do sleep 1; done' $bench/grandchild &\n";

#[tokio::test]
async fn a_timeout_ends_the_whole_group() {
    let bench = Bench::new();
    let hang = bench.program("hang", &format!("{STUBBORN}echo $$ > $bench/child\nwait"));
    let mut slow = script(&[&hang]);
    slow.timeout = Some(Span(Duration::from_secs(2)));
    let problem = run_script(&slow, &json!({}), LONG, MUCH).await.unwrap_err();
    assert!(
        problem.is(Code::Timeout) && problem.detail.contains("its timeout, 2s"),
        "{problem}"
    );
    assert!(!runs(bench.pid("child").await), "the child is there still");
    assert!(!runs(bench.pid("grandchild").await), "the grandchild is there still");
}

#[tokio::test]
async fn a_dropped_call_ends_the_whole_group() {
    let bench = Bench::new();
    let hang = bench.program(
        "hang",
        &format!("pwd > $bench/folder\n{STUBBORN}echo $$ > $bench/child\nwait"),
    );
    let command = script(&[&hang]);
    let input = json!({});
    let (child, grandchild) = tokio::select! {
        ended = run_script(&command, &input, LONG, MUCH) => panic!("it ended by itself: {ended:?}"),
        pids = async { (bench.pid("child").await, bench.pid("grandchild").await) } => pids,
    };
    mesh_testkit::wait_until(LONG, async || !runs(child) && !runs(grandchild)).await;
    let folder = bench.noted("folder");
    mesh_testkit::wait_until(LONG, async || !std::path::Path::new(folder.trim()).exists()).await;
}

#[tokio::test]
async fn nothing_in_the_background_outlives_the_answer() {
    let bench = Bench::new();
    let body = format!("{STUBBORN}until [ -s $bench/grandchild ]; do :; done\nprintf '{{\"ok\":true}}'");
    let command = bench.program("leaves", &body);
    let since = Instant::now();
    let reply = run(&[&command], json!({})).await.unwrap();
    assert_eq!(reply.output, json!({"ok": true}));
    assert!(!runs(bench.pid("grandchild").await));
    assert!(since.elapsed() < LONG / 2);
}

#[tokio::test]
async fn a_process_gets_no_more_memory_than_its_limit() {
    let mut hog = script(&["sh", "-c", "head -c 300000000 /dev/zero | tail"]);
    hog.memory = Some("64MB".to_owned());
    let problem = run_script(&hog, &json!({}), LONG, MUCH).await.unwrap_err();
    assert!(problem.is(Code::ToolFailed), "{problem}");
    assert!(problem.next.unwrap().contains("raise `memory`"));
    hog.memory = Some("64 parsecs".to_owned());
    assert!(
        run_script(&hog, &json!({}), LONG, MUCH)
            .await
            .unwrap_err()
            .is(Code::AgentInvalid)
    );
}

#[tokio::test]
async fn the_kernel_knows_the_limit_before_the_input_comes() {
    let mut asks = script(&["sh", "-c", "cat >/dev/null; ulimit -d; ulimit -H -d"]);
    asks.memory = Some("64MB".to_owned());
    let reply = run_script(&asks, &json!({}), LONG, MUCH).await.unwrap();
    assert_eq!(reply.output, json!({"text": "65536\n65536"}));
}

#[tokio::test]
async fn the_memory_of_a_group_is_summed_up() {
    let bench = Bench::new();
    let keep = "(head -c 40000000 /dev/zero; exec sleep 300) | tail >/dev/null &\n";
    let body = format!("{keep}{keep}{keep}echo $$ > $bench/pid\nwait");
    let mut hog = script(&[&bench.program("hogs", &body)]);
    hog.memory = Some("80MB".to_owned());
    let problem = run_script(&hog, &json!({}), LONG, MUCH).await.unwrap_err();
    assert!(problem.detail.contains("more than its memory limit, 80MB"), "{problem}");
    assert!(!runs(bench.pid("pid").await));
}
