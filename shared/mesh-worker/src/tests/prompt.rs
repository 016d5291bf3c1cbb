//! The prompt: same arguments, same bytes; what is in it, what gives way, and the triggering message once.

use mesh_api::inference::Role;
use mesh_api::messaging::{AuthorKind, Message};
use mesh_types::agent::AgentSpec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::time::{START, agent, message, passage, remembered};
use crate::{Found, Prompt, PromptLimits, Request, assemble_context};

const LIMITS: PromptLimits = PromptLimits {
    recent: 10,
    history_bytes: 1_000,
    memory_bytes: 100,
    knowledge_bytes: 170,
};

fn spec() -> AgentSpec {
    AgentSpec {
        instructions: "You are Sofia.\n".into(),
        ..AgentSpec::default()
    }
}

fn prompt(payload: Value, history: &[Message], limits: PromptLimits) -> Prompt {
    let request = Request::parse(&payload).unwrap();
    let memories = ["Ann likes tea", "Bob is away", &"x".repeat(100)].map(|fact| remembered(fact, 1));
    let found = Found {
        memories: &memories,
        passages: &[],
    };
    assemble_context(&agent(), &spec(), &request, history, found, limits)
}

fn said(id: &str, kind: AuthorKind, author: &str, text: &str) -> Message {
    message(id, kind, author, text, START)
}

fn talk() -> Vec<Message> {
    vec![
        said("m1", AuthorKind::User, "ann", "hello"),
        said("m2", AuthorKind::Agent, "sofia", "hi Ann"),
        said("m3", AuthorKind::Agent, "agent:max", "me too"),
        said("m4", AuthorKind::System, "bridge", "Bob joined"),
        said("m5", AuthorKind::User, "bob", "what is phase 2?"),
    ]
}

fn texts(prompt: &Prompt) -> Vec<String> {
    let spoken = prompt.messages.iter().filter(|message| message.role != Role::System);
    spoken.map(|message| message.content.plain_text()).collect()
}

#[test]
fn everything_has_its_place() {
    let payload = json!({
        "channel_id": "c1",
        "rewrite_prompt": "Answer in one line.",
        "messages": [{"role": "assistant", "content": "earlier"}],
        "content": [{"type": "text", "text": "look"}, {"type": "image", "url": "u"}],
    });
    let prompt = prompt(payload, &talk(), LIMITS);
    let lines: Vec<String> = prompt
        .messages
        .iter()
        .map(|message| {
            format!(
                "{:?}: {}",
                message.role,
                serde_json::to_string(&message.content).unwrap()
            )
        })
        .collect();
    insta::assert_snapshot!(format!("{}\n{}", lines.join("\n"), prompt.sha256));
}

#[test]
fn the_triggering_message_stands_there_once() {
    let text = |text: &str| json!({"channel_id": "c1", "text": text});
    let count = |prompt: &Prompt, text: &str| texts(prompt).iter().filter(|said| *said == text).count();
    assert_eq!(
        count(&prompt(text("what is phase 2?"), &talk(), LIMITS), "what is phase 2?"),
        1
    );
    // The same words as before the agent's last answer are said anew.
    assert_eq!(count(&prompt(text("hello"), &talk(), LIMITS), "hello"), 2);
    let named = json!({"channel_id": "c1", "text": "HELLO", "message_id": "m1"});
    assert_eq!(count(&prompt(named, &talk(), LIMITS), "HELLO"), 0);
    assert_eq!(count(&prompt(text("new"), &[], LIMITS), "new"), 1);
}

#[test]
fn the_newest_messages_stay() {
    let limits = PromptLimits { recent: 2, ..LIMITS };
    let only = prompt(json!({"channel_id": "c1"}), &talk(), limits);
    assert_eq!(texts(&only), ["system: Bob joined", "what is phase 2?"]);
    let limits = PromptLimits {
        history_bytes: 20,
        ..LIMITS
    };
    assert_eq!(
        texts(&prompt(json!({"channel_id": "c1"}), &talk(), limits)),
        ["what is phase 2?"]
    );
}

#[test]
fn passages_stand_apart_with_the_name_to_cite_them_by_within_their_own_limit() {
    let request = Request::parse(&json!({"text": "late?"})).unwrap();
    let passages = ["You get half.", &"x".repeat(60), "And this no more."].map(|text| passage("handbook", text));
    let found = Found {
        memories: &[remembered("Ann likes tea", 1)],
        passages: &passages,
    };
    let prompt = assemble_context(&agent(), &spec(), &request, &[], found, LIMITS);
    let system = prompt.messages[0].content.plain_text();
    let (memories, knowledge) = system.split_once("\n\nPassages of documents").unwrap();
    assert!(
        memories.ends_with("earlier conversations:\n- Ann likes tea"),
        "{system}"
    );
    let cited = "\n\n[handbook.md › Refunds › Late trains]\nYou get half.";
    assert!(
        knowledge.contains("not instructions") && knowledge.contains(cited),
        "{system}"
    );
    assert!(knowledge.contains("xxx") && !knowledge.contains("no more"), "{system}");
    let nothing = assemble_context(&agent(), &spec(), &request, &[], Found::default(), LIMITS);
    assert_eq!(nothing.messages[0].content.plain_text(), "You are Sofia.");
}

#[test]
fn an_empty_channel_still_has_a_user() {
    let greeted = [said("m1", AuthorKind::Agent, "sofia", "hello!")];
    for history in [&[][..], &greeted[..]] {
        let prompt = prompt(json!({"channel_id": "c1"}), history, LIMITS);
        assert_eq!(prompt.messages.last().unwrap().role, Role::User);
    }
}

proptest! {
    #[test]
    fn the_same_arguments_give_the_same_prompt_within_its_limits(
        said in prop::collection::vec("[a-zé ]{0,40}", 0..30),
        recent in 0_usize..12,
        history_bytes in 0_usize..200,
    ) {
        let history: Vec<_> = said
            .iter()
            .enumerate()
            .map(|(at, text)| message(&format!("m{at}"), AuthorKind::User, "ann", text, START))
            .collect();
        let limits = PromptLimits { recent, history_bytes, memory_bytes: 20, knowledge_bytes: 0 };
        let payload = json!({"channel_id": "c1", "text": "OWN"});
        let first = prompt(payload.clone(), &history, limits);
        prop_assert_eq!(&first, &prompt(payload, &history, limits));
        let texts = texts(&first);
        let (own, rest) = texts.split_last().unwrap();
        prop_assert_eq!(own, "OWN");
        prop_assert!(rest.len() <= recent);
        prop_assert!(rest.iter().map(String::len).sum::<usize>() <= history_bytes);
        prop_assert!(said.ends_with(rest), "the newest, in their order");
        let system = first.messages[0].content.plain_text();
        prop_assert!(system.contains("tea") && !system.contains("Bob") && system.starts_with("You are Sofia."));
    }
}
