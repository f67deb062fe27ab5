//! GeneratorState: what must be cleaned up once a generated value is out of use.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AnyObject;

/// Label of a state: the hash of what it belongs to.
pub const OWNER_KEY: &str = "generators.external-secrets.io/owner-key";
/// Finalizer of a state: whoever holds it cleans up before the state goes.
pub const FINALIZER: &str = "generatorstate.externalsecrets.io/finalizer";

/// What a stateful generator made, and how it is cleaned up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GeneratorState {
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What it holds.
    pub spec: GeneratorStateSpec,
}
super::resource!(GeneratorState, "GeneratorState", "generatorstates", super::NamespaceResourceScope);

/// What a GeneratorState holds. No secret: ids at the other side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GeneratorStateSpec {
    /// When it is cleaned up. Left out: it belongs to the value in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub garbage_collection_deadline: Option<Time>,
    /// The generator as it was when the value was made.
    pub resource: AnyObject,
    /// What the generator needs to clean up.
    pub state: AnyObject,
}
