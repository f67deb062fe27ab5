//! Which searches are sent to which provider: some want a name or tags, others give all that there is.

use serde_json::{Value, json};

use super::world::*;
use crate::api::{ANNOTATION_FAILOVER, SecretStore};
use crate::fetch::Request;
use crate::index::StoreId;
use crate::plan::external_secret::{Next, before_fetch};
use crate::providers::FindQuery;

/// What a search in a store of a provider comes to: what is asked, and of which stand-ins; or what the condition says. The fake
/// store `dr` stands in.
fn searched(provider: &Value, find: &Value) -> Result<(Vec<Request>, Vec<StoreId>), String> {
    let mut world = World::new(&spec(&json!({ "data": [], "dataFrom": [{ "find": find }] })));
    let searched: SecretStore = serde_json::from_value(json!({
        "metadata": {
            "name": "store", "namespace": "ns", "uid": "store", "generation": 1, "annotations": { ANNOTATION_FAILOVER: "dr" },
        },
        "spec": { "provider": provider },
    }))
    .unwrap();
    world.stores = [facts_of(searched.into()), store("dr")].into();
    match before_fetch(&world.facts(), &world.rules) {
        Next::Fetch(plan) => {
            Ok((plan.requests.into_values().flatten().collect(), plan.stand_ins.into_values().flatten().collect()))
        }
        _ => Err(world.look(values(&[])).told().2.to_owned()),
    }
}

#[test]
fn a_search_for_all_is_refused_by_those_providers_that_eso_has_it_refused_by() {
    let refusing = [
        json!({ "aws": { "service": "SecretsManager", "region": "eu-west-1" } }),
        json!({ "aws": { "service": "ParameterStore", "region": "eu-west-1" } }),
        json!({ "kubernetes": {} }),
        json!({ "gcpsm": { "projectID": "p" } }),
        json!({ "fake": { "data": [] } }),
        json!({ "akeyless": { "akeylessGWApiURL": "https://a.test", "authSecretRef": {} } }),
    ];
    let giving = [
        json!({ "vault": { "server": "https://v.test" } }),
        json!({ "azurekv": { "vaultUrl": "https://v.test" } }),
        json!({ "doppler": { "auth": {} } }),
        json!({ "infisical": { "auth": {}, "secretsScope": { "projectSlug": "p", "environmentSlug": "e" } } }),
    ];
    let asked = |query: &FindQuery| vec![Request::Find(query.clone())];
    let below = FindQuery { path: "team".into(), ..FindQuery::default() };
    for (find, query) in [(json!({}), FindQuery::default()), (json!({ "path": "team" }), below)] {
        for provider in &refusing {
            let told = searched(provider, &find).unwrap_err();
            let text = "could not get secret data from provider: error processing spec.dataFrom[0].find, err: unexpected find operator";
            assert!(told.starts_with(text), "{provider}, {find}: {told}");
        }
        for provider in &giving {
            // nor is it sent to a stand-in that would refuse it
            assert_eq!(searched(provider, &find), Ok((asked(&query), vec![])), "{provider}, {find}");
        }
    }
    let tagged = FindQuery { tags: [("a".to_owned(), "b".to_owned())].into(), ..FindQuery::default() };
    for provider in refusing.iter().chain(&giving) {
        // a name without an expression is any name
        for (find, query) in [(json!({ "name": {} }), &FindQuery::default()), (json!({ "tags": { "a": "b" } }), &tagged)] {
            assert_eq!(searched(provider, &find), Ok((asked(query), vec![store("dr").0])), "{provider}, {find}");
        }
    }
}
