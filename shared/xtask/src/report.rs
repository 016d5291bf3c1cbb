//! Progress for a person at a terminal (a bar) and for a log (a line every few seconds).

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use mesh_servers::Progress;

/// How often a log hears that work goes on.
const LINE_EVERY: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(120);

/// One piece of work with a known or unknown end.
#[derive(Debug)]
pub(crate) struct Report {
    bar: Option<ProgressBar>,
    title: String,
    began: Instant,
    last_line: Instant,
    done: u64,
    total: u64,
}

impl Report {
    /// Of `total` pieces; 0 when nobody knows.
    pub(crate) fn new(title: &str, total: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let template = if total == 0 {
                "{spinner} {prefix} {msg} ({elapsed})"
            } else {
                "{prefix} [{bar:30}] {pos}/{len} {elapsed}, {eta} left {wide_msg}"
            };
            let style = ProgressStyle::with_template(template).expect("a tested template");
            let bar = ProgressBar::new(total).with_style(style.progress_chars("=> "));
            bar.set_prefix(title.to_owned());
            bar.enable_steady_tick(TICK);
            bar
        });
        let now = Instant::now();
        if bar.is_none() {
            eprintln!("{title} …");
        }
        Self {
            bar,
            title: title.to_owned(),
            began: now,
            last_line: now,
            done: 0,
            total,
        }
    }

    /// One piece is done; `what` is the piece.
    pub(crate) fn advance(&mut self, what: &str) {
        self.done += 1;
        // The total is an estimate: never show more than all.
        self.total = self.total.max(self.done + 1);
        if let Some(bar) = &self.bar {
            bar.set_length(self.total);
            bar.set_position(self.done);
        }
        self.say(what);
    }

    /// What happens now.
    pub(crate) fn say(&mut self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                eprintln!("{}", self.line(what, self.began.elapsed()));
            }
            None => {}
        }
    }

    /// A line that stays.
    pub(crate) fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// How many pieces there were.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    fn line(&self, what: &str, elapsed: Duration) -> String {
        let began = HumanDuration(Duration::from_secs(elapsed.as_secs()));
        let counted = (self.total > 0).then(|| format!(" {}/{}", self.done, self.total));
        let left = (self.done > 0 && self.total > self.done).then(|| {
            let each = elapsed.as_secs_f64() / as_float(self.done);
            let left = Duration::from_secs_f64(each * as_float(self.total - self.done));
            format!(", about {} left", HumanDuration(Duration::from_secs(left.as_secs())))
        });
        let (counted, left) = (counted.unwrap_or_default(), left.unwrap_or_default());
        format!("{}{counted}: {what} ({began:#}{left})", self.title)
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Report {
    fn step(&mut self, text: &str) {
        match self.bar {
            Some(_) => self.say(text),
            None => eprintln!("{}: {text}", self.title),
        }
    }

    fn bytes(&mut self, done: u64, _total: Option<u64>) {
        self.say(&HumanBytes(done).to_string());
    }
}

/// Counts of crates and seconds are far below what a float can hold.
fn as_float(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_it_is_and_how_long_it_takes() {
        let mut report = Report::new("building", 100);
        report.done = 25;
        let line = report.line("serde", Duration::from_secs(60));
        assert!(
            line.starts_with("building 25/100: serde (60s, about 3 minutes left"),
            "{line}"
        );
    }

    #[test]
    fn an_estimate_that_was_too_low_grows() {
        let mut report = Report::new("building", 2);
        for _ in 0..5 {
            report.advance("x");
        }
        assert!(report.done() == 5 && report.total > 5);
    }
}
