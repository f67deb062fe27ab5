//! The files that users apply: every example, and the chart with every set of values, against the real API server's checks.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use keyferry_e2e::cluster::documents;
use keyferry_e2e::env::{Sandbox, with_namespace, yaml_files};
use keyferry_e2e::operator::render_chart;
use serde_json::Value;

/// What the API server says to applying `yaml`; nothing is stored.
async fn dry_run(ns: &Sandbox<'_>, yaml: &str, name: &Path) -> Result<()> {
    let field = |object: &Value, path| object.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let objects = documents(yaml).with_context(|| name.display().to_string())?;
    assert!(!objects.is_empty(), "{} holds no object", name.display());
    // A dry run makes no namespace, not even one of the same file.
    let namespaces: BTreeSet<String> = objects.iter().filter_map(|object| field(object, "/metadata/namespace")).collect();
    for namespace in &namespaces {
        ns.cluster().ensure_namespace(namespace).await?;
    }
    let args = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    let said = ns.cluster().kubectl_with_input(&args, yaml).await.with_context(|| name.display().to_string())?;
    assert_eq!(said.lines().count(), objects.len(), "{}: {said}", name.display());
    Ok(())
}

#[test]
fn every_example_is_accepted() -> Result<()> {
    with_namespace("examples", async |ns| {
        for file in yaml_files("examples")? {
            dry_run(ns, &std::fs::read_to_string(&file)?, &file).await?;
        }
        Ok(())
    })
}

#[test]
fn the_chart_is_accepted_with_every_set_of_values() -> Result<()> {
    with_namespace("chart", async |ns| {
        for file in yaml_files("charts/keyferry/ci")? {
            let values = file.display().to_string();
            let rendered = render_chart(&ns.env.tools, &[], &["--values", &values]).with_context(|| values.clone())?;
            // The control plane has no Prometheus operator.
            let (ours, _others): (Vec<Value>, Vec<Value>) = documents(&rendered)?
                .into_iter()
                .partition(|object| object["apiVersion"].as_str().is_some_and(|v| !v.starts_with("monitoring.coreos.com/")));
            let yaml: Vec<String> = ours.iter().map(Value::to_string).collect();
            dry_run(ns, &yaml.join("\n---\n"), &file).await?;
        }
        Ok(())
    })
}

/// kubectl keeps a copy of what it applied in an annotation, and annotations may hold 262,144 bytes.
#[test]
fn plain_kubectl_apply_takes_the_crds() -> Result<()> {
    with_namespace("crds", async |ns| {
        for file in yaml_files("crds")? {
            let yaml = std::fs::read_to_string(&file)?;
            for document in documents(&yaml)? {
                assert!(document.to_string().len() < 262_144, "{} is too large for kubectl apply", file.display());
            }
            dry_run(ns, &yaml, &file).await?;
        }
        Ok(())
    })
}
