//! Calls of GitLab's API (v4).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use http::{Method, StatusCode};
use serde::Deserialize;

use super::Gitlab;
use super::variables::{ANY, MARK, Pick, Variable, merged, pick};
use crate::outbound::{Answer, Call, TlsOptions, query, segment};
use crate::providers::push::{self, Left};
use crate::providers::rest::{Ask, Body, Rest};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, MOST_GATHERED, Place, ProviderError, Push, Pushed, Room,
    Session, Validation, Want,
};
use crate::secret_bytes::SecretBytes;

const GITLAB: &str = "https://gitlab.com";
const PATH: &str = "spec.provider.gitlab";
/// Variables on a page, and most pages: GitLab allows 8,000 variables.
const PER_PAGE: &str = "100";
const PAGES: usize = 200;
/// One list has all keys: as many wants as may come. A value has 10,000 characters, so theirs fit.
const BATCH: usize = 1000;
const MOST_OF_BATCH: usize = 2 * MOST_GATHERED;
/// The one tag that a variable has.
const SCOPE: &str = "environment_scope";

/// A login to one project and its groups.
pub(super) struct GitlabSession {
    rest: Rest,
    token: SecretBytes,
    base: String,
    store: Gitlab,
    /// The project's groups, once they are known: from the outermost to the innermost.
    groups: Mutex<Option<Arc<[String]>>>,
}

/// Whose variables they are.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Project(&'a str),
    Group(&'a str),
}

impl Owner<'_> {
    fn path(self) -> String {
        match self {
            Self::Project(id) => format!("projects/{}", segment(id)),
            Self::Group(id) => format!("groups/{}", segment(id)),
        }
    }
}

impl std::fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Project(id) => write!(f, "GitLab: project {id:?}"),
            Self::Group(id) => write!(f, "GitLab: group {id:?}"),
        }
    }
}

#[derive(Deserialize)]
struct Group {
    id: u64,
    full_path: String,
}

/// The `spec` of an entry's metadata block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct PushMetadata {
    masked: Option<bool>,
    protected: Option<bool>,
    raw: Option<bool>,
    variable_type: Option<String>,
}

impl PushMetadata {
    fn of(place: &Place) -> Result<Self, ProviderError> {
        let block: Self = push::metadata(place.metadata.as_ref())?.unwrap_or_default();
        match block.variable_type.as_deref() {
            None | Some("env_var" | "file") => Ok(block),
            Some(_) => Err(misconfigured("metadata.spec.variableType must be env_var or file")),
        }
    }

    /// Whether a variable is as the block wants it.
    fn fits(&self, variable: &Variable) -> bool {
        let flag = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        flag(self.masked, variable.masked)
            && flag(self.protected, variable.protected)
            && flag(self.raw, variable.raw)
            && self.variable_type.as_ref().is_none_or(|wanted| *wanted == variable.variable_type)
    }

    fn write(&self, body: Body) -> Body {
        let flags = [("masked", self.masked), ("protected", self.protected), ("raw", self.raw)];
        let flags = flags.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let body = flags.fold(body, |body, (name, value)| body.raw(name, if value { b"true" } else { b"false" }));
        self.variable_type.iter().fold(body, |body, value| body.text("variable_type", value))
    }
}

impl GitlabSession {
    pub(super) async fn open(store: &Gitlab, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let token = cx.secret_text(store.token(), &format!("{PATH}.auth.SecretRef.accessToken")).await?;
        let ca = cx.ca(&store.ca, PATH).await?;
        let rest = Rest::open(&TlsOptions { ca, identity: None }, PATH, cx)?;
        let url = store.url.as_deref().map(str::trim).filter(|url| !url.is_empty()).unwrap_or(GITLAB);
        // as GitLab's own client, an address may end with the API's path
        let base = url.trim_end_matches('/').trim_end_matches("/api/v4").to_owned();
        let groups = Mutex::new((!store.inherits()).then(|| store.group_ids.as_slice().into()));
        Ok(Self { rest, token, base, store: store.clone(), groups })
    }

    async fn send(
        &self,
        ask: &Ask<'_>,
        method: Method,
        path: &str,
        body: Option<&SecretBytes>,
    ) -> Result<Answer, ProviderError> {
        let url = format!("{}/api/v4/{path}", self.base);
        let make = || {
            let call = Call::new(method.clone(), &url, &format!("{PATH}.url"))?;
            let call = call.header("private-token", self.token.expose(), PATH)?;
            Ok(call.maybe_json(body))
        };
        self.rest.send(ask, &make).await
    }

    /// What is kept of all pages of a list.
    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        ask: &Ask<'_>,
        path: &str,
        mut keeps: impl FnMut(&T) -> Result<bool, ProviderError>,
    ) -> Result<Vec<T>, ProviderError> {
        let (mut all, mut page) = (Vec::new(), "1".to_owned());
        for _ in 0..PAGES {
            let path = format!("{path}?{}", query(&[("per_page", PER_PAGE), ("page", &page)]));
            let answer = success(self.send(ask, Method::GET, &path, None).await?, ask.what)?;
            for one in answer.json::<Vec<T>>(ask.what)? {
                if keeps(&one)? {
                    all.push(one);
                }
            }
            match answer.headers.get("x-next-page").and_then(|next| next.to_str().ok()).filter(|next| !next.is_empty()) {
                Some(next) => page = next.to_owned(),
                None => return Ok(all),
            }
        }
        Err(ProviderError::new(ErrorKind::Malformed, format!("{}: the list does not end", ask.what)))
    }

    /// The variables whose keys are wanted, as long as there is room for them.
    async fn variables(
        &self,
        owner: Owner<'_>,
        wanted: &(dyn Fn(&str) -> bool + Sync),
        room: &Room,
        cx: &CallCx,
    ) -> Result<Vec<Variable>, ProviderError> {
        let name = match owner {
            Owner::Project(_) => "ProjectVariablesList",
            Owner::Group(_) => "GroupVariablesList",
        };
        let path = format!("{}/variables", owner.path());
        let keeps = |variable: &Variable| match wanted(&variable.key) {
            true => room.take(variable.weight()).map(|()| true),
            false => Ok(false),
        };
        let all = self.list(&Ask { name, what: &owner.to_string(), cx }, &path, keeps).await;
        if matches!(owner, Owner::Group(_)) && all.as_ref().is_err_and(|error| error.kind == ErrorKind::Misconfigured) {
            self.forget_groups();
        }
        all
    }

    /// The project's groups are asked for again next time: it may have been moved, or one of them is gone.
    fn forget_groups(&self) {
        if self.store.inherits() {
            *self.groups.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// The groups that are looked in, those that win last.
    async fn groups(&self, cx: &CallCx) -> Result<Arc<[String]>, ProviderError> {
        let known = self.groups.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (None, Some(project)) = (known.clone(), self.store.project()) else { return Ok(known.unwrap_or_default()) };
        let owner = Owner::Project(project);
        let what = owner.to_string();
        let (path, room) = (format!("{}/groups", owner.path()), Room::default());
        let keeps = |group: &Group| room.take(group.full_path.len()).map(|()| true);
        let mut groups = self.list(&Ask { name: "ListProjectsGroups", what: &what, cx }, &path, keeps).await?;
        groups.sort_by_key(|group| group.full_path.len());
        let groups: Arc<[String]> = groups.into_iter().map(|group| group.id.to_string()).collect();
        *self.groups.lock().unwrap_or_else(PoisonError::into_inner) = Some(groups.clone());
        Ok(groups)
    }

    fn environment(&self) -> &str {
        self.store.environment.as_deref().unwrap_or_default()
    }

    /// The project's variables, and after them those of the groups, the last one first, until all keys are there.
    async fn read(&self, wants: &[Want], cx: &CallCx) -> Result<Vec<Result<SecretBytes, ProviderError>>, ProviderError> {
        let keys: Vec<String> = wants.iter().map(|want| want.key.replace('-', "_")).collect();
        let (known, room) = (keys.iter().map(String::as_str).collect::<BTreeSet<_>>(), Room::of(MOST_OF_BATCH));
        let wanted = |key: &str| known.contains(key);
        let mut values: Vec<Option<Result<SecretBytes, ProviderError>>> = wants.iter().map(|_| None).collect();
        let mut look = |all: &[Variable]| {
            for (key, value) in keys.iter().zip(&mut values).filter(|(_, value)| value.is_none()) {
                *value = match pick(all, key, self.environment()) {
                    Pick::One(variable) => Some(shown(variable)),
                    Pick::None => None,
                    Pick::Several => Some(Err(misconfigured(&format!(
                        "GitLab has variable {key:?} for several environments: name one with {PATH}.environment"
                    )))),
                };
            }
            values.iter().all(Option::is_some)
        };
        let mut done = match self.store.project() {
            Some(project) => look(&self.variables(Owner::Project(project), &wanted, &room, cx).await?),
            None => false,
        };
        if !done {
            for group in self.groups(cx).await?.iter().rev() {
                done = done || look(&self.variables(Owner::Group(group), &wanted, &room, cx).await?);
            }
        }
        let ends = wants.iter().zip(values);
        Ok(ends.map(|(want, value)| value.unwrap_or_else(|| Err(ProviderError::not_found(&want.key)))).collect())
    }

    /// Where a push goes: the project, else the first group.
    fn target(&self) -> Result<Owner<'_>, ProviderError> {
        let group = || self.store.group_ids.first().map(|id| Owner::Group(id));
        let target = self.store.project().map(Owner::Project).or_else(group);
        target.ok_or_else(|| misconfigured("projectID and groupIDs must not both be empty"))
    }

    /// The scope of what is pushed.
    fn scope(&self) -> &str {
        Some(self.environment()).filter(|scope| !scope.is_empty()).unwrap_or(ANY)
    }

    fn one(&self, owner: Owner<'_>, key: &str) -> String {
        let filter = query(&[("filter[environment_scope]", self.scope())]);
        format!("{}/variables/{}?{filter}", owner.path(), segment(&key.replace('-', "_")))
    }

    /// The variable that a push is about.
    async fn current(&self, place: &Place, cx: &CallCx) -> Result<Option<Variable>, ProviderError> {
        let owner = self.target()?;
        let what = format!("{owner}: variable {:?}", place.key);
        let ask = Ask { name: "VariableGet", what: &what, cx };
        let answer = self.send(&ask, Method::GET, &self.one(owner, &place.key), None).await?;
        if is_missing_variable(&answer) {
            return Ok(None);
        }
        success(answer, &what)?.json(&what).map(Some)
    }

    async fn write(
        &self,
        place: &Place,
        (value, metadata): (&SecretBytes, &PushMetadata),
        is_there: bool,
        cx: &CallCx,
    ) -> Result<(), ProviderError> {
        let owner = self.target()?;
        let what = format!("{owner}: variable {:?}", place.key);
        if value.expose_str().is_none() {
            return Err(misconfigured(&format!(
                "{what}: GitLab keeps text, and the value is none: encode it in the template"
            )));
        }
        let body = metadata.write(Body::default().text("value", value.expose()));
        let answer = if is_there {
            let ask = Ask { name: "VariableUpdate", what: &what, cx };
            self.send(&ask, Method::PUT, &self.one(owner, &place.key), Some(&body.build())).await?
        } else {
            let body = body
                .text("key", place.key.replace('-', "_"))
                .text("environment_scope", self.scope())
                .text("description", MARK);
            // a job sees what was pushed, also where there is a `$` in it
            let body = if metadata.raw.is_none() { body.raw("raw", b"true") } else { body };
            let ask = Ask { name: "VariableCreate", what: &what, cx };
            self.send(&ask, Method::POST, &format!("{}/variables", owner.path()), Some(&body.build())).await?
        };
        match answer.status {
            StatusCode::BAD_REQUEST => Err(misconfigured(&format!(
                "{what}: GitLab does not take it (400): a name has letters, digits and \"_\" only, and not every value can be masked"
            ))),
            _ => success(answer, &what).map(drop),
        }
    }
}

fn shown(variable: &Variable) -> Result<SecretBytes, ProviderError> {
    variable.value.clone().filter(|_| !variable.hidden).ok_or_else(|| hidden(&variable.key))
}

fn hidden(key: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Denied, format!("GitLab shows the value of {key:?} to nobody: the variable is hidden"))
}

/// "404 Variable Not Found": a project or group that is not there is told in other words.
fn is_missing_variable(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    answer.status == StatusCode::NOT_FOUND && answer.json::<Said>("").is_ok_and(|said| said.message.contains("Variable"))
}

fn success(answer: Answer, what: &str) -> Result<Answer, ProviderError> {
    match answer.status {
        StatusCode::NOT_FOUND => Err(misconfigured(&format!(
            "{what}: GitLab knows none, or not for this token (404): check the id and the token's rights"
        ))),
        _ => answer.success(what),
    }
}

fn misconfigured(text: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}

fn unsupported(text: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Unsupported, text)
}

fn foreign(key: &str) -> ProviderError {
    let text = format!(
        "variable {key:?} was not pushed by this operator (its description does not say {MARK:?}), and is left alone"
    );
    ProviderError::new(ErrorKind::Denied, text)
}

#[async_trait]
impl Session for GitlabSession {
    fn batch_size(&self) -> usize {
        BATCH
    }

    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        match self.read(wants, cx).await {
            Ok(values) => {
                values.into_iter().map(|value| value.map(|bytes| Fetched { bytes, ..Fetched::default() })).collect()
            }
            Err(error) => wants.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let mut environment = self.environment();
        if let Some((tag, scope)) = query.tags.iter().next() {
            if query.tags.len() > 1 || tag != SCOPE {
                return Err(unsupported("'find.tags' only supports 'environment_scope'"));
            }
            if ![environment, scope].iter().any(|text| matches!(*text, "" | ANY)) {
                return Err(misconfigured("'find.tags' is constrained by 'environment_scope' of the store"));
            }
            environment = scope;
        }
        if !query.path.is_empty() {
            return Err(unsupported("'find.path' is not implemented in the GitLab provider"));
        }
        if query.name.is_empty() {
            return Err(misconfigured("'find.name' is mandatory"));
        }
        let (name, room) = (query.matcher()?, Room::default());
        let wanted = |key: &str| name.is_match(key);
        let mut sources = Vec::new();
        for group in self.groups(cx).await?.iter() {
            sources.push(self.variables(Owner::Group(group), &wanted, &room, cx).await?);
        }
        if let Some(project) = self.store.project() {
            sources.push(self.variables(Owner::Project(project), &wanted, &room, cx).await?);
        }
        let all = merged(sources.iter().map(Vec::as_slice), environment);
        all.into_iter().map(|(key, variable)| Ok(Found { name: key.to_owned(), bytes: shown(variable)? })).collect()
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        push.value()?;
        let metadata = PushMetadata::of(&push.place)?;
        let current = self.current(&push.place, cx).await?;
        if current.as_ref().is_some_and(|variable| !variable.is_ours()) {
            return Err(foreign(&push.place.key));
        }
        let there = current.as_ref().map(shown).transpose()?;
        let value = push.merged(there.as_ref())?;
        if there.is_some_and(|there| there == value) && current.as_ref().is_some_and(|variable| metadata.fits(variable)) {
            return Ok(Pushed::Unchanged);
        }
        self.write(&push.place, (&value, &metadata), current.is_some(), cx).await?;
        Ok(Pushed::Written)
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let Some(variable) = self.current(place, cx).await?.filter(Variable::is_ours) else { return Ok(()) };
        match place.left_of(&variable.value.unwrap_or_default()) {
            Left::All => Ok(()),
            Left::Some(left) => self.write(place, (&left, &PushMetadata::default()), true, cx).await,
            Left::Nothing => {
                let owner = self.target()?;
                let what = format!("{owner}: variable {:?}", place.key);
                let ask = Ask { name: "VariableDelete", what: &what, cx };
                let answer = self.send(&ask, Method::DELETE, &self.one(owner, &place.key), None).await?;
                if is_missing_variable(&answer) { Ok(()) } else { success(answer, &what).map(drop) }
            }
        }
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let current = self.current(place, cx).await?;
        Ok(current.is_some_and(|variable| place.is_in(&variable.value.unwrap_or_default())))
    }

    /// Looks whether the variables of all may be read.
    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        self.forget_groups();
        let groups = self.groups(cx).await?;
        let owners = self.store.project().map(Owner::Project).into_iter().chain(groups.iter().map(|id| Owner::Group(id)));
        for owner in owners {
            let what = owner.to_string();
            let ask = Ask { name: "VariablesList", what: &what, cx };
            let path = format!("{}/variables?{}", owner.path(), query(&[("per_page", "1")]));
            success(self.send(&ask, Method::GET, &path, None).await?, &what)?;
        }
        Ok(Validation::Ready)
    }

    /// An empty variable is an error, as in ESO.
    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        if value.is_empty() {
            let text = format!("invalid secret received. no secret string for key: {}", want.key);
            return Err(ProviderError::new(ErrorKind::Malformed, text));
        }
        Ok(value.clone())
    }
}
