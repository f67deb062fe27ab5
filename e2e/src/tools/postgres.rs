//! PostgreSQL, as Debian has it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::debian;

const ADVICE: &str = "PostgreSQL is missing (Debian: apt-get install postgresql)";

/// The folder with `initdb`, `postgres` and `psql`, of the newest version on this machine. Installs one where there is none.
///
/// # Errors
/// When there is none, and it cannot be installed.
pub fn find_or_install() -> Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let log = tempfile::NamedTempFile::new()?;
    debian::install("postgresql", ADVICE, log.path())?;
    find().context(ADVICE)
}

fn find() -> Option<PathBuf> {
    let whole = |bin: &Path| ["initdb", "postgres", "psql"].iter().all(|program| bin.join(program).exists());
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = debian
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| whole(bin))
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions.pop().map(|(_, bin)| bin).or_else(|| std::env::split_paths(&path).find(|bin| whole(bin)))
}
