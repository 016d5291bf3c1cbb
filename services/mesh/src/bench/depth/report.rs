//! What was measured, with the bars that must hold: as JSON and as a table.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::bench::report::rounded;
use crate::output::{Mood, Output, Table};

/// One thing that was measured.
#[derive(Debug)]
pub(super) struct Measure {
    name: &'static str,
    figures: Vec<Figure>,
}

#[derive(Debug)]
struct Figure {
    name: &'static str,
    value: f64,
    bar: Option<Bar>,
}

/// What must hold of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bar {
    Below(f64),
    Exactly(f64),
}

impl Bar {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::Below(bar) => value < bar,
            Self::Exactly(bar) => (value - bar).abs() < f64::EPSILON,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Below(bar) => format!("below {bar}"),
            Self::Exactly(bar) => format!("exactly {bar}"),
        }
    }
}

impl Measure {
    pub(super) const fn new(name: &'static str) -> Self {
        Self {
            name,
            figures: Vec::new(),
        }
    }

    #[must_use]
    pub(super) fn figure(mut self, name: &'static str, value: f64) -> Self {
        self.push(name, value, None);
        self
    }

    /// A figure that must hold.
    #[must_use]
    pub(super) fn barred(mut self, name: &'static str, value: f64, bar: Bar) -> Self {
        self.push(name, value, Some(bar));
        self
    }

    fn push(&mut self, name: &'static str, value: f64, bar: Option<Bar>) {
        let value = rounded(value);
        self.figures.push(Figure { name, value, bar });
    }

    /// Each bar that does not hold, for people.
    pub(super) fn missed(&self) -> impl Iterator<Item = String> {
        self.figures.iter().filter_map(|figure| {
            let bar = figure.bar.filter(|bar| !bar.holds(figure.value))?;
            let (measure, name, value) = (self.name, figure.name, figure.value);
            Some(format!("{measure} {name} is {value} and must be {}", bar.text()))
        })
    }
}

impl Serialize for Measure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("measure", self.name)?;
        for figure in &self.figures {
            // Counts are whole numbers in JSON too.
            match figure.value {
                value if value.fract() == 0.0 => map.serialize_entry(figure.name, &(value as i64))?,
                value => map.serialize_entry(figure.name, &value)?,
            }
        }
        map.serialize_entry("missed", &self.missed().collect::<Vec<_>>())?;
        map.end()
    }
}

pub(super) fn print(measures: &[Measure], output: Output) -> anyhow::Result<()> {
    output.show(&measures, || table(measures, output).print())
}

fn table(measures: &[Measure], output: Output) -> Table {
    let mut table = Table::new(output, &["MEASURE", "FIGURE", "VALUE", "MUST BE", "HOLDS"]);
    for measure in measures {
        for figure in &measure.figures {
            let verdict = figure.bar.map(|bar| match bar.holds(figure.value) {
                true => output.mood(Mood::Good, "yes"),
                false => output.mood(Mood::Bad, "no"),
            });
            table.row([
                measure.name.to_owned(),
                figure.name.replace('_', " "),
                figure.value.to_string(),
                figure.bar.map(Bar::text).unwrap_or_default(),
                verdict.unwrap_or_default(),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bar_is_named_and_the_others_are_not() {
        let measure = Measure::new("waiting")
            .figure("seconds", 0.5)
            .barred("slots_in_use", 0.0, Bar::Exactly(0.0))
            .barred("added_mb", 250.0, Bar::Below(200.0));
        let missed: Vec<_> = measure.missed().collect();
        assert_eq!(missed, ["waiting added_mb is 250 and must be below 200"]);
        let json = serde_json::to_string(&[measure]).unwrap();
        let begin = r#"[{"measure":"waiting","seconds":0.5,"slots_in_use":0,"added_mb":250,"missed":["#;
        assert!(json.starts_with(begin), "{json}");
    }

    #[test]
    fn a_bar_is_below_and_not_at() {
        assert!(!Bar::Below(50.0).holds(50.0) && Bar::Below(50.0).holds(49.999));
        assert!(!Bar::Exactly(1.0).holds(2.0) && Bar::Exactly(1.0).holds(1.0));
    }
}
