//! The cache folder: what is slow to make is made once, and two processes never make it at the same time.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::progress;

/// Written last into an entry; an entry without it was interrupted and is made again.
const COMPLETE: &str = ".complete";

/// The folder in which tools are kept between runs.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens (and creates) the folder: `KEYFERRY_CACHE`, else `$XDG_CACHE_HOME/keyferry`, else `~/.cache/keyferry`.
    ///
    /// # Errors
    /// When none of the variables is set, or the folder cannot be made.
    pub fn open() -> Result<Self> {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = var("KEYFERRY_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("keyferry")))
            .or_else(|| var("HOME").map(|dir| dir.join(".cache/keyferry")));
        match root {
            Some(root) => Self::at(root),
            None => bail!("no place for the cache: set KEYFERRY_CACHE to a folder that can be written"),
        }
    }

    /// Opens the folder at `root`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn at(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).with_context(|| {
            format!("cannot make the cache folder {}: set KEYFERRY_CACHE to another one", root.display())
        })?;
        // Python environments and kubeconfigs hold this path: it must not depend on the working directory.
        Ok(Self { root: root.canonicalize()? })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the entry `name`, made by `make` if no earlier run completed it. `name` must change when the
    /// content would: see [`fingerprint`].
    ///
    /// # Errors
    /// What `make` returns, or the file system's.
    pub fn entry(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let dir = self.root.join(name);
        let complete = dir.join(COMPLETE);
        if complete.exists() {
            return Ok(dir);
        }
        let _lock = self.lock(name)?;
        if complete.exists() {
            return Ok(dir);
        }
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot clear the unfinished {}", dir.display()))?;
        }
        fs::create_dir_all(&dir)?;
        make(&dir)?;
        fs::write(&complete, "")?;
        Ok(dir)
    }

    /// Waits for, and takes, the lock of `name`; it is released on drop, also by a process that is killed.
    fn lock(&self, name: &str) -> Result<File> {
        let file = File::create(self.root.join(format!("{name}.lock")))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress::note(format!("waiting for another process that is making {name}"));
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the cache"),
        }
        Ok(file)
    }
}

/// Twelve hexadecimal digits that change when any of `parts` does.
#[must_use]
pub fn fingerprint(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn makes_an_entry_once_and_again_after_a_failure() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::at(root.path().to_path_buf()).unwrap();
        let failed = cache.entry("tool-1", |dir| {
            fs::write(dir.join("half"), "")?;
            bail!("interrupted")
        });
        assert_eq!(failed.unwrap_err().to_string(), "interrupted");

        let dir = cache.entry("tool-1", |dir| Ok(fs::write(dir.join("tool"), "x")?)).unwrap();
        assert!(dir.join("tool").exists());
        assert!(!dir.join("half").exists(), "what the failed run left is cleared");
        assert_eq!(cache.entry("tool-1", |_| panic!("made twice")).unwrap(), dir);
    }

    #[test]
    fn side_by_side_only_one_makes_it() {
        let root = tempfile::tempdir().unwrap();
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let cache = Cache::at(root.path().to_path_buf()).unwrap();
                    cache
                        .entry("tool-2", |_| {
                            made.fetch_add(1, Ordering::SeqCst);
                            std::thread::sleep(std::time::Duration::from_millis(30));
                            Ok(())
                        })
                        .unwrap();
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_fingerprint_tells_parts_apart() {
        assert_eq!(fingerprint(&["a", "b"]), fingerprint(&["a", "b"]));
        assert_ne!(fingerprint(&["ab", ""]), fingerprint(&["a", "b"]));
        assert_eq!(fingerprint(&["a"]).len(), 12);
    }
}
