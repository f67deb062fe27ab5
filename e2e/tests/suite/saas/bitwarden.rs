//! Bitwarden Secrets Manager. No client of the vendor speaks to the server between, but it hands through what the vendor's SDK says:
//! see `keyferry_fakes::bitwarden`.

use keyferry_fakes::bitwarden::{ACCESS_TOKEN, Bitwarden, ORGANIZATION, OTHER_PROJECT, PROJECT};

use super::*;
use crate::canary::value;
use crate::lab::{eventually, one, to_place};

const LOGIN: &[(&str, &str)] = &[("token", ACCESS_TOKEN)];

fn store(url: &str) -> Value {
    json!({"bitwardensecretsmanager": {
        "organizationID": ORGANIZATION, "projectID": PROJECT, "bitwardenServerSDKURL": url,
        "auth": {"secretRef": {"credentials": {"name": "login", "key": "token"}}},
    }})
}

#[test]
fn a_project_is_read() -> Result<()> {
    let fake = Bitwarden::default();
    let json = json!({"user": value("user"), "login": {"password": value("password")}}).to_string();
    let id = fake.put(PROJECT, "API_KEY", &value("key"), "");
    fake.put(PROJECT, "DB", &json, "");
    fake.put(PROJECT, "YAML", &format!("user: {}\n", value("user")), "");
    with_service("bitwarden", fake, async |bench| {
        bench.store(store(bench.service.url()), LOGIN).await?;
        let (key, user, password) = (value("key"), value("user"), value("password"));
        bench.brings("get", json!({"data": one("key", "API_KEY")}), &[("key", &key)]).await?;
        bench.brings("id", json!({"data": one("key", &id)}), &[("key", &key)]).await?;
        let part = json!({"data": [{"secretKey": "key", "remoteRef": {"key": "DB", "property": "login.password"}}]});
        bench.brings("property", part, &[("key", &password)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "YAML"}}]});
        bench.brings("extract", extract, &[("user", &user)]).await?;
        let find = json!({"dataFrom": [{"find": {"name": {"regexp": "^API_"}}}]});
        bench.brings("find", find, &[("API_KEY", &key)]).await?;
        let message = bench.fails("missing", json!({"data": one("key", "NONE")})).await?;
        ensure!(message.contains("Secret does not exist: \"NONE\""), "{message}");
        let message = bench.recovers("denied", json!({"data": one("key", "API_KEY")}), &[("key", &key)]).await?;
        ensure!(message.contains("Bitwarden") && message.contains("401"), "{message}");
        bench.service.fake.set(&id, &value("second"));
        bench.read_again("get").await?;
        bench.ns.wait_secret("get", |data| data["key"] == value("second")).await.map(drop)
    })
}

#[test]
fn a_project_is_written() -> Result<()> {
    with_service("bitwarden-push", Bitwarden::default(), async |bench| {
        bench.store(store(bench.service.url()), LOGIN).await?;
        let pushed = value("pushed");
        let spec = json!({"data": to_place("v", "PUSHED"), "refreshInterval": "1s"});
        bench.pushes("push", &[("v", &pushed)], spec).await?;
        let there = || bench.service.fake.named("PUSHED");
        ensure!(there().len() == 1 && there()[0].value == pushed, "{} of that name", there().len());
        let looks = bench.service.server.received().len();
        eventually("it is looked at again", async || Ok(bench.service.server.received().len() > looks + 2)).await?;
        ensure!(bench.writes() == 1, "written {} times", bench.writes());
        bench.takes_back("push").await?;
        ensure!(there().is_empty(), "it is still there");
        Ok(())
    })
}

/// Ids of the secrets that the client makes are counted.
const LOCKED: &str = "00000000-0000-4000-8000-000000000003";
const LOST: &str = "00000000-0000-4000-8000-000000000004";
const ARGS: [&str; 7] = [ACCESS_TOKEN, ORGANIZATION, PROJECT, OTHER_PROJECT, LOCKED, LOST, keyferry_fakes::CANARY];

/// What the vendor's SDK answers before a stand-in for Bitwarden, step by step, which is what the fake answers.
async fn agreed(client: &Client<Bitwarden>, args: &[&str]) -> Result<Value> {
    let said = client.run("bitwarden", args).await?;
    let steps = said["sdk"].as_object().context("no steps")?;
    for (step, answer) in steps {
        ensure!(said["fake"][step] == *answer, "{step}: {answer} of the SDK, {} of the fake", said["fake"][step]);
    }
    ensure!(said["sdk"] == said["fake"], "other steps");
    Ok(said)
}

#[test]
fn the_vendors_sdk_and_the_fake_agree() -> Result<()> {
    let service = Bitwarden::default();
    service.lock(LOCKED);
    service.lose(LOST);
    with_client(service, async |client| {
        let said = agreed(client, &ARGS).await?;
        let step = |name: &str| &said["sdk"][name];
        let (first, when) = ("00000000-0000-4000-8000-000000000001", "2026-01-02T03:04:05.123456700Z");
        let mut made = json!({
            "id": first, "key": "A", "value": "1", "note": "by hand", "organizationId": ORGANIZATION, "projectId": PROJECT,
            "creationDate": when, "revisionDate": when,
        });
        ensure!(*step("create") == json!([200, made]) && step("get") == step("create"), "{}", step("create"));
        (made["key"], made["value"], made["note"]) = (json!("A2"), json!("2"), json!("other"));
        ensure!(*step("update") == json!([200, made]), "{}", step("update"));
        let listed = json!({"id": first, "key": "A", "organizationId": ORGANIZATION, "projectIds": [PROJECT]});
        ensure!(step("list")[1]["data"][0] == listed, "{}", step("list"));
        let deleted = json!({"data": [{"id": first}, {"id": LOCKED, "error": format!("access denied {}", ARGS[6])}]});
        ensure!(*step("delete") == json!([200, deleted]), "{}", step("delete"));
        let missing = "failed to get secret: API error: Received error message from server: [404 Not Found]";
        ensure!(step("get a missing one")[1] == missing, "{}", step("get a missing one"));
        ensure!(step("get a lost one") == step("get a missing one"), "{}", step("get a lost one"));
        let login = "failed to login to bitwarden using access token: bitwarden login: API error:";
        let denied = format!("{login} Received error message from server: [400 Bad Request]");
        ensure!(step("another secret")[1] == denied.as_str(), "{}", step("another secret"));
        let unsent = format!("{login} error sending request for url (https://127.0.0.1:1/connect/token)");
        ensure!(said["out of reach"] == json!([400, unsent]), "{}", said["out of reach"]);
        let left: Vec<String> =
            ["A2", "B", "C"].iter().flat_map(|key| client.fake().named(key)).map(|kept| kept.key).collect();
        ensure!(left == ["B", "C"], "{left:?}");
        Ok(())
    })
}

#[test]
fn the_vendors_sdk_and_the_fake_refuse_alike() -> Result<()> {
    with_client(Bitwarden::default(), async |client| {
        let refusals = [
            (Refusal::Denied, "401", "401 Unauthorized"),
            (Refusal::Throttled(1), "429", "429 Too Many Requests"),
            (Refusal::Broken, "503", "503 Service Unavailable"),
        ];
        for (refusal, status, shown) in refusals {
            client.set_fault(Fault::Refuses(refusal));
            let args = [ARGS.as_slice(), &[status]].concat();
            let said = agreed(client, &args).await?;
            let expected = format!("failed to get secret: API error: Received error message from server: [{shown}]");
            ensure!(said["sdk"]["get"][1] == expected.as_str(), "{}", said["sdk"]["get"]);
        }
        Ok(())
    })
}
