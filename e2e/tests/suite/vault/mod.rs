//! The real Vault, and what it makes: read, pushed and logged in to through the operator.

mod servers;

use anyhow::Result;
use keyferry_e2e::postgres::Postgres;
use keyferry_e2e::vault::Vault;
use serde_json::json;

/// A database engine at `mount`, whose role `app` makes users of `postgres` that live as long as `ttl` says and are renewed for no
/// longer than `max_ttl`.
async fn database(vault: &Vault, postgres: &Postgres, mount: &str, ttl: &str, max_ttl: &str) -> Result<()> {
    let (username, password) = postgres.admin();
    let url =
        format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable", postgres.port());
    vault.mount(mount, "database", json!({})).await?;
    let config = json!({
        "plugin_name": "postgresql-database-plugin", "connection_url": url, "allowed_roles": ["*"],
        "username": username, "password": password,
    });
    vault.write(&format!("{mount}/config/pg"), config).await?;
    let role = json!({
        "db_name": "pg", "default_ttl": ttl, "max_ttl": max_ttl,
        "creation_statements": [r#"CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"#],
    });
    vault.write(&format!("{mount}/roles/app"), role).await.map(drop)
}
