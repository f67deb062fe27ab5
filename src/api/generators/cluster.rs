//! ClusterGenerator: one generator for many namespaces.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    AcrAccessTokenSpec, BeyondtrustWorkloadCredentialsSpec, CloudsmithAccessTokenSpec, EcrAuthorizationTokenSpec, FakeSpec,
    GcrAccessTokenSpec, GithubAccessTokenSpec, GitlabDeployTokenSpec, GrafanaSpec, MfaSpec, PasswordSpec,
    QuayAccessTokenSpec, SshKeySpec, StsSessionTokenSpec, UuidSpec, VaultDynamicSecretSpec, WebhookSpec,
};
use super::{AnySpec, InvalidSpec, generator_kinds};
use crate::api::external_secret::GeneratorKind;

/// A generator for the ExternalSecrets of many namespaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterGenerator {
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What is to be made.
    pub spec: ClusterGeneratorSpec,
}
super::resource!(ClusterGenerator, "ClusterGenerator", "clustergenerators", super::ClusterResourceScope);

/// What a ClusterGenerator makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterGeneratorSpec {
    /// Kind of the generator.
    #[schemars(schema_with = "namespaced_kinds")]
    pub kind: GeneratorKind,
    /// Its spec: exactly one block, that of the kind.
    #[schemars(schema_with = "blocks")]
    pub generator: Map<String, Value>,
}

fn namespaced_kinds(_: &mut SchemaGenerator) -> Schema {
    let kinds: Vec<&str> = GeneratorKind::ALL.iter().filter(|k| k.block().is_some()).map(|k| k.as_str()).collect();
    json_schema!({ "type": "string", "enum": kinds })
}

macro_rules! cluster_blocks {
    ($($kind:ident, $plural:literal, $field:ident = $name:literal: $spec:ident, $about:literal;)+) => {
        fn blocks(generator: &mut SchemaGenerator) -> Schema {
            let mut properties = Map::new();
            $({
                let mut schema = generator.subschema_for::<$spec>();
                schema.insert("description".into(), $about.into());
                properties.insert($name.into(), schema.into());
            })+
            json_schema!({
                "type": "object",
                "properties": properties,
                "minProperties": 1,
                "maxProperties": 1,
            })
        }
    };
}
generator_kinds!(cluster_blocks);

/// The namespaced generator that a ClusterGenerator stands for. The texts are ESO's.
///
/// # Errors
/// [`InvalidSpec`] where the block of its kind is missing or wrong.
pub fn resolve(spec: &ClusterGeneratorSpec) -> Result<AnySpec, InvalidSpec> {
    let kind = spec.kind;
    let Some(block) = kind.block() else {
        return Err(InvalidSpec(format!("unknown kind {kind}")));
    };
    match spec.generator.get(block) {
        Some(inner) => AnySpec::read(kind, inner.clone(), &format!("spec.generator.{block}")),
        // ESO names the field of its Go struct
        None => Err(InvalidSpec(format!("when kind is {kind}, {kind}Spec must be set"))),
    }
}
