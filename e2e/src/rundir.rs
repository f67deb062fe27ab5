//! The temporary folder of one run: state and logs of the servers that belong together.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::process::{Launch, Lifetime, Service};

/// Set it to keep the folders of runs, logs and all.
const KEEP: &str = "KEYFERRY_KEEP";

/// A temporary folder, removed when it is dropped or (with [`Lifetime::Ours`]) this process ends, however it ends. Servers share
/// it, and the last one takes it along.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    lifetime: Lifetime,
    /// Removes the folder when its standard input closes: that happens even if this process is killed.
    janitor: Option<Child>,
}

impl RunDir {
    /// Makes the folder, for servers that live as long as `lifetime` says.
    ///
    /// # Errors
    /// When the folder or the process that removes it cannot be made.
    pub fn new(lifetime: Lifetime) -> Result<Self> {
        let path =
            tempfile::Builder::new().prefix("keyferry-e2e-").tempdir().context("cannot make a temporary folder")?.keep();
        fs::create_dir(path.join("log"))?;
        let janitor = if lifetime == Lifetime::Ours && !keep() { Some(janitor(&path)?) } else { None };
        Ok(Self { path, lifetime, janitor })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long the servers of this run live.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Starts a server; its output goes to `log/<name>.log`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(&self, name: &str, launch: &Launch) -> Result<Service> {
        Service::start(name, launch, self.path.join("log").join(format!("{name}.log")), self.lifetime)
    }

    /// Writes a file that only we may read.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.path.join(name);
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(content.as_ref())?;
        Ok(path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Some(mut janitor) = self.janitor.take() {
            drop(janitor.stdin.take());
            let _ = janitor.wait();
        } else if !keep() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn keep() -> bool {
    std::env::var_os(KEEP).is_some()
}

/// A shell that reads to the end of its input and then removes the folder. It tries again because servers that the kernel ends
/// together with us may write to the last.
fn janitor(path: &Path) -> Result<Child> {
    use std::os::unix::process::CommandExt;
    const SCRIPT: &str = r#"trap '' INT TERM HUP; cat >/dev/null
        for try in 1 2 3 4 5; do rm -rf -- "$1" 2>/dev/null; [ -e "$1" ] || exit 0; sleep 0.3; done"#;
    Command::new("/bin/sh")
        .args(["-c", SCRIPT, "janitor"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start /bin/sh")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn is_removed_on_drop() {
        let dir = RunDir::new(Lifetime::Ours).unwrap();
        let file = dir.write("kubeconfig", "x").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let path = dir.path().to_path_buf();
        drop(dir);
        assert!(!path.exists());
    }
}
