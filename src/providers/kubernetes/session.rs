//! Reads and writes Secrets, and checks that they may be read.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, ResourceRule, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec,
};
use k8s_openapi::api::core::v1::Secret;
use kube::Resource as _;
use kube::api::{DeleteParams, GetParams, ListParams, PostParams, Preconditions};
use kube::core::{ObjectList, request};
use regex::Regex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::data::{self, Parts};
use super::push::{self, Left, PushMetadata};
use super::remote::Remote;
use super::{ErrorKind, ProviderError, Session, Taker};
use crate::api::external_secret::MetadataPolicy;
use crate::api::secret_store::StoreKind;
use crate::guard::Guard;
use crate::providers::{CallCx, Fetched, FindQuery, Found, Place, Push, Pushed, Room, Validation, Want};
use crate::secret_bytes::SecretBytes;

/// Secrets in one page of a list, and in one where that is more than an answer may have: the largest fit.
const PAGE: u32 = 50;
const SMALL_PAGE: u32 = 8;
/// Most pages of a list.
const PAGES: usize = 1000;

/// How often a write is begun anew because the Secret changed under it.
const MOST_CONFLICTS: usize = 3;

/// A login to one namespace of an API server. Every call names that namespace, a list too: a store never sees another one. Only
/// a push by a ClusterSecretStore may name another, in its metadata.
pub(super) struct KubernetesSession {
    remote: Remote,
    kind: StoreKind,
    namespace: String,
    names: request::Request,
}

impl KubernetesSession {
    pub fn new(remote: Remote, kind: StoreKind, namespace: &str) -> Self {
        Self { remote, kind, namespace: namespace.to_owned(), names: names(namespace) }
    }

    /// Where a place is: the address of its namespace's Secrets, and what to call it in errors.
    fn spot(&self, place: &Place, metadata: &PushMetadata) -> Result<Spot, ProviderError> {
        let namespace = metadata.namespace(self.kind)?.unwrap_or(&self.namespace);
        if !is_name(&place.key) {
            let text = format!(
                "remoteRef.remoteKey {:?} is not the name of a Secret: lower-case letters, digits, '-' and '.'",
                place.key
            );
            return Err(ProviderError::new(ErrorKind::Misconfigured, text));
        }
        Ok(Spot { names: names(namespace), what: what(namespace, &place.key), name: place.key.clone() })
    }

    /// The Secret at a spot, if there is one.
    async fn look(&self, spot: &Spot, cx: &CallCx) -> Result<Option<Secret>, ProviderError> {
        let request = spot.names.get(&spot.name, &GetParams::default()).map_err(|_| unsendable(&spot.what))?;
        match self.remote.call(request, &spot.what, cx).await {
            Ok(secret) => Ok(Some(secret)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a Secret, under the resourceVersion that it was read with.
    async fn write(&self, spot: &Spot, secret: &Secret, new: bool, cx: &CallCx) -> Result<(), ProviderError> {
        let body = serde_json::to_vec(secret).map_err(|_| unsendable(&spot.what))?;
        let request = match new {
            true => spot.names.create(&PostParams::default(), body),
            false => spot.names.replace(&spot.name, &PostParams::default(), body),
        };
        self.remote.call(request.map_err(|_| unsendable(&spot.what))?, &spot.what, cx).await.map(|_: Secret| ())
    }

    async fn push_once(
        &self,
        push: &Push,
        spot: &Spot,
        metadata: &PushMetadata,
        cx: &CallCx,
    ) -> Result<Pushed, ProviderError> {
        let live = self.look(spot, cx).await?;
        let new = live.is_none();
        let mut live = live.unwrap_or_default();
        live.metadata.name = Some(spot.name.clone());
        let wanted = push::pushed(push, metadata, &live)?;
        if !new && wanted == live {
            return Ok(Pushed::Unchanged);
        }
        self.write(spot, &wanted, new, cx).await.map(|()| Pushed::Written)
    }

    async fn delete_once(&self, place: &Place, spot: &Spot, cx: &CallCx) -> Result<(), ProviderError> {
        let Some(live) = self.look(spot, cx).await? else { return Ok(()) };
        match push::without(place, &live) {
            Left::All => Ok(()),
            Left::Some(left) => self.write(spot, &left, false, cx).await,
            Left::Nothing => {
                let Secret { metadata, .. } = live;
                let preconditions = Preconditions { uid: metadata.uid, resource_version: metadata.resource_version };
                let params = DeleteParams::default().preconditions(preconditions);
                let request = spot.names.delete(&spot.name, &params).map_err(|_| unsendable(&spot.what))?;
                let gone: Result<serde_json::Value, _> = self.remote.call(request, &spot.what, cx).await;
                match gone {
                    Err(error) if error.kind != ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }

    async fn read(&self, want: &Want, cx: &CallCx) -> Result<Fetched, ProviderError> {
        let what = what(&self.namespace, &want.key);
        if !is_name(&want.key) {
            let text =
                format!("remoteRef.key {:?} is not the name of a Secret: lower-case letters, digits, '-' and '.'", want.key);
            return Err(ProviderError::new(ErrorKind::Misconfigured, text));
        }
        let request = self.names.get(&want.key, &GetParams::default()).map_err(|_| unsendable(&what))?;
        let secret: Secret = self.remote.call(request, &what, cx).await.map_err(|error| match error.kind {
            ErrorKind::NotFound => ProviderError::not_found(&format!("{}/{}", self.namespace, want.key)),
            _ => error,
        })?;
        let version = secret.metadata.resource_version.clone();
        let bytes = data::pack(&data::parts(secret, want.metadata));
        Ok(Fetched { bytes, version, request_id: None })
    }

    /// The Secrets of a list whose names an expression lets pass.
    async fn listed(&self, params: ListParams, name: Option<&Regex>, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let what = format!("the list of Secrets in {}", self.namespace);
        let (mut params, mut size, mut all, room) = (params, PAGE, Vec::new(), Room::default());
        for _ in 0..PAGES {
            params = params.limit(size);
            let request = self.names.list(&params).map_err(|_| unsendable(&what))?;
            let page: ObjectList<Guard<Secret>> = match self.remote.call(request, &what, cx).await {
                // too large, it may be: those of Helm's releases have hundreds of kilobytes each
                Err(error) if error.kind == ErrorKind::Malformed && size > SMALL_PAGE => {
                    size = SMALL_PAGE;
                    continue;
                }
                page => page?,
            };
            size = PAGE.min(2 * size);
            for secret in page.items {
                let secret = secret.0.map_err(|(meta, why)| {
                    let text = format!("{what}: {:?} cannot be understood: {why}", meta.name.unwrap_or_default());
                    ProviderError::new(ErrorKind::Malformed, text)
                })?;
                let found = secret.metadata.name.clone().unwrap_or_default();
                if name.is_none_or(|name| name.is_match(&found)) {
                    let bytes = data::whole(&data::parts(secret, MetadataPolicy::None), MetadataPolicy::None);
                    room.take(found.len() + bytes.len())?;
                    all.push(Found { name: found, bytes });
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
        Err(ProviderError::new(ErrorKind::Malformed, format!("{what}: it does not end")))
    }

    async fn review<T: Serialize + DeserializeOwned>(
        &self,
        path: String,
        review: &T,
        cx: &CallCx,
    ) -> Result<T, ProviderError> {
        let what = "the check of the store's rights";
        let body = serde_json::to_vec(review).map_err(|_| unsendable(what))?;
        let request = request::Request::new(path).create(&PostParams::default(), body).map_err(|_| unsendable(what))?;
        self.remote.call(request, what, cx).await
    }

    async fn may_read(&self, cx: &CallCx) -> Result<bool, ProviderError> {
        let rules = SelfSubjectRulesReview {
            spec: SelfSubjectRulesReviewSpec { namespace: Some(self.namespace.clone()) },
            ..SelfSubjectRulesReview::default()
        };
        let rules = self.review(SelfSubjectRulesReview::url_path(&(), None), &rules, cx).await?;
        if rules.status.is_some_and(|status| status.resource_rules.iter().any(allows_reading)) {
            return Ok(true);
        }
        // The list of rules may be incomplete, with a webhook authorizer for one; the single question is always answered.
        let access = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(self.namespace.clone()),
                    resource: Some("secrets".to_owned()),
                    verb: Some("get".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let access = self.review(SelfSubjectAccessReview::url_path(&(), None), &access, cx).await?;
        Ok(access.status.is_some_and(|status| status.allowed))
    }
}

#[async_trait]
impl Session for KubernetesSession {
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        join_all(wants.iter().map(|want| self.read(want, cx))).await
    }

    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let params = ListParams::default();
        if !query.tags.is_empty() {
            return self.listed(params.labels(&selector(&query.tags)?), None, cx).await;
        }
        if query.name.is_empty() && !query.path.is_empty() {
            let text = "find.path means nothing to Kubernetes: use find.name or find.tags";
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        self.listed(params, Some(&query.matcher()?), cx).await
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        push::check(push)?;
        let metadata = PushMetadata::of(&push.place)?;
        let spot = self.spot(&push.place, &metadata)?;
        for _ in 1..MOST_CONFLICTS {
            match self.push_once(push, &spot, &metadata, cx).await {
                Err(error) if error.kind == ErrorKind::Conflict => {}
                result => return result,
            }
        }
        self.push_once(push, &spot, &metadata, cx).await
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let spot = self.spot(place, &PushMetadata::of(place)?)?;
        for _ in 1..MOST_CONFLICTS {
            match self.delete_once(place, &spot, cx).await {
                Err(error) if error.kind == ErrorKind::Conflict => {}
                result => return result,
            }
        }
        self.delete_once(place, &spot, cx).await
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let spot = self.spot(place, &PushMetadata::of(place)?)?;
        let live = self.look(&spot, cx).await?;
        let has = |secret: &Secret, property| secret.data.as_ref().is_some_and(|d| d.contains_key(property));
        Ok(live.is_some_and(|secret| place.property().is_none_or(|property| has(&secret, property))))
    }

    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        match self.may_read(cx).await {
            Ok(true) => Ok(Validation::Ready),
            Ok(false) => Err(ProviderError::new(ErrorKind::Denied, "client is not allowed to get secrets")),
            Err(error) => Ok(Validation::Unknown(format!("could not verify if client is valid: {error}"))),
        }
    }

    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        SecretTaker.whole(want, value)
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        SecretTaker.property(want, value, property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Parts, ProviderError> {
        SecretTaker.extract(want, value, property)
    }
}

/// Takes Secrets apart.
pub(super) struct SecretTaker;

impl Taker for SecretTaker {
    fn stored(&self, want: &Want, written: SecretBytes) -> Result<SecretBytes, ProviderError> {
        data::written(&written).map(|parts| data::pack(&parts)).ok_or_else(|| {
            let text = format!("the value of {:?} stands for a Secret: write a map of its keys and values", want.key);
            ProviderError::new(ErrorKind::Misconfigured, text)
        })
    }

    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        Ok(data::whole(&unpack(want, value)?, want.metadata))
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        let parts = unpack(want, value)?;
        let (found, place) = match want.metadata {
            MetadataPolicy::None => (data::property_of_data(&parts, property), "data"),
            MetadataPolicy::Fetch => (data::property_of_metadata(&parts, property), "metadata"),
        };
        found.ok_or_else(|| {
            let text = format!("property {property} does not exist in {place} of secret {:?}", want.key);
            ProviderError::new(ErrorKind::MissingProperty, text)
        })
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Parts, ProviderError> {
        let parts = unpack(want, value)?;
        let Some(property) = property else { return Ok(parts) };
        match data::extract_property(&parts, property) {
            Some(Ok(found)) => Ok(found),
            Some(Err(data::NotAnObject)) => {
                let text = format!("property {property} of secret {:?} is not a JSON object", want.key);
                Err(ProviderError::new(ErrorKind::Malformed, text))
            }
            None => {
                let text = format!("property {property} does not exist in key {}", want.key);
                Err(ProviderError::new(ErrorKind::MissingProperty, text))
            }
        }
    }
}

/// Where a place is.
struct Spot {
    names: request::Request,
    what: String,
    name: String,
}

/// The address of a namespace's Secrets.
fn names(namespace: &str) -> request::Request {
    request::Request::new(Secret::url_path(&(), Some(namespace)))
}

/// Whether a text can be a namespace's name (RFC 1123 label).
pub(super) fn is_namespace(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_name(text)
}

fn unpack(want: &Want, value: &SecretBytes) -> Result<Parts, ProviderError> {
    data::unpack(value)
        .ok_or_else(|| ProviderError::new(ErrorKind::Malformed, format!("the value of {:?} is not a read Secret", want.key)))
}

fn what(namespace: &str, name: &str) -> String {
    let path = format!("{namespace}/{name}");
    format!("Secret {path:?}")
}

fn unsendable(what: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, format!("{what}: no request can be made of it"))
}

fn allows_reading(rule: &ResourceRule) -> bool {
    let has = |list: &[String], word: &str| list.iter().any(|item| item == word || item == "*");
    let groups = rule.api_groups.as_deref().unwrap_or_default();
    has(rule.resources.as_deref().unwrap_or_default(), "secrets")
        && has(&rule.verbs, "get")
        && (groups.is_empty() || has(groups, ""))
}

/// Whether a text can be an object's name (RFC 1123 subdomain). What cannot must not become part of an address.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// A label selector. What cannot be a label is refused, as it could change what the selector means.
fn selector(tags: &BTreeMap<String, String>) -> Result<String, ProviderError> {
    let terms: Result<Vec<String>, ProviderError> = tags
        .iter()
        .map(|(key, value)| {
            if is_label_key(key) && (value.is_empty() || is_label_word(value)) {
                return Ok(format!("{key}={value}"));
            }
            let text = format!("find.tags {key:?}: {value:?} cannot be a label of a Secret");
            Err(ProviderError::new(ErrorKind::Misconfigured, text))
        })
        .collect();
    Ok(terms?.join(","))
}

fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_name(prefix) && is_label_word(name),
        None => is_label_word(key),
    }
}

fn is_label_word(word: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    word.len() <= 63
        && word.starts_with(end)
        && word.ends_with(end)
        && word.chars().all(|c| end(c) || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn only_names_become_part_of_an_address() {
        for good in ["a", "a.b", "sh.helm.release.v1.x", "0-1"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "../configmaps/x", "a/b", "a?b", "a%2fb", "A", "-a", "a-", "a..b", "ä", &"a".repeat(254)]
        {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn tags_become_a_selector_or_an_error() {
        let of = |pairs: &[(&str, &str)]| selector(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        assert_eq!(of(&[("b", "2"), ("a.io/x", "One_1")]).unwrap(), "a.io/x=One_1,b=2");
        assert_eq!(of(&[("a", "")]).unwrap(), "a=");
        for bad in [("a", "x,b!=c"), ("a in (b)", "c"), ("a/b/c", "d"), ("", "x"), ("A.io/x", "y"), ("a", "-x")] {
            assert_eq!(of(&[bad]).unwrap_err().kind, ErrorKind::Misconfigured, "{bad:?}");
        }
    }

    #[test]
    fn rules_allow_reading_or_not() {
        let rule = |groups: Option<&[&str]>, resources: &[&str], verbs: &[&str]| {
            let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
            ResourceRule {
                api_groups: groups.map(list),
                resources: Some(list(resources)),
                verbs: list(verbs),
                ..ResourceRule::default()
            }
        };
        for (expected, rule) in [
            (true, rule(Some(&[""]), &["secrets"], &["get"])),
            (true, rule(None, &["secrets"], &["get"])),
            (true, rule(Some(&["*"]), &["*"], &["*"])),
            (false, rule(Some(&["apps"]), &["secrets"], &["get"])),
            (false, rule(Some(&[""]), &["configmaps"], &["get"])),
            (false, rule(Some(&[""]), &["secrets"], &["list", "watch"])),
        ] {
            assert_eq!(allows_reading(&rule), expected, "{rule:?}");
        }
    }
}
