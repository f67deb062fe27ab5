//! The entries of an ExternalSecret, in the order in which they take effect, and what each asks of which store.

use crate::api::ExternalSecret;
use crate::api::external_secret::{Data, DataFrom, GeneratorRef, RemoteRef, SecretStoreRef, SourceRef};
use crate::fetch::Request;
use crate::index::StoreId;
use crate::providers::{FindQuery, Want};
use crate::render::Place;

/// One entry: `dataFrom` first, then `data`, so that the latter wins.
#[derive(Clone, Debug)]
pub enum Entry<'a> {
    /// `spec.dataFrom[index]`
    From(usize, &'a DataFrom),
    /// `spec.data[index]`
    Data(usize, &'a Data),
}

impl Entry<'_> {
    /// Where the entry stands, for errors and events.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::From(i, from) if from.find.is_some() => Place::Find(*i),
            Self::From(i, from) if from.extract.is_some() => Place::Extract(*i),
            Self::From(i, _) => Place::Generator(*i),
            Self::Data(i, data) => Place::Data { index: *i, key: data.remote_ref.key.clone() },
        }
    }

    /// The store that this entry reads from; the reference of an entry replaces that of the object. A generator in its place is
    /// not heeded by `data`, and leaves no store (ESO's rule).
    #[must_use]
    pub fn store(&self, es: &ExternalSecret) -> StoreId {
        let source: Option<&SourceRef> = match self {
            Self::From(_, from) => from.source_ref.as_ref(),
            Self::Data(_, data) => data.source_ref.as_ref(),
        };
        let none = SecretStoreRef::default();
        let own = es.spec.secret_store_ref.as_ref().unwrap_or(&none);
        let reference = source.map_or(own, |source| source.store_ref.as_ref().unwrap_or(&none));
        StoreId::resolve(reference, es.metadata.namespace.as_deref().unwrap_or_default())
    }

    /// The generator that this entry asks. One of `data` asks none, whatever it names (ESO's rule).
    #[must_use]
    pub fn generator(&self) -> Option<&GeneratorRef> {
        match self {
            Self::From(_, from) => from.source_ref.as_ref()?.generator_ref.as_ref(),
            Self::Data(..) => None,
        }
    }

    /// Whether this entry searches for neither a name nor tags. A name without an expression is any name.
    #[must_use]
    pub fn finds_anything(&self) -> bool {
        matches!(self, Self::From(_, from) if from.find.as_ref().is_some_and(|f| f.name.is_none() && f.tags.is_empty()))
    }

    /// What this entry asks for; `None` for one that asks a generator.
    #[must_use]
    pub fn request(&self) -> Option<Request> {
        match self {
            Self::Data(_, data) => Some(Request::Get(want(&data.remote_ref))),
            Self::From(_, from) => match (&from.extract, &from.find) {
                (Some(extract), _) => Some(Request::Get(want(extract))),
                (None, Some(find)) => Some(Request::Find(FindQuery {
                    path: find.path.clone().unwrap_or_default(),
                    name: find.name.as_ref().and_then(|n| n.regexp.clone()).unwrap_or_default(),
                    tags: find.tags.clone(),
                })),
                (None, None) => None,
            },
        }
    }
}

/// The entries of an ExternalSecret, in order.
#[must_use]
pub fn entries(es: &ExternalSecret) -> Vec<Entry<'_>> {
    let from = es.spec.data_from.iter().enumerate().map(|(i, from)| Entry::From(i, from));
    let data = es.spec.data.iter().enumerate().map(|(i, data)| Entry::Data(i, data));
    from.chain(data).collect()
}

/// Whether an ExternalSecret generates values: a look that is not due must not change them.
#[must_use]
pub fn generates(es: &ExternalSecret) -> bool {
    entries(es).iter().any(|entry| entry.generator().is_some())
}

/// Whether putting the values together may take its time: what rewrites do, and paths of more than names, is bounded, and may be much.
#[must_use]
pub fn may_take_long(es: &ExternalSecret) -> bool {
    let modifies = |reference: &RemoteRef| {
        reference.property.as_deref().is_some_and(|path| path.contains(['@', '#', '[', '{', '|', '*', '?', '!']))
    };
    let rewrites = es.spec.data_from.iter().any(|from| !from.rewrite.is_empty());
    let extracts = es.spec.data_from.iter().filter_map(|from| from.extract.as_ref());
    rewrites || extracts.chain(es.spec.data.iter().map(|data| &data.remote_ref)).any(modifies)
}

/// What a remote reference asks for: the value whole, as a property is cut out of it afterwards. Few providers heed it before.
#[must_use]
pub fn want(reference: &RemoteRef) -> Want {
    Want {
        key: reference.key.clone(),
        version: reference.version.clone().unwrap_or_default(),
        metadata: reference.metadata_policy.unwrap_or_default(),
        property: reference.property.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::StoreKind;
    use crate::api::external_secret::MetadataPolicy;
    use crate::index::Key;

    #[test]
    fn rewrites_and_modifiers_may_take_long() {
        let long = |spec: serde_json::Value| {
            may_take_long(&serde_json::from_value(json!({ "metadata": { "name": "es" }, "spec": spec })).unwrap())
        };
        let data =
            |property: &str| json!({ "data": [{ "secretKey": "a", "remoteRef": { "key": "k", "property": property } }] });
        assert!(!long(data("a.b")) && long(data("a|@pretty")) && long(data("#(a==1).b")));
        for path in ["[a,a]", "{a,b}", "a.[b,b]", "a|b", "*a*a", "a?", "!1"] {
            assert!(long(data(path)), "{path}");
        }
        assert!(!long(json!({ "dataFrom": [{ "extract": { "key": "k" } }] })));
        assert!(long(json!({ "dataFrom": [{ "extract": { "key": "k", "property": "@this" } }] })));
        let rewrite = json!([{ "regexp": { "source": "a", "target": "b" } }]);
        assert!(long(json!({ "dataFrom": [{ "find": {}, "rewrite": rewrite }] })));
    }

    fn es() -> ExternalSecret {
        serde_json::from_value(json!({
            "metadata": { "name": "es", "namespace": "ns" },
            "spec": {
                "secretStoreRef": { "name": "own" },
                "data": [
                    { "secretKey": "a", "remoteRef": { "key": "k", "property": "p", "version": "v1", "metadataPolicy": "Fetch" } },
                    {
                        "secretKey": "b", "remoteRef": { "key": "k" },
                        "sourceRef": { "storeRef": { "name": "shared", "kind": "ClusterSecretStore" } },
                    },
                    {
                        "secretKey": "c", "remoteRef": { "key": "k" },
                        "sourceRef": { "generatorRef": { "kind": "UUID", "name": "u" } },
                    },
                ],
                "dataFrom": [
                    { "find": { "path": "/p", "name": { "regexp": "^x" }, "tags": { "t": "1" } } },
                    { "extract": { "key": "e", "property": "p" } },
                    { "sourceRef": { "generatorRef": { "kind": "UUID", "name": "u" } } },
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn data_comes_last_so_that_it_wins() {
        let places: Vec<String> = entries(&es()).iter().map(|e| e.place().to_string()).collect();
        assert_eq!(
            places,
            [
                "error processing spec.dataFrom[0].find, err",
                "error processing spec.dataFrom[1].extract, err",
                "error processing spec.dataFrom[2].sourceRef.generatorRef, err",
                "error processing spec.data[0] (key: k), err",
                "error processing spec.data[1] (key: k), err",
                "error processing spec.data[2] (key: k), err",
            ]
        );
    }

    #[test]
    fn what_is_asked_of_which_store() {
        let es = es();
        let find = FindQuery { path: "/p".into(), name: "^x".into(), tags: [("t".into(), "1".into())].into() };
        let get = |key: &str| Want { key: key.into(), ..Want::default() };
        let tags = Want { version: "v1".into(), metadata: MetadataPolicy::Fetch, property: "p".into(), ..get("k") };
        let own = StoreId { kind: StoreKind::SecretStore, key: Key::new("ns", "own") };
        let shared = StoreId { kind: StoreKind::ClusterSecretStore, key: Key::new("", "shared") };
        let nowhere = StoreId { kind: StoreKind::SecretStore, key: Key::new("ns", "") };
        let expected = [
            (Some(Request::Find(find)), &own),
            (Some(Request::Get(Want { property: "p".into(), ..get("e") })), &own),
            (None, &nowhere),
            (Some(Request::Get(tags)), &own),
            (Some(Request::Get(get("k"))), &shared),
            (Some(Request::Get(get("k"))), &nowhere),
        ];
        let asked: Vec<_> = entries(&es).iter().map(|e| (e.request(), e.store(&es))).collect();
        let expected: Vec<_> = expected.into_iter().map(|(request, id)| (request, id.clone())).collect();
        assert_eq!(asked, expected);
    }
}
