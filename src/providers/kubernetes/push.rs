//! What a push makes of a remote Secret. Pure: the session reads before and writes after.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

use super::{ErrorKind, ProviderError};
use crate::api::secret_store::StoreKind;
use crate::providers::push::{self, Place, Push};
use crate::validate;

/// `kubectl apply` keeps the whole object in it, values and all: it is no metadata to hand on.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The `spec` of an entry's metadata block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct PushMetadata {
    target_merge_policy: String,
    source_merge_policy: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    remote_namespace: String,
}

impl PushMetadata {
    /// The block of an entry, or the default one.
    pub fn of(place: &Place) -> Result<Self, ProviderError> {
        let block: Option<Self> = push::metadata(place.metadata.as_ref())
            .map_err(|e| misconfigured(format!("unable to parse metadata parameters: {}", e.detail)))?;
        Ok(block.unwrap_or_default())
    }

    /// The namespace that the entry goes to, if not the store's.
    pub fn namespace(&self, kind: StoreKind) -> Result<Option<&str>, ProviderError> {
        match self.remote_namespace.as_str() {
            "" => Ok(None),
            _ if kind != StoreKind::ClusterSecretStore => {
                Err(misconfigured("remoteNamespace override is only supported with ClusterSecretStore"))
            }
            namespace if super::session::is_namespace(namespace) => Ok(Some(namespace)),
            namespace => {
                Err(misconfigured(format!("metadata.spec.remoteNamespace {namespace:?} is not a namespace's name")))
            }
        }
    }

    /// Labels, then annotations, of the remote Secret.
    fn merged(&self, push: &Push, live: &Secret) -> Result<[BTreeMap<String, String>; 2], ProviderError> {
        let mut annotations = push.source.annotations.clone();
        annotations.remove(LAST_APPLIED);
        let sources = match self.source_merge_policy.as_str() {
            "" | "Merge" => [over(push.source.labels.clone(), &self.labels), over(annotations, &self.annotations)],
            "Replace" => [self.labels.clone(), self.annotations.clone()],
            other => {
                return Err(misconfigured(format!(
                    "failed to merge source metadata: unexpected source merge policy {other:?}"
                )));
            }
        };
        let [labels, annotations] = sources;
        let live = [live.metadata.labels.clone(), live.metadata.annotations.clone()].map(Option::unwrap_or_default);
        match self.target_merge_policy.as_str() {
            "" | "Merge" => {
                let [there_labels, there_annotations] = live;
                Ok([over(there_labels, &labels), over(there_annotations, &annotations)])
            }
            "Replace" => Ok([labels, annotations]),
            "Ignore" => Ok(live),
            other => {
                Err(misconfigured(format!("failed to merge target metadata: unexpected target merge policy {other:?}")))
            }
        }
    }
}

/// One map over another.
fn over(mut under: BTreeMap<String, String>, above: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    under.extend(above.iter().map(|(k, v)| (k.clone(), v.clone())));
    under
}

fn misconfigured(text: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}

/// Checks what an entry says before anything is read.
pub(super) fn check(push: &Push) -> Result<(), ProviderError> {
    let keyed = push.secret_key.as_deref().is_some_and(|k| !k.is_empty());
    if keyed && push.place.property().is_none() {
        return Err(misconfigured("requires property in RemoteRef to push secret value if secret key is defined"));
    }
    Ok(())
}

/// The remote Secret with the push in it. `live`: as it is; a new one has nothing but its name.
pub(super) fn pushed(push: &Push, metadata: &PushMetadata, live: &Secret) -> Result<Secret, ProviderError> {
    let mut wanted = live.clone();
    let type_ = push.source.type_.as_deref().filter(|t| !t.is_empty()).unwrap_or("Opaque");
    if let Some(there) = live.type_.as_deref().filter(|there| *there != type_) {
        // as the API server would put it
        return Err(misconfigured(format!(
            "Secret {:?} is invalid: type: Invalid value: {type_:?}: field is immutable: the remote Secret is of type {there:?}; \
             delete it, or set template.type",
            push.place.key
        )));
    }
    wanted.type_ = Some(type_.to_owned());
    let [labels, annotations] = metadata.merged(push, live)?;
    // with the rights of the store, which may be more than those of who pushes
    validate::validate_secret_type(Some(type_), &annotations)
        .map_err(|e| misconfigured(format!("a push must not mint credentials: {}", e.message)))?;
    set(&mut wanted.metadata.labels, labels);
    set(&mut wanted.metadata.annotations, annotations);
    let data = wanted.data.get_or_insert_with(BTreeMap::new);
    match push.place.property() {
        None => {
            let all = push.source.data.iter().map(|(k, v)| (k.clone(), ByteString(v.expose().to_vec())));
            *data = all.collect();
        }
        Some(property) => {
            data.insert(property.to_owned(), ByteString(push.value()?.expose().to_vec()));
        }
    }
    Ok(wanted)
}

/// Sets a map; one that is empty and was not there stays away.
fn set(field: &mut Option<BTreeMap<String, String>>, map: BTreeMap<String, String>) {
    if !map.is_empty() || field.is_some() {
        *field = Some(map);
    }
}

/// What is left of the remote Secret without the place.
#[derive(Debug, PartialEq)]
pub(super) enum Left {
    /// All of it: there was nothing at the place.
    All,
    /// This.
    Some(Box<Secret>),
    /// Nothing.
    Nothing,
}

/// Takes a place out of the remote Secret: its property, or all of it.
pub(super) fn without(place: &Place, live: &Secret) -> Left {
    let Some(property) = place.property() else { return Left::Nothing };
    let data = live.data.as_ref();
    if !data.is_some_and(|d| d.contains_key(property)) {
        return Left::All;
    }
    let mut left = live.clone();
    let data = left.data.get_or_insert_with(BTreeMap::new);
    data.remove(property);
    if data.is_empty() { Left::Nothing } else { Left::Some(Box::new(left)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::providers::push::Source;
    use crate::secret_bytes::SecretBytes;

    fn block(spec: &Value) -> Value {
        json!({
            "apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": "PushSecretMetadata", "spec": spec,
        })
    }

    fn push(secret_key: Option<&str>, property: Option<&str>, metadata: Option<Value>) -> Push {
        let source = Source {
            data: BTreeMap::from([("a".into(), SecretBytes::from("1")), ("b".into(), SecretBytes::from("2"))]),
            labels: BTreeMap::from([("own".into(), "l".into())]),
            annotations: BTreeMap::from([("own".into(), "a".into()), (LAST_APPLIED.into(), "all values".into())]),
            ..Source::default()
        };
        let place = Place { key: "r".into(), property: property.map(Into::into), metadata, ..Place::default() };
        Push { source: Arc::new(source), secret_key: secret_key.map(Into::into), place }
    }

    fn live(yaml: &str) -> Secret {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn data(secret: &Secret) -> Vec<(&str, &str)> {
        let data = secret.data.as_ref().unwrap();
        data.iter().map(|(k, v)| (k.as_str(), std::str::from_utf8(&v.0).unwrap())).collect()
    }

    fn make(push: &Push, live: &Secret) -> Result<Secret, ProviderError> {
        check(push)?;
        pushed(push, &PushMetadata::of(&push.place)?, live)
    }

    #[test]
    fn a_property_is_a_key_and_nothing_is_the_whole() {
        let there = live("metadata: {name: r}\ntype: Opaque\ndata: {x: eQ==}");
        let made = |key, property| make(&push(key, property, None), &there).unwrap();
        assert_eq!(data(&made(Some("a"), Some("p"))), [("p", "1"), ("x", "y")]);
        assert_eq!(data(&made(None, Some("p"))), [("p", r#"{"a":"1","b":"2"}"#), ("x", "y")]);
        assert_eq!(data(&made(None, None)), [("a", "1"), ("b", "2")], "the whole Secret replaces all data");
        let error = make(&push(Some("a"), None, None), &there).unwrap_err();
        assert_eq!(error.detail, "requires property in RemoteRef to push secret value if secret key is defined");
    }

    #[test]
    fn metadata_is_merged_as_the_block_says() {
        let there = live("metadata: {labels: {there: t}, annotations: {there: t}}");
        let given = json!({ "given": "g" });
        for (policies, expected) in [
            (json!({}), vec!["given", "own", "there"]),
            (json!({ "targetMergePolicy": "Merge", "sourceMergePolicy": "Merge" }), vec!["given", "own", "there"]),
            (json!({ "targetMergePolicy": "Replace" }), vec!["given", "own"]),
            (json!({ "targetMergePolicy": "Ignore" }), vec!["there"]),
            (json!({ "sourceMergePolicy": "Replace" }), vec!["given", "there"]),
        ] {
            let mut spec = policies.clone();
            spec["labels"] = given.clone();
            spec["annotations"] = given.clone();
            let made = make(&push(Some("a"), Some("a"), Some(block(&spec))), &there).unwrap().metadata;
            let keys = |map: &Option<BTreeMap<String, String>>| map.as_ref().unwrap().keys().cloned().collect::<Vec<_>>();
            assert_eq!(
                (keys(&made.labels), keys(&made.annotations)),
                (keys_of(&expected), keys_of(&expected)),
                "{policies}"
            );
        }
        for (spec, text) in [
            (json!({ "sourceMergePolicy": "X" }), "failed to merge source metadata: unexpected source merge policy \"X\""),
            (json!({ "targetMergePolicy": "X" }), "failed to merge target metadata: unexpected target merge policy \"X\""),
        ] {
            assert_eq!(make(&push(Some("a"), Some("a"), Some(block(&spec))), &there).unwrap_err().detail, text);
        }
        let wrong = make(&push(Some("a"), Some("a"), Some(json!({ "apiVersion": "other/v1" }))), &there).unwrap_err();
        assert!(wrong.detail.starts_with("unable to parse metadata parameters: unexpected apiVersion"), "{wrong}");
    }

    fn keys_of(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|k| (*k).to_owned()).collect()
    }

    #[test]
    fn what_kubectl_keeps_of_the_source_is_not_handed_on() {
        let made = make(&push(None, None, None), &Secret::default()).unwrap();
        assert_eq!(made.metadata.annotations, Some(BTreeMap::from([("own".to_owned(), "a".to_owned())])));
        assert_eq!(made.type_.as_deref(), Some("Opaque"));
    }

    #[test]
    fn an_unchanged_secret_is_the_same() {
        let made = make(&push(None, None, None), &Secret::default()).unwrap();
        assert_eq!(make(&push(None, None, None), &made).unwrap(), made);
    }

    #[test]
    fn only_a_cluster_store_goes_to_another_namespace() {
        let metadata = |namespace: &str| {
            let block = block(&json!({ "remoteNamespace": namespace }));
            PushMetadata::of(&push(None, None, Some(block)).place).unwrap()
        };
        assert_eq!(metadata("x").namespace(StoreKind::ClusterSecretStore), Ok(Some("x")));
        assert_eq!(metadata("").namespace(StoreKind::SecretStore), Ok(None));
        let error = metadata("x").namespace(StoreKind::SecretStore).unwrap_err();
        assert_eq!(error.detail, "remoteNamespace override is only supported with ClusterSecretStore");
        assert!(metadata("../configmaps").namespace(StoreKind::ClusterSecretStore).is_err());
    }

    #[test]
    fn the_type_cannot_change() {
        let error = make(&push(None, None, None), &live("type: kubernetes.io/tls")).unwrap_err();
        assert!(error.detail.contains("kubernetes.io/tls") && error.detail.contains("Opaque"), "{error}");
    }

    /// As CVE-2026-42876, by way of a store: its rights would give out tokens of ServiceAccounts beside the remote Secret.
    #[test]
    fn no_push_mints_a_credential() {
        let token = "kubernetes.io/service-account-token";
        let name = json!({ "kubernetes.io/service-account.name": "default" });
        let of_type = |type_: &str, metadata: Option<Value>| {
            let mut push = push(None, None, metadata);
            Arc::get_mut(&mut push.source).unwrap().type_ = Some(type_.into());
            push
        };
        let by_block = of_type(token, Some(block(&json!({ "annotations": name }))));
        let mut by_source = of_type(token, None);
        let annotations = &mut Arc::get_mut(&mut by_source.source).unwrap().annotations;
        annotations.insert("kubernetes.io/service-account.name".into(), "default".into());
        for push in [by_block, by_source, of_type("bootstrap.kubernetes.io/token", None)] {
            let error = make(&push, &Secret::default()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Misconfigured);
            assert!(error.detail.contains("is not allowed"), "{error}");
        }
    }

    #[test]
    fn deleting_takes_the_property_or_all() {
        let there = live("data: {x: eQ==, z: eQ==}");
        let place = |property: Option<&str>| Place { property: property.map(Into::into), ..Place::default() };
        assert!(matches!(without(&place(Some("x")), &there), Left::Some(left) if data(&left) == [("z", "y")]));
        assert_eq!(without(&place(Some("nope")), &there), Left::All);
        assert_eq!(without(&place(None), &there), Left::Nothing);
        assert_eq!(without(&place(Some("x")), &live("data: {x: eQ==}")), Left::Nothing);
    }
}
