//! Reads: what a reference can ask for, what is missing, and how many calls it takes.

use anyhow::Result;
use k8s_openapi::api::core::v1::Secret;
use keyferry_e2e::aws::{ACCOUNT, allow_reading};
use keyferry_e2e::env::{Sandbox, with_namespace};
use kube::Api;
use serde_json::{Value, json};

use super::*;

/// The calls that read values for the namespace's objects: how many secrets each asked for.
pub(super) fn reads(ns: &Sandbox<'_>, action: &str) -> Vec<usize> {
    let calls = ns.env.recorder.calls_for(&ns.name);
    calls.iter().filter(|call| call.action == action).map(|call| call.secrets().len()).collect()
}

#[test]
fn references_name_versions_properties_and_tags() -> Result<()> {
    with_namespace("aws-refs", async |ns| {
        let name = put(ns, "rotated", "first").await?;
        let first = ns.aws().secrets_manager("GetSecretValue", json!({"SecretId": name})).await?;
        put(ns, "rotated", "second").await?;
        let pending = json!({"SecretId": name, "SecretString": "third", "VersionStages": ["AWSPENDING"]});
        ns.aws().secrets_manager("PutSecretValue", pending).await?;
        let tags = json!({"SecretId": name, "Tags": [{"Key": "owner", "Value": "team-a"}, {"Key": "env", "Value": "prod"}]});
        ns.aws().secrets_manager("TagResource", tags).await?;
        let parts =
            put(ns, "parts", r#"{"user": "app", "nested": {"list": ["x", "y"]}, "dotted.key": "d", "port": 5432}"#).await?;
        let arn = first["ARN"].as_str().unwrap();
        let (without_suffix, _) = arn.rsplit_once('-').unwrap();
        let uuid = format!("uuid/{}", first["VersionId"].as_str().unwrap());

        store_of_reader(ns).await?;
        let entries = json!([
            entry("current", json!({"key": name})),
            entry("current-stage", json!({"key": name, "version": "AWSCURRENT"})),
            entry("previous", json!({"key": name, "version": "AWSPREVIOUS"})),
            entry("pending", json!({"key": name, "version": "AWSPENDING"})),
            entry("pinned", json!({"key": name, "version": uuid})),
            entry("by-arn", json!({"key": arn})),
            entry("by-partial-arn", json!({"key": without_suffix})),
            entry("tags", json!({"key": name, "metadataPolicy": "Fetch"})),
            entry("owner", json!({"key": name, "metadataPolicy": "Fetch", "property": "owner"})),
            entry("user", json!({"key": parts, "property": "user"})),
            entry("nested", json!({"key": parts, "property": "nested.list.1"})),
            entry("dotted", json!({"key": parts, "property": "dotted.key"})),
            entry("port", json!({"key": parts, "property": "port"})),
        ]);
        apply_external_secret(ns, "app", "aws", json!({"data": entries})).await?;
        let expected = [
            ("current", "second"),
            ("current-stage", "second"),
            ("previous", "first"),
            ("pending", "third"),
            ("pinned", "first"),
            ("by-arn", "second"),
            ("by-partial-arn", "second"),
            ("tags", r#"{"env":"prod","owner":"team-a"}"#),
            ("owner", "team-a"),
            ("user", "app"),
            ("nested", "y"),
            ("dotted", "d"),
            ("port", "5432"),
        ];
        wait_data(ns, "app", &expected).await?;

        apply_external_secret(ns, "whole", "aws", json!({"dataFrom": [{"extract": {"key": parts}}]})).await?;
        let all = [("dotted.key", "d"), ("nested", r#"{"list": ["x", "y"]}"#), ("port", "5432"), ("user", "app")];
        wait_data(ns, "whole", &all).await?;

        let absent = json!({"data": [entry("key", json!({"key": parts, "property": "password"}))]});
        apply_external_secret(ns, "absent", "aws", absent).await?;
        let message = wait_failed(ns, "absent").await?;
        assert!(message.contains("password") && message.contains(&parts), "{message}");
        Ok(())
    })
}

#[test]
fn binary_values_arrive_byte_for_byte() -> Result<()> {
    with_namespace("aws-binary", async |ns| {
        let name = own(ns, "binary");
        ns.aws().secrets_manager("CreateSecret", json!({"Name": name, "SecretBinary": "AAH/"})).await?;
        store_of_reader(ns).await?;
        apply_external_secret(ns, "app", "aws", data("key", &name)).await?;
        ns.wait_synced("app").await?;
        let api: Api<Secret> = Api::namespaced(ns.cluster().client.clone(), &ns.name);
        assert_eq!(api.get("app").await?.data.unwrap()["key"].0, [0x00, 0x01, 0xff]);
        Ok(())
    })
}

/// The prefix goes before keys that are asked for, and not before names that were found.
#[test]
fn a_prefix_goes_before_keys() -> Result<()> {
    with_namespace("aws-prefix", async |ns| {
        put(ns, "team/db", "value").await?;
        store_of_user(ns, read_own(ns), json!({"prefix": format!("{}/team/", ns.name)})).await?;
        let found = json!({"find": {"path": format!("{}/team/", ns.name), "name": {"regexp": "."}}, "rewrite": [{"regexp": {"source": ".*/", "target": "found-"}}]});
        let spec = json!({"data": [entry("read", json!({"key": "db"}))], "dataFrom": [found]});
        apply_external_secret(ns, "app", "aws", spec).await?;
        wait_data(ns, "app", &[("found-db", "value"), ("read", "value")]).await
    })
}

/// A secret that goes away takes its key or its Secret along where the policy says so, and comes back by itself.
#[test]
fn missing_secrets_follow_the_deletion_policy() -> Result<()> {
    with_namespace("aws-missing", async |ns| {
        let (stays, goes) = (put(ns, "stays", "kept").await?, put(ns, "goes", "value").await?);
        store_of_reader(ns).await?;
        for policy in ["Retain", "Delete", "Merge"] {
            let mut spec = data("goes", &goes);
            spec["target"] = json!({"deletionPolicy": policy});
            apply_external_secret(ns, &policy.to_lowercase(), "aws", spec.clone()).await?;
            spec["data"].as_array_mut().unwrap().push(entry("stays", json!({"key": stays})));
            apply_external_secret(ns, &format!("{}-both", policy.to_lowercase()), "aws", spec).await?;
        }
        let all = ["retain", "delete", "merge", "retain-both", "delete-both", "merge-both"];
        for name in all {
            ns.wait_synced(name).await?;
        }

        ns.aws().delete_secret(&goes).await?;
        for name in all {
            force_sync(ns, name).await?;
        }
        for name in ["retain", "retain-both"] {
            let message = wait_failed(ns, name).await?;
            assert!(message.contains(&format!("Secret does not exist: {goes:?}")), "{message}");
        }
        ns.wait(("v1", "Secret"), "delete", |secret| secret.is_none()).await?;
        ns.wait_ready(EXTERNAL_SECRET, "delete", "True", "SecretDeleted").await?;
        wait_data(ns, "merge", &[]).await?;
        for name in ["delete-both", "merge-both"] {
            wait_data(ns, name, &[("stays", "kept")]).await?;
            ns.wait_event("ExternalSecret", name, "Normal MissingProviderSecret: ").await?;
        }
        wait_data(ns, "retain", &[("goes", "value")]).await?;
        wait_data(ns, "retain-both", &[("goes", "value"), ("stays", "kept")]).await?;

        put(ns, "goes", "back").await?;
        for name in all {
            force_sync(ns, name).await?;
            let back = |data: &BTreeMap<String, String>| data.get("goes").is_some_and(|value| value == "back");
            ns.wait_secret(name, back).await?;
        }
        // A stage that no version has is as missing as a secret.
        let mut spec = json!({"data": [entry("key", json!({"key": stays, "version": "NOSUCH"})), entry("stays", json!({"key": stays}))]});
        spec["target"] = json!({"deletionPolicy": "Delete"});
        apply_external_secret(ns, "stage", "aws", spec).await?;
        wait_data(ns, "stage", &[("stays", "kept")]).await
    })
}

/// One call for twenty objects, and of those only the ones fail that have a reason to.
#[test]
fn a_batch_fails_secret_by_secret() -> Result<()> {
    with_namespace("aws-batch", async |ns| {
        let mut statements = read_own(ns);
        let locked = put(ns, "locked", "value").await?;
        let arn = format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{locked}*");
        let deny = json!({"Effect": "Deny", "Action": "secretsmanager:GetSecretValue", "Resource": arn});
        statements.as_array_mut().unwrap().push(deny);
        let dying = put(ns, "dying", "value").await?;
        ns.aws().secrets_manager("DeleteSecret", json!({"SecretId": dying, "RecoveryWindowInDays": 7})).await?;
        let failing = [("locked", "AccessDenied"), ("dying", "Secret does not exist"), ("gone", "Secret does not exist")];
        let good: Vec<String> = (0..17).map(|n| format!("good-{n:02}")).collect();
        for name in &good {
            put(ns, name, &format!("value of {name}")).await?;
        }
        let names = || good.iter().map(String::as_str).chain(failing.map(|(name, _)| name));
        for name in names() {
            apply_external_secret(ns, name, "aws", data("key", &own(ns, name))).await?;
        }
        store_of_user(ns, statements, json!({})).await?;
        for name in &good {
            wait_data(ns, name, &[("key", &format!("value of {name}"))]).await?;
        }
        for (name, cause) in failing {
            let message = wait_failed(ns, name).await?;
            assert!(message.contains(cause) && message.contains(&own(ns, name)), "{name}: {message}");
        }
        assert!(reads(ns, "BatchGetSecretValue").iter().any(|keys| *keys > 1), "nothing was read in a batch");
        Ok(())
    })
}

/// Twenty-five keys: two calls where batches are allowed; where not, that is found out once and then they are read singly.
#[test]
fn batches_where_the_role_may_single_reads_where_not() -> Result<()> {
    with_namespace("aws-batches", async |ns| {
        let mut keys = Vec::new();
        for n in 0..25 {
            keys.push(put(ns, &format!("key-{n:02}"), &n.to_string()).await?);
        }
        let spec = |keys: &[String]| {
            let entries: Vec<Value> =
                keys.iter().enumerate().map(|(n, key)| entry(&format!("key-{n:02}"), json!({"key": key}))).collect();
            json!({"data": entries})
        };
        store_of_reader(ns).await?;
        apply_external_secret(ns, "app", "aws", spec(&keys)).await?;
        let complete = |data: &BTreeMap<String, String>| (0..25).all(|n| data[&format!("key-{n:02}")] == n.to_string());
        ns.wait_secret("app", complete).await?;
        let mut batches = reads(ns, "BatchGetSecretValue");
        batches.sort_unstable();
        assert_eq!((batches, reads(ns, "GetSecretValue").len()), (vec![5, 20], 0));

        let without = ns.env.namespace("aws-singly").await?;
        let mut statements = allow_reading(&format!("{}/*", ns.name));
        statements[1]["Action"] = json!(["secretsmanager:ListSecrets"]);
        store_of_user(&without, statements, json!({})).await?;
        apply_external_secret(&without, "app", "aws", spec(&keys)).await?;
        without.wait_secret("app", complete).await?;
        let denied = reads(&without, "BatchGetSecretValue").len();
        assert!((1..=2).contains(&denied), "{denied} batches were tried: both that were under way together at most");
        assert_eq!(reads(&without, "GetSecretValue").len(), 25);
        put(ns, "key-24", "new").await?;
        force_sync(&without, "app").await?;
        without.wait_secret("app", |data| data["key-24"] == "new").await?;
        assert_eq!(reads(&without, "BatchGetSecretValue").len(), denied, "it is known by now");
        assert_eq!(reads(&without, "GetSecretValue").len(), 50);
        let log = ns.env.operator().await?.lock().await.log()?;
        let told = log.lines().filter(|line| line.contains("BatchGetSecretValue") && line.contains(&without.name)).count();
        assert_eq!(told, 1, "the log says it once");
        without.delete().await
    })
}
