//! The programs that the tests and the demo run: found, or made once and kept in the cache.

mod debian;
pub mod ldap;
pub mod postgres;
pub mod vault;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, anyhow, bail};

use crate::cache::{Cache, fingerprint};
use crate::{progress, project_root};

const GO_MOD: &str = include_str!("../controlplane/go.mod");
const GO_SUM: &str = include_str!("../controlplane/go.sum");
const GO_MAIN: &str = include_str!("../controlplane/main.go");
const REQUIREMENTS: &str = include_str!("../requirements.txt");
const MOTO: &str = include_str!("../requirements-moto.txt");
const CLIENTS: &str = include_str!("../oracles/clients/requirements.txt");
const HELM: &str = "v3.22.0";
/// The names that the one control plane binary answers to.
const PROGRAMS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The folder with etcd, kube-apiserver, kube-controller-manager and kubectl.
    pub control_plane: PathBuf,
    /// Helm 3.
    pub helm: PathBuf,
    /// The `bin` folder of a Python environment with ministack and PyYAML.
    pub python_bin: PathBuf,
}

impl Tools {
    /// Finds the programs, and makes those that are missing. Takes minutes the first time, nothing later.
    ///
    /// # Errors
    /// When something to make them with is missing (the error says what to install), or a build fails.
    pub fn find_or_make() -> Result<Self> {
        let cache = Cache::open()?;
        need("setpriv", &["--version"], "install util-linux")?;
        // The quick one first: what is wrong with the machine shows early.
        let python_bin = python(&cache)?;
        let control_plane = match given_control_plane() {
            Some(dir) => dir,
            None => build_control_plane(&cache)?,
        };
        Ok(Self { control_plane, helm: helm(&cache)?, python_bin })
    }

    /// kubectl.
    #[must_use]
    pub fn kubectl(&self) -> PathBuf {
        self.control_plane.join("kubectl")
    }

    /// Python with PyYAML.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.python_bin.join("python")
    }

    /// The AWS emulator.
    #[must_use]
    pub fn ministack(&self) -> PathBuf {
        self.python_bin.join("ministack")
    }
}

/// The Kubernetes version that is built, without the `v`: the one that go.mod names.
///
/// # Errors
/// When go.mod does not name it.
pub fn kubernetes_version() -> Result<&'static str> {
    GO_MOD
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"))
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or_else(|| anyhow!("e2e/controlplane/go.mod does not name the version of k8s.io/kubernetes"))
}

/// `KUBEBUILDER_ASSETS`, when it has all we need. The usual set has no controller manager, and without that nothing
/// collects garbage or makes ServiceAccounts.
fn given_control_plane() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("KUBEBUILDER_ASSETS").filter(|dir| !dir.is_empty())?);
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(|name| !dir.join(name).exists()).collect();
    if missing.is_empty() {
        return Some(dir);
    }
    progress::note(format!("KUBEBUILDER_ASSETS ({}) has no {}: using a set of our own", dir.display(), missing.join(", ")));
    None
}

fn build_control_plane(cache: &Cache) -> Result<PathBuf> {
    let version = kubernetes_version()?;
    let flags = version_stamps(version);
    let key = fingerprint(&[GO_MOD, GO_SUM, GO_MAIN, &flags]);
    cache.entry(&format!("controlplane-{version}-{key}"), |dir| {
        let binary = dir.join("controlplane");
        let what = format!("building Kubernetes {version} (once; about 6 minutes on two cores)");
        let mut build = go()?;
        build.current_dir(project_root().join("e2e/controlplane")).env("CGO_ENABLED", "0");
        // Without debug information, which nobody reads here, the link takes half the memory.
        build
            .args(["build", "-v", "-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", &flags, "-o"])
            .arg(&binary)
            .arg(".");
        progress::run(&what, &mut build, &dir.join("build.log"))?;
        for name in PROGRAMS {
            std::os::unix::fs::symlink("controlplane", dir.join(name))?;
        }
        Ok(())
    })
}

/// Linker flags that give the binary its version: kubectl and Helm do not work with one that has none.
fn version_stamps(version: &str) -> String {
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", format!("v{version}")),
            ("gitMajor", major.to_owned()),
            ("gitMinor", minor.to_owned()),
            ("gitCommit", "0".repeat(40)),
            ("gitTreeState", "clean".to_owned()),
            ("buildDate", "2026-01-01T00:00:00Z".to_owned()),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    flags
}

fn helm(cache: &Cache) -> Result<PathBuf> {
    let version = kubernetes_version()?;
    let minor = version.split('.').nth(1).unwrap_or_default();
    // An unstamped Helm takes the cluster for Kubernetes 1.20 when it only renders, and refuses charts that need a newer one.
    let flags = format!(
        "-s -w -X helm.sh/helm/v3/internal/version.version={HELM} -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor={minor} \
         -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor={minor}"
    );
    let dir = cache.entry(&format!("helm-{HELM}-{}", fingerprint(&[&flags])), |dir| {
        let mut install = go()?;
        install.env("CGO_ENABLED", "0").env("GOBIN", dir);
        install.args(["install", "-v", "-ldflags", &flags]).arg(format!("helm.sh/helm/v3/cmd/helm@{HELM}"));
        progress::run(&format!("building Helm {HELM} (once; about 2 minutes)"), &mut install, &dir.join("build.log"))
    })?;
    Ok(dir.join("helm"))
}

pub(crate) fn go() -> Result<Command> {
    need("go", &["version"], "install Go 1.26 or newer and put it on the PATH")?;
    let mut go = Command::new("go");
    // A workspace of the caller has no say here.
    go.env("GOWORK", "off");
    Ok(go)
}

fn python(cache: &Cache) -> Result<PathBuf> {
    python_with(cache, "python", REQUIREMENTS, "setting up the AWS emulator (ministack)")
}

/// Python with the vendors' own clients of the services that the fakes stand for (`e2e/oracles/clients`). Made by the first call,
/// and then kept in the cache.
///
/// # Errors
/// When Python is missing, or its packages cannot be had.
pub fn clients_python() -> Result<PathBuf> {
    Ok(python_with(&Cache::open()?, "clients", CLIENTS, "setting up the vendors' clients")?.join("python"))
}

/// The server of moto, a second AWS emulator. Made by the first call, and then kept in the cache.
///
/// # Errors
/// When Python is missing, or its packages cannot be had.
pub fn moto() -> Result<PathBuf> {
    Ok(python_with(&Cache::open()?, "moto", MOTO, "setting up the second AWS emulator (moto)")?.join("moto_server"))
}

/// The `bin` folder of a Python environment with the packages of `requirements`.
fn python_with(cache: &Cache, name: &str, requirements: &str, what: &str) -> Result<PathBuf> {
    let dir = cache.entry(&format!("{name}-{}", fingerprint(&[requirements])), |dir| {
        let log = dir.join("build.log");
        need("python3", &["--version"], "install Python 3.10 or newer (Debian: apt-get install python3 python3-venv)")?;
        ensure_venv(dir)?;
        let venv = dir.join("venv");
        progress::run(what, Command::new("python3").args(["-m", "venv"]).arg(&venv), &log)?;
        let file = dir.join("requirements.txt");
        std::fs::write(&file, requirements)?;
        let mut install = Command::new(venv.join("bin/python"));
        install.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-r"]).arg(&file);
        progress::run("installing its Python packages", &mut install, &log)
    })?;
    Ok(dir.join("venv/bin"))
}

/// Debian splits the venv module off Python: as root we can install it, otherwise we say how.
fn ensure_venv(dir: &Path) -> Result<()> {
    if works("python3", &["-c", "import ensurepip, venv"]) {
        return Ok(());
    }
    debian::install(
        "python3-venv",
        "Python's venv module is missing (Debian: apt-get install python3-venv)",
        &dir.join("apt.log"),
    )
}

fn works(program: &str, args: &[&str]) -> bool {
    let run = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

fn need(program: &str, args: &[&str], advice: &str) -> Result<()> {
    if works(program, args) { Ok(()) } else { bail!("{program} is missing or does not work: {advice}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_version_comes_from_go_mod() {
        let version = kubernetes_version().unwrap();
        let numbers: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 3);
        let flags = version_stamps(version);
        assert!(flags.contains(&format!("k8s.io/client-go/pkg/version.gitVersion=v{version} ")), "{flags}");
        assert!(flags.contains(&format!("component-base/version.gitMinor={} ", numbers[1])), "{flags}");
    }

    #[test]
    fn every_python_package_is_pinned() {
        for (file, named) in [
            (REQUIREMENTS, ["ministack==", "PyYAML=="]),
            (MOTO, ["moto==", "Flask=="]),
            (CLIENTS, ["doppler-sdk==", "python-gitlab=="]),
        ] {
            let packages: Vec<&str> = file.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
            assert!(named.iter().all(|name| packages.iter().any(|line| line.starts_with(name))));
            assert!(packages.iter().all(|line| line.contains("==")), "{packages:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = need("no-such-program", &[], "install it").unwrap_err().to_string();
        assert_eq!(error, "no-such-program is missing or does not work: install it");
    }
}
