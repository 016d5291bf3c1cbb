//! What a start shows while it works: a spinner on a terminal, lines otherwise; in the background the log has it.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use mesh_servers::Progress;

const TICK: Duration = Duration::from_millis(120);
/// A line without a terminal at most each so many bytes.
const LINE_BYTES: u64 = 8 * 1024 * 1024;

#[derive(Debug, Clone)]
enum To {
    Terminal(ProgressBar),
    Lines,
    Log,
}

/// Clones show the same.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    to: To,
    step: String,
    told_bytes: u64,
}

impl Report {
    pub(crate) fn new() -> Self {
        if !stderr().is_terminal() {
            return Self::of(To::Lines);
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a tested template");
        let bar = ProgressBar::new_spinner().with_style(style);
        bar.enable_steady_tick(TICK);
        Self::of(To::Terminal(bar))
    }

    /// For a mesh whose stderr is its log.
    pub(crate) fn to_log() -> Self {
        Self::of(To::Log)
    }

    fn of(to: To) -> Self {
        Self {
            to,
            step: String::new(),
            told_bytes: 0,
        }
    }

    /// What happens now.
    pub(crate) fn say(&self, text: &str) {
        match &self.to {
            To::Terminal(bar) => bar.set_message(text.to_owned()),
            To::Lines => eprintln!("{text}"),
            To::Log => tracing::info!("{text}"),
        }
    }

    /// Nothing more will be shown.
    pub(crate) fn end(&self) {
        if let To::Terminal(bar) = &self.to {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Report {
    fn step(&mut self, text: &str) {
        text.clone_into(&mut self.step);
        self.told_bytes = 0;
        self.say(text);
    }

    fn bytes(&mut self, done: u64, total: Option<u64>) {
        let is_terminal = matches!(self.to, To::Terminal(_));
        let is_due = is_terminal || done >= self.told_bytes + LINE_BYTES;
        if !is_due {
            return;
        }
        self.told_bytes = done;
        let total = total
            .map(|total| format!(" of {}", HumanBytes(total)))
            .unwrap_or_default();
        self.say(&format!("{}: {}{total}", self.step, HumanBytes(done)));
    }
}
