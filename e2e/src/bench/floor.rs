//! The floor: the same Secrets created and the same statuses patched by a client that does nothing else.

use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::bare::{Bare, Body, each};
use super::load::{Item, clear, namespaces};

/// What one item costs: the bodies are made before the clock runs.
struct Writes {
    item: Item,
    secret: Vec<u8>,
    status: Vec<u8>,
}

/// How long it takes to create `count` Secrets and to patch `count` statuses, in namespaces of that prefix. Leaves nothing but them.
///
/// # Errors
/// When the API server refuses something.
pub async fn measure(set: &str, count: usize, bare: &Bare) -> Result<Duration> {
    namespaces(set, bare).await?;
    let items = (0..count).map(|number| Item::new(set, number));
    let writes: Vec<Writes> = items.map(Writes::of).collect();
    each(&writes, async |writes: &Writes| writes.item.create(bare).await).await?;
    let started = Instant::now();
    each(writes, async |writes: Writes| {
        bare.write(&writes.item.secrets(), Body::Object, writes.secret).await?;
        let status = format!("{}/{}/status", writes.item.external_secrets(), writes.item.name);
        bare.write(&status, Body::MergePatch, writes.status).await
    })
    .await?;
    let took = started.elapsed();
    clear(set, bare).await?;
    Ok(took)
}

impl Writes {
    fn of(item: Item) -> Self {
        let (secret, status) = (secret(&item), status(&item));
        Self { secret: secret.to_string().into_bytes(), status: status.to_string().into_bytes(), item }
    }
}

/// A Secret as the operator writes it, but for its owner: the collector of garbage would take it for one without.
fn secret(item: &Item) -> Value {
    let bytes = |text: String| ByteString(text.into_bytes());
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "namespace": item.namespace,
            "name": item.name,
            "labels": {
                "reconcile.external-secrets.io/created-by": "0".repeat(56),
                "reconcile.external-secrets.io/managed": "true",
            },
        },
        "data": {"username": bytes(format!("user-of-{}", item.key)), "password": bytes("first".to_owned())},
    })
}

/// A status as the operator writes it.
fn status(item: &Item) -> Value {
    json!({"status": {
        "refreshTime": "2026-01-01T00:00:00Z",
        "syncedResourceVersion": format!("1-{}", "0".repeat(56)),
        "binding": {"name": item.name},
        "conditions": [{
            "type": "Ready",
            "status": "True",
            "reason": "SecretSynced",
            "message": "secret synced",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
        "target": {"resourceVersion": "1000", "digest": "0".repeat(43), "applied": "0".repeat(43)},
    }})
}
