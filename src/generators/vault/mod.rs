//! VaultDynamicSecret: what a path of Vault answers, as keys and values. What Vault lends is renewed while it is in use, and given
//! back when it no longer is.

mod logins;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use logins::Login;
pub use logins::Logins;

use super::{GenerateCx, Generated, Generator, Renewed, state_of};
use crate::api::generators::{VaultDynamicSecretSpec, VaultResultType};
use crate::plan::lease::Granted;
use crate::providers::vault::{Lease, Request, Retries, TokenInUse, VaultClient};
use crate::providers::{ErrorKind, ProviderError};
use crate::render::Entries;
use crate::render::json::{self, Json, byte_value};
use crate::secret_bytes::SecretBytes;

const WHAT: &str = "dynamic secret of Vault";

/// The members that Vault's client knows, with what they are when the server leaves them out. `None`: then they are left out too.
type Shape = [(&'static str, Option<Json>)];

fn answer_shape() -> [(&'static str, Option<Json>); 9] {
    [
        ("request_id", Some(Json::String(Zeroizing::default()))),
        ("lease_id", Some(Json::String(Zeroizing::default()))),
        ("lease_duration", Some(Json::Number(0.0))),
        ("renewable", Some(Json::Bool(false))),
        ("data", Some(Json::Null)),
        ("warnings", Some(Json::Null)),
        ("auth", None),
        ("wrap_info", None),
        ("mount_type", None),
    ]
}

fn auth_shape() -> [(&'static str, Option<Json>); 11] {
    [
        ("client_token", Some(Json::String(Zeroizing::default()))),
        ("accessor", Some(Json::String(Zeroizing::default()))),
        ("policies", Some(Json::Null)),
        ("token_policies", Some(Json::Null)),
        ("identity_policies", Some(Json::Null)),
        ("metadata", Some(Json::Null)),
        ("orphan", Some(Json::Bool(false))),
        ("entity_id", Some(Json::String(Zeroizing::default()))),
        ("lease_duration", Some(Json::Number(0.0))),
        ("renewable", Some(Json::Bool(false))),
        ("mfa_requirement", Some(Json::Null)),
    ]
}

#[async_trait]
impl Generator for VaultDynamicSecretSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let (body, token) = self.ask(&self.request(), WHAT, cx).await?;
        let Some(body) = body else {
            if self.allow_empty_response == Some(true) {
                return Ok(Generated::default());
            }
            let text = format!("{WHAT}: empty response from Vault for path {:?}", self.path);
            return Err(ProviderError::new(ErrorKind::Malformed, text));
        };
        let values = self.values(&body).ok_or_else(|| {
            ProviderError::new(ErrorKind::Malformed, format!("{WHAT}: the answer is not the JSON that Vault sends"))
        })?;
        let (state, lease) = self.lent(&body, token, cx.now);
        Ok(Generated { values, state, lease })
    }

    async fn cleanup(&self, state: &Value, cx: &GenerateCx) -> Result<(), ProviderError> {
        let lent: Lent = state_of(state)?;
        if lent.lease_id.is_empty() {
            return Ok(());
        }
        let request = Request::write("sys/leases/revoke", lent.reference());
        self.ask(&request, "end of a lease of Vault", cx).await.map(drop)
    }

    async fn renew(&self, state: &Value, cx: &GenerateCx) -> Result<Option<Renewed>, ProviderError> {
        let lent: Lent = state_of(state)?;
        // what is wrong with the login says nothing of the lease
        self.log_in(cx).await?;
        let request = Request::write("sys/leases/renew", lent.reference());
        let (body, token) = match self.ask(&request, "renewal of a lease of Vault", cx).await {
            Ok((Some(body), token)) => (body, token),
            // that is how Vault says that it does not know the lease, or will not prolong it
            Ok((None, _)) => return Ok(None),
            Err(error) if matches!(error.kind, ErrorKind::Misconfigured | ErrorKind::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(lease) = Lease::of(&body) else { return Ok(None) };
        let (lent, granted) = lent.renewed(&lease, token, cx.now);
        Ok(Some(Renewed { granted, state: json!(lent) }))
    }
}

/// What is noted of what Vault lent. A lease ends with the token that it was made with, whatever else Vault says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lent {
    /// By what it is renewed and given back; empty where neither can be.
    #[serde(rename = "leaseID")]
    lease_id: String,
    /// Which token it was made with: an id of our own.
    token: String,
    /// When that token ends, unless it is renewed; `None`: never, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_ends: Option<Timestamp>,
}

impl Lent {
    fn new(lease_id: &str, token: TokenInUse, now: Timestamp) -> Self {
        let token_ends = token.left.map(|left| now.saturating_add(left).unwrap_or(Timestamp::MAX));
        Self { lease_id: lease_id.to_owned(), token: token.id, token_ends }
    }

    /// How much of a lease's time it really lasts.
    fn granted(&self, life: Duration, renewable: bool, now: Timestamp) -> Granted {
        let left = self.token_ends.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        Granted { life: left.map_or(life, |left| left.min(life)), renewable }
    }

    /// After a renewal. Only by the token that it was made with do we know for how long that one lasts.
    fn renewed(self, lease: &Lease, token: TokenInUse, now: Timestamp) -> (Self, Granted) {
        let same = self.token == token.id;
        let lent = if same { Self::new(&self.lease_id, token, now) } else { self };
        let granted = lent.granted(lease.duration, lease.renewable, now);
        (lent, granted)
    }

    fn reference(&self) -> SecretBytes {
        SecretBytes::from(json!({ "lease_id": self.lease_id }).to_string())
    }
}

impl VaultDynamicSecretSpec {
    /// Asks Vault, logged in; gives the answer and the token that it was asked with. A token out of a Secret that is refused may
    /// have been replaced there.
    async fn ask(
        &self,
        request: &Request,
        what: &str,
        cx: &GenerateCx,
    ) -> Result<(Option<SecretBytes>, TokenInUse), ProviderError> {
        let (login, fresh) = self.log_in(cx).await?;
        let answer = async |client: &VaultClient| {
            let answer = client.request(request, what, &cx.call).await?;
            let lent = answer.as_ref().and_then(Lease::of).map(|lease| lease.duration).unwrap_or_default();
            Ok((answer, client.lends(lent, &cx.call).await))
        };
        match answer(&login.client).await {
            Err(ProviderError { kind: ErrorKind::Denied, .. }) if !fresh && !login.client.made_token() => {
                cx.vault.forget(&login);
                answer(&self.log_in(cx).await?.0.client).await
            }
            result => result,
        }
    }

    /// The login, and whether it was made just now.
    async fn log_in(&self, cx: &GenerateCx) -> Result<(Arc<Login>, bool), ProviderError> {
        let retries = Retries::of(self.retry_settings.as_ref(), "spec.retrySettings")?;
        cx.vault.log_in(&self.provider, retries, cx).await
    }

    /// What is to be noted of an answer by which Vault lends something, and for how long it does.
    fn lent(&self, body: &SecretBytes, token: TokenInUse, now: Timestamp) -> (Option<Value>, Option<Granted>) {
        let (id, life, renewable) = match (Lease::of(body), self.result_type.unwrap_or_default()) {
            (Some(lease), VaultResultType::Data | VaultResultType::Raw) => (lease.id, lease.duration, lease.renewable),
            // a token can be renewed by its holder only
            (_, VaultResultType::Auth) | (None, VaultResultType::Raw) => match token_life(body) {
                Some(life) => (String::new(), life, false),
                None => return (None, None),
            },
            (None, VaultResultType::Data) => return (None, None),
        };
        let lent = Lent::new(&id, token, now);
        let granted = lent.granted(life, renewable, now);
        (Some(json!(lent)), Some(granted))
    }

    fn request(&self) -> Request {
        match self.method.as_deref().unwrap_or_default() {
            "" | "GET" => {
                let pairs = self.get_parameters.iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one)));
                let query = pairs.map(|(name, value)| (name.clone(), value.clone())).collect();
                Request { query, ..Request::read(&self.path) }
            }
            "LIST" => Request::list(&self.path),
            "DELETE" => Request::delete(&self.path),
            _ => {
                let parameters = self.parameters.clone().unwrap_or_else(|| json!({}));
                Request::write(&self.path, SecretBytes::from(parameters.to_string()))
            }
        }
    }

    /// The keys and values of an answer; `None` where it is none of Vault's.
    fn values(&self, body: &SecretBytes) -> Option<Entries> {
        match self.result_type.unwrap_or_default() {
            VaultResultType::Data => data(body),
            VaultResultType::Auth => match object(body)?.remove("auth") {
                None | Some(Json::Null) => Some(Entries::new()),
                Some(Json::Object(auth)) => Some(shaped(auth, &auth_shape())),
                Some(_) => None,
            },
            VaultResultType::Raw => {
                let mut answer = object(body)?;
                if let Some(Json::Object(auth)) = answer.remove("auth") {
                    let auth = with_shape(auth, &auth_shape());
                    answer.insert("auth".to_owned(), Json::Object(auth));
                }
                answer.retain(|_, value| *value != Json::Null);
                Some(shaped(answer, &answer_shape()))
            }
        }
    }
}

/// The members of `data`. Numbers are as Vault wrote them, as its client keeps them as text.
fn data(body: &SecretBytes) -> Option<Entries> {
    let members = json::members(body.expose())?;
    let is_vaults = members.iter().any(|(name, _)| name == "data" || name == "auth");
    let Some((_, data)) = members.iter().rev().find(|(name, _)| name == "data") else {
        return is_vaults.then(Entries::new);
    };
    let value = |raw: &[u8]| match raw.first() {
        Some(b'{' | b'[') => json::parse(raw).map(|nested| byte_value(&nested)),
        _ => Some(json::unquoted(raw)),
    };
    json::members(data)?.into_iter().map(|(name, raw)| Some((name, value(raw)?))).collect()
}

fn object(body: &SecretBytes) -> Option<BTreeMap<String, Json>> {
    match json::parse(body.expose())? {
        Json::Object(object) if object.contains_key("data") || object.contains_key("auth") => Some(object),
        _ => None,
    }
}

/// How long a token lives that an answer holds; `None`: for ever.
fn token_life(body: &SecretBytes) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Made {
        auth: Auth,
    }
    #[derive(Deserialize)]
    struct Auth {
        #[serde(default)]
        lease_duration: u64,
    }
    let seconds = serde_json::from_slice::<Made>(body.expose()).ok()?.auth.lease_duration;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

fn with_shape(mut object: BTreeMap<String, Json>, shape: &Shape) -> BTreeMap<String, Json> {
    shape
        .iter()
        .filter_map(|(name, default)| Some(((*name).to_owned(), object.remove(*name).or_else(|| default.clone())?)))
        .collect()
}

fn shaped(object: BTreeMap<String, Json>, shape: &Shape) -> Entries {
    with_shape(object, shape).into_iter().map(|(name, value)| (name, byte_value(&value))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::generators::testing::cluster::{CANARY, Cluster, generate, redacted, spec, values};
    use crate::outbound::testing::{FakeServer, Reply, outbound};
    use crate::providers::ConnectCx;
    use crate::providers::vault::testing::{TOKEN, errors, vault};

    fn wanted(server: &FakeServer, more: Value) -> VaultDynamicSecretSpec {
        let token = json!({"tokenSecretRef": {"name": "vault", "key": "token"}});
        let mut all = json!({"path": "/database/creds/app", "provider": {"server": server.url, "auth": token}});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec(all)
    }

    async fn run(server: &FakeServer, more: Value) -> Result<Generated, ProviderError> {
        generate(&wanted(server, more), &Cluster::new().secret("vault", "token", TOKEN), &outbound()).await
    }

    #[tokio::test]
    async fn data_becomes_keys() {
        let server = vault().await;
        let made = run(&server, json!({})).await.unwrap();
        assert_eq!(values(&made), [("username", "u"), ("password", "p")].into());
        assert_eq!(asked(&server), ["GET /v1/database/creds/app"]);
    }

    /// What the server was asked, but for what a login asks about itself.
    fn asked(server: &FakeServer) -> Vec<String> {
        server.lines().into_iter().filter(|line| !line.contains("/auth/token/lookup-self")).collect()
    }

    fn with_login(server: &FakeServer, auth: Value) -> VaultDynamicSecretSpec {
        wanted(server, json!({"provider": {"server": server.url, "auth": auth}}))
    }

    /// A generator that logs in with the `secret` of a Secret.
    fn by_app_role(server: &FakeServer) -> VaultDynamicSecretSpec {
        let key = json!({"name": "vault", "key": "secret"});
        with_login(server, json!({"appRole": {"path": "approle", "roleId": "role-1", "secretRef": key}}))
    }

    fn logins(server: &FakeServer) -> usize {
        asked(server).iter().filter(|line| line.contains("/login")).count()
    }

    #[tokio::test]
    async fn a_lease_is_noted_renewed_and_given_back() {
        let server = vault().await;
        let cx = Cluster::new().secret("vault", "token", TOKEN).cx(&outbound());
        let spec = wanted(&server, json!({}));
        let made = spec.generate(&cx).await.unwrap();
        let hour = Granted { life: Duration::from_secs(3600), renewable: true };
        assert_eq!(made.lease, Some(hour));
        let state = made.state.unwrap();
        assert_eq!(state["leaseID"], "database/creds/app/l1");
        assert!(!state.to_string().contains("canary"), "a state holds no secret: {state}");
        let renewed = spec.renew(&state, &cx).await.unwrap().unwrap();
        assert_eq!((renewed.granted, &renewed.state["leaseID"]), (hour, &state["leaseID"]));
        let gone = json!({"leaseID": "database/creds/app/other", "token": "t"});
        assert!(spec.renew(&gone, &cx).await.unwrap().is_none(), "Vault does not know it");
        spec.cleanup(&state, &cx).await.unwrap();
        let last = server.received().pop().unwrap();
        assert_eq!(
            (last.line.as_str(), &last.json()),
            ("PUT /v1/sys/leases/revoke", &json!({"lease_id": "database/creds/app/l1"}))
        );
    }

    #[tokio::test]
    async fn many_values_share_a_login_and_end_with_its_token() {
        let server = vault().await;
        let cx = Cluster::new().secret("vault", "secret", "s3cret").cx(&outbound());
        let spec = by_app_role(&server);
        let first = spec.generate(&cx).await.unwrap();
        let life = first.lease.unwrap().life;
        assert!(life <= Duration::from_secs(60) && life > Duration::from_secs(55), "the token's: {life:?}");
        spec.generate(&cx).await.unwrap();
        let other =
            json!({"leaseID": "database/creds/app/l1", "token": "of another process", "tokenEnds": "2026-11-26T12:00:10Z"});
        let renewed = spec.renew(&other, &cx).await.unwrap().unwrap();
        assert_eq!(renewed.granted.life, Duration::from_secs(10), "what is known of the token that it was made with");
        assert_eq!(logins(&server), 1);
    }

    #[tokio::test]
    async fn a_token_that_was_changed_in_its_secret_is_read_again() {
        let server = vault().await;
        let cx = Cluster::new().secret("vault", "token", TOKEN).cx(&outbound());
        let spec = wanted(&server, json!({}));
        spec.generate(&cx).await.unwrap();
        let refused = wanted(&server, json!({"path": "sys/leases/renew", "method": "PUT"}));
        assert_eq!(refused.generate(&cx).await.unwrap_err().kind, ErrorKind::Misconfigured);
        let wrong = Cluster::new().secret("vault", "token", "hvs.old").cx(&outbound());
        assert_eq!(spec.generate(&wrong).await.unwrap_err().kind, ErrorKind::Denied);
        let mended = GenerateCx { vault: wrong.vault.clone(), ..cx };
        spec.generate(&mended).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_login_was_made_with_is_looked_at_before_it_is_used_again() {
        let server = vault().await;
        let spec = by_app_role(&server);
        let cluster = |value: &str| Cluster::new().secret("vault", "secret", value);
        let first = cluster("s3cret").at_version("1").cx(&outbound());
        let now = |cluster: Cluster| GenerateCx { vault: first.vault.clone(), ..cluster.cx(&outbound()) };
        spec.generate(&first).await.unwrap();
        spec.generate(&now(cluster("s3cret").at_version("1"))).await.unwrap();
        assert_eq!(logins(&server), 1, "unchanged");

        let connect = ConnectCx { client: crate::generators::testing::cx().connect.client, ..first.connect.clone() };
        spec.generate(&GenerateCx { connect, ..first.clone() }).await.unwrap();
        assert_eq!(logins(&server), 1, "the API server is away");

        let state = spec.generate(&now(cluster("s3cret").at_version("2"))).await.unwrap().state.unwrap();
        assert_eq!(logins(&server), 2, "another version");
        spec.generate(&now(cluster("s3cret").at_version("2"))).await.unwrap();
        assert_eq!(logins(&server), 2, "and that is the one by now");

        let error = redacted(spec.generate(&now(cluster("wrong").at_version("3"))).await);
        assert_eq!(error.kind, ErrorKind::Denied, "the old login is not used any more");
        spec.generate(&now(cluster("s3cret").at_version("4"))).await.unwrap();
        let error = redacted(spec.renew(&state, &now(Cluster::new())).await);
        assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains("does not exist"), "gone: {error}");
        assert!(!asked(&server).iter().any(|line| line.contains("revoke")), "what was lent is in use: {:?}", asked(&server));
    }

    #[tokio::test]
    async fn a_service_account_that_is_gone_logs_in_no_more() {
        let server = vault().await;
        let spec = with_login(&server, json!({"kubernetes": {"role": "app", "serviceAccountRef": {"name": "app"}}}));
        let account = || Cluster::new().service_account("app", &json!({}));
        let first = account().at_version("1").cx(&outbound());
        spec.generate(&first).await.unwrap();
        let later = GenerateCx { vault: first.vault.clone(), ..account().at_version("2").cx(&outbound()) };
        spec.generate(&later).await.unwrap();
        assert_eq!(logins(&server), 1, "the version of a token's account is not known");
        let gone = GenerateCx { vault: first.vault.clone(), ..Cluster::new().cx(&outbound()) };
        // the cluster of the tests gives tokens of accounts that are not there
        spec.generate(&gone).await.unwrap();
        assert_eq!(logins(&server), 2);
    }

    #[tokio::test]
    async fn a_token_that_is_made_ends_too() {
        let auth = json!({"path": "auth/token/create", "method": "POST", "resultType": "Auth"});
        let (server, cx) = (vault().await, Cluster::new().secret("vault", "token", TOKEN).cx(&outbound()));
        let spec = wanted(&server, auth);
        let made = spec.generate(&cx).await.unwrap();
        assert_eq!(made.lease, Some(Granted { life: Duration::from_secs(2_764_800), renewable: false }));
        spec.cleanup(&made.state.unwrap(), &cx).await.unwrap();
        assert_eq!(asked(&server), ["PUT /v1/auth/token/create"], "nobody but its holder can give it back");
    }

    /// As a login does, whose answer holds a token and lends nothing else.
    #[tokio::test]
    async fn a_token_that_is_shown_with_all_of_its_answer_ends_too() {
        let answer = |kind: &'static str| async move {
            let auth = json!({"client_token": "hvs.made", "lease_duration": 600, "renewable": true});
            let reply = json!({"request_id": "r", "lease_id": "", "lease_duration": 0, "data": {"k": "v"}, "auth": auth});
            let server = FakeServer::start(move |asked| match asked.line.contains("/lookup-self") {
                true => errors(403),
                false => Reply::json(200, &reply),
            })
            .await;
            run(&server, json!({"path": "auth/approle/login", "method": "POST", "resultType": kind})).await.unwrap()
        };
        let ends = Granted { life: Duration::from_secs(600), renewable: false };
        for (kind, lease) in [("Raw", Some(ends)), ("Auth", Some(ends)), ("Data", None)] {
            assert_eq!(answer(kind).await.lease, lease, "{kind}");
        }
    }

    #[tokio::test]
    async fn values_that_are_no_text() {
        let made = run(&vault().await, json!({"path": "odd/values"})).await.unwrap();
        let want = [
            ("int", "12345678901234567890"),
            ("float", "1.50"),
            ("list", r#"["a",1]"#),
            ("map", r#"{"a":null,"b":"\u003c"}"#),
            ("null", ""),
            ("yes", "true"),
        ];
        assert_eq!(values(&made), want.into());
    }

    #[tokio::test]
    async fn methods() {
        let server = vault().await;
        let query = json!({"path": "pki/cert", "method": "GET", "getParameters": {"common_name": ["a.test", "b.test"]}});
        assert_eq!(values(&run(&server, query).await.unwrap()), [("n", "2")].into());
        let list = run(&server, json!({"path": "kv", "method": "LIST"})).await.unwrap();
        assert_eq!(values(&list), [("keys", r#"["a","b"]"#)].into());
        let write = json!({"path": "transit/sign", "method": "POST", "parameters": {"input": "aGk="}});
        assert_eq!(values(&run(&server, write).await.unwrap()), [("signature", "aGk=")].into());
        assert_eq!(asked(&server)[2], "PUT /v1/transit/sign");
    }

    #[tokio::test]
    async fn an_empty_answer_is_an_error_unless_it_is_allowed() {
        let server = vault().await;
        for empty in [
            json!({"path": "kv/a", "method": "DELETE"}),
            json!({"path": "gone"}),
            json!({"path": "sys/leases/revoke", "method": "PUT"}),
        ] {
            let error = redacted(run(&server, empty.clone()).await);
            assert!(error.detail.contains("empty response from Vault"), "{error}");
            let mut allowed = empty;
            allowed["allowEmptyResponse"] = json!(true);
            assert!(run(&server, allowed).await.unwrap().values.is_empty());
        }
    }

    #[tokio::test]
    async fn the_login_in_an_answer() {
        let server = vault().await;
        let auth = json!({"path": "auth/token/create", "method": "POST", "resultType": "Auth"});
        let want = [
            ("client_token", "hvs.made"),
            ("accessor", "acc"),
            ("policies", r#"["default"]"#),
            ("token_policies", r#"["default"]"#),
            ("identity_policies", ""),
            ("metadata", ""),
            ("orphan", "false"),
            ("entity_id", ""),
            ("lease_duration", "2764800"),
            ("renewable", "true"),
            ("mfa_requirement", ""),
        ];
        assert_eq!(values(&run(&server, auth).await.unwrap()), want.into());
        assert!(run(&server, json!({"resultType": "Auth"})).await.unwrap().values.is_empty());
    }

    #[tokio::test]
    async fn an_answer_as_it_is() {
        let made = run(&vault().await, json!({"resultType": "Raw"})).await.unwrap();
        let want = [
            ("request_id", "r-1"),
            ("lease_id", "database/creds/app/l1"),
            ("lease_duration", "3600"),
            ("renewable", "true"),
            ("data", r#"{"password":"p","username":"u"}"#),
            ("warnings", ""),
            ("mount_type", "database"),
        ];
        assert_eq!(values(&made), want.into());
    }

    #[tokio::test]
    async fn whatever_vault_does_is_told_in_our_words() {
        let none = json!({"retrySettings": {"maxRetries": 0}});
        for (status, kind) in [
            (400, ErrorKind::Misconfigured),
            (403, ErrorKind::Denied),
            (405, ErrorKind::Misconfigured),
            (429, ErrorKind::Throttled),
            (500, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable),
        ] {
            let server = FakeServer::start(move |_| errors(status)).await;
            assert_eq!(redacted(run(&server, none.clone()).await).kind, kind, "{status}");
        }
        for garbage in [
            CANARY.to_owned(),
            "[]".into(),
            "{}".into(),
            format!("{{\"data\": {CANARY}}}"),
            format!("{{\"data\": [\"{CANARY}\"]}}"),
        ] {
            let reply = Reply::text(200, &garbage);
            let server = FakeServer::start(move |_| reply.clone()).await;
            for kind in ["Data", "Auth", "Raw"] {
                let result = run(&server, json!({"resultType": kind})).await;
                if let Err(error) = &result {
                    assert_eq!(error.kind, ErrorKind::Malformed, "{garbage}");
                }
                assert!(kind != "Data" || result.is_err(), "{garbage}");
                let _ = result.map_err(|error| redacted::<()>(Err(error)));
            }
        }
    }
}
