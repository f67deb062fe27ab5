//! HashiCorp Vault, built from its Go modules. It is run by tests and shipped to nobody, as its licence (BUSL-1.1) has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::go;
use crate::cache::{Cache, fingerprint};
use crate::progress;

const GO_MOD: &str = include_str!("../../vault/go.mod");
const GO_SUM: &str = include_str!("../../vault/go.sum");
const MODULE: &str = "github.com/hashicorp/vault";
/// Vault is built against a state of its own SDK that was never published. It lies between these two.
const SDK: &str = "github.com/hashicorp/vault/sdk";
const SDK_BEFORE: &str = "v0.21.0";
const SDK_AFTER: &str = "v0.24.0";
/// What the newer SDK has and Vault uses: a file of it, and a change in another one.
const NEWER_FILE: &str = "helper/keysutil/lock_manager.go";
const CHANGED_FILE: &str = "framework/backend.go";
const CHANGE: [&str; 2] = [
    "ActivationFunc func(context.Context, *logical.Request, string) error",
    "ActivationFunc func(context.Context, *logical.Request) error",
];
const LINKER: &str = "-s -w";

/// The version that is built, without the `v`: the one that go.mod names.
///
/// # Errors
/// When go.mod does not name it.
pub fn version() -> Result<&'static str> {
    let line = GO_MOD.lines().find_map(|line| line.trim().strip_prefix(MODULE)?.strip_prefix(" v"));
    line.and_then(|rest| rest.split_whitespace().next()).context("e2e/vault/go.mod does not name the version of Vault")
}

/// The program, built by the first call ever.
///
/// # Errors
/// When Go is missing or the build fails.
pub fn find_or_make() -> Result<PathBuf> {
    let version = version()?;
    let key = fingerprint(&[GO_MOD, GO_SUM, SDK_BEFORE, SDK_AFTER, NEWER_FILE, CHANGED_FILE, CHANGE[0], CHANGE[1], LINKER]);
    let dir = Cache::open()?.entry(&format!("vault-{version}-{key}"), |dir| {
        let source = dir.join("source");
        fs::create_dir_all(&source)?;
        fs::write(source.join("go.mod"), GO_MOD)?;
        fs::write(source.join("go.sum"), GO_SUM)?;
        patch_sdk(&source)?;
        let mut build = go_in(&source)?;
        build.args(["build", "-v", "-trimpath", "-ldflags", LINKER, "-o"]).arg(dir.join("vault")).arg(MODULE);
        // Its last step takes 4.7 GB of memory.
        let what = format!("building Vault {version} for the tests (once; about 12 minutes on two cores)");
        progress::run(&what, &mut build, &dir.join("build.log"))?;
        check(&dir.join("vault"), version)?;
        Ok(fs::remove_dir_all(&source)?)
    })?;
    Ok(dir.join("vault"))
}

fn go_in(dir: &Path) -> Result<Command> {
    let mut go = go()?;
    go.current_dir(dir).env("CGO_ENABLED", "0");
    Ok(go)
}

/// Puts the SDK that Vault needs into `source/sdk`, and makes go.mod use it.
fn patch_sdk(source: &Path) -> Result<()> {
    let (before, after) = (module(source, SDK_BEFORE)?, module(source, SDK_AFTER)?);
    let sdk = source.join("sdk");
    copy(&before, &sdk)?;
    fs::write(sdk.join(NEWER_FILE), fs::read(after.join(NEWER_FILE))?)?;
    let changed = fs::read_to_string(sdk.join(CHANGED_FILE))?;
    ensure!(changed.matches(CHANGE[0]).count() == 1, "{CHANGED_FILE} of {SDK} {SDK_BEFORE} is not what it was");
    fs::write(sdk.join(CHANGED_FILE), changed.replace(CHANGE[0], CHANGE[1]))?;
    Ok(fs::write(source.join("go.mod"), format!("{GO_MOD}\nreplace {SDK} => ./sdk\n"))?)
}

/// Where Go keeps a version of the SDK, checked against go.sum.
fn module(source: &Path, version: &str) -> Result<PathBuf> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Module {
        dir: Option<PathBuf>,
        error: Option<String>,
    }
    let output = go_in(source)?.args(["mod", "download", "-json", &format!("{SDK}@{version}")]).output()?;
    let module: Module = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("cannot download {SDK} {version}: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
    module.dir.with_context(|| format!("cannot download {SDK} {version}: {}", module.error.unwrap_or_default()))
}

/// Copies the folder without the read-only permissions of Go's module cache.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::write(to, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

/// Whether the program is what it should be.
fn check(program: &Path, version: &str) -> Result<()> {
    let output = Command::new(program).arg("version").output()?;
    let says = String::from_utf8_lossy(&output.stdout).into_owned();
    if says.split([' ', ',', '\n']).nth(1) != Some(&format!("v{version}")) {
        bail!("the program that was built is not Vault {version}: it says {:?}", says.trim());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_go_mod() {
        let numbers: Vec<u32> = version().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 3);
        for version in [SDK_BEFORE, SDK_AFTER] {
            assert!(GO_SUM.contains(&format!("{SDK} {version} h1:")), "go.sum does not pin {version}");
        }
    }

    #[test]
    fn another_program_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("vault");
        fs::write(&program, "#!/bin/sh\necho 'Vault v1.20.0, built y'\n").unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let error = check(&program, "1.21.4").unwrap_err().to_string();
        assert!(error.starts_with("the program that was built is not Vault 1.21.4"), "{error}");
        check(&program, "1.20.0").unwrap();
    }
}
