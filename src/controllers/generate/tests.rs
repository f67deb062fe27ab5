//! States from the making of a value to its end, with a generator that counts what is out there.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::api::external_secret::GeneratorKind;
use crate::api::generators::GeneratorObject;
use crate::controllers::watch::Change;
use crate::generators::testing::with_client;
use crate::generators::{GenerateCx, Generated as New, Generator, served};
use crate::index::AnyGenerator;
use crate::lease::Leadership;
use crate::plan::digest::Digester;
use crate::plan::lease::Granted;
use crate::queue::{Priority, Queue};

/// What the generators of these tests have made and not taken back, by the name of the generator.
static OUT_THERE: LazyLock<Mutex<BTreeMap<String, BTreeSet<u64>>>> = LazyLock::new(Mutex::default);

fn out_there(generator: &str) -> Vec<u64> {
    OUT_THERE.lock().unwrap().get(generator).into_iter().flatten().copied().collect()
}

/// Makes tokens that must be taken back. `stuck` in the name: it cannot take back.
struct Stateful;

#[async_trait]
impl Generator for Stateful {
    async fn generate(&self, cx: &GenerateCx) -> Result<New, ProviderError> {
        let mut all = OUT_THERE.lock().unwrap();
        let tokens = all.entry(cx.connect.store_name.clone()).or_default();
        let id = tokens.last().map_or(1, |last| last + 1);
        tokens.insert(id);
        let mut made = New::values([("token", crate::secret_bytes::SecretBytes::from(format!("canary-{id}")))]);
        made.state = Some(json!({ "id": id }));
        if cx.connect.store_name.contains("leased") {
            made.lease = Some(Granted { life: Duration::from_secs(3600), renewable: false });
        }
        Ok(made)
    }

    async fn cleanup(&self, state: &Value, cx: &GenerateCx) -> Result<(), ProviderError> {
        if cx.connect.store_name.contains("stuck") {
            return Err(ProviderError::new(ErrorKind::Unavailable, "no answer"));
        }
        let id = state["id"].as_u64().unwrap();
        OUT_THERE.lock().unwrap().entry(cx.connect.store_name.clone()).or_default().remove(&id);
        Ok(())
    }
}

fn serve(spec: &AnySpec) -> Result<&dyn Generator, ProviderError> {
    match spec {
        AnySpec::Fake(_) => Ok(&Stateful),
        other => served(other),
    }
}

/// An API server that knows GeneratorStates only. `refuses`: takes no new ones. `denies`: what it does not allow.
#[derive(Clone, Default)]
struct Cluster {
    states: Arc<Mutex<BTreeMap<String, Value>>>,
    refuses: bool,
    denies: Option<Method>,
}

impl Cluster {
    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let (status, answer) = self.handle(&parts.method, &parts.uri, &serde_json::from_slice(&body).unwrap_or_default());
        let answer = Body::from(answer.to_string().into_bytes());
        Ok(Response::builder().status(status).header("content-type", "application/json").body(answer).unwrap())
    }

    fn handle(&self, method: &Method, uri: &http::Uri, body: &Value) -> (StatusCode, Value) {
        let base = "/apis/generators.external-secrets.io/v1alpha1/namespaces/ns/generatorstates";
        let name = uri.path().strip_prefix(base).unwrap_or_else(|| panic!("asked for {uri}")).trim_start_matches('/');
        let mut states = self.states.lock().unwrap();
        let failure = |code: StatusCode, reason: &str| {
            let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": "" });
            (code, status)
        };
        match *method {
            Method::POST if self.refuses => failure(StatusCode::FORBIDDEN, "Forbidden"),
            _ if self.denies.as_ref() == Some(method) => failure(StatusCode::FORBIDDEN, "Forbidden"),
            Method::POST
                if body["kind"] != "GeneratorState" || body["apiVersion"] != "generators.external-secrets.io/v1alpha1" =>
            {
                failure(StatusCode::BAD_REQUEST, "BadRequest")
            }
            Method::POST => {
                let name = format!("{}{}", body["metadata"]["generateName"].as_str().unwrap(), states.len());
                let mut object = body.clone();
                object["metadata"]["name"] = json!(name);
                object["metadata"]["uid"] = json!(name);
                object["metadata"]["resourceVersion"] = json!("1");
                states.insert(name, object.clone());
                (StatusCode::CREATED, object)
            }
            Method::GET => {
                let (key, value) = uri.query().unwrap().split_once("labelSelector=").unwrap().1.split_once("%3D").unwrap();
                let key = key.replace("%2F", "/");
                let value = value.split('&').next().unwrap();
                let items: Vec<&Value> = states.values().filter(|s| s["metadata"]["labels"][&key] == value).collect();
                (StatusCode::OK, json!({ "kind": "GeneratorStateList", "apiVersion": "v1", "metadata": {}, "items": items }))
            }
            Method::PATCH => {
                let Some(object) = states.get_mut(name) else { return failure(StatusCode::NOT_FOUND, "NotFound") };
                for (part, fields) in body.as_object().unwrap() {
                    for (field, value) in fields.as_object().unwrap() {
                        object[part][field] = value.clone();
                    }
                }
                (StatusCode::OK, object.clone())
            }
            Method::DELETE => match states.remove(name) {
                Some(object) => {
                    assert_eq!(object["metadata"]["finalizers"], json!([]), "a state goes after it was cleaned up");
                    (StatusCode::OK, object)
                }
                None => failure(StatusCode::NOT_FOUND, "NotFound"),
            },
            _ => panic!("{method} {uri}"),
        }
    }

    /// The states, as id of the token and whether there is a deadline.
    fn states(&self) -> Vec<(u64, bool)> {
        let states = self.states.lock().unwrap();
        let view =
            |s: &Value| (s["spec"]["state"]["id"].as_u64().unwrap(), s["spec"]["garbageCollectionDeadline"].is_string());
        states.values().map(view).collect()
    }
}

/// Maker and writer on a cluster.
struct Hands {
    maker: Maker,
    writer: Writer,
    states: States,
}

impl Hands {
    fn on(cluster: &Cluster) -> Self {
        let cluster = cluster.clone();
        let service = tower::service_fn(move |request| cluster.clone().answer(request));
        let client = kube::Client::new(service, "ns");
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let cx = with_client(client.clone(), &config).connect;
        let limit = Duration::from_secs(5);
        let maker = Maker::new(client.clone(), cx.cluster, cx.outbound, limit).serving(serve);
        let writer = Writer::new(client, Leadership::alone(), Digester::new(b"key"), 4, limit);
        Self { maker, writer, states: States::default() }
    }

    fn tools(&self) -> Tools<'_> {
        Tools { maker: &self.maker, writer: &self.writer, states: &self.states, grace: Duration::from_secs(120) }
    }

    async fn generate(&self, asker: &Asker<'_>, orders: &[Generate]) -> Generated {
        generate(self.tools(), asker, orders, |order| order.index.to_string(), None).await
    }
}

fn order(index: usize, name: &str, kind: GeneratorKind, spec: &Value) -> Generate {
    let object: GeneratorObject =
        serde_json::from_value(json!({ "metadata": { "name": name, "namespace": "ns", "uid": name }, "spec": spec }))
            .unwrap();
    let generator = Arc::new(AnyGenerator::read(kind, object));
    Generate { index, spec: generator.spec.clone().unwrap(), generator }
}

fn tokens(index: usize, name: &str) -> Generate {
    order(index, name, GeneratorKind::Fake, &json!({}))
}

fn meta() -> ObjectMeta {
    serde_json::from_value(json!({ "name": "es", "namespace": "ns", "uid": "uid" })).unwrap()
}

fn asker(meta: &ObjectMeta) -> Asker<'_> {
    Asker { api_version: "external-secrets.io/v1", kind: "ExternalSecret", meta, revision: "1-x" }
}

fn labels(entries: &[usize]) -> BTreeSet<String> {
    let label = |entry: &usize| crate::plan::object_hash::owner_key_label("ExternalSecret", "ns", "es", &entry.to_string());
    entries.iter().map(label).collect()
}

#[tokio::test]
async fn the_state_before_goes_out_of_use_when_the_value_is_in_use() {
    let (cluster, meta) = (Cluster::default(), meta());
    let (hands, asker) = (Hands::on(&cluster), asker(&meta));
    for round in 1..=3_u64 {
        let made = hands.generate(&asker, &[tokens(0, "commit")]).await;
        assert_eq!(made.made[&0].as_ref().unwrap().values["token"].expose(), format!("canary-{round}").as_bytes());
        let fresh = cluster.states().into_iter().find(|(id, _)| *id == round);
        assert_eq!(fresh, Some((round, false)), "noted before the value is used");
        made.end(Fate::Commit, hands.tools(), &asker).await;
    }
    assert_eq!(cluster.states(), [(1, true), (2, true), (3, false)]);
    assert_eq!(out_there("commit"), [1, 2, 3], "each holds until its deadline");
    let stored = serde_json::to_string(&*cluster.states.lock().unwrap()).unwrap();
    assert!(!stored.contains("canary"), "a state holds no secret: {stored}");
}

#[tokio::test]
async fn entries_do_not_touch_each_others_states() {
    let (cluster, meta) = (Cluster::default(), meta());
    let (hands, asker) = (Hands::on(&cluster), asker(&meta));
    for _ in 0..2 {
        let orders = [tokens(0, "entry-a"), tokens(3, "entry-b")];
        hands.generate(&asker, &orders).await.end(Fate::Commit, hands.tools(), &asker).await;
    }
    let mut deadlines: Vec<bool> = cluster.states().into_iter().map(|(_, deadline)| deadline).collect();
    deadlines.sort_unstable();
    assert_eq!(deadlines, [false, false, true, true]);
}

#[tokio::test]
async fn a_sync_that_fails_takes_back_what_it_made() {
    let (cluster, meta) = (Cluster::default(), meta());
    let (hands, asker) = (Hands::on(&cluster), asker(&meta));
    hands.generate(&asker, &[tokens(0, "back")]).await.end(Fate::Commit, hands.tools(), &asker).await;
    let made = hands.generate(&asker, &[tokens(0, "back")]).await;
    assert_eq!(out_there("back"), [1, 2]);
    made.end(Fate::RollBack, hands.tools(), &asker).await;
    assert_eq!(out_there("back"), [1]);
    assert_eq!(cluster.states(), [(1, false)], "the value in use keeps its state");
    let again = hands.generate(&asker, &[tokens(0, "back")]).await;
    assert_ne!(
        again.made[&0].as_ref().unwrap().values["token"].expose(),
        b"canary-1",
        "what was taken back is not used again"
    );
}

#[tokio::test]
async fn what_cannot_be_taken_back_at_once_expires_at_once() {
    let (cluster, meta) = (Cluster::default(), meta());
    let (hands, asker) = (Hands::on(&cluster), asker(&meta));
    hands.generate(&asker, &[tokens(0, "stuck")]).await.end(Fate::RollBack, hands.tools(), &asker).await;
    assert_eq!(cluster.states(), [(1, true)]);
    let states = cluster.states.lock().unwrap();
    let deadline: Timestamp =
        states.values().next().unwrap()["spec"]["garbageCollectionDeadline"].as_str().unwrap().parse().unwrap();
    assert!(deadline <= Timestamp::now());
}

#[tokio::test]
async fn what_cannot_be_noted_is_not_used() {
    let (cluster, meta) = (Cluster { refuses: true, ..Cluster::default() }, meta());
    let (hands, asker) = (Hands::on(&cluster), asker(&meta));
    let made = hands.generate(&asker, &[tokens(0, "unnoted"), order(1, "uuid", GeneratorKind::UUID, &json!({}))]).await;
    let error = made.made[&0].as_ref().unwrap_err();
    assert!(error.detail.starts_with("what was generated could not be noted and was taken back: "), "{error}");
    assert!(out_there("unnoted").is_empty());
    assert!(made.made[&1].is_ok(), "one bad entry stops no other");
}

#[tokio::test]
async fn a_lease_is_noted_and_says_when_its_value_is_replaced() {
    let (cluster, mut meta) = (Cluster::default(), meta());
    meta.annotations = Some([(crate::api::ANNOTATION_GRACE.to_owned(), "25m".to_owned())].into());
    let (hands, asker) = (Hands::on(&cluster), asker(&meta));
    let soon = |seconds: i64| Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    let made = hands.generate(&asker, &[tokens(0, "leased"), tokens(1, "lasting")]).await;
    // 25 of the 60 minutes are left for who uses the old one
    let at = made.replace_at.unwrap();
    assert!(at > soon(2090) && at <= soon(2100), "{at}");
    assert_eq!(hands.states.replace_at("uid", || labels(&[0, 1])), Some(at), "known before the watch tells");
    made.end(Fate::Commit, hands.tools(), &asker).await;
    let next = hands.generate(&asker, &[tokens(0, "leased"), tokens(1, "lasting")]).await;
    next.end(Fate::Commit, hands.tools(), &asker).await;
    assert!(hands.states.replace_at("uid", || labels(&[0, 1])) >= Some(at));
    assert_eq!(cluster.states().iter().filter(|(_, deadline)| *deadline).count(), 2, "those before go out of use");
    let states = cluster.states.lock().unwrap();
    let deadline = states.values().filter_map(|s| s["spec"]["garbageCollectionDeadline"].as_str()).next().unwrap();
    let deadline: Timestamp = deadline.parse().unwrap();
    assert!(deadline > soon(1490) && deadline <= soon(1500), "the annotation says how long the old one holds: {deadline}");
}

#[tokio::test]
async fn what_an_entry_that_was_moved_or_taken_out_had_goes_out_of_use() {
    let (cluster, meta) = (Cluster::default(), meta());
    let (hands, asker) = (Hands::on(&cluster), asker(&meta));
    hands.generate(&asker, &[tokens(0, "moved-leased")]).await.end(Fate::Commit, hands.tools(), &asker).await;
    let at = hands.states.replace_at("uid", || labels(&[0]));
    assert!(at.is_some());
    assert_eq!(
        hands.states.replace_at("uid", || labels(&[1])),
        None,
        "the lease of an entry that is gone calls for nothing"
    );
    let moved = hands.generate(&asker, &[tokens(1, "moved-leased")]).await;
    moved.end(Fate::Commit, hands.tools(), &asker).await;
    assert_eq!(cluster.states(), [(1, true), (2, false)], "its place is another, and the value with it");
    Generated::default().end(Fate::Commit, hands.tools(), &asker).await;
    assert_eq!(cluster.states(), [(1, true), (2, true)], "no entry generates any more");
}

#[tokio::test]
async fn nothing_is_taken_back_that_may_be_in_use() {
    let (cluster, meta) = (Cluster::default(), meta());
    let (hands, asker) = (Hands::on(&cluster), asker(&meta));
    hands.generate(&asker, &[tokens(0, "leave")]).await.end(Fate::Commit, hands.tools(), &asker).await;
    hands.generate(&asker, &[tokens(0, "leave")]).await.end(Fate::Leave, hands.tools(), &asker).await;
    assert_eq!((out_there("leave"), cluster.states()), (vec![1, 2], vec![(1, false), (2, false)]));
    let third = hands.generate(&asker, &[tokens(0, "leave")]).await;
    third.commit(hands.tools(), &asker, &["gen-externalsecret-es-1".to_owned()].into()).await;
    assert_eq!(cluster.states(), [(1, true), (2, false), (3, false)], "what a store still holds stays");
    hands.generate(&asker, &[tokens(0, "leave")]).await.end(Fate::Commit, hands.tools(), &asker).await;
    assert_eq!(cluster.states(), [(1, true), (2, true), (3, true), (4, false)]);
}

impl Cluster {
    /// The one state there is.
    fn only(&self) -> Value {
        self.states.lock().unwrap().values().next().unwrap().clone()
    }
}

/// As the watch tells of a state. Gives the name of the object that must know.
fn told(states: &States, state: &Value) -> Option<String> {
    let state = serde_json::from_value(state.clone()).unwrap();
    states.on_change(Change::Upsert(state)).map(|owner| owner.name)
}

/// Else it makes and takes back credentials as fast as the other side lets it: each state that it notes would wake it.
#[tokio::test(start_paused = true)]
async fn a_sync_that_fails_is_not_followed_by_itself() {
    let (cluster, meta) = (Cluster::default(), meta());
    let (hands, asker) = (Hands::on(&cluster), asker(&meta));
    let (queue, key) = (Queue::<Key>::default(), Key::of(&meta));
    let tell = |state: &Value| {
        if let Some(owner) = told(&hands.states, state) {
            queue.wake(Key::new("ns", &owner), Priority::Periodic);
        }
    };
    queue.wake(key.clone(), Priority::New);
    let (start, mut generations) = (tokio::time::Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(120) && generations < 100 {
        queue.next(Priority::Periodic).await;
        let made = hands.generate(&asker, &[tokens(0, "leased-and-back")]).await;
        generations += 1;
        let mut noted = cluster.only();
        tell(&noted);
        made.end(Fate::RollBack, hands.tools(), &asker).await;
        noted["metadata"]["finalizers"] = json!([]);
        noted["metadata"]["resourceVersion"] = json!("2");
        tell(&noted);
        hands.states.on_change(Change::Gone(Key::new("ns", noted["metadata"]["name"].as_str().unwrap())));
        queue.done(&key, Some((tokio::time::Instant::now() + Duration::from_secs(4), Priority::Changed)));
    }
    assert_eq!(generations, 31, "one every four seconds");
    assert!(out_there("leased-and-back").is_empty());
}

/// Else the one before, whose lease ends, has another value made at every look.
#[tokio::test]
async fn what_was_replaced_calls_for_nothing_though_nobody_can_note_it() {
    for (denied, name) in [(Method::PATCH, "leased-no-patch"), (Method::GET, "leased-no-list")] {
        let (cluster, meta) = (Cluster { denies: Some(denied), ..Cluster::default() }, meta());
        let (hands, asker) = (Hands::on(&cluster), asker(&meta));
        hands.states.listed(None);
        hands.generate(&asker, &[tokens(0, name)]).await.end(Fate::Commit, hands.tools(), &asker).await;
        let mut first = cluster.only();
        first["metadata"]["resourceVersion"] = json!("2");
        first["spec"]["state"]["lease"]["ends"] = json!("2020-01-01T00:00:00Z");
        told(&hands.states, &first);
        let replace_at = || hands.states.replace_at("uid", || labels(&[0]));
        assert!(replace_at().is_some_and(|at| at < Timestamp::now()), "{name}: its lease ends");
        let second = hands.generate(&asker, &[tokens(0, name)]).await;
        let at = second.replace_at;
        second.end(Fate::Commit, hands.tools(), &asker).await;
        assert!(at > Some(Timestamp::now()));
        assert_eq!(replace_at(), at, "{name}");
        first["metadata"]["resourceVersion"] = json!("3");
        assert_eq!(told(&hands.states, &first), None, "{name}: nor does what the watch says of it");
        assert_eq!(replace_at(), at, "{name}");
    }
}

#[tokio::test]
async fn what_was_taken_back_calls_for_nothing_though_no_watch_tells_of_it() {
    let (cluster, meta) = (Cluster::default(), meta());
    let (hands, asker) = (Hands::on(&cluster), asker(&meta));
    let made = hands.generate(&asker, &[tokens(0, "leased-unwatched")]).await;
    let noted = cluster.only();
    made.end(Fate::RollBack, hands.tools(), &asker).await;
    assert!(cluster.states().is_empty() && hands.states.of("uid").is_empty());
    assert_eq!(hands.states.replace_at("uid", || labels(&[0])), None);
    assert_eq!(told(&hands.states, &noted), None, "the watch lags behind");
    assert!(hands.states.of("uid").is_empty());
}

/// Else memory grows with each value, where states are not watched or may not be.
#[tokio::test]
async fn what_no_watch_would_tell_of_is_not_held_once_it_is_out_of_use() {
    let meta = meta();
    let asker = asker(&meta);
    for (name, listed, held) in
        [("unwatched", None, 1), ("elsewhere", Some(Some("other")), 1), ("watched", Some(Some("ns")), 3)]
    {
        let cluster = Cluster::default();
        let hands = Hands::on(&cluster);
        if let Some(namespace) = listed {
            hands.states.listed(namespace);
        }
        for _ in 0..3 {
            hands.generate(&asker, &[tokens(0, name)]).await.end(Fate::Commit, hands.tools(), &asker).await;
        }
        assert_eq!(cluster.states(), [(1, true), (2, true), (3, false)], "{name}");
        assert_eq!(hands.states.keys(None).len(), held, "{name}");
        hands.states.disown("uid");
        assert_eq!(hands.states.keys(None).len(), if held == 1 { 0 } else { 3 }, "{name}: its owner is gone");
    }
}

#[tokio::test]
async fn whoever_does_not_know_of_a_lease_is_told() {
    let (cluster, meta) = (Cluster::default(), meta());
    let (hands, asker) = (Hands::on(&cluster), asker(&meta));
    hands.generate(&asker, &[tokens(0, "leased-told")]).await.end(Fate::Leave, hands.tools(), &asker).await;
    let noted = cluster.only();
    let (restarted, early) = (States::default(), States::default());
    drop(restarted.noting("uid"));
    assert_eq!(told(&restarted, &noted).as_deref(), Some("es"), "after a restart");
    assert_eq!(told(&restarted, &noted), None, "once");
    let noting = early.noting("uid");
    assert_eq!(told(&early, &noted), None, "the watch was faster than the answer to its own sync");
    drop(noting);
    let mut lost = noted.clone();
    lost["metadata"]["resourceVersion"] = json!("2");
    lost["spec"]["state"]["lease"]["ends"] = json!("2020-01-01T00:00:00Z");
    assert_eq!(told(&early, &lost).as_deref(), Some("es"), "the lease is lost");
    assert_eq!(told(&early, &noted), None, "an older version says nothing");
}
