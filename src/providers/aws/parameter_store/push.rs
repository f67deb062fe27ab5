//! Writing to Parameter Store: only parameters that carry the tag `managed-by: external-secrets`, and only what differs.

use std::collections::BTreeMap;

use aws_sdk_ssm::types::{Parameter, ParameterTier, ParameterType, ResourceTypeForTagging, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::ParameterStore;
use crate::providers::aws::misconfigured;
use crate::providers::aws::session::Caller;
use crate::providers::aws::tags::{self, Change, DESCRIPTION, Tags};
use crate::providers::push::{self, Left, Place, Push, Pushed};
use crate::providers::{ErrorKind, ProviderError};
use crate::render::json;
use crate::secret_bytes::SecretBytes;

/// Key that new values of type `SecureString` are encrypted with where none is given.
const KEY: &str = "alias/aws/ssm";
const PUT: &str = "ssm:PutParameter";
const STANDARD_TIER: &str = "Standard";

/// The `spec` of an entry's metadata block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct PushMetadata {
    secret_type: String,
    #[serde(rename = "kmsKeyID", alias = "kmsKeyId")]
    kms_key_id: String,
    tier: Tier,
    encode_as_decoded: bool,
    tags: Tags,
    description: String,
}

/// What a parameter costs, and what it can do for that.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tier {
    r#type: String,
    policies: Option<Value>,
}

impl PushMetadata {
    fn of(place: &Place) -> Result<Self, ProviderError> {
        let block: Option<Self> = push::metadata(place.metadata.as_ref())
            .map_err(|e| misconfigured(format!("failed to parse metadata: {}", e.detail)))?;
        let block = block.unwrap_or_default();
        let one_of = |field: &str, value: &str, known: &[&str]| {
            if value.is_empty() || known.contains(&value) {
                return Ok(());
            }
            Err(misconfigured(format!("metadata.spec.{field}: {value:?} is none of {}", known.join(", "))))
        };
        one_of("secretType", &block.secret_type, &["String", "StringList", "SecureString"])?;
        one_of("tier.type", &block.tier.r#type, &[STANDARD_TIER, "Advanced", "Intelligent-Tiering"])?;
        tags::check(&block.tags).map_err(misconfigured)?;
        Ok(block)
    }

    fn secret_type(&self) -> ParameterType {
        let given = Some(self.secret_type.as_str()).filter(|given| !given.is_empty());
        given.map_or(ParameterType::String, ParameterType::from)
    }

    fn key(&self) -> Option<String> {
        let given = if self.kms_key_id.is_empty() { KEY } else { &self.kms_key_id };
        (self.secret_type() == ParameterType::SecureString).then(|| given.to_owned())
    }

    /// The account's default where the tier is `Standard`, as in ESO: a parameter cannot be made one again.
    fn tier(&self) -> Option<ParameterTier> {
        let given = Some(self.tier.r#type.as_str()).filter(|tier| !tier.is_empty() && *tier != STANDARD_TIER);
        given.map(ParameterTier::from)
    }

    /// JSON of the policies, for a tier that has them.
    fn policies(&self) -> Option<String> {
        self.tier()?;
        self.tier.policies.as_ref().filter(|policies| !policies.is_null()).map(Value::to_string)
    }

    fn description(&self) -> &str {
        if self.description.is_empty() { DESCRIPTION } else { &self.description }
    }

    /// What is pushed. Of a whole Secret, as in ESO, the values are base64 unless the block says otherwise.
    fn value(&self, push: &Push) -> Result<SecretBytes, ProviderError> {
        let is_whole = push.secret_key.as_deref().is_none_or(str::is_empty);
        if !is_whole || self.encode_as_decoded {
            return push.value();
        }
        let encoded =
            |(key, value): (&String, &SecretBytes)| (key.clone(), SecretBytes::from(STANDARD.encode(value.expose())));
        Ok(json::object_of_text(&push.source.data.iter().map(encoded).collect::<BTreeMap<_, _>>()))
    }
}

/// Text alone can be kept.
fn text(value: &SecretBytes) -> Result<&str, ProviderError> {
    value.expose_str().ok_or_else(|| {
        misconfigured("Parameter Store keeps text only, and the value is no UTF-8 text: encode it with a template")
    })
}

fn tag((key, value): (String, String)) -> Result<Tag, ProviderError> {
    let built = Tag::builder().key(&key).value(value).build();
    built.map_err(|_| misconfigured(format!("metadata.spec.tags: {key:?} is not complete")))
}

fn all_tags(tags: Tags) -> Result<Vec<Tag>, ProviderError> {
    tags.into_iter().map(tag).collect()
}

impl ParameterStore {
    /// A parameter as it is now; `None` where there is none.
    async fn current(&self, name: &str, caller: &Caller<'_>) -> Result<Option<Parameter>, ProviderError> {
        match self.read(name, caller).await {
            Ok((parameter, _)) => Ok(Some(parameter)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn push_as(&self, push: &Push, caller: &Caller<'_>) -> Result<Pushed, ProviderError> {
        let metadata = PushMetadata::of(&push.place)?;
        let (name, value) = (self.name(&push.place.key), metadata.value(push)?);
        let Some(parameter) = self.current(&name, caller).await? else {
            self.put(&name, &push.merge(value, None)?, &metadata, None, caller).await?;
            return Ok(Pushed::Written);
        };
        let (tags, _) = self.tags(&name, caller).await?;
        if !tags::are_ours(&tags) {
            return Err(tags::not_ours());
        }
        let current = parameter.value.map(SecretBytes::from);
        let value = push.merge(value, current.as_ref())?;
        let mut pushed = self.put_tags(&name, &tags, &metadata, caller).await?;
        if current.as_ref() != Some(&value) {
            self.put(&name, &value, &metadata, Some(metadata.secret_type()), caller).await?;
            pushed = true;
        }
        Ok(if pushed { Pushed::Written } else { Pushed::Unchanged })
    }

    /// Makes a new parameter, or a new version of one that is there. `there`: its type. Tags go with a new one only.
    async fn put(
        &self,
        name: &str,
        value: &SecretBytes,
        metadata: &PushMetadata,
        there: Option<ParameterType>,
        caller: &Caller<'_>,
    ) -> Result<(), ProviderError> {
        let is_new = there.is_none();
        let tags = if is_new { Some(all_tags(tags::marked(&metadata.tags))?) } else { None };
        let request = self
            .client
            .put_parameter()
            .name(name)
            .value(text(value)?)
            .r#type(there.unwrap_or_else(|| metadata.secret_type()))
            .set_key_id(metadata.key())
            .set_tier(metadata.tier())
            .set_policies(metadata.policies())
            .description(metadata.description())
            .overwrite(!is_new)
            .set_tags(tags);
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        caller.written(PUT, name, outcome).await.map(drop).map_err(with_limits)
    }

    /// Makes the tags those of the block, if it names any; whether something changed.
    async fn put_tags(
        &self,
        name: &str,
        there: &Tags,
        metadata: &PushMetadata,
        caller: &Caller<'_>,
    ) -> Result<bool, ProviderError> {
        if metadata.tags.is_empty() {
            return Ok(false);
        }
        let change = Change::between(there, &tags::marked(&metadata.tags));
        let (changed, kind) = (change.is_any(), ResourceTypeForTagging::Parameter);
        if !change.gone.is_empty() {
            let request = self.client.remove_tags_from_resource().resource_type(kind.clone()).resource_id(name);
            let request = request.set_tag_keys(Some(change.gone.into_keys().collect()));
            let outcome = request.customize().interceptor(caller.mark()).send().await;
            caller.answer("ssm:RemoveTagsFromResource", name, outcome).await?;
        }
        if !change.new.is_empty() {
            let request = self.client.add_tags_to_resource().resource_type(kind).resource_id(name);
            let request = request.set_tags(Some(all_tags(change.new)?));
            let outcome = request.customize().interceptor(caller.mark()).send().await;
            caller.answer("ssm:AddTagsToResource", name, outcome).await?;
        }
        Ok(changed)
    }

    /// Takes a property out of the value; the parameter itself where it has no other, or where all of it was pushed.
    pub(super) async fn delete_as(&self, place: &Place, caller: &Caller<'_>) -> Result<(), ProviderError> {
        let name = self.name(&place.key);
        let Some(parameter) = self.current(&name, caller).await? else { return Ok(()) };
        let (tags, _) = self.tags(&name, caller).await?;
        if !tags::are_ours(&tags) {
            return Ok(());
        }
        let current = parameter.value.map(SecretBytes::from).unwrap_or_default();
        match place.left_of(&current) {
            Left::All => return Ok(()),
            Left::Some(left) => {
                let metadata = PushMetadata::of(place).unwrap_or_default();
                let kind = parameter.r#type.unwrap_or_else(|| metadata.secret_type());
                return self.put(&name, &left, &metadata, Some(kind), caller).await;
            }
            Left::Nothing => {}
        }
        let request = self.client.delete_parameter().name(&name);
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        match caller.answer("ssm:DeleteParameter", &name, outcome).await {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) async fn exists_as(&self, place: &Place, caller: &Caller<'_>) -> Result<bool, ProviderError> {
        let Some(parameter) = self.current(&self.name(&place.key), caller).await? else { return Ok(false) };
        let current = parameter.value.map(SecretBytes::from).unwrap_or_default();
        Ok(place.is_in(&current))
    }
}

/// AWS's own words could quote the value: what they are mostly about is said in ours.
fn with_limits(mut error: ProviderError) -> ProviderError {
    if error.detail.ends_with("ValidationException") {
        error.detail.push_str(
            ": names are of letters, digits and .-_/ and do not begin with aws or ssm, and values have 1 to 4096 characters (8192 \
             with metadata.spec.tier.type: Advanced)",
        );
    }
    error
}
