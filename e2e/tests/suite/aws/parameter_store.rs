//! Parameter Store, with IAM on. The emulator asks IAM about names one by one only where a call has one name, and takes tags out of
//! no search: batches with a denied name, and searches by tags, are checked against our own server (src/providers/aws).

use keyferry_e2e::aws::ACCOUNT;
use keyferry_e2e::env::with_namespace;

use super::push::{PUSH_SECRET, push, pushed, source, to};
use super::read::reads;
use super::*;

/// The path of all parameters of a test.
fn own_path(ns: &Sandbox<'_>, name: &str) -> String {
    format!("/{}/{name}", ns.name)
}

async fn put_parameter(ns: &Sandbox<'_>, name: &str, value: &str, more: Value) -> Result<String> {
    let name = own_path(ns, name);
    let mut input = json!({"Name": name, "Value": value, "Type": "String"});
    extend(&mut input, more);
    ns.aws().parameter_store("PutParameter", input).await?;
    Ok(name)
}

fn allow(actions: &[&str], resource: &str) -> Value {
    let actions: Vec<String> = actions.iter().map(|action| format!("ssm:{action}")).collect();
    json!({"Effect": "Allow", "Action": actions, "Resource": resource})
}

fn below(path: &str) -> String {
    format!("arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{path}")
}

/// The store `aws`, with what a user may do.
async fn store_with(ns: &Sandbox<'_>, statements: Vec<Value>, more: Value) -> Result<()> {
    let mut provider = json!({"service": "ParameterStore"});
    extend(&mut provider, more);
    store_of_user(ns, Value::from(statements), provider).await
}

/// The store `aws`, which may read and search the namespace's parameters.
async fn store_of_reader(ns: &Sandbox<'_>) -> Result<()> {
    let single = allow(&["GetParameter", "ListTagsForResource"], &below(&own_path(ns, "*")));
    let many = allow(&["GetParameters", "GetParametersByPath", "DescribeParameters"], "*");
    store_with(ns, vec![single, many], json!({})).await
}

#[test]
fn references_name_versions_labels_properties_and_tags() -> Result<()> {
    with_namespace("params-refs", async |ns| {
        let name = put_parameter(ns, "app/rotated", "first", json!({"Type": "SecureString"})).await?;
        let label = json!({"Name": name, "ParameterVersion": 1, "Labels": ["stable"]});
        ns.aws().parameter_store("LabelParameterVersion", label).await?;
        put_parameter(ns, "app/rotated", "second", json!({"Type": "SecureString", "Overwrite": true})).await?;
        let tags = json!({"ResourceType": "Parameter", "ResourceId": name, "Tags": [{"Key": "owner", "Value": "team-a"}]});
        ns.aws().parameter_store("AddTagsToResource", tags).await?;
        let parts = r#"{"user": "app", "nested": {"list": ["x", "y"]}, "dotted.key": "d"}"#;
        put_parameter(ns, "app/parts", parts, json!({})).await?;

        let single = allow(&["GetParameter", "ListTagsForResource"], &below(&own_path(ns, "app/*")));
        let prefix = json!({"prefix": own_path(ns, "app/")});
        store_with(ns, vec![single, allow(&["GetParameters"], "*")], prefix).await?;
        let entries = json!([
            entry("current", json!({"key": "rotated"})),
            entry("first", json!({"key": "rotated", "version": "1"})),
            entry("behind", json!({"key": "rotated:1"})),
            entry("second", json!({"key": "rotated", "version": "2"})),
            entry("stable", json!({"key": "rotated", "version": "stable"})),
            entry("tags", json!({"key": "rotated", "metadataPolicy": "Fetch"})),
            entry("user", json!({"key": "parts", "property": "user"})),
            entry("nested", json!({"key": "parts", "property": "nested.list.1"})),
            entry("dotted", json!({"key": "parts", "property": "dotted.key"})),
        ]);
        apply_external_secret(ns, "app", "aws", json!({"data": entries})).await?;
        let expected = [
            ("current", "second"),
            ("first", "first"),
            ("behind", "first"),
            ("second", "second"),
            ("stable", "first"),
            ("tags", r#"{"owner":"team-a"}"#),
            ("user", "app"),
            ("nested", "y"),
            ("dotted", "d"),
        ];
        wait_data(ns, "app", &expected).await?;
        apply_external_secret(ns, "whole", "aws", json!({"dataFrom": [{"extract": {"key": "parts"}}]})).await?;
        wait_data(ns, "whole", &[("user", "app"), ("nested", r#"{"list": ["x", "y"]}"#), ("dotted.key", "d")]).await?;

        // A parameter that is missing is the deletion policy's business; a version of one that is there is not.
        for (name, remote) in [("gone", json!({"key": "gone"})), ("version", json!({"key": "rotated", "version": "9"}))] {
            let mut spec = json!({"data": [entry("key", remote), entry("stays", json!({"key": "rotated"}))]});
            spec["target"] = json!({"deletionPolicy": "Delete"});
            apply_external_secret(ns, name, "aws", spec).await?;
        }
        wait_data(ns, "gone", &[("stays", "second")]).await?;
        let message = wait_failed(ns, "version").await?;
        assert!(message.contains("the parameter has no such version or label"), "{message}");
        Ok(())
    })
}

#[test]
fn a_role_reads_its_own_path_only() -> Result<()> {
    with_namespace("params-iam", async |ns| {
        put_parameter(ns, "app/key", "value", json!({"Type": "SecureString"})).await?;
        put_parameter(ns, "other/key", "value", json!({})).await?;
        ns.env.operator().await?;
        let statements = json!([allow(&["GetParameter"], &below(&own_path(ns, "app/*")))]);
        ns.service_account_with_role("app", statements).await?;
        apply_store(ns, STORE, "aws", json!({"service": "ParameterStore", "auth": account_auth("app")})).await?;
        apply_external_secret(ns, "app", "aws", data("key", &own_path(ns, "app/key"))).await?;
        wait_data(ns, "app", &[("key", "value")]).await?;
        apply_external_secret(ns, "other", "aws", data("key", &own_path(ns, "other/key"))).await?;
        let message = wait_failed(ns, "other").await?;
        assert!(message.contains("AccessDeniedException") && message.contains("ssm:GetParameter"), "{message}");
        assert!(ns.secret("other").await.is_err(), "it has a Secret");
        let roles = ns.env.recorder.calls_for(&ns.name).into_iter().filter(|c| c.action == "AssumeRoleWithWebIdentity");
        assert!(roles.count() >= 1, "the session has the namespace's name");
        Ok(())
    })
}

/// Twenty-five keys: three calls where batches are allowed; where not, that is found out once.
#[test]
fn batches_where_the_role_may_single_reads_where_not() -> Result<()> {
    with_namespace("params-batches", async |ns| {
        let mut keys = Vec::new();
        for n in 0..25 {
            keys.push(put_parameter(ns, &format!("key-{n:02}"), &n.to_string(), json!({})).await?);
        }
        let entries: Vec<Value> =
            keys.iter().enumerate().map(|(n, key)| entry(&format!("key-{n:02}"), json!({"key": key}))).collect();
        let spec = json!({"data": entries});
        store_of_reader(ns).await?;
        apply_external_secret(ns, "app", "aws", spec.clone()).await?;
        let complete = |data: &BTreeMap<String, String>| (0..25).all(|n| data[&format!("key-{n:02}")] == n.to_string());
        ns.wait_secret("app", complete).await?;
        let mut batches = reads(ns, "GetParameters");
        batches.sort_unstable();
        assert_eq!((batches, reads(ns, "GetParameter").len()), (vec![5, 10, 10], 0));

        let without = ns.env.namespace("params-singly").await?;
        store_with(&without, vec![allow(&["GetParameter"], &below(&own_path(ns, "*")))], json!({})).await?;
        apply_external_secret(&without, "app", "aws", spec).await?;
        without.wait_secret("app", complete).await?;
        let denied = reads(&without, "GetParameters").len();
        assert!((1..=3).contains(&denied), "{denied} batches were tried: those that were under way together at most");
        assert_eq!(reads(&without, "GetParameter").len(), 25);
        put_parameter(ns, "key-24", "24", json!({"Overwrite": true})).await?;
        force_sync(&without, "app").await?;
        let begun = Instant::now();
        while reads(&without, "GetParameter").len() < 50 {
            assert!(begun.elapsed() < Duration::from_secs(30), "nothing was read again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(reads(&without, "GetParameters").len(), denied, "it is known by now");
        without.delete().await
    })
}

#[test]
fn searches_go_by_path_or_where_that_is_denied_by_descriptions() -> Result<()> {
    with_namespace("params-find", async |ns| {
        for n in 0..12 {
            put_parameter(ns, &format!("app/key-{n:02}"), &n.to_string(), json!({})).await?;
        }
        put_parameter(ns, "other", "x", json!({})).await?;
        store_of_reader(ns).await?;
        let search = |name: &str| {
            let find = json!({"path": own_path(ns, "app"), "name": {"regexp": name}});
            let rewrite = json!([{"regexp": {"source": ".*/key", "target": "key"}}]);
            json!({"dataFrom": [{"find": find, "rewrite": rewrite}]})
        };
        apply_external_secret(ns, "all", "aws", search("key")).await?;
        ns.wait_secret("all", |data| data.len() == 12 && data["key-11"] == "11").await?;
        assert_eq!(reads(ns, "GetParametersByPath").len(), 2, "ten in a page");
        assert!(reads(ns, "GetParameters").is_empty() && reads(ns, "GetParameter").is_empty(), "the pages hold the values");
        apply_external_secret(ns, "one", "aws", search("0[7]$")).await?;
        wait_data(ns, "one", &[("key-07", "7")]).await?;

        let without = ns.env.namespace("params-described").await?;
        let statements = vec![allow(&["GetParameters", "DescribeParameters"], "*")];
        store_with(&without, statements, json!({})).await?;
        apply_external_secret(&without, "all", "aws", search("key")).await?;
        without.wait_secret("all", |data| data.len() == 12 && data["key-11"] == "11").await?;
        let mut batches = reads(&without, "GetParameters");
        batches.sort_unstable();
        assert_eq!((reads(&without, "DescribeParameters").len(), batches), (1, vec![2, 10]));

        // by tags: what is asked for
        let tags = json!({"dataFrom": [{"find": {"path": own_path(ns, "app"), "tags": {"team": "a"}}}]});
        apply_external_secret(ns, "tags", "aws", tags).await?;
        ns.wait_synced("tags").await?;
        let calls = ns.env.recorder.calls_for(&ns.name);
        let asked = calls.iter().find(|call| call.action == "DescribeParameters").unwrap();
        let filters = json!([
            {"Key": "tag:team", "Option": "Equals", "Values": ["a"]},
            {"Key": "Path", "Option": "Recursive", "Values": [own_path(ns, "app")]},
        ]);
        assert_eq!(asked.input["ParameterFilters"], filters);
        without.delete().await
    })
}

/// The current value of a parameter; `None` where there is none.
async fn value(ns: &Sandbox<'_>, name: &str) -> Option<Value> {
    let answer = ns.aws().parameter_store("GetParameter", json!({"Name": name, "WithDecryption": true})).await.ok()?;
    Some(answer["Parameter"].clone())
}

async fn wait_value(ns: &Sandbox<'_>, name: &str, expected: Option<&str>) {
    let begun = Instant::now();
    loop {
        let found = value(ns, name).await;
        if found.as_ref().and_then(|p| p["Value"].as_str()) == expected {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{name} is {found:?} and not {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn writes(ns: &Sandbox<'_>) -> Vec<String> {
    let reads = ["GetParameter", "GetParameters", "ListTagsForResource"];
    let calls = ns.env.recorder.calls_for(&ns.name).into_iter().map(|call| call.action);
    calls.filter(|action| !reads.contains(&action.as_str())).collect()
}

#[test]
fn a_push_writes_what_differs_follows_its_source_and_is_taken_back() -> Result<()> {
    with_namespace("params-push", async |ns| {
        store_with(ns, vec![allow(&["*"], &below(&own_path(ns, "*")))], json!({})).await?;
        source(ns, json!({"user": "ann", "pw": "one"})).await?;
        let (db, whole) = (own_path(ns, "db"), own_path(ns, "whole"));
        let metadata = json!({
            "apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": "PushSecretMetadata",
            "spec": {"secretType": "SecureString", "tags": {"team": "a"}, "description": "The database"},
        });
        let mut data = [to(&db, "user", "user"), to(&db, "pw", "password"), to(&whole, "", "")];
        data[0]["metadata"] = metadata.clone();
        data[1]["metadata"] = metadata;
        push(ns, "push", json!({"refreshInterval": "2s", "deletionPolicy": "Delete", "data": data})).await?;
        pushed(ns, "push").await?;
        let made = value(ns, &db).await.unwrap();
        assert_eq!(made["Value"], r#"{"user":"ann","password":"one"}"#);
        assert_eq!(made["Type"], "SecureString");
        assert_eq!(value(ns, &whole).await.unwrap()["Value"], r#"{"pw":"b25l","user":"YW5u"}"#);
        let tags = json!({"ResourceType": "Parameter", "ResourceId": db});
        let tags = ns.aws().parameter_store("ListTagsForResource", tags).await?["TagList"].to_string();
        assert!(tags.contains("managed-by") && tags.contains("external-secrets") && tags.contains("team"), "{tags}");

        let before = writes(ns);
        assert_eq!(before, ["PutParameter", "PutParameter", "PutParameter"]);
        let calls = || ns.env.recorder.calls_for(&ns.name).len();
        let (seen, begun) = (calls(), Instant::now());
        while calls() < seen + 12 {
            assert!(begun.elapsed() < Duration::from_secs(30), "an interval of two seconds brings no second look");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(writes(ns), before, "what is unchanged makes no new version");

        source(ns, json!({"user": "ann", "pw": "two"})).await?;
        wait_value(ns, &db, Some(r#"{"user":"ann","password":"two"}"#)).await;
        let back = json!({"data": [entry("pw", json!({"key": db, "property": "password"}))]});
        apply_external_secret(ns, "back", "aws", back).await?;
        wait_data(ns, "back", &[("pw", "two")]).await?;

        ns.kubectl(&["delete", "pushsecret", "push", "--timeout=20s"]).await?;
        wait_value(ns, &db, None).await;
        wait_value(ns, &whole, None).await;
        Ok(())
    })
}

#[test]
fn what_others_wrote_is_not_touched() -> Result<()> {
    with_namespace("params-foreign", async |ns| {
        store_with(ns, vec![allow(&["*"], &below(&own_path(ns, "*")))], json!({})).await?;
        source(ns, json!({"a": "mine"})).await?;
        let theirs = put_parameter(ns, "theirs", "theirs", json!({})).await?;
        push(ns, "push", json!({"deletionPolicy": "Delete", "data": [to(&theirs, "a", "")]})).await?;
        let message = ns.wait_ready(PUSH_SECRET, "push", "False", "Errored").await?;
        assert!(message.ends_with("secret not managed by external-secrets"), "{message}");
        ns.kubectl(&["delete", "pushsecret", "push"]).await?;
        wait_value(ns, &theirs, Some("theirs")).await;
        Ok(())
    })
}
