//! What every provider must do, against a Parameter Store on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use crate::providers::aws::Service;
use crate::providers::aws::conformance::{faulty, session};
use crate::providers::aws::testing::{Answer, Request};
use crate::providers::conformance::{Check, Fixture, Stored, Value, World};
use crate::providers::{ErrorKind, Session};

#[derive(Default)]
pub(in crate::providers::aws) struct ParameterStoreFixture {
    writes: Arc<AtomicUsize>,
}

#[async_trait]
impl Fixture for ParameterStoreFixture {
    fn provider(&self) -> &'static str {
        "Parameter Store"
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        vec![
            (Check::Binary, "it keeps text only"),
            (Check::Large, "it keeps 8 KiB at most"),
            (Check::PushWhole, "as in ESO, the values of a whole Secret are base64: push_tests.rs"),
        ]
    }

    /// The parameter is there.
    fn missing_version(&self) -> ErrorKind {
        ErrorKind::Misconfigured
    }

    fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    async fn connect(&self, world: World) -> Arc<dyn Session> {
        let (world, writes) = (Arc::new(Mutex::new(world)), self.writes.clone());
        let answers = move |request: &Request| answer(&mut world.lock().unwrap(), &writes, request);
        session(Service::ParameterStore, answers).await
    }
}

fn answer(world: &mut World, writes: &AtomicUsize, request: &Request) -> Answer {
    if let Some(fault) = &world.fault {
        return faulty(fault);
    }
    let asked = request.json();
    let text = |field: &str| asked[field].as_str().unwrap_or_default();
    match request.action().as_str() {
        "GetParameters" => batch(&world.secrets, &asked),
        "GetParameter" => match find(&world.secrets, text("Name")) {
            Some(stored) => Answer::json(&json!({"Parameter": entry(stored)})),
            None if text("Name").contains(':') => Answer::error(400, "ParameterVersionNotFound"),
            None => Answer::error(400, "ParameterNotFound"),
        },
        "GetParametersByPath" => {
            assert_eq!((text("Path"), &asked["Recursive"]), ("/", &json!(true)));
            page(&current(&world.secrets).map(entry).collect::<Vec<_>>(), &asked)
        }
        "DescribeParameters" => {
            let filters = asked["ParameterFilters"].as_array().unwrap();
            let has = |stored: &Stored| {
                filters.iter().all(|f| {
                    let key = f["Key"].as_str().unwrap().strip_prefix("tag:").unwrap();
                    stored.tags.get(key).is_some_and(|value| f["Values"] == json!([value]) && f["Option"] == "Equals")
                })
            };
            let names = current(&world.secrets).filter(|s| has(s)).map(|s| json!({"Name": s.key}));
            page(&names.collect::<Vec<_>>(), &asked)
        }
        "ListTagsForResource" => match find(&world.secrets, text("ResourceId")) {
            Some(stored) => {
                let tags = stored.tags.iter().map(|(k, v)| json!({"Key": k, "Value": v}));
                Answer::json(&json!({"TagList": tags.collect::<Vec<_>>()}))
            }
            None => Answer::error(400, "InvalidResourceId"),
        },
        action @ ("PutParameter" | "DeleteParameter") => {
            writes.fetch_add(1, Ordering::SeqCst);
            let key = text("Name").to_owned();
            let old = world.secrets.iter().position(|s| s.key == key).map(|at| world.secrets.remove(at));
            if action == "DeleteParameter" {
                return Answer::json(&json!({}));
            }
            assert_eq!(asked["Overwrite"], json!(old.is_some()), "tags go with a new one, and an old one is overwritten");
            assert!(old.is_none() || asked["Tags"].is_null());
            let mut tags = old.map(|old| old.tags).unwrap_or_default();
            for tag in asked["Tags"].as_array().into_iter().flatten() {
                tags.insert(tag["Key"].as_str().unwrap().to_owned(), tag["Value"].as_str().unwrap().to_owned());
            }
            let value = Value::Plain(text("Value").as_bytes().to_vec());
            world.secrets.push(Stored { key, value, version: None, tags });
            Answer::json(&json!({"Version": 1}))
        }
        other => panic!("{other} was not expected"),
    }
}

/// By the name, and by the version behind it.
fn find<'a>(secrets: &'a [Stored], name: &str) -> Option<&'a Stored> {
    let (key, version) = name.split_once(':').map_or((name, None), |(key, version)| (key, Some(version)));
    secrets.iter().find(|s| s.key == key && s.version == version)
}

fn current(secrets: &[Stored]) -> impl Iterator<Item = &Stored> {
    secrets.iter().filter(|s| s.version.is_none())
}

fn entry(stored: &Stored) -> Json {
    let value = match &stored.value {
        Value::Plain(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Value::Properties(pairs) => json!(pairs).to_string(),
    };
    json!({"Name": stored.key, "Type": "SecureString", "Value": value, "Version": 1})
}

/// In pages as long as asked for.
fn page(all: &[Json], asked: &Json) -> Answer {
    let start = asked["NextToken"].as_str().map_or(0, |t| t.parse::<usize>().unwrap());
    let length = usize::try_from(asked["MaxResults"].as_u64().unwrap()).unwrap();
    let mut body = json!({"Parameters": all.iter().skip(start).take(length).collect::<Vec<_>>()});
    if start + length < all.len() {
        body["NextToken"] = (start + length).to_string().into();
    }
    Answer::json(&body)
}

fn batch(secrets: &[Stored], asked: &Json) -> Answer {
    let names: Vec<&str> = asked["Names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.len() <= 10, "AWS takes 10");
    assert_eq!(asked["WithDecryption"], json!(true));
    Answer::json(&json!({
        "Parameters": names.iter().filter_map(|name| find(secrets, name)).map(entry).collect::<Vec<_>>(),
        "InvalidParameters": names.iter().filter(|name| find(secrets, name).is_none()).collect::<Vec<_>>(),
    }))
}
