//! Credentials that Vault lends: those in the Secret work at every moment, whatever happens to their leases and to the operator.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::postgres::Postgres;
use keyferry_e2e::progress;
use kube::api::Api;
use serde_json::{Value, json};

use super::{LOCAL, app_role, asked, block, database, local_operator, vault_store};
use crate::generators::{API_VERSION, generator};
use crate::lab::{EXTERNAL_SECRET, apply, eventually, external_secret, objects, operator, with_lab};

/// How long the test runs, in seconds; `make soak` sets it to the ten minutes of the promise, with leases of a minute.
const SOAK: &str = "KEYFERRY_SOAK_SECONDS";
const STATE: (&str, &str) = (API_VERSION, "GeneratorState");
/// How often the credentials are tried.
const EVERY: Duration = Duration::from_millis(200);

/// What may be done at a database engine, and with what it lends.
fn rules(mount: &str) -> [(String, &'static [&'static str]); 2] {
    [(format!("{mount}/creds/app"), &["read"]), ("sys/leases/revoke".to_owned(), &["update"])]
}

/// The `auth` of a store or generator that may use the engine of the namespace.
async fn auth(ns: &Sandbox<'_>, ttl: &str) -> Result<Value> {
    let rules = rules(&ns.name);
    let rules: Vec<(&str, &[&str])> = rules.iter().map(|(path, can)| (path.as_str(), *can)).collect();
    app_role(ns, ns.env.vault().await?, &rules, ttl).await
}

/// An ExternalSecret that is generated anew when it must be.
fn generated(name: &str, annotations: Value) -> Value {
    let entry = json!({"sourceRef": {"generatorRef": {"kind": "VaultDynamicSecret", "name": "creds"}}});
    let mut object = external_secret(name, json!({"dataFrom": [entry]}));
    object["metadata"]["annotations"] = annotations;
    object
}

/// An ExternalSecret that reads the path of the engine as any other.
fn plain(name: &str) -> Value {
    external_secret(name, json!({"dataFrom": [{"extract": {"key": "creds/app"}}]}))
}

/// Username and password, as a consumer finds them.
async fn credentials(api: &Api<Secret>, name: &str) -> Result<(String, String)> {
    let data = api.get(name).await?.data.unwrap_or_default();
    let part =
        |key: &str| data.get(key).map(|value| String::from_utf8_lossy(&value.0).into_owned()).context("no credentials");
    Ok((part("username")?, part("password")?))
}

/// What a consumer of a Secret saw.
#[derive(Default)]
struct Seen {
    tries: u64,
    failures: Vec<String>,
    users: BTreeSet<String>,
}

/// Connects all the time with what the Secret holds; looks at the Secret again only after each `pause`.
async fn consume(api: Api<Secret>, name: &str, postgres: &Postgres, pause: Duration, stop: &AtomicBool) -> Result<Seen> {
    let (mut seen, begun) = (Seen::default(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let (user, password) = credentials(&api, name).await?;
        seen.users.insert(user.clone());
        let until = Instant::now() + pause;
        loop {
            let next = tokio::time::sleep(EVERY);
            seen.tries += 1;
            if let Err(error) = postgres.sql(&user, &password, "select 1").await {
                seen.failures.push(format!("after {:?}: {user}: {error}", begun.elapsed()));
            }
            next.await;
            if Instant::now() >= until || stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    Ok(seen)
}

/// Two ExternalSecrets, by generator and by plain read; consumers that look at once and such that take their time; renewals until the
/// leases can be renewed no further, then others; the operator killed, and ended, in between.
#[test]
fn credentials_work_at_every_moment() -> Result<()> {
    let soak = std::env::var(SOAK).ok().and_then(|text| text.parse().ok()).map(Duration::from_secs);
    // The logins last no longer than the leases: what is lent ends with them after the operator has gone.
    let (length, lease, most, login) = match soak {
        Some(length) => (length, 60, 150, "60s"),
        None => (Duration::from_secs(100), 15, 40, "30s"),
    };
    with_lab("dynamic", async |ns| {
        let (vault, postgres) = tokio::try_join!(ns.env.vault(), ns.env.postgres())?;
        database(vault, postgres, &ns.name, &format!("{lease}s"), &format!("{most}s")).await?;
        let auth = auth(ns, login).await?;
        let mark = vault.audit_mark()?;
        let mut operator = local_operator(ns).await?;
        let spec = json!({"path": format!("{}/creds/app", ns.name), "provider": block(vault.url(), "", "v1", auth.clone())});
        generator(ns, "VaultDynamicSecret", "creds", spec).await?;
        vault_store(ns, "store", block(vault.url(), &ns.name, "v1", auth)).await?;
        apply(ns, generated("generated", json!({}))).await?;
        apply(ns, plain("plain")).await?;
        for name in ["generated", "plain"] {
            ns.wait_synced(name).await?;
        }

        let stop = Arc::new(AtomicBool::new(false));
        let api: Api<Secret> = Api::namespaced(ns.cluster().client.clone(), &ns.name);
        let slow = Duration::from_secs(lease / 3);
        let consumer = |name: &'static str, pause| consume(api.clone(), name, postgres, pause, &stop);
        let consumers = async {
            tokio::try_join!(
                consumer("generated", Duration::ZERO),
                consumer("generated", slow),
                consumer("plain", Duration::ZERO),
                consumer("plain", slow),
            )
        };
        let events = async {
            tokio::time::sleep(length.mul_f64(0.4)).await;
            operator.kill().await?;
            operator.start_again().await?;
            tokio::time::sleep(length.mul_f64(0.2)).await;
            operator.terminate(Duration::from_secs(30)).await?;
            operator.start_again().await?;
            tokio::time::sleep(length.mul_f64(0.4)).await;
            stop.store(true, Ordering::Relaxed);
            anyhow::Ok(())
        };
        let ((at_once, slowly, plain_at_once, plain_slowly), ()) = tokio::try_join!(consumers, events)?;
        for (what, seen) in [
            ("generated", &at_once),
            ("generated, slowly", &slowly),
            ("plain", &plain_at_once),
            ("plain, slowly", &plain_slowly),
        ] {
            progress::note(format!("{what}: {} connections, {} users", seen.tries, seen.users.len()));
            ensure!(
                seen.failures.is_empty(),
                "{what}: {} of {} failed: {:#?}",
                seen.failures.len(),
                seen.tries,
                seen.failures
            );
            ensure!(seen.tries > length.as_secs(), "{what}: only {} connections", seen.tries);
            let replaced = usize::try_from(length.as_secs() / (2 * most))?.max(1);
            ensure!(seen.users.len() > replaced, "{what}: never replaced: {:?}", seen.users);
        }
        let renewals = asked(vault, mark, "sys/leases/renew")?;
        ensure!(renewals.iter().filter(|asked| asked.error.is_empty()).count() > 4, "the leases were renewed: {renewals:?}");
        // one login for the generator and one for the store, of each process
        let logins = asked(vault, mark, &format!("auth/approle-{}/login", ns.name))?.len();
        ensure!(logins <= 6, "{logins} logins");

        // what is out of use goes, and nothing is left when the objects are gone
        let named = |user: &String| user.starts_with("v-approle");
        let users = postgres.users().await?.into_iter().filter(named).count();
        ensure!(users <= 8, "{users} users at the end: what was replaced was not taken back");
        ns.kubectl(&["delete", "externalsecrets", "--all", "--wait=true"]).await?;
        eventually("the states of the generator are gone", async || Ok(objects(ns, STATE).await?.is_empty())).await?;
        Ok(())
    })
}

/// What is replaced still holds for the time that the annotation says, and is taken back then.
#[test]
fn the_old_credentials_hold_for_a_while_and_are_taken_back() -> Result<()> {
    with_lab("grace", async |ns| {
        let (vault, postgres) = tokio::try_join!(ns.env.vault(), ns.env.postgres())?;
        database(vault, postgres, &ns.name, "1h", "24h").await?;
        let auth = auth(ns, "1h").await?;
        let _operator = local_operator(ns).await?;
        let spec = json!({"path": format!("{}/creds/app", ns.name), "provider": block(vault.url(), "", "v1", auth)});
        generator(ns, "VaultDynamicSecret", "creds", spec).await?;
        apply(ns, generated("es", json!({"keyferry.io/generator-grace": "6s"}))).await?;
        ns.wait_synced("es").await?;
        let api: Api<Secret> = Api::namespaced(ns.cluster().client.clone(), &ns.name);
        let (old, password) = credentials(&api, "es").await?;
        let replaced = Instant::now();
        ns.kubectl(&["annotate", "externalsecret", "es", "force-sync=1"]).await?;
        ns.wait_secret("es", |data| data.get("username").is_some_and(|user| *user != old)).await?;
        let works = async || postgres.sql(&old, &password, "select 1").await.is_ok();
        ensure!(works().await || replaced.elapsed() > Duration::from_secs(5), "the old credentials were taken back at once");
        eventually("the old credentials are taken back", async || Ok(!works().await)).await?;
        ensure!(replaced.elapsed() > Duration::from_secs(5), "taken back after {:?} already", replaced.elapsed());
        let (user, password) = credentials(&api, "es").await?;
        postgres.sql(&user, &password, "select 1").await?;

        // whoever deletes the ExternalSecret wants no credentials any more
        ns.kubectl(&["delete", "externalsecret", "es"]).await?;
        eventually("they go with their user", async || Ok(postgres.sql(&user, &password, "select 1").await.is_err()))
            .await?;
        Ok(())
    })
}

/// A lease that somebody revokes is found out, and another one takes its place, at the latest when the lease would be renewed.
#[test]
fn a_lease_that_is_gone_is_replaced() -> Result<()> {
    with_lab("revoked", async |ns| {
        let (vault, postgres) = tokio::try_join!(ns.env.vault(), ns.env.postgres())?;
        database(vault, postgres, &ns.name, "10s", "1h").await?;
        let auth = auth(ns, "1h").await?;
        let _operator = local_operator(ns).await?;
        let spec = json!({"path": format!("{}/creds/app", ns.name), "provider": block(vault.url(), "", "v1", auth.clone())});
        generator(ns, "VaultDynamicSecret", "creds", spec).await?;
        vault_store(ns, "store", block(vault.url(), &ns.name, "v1", auth)).await?;
        apply(ns, generated("generated", json!({}))).await?;
        apply(ns, plain("plain")).await?;
        for name in ["generated", "plain"] {
            ns.wait_synced(name).await?;
        }
        let api: Api<Secret> = Api::namespaced(ns.cluster().client.clone(), &ns.name);
        let before = [credentials(&api, "generated").await?.0, credentials(&api, "plain").await?.0];
        vault.write(&format!("sys/leases/revoke-prefix/{}", ns.name), json!({})).await?;
        for (name, old) in ["generated", "plain"].into_iter().zip(before) {
            ns.wait_secret(name, |data| data.get("username").is_some_and(|user| *user != old)).await?;
            let (user, password) = credentials(&api, name).await?;
            postgres.sql(&user, &password, "select 1").await.with_context(|| format!("{name}: the new credentials"))?;
        }
        Ok(())
    })
}

/// A policy that lets nobody renew or revoke: credentials are replaced in time all the same, and end by themselves.
#[test]
fn without_the_right_to_renew_credentials_are_replaced() -> Result<()> {
    with_lab("no-renewal", async |ns| {
        let (vault, postgres) = tokio::try_join!(ns.env.vault(), ns.env.postgres())?;
        database(vault, postgres, &ns.name, "10s", "1h").await?;
        let deny: &[&str] = &["deny"];
        let path = format!("{}/creds/app", ns.name);
        let auth = app_role(
            ns,
            vault,
            &[(&path, &["read"]), ("sys/leases/renew", deny), ("sys/leases/revoke", deny), ("sys/leases/lookup", deny)],
            "1h",
        )
        .await?;
        let _operator = operator(ns, &[LOCAL, "--generator-gc-grace-period=4s"]).await?;
        let spec = json!({"path": path, "provider": block(vault.url(), "", "v1", auth)});
        generator(ns, "VaultDynamicSecret", "creds", spec).await?;
        apply(ns, generated("es", json!({}))).await?;
        ns.wait_synced("es").await?;
        let api: Api<Secret> = Api::namespaced(ns.cluster().client.clone(), &ns.name);
        let stop = AtomicBool::new(false);
        let end = async {
            tokio::time::sleep(Duration::from_secs(25)).await;
            stop.store(true, Ordering::Relaxed);
            Ok(())
        };
        let (seen, ()) = tokio::try_join!(consume(api, "es", postgres, Duration::ZERO, &stop), end)?;
        ensure!(seen.failures.is_empty(), "{:#?}", seen.failures);
        ensure!(seen.users.len() >= 3, "{:?}", seen.users);
        ensure!(ns.wait(EXTERNAL_SECRET, "es", |es| es.is_some()).await?.is_some());
        eventually("states whose lease has ended are let go", async || Ok(objects(ns, STATE).await?.len() <= 3)).await?;
        Ok(())
    })
}
