//! The main job: an unchanged manifest becomes a Secret, and the Secret follows its source.

use std::time::{Duration, Instant};

use anyhow::Result;
use keyferry_e2e::aws::allow_reading;
use keyferry_e2e::env::{Sandbox, with_namespace};
use keyferry_e2e::{progress, project_root};

const STORE: (&str, &str) = ("external-secrets.io/v1", "SecretStore");
/// Far above the second that is promised: the machines that run tests are busy. The exact figure is printed.
const LIMIT: Duration = Duration::from_secs(5);

/// The secrets that the manifest names, a ServiceAccount that may read them, and the manifest, applied as a user does.
async fn quickstart(ns: &Sandbox<'_>) -> Result<Instant> {
    ns.aws().put_secret("prod/database-url", "postgres://first").await?;
    ns.aws().put_secret("prod/stripe-api-key", "first").await?;
    ns.service_account_with_role("external-secrets-sa", allow_reading("prod/*")).await?;
    let started = Instant::now();
    ns.kubectl(&["apply", "-f", &project_root().join("examples/quickstart.yaml").display().to_string()]).await?;
    Ok(started)
}

#[test]
fn an_unchanged_manifest_is_synced_and_follows_its_source() -> Result<()> {
    with_namespace("main-job", async |ns| {
        ns.env.operator().await?;
        let applied = quickstart(ns).await?;
        ns.wait_synced("app-secrets").await?;
        progress::note(format!("synced {:.3} s after apply", applied.elapsed().as_secs_f64()));
        assert!(applied.elapsed() < LIMIT, "took {:?}", applied.elapsed());
        let secret = ns.secret("app-secrets").await?;
        let values: Vec<_> = secret.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(values, [("database-url", "postgres://first"), ("stripe-key", "first")]);
        ns.wait_ready(STORE, "aws-secret-store", "True", "Valid").await?;
        let events = ns.events("ExternalSecret", "app-secrets").await?;
        assert!(events.iter().any(|event| event.starts_with("Normal Created: ")), "{events:?}");

        ns.aws().put_secret("prod/stripe-api-key", "second").await?;
        let forced = Instant::now();
        ns.kubectl(&["annotate", "externalsecret", "app-secrets", "force-sync=1"]).await?;
        ns.wait_secret("app-secrets", |data| data.get("stripe-key").is_some_and(|value| value == "second")).await?;
        progress::note(format!("followed {:.3} s after force-sync", forced.elapsed().as_secs_f64()));
        assert!(forced.elapsed() < LIMIT, "took {:?}", forced.elapsed());
        Ok(())
    })
}
