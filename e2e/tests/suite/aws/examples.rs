//! The AWS manifests in `examples/`, run: what users copy from there works as it stands, but for the names of roles and secrets.

use anyhow::Result;
use keyferry_e2e::aws::ACCOUNT;
use keyferry_e2e::cluster::documents;
use keyferry_e2e::env::{Sandbox, with_namespace};
use keyferry_e2e::project_root;
use serde_json::{Value, json};

use super::*;

/// The version id that an example names.
const PINNED: &str = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";

/// Applies an example, with the account, the roles and the secrets of this test.
async fn apply_example(ns: &Sandbox<'_>, name: &str) -> Result<()> {
    let yaml = std::fs::read_to_string(project_root().join(format!("examples/{name}.yaml")))?;
    let yaml = yaml.replace("111122223333", ACCOUNT).replace("444455556666", ACCOUNT);
    let yaml = yaml.replace(":role/", &format!(":role/{}-", ns.name));
    let yaml = ["prod/", "team-a/token"].iter().fold(yaml, |yaml, start| yaml.replace(start, &own(ns, start)));
    for mut object in documents(&yaml)? {
        // What is the same for all namespaces needs a name that no other test has.
        if object["kind"] == "ClusterSecretStore" {
            object["metadata"]["name"] = format!("{}-{name}", ns.name).into();
        }
        if object["spec"]["secretStoreRef"]["kind"] == "ClusterSecretStore" {
            object["spec"]["secretStoreRef"]["name"] = format!("{}-{name}", ns.name).into();
        }
        ns.cluster().apply_object(object, &ns.name).await?;
    }
    Ok(())
}

/// The secrets that the examples name.
async fn create_secrets(ns: &Sandbox<'_>) -> Result<()> {
    let tags = |pairs: &[(&str, &str)]| -> Vec<Value> {
        pairs.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
    };
    let secrets = [
        ("prod/stripe-api-key", tags(&[])),
        ("prod/database-url", tags(&[("owner", "team-a")])),
        ("prod/app/api-key", tags(&[("team", "payments"), ("environment", "prod")])),
        ("prod/app/password", tags(&[])),
        ("prod/team-a/token", tags(&[])),
        ("team-a/token", tags(&[])),
    ];
    for (name, tags) in secrets {
        let input = json!({"Name": own(ns, name), "SecretString": name, "Tags": tags});
        ns.aws().secrets_manager("CreateSecret", input).await?;
    }
    // The emulator takes a version id from its caller for later versions only.
    let rotated = put(ns, "prod/database-password", "first").await?;
    let pinned = json!({"SecretId": rotated, "SecretString": "pinned", "ClientRequestToken": PINNED});
    ns.aws().secrets_manager("PutSecretValue", pinned).await?;
    put(ns, "prod/database-password", "current").await.map(drop)
}

/// The roles that the examples name, and what they may do.
async fn create_roles(ns: &Sandbox<'_>) -> Result<()> {
    let arn = |role: &str| format!("arn:aws:iam::{ACCOUNT}:role/{}-{role}", ns.name);
    let assume =
        |role: &str| json!({"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Resource": arn(role)});
    let trusts = |role: &str, condition: Value| {
        let actions = ["sts:AssumeRole", "sts:TagSession"];
        json!([{"Effect": "Allow", "Principal": {"AWS": arn(role)}, "Action": actions, "Condition": condition}])
    };
    let mut reads_and_assumes = read_own(ns);
    reads_and_assumes.as_array_mut().unwrap().push(assume("hub"));
    ns.service_account_with_role("app-reader", reads_and_assumes).await?;
    ns.aws()
        .create_role(&format!("{}-hub", ns.name), trusts("app-reader", json!({})), json!([assume("team-a-secrets")]))
        .await?;
    let asks = json!({"StringEquals": {"sts:ExternalId": "keyferry-team-a", "aws:RequestTag/team": "a"}});
    ns.aws().create_role(&format!("{}-team-a-secrets", ns.name), trusts("hub", asks), read_own(ns)).await?;
    let trust = keyferry_e2e::aws::trust_service_account(&ns.cluster().token_issuer().await?, &ns.name, "secrets-reader");
    ns.aws().create_role(&format!("{}-default-namespace", ns.name), trust, read_own(ns)).await.map(drop)?;
    Ok(())
}

#[test]
fn the_examples_sync() -> Result<()> {
    with_namespace("aws-examples", async |ns| {
        ns.env.operator().await?;
        create_secrets(ns).await?;
        create_roles(ns).await?;
        let user = ns.aws().create_user(&ns.name, read_own(ns)).await?;
        apply_key(ns, "aws-key", &user).await?;

        let prefix = ns.name.clone();
        let under = move |name: &str| format!("{prefix}_{}", name.replace('/', "_"));
        let expected: Vec<(&str, Vec<(String, &str)>)> = vec![
            ("aws-service-account", vec![("stripe-key".into(), "prod/stripe-api-key")]),
            ("aws-static-keys", vec![("database-url".into(), "prod/database-url")]),
            ("aws-prefix", vec![("token".into(), "prod/team-a/token")]),
            ("aws-role-chain", vec![("token".into(), "team-a/token")]),
            (
                "aws-versions",
                vec![("current".into(), "current"), ("pinned".into(), "pinned"), ("previous".into(), "pinned")],
            ),
            ("aws-metadata", vec![("owner".into(), "team-a")]),
            ("aws-find-by-name", vec![(under("prod/app/api-key"), "prod/app/api-key")]),
            ("aws-find-by-path", vec![(under("prod/app/api-key"), "prod/app/api-key")]),
            ("aws-find-by-tags", vec![(under("prod/app/api-key"), "prod/app/api-key")]),
            ("referent-authentication", vec![("token".into(), "team-a/token")]),
        ];
        for (name, _) in &expected {
            apply_example(ns, name).await?;
        }
        for (name, data) in &expected {
            let data: Vec<(&str, &str)> = data.iter().map(|(key, value)| (key.as_str(), *value)).collect();
            wait_data(ns, name, &data).await?;
            ns.wait_synced(name).await?;
        }
        delete_cluster_store(ns, &format!("{}-referent-authentication", ns.name)).await
    })
}
