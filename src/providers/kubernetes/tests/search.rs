//! Searches: what is sent for them, and that they end.

use super::*;

async fn find(session: &dyn Session, query: &FindQuery) -> Result<Vec<(String, String)>, ProviderError> {
    let found = session.find(query, &CallCx::default()).await?;
    Ok(found.into_iter().map(|f| (f.name, f.bytes.expose_str().unwrap().to_owned())).collect())
}

fn by_name(name: &str) -> FindQuery {
    FindQuery { name: name.into(), ..FindQuery::default() }
}

/// A Secret with so many bytes, in base64.
fn large(bytes: usize) -> Json {
    json!({"data": {"k": "A".repeat(bytes)}, "metadata": {"labels": {"team": "a"}}})
}

fn paths(server: &ApiServer) -> Vec<String> {
    let prefix = format!("GET /api/v1/namespaces/{REMOTE}/secrets");
    server.calls_to("GET").into_iter().map(|(call, ..)| call.strip_prefix(&prefix).unwrap().to_owned()).collect()
}

/// Secrets of Helm's releases have hundreds of kilobytes each.
#[tokio::test]
async fn a_page_that_is_too_large_is_read_in_smaller_ones() {
    let mut server = ApiServer::new().with(REMOTE, "app-1", json!({"data": {"k": "dg=="}}));
    for n in 0..60 {
        server = server.with(REMOTE, &format!("sh.helm.release.v1.x.v{n}"), large(600 << 10));
    }
    let (config, server) = server.start().await;
    let session = session(&store(json!({})), &config).await;
    let expected = vec![("app-1".to_owned(), r#"{"k":"v"}"#.to_owned())];
    assert_eq!(find(session.as_ref(), &by_name("^app-")).await.unwrap(), expected);
    assert_eq!(paths(&server), [""; 7], "of 50, 8, 16, 32, 8, 16 and 32: two are too large");
}

/// One object must not take the memory of the process, whatever its namespace holds.
#[tokio::test]
async fn more_than_an_object_may_have_is_not_read() {
    let mut server = ApiServer::new();
    for n in 0..40 {
        server = server.with(REMOTE, &format!("app-{n}"), large(1 << 20));
    }
    let (config, server) = server.start().await;
    let session = session(&store(json!({})), &config).await;
    let by_tag = FindQuery { tags: [("team".to_owned(), "a".to_owned())].into(), ..FindQuery::default() };
    for query in [by_name("^app-"), by_tag] {
        let before = paths(&server).len();
        assert_eq!(find(session.as_ref(), &query).await.unwrap_err().kind, ErrorKind::Malformed);
        assert!(paths(&server).len() - before < 20, "it ends on the way");
    }
}

#[tokio::test]
async fn a_list_that_does_not_end_is_left() {
    let server = ApiServer { endless: true, ..ApiServer::new() }.with(REMOTE, "app", json!({})).with(REMOTE, "b", json!({}));
    let (config, server) = server.start().await;
    let session = session(&store(json!({})), &config).await;
    let error = find(session.as_ref(), &by_name("^app$")).await.unwrap_err();
    assert_eq!(
        (error.kind, error.detail.as_str()),
        (ErrorKind::Malformed, "the list of Secrets in team-b: it does not end")
    );
    assert_eq!(paths(&server).len(), 1000);
}

#[tokio::test]
async fn an_answer_has_a_bound() {
    let (config, _) = ApiServer::new().with(REMOTE, "s", large(5 << 20)).start().await;
    let session = session(&store(json!({})), &config).await;
    assert_eq!(get(session.as_ref(), "s").await.unwrap_err().kind, ErrorKind::Malformed);
}
