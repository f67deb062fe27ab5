//! The provider against a server on loopback: what is sent, and what becomes of each answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::testing::{Answer, KEY_ID, Request, SESSION_TOKEN, Server, VALUE, call_cx, outcome, query, store, want};
use super::*;
use crate::api::external_secret::MetadataPolicy;
use crate::providers::{Validation, Want};

const ARN: &str = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:";

fn ids(request: &Request) -> Vec<String> {
    let list = request.json()["SecretIdList"].clone();
    list.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

fn entry(name: &str) -> Value {
    json!({"Name": name, "ARN": format!("{ARN}{name}-AbCdEf"), "VersionId": "v1", "SecretString": format!("value of {name}")})
}

/// Answers single reads with the id's own value.
fn single(request: &Request) -> Answer {
    Answer::json(&entry(request.json()["SecretId"].as_str().unwrap()))
}

#[tokio::test]
async fn a_single_read_says_who_asks_and_what() {
    let server = Server::start(single).await;
    let session = server.connect(Aws { prefix: Some("prod/".into()), ..store() }).await.unwrap();
    let got = session.get(&[want("db")], &call_cx()).await.remove(0).unwrap();
    assert_eq!(got.bytes.expose(), b"value of prod/db");
    assert_eq!((got.version.as_deref(), got.request_id.as_deref()), (Some("v1"), Some("request-1")));
    let seen = server.seen().remove(0);
    assert_eq!(seen.action(), "GetSecretValue");
    assert_eq!(seen.json(), json!({"SecretId": "prod/db", "VersionStage": "AWSCURRENT"}));
    let agent = seen.header("user-agent");
    assert!(agent.contains("app/keyferry"), "{agent}");
    assert!(agent.ends_with(" keyferry-cause/ExternalSecret/team-a/app keyferry-call/c0ffee"), "{agent}");
    assert!(seen.header("authorization").contains(&format!("Credential={KEY_ID}/")));
}

#[tokio::test]
async fn versions_and_tags() {
    let server = Server::start(|request: &Request| match request.action().as_str() {
        "DescribeSecret" => {
            Answer::json(&json!({"Name": "db", "Tags": [{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "1"}]}))
        }
        _ => single(request),
    })
    .await;
    let wants = [
        Want { version: "AWSPREVIOUS".into(), ..want("a") },
        Want { version: "uuid/3a2b".into(), ..want("b") },
        Want { metadata: MetadataPolicy::Fetch, ..want("c") },
    ];
    let got = server.session().await.get(&wants, &call_cx()).await;
    let values: Vec<_> = got.iter().map(outcome).collect();
    assert_eq!(values, [Ok("value of a"), Ok("value of b"), Ok(r#"{"a":"1","b":"2"}"#)]);
    let mut sent: Vec<Value> = server.seen().iter().map(Request::json).collect();
    sent.sort_by_key(|v| v["SecretId"].to_string());
    assert_eq!(sent[0], json!({"SecretId": "a", "VersionStage": "AWSPREVIOUS"}));
    assert_eq!(sent[1], json!({"SecretId": "b", "VersionId": "3a2b"}));
    assert_eq!(sent[2], json!({"SecretId": "c"}));
}

#[tokio::test]
async fn a_batch_fails_item_by_item_and_what_it_leaves_out_is_asked_again() {
    const FOREIGN: &str = "arn:aws:secretsmanager:eu-west-1:444455556666:secret:theirs-AbCdEf";
    let server = Server::start(|request: &Request| match request.action().as_str() {
        "BatchGetSecretValue" => Answer::json(&json!({
            "SecretValues": [entry("a"), entry("b"), entry("c"), {"Name": "binary", "SecretBinary": "AAH/"}],
            "Errors": [
                {"SecretId": "gone", "ErrorCode": "ResourceNotFoundException", "Message": "no"},
                {"SecretId": "dying", "ErrorCode": "InvalidRequestException", "Message": "… because it was marked for deletion."},
                {"SecretId": FOREIGN, "ErrorCode": "ResourceNotFoundException", "Message": "no"},
                {"SecretId": "locked", "ErrorCode": "AccessDeniedException", "Message": format!("no {SESSION_TOKEN} {KEY_ID}")},
            ],
        })),
        _ if ["late", FOREIGN].contains(&request.json()["SecretId"].as_str().unwrap()) => single(request),
        _ => Answer::error(400, "ResourceNotFoundException"),
    })
    .await;
    let keys = ["a", &format!("{ARN}b-AbCdEf"), &format!("{ARN}c"), "gone", "dying", "locked", "late", "lost", "a", FOREIGN];
    let cx = call_cx();
    let mut got = server.session().await.get(&keys.map(want), &cx).await;
    let requests: Vec<_> = cx.requests.take().into_iter().map(|r| (r.name, r.failed)).collect();
    let noted = |failed: bool| ("GetSecretValue".into(), failed);
    assert_eq!(requests[0], ("BatchGetSecretValue".into(), false));
    assert_eq!(requests[1..].iter().filter(|r| **r == noted(false)).count(), 2);
    assert_eq!(requests[1..].iter().filter(|r| **r == noted(true)).count(), 1);
    let values: Vec<_> = got.iter().map(outcome).collect();
    let missing = Err(ErrorKind::NotFound);
    let all = [Ok("value of a"), Ok("value of b"), Ok("value of c"), missing, missing, Err(ErrorKind::Denied)];
    assert_eq!(values[..6], all);
    assert_eq!(values[6..9], [Ok("value of late"), missing, Ok("value of a")]);
    assert_eq!(values[9], Ok(format!("value of {FOREIGN}").as_str()), "another account's: the batch's word does not count");
    assert_eq!(got.remove(3).unwrap_err().detail, "Secret does not exist: \"gone\"");
    assert_eq!(server.actions(), ["BatchGetSecretValue", "GetSecretValue", "GetSecretValue", "GetSecretValue"]);
    assert_eq!(ids(&server.seen()[0]).len(), 9, "each id once");
}

#[tokio::test]
async fn an_answer_in_pages_is_read_to_its_end() {
    let server = Server::start(|request: &Request| match request.json()["NextToken"].as_str() {
        None => Answer::json(&json!({"SecretValues": [entry("a")], "NextToken": "2"})),
        Some(_) => Answer::json(&json!({"SecretValues": [entry("b")]})),
    })
    .await;
    let got = server.session().await.get(&[want("a"), want("b")], &call_cx()).await;
    assert_eq!(got.iter().map(outcome).collect::<Vec<_>>(), [Ok("value of a"), Ok("value of b")]);
    assert_eq!(server.actions().len(), 2);
}

#[tokio::test]
async fn a_denied_batch_is_found_out_once() {
    let server = Server::start(|request: &Request| match request.action().as_str() {
        "BatchGetSecretValue" => Answer::error(400, "AccessDeniedException"),
        _ => single(request),
    })
    .await;
    let session = server.session().await;
    for _ in 0..2 {
        let got = session.get(&[want("a"), want("b")], &call_cx()).await;
        assert_eq!(got.iter().map(outcome).collect::<Vec<_>>(), [Ok("value of a"), Ok("value of b")]);
    }
    let batches = server.actions().iter().filter(|a| *a == "BatchGetSecretValue").count();
    assert_eq!((batches, server.actions().len()), (1, 5));
}

/// The right was missing for a moment, or has been given since.
#[tokio::test]
async fn a_batch_that_was_denied_is_tried_again_after_a_while() {
    let allowed = Arc::new(AtomicBool::new(false));
    let switch = allowed.clone();
    let server = Server::start(move |request: &Request| match request.action().as_str() {
        "BatchGetSecretValue" if switch.load(Ordering::SeqCst) => {
            Answer::json(&json!({"SecretValues": [entry("a"), entry("b")]}))
        }
        "BatchGetSecretValue" => Answer::error(400, "AccessDeniedException"),
        _ => single(request),
    })
    .await;
    let session = server.session().await;
    let sent = async || {
        let before = server.actions().len();
        let got = session.get(&[want("a"), want("b")], &call_cx()).await;
        assert_eq!(got.iter().map(outcome).collect::<Vec<_>>(), [Ok("value of a"), Ok("value of b")]);
        server.actions().split_off(before)
    };
    let (batch, singles) = ("BatchGetSecretValue", ["GetSecretValue"; 2]);
    assert_eq!(sent().await, [&[batch][..], &singles].concat());
    allowed.store(true, Ordering::SeqCst);
    assert_eq!(sent().await, singles);
    tokio::time::pause();
    tokio::time::advance(batch::DENIED_HELD).await;
    tokio::time::resume();
    for _ in 0..2 {
        assert_eq!(sent().await, [batch]);
    }
}

/// As with moto under IAM, or a proxy: nothing says whose refusal it is.
#[tokio::test]
async fn a_batch_that_is_forbidden_without_a_code_is_read_singly() {
    for (denied, batches, calls) in [("", 1, 7), ("b", 2, 6)] {
        let forbids = move |request: &Request| denied.is_empty() || ids(request).iter().any(|id| id == denied);
        let server = Server::start(move |request: &Request| match request.action().as_str() {
            "BatchGetSecretValue" if forbids(request) => Answer::raw(403, "{}"),
            "BatchGetSecretValue" => Answer::json(&json!({"SecretValues": [entry("a"), entry("c")]})),
            _ if request.json()["SecretId"] == denied => Answer::raw(403, "{}"),
            _ => single(request),
        })
        .await;
        let session = server.session().await;
        let b = if denied.is_empty() { Ok("value of b") } else { Err(ErrorKind::Denied) };
        for _ in 0..2 {
            let got = session.get(&[want("a"), want("b"), want("c")], &call_cx()).await;
            assert_eq!(got.iter().map(outcome).collect::<Vec<_>>(), [Ok("value of a"), b, Ok("value of c")]);
        }
        let sent = server.actions();
        let asked = sent.iter().filter(|a| *a == "BatchGetSecretValue").count();
        assert_eq!((asked, sent.len()), (batches, calls), "{denied:?}: {sent:?}");
    }
}

#[tokio::test]
async fn a_bad_id_spoils_its_batch_only() {
    let server = Server::start(|request: &Request| match request.action().as_str() {
        "BatchGetSecretValue" if ids(request).iter().any(|id| id == "bad id") => Answer::error(400, "ValidationException"),
        "BatchGetSecretValue" => Answer::json(&json!({"SecretValues": [entry("a"), entry("b")]})),
        _ if request.json()["SecretId"] == "bad id" => Answer::error(400, "ValidationException"),
        _ => single(request),
    })
    .await;
    let session = server.session().await;
    let got = session.get(&[want("a"), want("bad id")], &call_cx()).await;
    assert_eq!(got.iter().map(outcome).collect::<Vec<_>>(), [Ok("value of a"), Err(ErrorKind::Misconfigured)]);
    session.get(&[want("a"), want("b")], &call_cx()).await;
    assert_eq!(server.actions().last().unwrap(), "BatchGetSecretValue");
}

#[tokio::test]
async fn a_throttled_batch_is_not_followed_by_single_reads() {
    let server = Server::start(|_: &Request| Answer::error(400, "ThrottlingException").with("retry-after", "7")).await;
    let session = server.session().await;
    let got = session.get(&[want("a"), want("b")], &call_cx()).await;
    assert_eq!(server.actions(), ["BatchGetSecretValue", "BatchGetSecretValue"], "as many tries as the store allows");
    let alone = session.get(&[want("a")], &call_cx()).await;
    for result in got {
        let error = result.unwrap_err();
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Throttled, Some(Duration::from_secs(7))));
        assert_eq!(Some(&error), alone[0].as_ref().err(), "told alike, however they were asked for");
    }
}

/// With what others a value is asked for changes from try to try; what its reader is told does not.
#[tokio::test]
async fn a_refused_login_is_told_alike_in_a_batch_and_alone() {
    for (service, action) in
        [(Service::SecretsManager, "secretsmanager:GetSecretValue"), (Service::ParameterStore, "ssm:GetParameter")]
    {
        for code in ["UnrecognizedClientException", "InvalidSignatureException"] {
            let server = Server::start(move |_: &Request| Answer::error(400, code)).await;
            let session = server.session_of(service).await;
            let together = session.get(&[want("a"), want("b")], &call_cx()).await;
            assert_eq!(server.actions().len(), 1, "what holds for all is asked once");
            for (key, told) in ["a", "b"].iter().zip(together) {
                let (told, alone) = (told.unwrap_err(), session.get(&[want(key)], &call_cx()).await.remove(0).unwrap_err());
                assert_eq!((told.kind, &told), (ErrorKind::Denied, &alone));
                assert!(told.detail.starts_with(&format!("{action} on {key:?}: {code}: ")), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn twenty_ids_go_into_a_batch() {
    let server = Server::start(|request: &Request| {
        Answer::json(&json!({"SecretValues": ids(request).iter().map(|id| entry(id)).collect::<Vec<_>>()}))
    })
    .await;
    let wants: Vec<Want> = (0..45).map(|n| want(&format!("key-{n:02}"))).collect();
    let got = server.session().await.get(&wants, &call_cx()).await;
    for (want, result) in wants.iter().zip(&got) {
        assert_eq!(outcome(result), Ok(format!("value of {}", want.key).as_str()));
    }
    assert_eq!(server.seen().iter().map(|r| ids(r).len()).collect::<Vec<_>>(), [20, 20, 5]);
}

#[tokio::test]
async fn every_answer_has_its_class() {
    use ErrorKind::{Denied, Malformed, Misconfigured, NotFound, Throttled, Unavailable};
    let waits = Some(Duration::from_secs(3));
    let cases = [
        (Answer::json(&json!({"SecretString": ""})), Ok(""), None),
        (Answer::json(&json!({"SecretString": "text", "SecretBinary": "AAH/"})), Ok("text"), None),
        (Answer::json(&json!({"SecretBinary": "Yg=="})), Ok("b"), None),
        (Answer::json(&json!({"Name": "x"})), Err(Malformed), None),
        (Answer::raw(200, VALUE), Err(Malformed), None),
        (Answer::raw(200, &format!("{{\"SecretString\": \"{VALUE}")), Err(Malformed), None),
        (Answer::raw(200, &format!("{{\"SecretString\": [\"{VALUE}\"]}}")), Err(Malformed), None),
        (Answer::error(400, "ResourceNotFoundException"), Err(NotFound), None),
        (Answer::error(400, "AccessDeniedException"), Err(Denied), None),
        (Answer::error(400, "UnrecognizedClientException"), Err(Denied), None),
        (Answer::error(403, "InvalidSignatureException"), Err(Denied), None),
        (Answer::error(400, "IncompleteSignatureException"), Err(Denied), None),
        (Answer::error(400, "ExpiredTokenException"), Err(Denied), None),
        (Answer::error(400, "DecryptionFailure"), Err(Misconfigured), None),
        (Answer::error(400, "InvalidParameterException"), Err(Misconfigured), None),
        (Answer::error(400, "SomethingNew"), Err(Misconfigured), None),
        (Answer::error(400, "LimitExceededException"), Err(Misconfigured), None),
        (Answer::error(400, "ThrottlingException").with("retry-after", "3"), Err(Throttled), waits),
        (Answer::error(400, "ThrottlingException").with("x-amz-retry-after", "3000"), Err(Throttled), waits),
        (Answer::raw(429, "slow down").with("retry-after", "3"), Err(Throttled), waits),
        (Answer::error(500, "InternalServiceError"), Err(Unavailable), None),
        (Answer::raw(503, "<html>canary-value</html>").with("retry-after", "3"), Err(Unavailable), waits),
        (Answer::raw(403, "<html>a proxy</html>"), Err(Denied), None),
        (Answer::raw(404, "no such page"), Err(Malformed), None),
    ];
    for (answer, want_outcome, retry_after) in cases {
        let text = format!("{answer:?}");
        let server = Server::start(move |_: &Request| answer.clone()).await;
        let result = server.session().await.get(&[want("prod/db")], &call_cx()).await.remove(0);
        assert_eq!(outcome(&result), want_outcome, "{text}");
        if let Err(error) = result {
            assert_eq!(error.retry_after, retry_after, "{text}");
            assert_eq!(error.detail.contains("prod/db"), !error.kind.is_store_wide(), "{error}");
        }
    }
}

#[tokio::test]
async fn binary_values_stay_as_they_are() {
    let server = Server::start(|_: &Request| Answer::json(&json!({"SecretBinary": "AAH/"}))).await;
    let got = server.session().await.get(&[want("a")], &call_cx()).await.remove(0).unwrap();
    assert_eq!(got.bytes.expose(), [0, 1, 255]);
}

#[tokio::test(start_paused = true)]
async fn a_hang_ends() {
    let server = Server::start(|_: &Request| Answer::raw(200, "").after(Duration::from_secs(3600))).await;
    let session = server.session().await;
    let start = tokio::time::Instant::now();
    let error = session.get(&[want("a")], &call_cx()).await.remove(0).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.detail.ends_with("AWS did not answer in time"), "{error}");
    assert!(start.elapsed() <= Duration::from_secs(31), "{:?}", start.elapsed());
}

#[tokio::test]
async fn nobody_there() {
    let server = Server::start(single).await;
    let mut cx = server.cx();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut env = (*cx.env).clone();
    env.insert("AWS_SECRETSMANAGER_ENDPOINT".into(), format!("http://{free}"));
    cx.env = Arc::new(env);
    let error = store().connect(&cx).await.unwrap().get(&[want("a")], &call_cx()).await.remove(0).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.detail.contains("no connection to AWS"), "{error}");
}

#[tokio::test]
async fn endpoints_of_the_environment() {
    let server = Server::start(single).await;
    let cases = [
        (vec![("AWS_SECRETSMANAGER_ENDPOINT", server.url()), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")], None),
        (vec![("AWS_ENDPOINT_URL_SECRETS_MANAGER", server.url()), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")], None),
        (vec![("AWS_ENDPOINT_URL", server.url()), ("AWS_SECRETSMANAGER_ENDPOINT", "")], None),
        (vec![("AWS_SECRETSMANAGER_ENDPOINT", "nonsense")], Some("AWS_SECRETSMANAGER_ENDPOINT")),
    ];
    for (pairs, problem) in cases {
        let mut cx = server.cx();
        let mut env = (*cx.env).clone();
        env.remove("AWS_SECRETSMANAGER_ENDPOINT");
        env.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        cx.env = Arc::new(env);
        match (store().connect(&cx).await, problem) {
            (Ok(session), None) => assert!(session.get(&[want("a")], &call_cx()).await[0].is_ok(), "{pairs:?}"),
            (Err(error), Some(name)) => assert!(error.detail.starts_with(name), "{error}"),
            (result, _) => panic!("{pairs:?}: {:?}", result.err()),
        }
    }
}

/// A server with secrets that have tags, in pages of two; `denied` may not be read.
async fn searchable(batch_allowed: bool) -> Server {
    let secrets = [
        ("team/b", "env", "prod"),
        ("team/a", "env", "prod"),
        ("other/c", "env", "production"),
        ("team/denied", "env", "test"),
    ];
    let listed = |(name, key, value): &(&str, &str, &str)| json!({"Name": name, "ARN": format!("{ARN}{name}-AbCdEf"), "Tags": [{"Key": key, "Value": value}, {"Key": "x", "Value": "env"}]});
    Server::start(move |request: &Request| match request.action().as_str() {
        "ListSecrets" if request.json()["NextToken"].is_null() => {
            Answer::json(&json!({"SecretList": secrets[..2].iter().map(listed).collect::<Vec<_>>(), "NextToken": "2"}))
        }
        "ListSecrets" => Answer::json(&json!({"SecretList": secrets[2..].iter().map(listed).collect::<Vec<_>>()})),
        "BatchGetSecretValue" if !batch_allowed => Answer::error(400, "AccessDeniedException"),
        "BatchGetSecretValue" => {
            let (denied, allowed): (Vec<_>, Vec<_>) = ids(request).into_iter().partition(|id| id.ends_with("denied"));
            let denied =
                denied.iter().map(|id| json!({"SecretId": id, "ErrorCode": "AccessDeniedException", "Message": ""}));
            Answer::json(&json!({
                "SecretValues": allowed.iter().map(|id| entry(id)).collect::<Vec<_>>(),
                "Errors": denied.collect::<Vec<_>>(),
            }))
        }
        _ if request.json()["SecretId"].as_str().unwrap().ends_with("denied") => Answer::error(400, "AccessDeniedException"),
        _ => single(request),
    })
    .await
}

#[tokio::test]
async fn find_by_name_path_and_tags() {
    let denied = Err(ErrorKind::Denied);
    let cases = [
        (query("", "^team/[ab]$", &[]), Ok(vec!["team/a", "team/b"])),
        (query("", "c", &[]), Ok(vec!["other/c"])),
        (query("", "team", &[]), denied),
        (query("team/", "", &[]), Ok(vec!["team/a", "team/b"])),
        (query("team/", "b", &[]), Ok(vec!["team/b"])),
        (query("team/denied", "", &[]), Err(ErrorKind::Denied)),
        (query("", "", &[("env", "prod")]), Ok(vec!["team/a", "team/b"])),
        (query("", "", &[("env", "env")]), Ok(vec![])),
        (query("", "b", &[("env", "prod"), ("x", "env")]), Ok(vec!["team/b"])),
        (query("", "", &[("x", "env")]), Ok(vec!["other/c", "team/a", "team/b"])),
        (query("", "team", &[("x", "env")]), Err(ErrorKind::Denied)),
        (query("team/", "team", &[("x", "env")]), Ok(vec!["team/a", "team/b"])),
        (query("", "", &[]), Err(ErrorKind::Denied)),
    ];
    for batch_allowed in [true, false] {
        for (query, want) in &cases {
            let server = searchable(batch_allowed).await;
            let session = server.connect(Aws { prefix: Some("ignored/".into()), ..store() }).await.unwrap();
            let found = session.find(query, &call_cx()).await;
            for f in found.iter().flatten() {
                assert_eq!(f.bytes.expose_str(), Some(format!("value of {}", f.name).as_str()));
            }
            let names = found.as_ref().map(|f| f.iter().map(|f| f.name.as_str()).collect()).map_err(|e| e.kind);
            assert_eq!(&names, want, "{query:?}, batch allowed: {batch_allowed}");
        }
    }
}

#[tokio::test]
async fn a_search_leaves_out_what_cannot_be_decrypted_and_nothing_that_can() {
    let path = query("team/", "", &[]);
    let cases = [
        (&path, "DecryptionFailure", Ok(vec!["team/a"])),
        (&path, "InternalServiceError", Err(ErrorKind::Unavailable)),
        (&query("team/b", "", &[]), "DecryptionFailure", Err(ErrorKind::Misconfigured)),
        (&query("", "team", &[]), "DecryptionFailure", Err(ErrorKind::Misconfigured)),
    ];
    for (query, code, want) in cases {
        let server = Server::start(move |request: &Request| match request.action().as_str() {
            "ListSecrets" => Answer::json(&json!({"SecretList": [{"Name": "team/a"}, {"Name": "team/b"}]})),
            "BatchGetSecretValue" => Answer::json(&json!({
                "SecretValues": [entry("team/a")],
                "Errors": [{"SecretId": "team/b", "ErrorCode": code, "Message": ""}],
            })),
            _ => Answer::error(400, code),
        })
        .await;
        let found = server.session().await.find(query, &call_cx()).await;
        let names = found.as_ref().map(|f| f.iter().map(|f| f.name.as_str()).collect()).map_err(|e| e.kind);
        assert_eq!(names, want, "{query:?}: {code}");
    }
}

#[tokio::test]
async fn a_search_is_narrowed_by_aws_where_it_can_be() {
    let server = Server::start(|_: &Request| Answer::json(&json!({"SecretList": []}))).await;
    let session = server.session().await;
    let tags: Vec<(String, String)> = (0..6).map(|n| (format!("k{n}"), "!v".to_owned())).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    session.find(&query("p/", "x", &[("k", "v")]), &call_cx()).await.unwrap();
    session.find(&query("", "", &tags), &call_cx()).await.unwrap();
    session.find(&query("", "x", &[]), &call_cx()).await.unwrap();
    let sent: Vec<Value> = server.seen().iter().map(|r| r.json()["Filters"].clone()).collect();
    let filter = |key: &str, value: &str| json!({"Key": key, "Values": [value]});
    assert_eq!(sent[0], json!([filter("name", "p/"), filter("tag-key", "k"), filter("tag-value", "v")]));
    assert_eq!(sent[1].as_array().unwrap().len(), 6, "a value with `!` in front would mean its opposite");
    assert_eq!(sent[2], Value::Null);
}

#[tokio::test]
async fn a_failed_search_finds_nothing_instead_of_less() {
    let server = Server::start(|request: &Request| match request.action().as_str() {
        "ListSecrets" => Answer::json(&json!({"SecretList": [{"Name": "a"}, {"Name": "b"}]})),
        _ => Answer::json(&json!({
            "SecretValues": [entry("a")],
            "Errors": [{"SecretId": "b", "ErrorCode": "InternalServiceError", "Message": ""}],
        })),
    })
    .await;
    let error = server.session().await.find(&query("", ".", &[]), &call_cx()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_check_of_an_access_key_asks_nobody() {
    let server = Server::start(single).await;
    assert_eq!(server.session().await.validate(&call_cx()).await, Ok(Validation::Ready));
    assert!(server.seen().is_empty());
}

/// Every field, with the names that manifests have.
fn manifest() -> Value {
    let selector = json!({"name": "key", "namespace": "auth", "key": "id"});
    json!({
        "service": "SecretsManager", "region": "eu-west-1", "role": "arn:r", "additionalRoles": ["arn:a"], "externalID": "e",
        "sessionTags": [{"key": "k", "value": "v"}], "transitiveTagKeys": ["k"], "sessionTagsPolicy": "Custom",
        "customSessionTags": {"c": "1"}, "prefix": "p/",
        "secretsManager": {"forceDeleteWithoutRecovery": false, "recoveryWindowInDays": 7},
        "auth": {
            "secretRef": {
                "accessKeyIDSecretRef": selector, "secretAccessKeySecretRef": selector, "sessionTokenSecretRef": selector,
            },
            "jwt": {"serviceAccountRef": {"name": "sa", "namespace": "auth", "audiences": ["x"]}},
        },
    })
}

#[test]
fn the_manifests_field_names_are_esos() {
    let aws: Aws = serde_json::from_value(manifest()).unwrap();
    assert_eq!(serde_json::to_value(&aws).unwrap(), manifest());
    let references: Vec<_> = aws.references().into_iter().map(|r| (r.kind, r.namespace.unwrap(), r.name)).collect();
    let key = (ReferenceKind::Secret, "auth".to_owned(), "key".to_owned());
    let account = (ReferenceKind::ServiceAccount, "auth".to_owned(), "sa".to_owned());
    assert_eq!(references, [account, key.clone(), key.clone(), key]);
    let schema = serde_json::to_value(schemars::schema_for!(Aws)).unwrap();
    assert_eq!(schema["required"], json!(["service", "region"]));
    let mut names: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    let manifest = manifest();
    let mut expected: Vec<&String> = manifest.as_object().unwrap().keys().collect();
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
    assert!(!schema.to_string().contains("\"default\""), "GitOps tools would see it as drift");
    let rules = &schema["properties"]["customSessionTags"]["x-kubernetes-validations"][0];
    assert!(rules["rule"].as_str().unwrap().contains("!('esoNamespace' in self)"), "{rules}");
}

#[test]
fn stores_that_cannot_work_are_refused() {
    use ErrorKind::Misconfigured;
    let cases = [
        (json!({}), Ok(())),
        (json!({"service": "ParameterStore"}), Ok(())),
        (json!({"service": "CertificateManager"}), Ok(())),
        (json!({"region": ""}), Err((Misconfigured, "spec.provider.aws.region"))),
        (json!({"region": "evil.example/"}), Err((Misconfigured, "spec.provider.aws.region"))),
        (json!({"secretsManager": {"recoveryWindowInDays": 0}}), Ok(())),
        (json!({"secretsManager": {"recoveryWindowInDays": 7}}), Ok(())),
        (json!({"secretsManager": {"recoveryWindowInDays": 6}}), Err((Misconfigured, "recoveryWindowInDays: 6"))),
        (json!({"secretsManager": {"recoveryWindowInDays": 31}}), Err((Misconfigured, "recoveryWindowInDays: 31"))),
        (
            json!({"secretsManager": {"recoveryWindowInDays": 7, "forceDeleteWithoutRecovery": true}}),
            Err((Misconfigured, "exclude each other")),
        ),
        (json!({"auth": {}}), Ok(())),
        (json!({"auth": {"jwt": {}}}), Err((Misconfigured, "auth.jwt.serviceAccountRef is missing"))),
        (json!({"auth": {"secretRef": {}}}), Err((Misconfigured, "accessKeyIDSecretRef is missing"))),
        (
            json!({"auth": {"secretRef": {"accessKeyIDSecretRef": {"name": "n"}}}}),
            Err((Misconfigured, "accessKeyIDSecretRef.key is missing")),
        ),
        (
            json!({"auth": {"secretRef": {"accessKeyIDSecretRef": {"name": "n", "key": "k"}}}}),
            Err((Misconfigured, "secretAccessKeySecretRef is missing")),
        ),
    ];
    for (patch, expected) in cases {
        let mut spec = json!({"service": "SecretsManager", "region": "eu-west-1"});
        spec.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
        let aws: Aws = serde_json::from_value(spec).unwrap();
        match (aws.validate(StoreKind::SecretStore), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err((kind, text))) => {
                assert_eq!(error.kind, kind, "{patch}");
                assert!(error.detail.contains(text), "{patch}: {error}");
            }
            (got, want) => panic!("{patch}: {got:?}, not {want:?}"),
        }
    }
}
