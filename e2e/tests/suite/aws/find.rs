//! Searches: by name, by path, by tags, and by all of them.

use anyhow::Result;
use keyferry_e2e::env::{Sandbox, with_namespace};
use serde_json::{Value, json};

use super::*;

async fn create(ns: &Sandbox<'_>, name: &str, tags: &[(&str, &str)]) -> Result<()> {
    let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
    let input = json!({"Name": own(ns, name), "SecretString": format!("value of {name}"), "Tags": tags});
    ns.aws().secrets_manager("CreateSecret", input).await?;
    Ok(())
}

/// Applies an ExternalSecret that searches, with the folder taken off the names, which then become keys.
async fn apply_search(ns: &Sandbox<'_>, name: &str, mut find: Value, deletion: &str) -> Result<()> {
    if let Some(path) = find.get_mut("path") {
        *path = own(ns, path.as_str().unwrap()).into();
    }
    let regexp = |source: &str, target: &str| json!({"regexp": {"source": source, "target": target}});
    let from = json!({"find": find, "rewrite": [regexp(&format!("^{}/", ns.name), ""), regexp("/", "_")]});
    apply_external_secret(ns, name, "aws", json!({"target": {"deletionPolicy": deletion}, "dataFrom": [from]})).await
}

#[test]
fn searches_find_exactly_what_matches() -> Result<()> {
    with_namespace("aws-find", async |ns| {
        let prod = ("env", "prod");
        create(ns, "app/db-key", &[prod, ("team", "a")]).await?;
        create(ns, "app/api-key", &[prod, ("team", "b")]).await?;
        create(ns, "app/password", &[("env", "production"), ("team", "a")]).await?;
        // A filter of AWS's takes tag keys and values apart; here they must belong together.
        create(ns, "app/crossed", &[("env", "a"), ("team", "prod")]).await?;
        create(ns, "application/db-key", &[prod]).await?;
        create(ns, "other/db-key", &[]).await?;
        store_of_reader(ns).await?;

        let own = format!("^{}/", ns.name);
        let searches = [
            (
                "name",
                json!({"name": {"regexp": format!("{own}.*db-key$")}}),
                vec!["app/db-key", "application/db-key", "other/db-key"],
            ),
            (
                "path",
                json!({"path": "app/", "name": {"regexp": "."}}),
                vec!["app/api-key", "app/crossed", "app/db-key", "app/password"],
            ),
            (
                "path-name",
                json!({"path": "app", "name": {"regexp": "key$"}}),
                vec!["app/api-key", "app/db-key", "application/db-key"],
            ),
            ("tags", json!({"path": "", "tags": {"env": "prod"}}), vec!["app/api-key", "app/db-key", "application/db-key"]),
            ("two-tags", json!({"tags": {"env": "prod", "team": "a"}}), vec!["app/db-key"]),
            ("all", json!({"path": "app", "name": {"regexp": "-key$"}, "tags": {"team": "b"}}), vec!["app/api-key"]),
        ];
        for (name, find, _) in &searches {
            apply_search(ns, name, find.clone(), "Retain").await?;
        }
        for (name, _, expected) in &searches {
            let expected: Vec<(String, String)> =
                expected.iter().map(|found| (found.replace('/', "_"), format!("value of {found}"))).collect();
            let expected: Vec<(&str, &str)> = expected.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            wait_data(ns, name, &expected).await?;
        }
        Ok(())
    })
}

/// AWS gives 100 names in a page, and 20 values in a batch.
#[test]
fn a_search_goes_over_all_pages_and_follows_what_changes() -> Result<()> {
    with_namespace("aws-pages", async |ns| {
        for n in 0..105 {
            create(ns, &format!("many/key-{n:03}"), &[]).await?;
        }
        store_of_reader(ns).await?;
        apply_search(ns, "many", json!({"path": "many/", "name": {"regexp": "."}}), "Delete").await?;
        ns.wait_secret("many", |data| data.len() == 105).await?;
        assert_eq!(ns.secret("many").await?["many_key-104"], "value of many/key-104");
        let calls = ns.env.recorder.calls_for(&ns.name);
        let count = |action: &str| calls.iter().filter(|call| call.action == action).count();
        assert_eq!((count("ListSecrets"), count("BatchGetSecretValue"), count("GetSecretValue")), (2, 6, 0));

        ns.aws().delete_secret(&own(ns, "many/key-007")).await?;
        create(ns, "many/key-105", &[]).await?;
        force_sync(ns, "many").await?;
        let followed = |data: &BTreeMap<String, String>| {
            data.len() == 105 && data.contains_key("many_key-105") && !data.contains_key("many_key-007")
        };
        ns.wait_secret("many", followed).await?;

        // Nothing is left: the Secret goes, as the policy says.
        apply_search(ns, "many", json!({"path": "none/", "name": {"regexp": "."}}), "Delete").await?;
        ns.wait(("v1", "Secret"), "many", |secret| secret.is_none()).await.map(drop)
    })
}

/// A role that loses its rights makes a search fail. It must not look like secrets that are gone.
#[test]
fn lost_rights_are_no_missing_secrets() -> Result<()> {
    with_namespace("aws-lost", async |ns| {
        create(ns, "app/one", &[]).await?;
        create(ns, "app/two", &[]).await?;
        ns.env.operator().await?;
        ns.service_account_with_role("app", read_own(ns)).await?;
        apply_store(ns, STORE, "aws", json!({"auth": account_auth("app")})).await?;
        apply_search(ns, "app", json!({"path": "app/", "name": {"regexp": "."}}), "Delete").await?;
        let all = [("app_one", "value of app/one"), ("app_two", "value of app/two")];
        wait_data(ns, "app", &all).await?;

        let mut only_list = read_own(ns);
        only_list.as_array_mut().unwrap().remove(0);
        ns.aws().put_role_policy(&format!("{}-app", ns.name), only_list).await?;
        force_sync(ns, "app").await?;
        let message = wait_failed(ns, "app").await?;
        assert!(message.contains("AccessDenied"), "{message}");
        wait_data(ns, "app", &all).await
    })
}
