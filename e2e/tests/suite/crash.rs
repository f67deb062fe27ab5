//! The API server's restart and the operator's sudden end lose nothing; a restart in peace reads no Secret.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyferry_e2e::controlplane::Options as ControlPlaneOptions;
use keyferry_e2e::env::{Env, Sandbox, block_on};
use keyferry_e2e::progress;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::lab::{
    EXTERNAL_SECRET, PUSH_SECRET, all_synced, apply, aws_store, eventually, external_secret, fake_store, is_write, one,
    operator, push_secret, requests, secrets, with_lab,
};

/// ExternalSecrets of the busy scenario.
const OBJECTS: usize = 30;
/// Kills in `make test`.
const KILLS: u32 = 5;

/// Marsaglia's xorshift: the same moments and choices in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A user who creates, changes and deletes ExternalSecrets, and knows what must come of it: by name of the Secret its data.
struct User<'a> {
    ns: &'a Sandbox<'a>,
    random: Random,
    /// The value of each key in AWS.
    values: BTreeMap<String, String>,
    /// Of each ExternalSecret its key in the Secret and its remote key.
    wants: BTreeMap<String, (String, String)>,
    changes: u32,
}

impl<'a> User<'a> {
    fn new(ns: &'a Sandbox<'a>, seed: u64) -> Self {
        Self { ns, random: Random(seed), values: BTreeMap::new(), wants: BTreeMap::new(), changes: 0 }
    }

    async fn set_up(&mut self) -> Result<()> {
        aws_store(self.ns, &format!("{}/*", self.ns.name)).await?;
        for key in 0..4 {
            self.put(key).await?;
        }
        for object in 0..OBJECTS {
            self.write(&format!("app-{object}")).await?;
        }
        Ok(())
    }

    async fn put(&mut self, key: u64) -> Result<()> {
        let (name, value) = (format!("{}/k{key}", self.ns.name), format!("value-{}", self.random.below(u64::MAX)));
        self.ns.aws().put_secret(&name, &value).await?;
        self.values.insert(name, value);
        Ok(())
    }

    /// Creates an ExternalSecret or points it at another remote key and another key of its Secret.
    async fn write(&mut self, name: &str) -> Result<()> {
        let remote = format!("{}/k{}", self.ns.name, self.random.below(4));
        let key = format!("key-{}", self.random.below(3));
        // Every so often under another name: then the old Secret must go.
        let target = format!("{name}{}", ["", "-b"][usize::try_from(self.random.below(2))?]);
        let spec = json!({"refreshInterval": "2s", "data": one(&key, &remote), "target": {"name": target}});
        apply(self.ns, external_secret(name, spec)).await?;
        self.wants.insert(target.clone(), (key, remote));
        let other = if target == name { format!("{name}-b") } else { name.to_owned() };
        self.wants.remove(&other);
        Ok(())
    }

    async fn delete(&mut self, name: &str) -> Result<()> {
        let api = self.ns.cluster().api(EXTERNAL_SECRET.0, EXTERNAL_SECRET.1, &self.ns.name).await?;
        if api.get_opt(name).await?.is_some() {
            api.delete(name, &DeleteParams::default()).await?;
        }
        self.wants.remove(name);
        self.wants.remove(&format!("{name}-b"));
        Ok(())
    }

    async fn step(&mut self) -> Result<()> {
        self.changes += 1;
        let name = format!("app-{}", self.random.below(OBJECTS.try_into()?));
        match self.random.below(10) {
            0 | 1 => self.delete(&name).await,
            2 | 3 => {
                let key = self.random.below(4);
                self.put(key).await
            }
            _ => self.write(&name).await,
        }
    }

    /// Waits until every Secret is there and holds what it should.
    async fn is_served(&self) -> Result<Duration> {
        let value = |remote: &String| self.values.get(remote).cloned().unwrap_or_default().into_bytes();
        let mut wrong = Vec::new();
        let served = async || {
            let live = secrets(self.ns).await?;
            let holds = |target: &String, key: &String, remote: &String| {
                let data = live.get(target).and_then(|secret| secret.data.as_ref());
                data.is_some_and(|data| data.len() == 1 && data.get(key).is_some_and(|found| found.0 == value(remote)))
            };
            let wants = self.wants.iter();
            wrong = wants.filter(|(target, (key, remote))| !holds(target, key, remote)).map(|(t, _)| t.clone()).collect();
            anyhow::Ok(wrong.is_empty())
        };
        let result = eventually("every Secret is as the last change says", served).await;
        result.with_context(|| format!("wrong or missing: {wrong:?}"))
    }

    /// Waits until no other Secret is left.
    async fn is_clean(&self) -> Result<Duration> {
        let mut left = Vec::new();
        let clean = async || {
            let live = secrets(self.ns).await?.into_keys();
            left = live.filter(|name| name != "aws-login" && !self.wants.contains_key(name)).collect();
            anyhow::Ok(left.is_empty())
        };
        let result = eventually("no Secret is left over", clean).await;
        result.with_context(|| format!("left over: {left:?}"))
    }

    async fn check_owners(&self) -> Result<()> {
        for (name, secret) in secrets(self.ns).await?.into_iter().filter(|(name, _)| name != "aws-login") {
            let owners = secret.metadata.owner_references.unwrap_or_default();
            let owner = name.trim_end_matches("-b");
            ensure!(owners.len() == 1 && owners[0].name == owner, "{name} has the owners {owners:?}");
        }
        Ok(())
    }
}

#[test]
fn kills_at_any_moment_lose_nothing() -> Result<()> {
    with_lab("kill", async |ns| {
        let mut operator = operator(ns, &["--log-format=text"]).await?;
        let mut user = User::new(ns, 0x9e37_79b9_7f4a_7c15);
        user.set_up().await?;
        let mut moments = Random(0x2545_f491_4f6c_dd1d);
        for _ in 0..KILLS {
            let moment = Duration::from_millis(20 + moments.below(1200));
            let started = Instant::now();
            while started.elapsed() < moment {
                user.step().await?;
            }
            operator.kill().await?;
            // The world goes on while nobody serves it.
            for _ in 0..3 {
                user.step().await?;
            }
            operator.start_again().await?;
        }
        let took = user.is_served().await?;
        user.is_clean().await?;
        user.check_owners().await?;
        all_synced(ns).await?;
        progress::note(format!(
            "kill -9: {KILLS} times among {} changes; all in sync {took:.1?} after the last",
            user.changes
        ));

        // In peace: nothing is due for an hour.
        for es in crate::lab::external_secrets(ns).await? {
            let name = es["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            crate::lab::patch(ns, EXTERNAL_SECRET, &name, json!({"spec": {"refreshInterval": "1h"}})).await?;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        all_synced(ns).await?;
        operator.kill().await?;
        let mark = ns.env.control_plane.audit_mark()?;
        operator.start_again().await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let all = requests(ns, mark)?;
        let of_secrets =
            || all.iter().filter(|audited| audited.request.resource == "secrets" && audited.namespace == ns.name);
        // the store's own login is read once, when it is made
        let written = |name: &str| name.starts_with("app-");
        let reads: Vec<&str> =
            of_secrets().filter(|a| a.request.verb == "get").map(|a| a.name.as_str()).filter(|n| written(n)).collect();
        let lists: Vec<&str> = of_secrets().filter(|a| a.request.verb == "list").map(|a| a.answer.as_str()).collect();
        let writes: Vec<_> = all.iter().filter(|audited| is_write(audited)).collect();
        progress::note(format!(
            "restart in peace with {} Secrets: {} requests, {} Secrets read, lists of Secrets answered as {lists:?}, {} writes",
            user.wants.len(),
            all.len(),
            reads.len(),
            writes.len()
        ));
        ensure!(reads.is_empty(), "read after a restart: {reads:?}");
        ensure!(!lists.is_empty() && lists.iter().all(|kind| *kind == "PartialObjectMetadataList"), "{lists:?}");
        ensure!(writes.is_empty(), "{writes:?}");
        Ok(())
    })
}

/// On servers of its own, as it breaks them.
/// Where nothing is due, nothing is pushed that would tell whose change matters.
#[test]
fn what_is_pushed_by_labels_is_followed_after_a_restart() -> Result<()> {
    with_lab("restart-push", async |ns| {
        let mut operator = operator(ns, &[]).await?;
        apply(ns, fake_store("fake", &[])).await?;
        for name in ["a", "b"] {
            let metadata = json!({"name": name, "labels": {"pick": "me"}});
            let data = json!({(name): "value"});
            apply(ns, json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})).await?;
        }
        let selector = json!({"secret": {"selector": {"matchLabels": {"pick": "me"}}}});
        let more = json!({"deletionPolicy": "Delete", "dataTo": [{"storeRef": {"name": "fake"}}]});
        apply(ns, push_secret("push", "fake", selector, more)).await?;
        let places = |object: Option<&Value>| -> Vec<String> {
            let synced = object.and_then(|o| o["status"]["syncedPushSecrets"]["SecretStore/fake"].as_object());
            synced.into_iter().flatten().map(|(place, _)| place.clone()).collect()
        };
        ns.wait(PUSH_SECRET, "push", |object| places(object) == ["a", "b"]).await?;
        operator.terminate(Duration::from_secs(30)).await?;
        operator.start_again().await?;
        let labels = format!(r#"name="push",namespace="{}",condition="Ready",status="True""#, ns.name);
        let line = format!("pushsecret_status_condition{{{labels}}} 1");
        eventually("it is looked at", async || Ok(operator.metrics().await?.contains(&line))).await?;
        ns.kubectl(&["label", "secret", "b", "pick-"]).await?;
        ns.wait(PUSH_SECRET, "push", |object| places(object) == ["a"]).await.map(drop)
    })
}

#[test]
fn the_api_server_may_restart_while_changes_happen() -> Result<()> {
    block_on(async {
        let env = Env::start(ControlPlaneOptions::default()).await?;
        env.with_namespace("api-restart", async |ns| {
            env.operator().await?;
            let operator = env.operator().await?;
            let (pid, live) = {
                let operator = operator.lock().await;
                (operator.pid(), operator.live_address().to_owned())
            };
            let mut user = User::new(ns, 0x1234_5678_9abc_def1);
            user.set_up().await?;
            let user = Mutex::new(user);
            let (over, asked) = (AtomicBool::new(false), Mutex::new((0_u32, 0_u32)));
            let changes = async {
                while !over.load(Ordering::Relaxed) {
                    // A change that the API server did not take did not happen, or is made again.
                    if user.lock().await.step().await.is_err() {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            };
            let probes = async {
                while !over.load(Ordering::Relaxed) {
                    let ok = keyferry_e2e::http::is_ok(&format!("http://{live}/healthz")).await;
                    let mut asked = asked.lock().await;
                    asked.0 += 1;
                    asked.1 += u32::from(!ok);
                    drop(asked);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            let restarts = async {
                let mut result = Ok(());
                for _ in 0..2 {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    result = result.and(env.control_plane.restart_apiserver().await);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                over.store(true, Ordering::Relaxed);
                result
            };
            let ((), (), restarted) = tokio::join!(changes, probes, restarts);
            restarted?;
            let mut user = user.into_inner();
            // What was refused in the middle of it is said once more.
            for object in 0..OBJECTS {
                user.delete(&format!("app-{object}")).await?;
                user.write(&format!("app-{object}")).await?;
            }
            let took = user.is_served().await?;
            user.is_clean().await?;
            user.check_owners().await?;
            let (asked, failed) = asked.into_inner();
            progress::note(format!(
                "API server restarted twice: all in sync {took:.1?} after; /healthz asked {asked} times, {failed} failures"
            ));
            ensure!(failed == 0 && asked > 20, "/healthz failed {failed} of {asked} times");
            ensure!(operator.lock().await.pid() == pid && operator.lock().await.ticket()?.alive(), "the operator ended");
            Ok(())
        })
        .await
    })
}
