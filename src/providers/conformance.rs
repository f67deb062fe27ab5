//! What every provider must do, whatever it talks to: a set of checks over a [`Fixture`], which each provider gives for itself.
//! A check that cannot apply is named with its reason, and stands so in the table that a run prints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod page;
mod pushes;
pub mod served;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{CallCx, ErrorKind, Fetched, FindQuery, Place, ProviderError, Push, Pushed, Session, Source, Validation, Want};
use crate::secret_bytes::SecretBytes;

pub use page::Tested;
use pushes::{
    delete, delete_property, exists, push_denied, push_foreign, push_property, push_unchanged, push_whole, pushes,
};

/// Stands in every value, and in the answer of every fault: no error may carry it.
pub const CANARY: &str = keyferry_fakes::CANARY;

/// What [`Fault::Throttled`] asks the caller to wait.
pub const RETRY_AFTER: Duration = Duration::from_secs(7);

/// Longest time, by the clock of the test, that a call may hang before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server holds and how it behaves.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The secrets it holds.
    pub secrets: Vec<Stored>,
    /// What is wrong with it, once the session is open.
    pub fault: Option<Fault>,
}

/// A secret of a server.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its key: one that every provider allows.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// Its version; `None`: the current one.
    pub version: Option<&'static str>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

impl Stored {
    /// Its value as one text: several properties as a JSON object.
    pub fn text(&self) -> String {
        match &self.value {
            Value::Plain(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            Value::Properties(pairs) => serde_json::to_string(pairs).unwrap(),
        }
    }
}

/// The value of a secret.
#[derive(Clone, Debug)]
pub enum Value {
    /// One value, read without a property where the provider can.
    Plain(Vec<u8>),
    /// Several, each with a name.
    Properties(BTreeMap<String, String>),
}

/// What is wrong with a server. Its answers carry [`CANARY`] where the protocol has room for text.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The right to read is missing.
    Denied,
    /// Too many calls; wait for [`RETRY_AFTER`].
    Throttled,
    /// It fails, as overloaded servers do.
    Broken,
    /// It takes the call, tells so, and never answers.
    Hang(Arc<Notify>),
    /// It answers with success and with nonsense.
    Garbled,
}

/// A provider under test.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Name of the provider.
    fn provider(&self) -> &'static str;

    /// The checks that do not apply, each with the reason.
    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        Vec::new()
    }

    /// The property under which a [`Value::Plain`] is kept, by providers that have no value without one.
    fn plain_property(&self) -> Option<&'static str> {
        None
    }

    /// The name of an older version, and of one that there is not.
    fn versions(&self) -> (&'static str, &'static str) {
        ("v1", "v9")
    }

    /// What a version is that there is not: as ESO has it, missing or a mistake.
    fn missing_version(&self) -> ErrorKind {
        ErrorKind::NotFound
    }

    /// Whether a value that is JSON comes as Go writes it by default, with `<`, `>` and `&` escaped.
    fn escapes_html(&self) -> bool {
        false
    }

    /// How many calls the last server got that could have changed something.
    fn writes(&self) -> usize {
        0
    }

    /// Starts a server that holds the world, and logs in to it.
    async fn connect(&self, world: World) -> Arc<dyn Session>;
}

macro_rules! checks {
    ($($(#[doc = $doc:literal])+ $variant:ident => $function:ident,)+) => {
        /// A check.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Check {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Check {
            const ALL: &[Check] = &[$(Check::$variant),+];

            async fn run(self, fixture: &dyn Fixture) -> Outcome {
                match self {
                    $(Check::$variant => $function(fixture).await,)+
                }
            }
        }
    };
}

impl Check {
    /// What a provider without searches lacks.
    pub const FINDS: [Self; 3] = [Self::FindByName, Self::FindByTags, Self::FindNothing];
    /// What a provider that only reads lacks.
    pub const PUSHES: [Self; 9] = [
        Self::Push,
        Self::PushWhole,
        Self::PushUnchanged,
        Self::PushProperty,
        Self::Exists,
        Self::Delete,
        Self::DeleteProperty,
        Self::PushForeign,
        Self::PushDenied,
    ];
}

checks! {
    /// A text comes back byte for byte.
    Get => get,
    /// Several wants are answered in their order, and a missing one fails alone.
    Order => order,
    /// Each property comes back by its name.
    Property => property,
    /// All properties come back together.
    Extract => extract,
    /// An older version is read by its name, the current one without.
    Version => version,
    /// A key that is not there is `NotFound`.
    Missing => missing,
    /// A property that is not there is `MissingProperty` or `NotFound`.
    MissingProperty => missing_property,
    /// A value that is no JSON object cannot be taken apart, and the error does not show it.
    NotAnObject => not_an_object,
    /// Bytes that are no text come back byte for byte.
    Binary => binary,
    /// 64 KiB come back byte for byte.
    Large => large,
    /// Text of other scripts comes back as it was, in values.
    Unicode => unicode,
    /// Secrets are found by an expression over their names, over more than one page.
    FindByName => find_by_name,
    /// Secrets are found by their tags.
    FindByTags => find_by_tags,
    /// What matches nothing is an empty result, not an error.
    FindNothing => find_nothing,
    /// A good login is found to be one.
    Validate => validate,
    /// A refusal is `Denied`.
    Denied => denied,
    /// "Too many calls" is `Throttled`.
    Throttled => throttled,
    /// The wait that the server asks for is kept.
    RetryAfter => retry_after,
    /// A failing server is `Unavailable`.
    Broken => broken,
    /// A server that never answers is `Unavailable`, in time.
    Hang => hang,
    /// An answer that makes no sense is `Malformed`.
    Garbled => garbled,
    /// What is pushed is read back byte for byte; a second push replaces it.
    Push => pushes,
    /// A whole Secret is pushed as a JSON object of texts.
    PushWhole => push_whole,
    /// A push of what is there already writes nothing.
    PushUnchanged => push_unchanged,
    /// A property is pushed beside others, which stay.
    PushProperty => push_property,
    /// What is pushed is there, as a whole and by its property; what is not pushed is not.
    Exists => exists,
    /// What is deleted is gone, and deleting it again is no error.
    Delete => delete,
    /// Deleting one of several properties leaves the others.
    DeleteProperty => delete_property,
    /// What others wrote is neither replaced nor deleted.
    PushForeign => push_foreign,
    /// A push, a deletion and a look that are refused are `Denied`, and do not show the value.
    PushDenied => push_denied,
}

type Outcome = Result<(), String>;

/// Runs all checks, prints the table, and panics where one failed.
async fn run(fixture: &dyn Fixture) {
    let skips = fixture.does_not_apply();
    let mut failures = 0;
    println!("provider {}", fixture.provider());
    for check in Check::ALL {
        let skipped = skips.iter().find_map(|(skipped, reason)| (skipped == check).then_some(*reason));
        let verdict = match skipped {
            Some(reason) => {
                assert!(!reason.is_empty(), "{check:?} is left out without a reason");
                format!("does not apply: {reason}")
            }
            None => match check.run(fixture).await {
                Ok(()) => "passed".to_owned(),
                Err(text) => {
                    failures += 1;
                    format!("FAILED: {text}")
                }
            },
        };
        println!("  {:<16} {verdict}", format!("{check:?}"));
    }
    assert_eq!(failures, 0, "{} of the checks of {} failed: see the table", failures, fixture.provider());
}

fn plain(key: &str, bytes: impl AsRef<[u8]>) -> Stored {
    Stored { key: key.to_owned(), value: Value::Plain(bytes.as_ref().to_vec()), version: None, tags: BTreeMap::new() }
}

fn with_properties(key: &str, pairs: &[(&str, &str)]) -> Stored {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Stored { key: key.to_owned(), value: Value::Properties(pairs), version: None, tags: BTreeMap::new() }
}

fn holding(secrets: Vec<Stored>) -> World {
    World { secrets, fault: None }
}

fn want(key: &str) -> Want {
    Want { key: key.to_owned(), ..Want::default() }
}

fn cx() -> CallCx {
    CallCx {
        cause: "ExternalSecret/team-a/conformance".to_owned(),
        correlation: "conformance".to_owned(),
        ..CallCx::default()
    }
}

/// Reads one value the way the pipeline does: the bytes, then the property or the whole.
async fn read(session: &dyn Session, want: &Want, property: Option<&str>) -> Result<SecretBytes, ProviderError> {
    let fetched = fetch(session, want).await?;
    match property {
        Some(property) => session.property(want, &fetched.bytes, property),
        None => session.whole(want, &fetched.bytes),
    }
}

async fn fetch(session: &dyn Session, want: &Want) -> Result<Fetched, ProviderError> {
    let mut results = session.get(std::slice::from_ref(want), &cx()).await;
    assert_eq!(results.len(), 1, "one want has one result");
    results.remove(0)
}

/// The value came, and is the expected one. Says nothing of either where not.
fn is_value(result: Result<SecretBytes, ProviderError>, expected: &[u8]) -> Outcome {
    match result {
        Ok(value) if value.expose() == expected => Ok(()),
        Ok(_) => Err("the value is another one".to_owned()),
        Err(error) => Err(format!("an error in place of the value: {error}")),
    }
}

/// It failed, with one of the kinds, and without a word of the value or of the server's.
fn is_error<T: Debug>(result: Result<T, ProviderError>, kinds: &[ErrorKind]) -> Result<ProviderError, String> {
    let Err(error) = result else { return Err(format!("no error, and {kinds:?} was expected")) };
    if format!("{error} {error:?} {error:#?}").contains(CANARY) {
        return Err("the error shows what the value or the server said".to_owned());
    }
    if error.detail.is_empty() {
        return Err("the error says nothing".to_owned());
    }
    if kinds.contains(&error.kind) { Ok(error) } else { Err(format!("{:?} in place of {kinds:?}: {error}", error.kind)) }
}

async fn reads_back(fixture: &dyn Fixture, bytes: &[u8]) -> Outcome {
    let session = fixture.connect(holding(vec![plain("app-db", bytes)])).await;
    is_value(read(session.as_ref(), &want("app-db"), fixture.plain_property()).await, bytes)
}

async fn get(fixture: &dyn Fixture) -> Outcome {
    reads_back(fixture, format!("{CANARY} with space, \"quotes\", <&> and\na line").as_bytes()).await
}

async fn order(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(holding(vec![plain("first", CANARY), plain("second", "2"), plain("third", "3")])).await;
    let keys = ["second", "gone", "third", "first"];
    let wants: Vec<Want> = keys.iter().map(|key| want(key)).collect();
    let mut results = Vec::new();
    for batch in wants.chunks(session.batch_size()) {
        results.extend(session.get(batch, &cx()).await);
    }
    if results.len() != wants.len() {
        return Err(format!("{} results for {} wants", results.len(), wants.len()));
    }
    for ((want, result), expected) in wants.iter().zip(results).zip(["2", "", "3", CANARY]) {
        if expected.is_empty() {
            is_error(result, &[ErrorKind::NotFound])?;
            continue;
        }
        let part = result.and_then(|fetched| match fixture.plain_property() {
            Some(property) => session.property(want, &fetched.bytes, property),
            None => session.whole(want, &fetched.bytes),
        });
        is_value(part, expected.as_bytes()).map_err(|text| format!("{}: {text}", want.key))?;
    }
    Ok(())
}

const PAIRS: &[(&str, &str)] = &[("user", "app"), ("password", CANARY), ("with.dot", "d"), ("empty", "")];

async fn property(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(holding(vec![with_properties("app-db", PAIRS)])).await;
    for (name, value) in [("user", "app"), ("password", CANARY), ("empty", "")] {
        let found = read(session.as_ref(), &want("app-db"), Some(name)).await;
        is_value(found, value.as_bytes()).map_err(|text| format!("{name}: {text}"))?;
    }
    Ok(())
}

async fn extract(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(holding(vec![with_properties("app-db", PAIRS)])).await;
    let want = want("app-db");
    let fetched = fetch(session.as_ref(), &want).await.map_err(|error| error.to_string())?;
    let found = session.extract(&want, &fetched.bytes, None).map_err(|error| error.to_string())?;
    let expected: BTreeMap<String, SecretBytes> =
        PAIRS.iter().map(|(name, value)| ((*name).to_owned(), SecretBytes::from(*value))).collect();
    if found == expected { Ok(()) } else { Err(format!("other properties, or other values: {:?}", found.keys())) }
}

async fn version(fixture: &dyn Fixture) -> Outcome {
    let (older, none) = fixture.versions();
    let old = Stored { version: Some(older), ..plain("app-db", "old") };
    let session = fixture.connect(holding(vec![old, plain("app-db", "new")])).await;
    let of = |version: &str| Want { version: version.to_owned(), ..want("app-db") };
    is_value(read(session.as_ref(), &of(""), fixture.plain_property()).await, b"new")?;
    is_value(read(session.as_ref(), &of(older), fixture.plain_property()).await, b"old")?;
    is_error(read(session.as_ref(), &of(none), fixture.plain_property()).await, &[fixture.missing_version()]).map(drop)
}

async fn missing(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(holding(vec![plain("app-db", CANARY)])).await;
    let error = is_error(fetch(session.as_ref(), &want("app-db-2")).await, &[ErrorKind::NotFound])?;
    if error.detail.contains("app-db-2") { Ok(()) } else { Err(format!("the error does not name the key: {error}")) }
}

async fn missing_property(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(holding(vec![with_properties("app-db", PAIRS)])).await;
    for name in ["nope", "user.nope", "nope.nope"] {
        let found = read(session.as_ref(), &want("app-db"), Some(name)).await;
        is_error(found, &[ErrorKind::MissingProperty, ErrorKind::NotFound]).map_err(|text| format!("{name}: {text}"))?;
    }
    Ok(())
}

async fn not_an_object(fixture: &dyn Fixture) -> Outcome {
    for value in [CANARY.to_owned(), format!("[\"{CANARY}\"]"), format!("{{\"a\": {CANARY}}}")] {
        let session = fixture.connect(holding(vec![plain("app-db", &value)])).await;
        let want = want("app-db");
        let fetched = fetch(session.as_ref(), &want).await.map_err(|error| error.to_string())?;
        is_error(session.extract(&want, &fetched.bytes, fixture.plain_property()), &[ErrorKind::Malformed])?;
    }
    Ok(())
}

async fn binary(fixture: &dyn Fixture) -> Outcome {
    let every_byte: Vec<u8> = (0..=255).collect();
    reads_back(fixture, &every_byte).await
}

async fn large(fixture: &dyn Fixture) -> Outcome {
    reads_back(fixture, &b"0123456789abcdef".repeat(4096)).await
}

async fn unicode(fixture: &dyn Fixture) -> Outcome {
    reads_back(fixture, "käse, ключ, 鍵, 🔑, \u{2028}, \u{1}".as_bytes()).await
}

async fn find_by_name(fixture: &dyn Fixture) -> Outcome {
    let mut secrets: Vec<Stored> = (0..120).map(|n| plain(&format!("app-{n:03}"), n.to_string())).collect();
    secrets.push(plain("other", CANARY));
    let session = fixture.connect(holding(secrets)).await;
    let query = FindQuery { name: "pp-...$".to_owned(), ..FindQuery::default() };
    let found = session.find(&query, &cx()).await.map_err(|error| error.to_string())?;
    let mut names: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
    names.sort_unstable();
    let expected: Vec<String> = (0..120).map(|n| format!("app-{n:03}")).collect();
    if names != expected {
        return Err(format!("{} names in place of 120", names.len()));
    }
    // A provider without plain values gives each secret as a text that holds all of it.
    let whole = |n: usize| match fixture.plain_property() {
        Some(property) => format!("{{\"{property}\":\"{n}\"}}"),
        None => n.to_string(),
    };
    let last = found.iter().find(|found| found.name == "app-119").ok_or("app-119 is gone")?;
    is_value(Ok(last.bytes.clone()), whole(119).as_bytes())
}

async fn find_by_tags(fixture: &dyn Fixture) -> Outcome {
    let tags = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let secrets = vec![
        Stored { tags: tags(&[("team", "a"), ("env", "prod")]), ..plain("both", "1") },
        Stored { tags: tags(&[("team", "a")]), ..plain("one", "2") },
        Stored { tags: tags(&[("team", "b"), ("env", "prod")]), ..plain("wrong", "3") },
        plain("none", CANARY),
    ];
    let session = fixture.connect(holding(secrets)).await;
    let query = FindQuery { tags: tags(&[("team", "a"), ("env", "prod")]), ..FindQuery::default() };
    let found = session.find(&query, &cx()).await.map_err(|error| error.to_string())?;
    let names: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
    if names == ["both"] { Ok(()) } else { Err(format!("found {names:?}")) }
}

async fn find_nothing(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(holding(vec![plain("app-db", CANARY)])).await;
    let query = FindQuery { name: "^nothing$".to_owned(), ..FindQuery::default() };
    let found = session.find(&query, &cx()).await.map_err(|error| error.to_string())?;
    if found.is_empty() { Ok(()) } else { Err(format!("{} found", found.len())) }
}

async fn validate(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(holding(vec![plain("app-db", CANARY)])).await;
    match session.validate(&cx()).await {
        Ok(Validation::Ready) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// The error of a read, and of a search where there is one, from a server with a fault.
async fn under(fixture: &dyn Fixture, fault: Fault, kind: ErrorKind) -> Result<ProviderError, String> {
    let session = fixture.connect(World { secrets: vec![plain("app-db", CANARY)], fault: Some(fault) }).await;
    let searches = !fixture.does_not_apply().iter().any(|(check, _)| *check == Check::FindByName);
    if searches {
        let query = FindQuery { name: "app".to_owned(), ..FindQuery::default() };
        is_error(session.find(&query, &cx()).await, &[kind]).map_err(|text| format!("find: {text}"))?;
    }
    let error = is_error(fetch(session.as_ref(), &want("app-db")).await, &[kind])?;
    // those who use the same store read it, too, while they are held back
    if kind.is_store_wide() && error.unnamed().detail.contains("app-db") {
        return Err(format!("the name is not in quotes: {error}"));
    }
    Ok(error)
}

async fn denied(fixture: &dyn Fixture) -> Outcome {
    under(fixture, Fault::Denied, ErrorKind::Denied).await.map(drop)
}

async fn throttled(fixture: &dyn Fixture) -> Outcome {
    under(fixture, Fault::Throttled, ErrorKind::Throttled).await.map(drop)
}

async fn retry_after(fixture: &dyn Fixture) -> Outcome {
    let error = under(fixture, Fault::Throttled, ErrorKind::Throttled).await?;
    if error.retry_after == Some(RETRY_AFTER) { Ok(()) } else { Err(format!("the wait is {:?}", error.retry_after)) }
}

async fn broken(fixture: &dyn Fixture) -> Outcome {
    under(fixture, Fault::Broken, ErrorKind::Unavailable).await.map(drop)
}

/// The clock is stopped once the server has the call: from then on, time passes as fast as the timers are.
async fn hang(fixture: &dyn Fixture) -> Outcome {
    let reached = Arc::new(Notify::new());
    let world = World { secrets: vec![plain("app-db", CANARY)], fault: Some(Fault::Hang(reached.clone())) };
    let session = fixture.connect(world).await;
    let reading = tokio::spawn(async move { fetch(session.as_ref(), &want("app-db")).await });
    reached.notified().await;
    tokio::time::pause();
    let result = tokio::time::timeout(PATIENCE, reading).await;
    tokio::time::resume();
    match result {
        Ok(joined) => is_error(joined.map_err(|error| error.to_string())?, &[ErrorKind::Unavailable]).map(drop),
        Err(_) => Err(format!("still waiting after {PATIENCE:?}")),
    }
}

async fn garbled(fixture: &dyn Fixture) -> Outcome {
    under(fixture, Fault::Garbled, ErrorKind::Malformed).await.map(drop)
}
