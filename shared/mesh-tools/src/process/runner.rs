//! Starts one process, feeds it, reads it, and ends it: within its time, its memory and what its reader takes.

use std::future;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use mesh_types::agent::Span;
use mesh_types::{Code, Problem};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::folder::Folder;
use super::group::Group;
use super::memory::Memory;

/// Variables that every process gets, where this process has them. All others are withheld: they hold secrets.
const ENV: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];
/// How much of the end of standard error is kept.
const STDERR_BYTES: usize = 4096;
/// How long output is read on after the exit, when a descendant keeps it open.
const DRAIN: Duration = Duration::from_millis(500);
/// A program that is being replaced, or that another thread's fork still holds open, is busy for a moment.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(25);

pub(super) struct Launch {
    /// A full path, or a name that is looked up in PATH.
    pub(super) program: String,
    pub(super) args: Vec<String>,
    /// More variables that are passed on.
    pub(super) env: &'static [&'static str],
    pub(super) stdin: Vec<u8>,
    pub(super) folder: Folder,
    pub(super) timeout: Duration,
    pub(super) memory: Option<Memory>,
    /// What to do when there is no such program.
    pub(super) next: String,
}

/// Gets standard output as it comes; a problem ends the process.
pub(super) type OnStdout<'a> = dyn FnMut(&[u8]) -> Result<(), Problem> + Send + 'a;

pub(super) struct Exit {
    program: String,
    status: ExitStatus,
    stderr: String,
    memory: Option<Memory>,
}

impl Exit {
    pub(super) fn is_success(&self) -> bool {
        self.status.success()
    }

    /// What it said last on standard error, for people.
    pub(super) fn last_words(&self) -> &str {
        self.stderr.trim()
    }

    pub(super) fn problem(&self) -> Problem {
        let end = if self.last_words().is_empty() { "" } else { ": " };
        let detail = format!(
            "`{}` ended with {}{end}{}",
            self.program,
            self.status,
            self.last_words()
        );
        let next = "run the command by hand with the same input and read its standard error";
        let hint = self.memory.as_ref().map_or_else(|| next.to_owned(), Memory::hint);
        let mut problem = Problem::new(Code::ToolFailed, detail).next(hint);
        // The same command with the same input would end the same way.
        problem.status = 422;
        problem
    }
}

pub(super) fn too_long(program: &str, bytes_max: usize) -> Problem {
    Problem::new(
        Code::ToolFailed,
        format!("`{program}` wrote more than the output limit of {bytes_max} bytes"),
    )
    .next("let it write less, or raise `tools.output_bytes_max`")
}

/// Runs until the process exits. Whatever the end is, also a drop of this future, nothing of its group lives on.
pub(super) async fn run(mut launch: Launch, on_stdout: &mut OnStdout<'_>) -> Result<Exit, Problem> {
    check(&launch.program)?;
    let child = spawn(&launch).await?;
    let mut stderr = Tail::default();
    let limit = launch.timeout;
    let stdin = std::mem::take(&mut launch.stdin);
    let memory = launch.memory;
    let mut group = Group::new(child, launch.folder)
        .ok_or_else(|| Problem::new(Code::Internal, "a process without an id was started"))?;
    let attended = async {
        let pipes = Pipes::of(group.child())?;
        if let Some(memory) = &memory {
            memory.limit(group.id());
        }
        let id = group.id();
        let exceeded = async {
            match &memory {
                Some(memory) => memory.exceeded(id).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            status = pipes.attend(&mut group, stdin, &mut stderr, on_stdout) => status,
            problem = exceeded => Err(problem),
        }
    };
    let ended = tokio::time::timeout(limit, attended).await;
    group.stop().await;
    let status = ended.unwrap_or_else(|_| Err(too_slow(&launch.program, limit)))?;
    Ok(Exit {
        program: launch.program,
        status,
        stderr: stderr.text(),
        memory,
    })
}

fn check(program: &str) -> Result<(), Problem> {
    let is_relative = program.contains('/') && !program.starts_with('/');
    if program.is_empty() || is_relative {
        return Err(Problem::new(
            Code::AgentInvalid,
            format!("`{program}` is no program that can be found"),
        )
        .next("write its full path, or a name that PATH leads to; it runs in an empty folder"));
    }
    Ok(())
}

async fn spawn(launch: &Launch) -> Result<Child, Problem> {
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.args)
        .env_clear()
        .envs(
            ENV.iter()
                .chain(launch.env)
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .current_dir(launch.folder.path())
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut tries = 1;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            spawned => return spawned.map_err(|error| not_started(launch, &error)),
        }
    }
}

fn not_started(launch: &Launch, error: &io::Error) -> Problem {
    let program = &launch.program;
    let (what, next) = match error.kind() {
        io::ErrorKind::NotFound => (format!("there is no program `{program}`"), launch.next.clone()),
        io::ErrorKind::PermissionDenied => (
            format!("`{program}` may not be run"),
            format!("make it executable for the mesh's user: chmod +x {program}"),
        ),
        _ => (
            format!("`{program}` could not be started: {error}"),
            "run it by hand as the mesh's user".to_owned(),
        ),
    };
    Problem::new(Code::ToolFailed, what).next(next)
}

fn too_slow(program: &str, limit: Duration) -> Problem {
    Problem::new(
        Code::Timeout,
        format!("`{program}` took longer than its timeout, {}", Span(limit)),
    )
    .next("raise `timeout`, or give it less to do")
}

struct Pipes {
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Pipes {
    fn of(child: &mut Child) -> Result<Self, Problem> {
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok(Self { stdin, stdout, stderr }),
            _ => Err(Problem::new(Code::Internal, "a process without its pipes was started")),
        }
    }

    /// Writes and reads at the same time, so that neither side waits for the other, until the leader exits.
    async fn attend(
        self,
        group: &mut Group,
        input: Vec<u8>,
        tail: &mut Tail,
        on_stdout: &mut OnStdout<'_>,
    ) -> Result<ExitStatus, Problem> {
        let feed = async {
            let mut stdin = self.stdin;
            // A process that does not read its input closes it: not an error.
            let _ = stdin.write_all(&input).await;
            Ok(())
        };
        let last_words = read(self.stderr, |bytes| {
            tail.push(bytes);
            Ok(())
        });
        let streams = async { tokio::try_join!(feed, last_words, read(self.stdout, on_stdout)) };
        tokio::pin!(streams);
        let exited = tokio::select! {
            closed = &mut streams => {
                closed?;
                group.wait().await
            }
            exited = group.wait() => {
                // What it wrote is in the pipes still. Who keeps them open does not belong to the answer.
                if let Ok(closed) = tokio::time::timeout(DRAIN, &mut streams).await {
                    closed?;
                }
                exited
            }
        };
        exited.map_err(|error| Problem::new(Code::ToolFailed, format!("its exit was not seen: {error}")))
    }
}

async fn read(
    mut pipe: impl AsyncRead + Unpin,
    mut on_bytes: impl FnMut(&[u8]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(read) => on_bytes(&buffer[..read])?,
            Err(error) => {
                return Err(Problem::new(
                    Code::ToolFailed,
                    format!("its output was not read: {error}"),
                ));
            }
        }
    }
}

/// The end of what was written; the rest is let go.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > STDERR_BYTES {
            self.is_cut = true;
            self.bytes.drain(..self.bytes.len() - STDERR_BYTES);
        }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        if self.is_cut {
            format!("…{text}")
        } else {
            text.into_owned()
        }
    }
}
