//! A logged-in client of Secret Server's API.

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::auth::User;
use super::secret::{Fields, MAX_FIELDS, Secret};
use super::{SecretServer, misconfigured};
use crate::outbound::{Answer, Call, TlsOptions, query, segment};
use crate::providers::push;
use crate::providers::rest::{Ask, Body, Rest};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, Place, ProviderError, Push, Pushed, Session, Taker, Validation, Want,
};
use crate::render::{Entries, json_edit};
use crate::secret_bytes::SecretBytes;

/// Most secrets that are read together.
const BATCH: usize = 20;
/// Most requests at the same time.
const PARALLEL: usize = 4;

#[derive(Deserialize)]
struct Records {
    #[serde(default)]
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    id: i64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    folder_id: i64,
}

#[derive(Deserialize)]
struct Template {
    #[serde(default)]
    fields: Vec<TemplateField>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TemplateField {
    secret_template_field_id: i64,
    #[serde(default)]
    field_slug_name: String,
    #[serde(default)]
    name: String,
}

/// The `spec` of an entry's metadata block: where a new secret goes, and what it is made of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct PushMetadata {
    folder_id: i64,
    secret_template_id: i64,
}

pub(super) struct SecretServerSession {
    rest: Rest,
    user: User,
}

impl SecretServerSession {
    pub(super) async fn open(config: &SecretServer, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let path = "spec.provider.secretserver";
        let ca = cx.ca(&config.ca, path).await?;
        let rest = Rest::open(&TlsOptions { ca, identity: None }, path, cx)?;
        let user = User { config: config.clone(), cx: cx.clone(), http: rest.http() };
        rest.log_in(&user).await?;
        Ok(Self { rest, user })
    }

    async fn request(
        &self,
        ask: &Ask<'_>,
        method: Method,
        path: &str,
        body: Option<SecretBytes>,
    ) -> Result<Answer, ProviderError> {
        let url = format!("{}/api/v1/{path}", self.user.config.url());
        let make = |token: &SecretBytes| {
            let call = Call::new(method.clone(), &url, "spec.provider.secretserver.serverURL")?.bearer(token, ask.what)?;
            Ok(call.maybe_json(body.as_ref()))
        };
        self.rest.ask(ask, &self.user, &make).await
    }

    /// A secret by its path, its number or its name; `None` where there is none. `folder` counts for names only; 0: any.
    async fn find_one(&self, key: &str, folder: i64, cx: &CallCx) -> Result<Option<Secret>, ProviderError> {
        let what = format!("secret {key:?} of Secret Server");
        if key.trim_matches('/').is_empty() {
            return Err(misconfigured(format!("{what}: the key is empty")));
        }
        let path = if key.starts_with('/') {
            let steps: Vec<&str> = key.split('/').filter(|step| !step.is_empty()).collect();
            format!("secrets/0?{}", query(&[("secretPath", &format!("\\{}", steps.join("\\")))]))
        } else if let Ok(id) = key.parse::<i64>() {
            format!("secrets/{id}")
        } else {
            match self.named(key, folder, &what, cx).await? {
                Some(id) => format!("secrets/{id}"),
                None => return Ok(None),
            }
        };
        let ask = Ask { name: "getSecret", what: &what, cx };
        let answer = self.request(&ask, Method::GET, &path, None).await?;
        if is_missing(&answer) {
            return Ok(None);
        }
        let malformed = || {
            let text = format!("{what}: the answer is no secret, or one of more than {MAX_FIELDS} fields");
            ProviderError::new(ErrorKind::Malformed, text)
        };
        let mut secret = Secret::read(success(answer, &what)?.body).ok_or_else(malformed)?;
        for field in secret.fields.iter_mut().filter(|field| field.is_file) {
            let path = format!("secrets/{}/fields/{}", secret.id, segment(&field.slug));
            let ask = Ask { name: "getField", what: &what, cx };
            field.value = success(self.request(&ask, Method::GET, &path, None).await?, &what)?.body;
        }
        Ok(Some(secret))
    }

    /// The number of the first secret of a name, directly in a folder where one is named.
    async fn named(&self, name: &str, folder: i64, what: &str, cx: &CallCx) -> Result<Option<i64>, ProviderError> {
        let number = folder.to_string();
        let mut wishes = vec![
            ("paging.filter.searchText", name),
            ("paging.filter.searchField", "Name"),
            ("paging.filter.isExactMatch", "true"),
            ("paging.filter.doNotCalculateTotal", "true"),
            ("paging.take", "30"),
            ("paging.skip", "0"),
        ];
        if folder > 0 {
            // Or else the namesakes of other folders fill the page.
            wishes.extend([("paging.filter.folderId", number.as_str()), ("paging.filter.includeSubFolders", "false")]);
        }
        let ask = Ask { name: "searchSecrets", what, cx };
        let answer = self.request(&ask, Method::GET, &format!("secrets?{}", query(&wishes)), None).await?;
        let Records { records } = success(answer, what)?.json(what)?;
        let here = |record: &&Record| record.name.eq_ignore_ascii_case(name) && (folder <= 0 || record.folder_id == folder);
        Ok(records.iter().find(here).map(|record| record.id))
    }

    async fn fetch(&self, want: &Want, cx: &CallCx) -> Result<Fetched, ProviderError> {
        if !want.version.is_empty() {
            let text = format!("secret {:?} of Secret Server: specifying a version is not supported", want.key);
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        let secret = self.find_one(&want.key, 0, cx).await?.ok_or_else(|| ProviderError::not_found(&want.key))?;
        Ok(Fetched { bytes: secret.shown(), ..Fetched::default() })
    }

    async fn update(
        &self,
        secret: &Secret,
        index: usize,
        value: &SecretBytes,
        what: &str,
        cx: &CallCx,
    ) -> Result<(), ProviderError> {
        let place = format!("items.{index}.itemValue");
        let unreadable =
            || ProviderError::new(ErrorKind::Malformed, format!("{what}: the answer is no secret that can be changed"));
        let body = json_edit::set(&secret.body, &place, value).ok_or_else(unreadable)?;
        let ask = Ask { name: "updateSecret", what, cx };
        let answer = self.request(&ask, Method::PUT, &format!("secrets/{}", secret.id), Some(body)).await?;
        success(answer, what).map(drop)
    }

    async fn create(
        &self,
        place: &Place,
        metadata: &PushMetadata,
        value: &SecretBytes,
        what: &str,
        cx: &CallCx,
    ) -> Result<(), ProviderError> {
        if metadata.folder_id <= 0 || metadata.secret_template_id <= 0 {
            return Err(misconfigured("folderId and secretTemplateId must be provided in metadata to create a new secret"));
        }
        let name = place.key.trim_matches('/').rsplit('/').next().unwrap_or_default();
        if name.is_empty() || name.parse::<i64>().is_ok() {
            return Err(misconfigured(format!("{what}: the key is no name that a new secret can have")));
        }
        let ask = Ask { name: "getTemplate", what, cx };
        let path = format!("secret-templates/{}", metadata.secret_template_id);
        let Template { fields } = success(self.request(&ask, Method::GET, &path, None).await?, what)?.json(what)?;
        let field = match place.property() {
            None => fields.first(),
            Some(name) => fields.iter().find(|field| field.field_slug_name == name || field.name == name),
        };
        let field = field.ok_or_else(|| misconfigured(format!("{what}: the template has no such field")))?;
        let number = |number: i64| number.to_string().into_bytes();
        let item = Body::default().raw("fieldId", &number(field.secret_template_field_id)).text("itemValue", value.expose());
        let items = SecretBytes::new([b"[", item.build().expose(), b"]"].concat());
        let body = Body::default()
            .text("name", name)
            .raw("folderId", &number(metadata.folder_id))
            .raw("secretTemplateId", &number(metadata.secret_template_id))
            .raw("items", items.expose());
        let ask = Ask { name: "createSecret", what, cx };
        success(self.request(&ask, Method::POST, "secrets", Some(body.build())).await?, what).map(drop)
    }
}

/// Code of what the server says in place of an answer.
fn code(answer: &Answer) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Said {
        #[serde(default)]
        error_code: String,
    }
    answer.json::<Said>("").map(|said| said.error_code).unwrap_or_default()
}

/// The server answers 400 to much, and says by a code what it means. A 404 without that code is of somebody between, or of a wrong
/// address.
fn is_missing(answer: &Answer) -> bool {
    matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) && code(answer) == "API_SecretNotFound"
}

/// The folder that a place's metadata names; 0: none.
fn folder_of(place: &Place) -> i64 {
    push::metadata::<PushMetadata>(place.metadata.as_ref()).ok().flatten().unwrap_or_default().folder_id
}

/// The answer, if it says that all went well.
fn success(answer: Answer, what: &str) -> Result<Answer, ProviderError> {
    if answer.status == StatusCode::BAD_REQUEST && code(&answer) == "API_AccessDenied" {
        let text = format!("{what}: the server forbids it, or there is no such secret: check the rights of the user");
        return Err(ProviderError::new(ErrorKind::Denied, text));
    }
    answer.success(what)
}

#[async_trait]
impl Session for SecretServerSession {
    fn batch_size(&self) -> usize {
        BATCH
    }

    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let reads: Vec<_> = wants.iter().map(|want| self.fetch(want, cx)).collect();
        stream::iter(reads).buffered(PARALLEL).collect().await
    }

    /// A field of a secret is written: that of the property, or the first one.
    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let what = format!("secret {:?} of Secret Server", push.place.key);
        let metadata: PushMetadata = push::metadata(push.place.metadata.as_ref())?.unwrap_or_default();
        let value = push.value()?;
        if value.expose_str().is_none() {
            return Err(misconfigured(format!("{what}: the value is no UTF-8 text")));
        }
        let Some(secret) = self.find_one(&push.place.key, metadata.folder_id, cx).await? else {
            self.create(&push.place, &metadata, &value, &what, cx).await?;
            return Ok(Pushed::Written);
        };
        let index = secret.position(push.place.property());
        let index = index.ok_or_else(|| misconfigured(format!("{what}: it has no such field")))?;
        let Some(field) = secret.fields.get(index).filter(|field| !field.is_file) else {
            return Err(ProviderError::new(
                ErrorKind::Unsupported,
                format!("{what}: the field is a file, which is not written"),
            ));
        };
        if field.value == value {
            return Ok(Pushed::Unchanged);
        }
        self.update(&secret, index, &value, &what, cx).await?;
        Ok(Pushed::Written)
    }

    /// The field that is pushed to, or the first one, is emptied, and the secret deleted once no other one holds something.
    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let what = format!("secret {:?} of Secret Server", place.key);
        let Some(secret) = self.find_one(&place.key, folder_of(place), cx).await? else { return Ok(()) };
        let Some(index) = secret.position(place.property()) else { return Ok(()) };
        if secret.fields.get(index).is_some_and(|field| field.is_file) {
            // No push has written it.
            return Ok(());
        }
        if secret.fields.iter().enumerate().any(|(i, field)| i != index && !field.value.is_empty()) {
            return self.update(&secret, index, &SecretBytes::default(), &what, cx).await;
        }
        let ask = Ask { name: "deleteSecret", what: &what, cx };
        let answer = self.request(&ask, Method::DELETE, &format!("secrets/{}", secret.id), None).await?;
        if is_missing(&answer) { Ok(()) } else { success(answer, &what).map(drop) }
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let Some(secret) = self.find_one(&place.key, folder_of(place), cx).await? else { return Ok(false) };
        let field = secret.position(place.property()).and_then(|index| secret.fields.get(index));
        Ok(field.is_some_and(|field| !field.value.is_empty()))
    }

    /// The login is the check: it was made, or is made now.
    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        self.rest.log_in(&self.user).await.map(|()| Validation::Ready)
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        Fields.property(want, value, property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        Fields.extract(want, value, property)
    }
}
