//! Reads the ConfigMaps and Secrets that a template names, each by its name in the ExternalSecret's own namespace.

use super::Ctx;
use super::chance::SystemChance;
use crate::api::external_secret::Template;
use crate::apply::error::WriteError;
use crate::index::Key;
use crate::plan::external_secret::{Facts, Failure, Gathered};
use crate::plan::target::Desired;
use crate::plan::template;
use crate::providers::ReferenceKind;
use crate::queue::Priority;
use crate::render::Outside;
use crate::render::target::{Source, SourceText, Sources, sources};
use crate::secret_bytes::SecretBytes;

/// Reads what the Secret's template is made of, and renders it.
///
/// # Errors
/// A source that cannot be read, or a template that cannot be rendered.
pub async fn render(ctx: &Ctx, facts: &Facts, gathered: &Gathered, priority: Priority) -> Result<Desired, Failure> {
    let target = facts.es.target();
    let template = target.template.clone().unwrap_or_default();
    let sources = read(ctx, facts, "could not update secret", priority).await?;
    let outside = Outside { now: facts.now, chance: &SystemChance };
    template::render(facts, &ctx.rules, &template, gathered, &sources, outside, &ctx.digester)
}

/// Reads the sources of the object's template. One that is not there is no error here: the rendering tells of it.
///
/// # Errors
/// `message` and why one cannot be read.
pub async fn read(ctx: &Ctx, facts: &Facts, message: &'static str, priority: Priority) -> Result<Sources, Failure> {
    let namespace = facts.es.metadata.namespace.as_deref().unwrap_or_default();
    let target = facts.es.target();
    let Some(template) = &target.template else { return Ok(Sources::new()) };
    read_all(ctx, namespace, template, priority).await.map_err(|e| {
        let failure = e.into_failure(message);
        Failure { bound: false, cause: format!("could not apply template: {}", failure.cause), ..failure }
    })
}

/// Reads the sources of a template, each by its name in that one namespace.
///
/// # Errors
/// The first that cannot be read.
pub async fn read_all(ctx: &Ctx, namespace: &str, template: &Template, priority: Priority) -> Result<Sources, WriteError> {
    let mut read = Sources::new();
    for source in sources(template) {
        let text = read_one(ctx, namespace, &source, priority).await?;
        read.insert(source, text);
    }
    Ok(read)
}

async fn read_one(
    ctx: &Ctx,
    namespace: &str,
    source: &Source,
    priority: Priority,
) -> Result<Option<SourceText>, WriteError> {
    let key = Key::new(namespace, &source.name);
    let version = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
        meta.resource_version.clone().unwrap_or_default()
    };
    Ok(match source.kind {
        ReferenceKind::Secret => ctx.writer.read(&key, priority).await?.map(|secret| SourceText {
            version: version(&secret.metadata),
            texts: secret.data.into_iter().flatten().map(|(k, v)| (k, SecretBytes::new(v.0))).collect(),
        }),
        _ => ctx.writer.read_config_map(&key, priority).await?.map(|map| SourceText {
            version: version(&map.metadata),
            texts: map.data.into_iter().flatten().map(|(k, v)| (k, SecretBytes::from(v))).collect(),
        }),
    })
}
