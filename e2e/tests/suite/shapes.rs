//! Every shape that a manifest can have, shown to a real API server: a dry run with strict field validation takes it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use futures::StreamExt;
use keyferry_e2e::cluster::documents;
use keyferry_e2e::env::{Sandbox, crd_files, with_namespace};
use keyferry_e2e::progress;
use keyferry_e2e::shapes::Shape;
use serde_json::Value;

/// How many random objects of each kind and version.
const RANDOM: u64 = 30;
/// How many requests are under way at once.
const AT_ONCE: usize = 16;
/// No more time is given than this; on a quiet machine it takes a few seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// Every served version of every definition that users install.
fn shapes() -> Result<Vec<Shape>> {
    let mut all = Vec::new();
    for file in crd_files()? {
        for crd in documents(&std::fs::read_to_string(file)?)? {
            all.extend(Shape::all(&crd));
        }
    }
    Ok(all)
}

/// What the API server says to creating an object; nothing is stored.
async fn dry_run(ns: &Sandbox<'_>, shape: &Shape, object: &Value) -> Result<Value> {
    let place = if shape.namespaced { format!("namespaces/{}/", ns.name) } else { String::new() };
    let query = "dryRun=All&fieldValidation=Strict";
    let url = format!("/apis/{}/{}/{place}{}?{query}", shape.group, shape.version, shape.plural);
    let request =
        hyper::Request::post(url).header("content-type", "application/json").body(object.to_string().into_bytes())?;
    Ok(ns.cluster().client.request(request).await?)
}

/// What is wrong with the answer to an object that must be taken.
async fn refusal(ns: &Sandbox<'_>, shape: &Shape, object: &Value) -> Option<String> {
    let error = dry_run(ns, shape, object).await.err()?;
    Some(format!("{} {} is refused: {error:#}\n{object}", shape.api_version(), shape.kind))
}

fn objects(shape: &Shape) -> Result<Vec<Value>> {
    let unmet = |unmet| anyhow!("{} {}: no object has {unmet:?}", shape.api_version(), shape.kind);
    let mut all = shape.complete().map_err(unmet)?;
    for seed in 0..RANDOM {
        all.push(shape.random(1000 + seed).with_context(|| format!("{}: no object of seed {seed}", shape.kind))?);
    }
    Ok(all)
}

#[test]
fn every_shape_of_every_kind_is_accepted() -> Result<()> {
    with_namespace("shapes", async |ns| {
        let started = Instant::now();
        let mut all = Vec::new();
        for shape in shapes()? {
            let objects = objects(&shape)?;
            let shape = std::rc::Rc::new(shape);
            all.extend(objects.into_iter().map(|object| (shape.clone(), object)));
        }
        let count = all.len();
        let answers =
            futures::stream::iter(&all).map(|(shape, object)| refusal(ns, shape, object)).buffer_unordered(AT_ONCE);
        let refused: Vec<String> = answers.filter_map(std::future::ready).collect().await;
        progress::note(format!("shapes: {count} objects, {} refused, in {:?}", refused.len(), started.elapsed()));
        assert!(refused.is_empty(), "{} of {count}:\n{}", refused.len(), refused[..refused.len().min(10)].join("\n"));
        assert!(started.elapsed() < LIMIT, "{count} objects took {:?}", started.elapsed());
        Ok(())
    })
}

/// The test above must not pass because nothing is refused.
#[test]
fn a_field_that_no_schema_has_is_refused() -> Result<()> {
    with_namespace("unknown", async |ns| {
        for shape in shapes()? {
            let mut object = shape.random(1).context("no object")?;
            object["unheardOf"] = true.into();
            let error = dry_run(ns, &shape, &object).await.expect_err("an unknown field");
            let said = format!("{error:#}");
            assert!(said.contains("unknown field \"unheardOf\""), "{} {}: {said}", shape.api_version(), shape.kind);
        }
        Ok(())
    })
}
