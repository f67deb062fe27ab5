//! Reads and searches against a Parameter Store on loopback: what is sent, and what becomes of each answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::external_secret::MetadataPolicy;
use crate::providers::aws::testing::{Answer, KEY_ID, Request, Server, VALUE, call_cx, outcome, query, store, want};
use crate::providers::aws::{Aws, Service};
use crate::providers::{ErrorKind, Provider as _, Session, Want};

const ARN: &str = "arn:aws:ssm:eu-west-1:444455556666:parameter";

fn parameters() -> Aws {
    Aws { service: Service::ParameterStore, ..store() }
}

async fn session(server: &Server) -> Arc<dyn Session> {
    server.session_of(Service::ParameterStore).await
}

fn entry(name: &str) -> Value {
    json!({"Name": name, "Type": "String", "Value": format!("value of {name}"), "Version": 4})
}

fn single(request: &Request) -> Answer {
    Answer::json(&json!({"Parameter": entry(request.json()["Name"].as_str().unwrap())}))
}

fn names(request: &Request) -> Vec<String> {
    request.json()["Names"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

/// A server that reads everything but names with `denied` in them; one of those spoils its batch, as IAM has it.
async fn guarded(batches: bool) -> Server {
    Server::start(move |request: &Request| match request.action().as_str() {
        "GetParameters" if !batches || names(request).iter().any(|n| n.contains("denied")) => {
            Answer::error(400, "AccessDeniedException")
        }
        "GetParameters" => {
            let (gone, there): (Vec<_>, Vec<_>) = names(request).into_iter().partition(|n| n.contains("gone"));
            let there: Vec<_> = there.iter().map(|n| entry(n)).collect();
            Answer::json(&json!({"Parameters": there, "InvalidParameters": gone}))
        }
        _ if request.json()["Name"].as_str().unwrap().contains("denied") => Answer::error(400, "AccessDeniedException"),
        _ if request.json()["Name"].as_str().unwrap().contains("gone") => Answer::error(400, "ParameterNotFound"),
        _ => single(request),
    })
    .await
}

#[tokio::test]
async fn a_single_read_says_who_asks_and_what() {
    let server = Server::start(single).await;
    let session = server.connect(Aws { prefix: Some("/prod/".into()), ..parameters() }).await.unwrap();
    let cx = call_cx();
    let got = session.get(&[want("db")], &cx).await.remove(0).unwrap();
    assert_eq!(got.bytes.expose(), b"value of /prod/db");
    assert_eq!((got.version.as_deref(), got.request_id.as_deref()), (Some("4"), Some("request-1")));
    let seen = server.seen().remove(0);
    assert_eq!(seen.header("x-amz-target"), "AmazonSSM.GetParameter");
    assert_eq!(seen.json(), json!({"Name": "/prod/db", "WithDecryption": true}));
    let agent = seen.header("user-agent");
    assert!(agent.contains("app/keyferry"), "{agent}");
    assert!(agent.ends_with(" keyferry-cause/ExternalSecret/team-a/app keyferry-call/c0ffee"), "{agent}");
    assert!(seen.header("authorization").contains(&format!("Credential={KEY_ID}/")));
    assert!(seen.header("authorization").contains("/eu-west-1/ssm/aws4_request"));
    let noted: Vec<_> = cx.requests.take().into_iter().map(|r| (r.name, r.failed)).collect();
    assert_eq!(noted, [("GetParameter".into(), false)]);
    assert_eq!(parameters().metric_name(), "AWS/ParameterStore");
}

#[tokio::test]
async fn versions_labels_and_tags() {
    let server = Server::start(|request: &Request| match request.action().as_str() {
        "ListTagsForResource" => Answer::json(&json!({"TagList": [{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "1"}]})),
        _ => single(request),
    })
    .await;
    let session = server.connect(Aws { prefix: Some("/p/".into()), ..parameters() }).await.unwrap();
    let wants = [
        Want { version: "3".into(), ..want("a") },
        Want { version: "stable".into(), ..want("b") },
        Want { metadata: MetadataPolicy::Fetch, version: "3".into(), ..want("c") },
    ];
    let got = session.get(&wants, &call_cx()).await;
    let values: Vec<_> = got.iter().map(outcome).collect();
    assert_eq!(values, [Ok("value of /p/a:3"), Ok("value of /p/b:stable"), Ok(r#"{"a":"1","b":"2"}"#)]);
    assert_eq!(server.sent("ListTagsForResource"), json!({"ResourceType": "Parameter", "ResourceId": "/p/c"}));
}

#[tokio::test]
async fn ten_names_go_into_a_batch() {
    let server = guarded(true).await;
    let mut wants: Vec<Want> = (0..24).map(|n| want(&format!("/key-{n:02}"))).collect();
    wants.push(want("/gone"));
    wants.push(want("/key-03"));
    let got = session(&server).await.get(&wants, &call_cx()).await;
    for (want, result) in wants.iter().zip(&got) {
        let expected = format!("value of {}", want.key);
        let expected = if want.key == "/gone" { Err(ErrorKind::NotFound) } else { Ok(expected.as_str()) };
        assert_eq!(outcome(result), expected);
    }
    assert_eq!(got[24].as_ref().unwrap_err().detail, "Secret does not exist: \"/gone\"");
    let seen = server.seen();
    let (batches, singly) = seen.split_at(3);
    assert_eq!(batches.iter().map(|r| names(r).len()).collect::<Vec<_>>(), [10, 10, 5], "each name once");
    let singly: Vec<_> = singly.iter().map(|r| (r.action(), r.json()["Name"].clone())).collect();
    assert_eq!(singly, [("GetParameter".to_owned(), json!("/gone"))], "a batch does not say why it has none");
}

#[tokio::test]
async fn a_parameter_that_is_shared_is_known_by_its_arn() {
    let server = Server::start(|_: &Request| {
        Answer::json(&json!({"Parameters": [
            {"Name": format!("{ARN}/theirs"), "ARN": format!("{ARN}/theirs"), "Value": "1"},
            {"Name": "/ours", "ARN": format!("{ARN}/ours"), "Value": "2"},
        ]}))
    })
    .await;
    let wants = [want(&format!("{ARN}/ours")), want(&format!("{ARN}/theirs"))];
    let got = session(&server).await.get(&wants, &call_cx()).await;
    assert_eq!(got.iter().map(outcome).collect::<Vec<_>>(), [Ok("2"), Ok("1")]);
    assert_eq!(server.actions().len(), 1);
}

/// AWS's answer tells a version or label from the current value by its selector alone.
#[tokio::test]
async fn a_version_behind_the_key_is_not_taken_for_the_current_value() {
    let server = Server::start(|_: &Request| {
        let of = |name: &str, value: &str| json!({"Name": name, "ARN": format!("{ARN}{name}"), "Value": value});
        let at = |name: &str, selector: &str, value: &str| {
            let mut parameter = of(name, value);
            parameter["Selector"] = selector.into();
            parameter
        };
        let (a, b) = (of("/a", "new"), of("/b", "new b"));
        let all = [a, at("/a", ":1", "old"), at("/a", ":stable", "labelled"), at("/b", ":1", "old b"), b];
        Answer::json(&json!({"Parameters": all}))
    })
    .await;
    let wants = [want("/a"), want("/a:1"), want("/a:stable"), want(&format!("{ARN}/b")), want(&format!("{ARN}/b:1"))];
    let got = session(&server).await.get(&wants, &call_cx()).await;
    let values: Vec<_> = got.iter().map(outcome).collect();
    assert_eq!(values, [Ok("new"), Ok("old"), Ok("labelled"), Ok("new b"), Ok("old b")]);
    assert_eq!(server.actions(), ["GetParameters"]);
}

/// A batch says of all three kinds that they are invalid.
#[tokio::test]
async fn only_a_parameter_that_is_not_there_is_missing() {
    let server = Server::start(|request: &Request| match request.json()["Name"].as_str() {
        None => Answer::json(&json!({"Parameters": [entry("/a")], "InvalidParameters": ["/a:9", "bad name", "/gone"]})),
        Some("/a:9") => Answer::error(400, "ParameterVersionNotFound"),
        Some("bad name") => Answer::error(400, "ValidationException"),
        Some(_) => Answer::error(400, "ParameterNotFound"),
    })
    .await;
    let wants = [want("/a"), want("/a:9"), want("bad name"), want("/gone")];
    let got = session(&server).await.get(&wants, &call_cx()).await;
    let wrong = Err(ErrorKind::Misconfigured);
    let values: Vec<_> = got.iter().map(outcome).collect();
    assert_eq!(values, [Ok("value of /a"), wrong, wrong, Err(ErrorKind::NotFound)]);
    assert_eq!(
        got[1].as_ref().unwrap_err().detail,
        "ssm:GetParameter on \"/a:9\": ParameterVersionNotFound: the parameter has no such version or label"
    );
}

#[tokio::test]
async fn what_a_batch_leaves_out_is_asked_again() {
    let server = Server::start(|request: &Request| match request.action().as_str() {
        "GetParameters" => Answer::json(&json!({"Parameters": [entry("a")]})),
        _ => single(request),
    })
    .await;
    let got = session(&server).await.get(&[want("a"), want("late")], &call_cx()).await;
    assert_eq!(got.iter().map(outcome).collect::<Vec<_>>(), [Ok("value of a"), Ok("value of late")]);
    assert_eq!(server.actions(), ["GetParameters", "GetParameter"]);
}

/// IAM refuses a batch as a whole where one of its names is denied: that one is read alone from then on.
#[tokio::test]
async fn a_denied_name_spoils_one_batch() {
    let server = guarded(true).await;
    let session = session(&server).await;
    for round in 0..3 {
        let got = session.get(&[want("a"), want("denied"), want("b")], &call_cx()).await;
        let values: Vec<_> = got.iter().map(outcome).collect();
        assert_eq!(values, [Ok("value of a"), Err(ErrorKind::Denied), Ok("value of b")], "round {round}");
    }
    let first = ["GetParameters", "GetParameter", "GetParameter", "GetParameter"];
    let later = ["GetParameters", "GetParameter"];
    assert_eq!(server.actions(), [&first[..], &later, &later].concat());
    assert_eq!(names(&server.seen()[4]), ["a", "b"]);
}

#[tokio::test]
async fn a_name_that_is_allowed_again_goes_back_into_batches() {
    let allowed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let switch = allowed.clone();
    let server = Server::start(move |request: &Request| {
        let denied = request.body.contains("\"b\"") && !switch.load(std::sync::atomic::Ordering::SeqCst);
        match request.action().as_str() {
            _ if denied => Answer::error(400, "AccessDeniedException"),
            "GetParameters" => {
                Answer::json(&json!({"Parameters": names(request).iter().map(|n| entry(n)).collect::<Vec<_>>()}))
            }
            _ => single(request),
        }
    })
    .await;
    let session = session(&server).await;
    session.get(&[want("a"), want("b")], &call_cx()).await;
    allowed.store(true, std::sync::atomic::Ordering::SeqCst);
    session.get(&[want("a"), want("b")], &call_cx()).await;
    let before = server.actions().len();
    session.get(&[want("a"), want("b")], &call_cx()).await;
    assert_eq!(server.actions()[before..], ["GetParameters"]);
}

#[tokio::test]
async fn a_denied_action_is_found_out_once() {
    let server = guarded(false).await;
    let session = session(&server).await;
    for _ in 0..2 {
        let got = session.get(&[want("a"), want("gone"), want("b")], &call_cx()).await;
        let values: Vec<_> = got.iter().map(outcome).collect();
        assert_eq!(values, [Ok("value of a"), Err(ErrorKind::NotFound), Ok("value of b")]);
    }
    let batches = server.actions().iter().filter(|a| *a == "GetParameters").count();
    assert_eq!((batches, server.actions().len()), (1, 7));
}

#[tokio::test]
async fn a_throttled_batch_is_not_followed_by_single_reads() {
    let server = Server::start(|_: &Request| Answer::error(400, "ThrottlingException").with("retry-after", "7")).await;
    for result in session(&server).await.get(&[want("a"), want("b")], &call_cx()).await {
        assert_eq!(outcome(&result), Err(ErrorKind::Throttled));
        assert_eq!(result.unwrap_err().retry_after, Some(Duration::from_secs(7)));
    }
    assert_eq!(server.actions(), ["GetParameters", "GetParameters"], "as many tries as the store allows");
}

#[tokio::test]
async fn every_answer_has_its_class() {
    use ErrorKind::{Denied, Malformed, Misconfigured, NotFound, Throttled, Unavailable};
    let waits = Some(Duration::from_secs(3));
    let cases = [
        (Answer::json(&json!({"Parameter": {"Value": ""}})), Ok(""), None),
        (Answer::json(&json!({"Parameter": {"Name": "x"}})), Err(Malformed), None),
        (Answer::json(&json!({})), Err(Malformed), None),
        (Answer::raw(200, &format!("{{\"Parameter\": \"{VALUE}")), Err(Malformed), None),
        (Answer::error(400, "ParameterNotFound"), Err(NotFound), None),
        (Answer::error(400, "ParameterVersionNotFound"), Err(Misconfigured), None),
        (Answer::error(400, "LimitExceededException"), Err(Misconfigured), None),
        (Answer::error(400, "AccessDeniedException"), Err(Denied), None),
        (Answer::error(400, "InvalidKeyId"), Err(Misconfigured), None),
        (Answer::error(400, "ValidationException"), Err(Misconfigured), None),
        (Answer::error(400, "ThrottlingException").with("retry-after", "3"), Err(Throttled), waits),
        (Answer::error(400, "TooManyUpdates"), Err(ErrorKind::Conflict), None),
        (Answer::error(500, "InternalServerError"), Err(Unavailable), None),
        (Answer::raw(503, "<html>canary-value</html>").with("retry-after", "3"), Err(Unavailable), waits),
    ];
    for (answer, want_outcome, retry_after) in cases {
        let text = format!("{answer:?}");
        let server = Server::start(move |_: &Request| answer.clone()).await;
        let result = session(&server).await.get(&[want("prod/db")], &call_cx()).await.remove(0);
        assert_eq!(outcome(&result), want_outcome, "{text}");
        if let Err(error) = result {
            assert_eq!(error.retry_after, retry_after, "{text}");
            assert_eq!(error.detail.contains("prod/db"), !error.kind.is_store_wide(), "{error}");
        }
    }
    let server = Server::start(|_: &Request| Answer::error(400, "InvalidResourceId")).await;
    let tags = Want { metadata: MetadataPolicy::Fetch, ..want("gone") };
    assert_eq!(outcome(&session(&server).await.get(&[tags], &call_cx()).await.remove(0)), Err(NotFound));
}

/// A server that holds three parameters in pages of two; `by_path`: whether it may be asked for paths.
async fn searchable(by_path: bool) -> Server {
    const ALL: [&str; 3] = ["/team/a", "/team/b/c", "/team/z"];
    let page = |request: &Request, all: Vec<Value>| match request.json()["NextToken"].as_str() {
        None => Answer::json(&json!({"Parameters": all[..2], "NextToken": "2"})),
        Some(_) => Answer::json(&json!({"Parameters": all[2..]})),
    };
    Server::start(move |request: &Request| match request.action().as_str() {
        "GetParametersByPath" if !by_path => Answer::error(400, "AccessDeniedException"),
        "GetParametersByPath" => page(request, ALL.iter().rev().map(|n| entry(n)).collect()),
        "DescribeParameters" => page(request, ALL.iter().rev().map(|n| json!({"Name": n})).collect()),
        "GetParameters" => Answer::json(&json!({"Parameters": names(request).iter().map(|n| entry(n)).collect::<Vec<_>>()})),
        _ => single(request),
    })
    .await
}

#[tokio::test]
async fn find_by_name_path_and_tags() {
    let cases = [
        (query("", "^/team/.$", &[]), vec!["/team/a", "/team/z"]),
        (query("/team", "b", &[]), vec!["/team/b/c"]),
        (query("/team", "", &[]), vec!["/team/a", "/team/b/c", "/team/z"]),
        (query("", "", &[("env", "prod")]), vec!["/team/a", "/team/b/c", "/team/z"]),
        (query("", "", &[]), vec!["/team/a", "/team/b/c", "/team/z"]),
    ];
    for by_path in [true, false] {
        for (query, want) in &cases {
            let server = searchable(by_path).await;
            let session = server.connect(Aws { prefix: Some("ignored/".into()), ..parameters() }).await.unwrap();
            let found = session.find(query, &call_cx()).await.unwrap();
            for f in &found {
                assert_eq!(f.bytes.expose_str(), Some(format!("value of {}", f.name).as_str()));
            }
            assert_eq!(&found.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), want, "{query:?}, by path: {by_path}");
        }
    }
}

#[tokio::test]
async fn a_search_asks_aws_for_what_it_can_narrow_down() {
    let server = searchable(true).await;
    let session_ = session(&server).await;
    session_.find(&query("/team", "a", &[("env", "prod")]), &call_cx()).await.unwrap();
    assert_eq!(server.actions(), ["GetParametersByPath", "GetParametersByPath"], "a name goes before tags, as in ESO");
    assert_eq!(
        server.sent("GetParametersByPath"),
        json!({"Path": "/team", "Recursive": true, "WithDecryption": true, "MaxResults": 10})
    );
    session_.find(&query("/team", "", &[("a", "1"), ("b", "2")]), &call_cx()).await.unwrap();
    let filter = |key: &str, option: &str, value: &str| json!({"Key": key, "Option": option, "Values": [value]});
    assert_eq!(
        server.sent("DescribeParameters")["ParameterFilters"],
        json!([filter("tag:a", "Equals", "1"), filter("tag:b", "Equals", "2"), filter("Path", "Recursive", "/team")])
    );
    let server = searchable(false).await;
    session(&server).await.find(&query("", "a", &[]), &call_cx()).await.unwrap();
    assert_eq!(server.sent("DescribeParameters")["ParameterFilters"], json!([filter("Path", "Recursive", "/")]));
    assert_eq!(server.actions(), ["GetParametersByPath", "DescribeParameters", "DescribeParameters", "GetParameters"]);
}

#[tokio::test]
async fn a_search_that_may_not_read_is_an_error() {
    for query in [query("", "a", &[]), query("", "", &[("env", "prod")])] {
        let server = Server::start(|request: &Request| match request.action().as_str() {
            "DescribeParameters" => Answer::json(&json!({"Parameters": [{"Name": "/a"}]})),
            _ => Answer::error(400, "AccessDeniedException"),
        })
        .await;
        let error = session(&server).await.find(&query, &call_cx()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied);
    }
}

/// As in ESO: what it had found until then stays. Of a Secret with less keys nobody could say which are missing.
#[tokio::test]
async fn a_search_that_may_not_read_all_of_it_is_an_error() {
    for query in [query("/team", "", &[]), query("", "", &[("env", "prod")]), query("/team", "", &[("env", "prod")])] {
        let server = Server::start(|request: &Request| match request.action().as_str() {
            "DescribeParameters" => Answer::json(&json!({"Parameters": [{"Name": "/team/a"}, {"Name": "/team/denied"}]})),
            "GetParameter" if request.json()["Name"] == "/team/a" => single(request),
            _ => Answer::error(400, "AccessDeniedException"),
        })
        .await;
        let error = session(&server).await.find(&query, &call_cx()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied, "{query:?}");
        assert!(error.detail.contains("/team/denied"), "{error}");
    }
}

#[tokio::test]
async fn endpoints_of_the_environment() {
    let server = Server::start(single).await;
    for (pairs, problem) in [
        (vec![("AWS_SSM_ENDPOINT", server.url()), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")], None),
        (vec![("AWS_ENDPOINT_URL_SSM", server.url()), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")], None),
        (vec![("AWS_SSM_ENDPOINT", "nonsense")], Some("AWS_SSM_ENDPOINT")),
    ] {
        let mut cx = server.cx();
        let mut env = (*cx.env).clone();
        env.remove("AWS_SSM_ENDPOINT");
        env.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        cx.env = Arc::new(env);
        match (parameters().connect(&cx).await, problem) {
            (Ok(session), None) => assert!(session.get(&[want("a")], &call_cx()).await[0].is_ok(), "{pairs:?}"),
            (Err(error), Some(name)) => assert!(error.detail.starts_with(name), "{error}"),
            (result, _) => panic!("{pairs:?}: {:?}", result.err()),
        }
    }
}
