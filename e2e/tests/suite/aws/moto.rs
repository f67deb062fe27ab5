//! Reads from moto: what ministack and we take for AWS's answers may be a mistake that both make.

use k8s_openapi::api::core::v1::Secret;
use keyferry_e2e::aws::Aws;
use kube::Api;

use super::*;
use crate::lab::{operator_with, with_lab};

/// The stores `secrets` and `parameters`, and the operator that asks `endpoint` for their values.
async fn serve(ns: &Sandbox<'_>, endpoint: &str) -> Result<Operator> {
    let any = AccessKey { id: "test".to_owned(), secret: "test".to_owned(), session: None };
    apply_key(ns, "key", &any).await?;
    apply_store(ns, STORE, "secrets", json!({"auth": key_auth("key")})).await?;
    apply_store(ns, STORE, "parameters", json!({"service": "ParameterStore", "auth": key_auth("key")})).await?;
    operator_with(ns, &[], &[("AWS_SECRETSMANAGER_ENDPOINT", endpoint), ("AWS_SSM_ENDPOINT", endpoint)]).await
}

/// What the test reads; returns the id of the first version of `app/rotated`.
async fn fill(moto: &Aws) -> Result<String> {
    let tagged = |name: &str, value: &str, env: &str| {
        let tags = json!([{"Key": "env", "Value": env}]);
        json!({"Name": name, "SecretString": value, "Tags": tags})
    };
    let first = moto.secrets_manager("CreateSecret", tagged("app/rotated", "first", "prod")).await?;
    moto.put_secret("app/rotated", "second").await?;
    moto.secrets_manager("CreateSecret", tagged("app/parts", r#"{"nested": {"list": ["x", "y"]}}"#, "test")).await?;
    moto.secrets_manager("CreateSecret", json!({"Name": "binary", "SecretBinary": "AAH/"})).await?;
    for value in ["one", "two"] {
        let parameter = json!({"Name": "/app/parameter", "Value": value, "Type": "SecureString", "Overwrite": true});
        moto.parameter_store("PutParameter", parameter).await?;
    }
    Ok(first["VersionId"].as_str().unwrap().to_owned())
}

#[test]
fn another_emulator_is_read_as_well() -> Result<()> {
    with_lab("moto", async |ns| {
        let moto = ns.env.moto().await?;
        let first = fill(&moto.root()).await?;
        let _operator = serve(ns, moto.endpoint()).await?;

        let rotated = |version: &str| json!({"key": "app/rotated", "version": version});
        let entries = json!([
            entry("current", json!({"key": "app/rotated"})),
            entry("previous", rotated("AWSPREVIOUS")),
            entry("pinned", rotated(&format!("uuid/{first}"))),
            entry("tags", json!({"key": "app/rotated", "metadataPolicy": "Fetch"})),
            entry("nested", json!({"key": "app/parts", "property": "nested.list.1"})),
        ]);
        let found = |find: Value| json!({"dataFrom": [{"find": find}]});
        let parameter = |version: &str| json!({"key": "/app/parameter", "version": version});
        let parameters = json!([entry("latest", json!({"key": "/app/parameter"})), entry("number", parameter("1"))]);
        for (name, store, spec) in [
            ("references", "secrets", json!({"data": entries})),
            ("by-name", "secrets", found(json!({"name": {"regexp": "^app/p"}}))),
            ("by-tag", "secrets", found(json!({"tags": {"env": "prod"}}))),
            ("binary", "secrets", data("key", "binary")),
            ("missing", "secrets", data("key", "app/none")),
            ("parameters", "parameters", json!({"data": parameters})),
            ("no-parameter", "parameters", data("key", "/app/none")),
        ] {
            apply_external_secret(ns, name, store, spec).await?;
        }

        let references = [
            ("current", "second"),
            ("previous", "first"),
            ("pinned", "first"),
            ("tags", r#"{"env":"prod"}"#),
            ("nested", "y"),
        ];
        wait_data(ns, "references", &references).await?;
        wait_data(ns, "by-name", &[("app_parts", r#"{"nested": {"list": ["x", "y"]}}"#)]).await?;
        wait_data(ns, "by-tag", &[("app_rotated", "second")]).await?;
        wait_data(ns, "parameters", &[("latest", "two"), ("number", "one")]).await?;
        ns.wait_synced("binary").await?;
        let api: Api<Secret> = Api::namespaced(ns.cluster().client.clone(), &ns.name);
        assert_eq!(api.get("binary").await?.data.unwrap()["key"].0, [0x00, 0x01, 0xff]);
        for (name, key) in [("missing", "app/none"), ("no-parameter", "/app/none")] {
            let message = wait_failed(ns, name).await?;
            assert!(message.contains(&format!("does not exist: {key:?}")), "{message}");
        }
        Ok(())
    })
}
