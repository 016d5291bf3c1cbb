//! What a set of runs came to, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::checker::{Figures, Resume, Violation};
use crate::faults::points::Hits;
use crate::options::{Fault, Options};
use crate::planted;

/// Violations of one run that are shown one by one.
const SHOWN: usize = 20;
/// A shorter set need not pass every failpoint.
const POINTS_SECONDS: u64 = 120;

#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    pub seed: u64,
    pub seconds: f64,
    /// Faults by kind.
    pub injected: BTreeMap<String, u64>,
    /// Connections to Postgres that were cut.
    pub cuts: u64,
    /// What was done at failpoints.
    pub fired: BTreeMap<String, u64>,
    /// Ends of processes that nobody killed: by a failpoint, or by a bug.
    pub ended_themselves: Vec<String>,
    pub broken: Vec<String>,
    pub figures: Figures,
    pub violations: Vec<Violation>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub runs: Vec<RunReport>,
    pub planted: Option<String>,
    pub injections: u64,
    pub judged: usize,
    pub violations: usize,
    /// Failpoints in the sources.
    pub failpoints: Vec<String>,
    /// Those that no run passed; empty as long as the runs are too short to say.
    pub failpoints_missed: Vec<String>,
    /// Of the worst run, after deaths that were the only fault.
    pub resume_p50_ms: Option<u64>,
    pub resume_p99_ms: Option<u64>,
    #[serde(skip)]
    hits: Hits,
    #[serde(skip)]
    judges_points: bool,
}

impl Report {
    pub(crate) fn new(options: &Options, failpoints: Vec<String>) -> Self {
        let is_long = options.seconds.saturating_mul(options.seeds()) >= POINTS_SECONDS;
        Self {
            runs: Vec::new(),
            planted: options.planted.clone(),
            injections: 0,
            judged: 0,
            violations: 0,
            failpoints,
            failpoints_missed: Vec::new(),
            resume_p50_ms: None,
            resume_p99_ms: None,
            hits: Hits::default(),
            judges_points: is_long && options.allowed().contains(&Fault::Failpoint) && options.with.is_none(),
        }
    }

    pub(crate) fn add(&mut self, run: RunReport, hits: Hits) {
        self.injections += run.injected.values().sum::<u64>();
        self.judged += run.figures.judged;
        self.violations += run.violations.len();
        let resume = &run.figures.resume_undisturbed;
        self.resume_p50_ms = self.resume_p50_ms.max(resume.p50_ms);
        self.resume_p99_ms = self.resume_p99_ms.max(resume.p99_ms);
        self.hits.merge(hits);
        self.runs.push(run);
    }

    pub(crate) fn judge_points(&mut self) {
        if self.judges_points {
            let missed = self
                .failpoints
                .iter()
                .filter(|name| !self.hits.hits.contains_key(*name));
            self.failpoints_missed = missed.cloned().collect();
        }
    }

    /// Nothing wrong; of a planted bug: a rule that is for it has found it.
    pub fn is_good(&self) -> bool {
        match &self.planted {
            Some(name) => {
                let mut found = self.runs.iter().flat_map(|run| &run.violations);
                found.any(|violation| planted::is_caught_by(name, violation.rule))
            }
            None => self.violations == 0 && self.failpoints_missed.is_empty(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        writeln!(
            f,
            "{} runs: {} injections, {} invocations judged, {} violations; resumed after a death alone within p50 {}, p99 {} (worst run)",
            self.runs.len(),
            self.injections,
            self.judged,
            self.violations,
            ms(self.resume_p50_ms),
            ms(self.resume_p99_ms),
        )?;
        let passed = self
            .failpoints
            .iter()
            .filter(|name| self.hits.hits.contains_key(*name))
            .count();
        write!(f, "failpoints: {passed} of {} passed", self.failpoints.len())?;
        if !self.failpoints_missed.is_empty() {
            write!(f, "\nFAILED: no run passed {}", self.failpoints_missed.join(", "))?;
        }
        match &self.planted {
            None => Ok(()),
            Some(name) if self.is_good() => write!(f, "\nthe planted bug {name} was found"),
            Some(name) => write!(f, "\nFAILED: the planted bug {name} was not found"),
        }
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = &self.figures;
        let list = |counts: &BTreeMap<String, u64>| {
            let each: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            each.join(", ")
        };
        writeln!(f, "seed {}: {:.0} s", self.seed, self.seconds)?;
        writeln!(f, "  injected: {}; {} connections cut", list(&self.injected), self.cuts)?;
        if !self.fired.is_empty() {
            writeln!(f, "  at failpoints: {}", list(&self.fired))?;
        }
        writeln!(
            f,
            "  asked {}, accepted {}, judged {} with {} records; taken over {}; {} readers over {} connections",
            figures.asked,
            figures.accepted,
            figures.judged,
            figures.records,
            figures.taken_over,
            figures.readers,
            figures.reader_connections
        )?;
        writeln!(
            f,
            "  model called {} times, {} repeats ({} tokens); ledger called {} times",
            figures.model_calls, figures.model_repeats, figures.repeated_tokens, figures.ledger_calls
        )?;
        for (resume, when) in [
            (figures.resume, ""),
            (figures.resume_undisturbed, " while nothing else was wrong"),
            (figures.resume_of_node, " after a node's death"),
            (
                figures.resume_of_node_undisturbed,
                " after a node's death while nothing else was wrong",
            ),
        ] {
            if let Resume {
                count,
                p50_ms: Some(p50),
                p99_ms: Some(p99),
                max_ms: Some(max),
            } = resume
            {
                writeln!(
                    f,
                    "  resumed {count} times{when}: p50 {p50} ms, p99 {p99} ms, at most {max} ms"
                )?;
            }
        }
        for end in &self.ended_themselves {
            writeln!(f, "  ended by itself: {end}")?;
        }
        for broken in &self.broken {
            writeln!(f, "  the harness: {broken}")?;
        }
        for violation in self.violations.iter().take(SHOWN) {
            writeln!(f, "  VIOLATION {violation}")?;
        }
        if self.violations.len() > SHOWN {
            writeln!(f, "  … and {} more", self.violations.len() - SHOWN)?;
        }
        write!(f, "  {} violations", self.violations.len())
    }
}
