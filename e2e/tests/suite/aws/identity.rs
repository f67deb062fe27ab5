//! Roles: chains, external ids, session tags, stores that log in as their users, and what AWS gets to see of it.

use anyhow::Result;
use keyferry_e2e::aws::{ACCOUNT, allow_reading};
use keyferry_e2e::env::{Sandbox, with_namespace};
use serde_json::{Value, json};

use super::*;

/// The statement of a trust policy that lets `principal` in, under `condition`, with session tags if it has some.
fn trust(principal: &str, condition: Value) -> Value {
    let actions = ["sts:AssumeRole", "sts:TagSession"];
    json!([{"Effect": "Allow", "Principal": {"AWS": principal}, "Action": actions, "Condition": condition}])
}

fn may_assume(role: &str) -> Value {
    json!([{"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Resource": role}])
}

fn arn(ns: &Sandbox<'_>, role: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{}-{role}", ns.name)
}

#[test]
fn roles_are_assumed_in_a_chain_and_the_last_with_the_external_id() -> Result<()> {
    with_namespace("aws-chain", async |ns| {
        ns.env.operator().await?;
        let secret = put(ns, "db", "value").await?;
        let first = ns.service_account_with_role("app", may_assume(&arn(ns, "hub"))).await?;
        let hub = ns
            .aws()
            .create_role(&format!("{}-hub", ns.name), trust(&first, json!({})), may_assume(&arn(ns, "last")))
            .await?;
        let asks = json!({"StringEquals": {"sts:ExternalId": "agreed"}});
        let last = ns.aws().create_role(&format!("{}-last", ns.name), trust(&hub, asks), read_own(ns)).await?;
        for (name, external_id) in [("right", "agreed"), ("wrong", "guessed")] {
            let chain = json!({
                "auth": account_auth("app"), "additionalRoles": [hub], "role": last, "externalID": external_id,
            });
            apply_store(ns, STORE, name, chain).await?;
            apply_external_secret(ns, name, name, data("db", &secret)).await?;
        }
        wait_data(ns, "right", &[("db", "value")]).await?;
        ns.wait_ready(STORE, "right", "True", "Valid").await?;
        let message = wait_failed(ns, "wrong").await?;
        for part in ["sts:AssumeRole", "AccessDenied", last.as_str(), &format!("assumed-role/{}-hub", ns.name)] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }

        let calls = ns.env.recorder.calls_for(&ns.name);
        let chain: Vec<&str> = calls
            .iter()
            .filter(|call| call.text("RoleSessionName") == format!("keyferry-{}@right", ns.name))
            .map(|call| call.text("RoleArn"))
            .collect();
        assert_eq!(chain, [&first, &hub, &last], "each role once, in order, under the store's name");
        Ok(())
    })
}

/// The role may read only in a session with the tag.
#[test]
fn session_tags_decide_what_can_be_read() -> Result<()> {
    with_namespace("aws-tags", async |ns| {
        let secret = put(ns, "db", "value").await?;
        let role = format!("{}-tagged", ns.name);
        store_of_user(ns, may_assume(&arn(ns, "tagged")), json!({})).await?;
        let anybody = trust(&format!("arn:aws:iam::{ACCOUNT}:root"), json!({}));
        let role = ns.aws().create_role(&role, anybody, only_with_tag("team", "a", &format!("{}/*", ns.name))).await?;
        for (name, tags) in [
            ("right", json!([{"key": "team", "value": "a"}])),
            ("wrong", json!([{"key": "team", "value": "b"}])),
            ("none", json!([])),
        ] {
            apply_store(ns, STORE, name, json!({"auth": key_auth("key"), "role": role, "sessionTags": tags})).await?;
            apply_external_secret(ns, name, name, data("db", &secret)).await?;
        }
        wait_data(ns, "right", &[("db", "value")]).await?;
        for name in ["wrong", "none"] {
            let message = wait_failed(ns, name).await?;
            assert!(message.contains("secretsmanager:GetSecretValue") && message.contains("AccessDenied"), "{message}");
        }
        Ok(())
    })
}

fn only_with_tag(key: &str, value: &str, pattern: &str) -> Value {
    let mut statements = allow_reading(pattern);
    statements[0]["Condition"] = json!({"StringEquals": {format!("aws:PrincipalTag/{key}"): value}});
    statements
}

/// With `sessionTagsPolicy`, one ClusterSecretStore and one role give each namespace its own secrets, and no other's.
#[test]
fn session_tags_of_the_namespace_keep_namespaces_apart() -> Result<()> {
    with_namespace("aws-simple", async |ns| {
        let other = ns.env.namespace("aws-simple-other").await?;
        let (own, others) = (put(ns, "db", "own").await?, put(&other, "db", "other's").await?);
        store_of_user(ns, may_assume(&arn(ns, "all")), json!({})).await?;
        let mut statements = only_with_tag("esoNamespace", &ns.name, &format!("{}/*", ns.name));
        let of_other = only_with_tag("esoNamespace", &other.name, &format!("{}/*", other.name));
        statements.as_array_mut().unwrap().push(of_other[0].clone());
        let anybody = trust(&format!("arn:aws:iam::{ACCOUNT}:root"), json!({}));
        let role = ns.aws().create_role(&format!("{}-all", ns.name), anybody, statements).await?;

        let mut auth = key_auth("key");
        for selector in ["accessKeyIDSecretRef", "secretAccessKeySecretRef"] {
            auth["secretRef"][selector]["namespace"] = ns.name.as_str().into();
        }
        let store = json!({"auth": auth, "role": role, "sessionTagsPolicy": "Simple"});
        apply_store(ns, CLUSTER_STORE, &ns.name, store).await?;
        let of_store = |from: &str| {
            let mut spec = data("db", from);
            spec["secretStoreRef"] = json!({"name": ns.name, "kind": "ClusterSecretStore"});
            spec
        };
        for (ns, mine, foreign) in [(ns, &own, &others), (&other, &others, &own)] {
            apply_external_secret(ns, "mine", "", of_store(mine)).await?;
            apply_external_secret(ns, "foreign", "", of_store(foreign)).await?;
        }
        for (ns, value) in [(ns, "own"), (&other, "other's")] {
            wait_data(ns, "mine", &[("db", value)]).await?;
            assert!(wait_failed(ns, "foreign").await?.contains("AccessDenied"));
            assert!(ns.secret("foreign").await.is_err(), "no Secret is made");
        }
        delete_cluster_store(ns, &ns.name).await?;
        other.delete().await
    })
}

/// A ClusterSecretStore whose references name no namespace logs in with the keys of the namespace that uses it. What one
/// namespace may read is no other's for that: neither session nor value is shared.
#[test]
fn a_referent_store_uses_the_keys_of_its_users() -> Result<()> {
    with_namespace("aws-referent", async |ns| {
        ns.env.operator().await?;
        let second = ns.env.namespace("aws-referent-2nd").await?;
        let third = ns.env.namespace("aws-referent-3rd").await?;
        apply_store(ns, CLUSTER_STORE, &ns.name, json!({"auth": key_auth("key")})).await?;
        ns.cluster()
            .wait("", CLUSTER_STORE, &ns.name, |store| {
                keyferry_e2e::cluster::ready_condition(store).is_some_and(|c| c["status"] == "True")
            })
            .await?;
        let of_store = |from: &str| {
            let mut spec = data("db", from);
            spec["secretStoreRef"] = json!({"name": ns.name, "kind": "ClusterSecretStore"});
            spec
        };
        let secrets = [put(ns, "db", "first").await?, put(&second, "db", "second").await?];
        for (ns, own) in [(ns, &secrets[0]), (&second, &secrets[1])] {
            apply_key(ns, "key", &ns.aws().create_user(&ns.name, read_own(ns)).await?).await?;
            apply_external_secret(ns, "own", "", of_store(own)).await?;
        }
        wait_data(ns, "own", &[("db", "first")]).await?;
        wait_data(&second, "own", &[("db", "second")]).await?;
        apply_external_secret(&second, "foreign", "", of_store(&secrets[0])).await?;
        assert!(
            wait_failed(&second, "foreign").await?.contains("AccessDenied"),
            "the first one's value is cached, and not for it"
        );

        apply_external_secret(&third, "own", "", of_store(&secrets[0])).await?;
        let message = wait_failed(&third, "own").await?;
        assert!(message.contains(&format!("Secret {}/key does not exist", third.name)), "{message}");
        let repaired = Instant::now();
        apply_key(&third, "key", &ns.aws().create_user(&third.name, read_own(ns)).await?).await?;
        wait_data(&third, "own", &[("db", "first")]).await?;
        took("the key of a referent store took effect after", repaired, REPAIRED_WITHIN);

        delete_cluster_store(ns, &ns.name).await?;
        second.delete().await?;
        third.delete().await
    })
}

/// AWS's line and ours can be matched: the user agent names the object and carries the id of our own record.
#[test]
fn aws_sees_who_caused_a_call() -> Result<()> {
    with_namespace("aws-agent", async |ns| {
        let class = ns.name.clone();
        let operator = operator_of_class(ns, &class, &["--loglevel=debug"], Vec::new()).await?;
        let secret = put(ns, "db", "value").await?;
        let role = ns.service_account_with_role("app", read_own(ns)).await?;
        let aws = json!({"service": "SecretsManager", "region": REGION, "auth": account_auth("app")});
        apply(ns, STORE, "aws", json!({"controller": class, "provider": {"aws": aws}})).await?;
        apply_external_secret(ns, "app", "aws", data("db", &secret)).await?;
        wait_data(ns, "app", &[("db", "value")]).await?;

        let calls = ns.env.recorder.calls_for(&ns.name);
        let login = calls.iter().find(|call| call.action == "AssumeRoleWithWebIdentity").unwrap();
        assert_eq!(
            (login.text("RoleArn"), login.text("RoleSessionName")),
            (role.as_str(), format!("keyferry-{}@aws", ns.name).as_str())
        );
        assert!(login.user_agent.contains("app/keyferry"), "{}", login.user_agent);
        let read = calls.iter().find(|call| call.action == "GetSecretValue").unwrap();
        assert!(read.access_key.starts_with("ASIA"), "signed with the role's key");
        let mark = format!(" keyferry-cause/ExternalSecret/{}/app keyferry-call/", ns.name);
        let (agent, id) = read.user_agent.split_once(&mark).unwrap();
        assert!(agent.contains("app/keyferry"), "{agent}");
        let log = operator.log()?;
        let ours = log.lines().find(|line| line.contains(id)).unwrap();
        assert!(ours.contains("provider call") && ours.contains(&format!("ExternalSecret/{}/app", ns.name)), "{ours}");
        assert!(!log.contains(login.text("WebIdentityToken")), "the token is not in the log");
        Ok(())
    })
}
