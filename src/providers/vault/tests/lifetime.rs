//! How long a login lasts: renewed, replaced, and given back.

use keyferry_fakes::vault::Vault as Server;
use tokio::time::{advance, pause, resume, sleep};

use super::*;

/// A server with one secret, and a session that is logged in to it by AppRole.
async fn logged_in(change: impl FnOnce(&mut keyferry_fakes::vault::State)) -> (Service<Server>, Arc<dyn Session>) {
    let server = Service::start(Server::new(2, MOUNT)).await;
    server.fake.put("a", json!({"v": "1"}), &BTreeMap::new());
    server.fake.with(change);
    let session = connect(server.url(), json!({"auth": app_role()})).await;
    (server, session)
}

/// So many seconds pass at once, and what is due then has a moment of the real clock.
async fn pass(seconds: u64) {
    pause();
    advance(Duration::from_secs(seconds)).await;
    resume();
    sleep(Duration::from_millis(40)).await;
}

/// How often a path was asked for.
fn asked(server: &Service<Server>, path: &str) -> usize {
    server.server.lines().iter().filter(|line| line.ends_with(path)).count()
}

async fn reads_well(session: &dyn Session) {
    assert_eq!(text(&get(session, &want("a")).await.unwrap().bytes), r#"{"v":"1"}"#);
}

#[tokio::test]
async fn all_reads_share_one_login() {
    let (server, session) = logged_in(|_| ()).await;
    let reads = futures::future::join_all((0..20).map(|_| async { reads_well(session.as_ref()).await }));
    reads.await;
    pass(60).await;
    reads_well(session.as_ref()).await;
    assert_eq!((server.fake.with(|state| state.logins), asked(&server, "auth/approle/login")), (1, 1));
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_whether_it_is_used_or_not() {
    let (server, session) = logged_in(|state| state.ttl = 60).await;
    pass(30).await;
    assert_eq!(asked(&server, "auth/token/renew-self"), 0);
    for renewals in 1..5 {
        pass(if renewals == 1 { 11 } else { 41 }).await;
        assert_eq!(asked(&server, "auth/token/renew-self"), renewals);
    }
    reads_well(session.as_ref()).await;
    assert_eq!(server.fake.with(|state| state.logins), 1);
}

#[tokio::test]
async fn near_the_end_that_no_renewal_moves_there_is_another_login() {
    let (server, session) = logged_in(|state| state.ttl = 60).await;
    server.fake.with(|state| state.ttl = 30);
    pass(41).await;
    assert_eq!((asked(&server, "renew-self"), server.fake.with(|state| state.logins)), (1, 1));
    server.fake.with(|state| state.ttl = 60);
    pass(21).await;
    assert_eq!((asked(&server, "renew-self"), server.fake.with(|state| state.logins)), (1, 2), "20 of the last 30 s");
    assert_eq!(asked(&server, "revoke-self"), 0, "requests under way still use the old one");
    reads_well(session.as_ref()).await;
}

#[tokio::test]
async fn what_cannot_be_renewed_is_replaced() {
    let (server, session) = logged_in(|state| (state.ttl, state.renewable) = (300, false)).await;
    pass(230).await;
    assert_eq!(server.fake.with(|state| state.logins), 1);
    pass(11).await;
    assert_eq!((server.fake.with(|state| state.logins), asked(&server, "renew-self")), (2, 0));
    let (refusing, other) = logged_in(|state| (state.ttl, state.refuses_renewal) = (60, true)).await;
    pass(41).await;
    assert_eq!((refusing.fake.with(|state| state.logins), asked(&refusing, "renew-self")), (2, 1));
    reads_well(session.as_ref()).await;
    reads_well(other.as_ref()).await;
}

#[tokio::test]
async fn a_server_that_is_away_costs_no_login() {
    let (server, session) = logged_in(|state| state.ttl = 600).await;
    server.fake.with(|state| state.sealed = true);
    pass(401).await;
    sleep(Duration::from_millis(2500)).await;
    server.fake.with(|state| state.sealed = false);
    pass(6).await;
    assert!(asked(&server, "renew-self") >= 2);
    reads_well(session.as_ref()).await;
    assert_eq!(server.fake.with(|state| state.logins), 1);
}

/// A renewal that the server fails is tried again, and takes long: it is in nobody's way.
#[tokio::test]
async fn reads_do_not_wait_for_a_renewal_while_the_token_holds() {
    let fake = Arc::new(Server::new(2, MOUNT));
    fake.put("a", json!({"v": "1"}), &BTreeMap::new());
    fake.with(|state| state.ttl = 600);
    let inner = fake.clone();
    let server = FakeServer::start(move |asked| match asked.line.ends_with("renew-self") {
        true => Reply::text(503, ""),
        false => keyferry_fakes::Fake::answer(inner.as_ref(), asked),
    })
    .await;
    let mut cx = keys().cx(&outbound()).connect;
    cx.retry = Some(RetrySettings { max_retries: Some(3), retry_interval: Some("20s".into()) });
    let session = store(&server.url, json!({"auth": app_role()})).connect(&cx).await.unwrap();
    let renewals = || server.lines().iter().filter(|line| line.ends_with("renew-self")).count();
    pass(401).await;
    assert_eq!(renewals(), 1);
    let reads = futures::future::join_all((0..5).map(|_| reads_well(session.as_ref())));
    tokio::time::timeout(Duration::from_secs(10), reads).await.expect("the token still holds");
    assert_eq!(renewals(), 1, "one looks after it");
    pass(21).await;
    assert_eq!(renewals(), 2);
    pass(6).await;
    assert_eq!(renewals(), 3, "that one failed, and another is begun");
    reads_well(session.as_ref()).await;
    assert_eq!(fake.with(|state| state.logins), 1);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once() {
    for terse in [false, true] {
        let (server, session) = logged_in(|state| state.terse = terse).await;
        let revoke = || server.fake.with(|state| state.tokens.clear());
        revoke();
        let reads = futures::future::join_all((0..8).map(|_| async { reads_well(session.as_ref()).await }));
        reads.await;
        assert_eq!(server.fake.with(|state| state.logins), 2, "eight reads, one login (terse: {terse})");
        revoke();
        let error = get(session.as_ref(), &want("a")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied, "what was replaced a moment ago is not replaced again");
        assert_eq!(server.fake.with(|state| state.logins), 2);
        pass(31).await;
        reads_well(session.as_ref()).await;
        assert_eq!(server.fake.with(|state| state.logins), 3);
    }
}

#[tokio::test]
async fn what_the_policies_do_not_allow_makes_no_login() {
    let (server, session) = logged_in(|state| state.forbidden.push("a".into())).await;
    for _ in 0..10 {
        let error = get(session.as_ref(), &want("a")).await.unwrap_err();
        assert!(error.kind == ErrorKind::Denied && error.detail.contains("policies"), "{error}");
    }
    assert_eq!((server.fake.with(|state| state.logins), asked(&server, "lookup-self")), (1, 1));

    // A token that may not even ask about itself is doubted once.
    let (server, session) = logged_in(|state| {
        state.forbidden.push("a".into());
        state.refuses_lookup = true;
    })
    .await;
    for _ in 0..3 {
        for _ in 0..3 {
            assert_eq!(get(session.as_ref(), &want("a")).await.unwrap_err().kind, ErrorKind::Denied);
        }
        pass(60).await;
    }
    assert_eq!(server.fake.with(|state| state.logins), 2);
    session.validate(&cx()).await.unwrap();
    assert_eq!(server.fake.with(|state| state.logins), 2, "nor does the check of the store");
}

#[tokio::test]
async fn a_login_that_failed_is_not_tried_by_everybody() {
    let (server, session) = logged_in(|_| ()).await;
    server.fake.with(|state| {
        state.tokens.clear();
        state.refuses_login = true;
    });
    for _ in 0..10 {
        let error = get(session.as_ref(), &want("a")).await.unwrap_err();
        assert!(error.kind == ErrorKind::Denied && error.detail.starts_with("login to Vault: "), "{error}");
        assert!(!error.detail.contains(keyferry_fakes::CANARY));
    }
    assert_eq!(asked(&server, "auth/approle/login"), 2);
    server.fake.with(|state| state.refuses_login = false);
    pass(6).await;
    reads_well(session.as_ref()).await;
    assert_eq!(asked(&server, "auth/approle/login"), 3);
}

#[tokio::test]
async fn a_token_that_a_login_made_is_given_back() {
    let (server, session) = logged_in(|_| ()).await;
    session.close().await;
    assert_eq!(asked(&server, "auth/token/revoke-self"), 1);
    assert_eq!(server.fake.with(|state| state.tokens.len()), 1, "but for the root token");
    let error = get(session.as_ref(), &want("a")).await.unwrap_err();
    assert!(error.kind == ErrorKind::Unavailable && server.fake.with(|state| state.logins) == 1, "{error}");
    drop(session);

    let (server, session) = logged_in(|_| ()).await;
    reads_well(session.as_ref()).await;
    drop(session);
    sleep(Duration::from_millis(40)).await;
    assert_eq!(server.fake.with(|state| state.tokens.len()), 1);
    pass(4000).await;
    assert_eq!((asked(&server, "renew-self"), asked(&server, "revoke-self")), (0, 1), "and nobody renews it any more");
}

/// A revoked token takes what was lent with it along: a database's credentials would end at once.
#[tokio::test]
async fn a_token_that_something_was_lent_with_is_left_alone() {
    let (lent, reply) = (json!({"v": "1"}), json!({"client_token": "hvs.lender", "lease_duration": 60, "renewable": true}));
    let server = FakeServer::start(move |_| {
        let body = json!({"lease_id": "database/creds/app/l", "lease_duration": 60, "data": lent, "auth": reply});
        Reply::json(200, &body)
    })
    .await;
    let session = connect(&server.url, json!({"version": "v1", "auth": app_role()})).await;
    reads_well(session.as_ref()).await;
    session.close().await;
    drop(session);
    sleep(Duration::from_millis(40)).await;
    assert!(!server.lines().iter().any(|line| line.contains("revoke")), "{:?}", server.lines());
}

#[tokio::test]
async fn a_stores_own_token_is_renewed_and_never_revoked() {
    use keyferry_fakes::vault::TOKEN;
    let server = Service::start(Server::new(2, MOUNT)).await;
    server.fake.put("a", json!({"v": "1"}), &BTreeMap::new());
    server.fake.with(|state| {
        state.ttl = 60;
        state.tokens.insert(TOKEN.to_owned(), true);
    });
    let session = connect(server.url(), json!({})).await;
    sleep(Duration::from_millis(40)).await;
    assert_eq!((asked(&server, "lookup-self"), asked(&server, "renew-self")), (1, 0));
    pass(41).await;
    assert_eq!(asked(&server, "renew-self"), 1);
    reads_well(session.as_ref()).await;
    session.close().await;
    drop(session);
    sleep(Duration::from_millis(40)).await;
    assert_eq!((asked(&server, "revoke-self"), server.fake.with(|state| state.logins)), (0, 0));

    // Once it has ended there is nobody to ask for another.
    let session = connect(server.url(), json!({})).await;
    server.fake.with(|state| state.tokens.clear());
    let error = get(session.as_ref(), &want("a")).await.unwrap_err();
    assert!(error.kind == ErrorKind::Denied && error.detail.contains("does not know the token"), "{error}");
    assert_eq!(server.fake.with(|state| state.logins), 0);
}
