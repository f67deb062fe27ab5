//! Reads the ConfigMaps and Secrets that a template names, each by its name in the ExternalSecret's own namespace.

use std::cell::Cell;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::Ctx;
use crate::api::external_secret::Template;
use crate::apply::error::WriteError;
use crate::chance::SystemChance;
use crate::index::Key;
use crate::plan::Rules;
use crate::plan::digest::Digester;
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
    let sources = read(ctx, facts, "could not update secret", priority).await?;
    ctx.rendering(|| render_from(facts, &ctx.rules, gathered, &sources, &ctx.digester)).await
}

/// Renders the Secret's template from sources that were read.
///
/// # Errors
/// A template that cannot be rendered.
pub fn render_from(
    facts: &Facts,
    rules: &Rules,
    gathered: &Gathered,
    sources: &Sources,
    digester: &Digester,
) -> Result<Desired, Failure> {
    let template = facts.es.target().template.clone().unwrap_or_default();
    let taken = Cell::new(0);
    let outside = Outside { now: facts.now, chance: &SystemChance, taken: &taken };
    template::render(facts, rules, &template, gathered, sources, outside, digester)
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
        Failure { bound: facts.target.is_some(), cause: format!("could not apply template: {}", failure.cause), ..failure }
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
    Ok(match source.kind {
        ReferenceKind::Secret => ctx.writer.read(&key, priority).await?.map(text_of_secret),
        _ => ctx.writer.read_config_map(&key, priority).await?.map(text_of_config_map),
    })
}

fn text_of_secret(secret: Secret) -> SourceText {
    SourceText {
        uid: secret.metadata.uid.unwrap_or_default(),
        version: secret.metadata.resource_version.unwrap_or_default(),
        texts: secret.data.into_iter().flatten().map(|(k, v)| (k, SecretBytes::new(v.0))).collect(),
    }
}

/// What templates take of a ConfigMap.
#[must_use]
pub fn text_of_config_map(map: ConfigMap) -> SourceText {
    SourceText {
        uid: map.metadata.uid.unwrap_or_default(),
        version: map.metadata.resource_version.unwrap_or_default(),
        texts: map.data.into_iter().flatten().map(|(k, v)| (k, SecretBytes::from(v))).collect(),
    }
}
