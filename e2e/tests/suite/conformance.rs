//! The behaviour recorded from External Secrets Operator: see `conformance/README.md`.

use std::process::Command;

use anyhow::{Context, Result, bail};
use keyferry_e2e::env::with_namespace;
use keyferry_e2e::{progress, project_root};

fn check(api_version: &str) -> Result<()> {
    with_namespace("conformance", async |ns| {
        ns.env.operator().await?;
        let folder = project_root().join("e2e/conformance");
        let mut run = Command::new(ns.env.tools.python());
        run.current_dir(&folder).env("KUBECONFIG", ns.cluster().kubeconfig()).env("PYTHONDONTWRITEBYTECODE", "1");
        run.args(["run.py", "check", "--golden", "golden", "--list", "delivered.txt", "--api-version", api_version]);
        let output = tokio::task::spawn_blocking(move || run.output()).await?.context("cannot start python")?;
        let said = String::from_utf8_lossy(&output.stdout);
        progress::note(said.lines().last().unwrap_or_default());
        if !output.status.success() {
            bail!("{api_version}:\n{said}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    })
}

/// Both versions in one test: a case's namespaces can be there only once.
#[test]
fn recorded_cases_match() -> Result<()> {
    let (v1, v1beta1) = (check("v1"), check("v1beta1"));
    v1.and(v1beta1)
}
