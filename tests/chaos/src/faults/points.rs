//! The list of failpoints, taken from the sources, and what the processes say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

/// Written apart, so that this file is not found by its own search.
const CALL: &str = concat!("fail_point", "!(");

/// Every failpoint in the sources of services and shared crates, in order. Those of tests of the macro are no places.
pub(crate) fn in_sources(root: &Path) -> std::io::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for folder in ["services", "shared"] {
        search(&root.join(folder), &mut names)?;
    }
    Ok(names.into_iter().collect())
}

fn search(folder: &Path, names: &mut BTreeSet<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !["target", "node_modules", "ui", "dist", "tests"].contains(&name) {
                search(&path, names)?;
            }
        } else if name.ends_with(".rs") && name != "failpoint.rs" {
            names.extend(of_text(&std::fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

fn of_text(text: &str) -> Vec<String> {
    let calls = text.split(CALL).skip(1);
    let named = calls.filter_map(|rest| {
        rest.trim_start()
            .trim_start_matches("async")
            .trim_start()
            .strip_prefix('"')
    });
    named
        .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
        .collect()
}

/// What the processes wrote: hits by failpoint (a lower bound), and what was done there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Hits {
    pub(crate) hits: BTreeMap<String, u64>,
    pub(crate) fired: BTreeMap<String, u64>,
}

impl Hits {
    /// Lines `<pid> <name> <nth> <action or ->`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut highest: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        let mut fired = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [pid, name, nth, action] = words.as_slice() else {
                continue;
            };
            let of_process = highest.entry((pid, name)).or_default();
            *of_process = (*of_process).max(nth.parse().unwrap_or(0));
            if *action != "-" {
                *fired.entry(format!("{name}={action}")).or_default() += 1;
            }
        }
        let mut hits = BTreeMap::new();
        for ((_, name), count) in highest {
            *hits.entry(name.to_owned()).or_default() += count;
        }
        Self { hits, fired }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (name, count) in other.hits {
            *self.hits.entry(name).or_default() += count;
        }
        for (name, count) in other.fired {
            *self.fired.entry(name).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_both_forms_and_over_lines() {
        let call = CALL;
        let text =
            format!("a\n{call}\"a.b\");\n x {call}async \"c.d\", Err(1));\n{call}\n    async \"e\");{call}$name)");
        assert_eq!(of_text(&text), ["a.b", "c.d", "e"]);
    }

    #[test]
    fn the_search_finds_what_lies_in_folders_and_skips_tests() {
        let folder = tempfile::tempdir().unwrap();
        for (path, name) in [("services/x/src/a.rs", "x.a"), ("shared/y/tests/it/b.rs", "y.b")] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::create_dir_all(folder.path().join("shared")).unwrap();
            std::fs::write(path, format!("{CALL}\"{name}\");")).unwrap();
        }
        assert_eq!(in_sources(folder.path()).unwrap(), ["x.a"]);
    }

    #[test]
    fn hits_of_processes_are_added_up() {
        let hits = Hits::parse("1 a 1 -\n1 a 2 -\n2 a 4 -\n2 a 5 abort\nbroken li");
        assert_eq!(hits.hits["a"], 7);
        assert_eq!(hits.fired["a=abort"], 1);
    }
}
