//! Secret managers that are services: each as a fake of `keyferry_fakes`, read and written through an operator, and proven by the
//! vendor's own client. One file each, which holds
//!
//! - what a manifest of that provider brings, with [`with_service`] and the methods of [`Bench`];
//! - that the vendor's client, a script in `e2e/oracles/clients`, and the fake agree, with [`with_client`]. AWS Certificate Manager's
//!   are beside the other tests of AWS.

mod akeyless;
mod bitwarden;
mod conjur;
mod delinea;
mod doppler;
mod github;
mod gitlab;
mod ibm;
mod infisical;
mod keeper;
mod onepassword;
mod pulumi;
mod scaleway;
mod secretserver;
mod webhook;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keyferry_e2e::env::{Sandbox, block_on};
use keyferry_e2e::operator::Operator;
use keyferry_e2e::{project_root, tools};
use keyferry_fakes::{Fake, Fault, Refusal, Service};
use serde_json::{Value, json};

use crate::canary;
use crate::lab::{
    self, EXTERNAL_SECRET, PUSH_SECRET, SECRET_STORE, apply, external_secret, operator_with, patch, push_secret, with_lab,
};

/// How long a value that was read does for a new object, and a little more.
const SHARED_FOR: Duration = Duration::from_secs(11);

/// A service, an operator that may call it, and the namespace that it serves.
pub struct Bench<'a, F> {
    /// The namespace.
    pub ns: &'a Sandbox<'a>,
    /// The service.
    pub service: Service<F>,
    /// The operator, at the most talkative log level.
    pub operator: Operator,
}

/// Runs `test` with the service and an operator in a namespace of its own. Afterwards nothing that begins as [`canary::value`]
/// does, and nothing that the service says of its failures, may be seen in what the operator said.
pub fn with_service<F: Fake>(label: &str, fake: F, test: impl AsyncFnOnce(&Bench<'_, F>) -> Result<()>) -> Result<()> {
    with_service_at(label, fake, "", test)
}

/// As [`with_service`]; the variable of this name tells the operator where the service is.
pub fn with_service_at<F: Fake>(
    label: &str,
    fake: F,
    variable: &str,
    test: impl AsyncFnOnce(&Bench<'_, F>) -> Result<()>,
) -> Result<()> {
    with_lab(label, async |ns| {
        let service = Service::start(fake).await;
        let args = ["--allow-local-endpoints", "--loglevel=trace"];
        let env = [(variable, service.url())];
        let operator = operator_with(ns, &args, if variable.is_empty() { &[] } else { &env }).await?;
        let bench = Bench { ns, service, operator };
        test(&bench).await?;
        let never = [canary::BEGINS.to_owned(), keyferry_fakes::CANARY.to_owned()];
        canary::unseen(ns, &bench.operator, &never).await.map(drop)
    })
}

impl<F: Fake> Bench<'_, F> {
    /// A Secret.
    pub async fn secret(&self, name: &str, labels: Value, data: &[(&str, &str)]) -> Result<()> {
        let data: BTreeMap<&str, &str> = data.iter().copied().collect();
        let metadata = json!({"name": name, "labels": labels});
        apply(self.ns, json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})).await
    }

    /// The SecretStore `store` with this provider, and the Secret `login` that it logs in with. Waits until it is ready.
    pub async fn store(&self, provider: Value, login: &[(&str, &str)]) -> Result<()> {
        self.secret("login", json!({}), login).await?;
        apply(self.ns, lab::store("store", provider)).await?;
        self.ns.wait_ready(SECRET_STORE, "store", "True", "Valid").await.map(drop)
    }

    /// Applies an ExternalSecret on the store `store`, and waits until its Secret holds exactly these keys and values.
    pub async fn brings(&self, name: &str, spec: Value, expected: &[(&str, &str)]) -> Result<()> {
        apply(self.ns, external_secret(name, spec)).await?;
        self.ns.wait_synced(name).await?;
        self.holds(name, expected).await
    }

    /// The Secret holds exactly these keys and values.
    pub async fn holds(&self, name: &str, expected: &[(&str, &str)]) -> Result<()> {
        let expected: BTreeMap<String, String> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let held = self.ns.secret(name).await?;
        ensure!(held == expected, "Secret {name} holds other keys or values: {:?}", held.keys());
        Ok(())
    }

    /// Applies an ExternalSecret, waits until it says that it failed, and returns what it says.
    pub async fn fails(&self, name: &str, spec: Value) -> Result<String> {
        apply(self.ns, external_secret(name, spec)).await?;
        let message = self.ns.wait_ready(EXTERNAL_SECRET, name, "False", "SecretSyncedError").await?;
        ensure!(self.ns.secret(name).await.is_err(), "{name} has a Secret");
        Ok(message)
    }

    /// Applies an ExternalSecret of a key that nobody has read yet while the service refuses all, and waits until it says so; then, once the service does not any more,
    /// until it is synced. Returns what it said.
    pub async fn recovers(&self, name: &str, spec: Value, expected: &[(&str, &str)]) -> Result<String> {
        // a value that somebody else read a moment ago would do
        tokio::time::sleep(SHARED_FOR).await;
        self.service.set_fault(Some(Fault::Refuses(Refusal::Denied)));
        let message = self.fails(name, spec).await?;
        self.service.set_fault(None);
        self.ns.wait_synced(name).await?;
        self.holds(name, expected).await?;
        Ok(message)
    }

    /// Asks for a read of an ExternalSecret now.
    pub async fn read_again(&self, name: &str) -> Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos().to_string();
        patch(self.ns, EXTERNAL_SECRET, name, json!({"metadata": {"annotations": {"force-sync": now}}})).await
    }

    /// Makes a Secret `name` of these values and a PushSecret of the same name with this spec, whose places go with it, and waits until
    /// it is pushed.
    pub async fn pushes(&self, name: &str, data: &[(&str, &str)], spec: Value) -> Result<()> {
        self.secret(name, json!({}), data).await?;
        let mut whole = json!({"deletionPolicy": "Delete"});
        for (field, value) in spec.as_object().into_iter().flatten() {
            whole[field] = value.clone();
        }
        apply(self.ns, push_secret(name, "store", json!({"secret": {"name": name}}), whole)).await?;
        self.ns.wait_ready(PUSH_SECRET, name, "True", "Synced").await.map(drop)
    }

    /// Deletes a PushSecret, and waits until it is gone: what was pushed is deleted first.
    pub async fn takes_back(&self, name: &str) -> Result<()> {
        self.ns.kubectl(&["delete", "pushsecret", name, "--wait=false"]).await?;
        self.ns.wait(PUSH_SECRET, name, |object| object.is_none()).await.map(drop)
    }

    /// How many calls the service got that could have changed something.
    pub fn writes(&self) -> usize {
        self.service.server.received().iter().filter(|asked| !["GET", "HEAD"].contains(&asked.method())).count()
    }
}

/// Runs `test` with the service and the vendor's client of it: `e2e/oracles/clients/NAME.py URL ARGS`, whose words are returned. They
/// are JSON.
pub fn with_client<F: Fake>(fake: F, test: impl AsyncFnOnce(&Client<F>) -> Result<()>) -> Result<()> {
    block_on(async { test(&Client { service: Service::start(fake).await }).await })
}

/// A service and the vendor's client of it.
pub struct Client<F> {
    service: Service<F>,
}

impl<F: Fake> Client<F> {
    /// The service itself.
    pub fn fake(&self) -> &Arc<F> {
        &self.service.fake
    }

    /// Where the service listens.
    pub fn url(&self) -> &str {
        self.service.url()
    }

    /// From now on the service behaves so.
    pub fn set_fault(&self, fault: Fault) {
        self.service.set_fault(Some(fault));
    }

    /// Runs the client.
    pub async fn run(&self, name: &str, args: &[&str]) -> Result<Value> {
        let script = project_root().join(format!("e2e/oracles/clients/{name}.py"));
        let mut command = vec![script.into_os_string(), self.service.url().into()];
        command.extend(args.iter().map(Into::into));
        tokio::task::spawn_blocking(move || {
            let mut client = Command::new(tools::clients_python()?);
            // Isolated: what the machine has installed or configured has no say; nor has a proxy.
            client.arg("-I").args(command).stdin(Stdio::null()).env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
            let output = client.output().context("the client cannot be started")?;
            let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            if !output.status.success() {
                bail!("the client failed: {}", said(&output.stderr));
            }
            serde_json::from_slice(&output.stdout).with_context(|| format!("no JSON: {}", said(&output.stdout)))
        })
        .await?
    }
}
