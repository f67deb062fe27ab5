//! A logged-in client of Infisical's API.
//!
//! Servers since late 2025 have version 4 of it, which names a project by its id; older ones have version 3, which also knows a
//! project's slug. Which one a server has, and the project's id, is asked for once.

use std::collections::BTreeMap;

use async_trait::async_trait;
use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::auth::Identity;
use super::{Infisical, misconfigured};
use crate::api::external_secret::MetadataPolicy;
use crate::outbound::{Answer, Call, TlsOptions, query, secret, segment};
use crate::providers::push::Left;
use crate::providers::rest::{Ask, Body, Rest};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Session, Validation, Want,
    azure,
};
use crate::render::json;
use crate::secret_bytes::SecretBytes;

/// Most bytes of a list: all secrets of an environment can be in one.
const MOST_LISTED: usize = 16 << 20;

/// Where the secrets of the project are, and how it is named there.
#[derive(Clone)]
struct Project {
    secrets: &'static str,
    name: (&'static str, String),
}

/// What the lookup of a project answers.
#[derive(Deserialize)]
struct ProjectInfo {
    id: String,
    #[serde(default)]
    environments: Option<Vec<Environment>>,
}

#[derive(Deserialize)]
struct Environment {
    slug: String,
}

#[derive(Deserialize)]
struct One {
    secret: Entry,
}

#[derive(Deserialize)]
struct Many {
    secrets: Vec<Entry>,
    #[serde(default)]
    imports: Vec<Import>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Import {
    secret_path: String,
    secrets: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    secret_key: String,
    #[serde(deserialize_with = "secret")]
    secret_value: SecretBytes,
    /// The identity may know of the secret, and not its value: what stands there is a placeholder.
    #[serde(default)]
    secret_value_hidden: bool,
    #[serde(default)]
    secret_path: Option<String>,
    #[serde(default)]
    version: Option<u64>,
    #[serde(default)]
    secret_metadata: Option<Vec<Meta>>,
}

#[derive(Deserialize)]
struct Meta {
    key: String,
    #[serde(deserialize_with = "secret")]
    value: SecretBytes,
}

/// What a write answers where a person must agree first.
#[derive(Deserialize)]
struct Written {
    approval: Option<serde::de::IgnoredAny>,
}

/// Why the server has nothing to say.
#[derive(Deserialize)]
struct Nothing {
    #[serde(default)]
    message: String,
}

impl Entry {
    fn value(self, what: &str) -> Result<SecretBytes, ProviderError> {
        if self.secret_value_hidden {
            let text = format!("{what}: the identity may see that {:?} exists, and not its value", self.secret_key);
            return Err(ProviderError::new(ErrorKind::Denied, text));
        }
        Ok(self.secret_value)
    }

    fn metadata(&self) -> BTreeMap<String, SecretBytes> {
        self.secret_metadata.iter().flatten().map(|meta| (meta.key.clone(), meta.value.clone())).collect()
    }

    fn has(&self, tags: &BTreeMap<String, String>) -> bool {
        let metadata = self.metadata();
        tags.iter().all(|(key, value)| metadata.get(key).is_some_and(|found| found.expose() == value.as_bytes()))
    }
}

/// What a read of one secret asks for besides its name.
#[derive(Clone, Copy)]
struct Wish<'a> {
    version: &'a str,
    expand: bool,
    imports: bool,
}

pub(super) struct InfisicalSession {
    config: Infisical,
    rest: Rest,
    identity: Identity,
    project: Mutex<Option<Project>>,
}

impl InfisicalSession {
    pub(super) async fn open(config: &Infisical, cx: &ConnectCx) -> Result<Self, ProviderError> {
        Self::open_with(config, azure::Endpoints::of(Default::default())?, cx).await
    }

    pub(super) async fn open_with(
        config: &Infisical,
        azure: azure::Endpoints,
        cx: &ConnectCx,
    ) -> Result<Self, ProviderError> {
        let path = "spec.provider.infisical";
        let ca = cx.ca(&config.ca, path).await?;
        let rest = Rest::open(&TlsOptions { ca, identity: None }, path, cx)?;
        let identity = Identity { config: config.clone(), cx: cx.clone(), http: rest.http(), azure };
        rest.log_in(&identity).await?;
        Ok(Self { config: config.clone(), rest, identity, project: Mutex::default() })
    }

    async fn request(&self, ask: &Ask<'_>, method: Method, path: &str, body: Option<Body>) -> Result<Answer, ProviderError> {
        self.send(ask, method, path, body, None).await
    }

    /// With another bound of the answer, where there is one.
    async fn send(
        &self,
        ask: &Ask<'_>,
        method: Method,
        path: &str,
        body: Option<Body>,
        most: Option<usize>,
    ) -> Result<Answer, ProviderError> {
        let url = format!("{}/{path}", self.config.base());
        let body = body.map(Body::build);
        let make = |token: &SecretBytes| {
            let call = Call::new(method.clone(), &url, "spec.provider.infisical.hostAPI")?.bearer(token, ask.what)?;
            let call = call.maybe_json(body.as_ref());
            Ok(match most {
                Some(most) => call.at_most(most),
                None => call,
            })
        };
        self.rest.ask(ask, &self.identity, &make).await
    }

    /// The project. One whose id the identity may not ask for is named by its slug, which is enough for reads.
    async fn project(&self, cx: &CallCx) -> Result<Project, ProviderError> {
        let mut known = self.project.lock().await;
        if let Some(project) = known.as_ref() {
            return Ok(project.clone());
        }
        let project = match self.look_up(cx).await {
            Err(error) if error.kind == ErrorKind::Denied => Project {
                secrets: "v3/secrets/raw",
                name: ("workspaceSlug", self.config.secrets_scope.project_slug.clone()),
            },
            result => result?,
        };
        Ok(known.insert(project).clone())
    }

    /// The project by its id.
    ///
    /// # Errors
    /// `Misconfigured` where there is no such project, or no such environment in it: what is asked for in there is not gone.
    async fn look_up(&self, cx: &CallCx) -> Result<Project, ProviderError> {
        let scope = &self.config.secrets_scope;
        let what = format!("project {:?} of Infisical", scope.project_slug);
        let ask = Ask { name: "getProjectBySlug", what: &what, cx };
        for (lookup, secrets, parameter) in
            [("v1/projects/slug", "v4/secrets", "projectId"), ("v1/workspace/slug", "v3/secrets/raw", "workspaceId")]
        {
            let path = format!("{lookup}/{}", segment(&scope.project_slug));
            let answer = self.request(&ask, Method::GET, &path, None).await?;
            if answer.status == StatusCode::NOT_FOUND {
                continue;
            }
            let info: ProjectInfo = answer.success(&what)?.json(&what)?;
            let slug = &scope.environment_slug;
            if info.environments.is_some_and(|all| !all.iter().any(|environment| environment.slug == *slug)) {
                return Err(misconfigured(format!(
                    "{what}: it has no environment {slug:?}: see secretsScope.environmentSlug"
                )));
            }
            return Ok(Project { secrets, name: (parameter, info.id) });
        }
        Err(misconfigured(format!("{what}: there is none of that slug, or the identity is no member of it")))
    }

    /// A read of the secrets' endpoint. A server between the two versions has the project's id, and only the older endpoint.
    async fn read(
        &self,
        ask: &Ask<'_>,
        name: Option<&str>,
        folder: &str,
        wishes: &[(&str, &str)],
    ) -> Result<Answer, ProviderError> {
        let project = self.project(ask.cx).await?;
        let answer = self.read_in(&project, ask, name, folder, wishes).await?;
        if answer.status != StatusCode::NOT_FOUND || project.name.0 != "projectId" || !is_no_route(&answer) {
            return Ok(answer);
        }
        let older = Project { secrets: "v3/secrets/raw", name: ("workspaceId", project.name.1) };
        *self.project.lock().await = Some(older.clone());
        self.read_in(&older, ask, name, folder, wishes).await
    }

    async fn read_in(
        &self,
        project: &Project,
        ask: &Ask<'_>,
        name: Option<&str>,
        folder: &str,
        wishes: &[(&str, &str)],
    ) -> Result<Answer, ProviderError> {
        let common = [
            (project.name.0, project.name.1.as_str()),
            ("environment", &self.config.secrets_scope.environment_slug),
            ("secretPath", folder),
        ];
        let most = name.is_none().then_some(MOST_LISTED);
        let name = name.map(|name| format!("/{}", segment(name))).unwrap_or_default();
        let path = format!("{}{name}?{}", project.secrets, query(&[&common, wishes].concat()));
        self.send(ask, Method::GET, &path, None, most).await
    }

    /// Looks the project and its environment up again. Whether they are there: the identity may have no right to ask.
    ///
    /// # Errors
    /// `Misconfigured` where one of them is gone.
    async fn look_again(&self, cx: &CallCx) -> Result<bool, ProviderError> {
        let looked = self.look_up(cx).await;
        let mut known = self.project.lock().await;
        match looked {
            Ok(project) => {
                *known = Some(project);
                Ok(true)
            }
            Err(error) if error.kind == ErrorKind::Denied => Ok(false),
            Err(error) => {
                if !error.kind.is_store_wide() {
                    *known = None;
                }
                Err(error)
            }
        }
    }

    /// Whether the answer says that there is no such secret. That of a folder says so only where the environment is there still: of
    /// one that is gone, Infisical says the same.
    async fn is_gone(&self, answer: &Answer, what: &str, cx: &CallCx) -> Result<bool, ProviderError> {
        if answer.status != StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let said = answer.json::<Nothing>(what).map(|nothing| nothing.message).unwrap_or_default();
        if said.starts_with("Secret ") {
            return Ok(true);
        }
        if said.is_empty() || is_no_route(answer) {
            let text =
                format!("{what}: an answer 404 that is not Infisical's of a secret: is hostAPI the address of its API?");
            return Err(misconfigured(text));
        }
        if self.look_again(cx).await? && said.starts_with("Folder ") {
            return Ok(true);
        }
        let text = format!("{what}: Infisical misses the project, the environment or the folder: see secretsScope");
        Err(misconfigured(text))
    }

    /// One secret; `None` where there is none.
    async fn secret(&self, key: &str, wish: Wish<'_>, cx: &CallCx) -> Result<Option<Entry>, ProviderError> {
        let (folder, name) = self.config.secrets_scope.place(key);
        let what = format!("secret {key:?} of Infisical");
        if matches!(name, "" | "." | "..") || folder.split('/').any(|step| step == "..") {
            return Err(misconfigured(format!("{what}: the key has no name at its end, or a step like \"..\"")));
        }
        let ask = Ask { name: "getSecretByName", what: &what, cx };
        let flag = |on: bool| if on { "true" } else { "false" };
        // Version 4 writes one of them in another way than version 3.
        let mut wishes = vec![
            ("expandSecretReferences", flag(wish.expand)),
            ("include_imports", flag(wish.imports)),
            ("includeImports", flag(wish.imports)),
            ("type", "shared"),
        ];
        if !wish.version.is_empty() {
            let number = wish.version.strip_prefix('v').unwrap_or(wish.version);
            if number.parse::<u32>().is_err() {
                let text = format!("{what}: version {:?} is no number, such as \"3\" or \"v3\"", wish.version);
                return Err(misconfigured(text));
            }
            wishes.push(("version", number));
        }
        let answer = self.read(&ask, Some(name), &folder, &wishes).await?;
        if self.is_gone(&answer, &what, cx).await? {
            return Ok(None);
        }
        Ok(Some(answer.success(&what)?.json::<One>(&what)?.secret))
    }

    async fn fetch(&self, want: &Want, cx: &CallCx) -> Result<Fetched, ProviderError> {
        let expand = self.config.secrets_scope.expand_secret_references.unwrap_or(true);
        let wish = Wish { version: &want.version, expand, imports: true };
        let entry = self.secret(&want.key, wish, cx).await?.ok_or_else(|| ProviderError::not_found(&want.key))?;
        let version = entry.version.map(|version| version.to_string());
        let bytes = match want.metadata {
            MetadataPolicy::None => entry.value(&format!("secret {:?} of Infisical", want.key))?,
            MetadataPolicy::Fetch => json::object_of_text(&entry.metadata()),
        };
        Ok(Fetched { bytes, version, request_id: None })
    }

    /// The value as it was written, and not what a reference in it stands for.
    async fn written(&self, place: &Place, cx: &CallCx) -> Result<Option<SecretBytes>, ProviderError> {
        let wish = Wish { version: "", expand: false, imports: false };
        let entry = self.secret(&place.key, wish, cx).await?;
        entry.map(|entry| entry.value(&format!("secret {:?} of Infisical", place.key))).transpose()
    }

    async fn write(
        &self,
        method: Method,
        place: &Place,
        value: Option<&SecretBytes>,
        cx: &CallCx,
    ) -> Result<(), ProviderError> {
        let what = format!("secret {:?} of Infisical", place.key);
        let mut project = self.project(cx).await?;
        if project.name.0 == "workspaceSlug" {
            project = self.look_up(cx).await?;
        }
        let (folder, name) = self.config.secrets_scope.place(&place.key);
        let mut body = Body::default()
            .text(project.name.0, &project.name.1)
            .text("environment", &self.config.secrets_scope.environment_slug)
            .text("secretPath", &folder)
            .text("type", "shared");
        if let Some(value) = value {
            body = body.text("secretValue", value.expose()).raw("skipMultilineEncoding", b"true");
        }
        let request = match method {
            Method::POST => "createSecret",
            Method::PATCH => "updateSecret",
            _ => "deleteSecret",
        };
        let ask = Ask { name: request, what: &what, cx };
        let path = format!("{}/{}", project.secrets, segment(name));
        let answer = self.request(&ask, method.clone(), &path, Some(body)).await?;
        if method == Method::DELETE && self.is_gone(&answer, &what, cx).await? {
            return Ok(());
        }
        let written: Written = answer.success(&what)?.json(&what)?;
        match written.approval {
            None => Ok(()),
            Some(_) => {
                let text = format!("{what}: a policy of the project has the change wait for somebody's approval");
                Err(ProviderError::new(ErrorKind::Denied, text))
            }
        }
    }
}

/// Whether the server has no such endpoint: it names the route then, and never a secret.
fn is_no_route(answer: &Answer) -> bool {
    answer.json::<Nothing>("").is_ok_and(|nothing| nothing.message.starts_with("Route "))
}

/// A value as Infisical will keep it: without white space around it, but for one line feed at its end.
fn kept(value: &SecretBytes, key: &str) -> Result<SecretBytes, ProviderError> {
    let text = value.expose_str().ok_or_else(|| {
        misconfigured(format!("secret {key:?} of Infisical: the value is no UTF-8 text, which is all that Infisical keeps"))
    })?;
    let mut kept = Vec::with_capacity(text.len() + 1);
    kept.extend_from_slice(text.trim().as_bytes());
    if text.ends_with('\n') {
        kept.push(b'\n');
    }
    Ok(SecretBytes::new(kept))
}

#[async_trait]
impl Session for InfisicalSession {
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let mut results = Vec::new();
        for want in wants {
            results.push(self.fetch(want, cx).await);
        }
        results
    }

    /// By name, by the beginning of the folder's path, and by metadata. Of several secrets of one name the last in the list counts;
    /// imported ones do where there is no other, those of the last import first.
    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let scope = &self.config.secrets_scope;
        let regex = query.matcher()?;
        let what = "list of the secrets of Infisical";
        let ask = Ask { name: "listSecrets", what, cx };
        let flag = |on: Option<bool>, default: bool| if on.unwrap_or(default) { "true" } else { "false" };
        let wishes = [
            ("recursive", flag(scope.recursive, false)),
            ("expandSecretReferences", flag(scope.expand_secret_references, true)),
            ("include_imports", "true"),
            ("includeImports", "true"),
        ];
        let folder = scope.place("").0;
        let answer = self.read(&ask, None, &folder, &wishes).await?;
        let Many { secrets, imports } = answer.success(what)?.json(what)?;
        if secrets.is_empty() && imports.is_empty() {
            // An environment that is gone is an empty list, too.
            self.look_again(cx).await?;
        }
        let matches = |entry: &Entry, path: &str| {
            path.starts_with(&query.path) && regex.is_match(&entry.secret_key) && entry.has(&query.tags)
        };
        let mut found = BTreeMap::new();
        for entry in secrets {
            if matches(&entry, entry.secret_path.as_deref().unwrap_or(&folder)) {
                found.insert(entry.secret_key.clone(), entry);
            }
        }
        for import in imports.into_iter().rev() {
            for entry in import.secrets {
                if matches(&entry, &import.secret_path) {
                    found.entry(entry.secret_key.clone()).or_insert(entry);
                }
            }
        }
        found.into_iter().map(|(name, entry)| Ok(Found { name, bytes: entry.value(what)? })).collect()
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let current = self.written(&push.place, cx).await?;
        let value = kept(&push.merged(current.as_ref())?, &push.place.key)?;
        if current.as_ref() == Some(&value) {
            return Ok(Pushed::Unchanged);
        }
        let method = if current.is_some() { Method::PATCH } else { Method::POST };
        self.write(method, &push.place, Some(&value), cx).await?;
        Ok(Pushed::Written)
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let Some(current) = self.written(place, cx).await? else { return Ok(()) };
        match place.left_of(&current) {
            Left::All => Ok(()),
            Left::Some(left) => self.write(Method::PATCH, place, Some(&left), cx).await,
            Left::Nothing => self.write(Method::DELETE, place, None, cx).await,
        }
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        Ok(self.written(place, cx).await?.is_some_and(|current| place.is_in(&current)))
    }

    /// Lists the names of the scope's folder: the login, the project, the environment and the folder are right.
    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        let scope = &self.config.secrets_scope;
        let what = format!("check of project {:?}, environment {:?}", scope.project_slug, scope.environment_slug);
        let ask = Ask { name: "listSecrets", what: &what, cx };
        self.look_again(cx).await?;
        let folder = scope.place("").0;
        let answer = self.read(&ask, None, &folder, &[("viewSecretValue", "false")]).await?;
        answer.success(&what)?.json::<Many>(&what).map(|_| Validation::Ready)
    }
}
