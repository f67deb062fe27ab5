//! What the person at the terminal sees while something takes long.

use std::fmt::Display;
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// One line to standard error: for what is not the command's own output.
pub fn note(text: impl Display) {
    // A closed terminal is no reason to stop.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Runs `command` with its output in the file `log`, and shows every few seconds how long it has been running and what it
/// is at. `what` says what is done ("building helm").
///
/// # Errors
/// When the command cannot be started or fails; the error holds the last lines of its output.
pub fn run(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("{what}: cannot start {}", command.get_program().display()))?;
    let mut ticker = Ticker::new(what);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(100));
        ticker.tick(log);
    };
    ticker.done();
    if !status.success() {
        bail!("{what} failed ({status}); its last lines:\n{}", tail(log, 25));
    }
    Ok(())
}

/// The last `lines` lines of a file, as far as they can be read.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    const MOST: u64 = 64 * 1024;
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(MOST);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
        }
        Err(error) => format!("({} cannot be read: {error})", path.display()),
    }
}

/// On a terminal one line that is written over each second; elsewhere a new line every ten seconds.
struct Ticker<'a> {
    what: &'a str,
    started: Instant,
    last: Instant,
    terminal: bool,
    /// What is over within a second needs no word.
    announced: bool,
}

impl<'a> Ticker<'a> {
    fn new(what: &'a str) -> Self {
        let now = Instant::now();
        Self { what, started: now, last: now, terminal: std::io::stderr().is_terminal(), announced: false }
    }

    fn tick(&mut self, log: &Path) {
        if !self.announced && self.started.elapsed() > Duration::from_secs(1) {
            self.announced = true;
            note(self.what);
        }
        let every = Duration::from_secs(if self.terminal { 1 } else { 10 });
        if self.last.elapsed() < every {
            return;
        }
        self.last = Instant::now();
        let at: String = tail(log, 1).chars().take(70).collect();
        let text = format!("{}: {} s  {at}", self.what, self.started.elapsed().as_secs());
        if self.terminal {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K{text}");
        } else {
            note(text);
        }
    }

    fn done(&self) {
        if !self.announced {
            return;
        }
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        note(format!("{clear}{}: {:.1} s", self.what, self.started.elapsed().as_secs_f64()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_shows_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let error = run("trying", Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]), &log).unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        assert!(error.to_string().ends_with("one\ntwo"), "{error}");
    }

    #[test]
    fn tail_takes_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "a\nb\nc\n").unwrap();
        assert_eq!(tail(&file, 2), "b\nc");
        assert_eq!(tail(&file, 9), "a\nb\nc");
    }
}
