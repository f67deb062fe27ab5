//! Many ExternalSecrets on the real Vault. Its audit log is the witness: how often it was logged in to, and read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::bare::Bare;
use super::follow::{Follow, Object};
use super::load::{self, Item, REFRESH_SECONDS, SHARE};
use super::readings::Reading;
use super::stand_in::StandIn;
use super::table::{Table, Unit};
use super::{EXTERNAL_SECRETS, PATIENCE, SETTLE, beside_us, cpu_per_refresh, of, step};
use crate::controlplane::{ControlPlane, Options};
use crate::env::crd_files;
use crate::operator::{self, Operator};
use crate::process::Lifetime;
use crate::rundir::RunDir;
use crate::tools::Tools;
use crate::vault::{Asked, Vault};

const OBJECTS: usize = 2_000;
const SET: &str = "vault";
const ENGINE: &str = "secret";
const LOGIN: &str = "auth/approle/login";

/// Measures them on servers of their own.
pub(super) async fn measure(table: &mut Table) -> Result<()> {
    let tools = tokio::task::spawn_blocking(Tools::find_or_make).await??;
    let dir = Arc::new(RunDir::new(Lifetime::Ours)?);
    step("starting Vault and another control plane");
    let vault = Vault::start(dir.clone()).await?;
    let plane = ControlPlane::start(dir.clone(), &tools, Options::default()).await?;
    for file in crd_files()? {
        plane.cluster().apply(&std::fs::read_to_string(file)?, "").await?;
    }
    plane.start_controllers().await?;
    let bare = Bare::new(plane.cluster().kubeconfig()).await?;
    // Nobody calls it.
    let aws = StandIn::start().await?;
    store(&vault, &plane).await?;

    step(&format!("creating {OBJECTS} ExternalSecrets on {} keys of Vault", OBJECTS / SHARE));
    load::namespaces(SET, &bare).await?;
    for key in (0..OBJECTS).step_by(SHARE).map(|number| Item::new(SET, number).key) {
        vault.write(&format!("{ENGINE}/data/{key}"), json!({"data": load::value(&key, "first")})).await?;
    }
    load::items(SET, 0..OBJECTS, &bare, &aws).await?;
    let client = plane.cluster().client.clone();
    let ready = Follow::start(client.clone(), EXTERNAL_SECRETS, Object::ready);

    step("from the operator's exec to the last Ready, and two refresh intervals");
    let mark = vault.audit_mark()?;
    let args = vec!["--allow-local-endpoints".to_owned()];
    let options = operator::Options { binary: Some(beside_us()?), args, ..operator::Options::default() };
    let operator = Operator::start(dir, &tools, plane.cluster(), aws.endpoint(), &options).await?;
    let cold = ready.count(OBJECTS, PATIENCE * 5).await? - operator.started();
    tokio::time::sleep(SETTLE).await;
    let cold_reads = most_read(&vault.asked_since(mark)?)?;
    let (start, steady_mark) = (Reading::take(&operator, &client, &aws).await?, vault.audit_mark()?);
    tokio::time::sleep(Duration::from_secs(2 * REFRESH_SECONDS)).await;
    let end = Reading::take(&operator, &client, &aws).await?;
    let (work, steady) = (end.since(&start), vault.asked_since(steady_mark)?);
    let logins = vault.asked_since(mark)?.iter().filter(|asked| asked.path == LOGIN).count();
    ensure!(logins > 0, "Vault's audit log holds no login");

    table.note("Vault, 2,000: cold start", cold.as_secs_f64(), Unit::Seconds);
    table.at_most(1.0, "Vault, 2,000: most reads of one key at the cold start", of(cold_reads), Unit::None);
    table.at_most(1.0, "Vault, 2,000: logins", of(logins), Unit::None);
    table.note("Vault, 2,000: refreshes in 120 s", work.refreshes, Unit::None);
    table.note("Vault, 2,000: requests to Vault in 120 s", of(steady.len()), Unit::None);
    table.at_most(1.0, "Vault, 2,000: most reads of one key in an interval", of(most_read(&steady)?) / 2.0, Unit::None);
    table.at_most(0.0, "Vault, 2,000: reads of Secrets", work.secret_reads, Unit::None);
    table.at_most(1.0, "Vault, 2,000: CPU per refresh", cpu_per_refresh(work), Unit::Milliseconds);
    table.at_most(52.0, "Vault, 2,000: resident memory", end.memory.resident, Unit::Mebibytes);
    Ok(())
}

/// An engine, a login that may read it, and the store on both.
async fn store(vault: &Vault, plane: &ControlPlane) -> Result<()> {
    vault.mount(ENGINE, "kv", json!({"version": "2"})).await?;
    vault.policy("bench", &[(&format!("{ENGINE}/*"), &["read"])]).await?;
    let (role, secret) = vault.app_role("approle", &["bench"], "1h").await?;
    let reference = json!({"name": "vault-login", "namespace": "default", "key": "secret-id"});
    let login = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault-login"}, "stringData": {"secret-id": secret},
    });
    plane.cluster().apply_object(login, "default").await?;
    let provider = json!({"vault": {
        "server": vault.url(), "path": ENGINE, "version": "v2", "auth": {"appRole": {"roleId": role, "secretRef": reference}},
    }});
    let store = json!({
        "apiVersion": "external-secrets.io/v1", "kind": "ClusterSecretStore", "metadata": {"name": load::STORE},
        "spec": {"provider": provider},
    });
    plane.cluster().apply_object(store, "").await
}

/// How often the key was read that was read most.
fn most_read(asked: &[Asked]) -> Result<usize> {
    let mut reads: BTreeMap<&str, usize> = BTreeMap::new();
    for read in asked.iter().filter(|asked| asked.path.starts_with(&format!("{ENGINE}/data/"))) {
        *reads.entry(&read.path).or_default() += 1;
    }
    ensure!(reads.len() == OBJECTS / SHARE, "{} keys were read", reads.len());
    reads.into_values().max().context("nothing was read")
}
