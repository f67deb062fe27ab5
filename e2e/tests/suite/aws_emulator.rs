//! The AWS emulator decides as AWS does, in what our tests rely on. A new version of it that decides otherwise shows here.

use anyhow::Result;
use keyferry_e2e::aws::{self, AUDIENCE, Aws, allow_reading};
use keyferry_e2e::env::{Sandbox, with_namespace};
use serde_json::{Value, json};

async fn get(aws: &Aws, name: &str) -> aws::Result<Value> {
    aws.secrets_manager("GetSecretValue", json!({"SecretId": name})).await
}

/// Creates a secret whose name holds the namespace's: tests share the account.
async fn put(ns: &Sandbox<'_>, name: &str, value: &str) -> Result<String> {
    let name = format!("{}/{name}", ns.name);
    ns.aws().put_secret(&name, value).await?;
    Ok(name)
}

#[test]
fn policies_decide_what_a_user_reads() -> Result<()> {
    with_namespace("iam", async |ns| {
        let (allowed, denied) = (put(ns, "app/key", "value").await?, put(ns, "other/key", "value").await?);
        let key = ns.aws().create_user(&ns.name, allow_reading(&format!("{}/app/*", ns.name))).await?;
        let user = Aws::with_key(ns.env.aws.endpoint(), &key.id, &key.secret);
        assert_eq!(get(&user, &allowed).await?["SecretString"], "value");

        let failure = get(&user, &denied).await.unwrap_err();
        assert_eq!(failure.code, "AccessDeniedException");
        assert!(failure.message.contains("is not authorized to perform: secretsmanager:GetSecretValue"), "{failure}");

        let batch = json!({"SecretIdList": [allowed, denied]});
        let batch = user.secrets_manager("BatchGetSecretValue", batch).await?;
        assert_eq!(batch["SecretValues"].as_array().map(Vec::len), Some(1), "the denied one fails alone");
        assert_eq!(batch["Errors"][0]["ErrorCode"], "AccessDeniedException");

        let forged = Aws::with_key(ns.env.aws.endpoint(), &key.id, "not-the-key");
        assert_eq!(get(&forged, &allowed).await.unwrap_err().code, "InvalidSignatureException");
        Ok(())
    })
}

#[test]
fn a_role_takes_the_token_of_its_service_account_only() -> Result<()> {
    with_namespace("irsa", async |ns| {
        let secret = put(ns, "key", "value").await?;
        let role = ns.service_account_with_role("app", allow_reading(&format!("{}/*", ns.name))).await?;
        let token = ns.cluster().token(&ns.name, "app", Some(AUDIENCE)).await?;
        let workload = ns.aws().with_web_identity(&role, &token).await?;
        assert_eq!(get(&workload, &secret).await?["SecretString"], "value");

        // The same name in another namespace, another name in this one, and the right one with a token for somebody else.
        let other = ns.env.namespace("irsa-other").await?;
        other.apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: app}}").await?;
        ns.apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: other}}").await?;
        for (namespace, account, audience) in
            [(&other.name, "app", AUDIENCE), (&ns.name, "other", AUDIENCE), (&ns.name, "app", "vault")]
        {
            let token = ns.cluster().token(namespace, account, Some(audience)).await?;
            let refused = ns.aws().with_web_identity(&role, &token).await.err().map(|failure| failure.code);
            assert_eq!(refused.as_deref(), Some("AccessDenied"), "{namespace}/{account} for {audience}");
        }
        Ok(())
    })
}

#[test]
fn stages_point_at_versions() -> Result<()> {
    with_namespace("stages", async |ns| {
        let (name, aws) = (put(ns, "key", "one").await?, ns.aws());
        let read = async |stage: &str| {
            let input = json!({"SecretId": name, "VersionStage": stage});
            aws.secrets_manager("GetSecretValue", input)
                .await
                .map(|answer| answer["SecretString"].as_str().unwrap().to_owned())
        };
        let first = get(&aws, &name).await?["VersionId"].clone();
        let pending = json!({"SecretId": name, "SecretString": "two", "VersionStages": ["AWSPENDING"]});
        let second = aws.secrets_manager("PutSecretValue", pending).await?["VersionId"].clone();
        assert_eq!((read("AWSCURRENT").await?, read("AWSPENDING").await?), ("one".to_owned(), "two".to_owned()));

        let move_stage = json!({"SecretId": name, "VersionStage": "AWSCURRENT",
            "MoveToVersionId": second, "RemoveFromVersionId": first});
        aws.secrets_manager("UpdateSecretVersionStage", move_stage).await?;
        assert_eq!(get(&aws, &name).await?["SecretString"], "two", "without a stage the current one is meant");
        assert_eq!(read("AWSPREVIOUS").await?, "one");
        let by_id = aws.secrets_manager("GetSecretValue", json!({"SecretId": name, "VersionId": first})).await?;
        assert_eq!(by_id["SecretString"], "one");
        assert_eq!(read("NOSUCH").await.unwrap_err().code, "ResourceNotFoundException");

        aws.delete_secret(&name).await?;
        assert_eq!(get(&aws, &name).await.unwrap_err().code, "ResourceNotFoundException");
        Ok(())
    })
}

/// What the emulator does not do as AWS does, so that no test may rely on it. Where a new version closes a gap, this says so: then
/// the tests that go around it can do without.
#[test]
fn gaps() -> Result<()> {
    with_namespace("gaps", async |ns| {
        let (name, aws) = (put(ns, "key", "one").await?, ns.aws());
        // AWS takes 20.
        let ids: Vec<String> = (0..21).map(|i| format!("{}/no-{i}", ns.name)).collect();
        let batch = aws.secrets_manager("BatchGetSecretValue", json!({"SecretIdList": ids})).await?;
        assert_eq!(batch["Errors"].as_array().map(Vec::len), Some(21), "a batch has no limit");
        // AWS takes 64 KiB.
        put(ns, "large", &"x".repeat(70_000)).await?;

        // AWS calls the function, which makes the new value.
        let lambda = "arn:aws:lambda:eu-west-1:000000000000:function:none";
        let before = get(&aws, &name).await?;
        aws.secrets_manager("RotateSecret", json!({"SecretId": name, "RotationLambdaARN": lambda})).await?;
        let after = get(&aws, &name).await?;
        assert_ne!(after["VersionId"], before["VersionId"], "a rotation makes a version at once");
        assert_eq!(after["SecretString"], "one", "a rotation calls no function, and changes nothing");

        // AWS checks both.
        let role = ns.service_account_with_role("app", allow_reading(&format!("{}/*", ns.name))).await?;
        let token = ns.cluster().token(&ns.name, "app", Some(AUDIENCE)).await?;
        let forged = ns.aws().with_web_identity(&role, &expired(&token)?).await?;
        assert_eq!(get(&forged, &name).await?["SecretString"], "one", "neither signature nor end of a token is checked");
        Ok(())
    })
}

/// A token that ended long ago, and whose signature is not its own.
fn expired(token: &str) -> Result<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut parts: Vec<&str> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1])?)?;
    claims["exp"] = json!(1);
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    parts[1] = &claims;
    Ok(parts.join("."))
}
