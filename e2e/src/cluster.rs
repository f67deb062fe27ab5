//! A Kubernetes cluster as its administrator sees it: the throw-away one, or one of the user's.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{ApiCapabilities, Scope, pinned_kind};
use kube::runtime::wait::await_condition;
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::certs::Pair;

/// The field manager of everything that tests apply.
const FIELD_MANAGER: &str = "keyferry-e2e";

/// How long we wait for what takes well under a second on a quiet machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Who a kubeconfig speaks for.
pub enum User<'a> {
    /// Whoever the certificate names.
    Certificate(&'a Pair),
    /// The ServiceAccount whose token this is.
    Token(&'a str),
}

/// A kubeconfig, as JSON (which is YAML). `cluster` is its `cluster` part, `namespace` the one that is meant when none is given.
#[must_use]
pub fn kubeconfig(cluster: &Value, user: &User<'_>, namespace: &str) -> String {
    let user = match user {
        User::Certificate(pair) => json!({
            "client-certificate-data": base64(&pair.cert),
            "client-key-data": base64(&pair.key),
        }),
        User::Token(token) => json!({ "token": token }),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "keyferry", "cluster": cluster}],
        "users": [{"name": "keyferry", "user": user}],
        "contexts": [{"name": "keyferry", "context": {"cluster": "keyferry", "user": "keyferry", "namespace": namespace}}],
        "current-context": "keyferry",
    })
    .to_string()
}

/// The `cluster` part of a kubeconfig.
#[must_use]
pub fn cluster_entry(server: &str, ca: &str) -> Value {
    json!({"server": server, "certificate-authority-data": base64(ca)})
}

fn base64(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

/// An administrator's way into a cluster.
#[derive(Clone)]
pub struct Cluster {
    /// The typed client.
    pub client: Client,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    kubectl_cache: PathBuf,
}

impl Cluster {
    /// The cluster of a kubeconfig's current context; kubectl keeps its notes in `dir`.
    ///
    /// # Errors
    /// When the file cannot be read or used.
    pub async fn new(kubeconfig: &Path, kubectl: PathBuf, dir: &Path) -> Result<Self> {
        let broken = || format!("the kubeconfig {} cannot be used", kubeconfig.display());
        let file = Kubeconfig::read_from(kubeconfig).with_context(broken)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.with_context(broken)?;
        let (client, kubectl_cache) = (Client::try_from(config)?, dir.join("kubectl-cache"));
        Ok(Self { client, kubeconfig: kubeconfig.to_path_buf(), kubectl, kubectl_cache })
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs kubectl, as a user would, and returns what it prints.
    ///
    /// # Errors
    /// When it fails; the error holds what it says.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with_input(args, "").await
    }

    /// Runs kubectl with `input` for its standard input (`-f -`).
    ///
    /// # Errors
    /// When it fails; the error holds what it says.
    pub async fn kubectl_with_input(&self, args: &[&str], input: &str) -> Result<String> {
        let mut child = tokio::process::Command::new(&self.kubectl)
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            // kubectl keeps what it learns of a cluster's kinds for hours, by host and port: a later cluster may have others.
            .env("KUBECACHEDIR", &self.kubectl_cache)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Applies all objects of a YAML text by server-side apply, in order. Objects that name no namespace go to `namespace`.
    ///
    /// # Errors
    /// When the text is no YAML or the API server refuses an object.
    pub async fn apply(&self, yaml: &str, namespace: &str) -> Result<()> {
        for object in documents(yaml)? {
            self.apply_object(object, namespace).await?;
        }
        Ok(())
    }

    /// Applies one object: see [`Cluster::apply`].
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply_object(&self, object: Value, namespace: &str) -> Result<()> {
        let mut object: DynamicObject = serde_json::from_value(object).context("not a Kubernetes object")?;
        let (resource, capabilities) = self.kind(&object).await?;
        if capabilities.scope == Scope::Namespaced && object.namespace().is_none() {
            object.metadata.namespace = Some(namespace.to_owned());
        }
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let name = object.name_any();
        api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object))
            .await
            .with_context(|| format!("cannot apply {} {name}", resource.kind))?;
        Ok(())
    }

    /// The API of a kind, such as `("external-secrets.io/v1", "ExternalSecret")`, in a namespace (or, with an empty one, in all).
    ///
    /// # Errors
    /// When the cluster does not serve it.
    pub async fn api(&self, api_version: &str, kind: &str, namespace: &str) -> Result<Api<DynamicObject>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = self.resource(&GroupVersionKind::gvk(group, version, kind)).await?.0;
        Ok(match namespace {
            "" => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), namespace, &resource),
        })
    }

    /// Waits until an object of a kind (`(apiVersion, kind)`) fulfils `condition` (`None`: it does not exist), and returns it as it
    /// then is.
    ///
    /// # Errors
    /// When it does not within [`PATIENCE`]; the error holds the object as it is, without its data.
    pub async fn wait(
        &self,
        namespace: &str,
        (api_version, kind): (&str, &str),
        name: &str,
        condition: impl Fn(Option<&Value>) -> bool,
    ) -> Result<Option<Value>> {
        let api = self.api(api_version, kind, namespace).await?;
        let value = |object: &DynamicObject| serde_json::to_value(object).unwrap_or_default();
        let fulfilled = |object: Option<&DynamicObject>| condition(object.map(value).as_ref());
        match tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, fulfilled)).await {
            Ok(object) => Ok(object?.as_ref().map(value)),
            Err(_) => {
                let mut last = api.get_opt(name).await?.as_ref().map(value).unwrap_or_default();
                if let Some(object) = last.as_object_mut().filter(|_| kind == "Secret") {
                    object.remove("data");
                }
                bail!("{kind} {name} is not as awaited after {PATIENCE:?}: {last:#}")
            }
        }
    }

    async fn kind(&self, object: &DynamicObject) -> Result<(ApiResource, ApiCapabilities)> {
        let types = object.types.as_ref().ok_or_else(|| anyhow!("an object without apiVersion and kind"))?;
        self.resource(&GroupVersionKind::try_from(types)?).await
    }

    async fn resource(&self, kind: &GroupVersionKind) -> Result<(ApiResource, ApiCapabilities)> {
        let missing = || format!("the cluster does not serve {} {}", kind.api_version(), kind.kind);
        pinned_kind(&self.client, kind).await.with_context(missing)
    }

    /// Makes a namespace, if it does not exist.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn ensure_namespace(&self, name: &str) -> Result<()> {
        self.apply_object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}), "").await
    }

    /// The issuer of the cluster's ServiceAccount tokens.
    ///
    /// # Errors
    /// When the cluster does not tell.
    pub async fn token_issuer(&self) -> Result<String> {
        let discovery: Value =
            serde_json::from_str(&self.kubectl(&["get", "--raw", "/.well-known/openid-configuration"]).await?)?;
        let issuer = discovery.get("issuer").and_then(Value::as_str);
        issuer.map(str::to_owned).ok_or_else(|| anyhow!("the cluster does not name the issuer of its tokens"))
    }

    /// A token of a ServiceAccount, valid for a day, for `audience` (or for the API server itself).
    ///
    /// # Errors
    /// When the ServiceAccount does not exist.
    pub async fn token(&self, namespace: &str, account: &str, audience: Option<&str>) -> Result<String> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let spec = TokenRequestSpec {
            audiences: audience.map(str::to_owned).into_iter().collect(),
            expiration_seconds: Some(24 * 3600),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = api
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .with_context(|| format!("no token for ServiceAccount {namespace}/{account}"))?;
        Ok(answer.status.ok_or_else(|| anyhow!("the answer holds no token"))?.token)
    }

    /// A kubeconfig for this cluster that speaks for a ServiceAccount.
    ///
    /// # Errors
    /// When the ServiceAccount does not exist.
    pub async fn kubeconfig_for(&self, namespace: &str, account: &str) -> Result<String> {
        let token = self.token(namespace, account, None).await?;
        let view = self.kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]).await?;
        let view: Value = serde_json::from_str(&view)?;
        let entry = view.pointer("/clusters/0/cluster").ok_or_else(|| anyhow!("the kubeconfig names no cluster"))?;
        Ok(kubeconfig(entry, &User::Token(&token), namespace))
    }
}

/// The objects of a YAML text; empty documents are left out.
///
/// # Errors
/// When it is no YAML.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml).context("not YAML")?;
    Ok(all.into_iter().filter(|document| !document.is_null()).collect())
}

/// The condition `Ready` of an object.
#[must_use]
pub fn ready_condition(object: Option<&Value>) -> Option<&Value> {
    let conditions = object?.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| text(condition, "type") == "Ready")
}

/// A field of an object, as text; empty when it is not there.
#[must_use]
pub fn text(object: &Value, field: &str) -> String {
    object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_documents() {
        let all = documents("---\n# only a comment\n---\na: 1\n---\nb: {c: \"2\"}\n").unwrap();
        assert_eq!(all, [json!({"a": 1}), json!({"b": {"c": "2"}})]);
        assert!(documents("a: [").is_err());
    }

    #[test]
    fn a_kubeconfig_can_be_read_back() {
        let text = kubeconfig(&cluster_entry("https://127.0.0.1:1", "ca"), &User::Token("t"), "ns");
        let config = Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(config.current_context.as_deref(), Some("keyferry"));
        assert_eq!(config.contexts[0].context.as_ref().unwrap().namespace.as_deref(), Some("ns"));
        let cluster = config.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("Y2E="));
    }
}
