//! Tokens of a ServiceAccount: when they are replaced, and what comes of those that are not taken, or not given.

use super::*;

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_token_is_replaced_before_it_expires() {
    let (config, server) = ApiServer::new().with(REMOTE, "s", json!({})).start().await;
    let session =
        session(&store(json!({"auth": {"serviceAccount": {"name": "reader", "audiences": ["x"]}}})), &config).await;
    let mut used = Vec::new();
    for minutes in [0, 47, 2, 46] {
        pass(Duration::from_secs(minutes * 60)).await;
        get(session.as_ref(), "s").await.unwrap();
        used.push(server.calls_to("secrets").pop().unwrap().1);
    }
    assert_eq!(used, ["token-1", "token-1", "token-2", "token-2"]);
}

#[tokio::test]
async fn a_shorter_life_than_asked_for_counts() {
    let (config, server) = ApiServer { token_life: 600, ..ApiServer::new() }.with(REMOTE, "s", json!({})).start().await;
    let session = session(&store(json!({"auth": {"serviceAccount": {"name": "reader"}}})), &config).await;
    pass(Duration::from_secs(481)).await;
    get(session.as_ref(), "s").await.unwrap();
    assert_eq!(server.calls_to("secrets").pop().unwrap().1, "token-2");
}

#[tokio::test]
async fn a_token_that_is_not_accepted_any_more_is_not_used_again() {
    let (config, server) = ApiServer::new().with(REMOTE, "s", json!({})).start().await;
    let session = session(&store(json!({"auth": {"serviceAccount": {"name": "reader"}}})), &config).await;
    *server.accepts.lock().unwrap() = Some("token-2".into());
    assert_eq!(get(session.as_ref(), "s").await.unwrap_err().kind, ErrorKind::Denied);
    get(session.as_ref(), "s").await.unwrap();
}

/// A session of a store that logs in as a ServiceAccount.
async fn by_account(config: &kube::Config) -> Arc<dyn Session> {
    session(&store(json!({"auth": {"serviceAccount": {"name": "reader"}}})), config).await
}

#[tokio::test]
async fn an_api_server_that_takes_no_token_is_not_asked_for_one_for_each_read() {
    let (config, server) = ApiServer::new().with(REMOTE, "s", json!({})).start().await;
    let session = by_account(&config).await;
    *server.accepts.lock().unwrap() = Some("none".into());
    for _ in 0..10 {
        assert_eq!(get(session.as_ref(), "s").await.unwrap_err().kind, ErrorKind::Denied);
    }
    assert_eq!(server.tokens.load(Ordering::SeqCst), 2, "that of the login, and the one in its place");
    // later it may have been the token alone
    pass(Duration::from_secs(6)).await;
    *server.accepts.lock().unwrap() = Some("token-3".into());
    assert_eq!(get(session.as_ref(), "s").await.unwrap_err().kind, ErrorKind::Denied);
    get(session.as_ref(), "s").await.unwrap();
}

#[tokio::test]
async fn a_token_that_holds_is_used_while_no_other_is_given() {
    let (config, server) = ApiServer::new().with(REMOTE, "s", json!({})).start().await;
    let session = by_account(&config).await;
    server.gives_none.store(true, Ordering::SeqCst);
    pass(Duration::from_secs(49 * 60)).await;
    get(session.as_ref(), "s").await.unwrap();
    assert_eq!(server.calls_to("secrets").pop().unwrap().1, "token-1");
    pass(Duration::from_secs(12 * 60)).await;
    assert_eq!(get(session.as_ref(), "s").await.unwrap_err().kind, ErrorKind::Unavailable, "it has ended");
    server.gives_none.store(false, Ordering::SeqCst);
    get(session.as_ref(), "s").await.unwrap();
}
