//! How far a backup or a restore is: a bar on a terminal, a line for each stage otherwise, nothing for programs.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::Output;

#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    output: Output,
}

impl Bar {
    /// Of so many bytes; more than that is no harm.
    pub(super) fn new(output: Output, bytes: u64) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg:32!} {wide_bar} {bytes} of about {total_bytes}");
        let bar = if output.is_table() {
            ProgressBar::new(bytes)
        } else {
            ProgressBar::hidden()
        };
        Self {
            bar: bar.with_style(style.expect("a tested template")),
            output,
        }
    }

    /// So many bytes more are to come.
    pub(super) fn expect(&self, bytes: u64) {
        self.bar.set_length(self.bar.position() + bytes);
    }

    /// What begins now: told also where no bar can be drawn.
    pub(super) fn stage(&self, text: &str) {
        self.step(text);
        if self.output.is_table() && !stderr().is_terminal() {
            self.output.note(text);
        }
    }

    /// What is in hand within the stage.
    pub(super) fn step(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    pub(super) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        if self.bar.length().is_some_and(|length| length < self.bar.position()) {
            self.bar.set_length(self.bar.position());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
