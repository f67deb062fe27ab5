//! Programs that Debian has: found on the machine, installed, or unpacked beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{need, works};
use crate::cache::Cache;
use crate::progress;

/// Installs `package` with its service left alone. As root we can; otherwise `advice` says what to do.
pub(super) fn install(package: &str, advice: &str, log: &Path) -> Result<()> {
    if !rustix::process::geteuid().is_root() || !works("apt-get", &["--version"]) {
        bail!("{advice}");
    }
    apt("reading Debian's package lists", &["update", "-q"], log)?;
    let what = format!("installing {package}");
    apt(&what, &["install", "-y", "-q", "--no-install-recommends", package], log).with_context(|| advice.to_owned())
}

fn apt(what: &str, args: &[&str], log: &Path) -> Result<()> {
    progress::run(what, Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"), log)
}

/// The folder in which `package` and what it needs are unpacked: for servers that would start by themselves if they were installed.
pub(super) fn unpack(cache: &Cache, package: &str) -> Result<PathBuf> {
    let advice = format!("{package} is missing, and only Debian's apt-get can fetch it here");
    let dir = cache.entry(&format!("debian-{package}"), |dir| {
        need("apt-get", &["--version"], &advice)?;
        let (log, debs) = (dir.join("build.log"), dir.join("debs"));
        std::fs::create_dir_all(debs.join("partial"))?;
        let archives = format!("Dir::Cache::archives={}", debs.display());
        let fetch = ["-o", "Debug::NoLocking=1", "-o", &archives, "install", "-y", "-q", "--no-install-recommends"];
        let fetch = [&fetch[..], &["--download-only", "--reinstall", package]].concat();
        let what = format!("fetching {package}");
        if apt(&what, &fetch, &log).is_err() {
            apt("reading Debian's package lists", &["update", "-q"], &log)?;
            apt(&what, &fetch, &log).with_context(|| advice.clone())?;
        }
        for entry in std::fs::read_dir(&debs)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                let mut unpack = Command::new("dpkg-deb");
                unpack.arg("-x").arg(&path).arg(dir.join("root"));
                progress::run(&format!("unpacking {package}"), &mut unpack, &log)?;
            }
        }
        Ok(())
    })?;
    Ok(dir.join("root"))
}
