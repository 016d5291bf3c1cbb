//! How results are printed: a table for people, JSON or YAML for programs. Results go to stdout, remarks to stderr.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, ContentArrangement, Row, presets};
use mesh_types::{Clock, SystemClock, Timestamp};
use serde::Serialize;

/// What `-o` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Columns that fit the terminal
    #[default]
    Table,
    Json,
    Yaml,
}

/// How this command was asked to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) format: Format,
    /// Whether stdout is a terminal that takes colours.
    pub(crate) is_colored: bool,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            is_colored: io::stdout().is_terminal() && colors_are_wanted(),
        }
    }

    /// Whether a person reads along; else only the one JSON or YAML value may be printed.
    pub(crate) fn is_table(self) -> bool {
        self.format == Format::Table
    }

    /// The whole result: as the value, or as what `table` prints of it.
    pub(crate) fn show<T: Serialize>(
        self,
        value: &T,
        table: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Table => table(),
            Format::Json => self.line(&serde_json::to_string_pretty(value)?),
            Format::Yaml => self.text(&yaml(value)?),
        }
    }

    /// One line of the result.
    pub(crate) fn line(self, text: &str) -> anyhow::Result<()> {
        self.text(&format!("{text}\n"))
    }

    /// Text of the result as it is, at once.
    pub(crate) fn text(self, text: &str) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// A remark beside the result.
    pub(crate) fn note(self, text: &str) {
        // Nobody can be told that stderr is gone.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Faint, where colours are taken.
    pub(crate) fn faint(self, text: &str) -> String {
        self.painted("2", text)
    }

    /// Bold, where colours are taken.
    pub(crate) fn bold(self, text: &str) -> String {
        self.painted("1", text)
    }

    /// Green for what is well, yellow for what to look at, red for what is wrong.
    pub(crate) fn mood(self, mood: Mood, text: &str) -> String {
        let code = match mood {
            Mood::Good => "32",
            Mood::Doubtful => "33",
            Mood::Bad => "31",
        };
        self.painted(code, text)
    }

    fn painted(self, code: &str, text: &str) -> String {
        if self.is_colored {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    Doubtful,
    Bad,
}

/// `NO_COLOR` set to anything turns colours off (no-color.org).
pub(crate) fn colors_are_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A value as one YAML document.
pub(crate) fn yaml<T: Serialize>(value: &T) -> anyhow::Result<String> {
    let mut text = serde_saphyr::to_string(value)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Columns without lines, as wide as the terminal at most: the last one is cut where it does not fit, and left out
/// where nearly nothing of it would. The first, which names the row, stays whole.
#[derive(Debug)]
pub(crate) struct Table {
    output: Output,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Least width of a column that is cut.
const CUT_MIN: usize = 10;
const GAP: usize = 2;

impl Table {
    pub(crate) fn new(output: Output, header: &[&str]) -> Self {
        let header = header.iter().map(|name| (*name).to_owned()).collect();
        Self {
            output,
            header,
            rows: Vec::new(),
        }
    }

    pub(crate) fn row<I>(&mut self, cells: I)
    where
        I: IntoIterator,
        I::Item: std::fmt::Display,
    {
        let cells = cells.into_iter().map(|cell| one_line(&cell.to_string()));
        self.rows.push(cells.collect());
    }

    pub(crate) fn print(self) -> anyhow::Result<()> {
        let text = self.render(terminal_width());
        self.output.line(&text)
    }

    fn render(&self, width: Option<usize>) -> String {
        let widths = self.inner(self.header.len(), usize::MAX).column_max_content_widths();
        let widths: Vec<_> = widths.into_iter().map(usize::from).collect();
        let (columns, last) = fit(&widths, width.unwrap_or(usize::MAX));
        self.inner(columns, last).trim_fmt()
    }

    fn inner(&self, columns: usize, last: usize) -> comfy_table::Table {
        let mut inner = comfy_table::Table::new();
        inner
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        let bold = |name: &String| {
            let cell = Cell::new(name);
            if self.output.is_colored {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        };
        inner.set_header(Row::from(
            self.header.iter().take(columns).map(bold).collect::<Vec<_>>(),
        ));
        for row in &self.rows {
            let cut = |(index, cell): (usize, &String)| {
                let is_last = index + 1 == columns;
                Cell::new(if is_last { shortened(cell, last) } else { cell.clone() })
            };
            let cells = row.iter().take(columns).enumerate().map(cut);
            inner.add_row(Row::from(cells.collect::<Vec<_>>()));
        }
        for column in inner.column_iter_mut() {
            column.set_padding((0, u16::try_from(GAP).unwrap_or(2)));
        }
        inner
    }
}

/// How many columns fit, and how wide the last of them may be.
fn fit(widths: &[usize], width: usize) -> (usize, usize) {
    for columns in (2..=widths.len()).rev() {
        let before: usize = widths[..columns - 1].iter().map(|width| width + GAP).sum();
        let room = width.saturating_sub(before);
        if room >= widths[columns - 1].min(CUT_MIN) {
            return (columns, room);
        }
    }
    (widths.len().min(1), usize::MAX)
}

/// Control characters of other people's texts must not steer this terminal.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

/// Columns of the terminal, else as `COLUMNS` says them; `None` where nothing says so, or nonsense.
pub(crate) fn terminal_width() -> Option<usize> {
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    let width = comfy_table::Table::new().width().or_else(told);
    width.filter(|width| *width >= 20).map(usize::from)
}

/// The beginning of a text in at most `characters`.
pub(crate) fn shortened(text: &str, characters: usize) -> String {
    let line = one_line(text.trim());
    if line.chars().count() <= characters {
        return line;
    }
    let kept: String = line.chars().take(characters.saturating_sub(1)).collect();
    format!("{kept}…")
}

pub(crate) fn now() -> Timestamp {
    SystemClock::default().now()
}

/// How long ago, in the largest unit that says something: `5s`, `3m`, `7h`, `12d`.
pub(crate) fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(at).as_secs();
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A duration as people read it: `12 ms`, `1.4 s`, `3 min 20 s`.
pub(crate) fn took(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..=999 => format!("{millis} ms"),
        1_000..=59_999 => format!("{:.1} s", duration.as_secs_f64()),
        _ => format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_takes_the_unit_that_says_something() {
        let at = |seconds: u64| age(Timestamp::EPOCH, Timestamp::EPOCH.plus(Duration::from_secs(seconds)));
        let seen: Vec<_> = [0, 119, 120, 7_199, 7_200, 172_799, 172_800]
            .map(at)
            .into_iter()
            .collect();
        assert_eq!(seen, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }

    #[test]
    fn a_cell_cannot_steer_the_terminal() {
        assert_eq!(one_line("a\u{1b}[31mb\nc"), "a [31mb c");
        assert_eq!(shortened("  much too long for that  ", 8), "much to…");
    }

    #[test]
    fn a_table_fits_its_terminal_and_never_cuts_what_names_a_row() {
        let output = Output {
            format: Format::Table,
            is_colored: false,
        };
        let mut table = Table::new(output, &["ID", "STATE", "RESULT"]);
        table.row([
            "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "completed",
            "a long answer that does not fit",
        ]);
        assert!(table.render(None).ends_with("that does not fit"));
        for width in [80, 56, 48, 40, 30, 20] {
            let text = table.render(Some(width));
            let longest = text.lines().map(|line| line.trim_end().chars().count()).max().unwrap();
            assert!(longest <= width.max(30), "{width}: {text}");
            assert!(text.contains("inv_01ARZ3NDEKTSV4RRFFQ69G5FAV"), "{text}");
        }
        assert!(table.render(Some(56)).contains('…') && !table.render(Some(48)).contains("RESULT"));
    }

    #[test]
    fn a_duration_is_short() {
        let seen: Vec<_> = [0, 999, 1_500, 61_000]
            .map(|ms| took(Duration::from_millis(ms)))
            .into_iter()
            .collect();
        assert_eq!(seen, ["0 ms", "999 ms", "1.5 s", "1 min 1 s"]);
    }
}
