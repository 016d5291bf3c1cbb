//! What a start shows while it works: a spinner on a terminal, lines otherwise.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use mesh_servers::Progress;

const TICK: Duration = Duration::from_millis(120);
/// A line without a terminal at most each so many bytes.
const LINE_BYTES: u64 = 8 * 1024 * 1024;

/// Clones show the same.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    bar: Option<ProgressBar>,
    step: String,
    told_bytes: u64,
}

impl Report {
    pub(crate) fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a tested template");
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, step: String::new(), told_bytes: 0 }
    }

    /// What happens now.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => eprintln!("{text}"),
        }
    }

    /// Nothing more will be shown.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
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
        let is_due = self.bar.is_some() || done >= self.told_bytes + LINE_BYTES;
        if !is_due {
            return;
        }
        self.told_bytes = done;
        let total = total.map(|total| format!(" of {}", HumanBytes(total))).unwrap_or_default();
        self.say(&format!("{}: {}{total}", self.step, HumanBytes(done)));
    }
}
