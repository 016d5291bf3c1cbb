//! Failpoints: named places where a test may kill, freeze, delay or fail this process. One relaxed load when unarmed.
//!
//! `fail_point!("execution.commit.before")` marks a place; `MESH_FAILPOINTS` arms places by name; the file in
//! `MESH_FAILPOINT_HITS` gets a line when a place is hit for the 1st, 2nd, 4th, 8th … time and whenever something is
//! done there, so that it survives a kill. Who runs the test takes the list of places from the sources.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

static IS_ARMED: AtomicBool = AtomicBool::new(false);
static ARMED: OnceLock<Armed> = OnceLock::new();

/// Marks a place. With `async`, a delay waits without holding up the thread. With a second argument, the action
/// `error` returns `Err` of it from the surrounding function; without, it does nothing there.
#[macro_export]
macro_rules! fail_point {
    (async $name:literal) => {
        if $crate::failpoint::is_armed() {
            let _ = $crate::failpoint::pass($name).await;
        }
    };
    (async $name:literal, $error:expr) => {
        if $crate::failpoint::is_armed() && $crate::failpoint::pass($name).await == $crate::failpoint::Fate::Fail {
            return Err($error);
        }
    };
    ($name:literal) => {
        if $crate::failpoint::is_armed() {
            let _ = $crate::failpoint::pass_blocking($name);
        }
    };
    ($name:literal, $error:expr) => {
        if $crate::failpoint::is_armed() && $crate::failpoint::pass_blocking($name) == $crate::failpoint::Fate::Fail {
            return Err($error);
        }
    };
}

/// What the place does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    GoOn,
    Fail,
}

/// `MESH_FAILPOINTS` or `MESH_FAILPOINT_HITS` say something that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum FailpointError {
    #[error("failpoint `{item}`: {reason}")]
    Spec { item: String, reason: &'static str },
    #[error("the file of failpoint hits cannot be opened")]
    Hits(#[source] std::io::Error),
    #[error("failpoints are armed already")]
    Armed,
}

/// Arms this process, once. `spec` is `place=action[@nth|%probability];…`, where an action is `abort` (SIGKILL),
/// `stop(ms)` (SIGSTOP; whoever armed it sends SIGCONT after so long), `delay(ms)`, `error` or `panic`; an item
/// `seed=n` decides the draws. Neither given: nothing happens.
///
/// # Errors
/// A spec that cannot be read, a file that cannot be written, a second call.
pub fn arm(spec: Option<&str>, hits: Option<&Path>) -> Result<(), FailpointError> {
    if spec.is_none() && hits.is_none() {
        return Ok(());
    }
    let armed = Armed::new(spec.unwrap_or_default(), hits)?;
    ARMED.set(armed).map_err(|_| FailpointError::Armed)?;
    IS_ARMED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether any place may do anything.
#[inline]
pub fn is_armed() -> bool {
    IS_ARMED.load(Ordering::Relaxed)
}

/// A hit in asynchronous code; see [`fail_point!`].
pub async fn pass(name: &'static str) -> Fate {
    match ARMED.get().and_then(|armed| armed.hit(name)) {
        Some(Action::Delay(ms)) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Fate::GoOn
        }
        other => act(name, other),
    }
}

/// A hit elsewhere: a delay holds up the thread.
pub fn pass_blocking(name: &'static str) -> Fate {
    let action = ARMED.get().and_then(|armed| armed.hit(name));
    if let Some(Action::Delay(ms)) = action {
        std::thread::sleep(Duration::from_millis(ms));
    }
    act(name, action)
}

fn act(name: &str, action: Option<Action>) -> Fate {
    match action {
        None | Some(Action::Delay(_)) => Fate::GoOn,
        Some(Action::Error) => Fate::Fail,
        // The point of it: a panic in the middle of what is done there.
        Some(Action::Panic) => panic!("failpoint {name}"),
        Some(Action::Stop(_)) => {
            // To oneself: nothing can refuse it.
            let _ = kill(Pid::this(), Signal::SIGSTOP);
            Fate::GoOn
        }
        Some(Action::Abort) => {
            let _ = kill(Pid::this(), Signal::SIGKILL);
            std::process::abort()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Abort,
    Stop(u64),
    Delay(u64),
    Error,
    Panic,
}

impl FromStr for Action {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (word, ms) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            Some((word, ms)) => (word, Some(ms.parse().map_err(|_| "milliseconds are a number")?)),
            None => (text, None),
        };
        match (word, ms) {
            ("abort", None) => Ok(Self::Abort),
            ("error", None) => Ok(Self::Error),
            ("panic", None) => Ok(Self::Panic),
            ("stop", Some(ms)) => Ok(Self::Stop(ms)),
            ("delay", Some(ms)) => Ok(Self::Delay(ms)),
            _ => Err("an action is abort, error, panic, stop(ms) or delay(ms)"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    Always,
    Nth(u64),
    Drawn(f64),
}

#[derive(Debug)]
struct Rule {
    action: Action,
    when: When,
}

#[derive(Debug)]
struct Armed {
    seed: u64,
    rules: BTreeMap<String, Vec<Rule>>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    hits: BTreeMap<&'static str, u64>,
    file: Option<File>,
}

impl Armed {
    fn new(spec: &str, hits: Option<&Path>) -> Result<Self, FailpointError> {
        let (mut seed, mut rules) = (0, BTreeMap::<String, Vec<Rule>>::new());
        for item in spec.split(';').map(str::trim).filter(|item| !item.is_empty()) {
            let wrong = |reason| FailpointError::Spec {
                item: item.to_owned(),
                reason,
            };
            let (name, what) = item
                .split_once('=')
                .ok_or_else(|| wrong("must be `place=action` or `seed=n`"))?;
            if name == "seed" {
                seed = what.parse().map_err(|_| wrong("a seed is a number"))?;
                continue;
            }
            rules
                .entry(name.to_owned())
                .or_default()
                .push(parse_rule(what).map_err(wrong)?);
        }
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        let file = hits.map(open).transpose().map_err(FailpointError::Hits)?;
        Ok(Self {
            seed,
            rules,
            kept: Mutex::new(Kept {
                hits: BTreeMap::new(),
                file,
            }),
        })
    }

    /// Counts, and answers what is to be done.
    fn hit(&self, name: &'static str) -> Option<Action> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let hits = kept.hits.entry(name).or_default();
        *hits += 1;
        let nth = *hits;
        let is_due = |rule: &&Rule| match rule.when {
            When::Always => true,
            When::Nth(wanted) => nth == wanted,
            When::Drawn(probability) => draw(self.seed, name, nth) < probability,
        };
        let rule = self.rules.get(name).and_then(|rules| rules.iter().find(is_due));
        let action = rule.map(|rule| rule.action);
        if let Some(file) = kept.file.as_mut().filter(|_| action.is_some() || nth.is_power_of_two()) {
            let done = action.map_or_else(|| "-".to_owned(), |action| format!("{action:?}").to_lowercase());
            // One write, so that lines of several processes do not mix. A line that cannot be written is missed there.
            let line = format!("{} {name} {nth} {done}\n", std::process::id());
            let _ = file.write_all(line.as_bytes());
        }
        action
    }
}

fn parse_rule(text: &str) -> Result<Rule, &'static str> {
    let (action, when) = if let Some((action, nth)) = text.split_once('@') {
        let nth = nth.parse().ok().filter(|nth| *nth > 0);
        (action, When::Nth(nth.ok_or("`@n` counts hits from 1")?))
    } else if let Some((action, probability)) = text.split_once('%') {
        let probability = probability.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        (action, When::Drawn(probability.ok_or("`%p` lies between 0 and 1")?))
    } else {
        (text, When::Always)
    };
    Ok(Rule {
        action: action.parse()?,
        when,
    })
}

/// Between 0 and 1, the same for the same seed, place and hit (SplitMix64's finaliser over an FNV-1a hash).
fn draw(seed: u64, name: &str, nth: u64) -> f64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut mixed = seed ^ hash.wrapping_add(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed(spec: &str) -> Armed {
        Armed::new(spec, None).unwrap()
    }

    #[test]
    fn the_nth_hit_acts_and_no_other() {
        let armed = armed("a.b=abort@3; a.b=delay(5)@4;c=error");
        let hits: Vec<_> = (0..5).map(|_| armed.hit("a.b")).collect();
        assert_eq!(hits, [None, None, Some(Action::Abort), Some(Action::Delay(5)), None]);
        assert_eq!(armed.hit("c"), Some(Action::Error));
        assert_eq!(armed.hit("unnamed"), None);
    }

    #[test]
    fn a_seed_repeats_its_draws_and_another_draws_others() {
        let run = |seed| {
            let armed = armed(&format!("a=stop(7)%0.25;seed={seed}"));
            (0..400).map(|_| armed.hit("a").is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let share = run(3).iter().filter(|acts| **acts).count();
        assert!((60..140).contains(&share), "{share} of 400 at a quarter");
    }

    #[test]
    fn a_spec_that_cannot_be_meant_is_refused_by_item() {
        for (spec, item) in [
            ("a", "a"),
            ("a=error;b=explode", "b=explode"),
            ("a=stop", "a=stop"),
            ("a=abort@0", "a=abort@0"),
            ("a=abort%1.5", "a=abort%1.5"),
            ("seed=x", "seed=x"),
        ] {
            let error = Armed::new(spec, None).unwrap_err().to_string();
            assert!(error.contains(&format!("`{item}`")), "{error}");
        }
    }

    #[test]
    fn hits_are_in_the_file_at_powers_of_two_and_when_something_was_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hits");
        let armed = Armed::new("a=delay(1)@5", Some(&path)).unwrap();
        for _ in 0..6 {
            armed.hit("a");
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(lines, ["a 1 -", "a 2 -", "a 4 -", "a 5 delay(1)"]);
    }

    async fn place() -> Result<u32, &'static str> {
        fail_point!(async "failpoint.test.delay");
        fail_point!("failpoint.test.error", "as armed");
        Ok(7)
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_does_what_its_process_was_armed_with() {
        assert_eq!(place().await, Ok(7));
        arm(
            Some("failpoint.test.delay=delay(900)@1;failpoint.test.error=error@2"),
            None,
        )
        .unwrap();
        let before = tokio::time::Instant::now();
        assert_eq!(place().await, Ok(7));
        assert_eq!(before.elapsed(), Duration::from_millis(900));
        assert_eq!(place().await, Err("as armed"));
        assert_eq!(place().await, Ok(7));
        assert!(matches!(arm(Some("a=abort"), None), Err(FailpointError::Armed)));
    }
}
