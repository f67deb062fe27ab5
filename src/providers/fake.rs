//! Fake: values written into the store itself. For tests and for trying things out.
//!
//! What is pushed is kept in memory, by the store's kind, namespace and name, until the process ends. ESO keeps it by name
//! alone, so that a store of one namespace could read what another one's holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, Place, Provider, ProviderError, Push, Pushed, Reference,
    Session, Validation, Want,
};
use crate::api::secret_store::{Capabilities, StoreKind};
use crate::render::path;
use crate::secret_bytes::SecretBytes;

/// `spec.provider.fake`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fake {
    /// The values.
    pub data: Vec<FakeData>,
    /// What a check of the store comes to: 0 ready, 1 unknown, 2 error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_result: Option<i32>,
}

/// A value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FakeData {
    /// Its key.
    pub key: String,
    /// The value itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Where there is no value: what it is a JSON object of. Of `v1beta1`; in `v1` ESO has `value` alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub value_map: BTreeMap<String, String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl FakeData {
    fn bytes(&self) -> SecretBytes {
        if self.value.is_empty() && !self.value_map.is_empty() {
            return serde_json::to_string(&self.value_map).unwrap_or_default().into();
        }
        self.value.as_str().into()
    }

    fn version(&self) -> &str {
        self.version.as_deref().unwrap_or_default()
    }
}

#[async_trait]
impl Provider for Fake {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "Fake"
    }

    /// A value may be empty: ESO's webhook refuses that, and its controller does not.
    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        match self.data.iter().position(|data| data.key.is_empty()) {
            None => Ok(()),
            Some(position) => {
                Err(ProviderError::new(ErrorKind::Misconfigured, format!("key must be set in data {position}")))
            }
        }
    }

    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }

    fn converts_found(&self) -> bool {
        true
    }

    fn needs_name_or_tags(&self) -> bool {
        true
    }

    fn local(&self) -> Option<Arc<dyn Session>> {
        Some(Arc::new(FakeSession { config: self.clone(), pushes: Pushes::default() }))
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        static ALL: LazyLock<Mutex<HashMap<(StoreKind, String, String), Pushes>>> = LazyLock::new(Mutex::default);
        let namespace = if cx.store_kind == StoreKind::ClusterSecretStore { "" } else { &cx.namespace };
        let store = (cx.store_kind, namespace.to_owned(), cx.store_name.clone());
        let pushes = ALL.lock().unwrap_or_else(PoisonError::into_inner).entry(store).or_default().clone();
        Ok(Arc::new(FakeSession { config: self.clone(), pushes }))
    }
}

/// What was pushed to a store, by key.
type Pushes = Arc<Mutex<BTreeMap<String, SecretBytes>>>;

struct FakeSession {
    config: Fake,
    pushes: Pushes,
}

impl FakeSession {
    fn pushes(&self) -> MutexGuard<'_, BTreeMap<String, SecretBytes>> {
        self.pushes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store itself has the key, in any version that a key could mean.
    fn defines(&self, key: &str) -> bool {
        self.config.data.iter().any(|data| key.strip_prefix(&data.key) == Some(data.version()))
    }

    /// Where a key and version stand twice, the last one counts.
    fn read(&self, want: &Want) -> Result<Fetched, ProviderError> {
        let mut newest_first = self.config.data.iter().rev();
        newest_first
            .find(|data| data.key == want.key && data.version() == want.version)
            .map(|data| Fetched { bytes: data.bytes(), version: data.version.clone(), request_id: None })
            .or_else(|| {
                let bytes = self.pushes().get(&want.key).filter(|_| want.version.is_empty())?.clone();
                Some(Fetched { bytes, ..Fetched::default() })
            })
            .ok_or_else(|| ProviderError::not_found(&want.key))
    }
}

#[async_trait]
impl Session for FakeSession {
    fn batch_size(&self) -> usize {
        usize::MAX
    }

    async fn get(&self, wants: &[Want], _: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        wants.iter().map(|want| self.read(want)).collect()
    }

    /// By name only; of several versions the one that sorts last, as text.
    async fn find(&self, query: &FindQuery, _: &CallCx) -> Result<Vec<Found>, ProviderError> {
        if query.name.is_empty() && !(query.tags.is_empty() && query.path.is_empty()) {
            return Err(ProviderError::new(ErrorKind::Unsupported, "the fake provider finds by find.name only"));
        }
        let regex = query.matcher()?;
        let mut newest: BTreeMap<&str, &FakeData> = BTreeMap::new();
        for data in self.config.data.iter().filter(|data| regex.is_match(&data.key)) {
            let best = newest.entry(&data.key).or_insert(data);
            if best.version() <= data.version() {
                *best = data;
            }
        }
        let found = newest.into_values().map(|data| (data.key.clone(), data.bytes()));
        let mut all: BTreeMap<String, SecretBytes> = found.collect();
        for (key, value) in self.pushes().iter().filter(|(key, _)| regex.is_match(key)) {
            all.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Ok(all.into_iter().map(|(name, bytes)| Found { name, bytes }).collect())
    }

    /// A key that the store itself has stays as it is. A property means nothing here, as in ESO.
    async fn push(&self, push: &Push, _: &CallCx) -> Result<Pushed, ProviderError> {
        let (key, value) = (&push.place.key, push.value()?);
        if self.defines(key) {
            return Err(ProviderError::new(ErrorKind::Denied, "key already exists"));
        }
        let mut pushes = self.pushes();
        if pushes.get(key) == Some(&value) {
            return Ok(Pushed::Unchanged);
        }
        pushes.insert(key.clone(), value);
        Ok(Pushed::Written)
    }

    /// Does nothing, as in ESO.
    async fn delete(&self, _: &Place, _: &CallCx) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn exists(&self, place: &Place, _: &CallCx) -> Result<bool, ProviderError> {
        Ok(self.defines(&place.key) || self.pushes().contains_key(&place.key))
    }

    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        let text = "unable to validate";
        match self.config.validation_result {
            None | Some(0) => Ok(Validation::Ready),
            Some(1) => Ok(Validation::Unknown(text.to_owned())),
            Some(_) => Err(ProviderError::new(ErrorKind::Misconfigured, text)),
        }
    }

    /// Unlike the others, a missing property counts as a missing value.
    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        path::get(value.expose(), property).map(path::Value::into_secret).ok_or_else(|| ProviderError::not_found(&want.key))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::providers::conformance::{Check, Fixture, Stored, Tested, Value, World};

    const IN_THE_STORE: &str = "the values are in the store itself: no server can fail";

    struct FakeFixture;

    #[async_trait]
    impl Fixture for FakeFixture {
        fn provider(&self) -> &'static str {
            "fake"
        }

        fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
            let faults =
                [Check::Denied, Check::Throttled, Check::RetryAfter, Check::Broken, Check::Hang, Check::Garbled].into_iter();
            let mut list: Vec<_> = faults.map(|check| (check, IN_THE_STORE)).collect();
            list.push((Check::PushProperty, "a property means nothing here, as in ESO"));
            list.push((Check::Delete, "deletes nothing, as in ESO"));
            list.push((Check::DeleteProperty, "deletes nothing, as in ESO"));
            list.push((Check::PushDenied, IN_THE_STORE));
            list.push((Check::Binary, "values are text in a manifest"));
            list.push((Check::FindByTags, "fake values have no tags"));
            list
        }

        async fn connect(&self, world: World) -> Arc<dyn Session> {
            let data = world.secrets.into_iter().map(|Stored { key, value, version, .. }| FakeData {
                key,
                value: match value {
                    Value::Plain(bytes) => String::from_utf8(bytes).unwrap(),
                    Value::Properties(pairs) => serde_json::to_string(&pairs).unwrap(),
                },
                version: version.map(Into::into),
                ..FakeData::default()
            });
            Arc::new(FakeSession {
                config: Fake { data: data.collect(), validation_result: None },
                pushes: Pushes::default(),
            })
        }
    }

    impl Tested for Fake {
        const TITLE: &'static str = "Fake";
        const AUTH: &'static [&'static str] = &[];
        const SERVER: &'static str = "itself: the values stand in the store";

        fn fixtures() -> Vec<Box<dyn Fixture>> {
            vec![Box::new(FakeFixture)]
        }
    }

    fn fake(entries: &[(&str, &str, Option<&str>)]) -> Fake {
        let data = entries.iter().map(|(key, value, version)| FakeData {
            key: (*key).into(),
            value: (*value).into(),
            version: version.map(Into::into),
            ..FakeData::default()
        });
        Fake { data: data.collect(), validation_result: None }
    }

    async fn find(config: Fake, query: FindQuery) -> Result<Vec<(String, String)>, ProviderError> {
        let found = FakeSession { config, pushes: Pushes::default() }.find(&query, &CallCx::default()).await?;
        Ok(found.into_iter().map(|f| (f.name, f.bytes.expose_str().unwrap().to_owned())).collect())
    }

    #[tokio::test]
    async fn finds_the_version_that_sorts_last() {
        let config = fake(&[
            ("w", "9", Some("v9")),
            ("w", "10", Some("v10")),
            ("w", "plain", None),
            ("x", "a", None),
            ("x", "b", None),
        ]);
        let found = find(config, FindQuery { name: "^[wx]".into(), ..FindQuery::default() }).await.unwrap();
        assert_eq!(found, [("w".to_owned(), "9".to_owned()), ("x".to_owned(), "b".to_owned())]);
    }

    #[tokio::test]
    async fn a_value_map_of_the_older_api_is_a_json_object() {
        let data = serde_json::json!([
            {"key": "map", "valueMap": {"b": "2", "a": "1"}},
            {"key": "both", "value": "v", "valueMap": {"a": "1"}},
            {"key": "none"},
        ]);
        let config: Fake = serde_json::from_value(serde_json::json!({ "data": data })).unwrap();
        let session = FakeSession { config: config.clone(), pushes: Pushes::default() };
        for (key, text) in [("map", r#"{"a":"1","b":"2"}"#), ("both", "v"), ("none", "")] {
            let want = Want { key: key.into(), ..Want::default() };
            assert_eq!(session.read(&want).unwrap().bytes.expose_str(), Some(text), "{key}");
        }
        let found = find(config, FindQuery { name: "map".into(), ..FindQuery::default() }).await.unwrap();
        assert_eq!(found, [("map".to_owned(), r#"{"a":"1","b":"2"}"#.to_owned())]);
    }

    #[tokio::test]
    async fn finds_by_name_only() {
        let tags = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        for query in [FindQuery { tags, ..FindQuery::default() }, FindQuery { path: "a".into(), ..FindQuery::default() }] {
            let error = find(fake(&[("k", "v", None)]), query).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unsupported);
        }
        let error = find(fake(&[]), FindQuery { name: "(".into(), ..FindQuery::default() }).await.unwrap_err();
        let text = "could not compile find.name.regexp [(]: error parsing regexp: missing closing ): `(`";
        assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Misconfigured, text));
    }

    #[tokio::test]
    async fn a_missing_property_counts_as_a_missing_value() {
        let session = FakeSession { config: fake(&[]), pushes: Pushes::default() };
        let value = SecretBytes::from(r#"{"a.b":"dot","a":{"b":"nested"}}"#);
        let cut = |property| session.property(&Want::default(), &value, property);
        assert_eq!(cut("a.b").unwrap().expose_str(), Some("nested"), "a path before a key");
        assert_eq!(cut("a\\.b").unwrap().expose_str(), Some("dot"));
        assert_eq!(cut("x").unwrap_err().kind, ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn the_check_comes_to_what_the_store_says() {
        for (result, expected) in [
            (None, Ok(Validation::Ready)),
            (Some(0), Ok(Validation::Ready)),
            (Some(1), Ok(Validation::Unknown("unable to validate".into()))),
            (Some(2), Err("unable to validate")),
            (Some(7), Err("unable to validate")),
        ] {
            let session =
                FakeSession { config: Fake { data: Vec::new(), validation_result: result }, pushes: Pushes::default() };
            let found = session.validate(&CallCx::default()).await;
            assert_eq!(found.as_ref().map_err(|e| e.detail.as_str()), expected.as_ref().map_err(|t| *t), "{result:?}");
        }
    }

    #[test]
    fn entries_need_a_key() {
        for (config, text) in [
            (fake(&[("k", "v", None)]), ""),
            (fake(&[("k", "v", None), ("", "v", None)]), "key must be set in data 1"),
            (fake(&[("k", "", None)]), ""),
        ] {
            let found = config.validate(StoreKind::SecretStore).err().map(|e| e.detail).unwrap_or_default();
            assert_eq!(found, text);
        }
    }
}
