//! How the command line of each agent is started, fed, read and continued: values only; `cli` and `transcript`
//! interpret them. Each follows what the program's maintainers document for use without a terminal.

/// All of them take the prompt on standard input (no argument is too long or looks like an option), print one JSON
/// object a line, and end at SIGTERM.
pub(super) struct Driver {
    /// As in `cli.driver`, and the provider that answers name.
    pub(super) name: &'static str,
    pub(super) executable: &'static str,
    /// What to do when it is not there.
    pub(super) install: &'static str,
    /// Arguments before those of the agent.
    pub(super) start: &'static [&'static str],
    /// After them, in a new conversation; `{session}` is a UUID that we choose.
    pub(super) begin: &'static [&'static str],
    /// After them, to go on with a conversation; `{session}` is its id.
    pub(super) resume: &'static [&'static str],
    /// The last arguments.
    pub(super) end: &'static [&'static str],
    /// Variables it is configured with.
    pub(super) env: &'static [&'static str],
    pub(super) session: SessionId,
    /// It finds a conversation only in the folder where it began.
    pub(super) keeps_folder: bool,
    /// All that hold apply, in this order. Lines that no rule knows are ignored.
    pub(super) rules: &'static [Rule],
}

/// Shape of the ids that it gives its conversations. Another id is not one of its own.
#[derive(Clone, Copy)]
pub(super) enum SessionId {
    Uuid,
    /// Date, time and some letters: `20261008_145451_695a4d`.
    Stamp,
}

/// `what` is at `at` (a JSON pointer) in lines where all of `when` holds.
pub(super) struct Rule {
    pub(super) when: &'static [(&'static str, Is)],
    pub(super) what: What,
    pub(super) at: &'static str,
}

pub(super) enum Is {
    Text(&'static str),
    NotText(&'static str),
    True,
    NotZero,
    /// Missing or null.
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A piece of what the agent says.
    Delta,
    /// A whole message: a string, or an array of blocks of which those of type `text` count. Ignored where deltas
    /// came, as they were the same text.
    Message,
    /// What follows is another message.
    Break,
    /// The answer, at the end.
    Answer,
    Session,
    /// Those of one line are added up; a later line replaces them, as these programs count up.
    TokensIn,
    TokensOut,
    CostUsd,
    /// The end was reached.
    Done,
    /// The run failed, with this message; the first one found counts.
    Failed,
    /// Said on the way; only tells why when the run fails.
    Warning,
}

impl Driver {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        DRIVERS.iter().find(|driver| driver.name == name)
    }

    pub(super) fn names() -> String {
        DRIVERS.iter().map(|driver| driver.name).collect::<Vec<_>>().join(", ")
    }
}

impl SessionId {
    pub(super) fn fits(self, id: &str) -> bool {
        match self {
            Self::Uuid => id.len() == 36 && uuid::Uuid::try_parse(id).is_ok(),
            Self::Stamp => {
                let is_number =
                    |part: &str, digits| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
                let is_plain = |part: &str| {
                    (1..=32).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
                };
                let parts: Vec<&str> = id.split('_').collect();
                matches!(parts[..], [date, time, rest] if is_number(date, 8) && is_number(time, 6) && is_plain(rest))
            }
        }
    }
}

pub(super) static DRIVERS: [Driver; 3] = [CODEX, CLAUDE_CODE, HERMES_AGENT];

/// <https://developers.openai.com/codex/noninteractive>: `codex exec --json`. It has no deltas: each message comes
/// whole. `error` lines are also printed when a lost connection is tried again.
const CODEX: Driver = Driver {
    name: "codex",
    executable: "codex",
    install: "install it (npm install -g @openai/codex) and sign in (codex login) where the agent runs, or set \
              `cli.executable`",
    start: &["exec", "--json", "--skip-git-repo-check"],
    begin: &[],
    resume: &["resume", "{session}"],
    end: &["-"],
    env: &[
        "CODEX_HOME",
        "CODEX_API_KEY",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
    ],
    session: SessionId::Uuid,
    keeps_folder: false,
    rules: &[
        rule(&[type_is("thread.started")], What::Session, "/thread_id"),
        rule(
            &[type_is("item.completed"), ("/item/type", Is::Text("agent_message"))],
            What::Message,
            "/item/text",
        ),
        rule(&[type_is("turn.completed")], What::TokensIn, "/usage/input_tokens"),
        rule(&[type_is("turn.completed")], What::TokensOut, "/usage/output_tokens"),
        rule(&[type_is("turn.completed")], What::Done, ""),
        rule(&[type_is("turn.failed")], What::Failed, "/error/message"),
        rule(&[type_is("error")], What::Warning, "/message"),
    ],
};

const CLAUDE_FAILED: &[(&str, Is)] = &[type_is("result"), ("/subtype", Is::NotText("success"))];
const CLAUDE_SPEAKS: (&str, Is) = ("/parent_tool_use_id", Is::Absent);

/// <https://code.claude.com/docs/en/headless>: `claude -p --output-format stream-json`, which asks for `--verbose`.
/// Lines with a parent are those of its own helpers. Input tokens leave cached ones out, which are paid too.
const CLAUDE_CODE: Driver = Driver {
    name: "claude-code",
    executable: "claude",
    install: "install it (npm install -g @anthropic-ai/claude-code) and sign in where the agent runs, or set \
              `cli.executable`",
    start: &[
        "-p",
        "--output-format",
        "stream-json",
        "--verbose",
        "--include-partial-messages",
    ],
    begin: &["--session-id", "{session}"],
    resume: &["--resume", "{session}"],
    end: &[],
    env: &[
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_MODEL",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CONFIG_DIR",
        "USER",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "NODE_EXTRA_CA_CERTS",
    ],
    session: SessionId::Uuid,
    keeps_folder: true,
    rules: &[
        rule(
            &[type_is("system"), ("/subtype", Is::Text("init"))],
            What::Session,
            "/session_id",
        ),
        rule(
            &[
                type_is("stream_event"),
                CLAUDE_SPEAKS,
                ("/event/type", Is::Text("message_start")),
            ],
            What::Break,
            "",
        ),
        rule(
            &[
                type_is("stream_event"),
                CLAUDE_SPEAKS,
                ("/event/delta/type", Is::Text("text_delta")),
            ],
            What::Delta,
            "/event/delta/text",
        ),
        rule(
            &[type_is("assistant"), CLAUDE_SPEAKS],
            What::Message,
            "/message/content",
        ),
        rule(&[type_is("result")], What::Session, "/session_id"),
        rule(
            &[type_is("result"), ("/subtype", Is::Text("success"))],
            What::Answer,
            "/result",
        ),
        rule(&[type_is("result")], What::TokensIn, "/usage/input_tokens"),
        rule(
            &[type_is("result")],
            What::TokensIn,
            "/usage/cache_creation_input_tokens",
        ),
        rule(&[type_is("result")], What::TokensIn, "/usage/cache_read_input_tokens"),
        rule(&[type_is("result")], What::TokensOut, "/usage/output_tokens"),
        rule(&[type_is("result")], What::CostUsd, "/total_cost_usd"),
        rule(&[type_is("result"), ("/is_error", Is::True)], What::Failed, "/result"),
        rule(CLAUDE_FAILED, What::Failed, "/errors/0"),
        rule(CLAUDE_FAILED, What::Failed, "/subtype"),
        rule(&[type_is("result")], What::Done, ""),
    ],
};

const HERMES_FAILED: &[(&str, Is)] = &[type_is("result"), ("/exit_code", Is::NotZero)];

/// <https://hermes-agent.nousresearch.com/docs/reference/cli-commands>: `hermes chat --format stream-json` (its issue
/// 90411). It does not say what a run costs. `--source tool` keeps it out of people's lists of conversations.
const HERMES_AGENT: Driver = Driver {
    name: "hermes-agent",
    executable: "hermes",
    install: "install Hermes Agent and set it up (hermes setup) where the agent runs, or set `cli.executable`",
    start: &["chat", "--format", "stream-json", "--source", "tool"],
    begin: &[],
    resume: &["--resume", "{session}"],
    end: &["--query-file", "-"],
    env: &[
        "HERMES_HOME",
        "HERMES_INFERENCE_MODEL",
        "OPENROUTER_API_KEY",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "ANTHROPIC_API_KEY",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
    ],
    session: SessionId::Stamp,
    keeps_folder: false,
    rules: &[
        rule(
            &[type_is("system"), ("/subtype", Is::Text("init"))],
            What::Session,
            "/session_id",
        ),
        rule(&[type_is("text")], What::Delta, "/text"),
        rule(&[type_is("tool_use")], What::Break, ""),
        rule(&[type_is("result")], What::Session, "/session_id"),
        rule(&[type_is("result")], What::TokensIn, "/tokens/input"),
        rule(&[type_is("result")], What::TokensIn, "/tokens/cache_read"),
        rule(&[type_is("result")], What::TokensIn, "/tokens/cache_write"),
        rule(&[type_is("result")], What::TokensOut, "/tokens/output"),
        rule(HERMES_FAILED, What::Failed, "/error"),
        rule(HERMES_FAILED, What::Failed, "/text"),
        rule(&[type_is("result")], What::Answer, "/text"),
        rule(&[type_is("result")], What::Done, ""),
    ],
};

const fn rule(when: &'static [(&'static str, Is)], what: What, at: &'static str) -> Rule {
    Rule { when, what, at }
}

const fn type_is(name: &'static str) -> (&'static str, Is) {
    ("/type", Is::Text(name))
}
