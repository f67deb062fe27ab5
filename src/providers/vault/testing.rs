//! A server that speaks the part of Vault's documented HTTP API that logins and dynamic secrets use.
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::{Value, json};

use crate::generators::testing::cluster::CANARY;
use crate::outbound::testing::{FakeServer, Received, Reply};

/// The token that every login gives, and that reads ask for.
pub const TOKEN: &str = "hvs.canary-token";

pub async fn vault() -> FakeServer {
    FakeServer::start(answer).await
}

/// What Vault says when it has an error to tell: here with what must not be passed on.
pub fn errors(status: u16) -> Reply {
    Reply::json(status, &json!({"errors": [format!("told {CANARY} {TOKEN}")]}))
}

pub fn answer(asked: &Received) -> Reply {
    let (method, path) = asked.line.split_once(' ').unwrap();
    let path = path.strip_prefix("/v1/").unwrap();
    if path.starts_with("auth/") && path.contains("/login") {
        return login(path, &asked.json());
    }
    if asked.header("x-vault-token") != TOKEN {
        return errors(403);
    }
    match (method, path) {
        ("GET", "database/creds/app") => Reply::json(200, &secret(&json!({"username": "u", "password": "p"}), &Value::Null)),
        ("GET", "odd/values") => {
            let text = r#"{"request_id":"r","lease_id":"","lease_duration":0,"renewable":false,"data":{"int":12345678901234567890,"float":1.50,"list":["a",1],"map":{"b":"<","a":null},"null":null,"yes":true},"warnings":null,"auth":null}"#;
            Reply::text(200, text)
        }
        ("GET", "pki/cert?common_name=a.test&common_name=b.test") => {
            Reply::json(200, &secret(&json!({"n": "2"}), &Value::Null))
        }
        ("GET", "kv/?list=true" | "kv?list=true") => Reply::json(200, &secret(&json!({"keys": ["a", "b"]}), &Value::Null)),
        ("PUT", "auth/token/create") => {
            let auth = json!({
                "client_token": "hvs.made", "accessor": "acc", "policies": ["default"], "token_policies": ["default"],
                "metadata": null, "lease_duration": 2764800, "renewable": true, "entity_id": "", "token_type": "service",
                "orphan": false, "mfa_requirement": null, "num_uses": 0,
            });
            Reply::json(200, &secret(&Value::Null, &auth))
        }
        ("PUT", "sys/leases/renew") if asked.json()["lease_id"] == "database/creds/app/l1" => {
            Reply::json(200, &secret(&Value::Null, &Value::Null))
        }
        ("PUT", "sys/leases/renew") => errors(400),
        ("PUT", "sys/leases/revoke") | ("DELETE", "kv/a") => Reply::text(204, ""),
        ("PUT", "transit/sign") => Reply::json(200, &secret(&json!({"signature": asked.json()["input"]}), &Value::Null)),
        ("GET", "deleted") => Reply::json(404, &secret(&json!({"metadata": {"version": 1}}), &Value::Null)),
        ("GET" | "DELETE", _) => Reply::json(404, &json!({"errors": []})),
        _ => errors(404),
    }
}

fn secret(data: &Value, auth: &Value) -> Value {
    json!({
        "request_id": "r-1", "lease_id": "database/creds/app/l1", "lease_duration": 3600, "renewable": true, "data": data,
        "wrap_info": null, "warnings": null, "auth": auth, "mount_type": "database",
    })
}

fn login(path: &str, body: &Value) -> Reply {
    let is = |name: &str, value: &str| body[name] == value;
    let good = match path {
        "auth/approle/login" | "auth/team/approle/login" => is("role_id", "role-1") && is("secret_id", "s3cret"),
        "auth/kubernetes/login" => is("role", "app") && body["jwt"].as_str().is_some_and(|t| t.starts_with("token-of-sa")),
        "auth/jwt/login" => {
            is("role", "app") && body["jwt"].as_str().is_some_and(|t| t.starts_with("token-of-sa") || t == "kept")
        }
        "auth/userpass/login/bob" | "auth/ldap/login/bob" => is("password", "s3cret"),
        "auth/cert/login" => is("name", "app") || *body == json!({}),
        _ => false,
    };
    match good {
        true => {
            Reply::json(200, &secret(&Value::Null, &json!({"client_token": TOKEN, "lease_duration": 60, "renewable": true})))
        }
        false => errors(400),
    }
}
