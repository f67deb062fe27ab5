//! What an engine lends: the same credentials as long as their lease can be renewed, then others.

use std::sync::Mutex;

use super::*;

/// What the server of these tests does about leases.
#[derive(Clone, Copy)]
struct Rules {
    /// Whether what it lends can be renewed.
    renewable: bool,
    /// What a renewal answers: the seconds granted, or a status.
    renewal: Result<u64, u16>,
    /// Seconds that its logins last.
    token: u64,
}

const GOOD: Rules = Rules { renewable: true, renewal: Ok(3600), token: 0 };

/// A server that lends for an hour, and a session with it. The rules can be changed.
async fn lending(rules: Rules) -> (FakeServer, Arc<Mutex<Rules>>, Arc<dyn Session>) {
    let (rules, number) = (Arc::new(Mutex::new(rules)), AtomicU32::new(0));
    let told = rules.clone();
    let server = FakeServer::start(move |asked| {
        let Rules { renewable, renewal, token } = *told.lock().unwrap();
        let lease = |number: &str, seconds: u64, data: Value| {
            let id = format!("database/creds/app/{number}");
            Reply::json(
                200,
                &json!({"request_id": "r", "lease_id": id, "lease_duration": seconds, "renewable": renewable, "data": data}),
            )
        };
        let id = || asked.json()["lease_id"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned();
        match asked.line.as_str() {
            "PUT /v1/auth/approle/login" => {
                Reply::json(200, &json!({"auth": {"client_token": TOKEN, "lease_duration": token, "renewable": true}}))
            }
            "GET /v1/database/creds/app" => {
                let number = number.fetch_add(1, Ordering::SeqCst).to_string();
                lease(&number, 3600, json!({"username": format!("u-{number}")}))
            }
            "PUT /v1/sys/leases/renew" => match renewal {
                Ok(seconds) => lease(&id(), seconds, Value::Null),
                Err(status) => errors(status),
            },
            "PUT /v1/sys/leases/lookup" => Reply::json(200, &json!({"data": {"id": id(), "ttl": 1800}})),
            _ => errors(404),
        }
    })
    .await;
    let block = store(&server.url, json!({"path": "database", "version": "v1", "auth": app_role()}));
    let client = VaultClient::login(&block, "x", NONE, &keys().cx(&outbound()).connect).await.unwrap();
    let session = VaultSession::new(client, mount::Mount::of(&block, provider::Block::Vault), provider::Block::Vault);
    (server, rules, Arc::new(session))
}

async fn user(session: &dyn Session) -> String {
    text(&get(session, &want("creds/app")).await.unwrap().bytes).to_owned()
}

fn asked(server: &FakeServer) -> Vec<String> {
    let lines = server.lines().into_iter().filter(|line| !line.contains("/auth/"));
    lines.map(|line| line.trim_start_matches("GET /v1/").trim_start_matches("PUT /v1/").to_owned()).collect()
}

#[tokio::test]
async fn what_is_lent_is_renewed_and_stays() {
    let (server, _, session) = lending(GOOD).await;
    assert_eq!(session.holds_until(&want("creds/app")), None, "nothing is lent yet");
    for _ in 0..3 {
        assert_eq!(user(session.as_ref()).await, r#"{"username":"u-0"}"#);
    }
    assert_eq!(asked(&server), ["database/creds/app", "sys/leases/renew", "sys/leases/renew"]);
    let left = session.holds_until(&want("creds/app")).unwrap().duration_since(tokio::time::Instant::now());
    // a third of the hour is left then
    assert!(left > Duration::from_secs(2390) && left <= Duration::from_secs(2400), "{left:?}");
}

#[tokio::test]
async fn a_lease_that_is_gone_or_at_its_end_makes_room_for_another() {
    for renewal in [Err(400), Ok(60)] {
        let (server, rules, session) = lending(Rules { renewal, ..GOOD }).await;
        user(session.as_ref()).await;
        assert_eq!(user(session.as_ref()).await, r#"{"username":"u-1"}"#, "{renewal:?}");
        rules.lock().unwrap().renewal = Ok(3600);
        assert_eq!(user(session.as_ref()).await, r#"{"username":"u-1"}"#);
        let paths = ["database/creds/app", "sys/leases/renew", "database/creds/app", "sys/leases/renew"];
        assert_eq!(asked(&server), paths);
    }
}

#[tokio::test]
async fn what_cannot_be_renewed_is_looked_at() {
    let (server, _, session) = lending(Rules { renewable: false, ..GOOD }).await;
    let first = user(session.as_ref()).await;
    assert_eq!(user(session.as_ref()).await, first);
    assert_eq!(asked(&server), ["database/creds/app", "sys/leases/lookup"]);
}

#[tokio::test]
async fn without_the_right_to_renew_it_holds_until_its_end() {
    let (_server, _, session) = lending(Rules { renewal: Err(403), ..GOOD }).await;
    let first = user(session.as_ref()).await;
    for _ in 0..2 {
        assert_eq!(user(session.as_ref()).await, first);
    }
    assert!(session.holds_until(&want("creds/app")).is_some());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_no_reason_for_other_credentials() {
    let (_server, rules, session) = lending(GOOD).await;
    let first = user(session.as_ref()).await;
    rules.lock().unwrap().renewal = Err(503);
    assert_eq!(get(session.as_ref(), &want("creds/app")).await.unwrap_err().kind, ErrorKind::Unavailable);
    rules.lock().unwrap().renewal = Ok(3600);
    assert_eq!(user(session.as_ref()).await, first);
}

#[tokio::test]
async fn a_lease_ends_with_its_token() {
    let (_server, _, session) = lending(Rules { token: 600, ..GOOD }).await;
    user(session.as_ref()).await;
    let left = session.holds_until(&want("creds/app")).unwrap().duration_since(tokio::time::Instant::now());
    // a third of its ten minutes is left then, in whole seconds
    assert!(left <= Duration::from_secs(402), "{left:?}");
}

#[tokio::test]
async fn the_login_of_what_is_lent_is_not_given_back() {
    let (server, _, session) = lending(GOOD).await;
    user(session.as_ref()).await;
    session.close().await;
    drop(session);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!server.lines().iter().any(|line| line.contains("revoke-self")), "{:?}", server.lines());
}
