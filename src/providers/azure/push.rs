//! Writing to Key Vault: only objects with the tag `managed-by: external-secrets`, and only what differs.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::{Request, codes, refusal};
use super::misconfigured;
use super::objects::{Bundle, Kind, Name};
use super::session::AzureSession;
use crate::outbound::Answer;
use crate::providers::push::{self, Left, Place, Push, Pushed};
use crate::providers::rest::Body;
use crate::providers::{CallCx, ErrorKind, ProviderError};
use crate::render::json as render_json;
use crate::render::template::crypto::{leaf_certificate, private_jwk};
use crate::secret_bytes::SecretBytes;

/// Tag of the objects that ESO and keyferry wrote: others are never touched.
const MANAGED_BY: &str = "managed-by";
const OWNER: &str = "external-secrets";
/// How often a secret that is being recovered is looked for, and the time between.
const LOOKS: u32 = 6;
const BETWEEN: Duration = Duration::from_millis(1500);
/// Content type of certificates that are imported as PEM.
const PEM: &str = "application/x-pem-file";

/// The `spec` of an entry's metadata block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct PushMetadata {
    expiration_date: String,
    content_type: String,
    tags: BTreeMap<String, String>,
}

impl PushMetadata {
    fn of(place: &Place) -> Result<Self, ProviderError> {
        let block: Option<Self> = push::metadata(place.metadata.as_ref())
            .map_err(|e| misconfigured(format!("failed to parse push secret metadata: {}", e.detail)))?;
        let block = block.unwrap_or_default();
        if block.tags.contains_key(MANAGED_BY) {
            return Err(misconfigured(format!("error parsing tags in metadata: Cannot specify a '{MANAGED_BY}' tag")));
        }
        Ok(block)
    }

    /// When the secret expires, in seconds since 1970.
    fn expires(&self) -> Result<Option<i64>, ProviderError> {
        if self.expiration_date.is_empty() {
            return Ok(None);
        }
        let time = self.expiration_date.parse::<Timestamp>().map_err(|_| {
            misconfigured(
                "error parsing expiration date in metadata. Expected format: YYYY-MM-DDTHH:MM:SSZ (RFC3339). Example: \
                 2024-12-31T20:00:00Z"
                    .to_owned(),
            )
        })?;
        Ok(Some(time.as_second()))
    }

    fn content_type(&self) -> Option<&str> {
        Some(self.content_type.as_str()).filter(|text| !text.is_empty())
    }

    fn tags(&self) -> BTreeMap<String, String> {
        let mut tags = self.tags.clone();
        tags.insert(MANAGED_BY.to_owned(), OWNER.to_owned());
        tags
    }

    /// Those of a secret that is there, with the block's laid over them.
    fn tags_over(&self, there: Option<&Bundle>) -> BTreeMap<String, String> {
        let mut tags = there.map(|there| there.tags().clone()).unwrap_or_default();
        tags.extend(self.tags());
        tags
    }
}

fn is_ours(tags: &BTreeMap<String, String>) -> bool {
    tags.get(MANAGED_BY).is_some_and(|owner| owner == OWNER)
}

fn foreign(key: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Denied, format!("{key} not managed by external-secrets"))
}

/// A JSON object with a secret in it. The rest is no secret.
fn with_secret(mut fields: Map<String, Value>, value: &SecretBytes) -> SecretBytes {
    fields.retain(|_, field| !field.is_null());
    let rest = Value::Object(fields).to_string();
    let value = render_json::string(value.expose());
    let comma: &[u8] = if rest.len() > 2 { b"," } else { b"" };
    // put together at once: a vector that grows leaves copies behind
    SecretBytes::new([&b"{\"value\":"[..], value.expose(), comma, &rest.as_bytes()[1..]].concat())
}

impl AzureSession {
    /// An object as it is now; `None` where there is none.
    async fn find_bundle(&self, key: &str, name: &Name, cx: &CallCx) -> Result<Option<Bundle>, ProviderError> {
        match self.bundle(key, name, "", cx).await {
            Ok(bundle) => Ok(Some(bundle)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn push_as(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let metadata = PushMetadata::of(&push.place)?;
        let key = push.place.key.as_str();
        let name = Name::of(key)?;
        if name.kind != Kind::Secret && push.place.property().is_some() {
            let text = format!("remoteRef.property: {key:?} has none; only secrets have");
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        let current = self.find_bundle(key, &name, cx).await?;
        if current.as_ref().is_some_and(|current| !is_ours(current.tags())) {
            return Err(foreign(key));
        }
        match name.kind {
            Kind::Secret => self.push_secret(push, &name, current, &metadata, cx).await,
            Kind::Key => self.push_key(push, &name, current, &metadata, cx).await,
            Kind::Certificate => self.push_certificate(push, &name, current, &metadata, cx).await,
        }
    }

    async fn push_secret(
        &self,
        push: &Push,
        name: &Name,
        current: Option<Bundle>,
        metadata: &PushMetadata,
        cx: &CallCx,
    ) -> Result<Pushed, ProviderError> {
        let key = push.place.key.as_str();
        let expires = metadata.expires()?;
        let held = current.as_ref().and_then(|current| current.value.as_ref());
        let value = push.merged(held)?;
        if value.expose_str().is_none() {
            return Err(misconfigured(format!("{key:?}: a vault's secrets are UTF-8 text, and the value is none")));
        }
        let Some(current) = &current else {
            self.set(&push.place, name, metadata, &value, None, cx).await?;
            return Ok(Pushed::Written);
        };
        // A date is taken away by a new version only, which the newer of ESO's clients does not make for it. Entries of other
        // properties may be those that set it.
        let is_to_last = !self.client.is_of_new_sdk()
            && expires.is_none()
            && current.attributes.exp.is_some()
            && push.place.property().is_none();
        if held != Some(&value) || is_to_last {
            self.set(&push.place, name, metadata, &value, Some(current), cx).await?;
            return Ok(Pushed::Written);
        }
        // Tags that others put there are no reason to write.
        let tags = metadata.tags_over(Some(current));
        let same = tags == *current.tags()
            && expires.is_none_or(|expires| current.attributes.exp == Some(expires))
            && metadata.content_type().is_none_or(|wanted| current.content_type.as_deref() == Some(wanted));
        if same {
            return Ok(Pushed::Unchanged);
        }
        let mut changes = json!({"tags": tags});
        if let Some(expires) = expires {
            changes["attributes"] = json!({"exp": expires});
        }
        if let Some(wanted) = metadata.content_type() {
            changes["contentType"] = json!(wanted);
        }
        let path = name.path(&current.version().unwrap_or_default())?;
        let body = Some(SecretBytes::from(changes.to_string()));
        let request = Request::write("UpdateSecret", Method::PATCH, path, body, key);
        self.client.call::<serde::de::IgnoredAny>(&request, cx).await.map(|_| Pushed::Written)
    }

    /// Makes a new version. A secret of ours that was deleted and can be recovered is recovered first: Azure asks for that.
    async fn set(
        &self,
        place: &Place,
        name: &Name,
        metadata: &PushMetadata,
        value: &SecretBytes,
        current: Option<&Bundle>,
        cx: &CallCx,
    ) -> Result<(), ProviderError> {
        let key = place.key.as_str();
        // A new version has nothing of the one before it. Entries of other properties may be those that set its tags and date.
        let shared = current.filter(|_| place.property().is_some());
        let mut attributes = json!({"enabled": true});
        if let Some(expires) = metadata.expires()?.or(shared.and_then(|shared| shared.attributes.exp)) {
            attributes["exp"] = json!(expires);
        }
        let content_type = current.and_then(|current| current.content_type.as_deref());
        let fields = Map::from_iter([
            ("tags".to_owned(), json!(metadata.tags_over(shared))),
            ("contentType".to_owned(), json!(metadata.content_type().or(content_type))),
            ("attributes".to_owned(), attributes),
        ]);
        let body = Some(with_secret(fields, value));
        let request = Request::write("SetSecret", Method::PUT, name.path("")?, body, key);
        let answer = self.client.exchange(&request, cx).await?;
        if !is_deleted(&answer) {
            return done(&answer, &request);
        }
        self.recover(key, name, cx).await?;
        let answer = self.client.exchange(&request, cx).await?;
        done(&answer, &request)
    }

    async fn recover(&self, key: &str, name: &Name, cx: &CallCx) -> Result<(), ProviderError> {
        let deleted = format!("deleted{}", name.path("")?);
        let gone: Bundle = self.client.call(&Request::get("GetDeletedSecret", deleted.clone(), key), cx).await?;
        if !is_ours(gone.tags()) {
            let text = format!(
                "{key}: a deleted secret of that name is not managed by external-secrets: recover or purge it first"
            );
            return Err(ProviderError::new(ErrorKind::Denied, text));
        }
        let request = Request::write("RecoverSecret", Method::POST, format!("{deleted}/recover"), None, key);
        done(&self.client.exchange(&request, cx).await?, &request)?;
        for _ in 0..LOOKS {
            if self.find_bundle(key, name, cx).await?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN).await;
        }
        // only this secret has to wait: the vault is there
        let text = format!("{key:?} is being recovered, as it was deleted before; it is written when that is done");
        Err(ProviderError::new(ErrorKind::Conflict, text).after(BETWEEN * LOOKS))
    }

    async fn push_key(
        &self,
        push: &Push,
        name: &Name,
        current: Option<Bundle>,
        metadata: &PushMetadata,
        cx: &CallCx,
    ) -> Result<Pushed, ProviderError> {
        let key = push.place.key.as_str();
        let value = push.value()?;
        let members = private_jwk(value.expose()).ok_or_else(|| {
            misconfigured(format!("could not load private key {key}: the value is no private key of RSA or ECDSA in PEM"))
        })?;
        let text = |(name, bytes): &(&'static str, zeroize::Zeroizing<Vec<u8>>)| {
            let text = match *name {
                "kty" | "crv" => String::from_utf8_lossy(bytes).into_owned(),
                _ => URL_SAFE_NO_PAD.encode(bytes),
            };
            ((*name).to_owned(), SecretBytes::from(text))
        };
        let jwk: BTreeMap<String, SecretBytes> = members.iter().map(text).collect();
        let held = current.as_ref().and_then(|current| current.key.as_ref());
        if held.is_some_and(|held| is_same_key(held.get(), &jwk)) {
            return Ok(Pushed::Unchanged);
        }
        let jwk = render_json::object_of_text(&jwk);
        let tags = json!(metadata.tags()).to_string();
        let body = Body::default().raw("key", jwk.expose()).raw("attributes", br#"{"enabled":true}"#);
        let body = Some(body.raw("tags", tags.as_bytes()).build());
        self.import(&Request::write("ImportKey", Method::PUT, name.path("")?, body, key), cx).await
    }

    async fn push_certificate(
        &self,
        push: &Push,
        name: &Name,
        current: Option<Bundle>,
        metadata: &PushMetadata,
        cx: &CallCx,
    ) -> Result<Pushed, ProviderError> {
        let key = push.place.key.as_str();
        let value = push.value()?;
        let der = leaf_certificate(value.expose()).ok_or_else(|| {
            let text = "could not parse certificate value as PKCS#12, DER or PEM";
            misconfigured(format!("value from secret is not a valid certificate: {text}"))
        })?;
        let held = current.as_ref().and_then(|current| STANDARD.decode(current.cer.as_ref()?).ok());
        if held.as_ref() == Some(&der) {
            return Ok(Pushed::Unchanged);
        }
        let mut fields = Map::from_iter([("tags".to_owned(), json!(metadata.tags()))]);
        // A vault takes PEM as it is, and tells it by its content type; all else is base64.
        let is_pem = value.expose_str().is_some_and(|text| text.contains("-----BEGIN "));
        let text = if is_pem { value } else { SecretBytes::from(STANDARD.encode(value.expose())) };
        if is_pem {
            fields.insert("policy".to_owned(), json!({"secret_props": {"contentType": PEM}}));
        }
        let body = Some(with_secret(fields, &text));
        let path = format!("{}/import", name.path("")?);
        self.import(&Request::write("ImportCertificate", Method::POST, path, body, key), cx).await
    }

    async fn import(&self, request: &Request<'_>, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let answer = self.client.exchange(request, cx).await?;
        if is_deleted(&answer) {
            let text = format!(
                "{}: an object of that name is deleted and can be recovered: recover or purge it first",
                request.key
            );
            return Err(ProviderError::new(ErrorKind::Conflict, text));
        }
        done(&answer, request).map(|()| Pushed::Written)
    }

    /// Takes a property out of a secret; deletes the object where it has no other, or where all of it was pushed.
    pub(super) async fn delete_as(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let key = place.key.as_str();
        let name = Name::of(key)?;
        let Some(current) = self.find_bundle(key, &name, cx).await?.filter(|found| is_ours(found.tags())) else {
            return Ok(());
        };
        if name.kind == Kind::Secret && place.property().is_some() {
            match current.value.as_ref().map_or(Left::All, |value| place.left_of(value)) {
                Left::All => return Ok(()),
                // the block of what goes says nothing of what stays
                Left::Some(left) => {
                    return self.set(place, &name, &PushMetadata::default(), &left, Some(&current), cx).await;
                }
                Left::Nothing => {}
            }
        }
        let action = match name.kind {
            Kind::Secret => "DeleteSecret",
            Kind::Key => "DeleteKey",
            Kind::Certificate => "DeleteCertificate",
        };
        let request = Request::write(action, Method::DELETE, name.path("")?, None, key);
        match self.client.call::<serde::de::IgnoredAny>(&request, cx).await {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) async fn exists_as(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let name = Name::of(&place.key)?;
        let Some(current) = self.find_bundle(&place.key, &name, cx).await? else { return Ok(false) };
        let whole = name.kind != Kind::Secret || place.property().is_none();
        Ok(whole || current.value.is_some_and(|value| place.is_in(&value)))
    }
}

fn is_deleted(answer: &Answer) -> bool {
    answer.status == 409 && codes(answer).iter().any(|code| code == "ObjectIsDeletedButRecoverable")
}

fn done(answer: &Answer, request: &Request<'_>) -> Result<(), ProviderError> {
    if answer.status.is_success() { Ok(()) } else { Err(refusal(answer, request)) }
}

/// Whether a vault's JWK is the public half of a private one.
fn is_same_key(held: &str, jwk: &BTreeMap<String, SecretBytes>) -> bool {
    let held: Value = serde_json::from_str(held).unwrap_or_default();
    let digits = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
    // A vault may write numbers with leading zeroes, and keys of a hardware module as RSA-HSM.
    let same = |name: &str| {
        let (Some(ours), theirs) = (jwk.get(name).and_then(SecretBytes::expose_str), held[name].as_str()) else {
            return true;
        };
        let Some(theirs) = theirs else { return false };
        match name {
            "kty" => theirs.trim_end_matches("-HSM") == ours,
            "crv" => theirs == ours,
            _ => {
                let trimmed = |text: &str| digits(text).map(|d| d.into_iter().skip_while(|b| *b == 0).collect::<Vec<u8>>());
                trimmed(theirs) == trimmed(ours)
            }
        }
    };
    ["kty", "n", "e", "crv", "x", "y"].into_iter().all(same)
}
