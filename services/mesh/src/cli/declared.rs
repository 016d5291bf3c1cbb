//! Declared objects in files: YAML or JSON, several documents a file, folders of files. Errors name file, document
//! and field.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use mesh_types::agent::Agent;
use mesh_types::{Code, Problem, Tenant};
use serde_json::Value;

use crate::client::Client;
use crate::failure::{Usage, problem_next, problem_text};
use crate::output::Output;

/// Endings that are read in a folder.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
/// The gateway takes no larger body; a file holds several.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// File, folder, or `-` for stdin; may be repeated
    #[arg(short, long = "filename", value_name = "FILE", required = true, num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
}

/// Where an object stands, as an error names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    file: String,
    /// From 1; 0 where the file as a whole is meant.
    document: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.document {
            0 => f.write_str(&self.file),
            number => write!(f, "{}, document {number}", self.file),
        }
    }
}

/// One document: an agent, or what is wrong with it.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) place: Place,
    pub(crate) agent: Result<Agent, Problem>,
}

impl Document {
    /// What makes sense of an object asks the tenant that is named in it or on the command line.
    pub(crate) fn tenant(agent: &Agent, client: &Client) -> Result<Option<Tenant>, Problem> {
        match (&agent.metadata.tenant, client.tenant()) {
            (Some(declared), Some(named)) if declared != named => {
                let detail = format!("the object is of tenant `{declared}`, the command line names `{named}`");
                Err(Problem::new(Code::InvalidRequest, detail).field("metadata.tenant"))
            }
            (Some(declared), _) => Ok(Some(declared.clone())),
            (None, named) => Ok(named.cloned()),
        }
    }
}

/// Prints what is wrong with one document, on stderr.
pub(crate) fn tell(output: Output, place: &Place, error: &anyhow::Error) {
    let (text, next) = match error.downcast_ref::<Problem>() {
        Some(problem) => (problem_text(problem), problem_next(problem)),
        None => (format!("{error:#}"), None),
    };
    let next = next.map(|next| format!("\n  next: {next}")).unwrap_or_default();
    output.note(&format!("{place}: {text}{next}"));
}

/// Every document of every file, in order. A file that cannot be read is an error of its own among them.
pub(crate) fn read_all(args: &FileArgs) -> anyhow::Result<Vec<Document>> {
    let mut documents = Vec::new();
    for path in &args.files {
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin()
                .take(FILE_BYTES_MAX)
                .read_to_end(&mut bytes)
                .context("cannot read stdin")?;
            documents.extend(parse("stdin", &bytes, is_json(&bytes)));
            continue;
        }
        for file in files_of(path)? {
            let bytes = read(&file)?;
            let is_json = file.extension().is_some_and(|ending| ending == "json");
            documents.extend(parse(&file.display().to_string(), &bytes, is_json));
        }
    }
    if documents.is_empty() {
        let files: Vec<_> = args.files.iter().map(|path| path.display().to_string()).collect();
        return Err(Usage(format!("no object is declared in {}", files.join(", "))).into());
    }
    Ok(documents)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let meta = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    anyhow::ensure!(
        meta.len() <= FILE_BYTES_MAX,
        "{} is larger than {FILE_BYTES_MAX} bytes",
        path.display()
    );
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The file itself, or the files below a folder in the order of their names.
fn files_of(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let is_declared = path
            .extension()
            .is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        if path.is_dir() {
            files.extend(files_of(&path)?);
        } else if is_declared {
            files.push(path);
        }
    }
    Ok(files)
}

/// Stdin does not say what it is; JSON begins with a bracket, and YAML of an object does not.
fn is_json(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .find(|byte| !byte.is_ascii_whitespace())
        .is_some_and(|byte| matches!(byte, b'{' | b'['))
}

/// Documents are read one by one, so that one that is broken leaves the others.
fn parse(file: &str, bytes: &[u8], is_json: bool) -> Vec<Document> {
    let documents = if is_json {
        json_documents(bytes)
    } else {
        yaml_documents(bytes)
    };
    let read = |(number, value): (usize, Result<Value, Problem>)| Document {
        place: Place {
            file: file.to_owned(),
            document: number,
        },
        agent: value.and_then(agent),
    };
    documents.into_iter().map(read).collect()
}

fn agent(value: Value) -> Result<Agent, Problem> {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or("Agent");
    if kind != "Agent" {
        let shown: String = kind.chars().take(64).collect();
        return Err(
            Problem::new(Code::InvalidRequest, format!("kind `{shown}` is not known"))
                .field("kind")
                .next("declare `kind: Agent`"),
        );
    }
    Agent::from_json(value)
}

/// One value, or a list of them; each with its number from 1, or 0 for a file that is broken as a whole.
fn json_documents(bytes: &[u8]) -> Vec<(usize, Result<Value, Problem>)> {
    match mesh_types::json::parse_value(bytes) {
        Err(problem) => vec![(0, Err(problem))],
        Ok(Value::Array(items)) => (1..).zip(items.into_iter().map(Ok)).collect(),
        Ok(one) => vec![(1, Ok(one))],
    }
}

fn yaml_documents(bytes: &[u8]) -> Vec<(usize, Result<Value, Problem>)> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let detail = format!("not UTF-8 at byte {}", error.valid_up_to());
            return vec![(0, Err(Problem::new(Code::MalformedJson, detail)))];
        }
    };
    let mut documents = Vec::new();
    for (number, chunk) in (1..).zip(chunks(text)) {
        match serde_saphyr::from_multiple::<Value>(&chunk) {
            // Nothing but comments is no object, and keeps its number.
            Ok(values) => {
                let values = values.into_iter().filter(|value| !value.is_null());
                documents.extend(values.map(|value| (number, Ok(value))));
            }
            Err(error) => {
                let problem =
                    Problem::new(Code::MalformedJson, error.to_string()).next("correct the YAML at that place");
                documents.push((number, Err(problem)));
            }
        }
    }
    documents
}

/// The documents of a file as texts of their own, each on the lines that it has in the file, so that errors name them.
fn chunks(text: &str) -> Vec<String> {
    let is_marker = |line: &str| {
        line.strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
    };
    let mut chunks = vec![String::new()];
    for (index, line) in text.lines().enumerate() {
        let last = chunks.last_mut().expect("there is always one");
        if !is_marker(line) {
            last.push_str(line);
            last.push('\n');
            continue;
        }
        let is_blank = |line: &str| line.trim().is_empty() || line.starts_with(['#', '%']);
        let starts_file = chunks.len() == 1 && chunks[0].lines().all(is_blank);
        let fresh = format!("{}   {}\n", "\n".repeat(index), &line[3..]);
        if starts_file {
            chunks[0] = fresh;
        } else {
            chunks.push(fresh);
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(documents: &[Document]) -> Vec<String> {
        let name = |document: &Document| match &document.agent {
            Ok(agent) => agent.metadata.name.to_string(),
            Err(problem) => format!("{}: {}", document.place, problem_text(problem)),
        };
        documents.iter().map(name).collect()
    }

    #[test]
    fn documents_of_a_file_are_read_one_by_one() {
        let text = "metadata: {name: a}\n---\n# nothing here\n---\nmetadata: {name: b}\nspec: {model: {temperature: 9}}\n---\nkind: Pod\n";
        let seen = names(&parse("x.yaml", text.as_bytes(), false));
        assert_eq!(seen[0], "a");
        assert_eq!(
            seen[1],
            "x.yaml, document 3: spec.model.temperature must lie between 0 and 2 (registry/agent-invalid)"
        );
        assert_eq!(
            seen[2],
            "x.yaml, document 4: kind `Pod` is not known (mesh/invalid-request)"
        );
    }

    #[test]
    fn a_list_of_json_is_several_documents() {
        let seen = names(&parse(
            "x.json",
            br#"[{"metadata":{"name":"a"}},{"metadata":{"name":"b"}}]"#,
            true,
        ));
        assert_eq!(seen, ["a", "b"]);
    }

    #[test]
    fn broken_text_names_its_file_and_place() {
        let seen = names(&parse("x.yaml", b"metadata: {name: a\nspec: [", false));
        assert!(
            seen[0].starts_with("x.yaml, document 1: ") && seen[0].contains("line"),
            "{seen:?}"
        );
        let seen = names(&parse("x.json", b"{\"a\":1,\"a\":2}", true));
        assert!(seen[0].contains("a"), "{seen:?}");
    }

    #[test]
    fn one_broken_document_leaves_the_others() {
        let text = "---\nmetadata: {name: a}\n---\nmetadata: [\n--- # c\nmetadata: {name: c}\n";
        let documents = parse("x.yaml", text.as_bytes(), false);
        let seen = names(&documents);
        assert_eq!((seen[0].as_str(), seen[2].as_str()), ("a", "c"));
        assert!(seen[1].contains("document 2") && seen[1].contains("line"), "{seen:?}");
        let line: String = seen[1].split("line ").skip(1).take(1).collect();
        assert!(line.starts_with(['4', '5']), "the line is the file's: {seen:?}");
    }

    #[test]
    fn a_field_written_twice_is_refused() {
        let seen = names(&parse("x.yaml", b"metadata: {name: a}\nmetadata: {name: b}\n", false));
        assert!(seen[0].starts_with("x.yaml, document 1: "), "{seen:?}");
    }

    #[test]
    fn a_folder_is_read_in_order_and_by_ending() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.yml", "metadata: {name: b}"),
            ("a.yaml", "metadata: {name: a}"),
            ("notes.txt", "no"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let documents = read_all(&FileArgs {
            files: vec![folder.path().to_owned()],
        })
        .unwrap();
        assert_eq!(names(&documents), ["a", "b"]);
    }
}
