//! Long-running servers: started in a process group of their own, with their output in a file, and ended without fail.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, kill_process_group};
use serde::{Deserialize, Serialize};

pub use rustix::process::Signal;

use crate::progress;

/// How long a server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is dropped, and never longer than this process, even if that one is killed.
    Ours,
    /// Until it is dropped; if it is never dropped, until somebody ends it with its [`Ticket`].
    Detached,
}

/// What to start. The environment is empty but for `PATH`, `HOME` and what `env` adds, so that no setting (or credential)
/// of the caller's shell reaches a server.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program, by its path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables to set.
    pub env: Vec<(String, String)>,
    /// The user (and group) that it runs as, by name; `None`: the one that we are.
    pub user: Option<String>,
    /// The signal that ends it, should this process end first.
    pub orphaned: &'static str,
}

impl Launch {
    /// `program` with no arguments yet.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new(), user: None, orphaned: "KILL" }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Runs as another user, which only root can: servers that end with us only.
    #[must_use]
    pub fn user(mut self, name: Option<&str>) -> Self {
        self.user = name.map(str::to_owned);
        self
    }

    /// Ends by this signal, should this process end first.
    #[must_use]
    pub fn orphaned(mut self, signal: &'static str) -> Self {
        self.orphaned = signal;
        self
    }

    fn command(&self, lifetime: Lifetime) -> Command {
        let mut command = match lifetime {
            Lifetime::Detached => Command::new(&self.program),
            // Asks the kernel to end the server when the thread that started it ends: see `spawn`.
            Lifetime::Ours => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", self.orphaned]);
                if let Some(user) = &self.user {
                    command.args(["--reuid", user, "--regid", user, "--init-groups"]);
                }
                command.arg("--").arg(&self.program);
                command
            }
        };
        command.args(&self.args).env_clear();
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).process_group(0);
        command
    }
}

/// A running server. Dropping it kills it and all its children.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts `launch`; its output is appended to `log`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(name: &str, launch: &Launch, log: PathBuf, lifetime: Lifetime) -> Result<Self> {
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = launch.command(lifetime);
        command.stdout(output.try_clone()?).stderr(output);
        let child = spawn(command).with_context(|| format!("cannot start {name} ({})", launch.program.display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// The process (and process group) id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that holds its output.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends `signal` to the process and its children.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_group(self.pid(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits for the process to end, at most `limit`.
    ///
    /// # Errors
    /// When it has not ended by then.
    pub async fn exited(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("{} has not ended within {limit:?}; its last lines:\n{}", self.name, progress::tail(&self.log, 20))
    }

    /// Waits until `probe` says that the server is ready, at most `limit`.
    ///
    /// # Errors
    /// When the process ends, or is not ready in time; the error holds the end of its log.
    pub async fn ready(&mut self, limit: Duration, mut probe: impl AsyncFnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}); its last lines:\n{}", self.name, progress::tail(&self.log, 20));
            }
            if probe().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {limit:?}; its last lines:\n{}", self.name, progress::tail(&self.log, 20));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What another process needs to end this one later.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn ticket(&self) -> Result<Ticket> {
        let pid = self.pid();
        let started = start_time(pid).ok_or_else(|| anyhow!("{} is gone", self.name))?;
        Ok(Ticket { name: self.name.clone(), pid, started })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Either may fail because the process is gone already.
        let _ = signal_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A process that outlives the one that started it. The start time tells it from a later process with the same pid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// What it is.
    pub name: String,
    /// Its process (and process group) id.
    pub pid: u32,
    /// Clock ticks after boot, from `/proc/<pid>/stat`.
    started: u64,
}

impl Ticket {
    /// Whether the process still runs.
    #[must_use]
    pub fn alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Ends the process: with SIGTERM, and with SIGKILL if that has not helped after `grace`.
    pub fn end(&self, grace: Duration) {
        if !self.alive() {
            return;
        }
        // The process may end between the check and the signal.
        let _ = signal_group(self.pid, Signal::TERM);
        let deadline = Instant::now() + grace;
        while self.alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.alive() {
            let _ = signal_group(self.pid, Signal::KILL);
        }
    }
}

fn signal_group(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| anyhow!("{pid} is no pid"))?;
    Ok(kill_process_group(pid, signal)?)
}

/// When the process started; `None` when it does not exist or only waits to be reaped.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold spaces: count from behind it. State is field 3, start time field 22.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" { None } else { fields.nth(18)?.parse().ok() }
}

/// Starts `command` from a thread that lives as long as the process. The kernel's parent-death signal follows the thread, and
/// the threads of tests and of blocking tasks end early.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in queue {
                let _ = answer.send(command.spawn());
            }
        });
        jobs
    });
    let (answer, result) = mpsc::channel();
    spawner.send((command, answer)).map_err(io::Error::other)?;
    result.recv().map_err(io::Error::other)?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path, lifetime: Lifetime) -> Service {
        let launch = Launch::new("/bin/sh").args(["-c", "echo up; sleep 60 & wait"]);
        Service::start("sleeper", &launch, dir.join("log"), lifetime).unwrap()
    }

    #[tokio::test]
    async fn dropping_ends_the_process_and_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut service = sleeper(dir.path(), Lifetime::Ours);
        service.ready(Duration::from_secs(5), async || progress::tail(&log, 1) == "up").await.unwrap();
        let ticket = service.ticket().unwrap();
        assert!(ticket.alive());
        drop(service);
        assert!(!ticket.alive());
    }

    #[test]
    fn a_detached_process_can_be_left_and_is_ended_by_its_ticket_only() {
        let dir = tempfile::tempdir().unwrap();
        let service = std::mem::ManuallyDrop::new(sleeper(dir.path(), Lifetime::Detached));
        let ticket = service.ticket().unwrap();
        assert!(ticket.alive());
        let other = Ticket { started: 1, ..ticket.clone() };
        assert!(!other.alive(), "another process with that pid is not ours");
        other.end(Duration::ZERO);
        assert!(ticket.alive());
        ticket.end(Duration::from_secs(5));
        assert!(!ticket.alive());
    }

    #[tokio::test]
    async fn a_server_that_ends_early_shows_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let launch = Launch::new("/bin/sh").args(["-c", "echo no such flag; exit 1"]);
        let mut service = Service::start("server", &launch, dir.path().join("log"), Lifetime::Ours).unwrap();
        let error = service.ready(Duration::from_secs(5), async || false).await.unwrap_err().to_string();
        assert!(error.contains("server ended (exit status: 1)") && error.ends_with("no such flag"), "{error}");
    }

    #[test]
    fn the_environment_of_the_caller_stays_out() {
        let command = Launch::new("x").env("A", "1").command(Lifetime::Ours);
        let names: Vec<_> = command.get_envs().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["A", "HOME", "PATH"]);
    }
}
