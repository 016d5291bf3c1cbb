//! The keyword answers that the replaced runtime gave (CONTRACT, "Model providers"), in our words.

use mesh_api::inference::{PromptMessage, Role};

/// Longest quote in an echo, in characters.
const QUOTE_CHARACTERS_MAX: usize = 400;

struct Rule {
    keyword: &'static str,
    answer: &'static str,
}

/// The first rule whose keyword the last user message holds answers; `?` and the echo come after all of them.
const RULES: &[Rule] = &[
    Rule {
        keyword: "привіт",
        answer: "Привіт! Рада вас бачити. Чим можу бути корисною?",
    },
    Rule {
        keyword: "hello",
        answer: "Hello! Good to see you. What can I do for you?",
    },
    Rule {
        keyword: "допомож",
        answer: "Ось чим я можу допомогти:\n- відповісти на запитання\n- переказати розмову каналу\n- згадати, \
                 про що ми говорили раніше\nПросто напишіть, що потрібно.",
    },
    Rule {
        keyword: "help",
        answer: "Here is what I can help with:\n- answer a question\n- sum up the talk of a channel\n- recall what \
                 we spoke about before\nJust write what you need.",
    },
    Rule {
        keyword: "дяку",
        answer: "Нема за що! Звертайтеся, щойно знадоблюся.",
    },
    Rule {
        keyword: "thank",
        answer: "You are welcome! Write again whenever you need me.",
    },
    Rule {
        keyword: "phase 2",
        answer: "Phase 2 gave agents a runtime of their own: an invocation arrives over NATS, the agent's declaration, \
                 the channel's history and its memories become one prompt, a model answers, and the answer goes back \
                 to the channel. This answer came that way, from the built-in mock model.",
    },
];

const QUESTION: &str = "That is a good question. I am the built-in mock model, so I have no knowledge of my own: \
                        configure a provider and ask me again.";

/// The answer to the last user message. Deterministic; case does not matter.
pub(super) fn reply(messages: &[PromptMessage]) -> String {
    let said = last_of(messages, Role::User).unwrap_or_default();
    let lower = said.to_lowercase();
    if let Some(rule) = RULES.iter().find(|rule| lower.contains(rule.keyword)) {
        return rule.answer.to_owned();
    }
    if lower.contains('?') {
        return QUESTION.to_owned();
    }
    echo(&said, messages)
}

fn echo(said: &str, messages: &[PromptMessage]) -> String {
    let earlier = messages
        .iter()
        .filter(|message| message.role != Role::System)
        .count()
        .saturating_sub(1);
    let system: Vec<String> = messages
        .iter()
        .filter(|message| message.role == Role::System)
        .map(|message| message.content.plain_text())
        .collect();
    let mut text = format!("I read: “{}”. I was given {earlier} earlier message(s)", quote(said));
    if system.is_empty() {
        text.push_str(" and no further context.");
    } else {
        text.push_str(&format!(" and this context: “{}”.", quote(&system.join("\n"))));
    }
    text
}

fn last_of(messages: &[PromptMessage], role: Role) -> Option<String> {
    messages
        .iter()
        .rev()
        .find(|message| message.role == role)
        .map(|message| message.content.plain_text())
}

/// Both ends of a long text: context ends with what was added last, such as memories.
fn quote(text: &str) -> String {
    let count = text.chars().count();
    if count <= QUOTE_CHARACTERS_MAX {
        return text.to_owned();
    }
    let half = QUOTE_CHARACTERS_MAX / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(count - half).collect();
    format!("{head} … {tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> String {
        reply(&[PromptMessage::new(Role::User, text)])
    }

    #[test]
    fn each_keyword_has_its_answer_whatever_its_case() {
        for (said, part) in [
            ("Привіт, Софіє", "Привіт!"),
            ("ПРИВІТ", "Привіт!"),
            ("Hello there", "Hello!"),
            ("Допоможи мені", "допомогти"),
            ("HELP", "Here is what I can help with"),
            ("Дякую", "Нема за що"),
            ("thanks a lot", "You are welcome"),
            ("What is Phase 2 about?", "Phase 2 gave agents"),
            ("How tall is it?", "good question"),
            ("just words", "“just words”"),
        ] {
            assert!(user(said).contains(part), "{said}: {}", user(said));
        }
    }

    #[test]
    fn the_last_user_message_decides() {
        let said = |role, text: &str| PromptMessage::new(role, text);
        let messages = [
            said(Role::User, "hello"),
            said(Role::Assistant, "help"),
            said(Role::User, "thank you"),
        ];
        assert!(reply(&messages).contains("welcome"));
    }

    #[test]
    fn the_echo_shows_the_context_it_was_given() {
        let said = |role, text: &str| PromptMessage::new(role, text);
        let long = format!("You are Sofia.{}What you remember: tea at five", " ".repeat(2_000));
        let text = reply(&[
            said(Role::System, &long),
            said(Role::Assistant, "hi"),
            said(Role::User, "so be it"),
        ]);
        assert!(text.contains("so be it") && text.contains("You are Sofia.") && text.contains("tea at five"));
        assert!(text.contains("1 earlier message"), "{text}");
        assert!(text.chars().count() < 1_000);
        assert!(reply(&[]).contains("no further context"));
    }
}
