//! From what the stores answered to the keys and values of the Secret: each entry in its order, a later one wins.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::generate::Generated;
use crate::api::external_secret::{DataFrom, DeletionPolicy, RemoteRef};
use crate::fetch::{Answer, Fetcher, Freshness, Read, Request};
use crate::index::{Key, StoreId};
use crate::plan::entries::{self, Entry};
use crate::plan::external_secret::{Facts, Failure, FetchPlan, Gathered};
use crate::providers::{ErrorKind, Fetched, MOST_GATHERED, Missing, ProviderError, Session};
use crate::render::template::Chance;
use crate::render::{self, Entries, Outside, RenderError};
use crate::secret_bytes::SecretBytes;

/// What one store answered, or the one that was read from in its place.
pub struct StoreReads {
    /// Which it was.
    pub from: StoreId,
    /// Reads by request.
    pub reads: HashMap<Request, Read>,
    /// The session that knows how to take the values apart.
    pub session: Option<Arc<dyn Session>>,
}

impl StoreReads {
    /// Whether the store is unavailable: not where it says that something is missing, or that it may not be read.
    fn is_unavailable(&self) -> bool {
        let unavailable = |read: &Read| read.answer.as_ref().is_err_and(|error| error.kind == ErrorKind::Unavailable);
        self.reads.values().any(unavailable)
    }

    /// What it answered to an entry.
    fn of(&self, entry: &Entry<'_>) -> Option<&Read> {
        self.reads.get(&entry.request()?)
    }

    /// Whether it has something for each entry that reads from the store in whose place it stands: what it lacks, it may just not
    /// have got yet.
    fn lacks_nothing(&self, facts: &Facts, id: &StoreId) -> bool {
        let es = &facts.es;
        let entries = entries::entries(es).into_iter().filter(|entry| entry.request().is_some() && entry.store(es) == *id);
        let mut taken = entries.map(|entry| taken(&entry, self.of(&entry)?, self.session.as_deref()).ok());
        taken.all(|taken| match taken {
            Some(Taken::Found(found)) => !found.is_empty(),
            Some(_) => true,
            None => false,
        })
    }
}

/// What all stores answered.
pub type Reads = HashMap<StoreId, StoreReads>;

/// Reads from all stores, each store's values together. `credentials` counts the changes of what a store logs in with.
///
/// While a store is unavailable, all that it was asked for is read from the first of its stand-ins that has all of it: values of
/// two stores need not fit together. What a stand-in lacks or refuses says nothing of the store itself.
pub async fn read(
    fetcher: &Fetcher,
    credentials: impl Fn(&StoreId) -> u64,
    facts: &Facts,
    fetch: &FetchPlan,
    freshness: Freshness,
) -> Reads {
    let reads = fetch.requests.iter().map(|(id, requests)| {
        let stand_ins = fetch.stand_ins.get(id).into_iter().flatten();
        let sources: Vec<_> = std::iter::once(id).chain(stand_ins).map(|id| (id.clone(), credentials(id))).collect();
        let id = id.clone();
        async move {
            let mut own = None;
            for (source, credentials) in sources {
                let Some(reads) = read_from(fetcher, facts, &source, credentials, requests, freshness).await else {
                    continue;
                };
                match own {
                    None if reads.is_unavailable() => own = Some(reads),
                    None => return Some((id, reads)),
                    Some(_) if reads.lacks_nothing(facts, &id) => return Some((id, reads)),
                    Some(_) => {}
                }
            }
            own.map(|own| (id, own))
        }
    });
    futures::future::join_all(reads).await.into_iter().flatten().collect()
}

async fn read_from(
    fetcher: &Fetcher,
    facts: &Facts,
    id: &StoreId,
    credentials: u64,
    requests: &[Request],
    freshness: Freshness,
) -> Option<StoreReads> {
    let store = facts.stores.get(id)?.store.clone()?;
    let key = Key::of(&facts.es.metadata);
    let cause = format!("ExternalSecret/{key}");
    let answers = fetcher.read(&store, credentials, &key.namespace, requests, freshness, &cause).await;
    let reads = requests.iter().cloned().zip(answers.reads).collect();
    Some(StoreReads { from: id.clone(), reads, session: answers.session })
}

/// Puts the values of all entries together. What was not generated (yet) is left out.
///
/// # Errors
/// The first entry that failed. One that the provider says does not exist is no failure where the policy lets it go.
pub fn values(facts: &Facts, reads: &Reads, generated: &Generated, chance: &dyn Chance) -> Result<Gathered, Failure> {
    let mut gathered = Gathered::default();
    match gather(facts, reads, generated, chance, &mut gathered) {
        Ok(()) => Ok(gathered),
        Err(failure) => Err(Failure { missing: gathered.missing, ..failure }),
    }
}

fn gather(
    facts: &Facts,
    reads: &Reads,
    generated: &Generated,
    chance: &dyn Chance,
    gathered: &mut Gathered,
) -> Result<(), Failure> {
    let es = &facts.es;
    let stood_in = reads.iter().filter(|(id, reads)| **id != reads.from).map(|(id, reads)| (id.clone(), reads.from.clone()));
    *gathered = Gathered { stood_in: stood_in.collect(), replace_at: generated.replace_at, ..Gathered::default() };
    let (taken, mut asked, mut bytes) = (Cell::new(0), 0, 0);
    let outside = Outside { now: facts.now, chance, taken: &taken };
    for entry in entries::entries(es) {
        let place = entry.place();
        if let (Entry::From(index, from), Some(_)) = (&entry, entry.generator()) {
            let Some(made) = generated.made.get(index) else { continue };
            asked += 1;
            gathered.read_at = made.as_ref().ok().map_or(gathered.read_at, |made| earlier(gathered.read_at, made.at));
            match made.as_ref().map_err(Clone::clone).and_then(|made| {
                render::generated(*index, &from.rewrite, made.values.clone(), outside).map_err(unrenderable)
            }) {
                Ok(values) => add(&mut gathered.data, &mut bytes, values).map_err(|e| Failure::provider(&place, &e))?,
                Err(error) if error.kind == ErrorKind::NotFound && !retains(facts) => gathered.missing.push(place.missing()),
                Err(error) => return Err(Failure::provider(&place, &error)),
            }
            continue;
        }
        if entry.request().is_none() {
            // it names a store and asks it for nothing
            continue;
        }
        asked += 1;
        let id = entry.store(es);
        let answers = reads.get(&id);
        let Some((answers, read)) = answers.and_then(|answers| Some((answers, answers.of(&entry)?))) else {
            let error = ProviderError::new(ErrorKind::Unavailable, "the store went away while it was read");
            return Err(Failure::provider(&place, &error));
        };
        gathered.read_at = earlier(gathered.read_at, read.at);
        gathered.read_again = read.read_again().into_iter().chain(gathered.read_again).min();
        let converts = facts.provider(&answers.from).is_some_and(|provider| provider.converts_found());
        match entry_values(&entry, read, answers.session.as_deref(), converts, outside) {
            Ok(values) => add(&mut gathered.data, &mut bytes, values).map_err(|e| Failure::provider(&place, &e))?,
            Err(error) if error.kind == ErrorKind::NotFound && answers.from == id && may_miss(facts, &entry, &id) => {
                gathered.missing.push(place.missing());
            }
            Err(error) => return Err(Failure::provider(&place, &error)),
        }
    }
    gathered.gone = asked > 0 && gathered.missing.len() == asked;
    Ok(())
}

/// Adds keys and values, in place of those of the same keys. `bytes`: what all have together.
fn add(all: &mut Entries, bytes: &mut usize, more: Entries) -> Result<(), ProviderError> {
    for (key, value) in more {
        *bytes += key.len() + value.len();
        if let Some(former) = all.get(&key) {
            *bytes -= key.len() + former.len();
        }
        all.insert(key, value);
    }
    if *bytes <= MOST_GATHERED {
        return Ok(());
    }
    let text = format!(
        "the values of the object have more than {MOST_GATHERED} bytes together, and a Secret holds 1048576: read fewer, or take \
         parts of them with property"
    );
    Err(ProviderError::new(ErrorKind::Malformed, text))
}

/// Whether a failure says that something is missing, so that a fresher read may find it.
#[must_use]
pub fn is_missing(failure: &Failure) -> bool {
    matches!(failure.kind, Some(ErrorKind::NotFound | ErrorKind::MissingProperty))
}

/// Whether an entry may be missing: the policy lets it go, and the provider's "it does not exist" counts for such an entry.
fn may_miss(facts: &Facts, entry: &Entry<'_>, id: &StoreId) -> bool {
    let counts = facts.provider(id).map_or(Missing::Everywhere, |provider| provider.missing());
    !retains(facts) && (counts == Missing::Everywhere || matches!(entry, Entry::From(..)))
}

/// Whether the policy lets nothing be missing.
fn retains(facts: &Facts) -> bool {
    facts.es.target().deletion_policy.unwrap_or_default() == DeletionPolicy::Retain
}

fn earlier(known: Option<Timestamp>, at: Timestamp) -> Option<Timestamp> {
    Some(known.map_or(at, |known| known.min(at)))
}

/// What an entry takes out of an answer.
enum Taken {
    Value(SecretBytes),
    Set(Entries),
    Found(Entries),
}

fn taken(entry: &Entry<'_>, read: &Read, session: Option<&dyn Session>) -> Result<Taken, ProviderError> {
    let answer = read.answer.as_ref().map_err(Clone::clone)?;
    let Some(session) = session else {
        return Err(ProviderError::new(ErrorKind::Unavailable, "the store was logged out of while it was read"));
    };
    match (entry, answer) {
        (Entry::Data(_, data), Answer::Value(value)) => {
            whole_or_property(&data.remote_ref, value, session).map(Taken::Value)
        }
        (Entry::From(_, DataFrom { extract: Some(reference), .. }), Answer::Value(value)) => {
            session.extract(&entries::want(reference), &value.bytes, property(reference)).map(Taken::Set)
        }
        (Entry::From(_, DataFrom { find: Some(_), .. }), Answer::Found(found)) => {
            Ok(Taken::Found(found.iter().map(|f| (f.name.clone(), f.bytes.clone())).collect()))
        }
        _ => Err(mismatch()),
    }
}

fn mismatch() -> ProviderError {
    ProviderError::new(ErrorKind::Malformed, "the store answered something else than it was asked")
}

/// Keys and values of one entry. `converts`: see [`converts_found`](crate::providers::Provider::converts_found).
fn entry_values(
    entry: &Entry<'_>,
    read: &Read,
    session: Option<&dyn Session>,
    converts: bool,
    outside: Outside<'_>,
) -> Result<Entries, ProviderError> {
    match (entry, taken(entry, read, session)?) {
        (Entry::Data(index, data), Taken::Value(bytes)) => {
            Ok([render::data(*index, data, bytes).map_err(unrenderable)?].into())
        }
        (Entry::From(index, DataFrom { extract: Some(reference), rewrite, .. }), Taken::Set(values)) => {
            render::extract(*index, reference, rewrite, values, outside).map_err(unrenderable)
        }
        (Entry::From(index, DataFrom { find: Some(find), rewrite, .. }), Taken::Found(values)) => {
            render::find(*index, find, converts, rewrite, values, outside).map_err(unrenderable)
        }
        _ => Err(mismatch()),
    }
}

fn whole_or_property(reference: &RemoteRef, value: &Fetched, session: &dyn Session) -> Result<SecretBytes, ProviderError> {
    let want = entries::want(reference);
    match property(reference) {
        Some(property) => session.property(&want, &value.bytes, property),
        None => session.whole(&want, &value.bytes),
    }
}

fn property(reference: &RemoteRef) -> Option<&str> {
    reference.property.as_deref().filter(|p| !p.is_empty())
}

/// A value that cannot go into a Secret as the spec says. Where the entry stands is told by the caller.
fn unrenderable(error: RenderError) -> ProviderError {
    ProviderError::new(ErrorKind::Malformed, error.cause.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{AnyStore, ExternalSecret, SecretStore};
    use crate::plan::external_secret::{Memory, StoreFacts};
    use crate::render::rewrite::testing::Sevens;

    fn facts(spec: serde_json::Value) -> (Facts, StoreId) {
        let store: SecretStore = serde_json::from_value(json!({
            "metadata": { "name": "store", "namespace": "ns", "uid": "store", "generation": 1 },
            "spec": { "provider": { "fake": { "data": [] } } },
        }))
        .unwrap();
        let es: ExternalSecret =
            serde_json::from_value(json!({ "metadata": { "name": "es", "namespace": "ns" }, "spec": spec })).unwrap();
        let store = AnyStore::from(store);
        let id = StoreId::of(&store);
        let facts = Facts {
            es: Arc::new(es),
            stores: [(id.clone(), StoreFacts { store: Some(Arc::new(store)), ..StoreFacts::default() })].into(),
            generators: Default::default(),
            namespace_labels: None,
            target: None,
            owned: Vec::new(),
            sources: Default::default(),
            replace_at: None,
            memory: Memory::default(),
            now: Timestamp::UNIX_EPOCH,
        };
        (facts, id)
    }

    /// What comes of these answers to all that is asked for.
    fn gathered(
        facts: &Facts,
        id: &StoreId,
        answers: impl IntoIterator<Item = Result<Answer, ProviderError>>,
    ) -> Result<Gathered, Failure> {
        let requests = entries::entries(&facts.es).into_iter().filter_map(|entry| entry.request());
        let read = |answer: Result<Answer, ProviderError>| Read {
            answer,
            at: Timestamp::UNIX_EPOCH,
            sent: tokio::time::Instant::now(),
            holds: None,
        };
        let reads = requests.zip(answers.into_iter().map(read)).collect();
        let session = facts.provider(id).unwrap().local();
        let reads = StoreReads { from: id.clone(), reads, session };
        values(facts, &Reads::from([(id.clone(), reads)]), &Generated::default(), &Sevens)
    }

    /// A search that comes back empty beside it may be an outage.
    #[test]
    fn all_is_gone_where_nothing_that_is_asked_for_exists() {
        let (facts, id) = facts(json!({
            "secretStoreRef": { "name": "store" },
            "target": { "deletionPolicy": "Delete" },
            "data": [{ "secretKey": "k", "remoteRef": { "key": "optional" } }],
            "dataFrom": [{ "find": { "name": { "regexp": "^x" } } }],
        }));
        let missing = || Err(ProviderError::new(ErrorKind::NotFound, "there is none"));
        let gone = |find: Result<Answer, ProviderError>| {
            let gathered = gathered(&facts, &id, [find, missing()]).unwrap();
            (gathered.missing.len(), gathered.gone)
        };
        assert_eq!(gone(missing()), (2, true));
        assert_eq!(gone(Ok(Answer::Found(Arc::default()))), (1, false));
    }

    /// One large value may be read again and again, and each time it is another copy.
    #[test]
    fn the_values_of_an_object_have_a_bound_together() {
        let most = |keys: &[&str], size: usize| {
            let entry = |key: &&str| json!({ "secretKey": key, "remoteRef": { "key": "large" } });
            let data: Vec<_> = keys.iter().map(entry).collect();
            let (facts, id) = facts(json!({ "secretStoreRef": { "name": "store" }, "data": data }));
            let value = Fetched { bytes: SecretBytes::new(vec![b'x'; size]), ..Fetched::default() };
            let answers = vec![Ok(Answer::Value(Arc::new(value))); keys.len()];
            gathered(&facts, &id, answers).map(|gathered| gathered.data.len())
        };
        let quarter = MOST_GATHERED / 4;
        assert_eq!(most(&["a", "b", "c", "d"], quarter - 1).unwrap(), 4);
        assert_eq!(most(&["a", "a", "a", "a", "a", "a"], quarter).unwrap(), 1, "only the last is kept");
        let failure = most(&["a", "b", "c", "d"], quarter).unwrap_err();
        let told = "error processing spec.data[3] (key: large), err: the values of the object have more than 8388608 bytes together";
        assert!(failure.cause.starts_with(told), "{}", failure.cause);
    }
}
