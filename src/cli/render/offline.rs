//! Stores without a provider behind them: values come from the store itself, from a file, or are placeholders.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use jiff::Timestamp;
use regex::Regex;
use tokio::time::Instant;

use super::values::{Known, Values};
use crate::api::ExternalSecret;
use crate::api::external_secret::{DataFrom, DecodingStrategy, Template};
use crate::controllers::gather::{Reads, StoreReads};
use crate::fetch::{Answer, Read, Request};
use crate::index::StoreId;
use crate::plan::entries::{self, Entry};
use crate::plan::external_secret::{Facts, FetchPlan, Gathered};
use crate::providers::{
    CallCx, ErrorKind, Fetched, FindQuery, Found, Plain, ProviderError, Session, Taker, Validation, Want,
};
use crate::render::target::Sources;
use crate::render::{Entries, json};
use crate::secret_bytes::SecretBytes;

/// What stands for a value that nobody gave, and for the key of a set that nobody knows.
pub(super) const PLACEHOLDER: &str = "placeholder";
/// The same, for an entry that decodes it.
const ENCODED: &str = "cGxhY2Vob2xkZXI=";

/// Reads what a plan asks for, without asking a provider.
pub async fn read(facts: &Facts, fetch: &FetchPlan, values: &Arc<Values>, blanks: Option<&Arc<Blanks>>) -> Reads {
    let mut all = Reads::new();
    for (id, requests) in &fetch.requests {
        let served = facts.provider(id);
        let session: Arc<dyn Session> = match served.and_then(|p| p.local()) {
            Some(local) => local,
            None => Arc::new(Offline {
                store: id.clone(),
                taker: served.map_or(&Plain, |p| p.taker()),
                values: values.clone(),
                blanks: blanks.cloned(),
            }),
        };
        let mut reads = HashMap::new();
        for request in requests {
            let (at, sent) = (Timestamp::now(), Instant::now());
            reads.insert(request.clone(), Read { answer: ask(session.as_ref(), request).await, at, sent, holds: None });
        }
        all.insert(id.clone(), StoreReads { from: id.clone(), reads, session: Some(session) });
    }
    all
}

async fn ask(session: &dyn Session, request: &Request) -> Result<Answer, ProviderError> {
    let cx = CallCx::default();
    match request {
        Request::Get(want) => {
            let answer = session.get(std::slice::from_ref(want), &cx).await.pop();
            let fetched = answer.unwrap_or_else(|| Err(ProviderError::not_found(&want.key)))?;
            Ok(Answer::Value(Arc::new(fetched)))
        }
        Request::Find(query) => Ok(Answer::Found(Arc::new(session.find(query, &cx).await?))),
    }
}

/// A session over values of a file. It takes them apart as the provider's own does.
struct Offline {
    store: StoreId,
    taker: &'static dyn Taker,
    values: Arc<Values>,
    blanks: Option<Arc<Blanks>>,
}

impl Offline {
    fn one(&self, want: &Want) -> Result<Fetched, ProviderError> {
        let bytes = match self.values.get(&self.store.key.name, want) {
            Known::Value(written) => self.taker.stored(want, written)?,
            Known::Missing => return Err(ProviderError::not_found(&want.key)),
            Known::Unknown if self.blanks.is_some() => SecretBytes::default(),
            Known::Unknown => return Err(self.unknown(want)),
        };
        Ok(Fetched { bytes, version: None, request_id: None })
    }

    /// The placeholders, where nobody gave the value.
    fn blanks(&self, want: &Want) -> Option<&Blanks> {
        let unknown = self.values.get(&self.store.key.name, want) == Known::Unknown;
        self.blanks.as_deref().filter(|_| unknown)
    }

    fn unknown(&self, want: &Want) -> ProviderError {
        let version = if want.version.is_empty() { String::new() } else { format!(" in version {:?}", want.version) };
        let written = if want.version.is_empty() { want.key.clone() } else { format!("{}@{}", want.key, want.version) };
        let written = if want.metadata == Default::default() { written } else { format!("{written}!metadata") };
        let text = format!(
            "there is no value for key {:?}{version} of {}: write {written:?} into the file of --values (null: the provider does not \
             have it), or use --missing=placeholder or --live",
            want.key, self.store
        );
        ProviderError::new(ErrorKind::Misconfigured, text)
    }
}

#[async_trait]
impl Session for Offline {
    async fn get(&self, wants: &[Want], _: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        wants.iter().map(|want| self.one(want)).collect()
    }

    async fn find(&self, query: &FindQuery, _: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let keys = self.values.find(&self.store.key.name, query)?;
        let mut found = Vec::new();
        for key in keys {
            let want = Want { key: key.clone(), ..Want::default() };
            if let Known::Value(written) = self.values.get(&self.store.key.name, &want) {
                let bytes = self.taker.whole(&want, &self.taker.stored(&want, written)?)?;
                found.push(Found { name: key, bytes });
            }
        }
        match &self.blanks {
            Some(blanks) if found.is_empty() => Ok(blanks.found(query)),
            None if found.is_empty() => {
                let text = format!(
                    "no value of {} matches: write one into the file of --values (its tags under \"KEY!metadata\"), or use \
                     --missing=placeholder or --live",
                    self.store
                );
                Err(ProviderError::new(ErrorKind::Misconfigured, text))
            }
            _ => Ok(found),
        }
    }

    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        Ok(Validation::Ready)
    }

    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        match self.blanks(want) {
            Some(blanks) => Ok(blanks.single(want, None)),
            None => self.taker.whole(want, value),
        }
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        match self.blanks(want) {
            Some(blanks) => Ok(blanks.single(want, Some(property))),
            None => self.taker.property(want, value, property),
        }
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        match self.blanks(want) {
            Some(blanks) => Ok(blanks.set(want, property)),
            None => self.taker.extract(want, value, property),
        }
    }
}

/// Placeholders for one ExternalSecret: of the shape that its entries ask for.
#[derive(Debug, Default)]
pub struct Blanks {
    /// Whether a set was asked for: its keys are anybody's guess.
    guessed: AtomicBool,
    single: BTreeMap<(Want, Option<String>), DecodingStrategy>,
    sets: BTreeMap<(Want, Option<String>), Shape>,
    finds: Vec<(FindQuery, Shape)>,
}

/// What the values of a set must look like.
#[derive(Clone, Debug, Default)]
struct Shape {
    decoding: DecodingStrategy,
    /// Whether they are merged as JSON objects, and which keys must be there then.
    merged: Option<Vec<String>>,
}

impl Shape {
    fn of(decoding: Option<DecodingStrategy>, from: &DataFrom) -> Self {
        let mut merges = from.rewrite.iter().filter_map(|r| r.merge.as_ref());
        Self { decoding: decoding.unwrap_or_default(), merged: merges.next().map(|merge| merge.priority.clone()) }
    }

    fn values(&self) -> Entries {
        // objects that are merged do not clash: each has a key of its own
        let object = |key: &str| json::object_of_text(&[(key.to_owned(), placeholder(self.decoding))].into());
        let value = |key| if self.merged.is_some() { object(key) } else { placeholder(self.decoding) };
        let keys = self.merged.iter().flatten().map(String::as_str).chain([PLACEHOLDER]);
        keys.map(|key| (key.to_owned(), value(key))).collect()
    }
}

fn placeholder(decoding: DecodingStrategy) -> SecretBytes {
    match decoding {
        DecodingStrategy::Base64 | DecodingStrategy::Base64Url => ENCODED.into(),
        DecodingStrategy::Auto | DecodingStrategy::None => PLACEHOLDER.into(),
    }
}

impl Blanks {
    /// The placeholders that an ExternalSecret needs.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let mut blanks = Self::default();
        for entry in entries::entries(&facts.es) {
            match (&entry, entry.request()) {
                (Entry::Data(_, data), Some(Request::Get(want))) => {
                    let property = data.remote_ref.property.clone().filter(|p| !p.is_empty());
                    // one value for all who read it: where any decodes it, it must be base64
                    let decoding = data.remote_ref.decoding_strategy.unwrap_or_default();
                    let held = blanks.single.entry((want, property)).or_default();
                    if matches!(decoding, DecodingStrategy::Base64 | DecodingStrategy::Base64Url) {
                        *held = decoding;
                    }
                }
                (Entry::From(_, from), Some(Request::Get(want))) => {
                    let extract = from.extract.clone().unwrap_or_default();
                    let property = extract.property.filter(|p| !p.is_empty());
                    blanks.sets.insert((want, property), Shape::of(extract.decoding_strategy, from));
                }
                (Entry::From(_, from), Some(Request::Find(query))) => {
                    let decoding = from.find.as_ref().and_then(|find| find.decoding_strategy);
                    blanks.finds.push((query, Shape::of(decoding, from)));
                }
                _ => {}
            }
        }
        blanks
    }

    fn single(&self, want: &Want, property: Option<&str>) -> SecretBytes {
        let key = (want.clone(), property.map(str::to_owned));
        placeholder(self.single.get(&key).copied().unwrap_or_default())
    }

    fn set(&self, want: &Want, property: Option<&str>) -> Entries {
        self.guessed.store(true, Ordering::Relaxed);
        let key = (want.clone(), property.map(str::to_owned));
        self.sets.get(&key).cloned().unwrap_or_default().values()
    }

    /// What stands for what a generator would make.
    pub fn generated(&self, es: &ExternalSecret, index: usize) -> Entries {
        self.guessed.store(true, Ordering::Relaxed);
        es.spec.data_from.get(index).map(|from| Shape::of(None, from)).unwrap_or_default().values()
    }

    fn found(&self, query: &FindQuery) -> Vec<Found> {
        self.guessed.store(true, Ordering::Relaxed);
        let shape = self.finds.iter().find(|(known, _)| known == query).map(|(_, shape)| shape.clone());
        let values = shape.unwrap_or_default().values();
        values.into_iter().map(|(name, bytes)| Found { name, bytes }).collect()
    }

    /// Adds a placeholder for each key that the template names, where sets were asked for whose keys nobody knows.
    pub fn fill(&self, facts: &Facts, gathered: &mut Gathered, sources: &Sources) {
        let target = facts.es.target();
        let Some(template) = target.template.as_ref().filter(|_| self.guessed.load(Ordering::Relaxed)) else { return };
        for name in named(template, sources) {
            gathered.data.entry(name).or_insert_with(|| PLACEHOLDER.into());
        }
    }
}

/// The keys that a template names, as far as its text tells.
pub(super) fn named(template: &Template, sources: &Sources) -> BTreeSet<String> {
    static FIELD: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"(?:^|[\s(|{=,$])\.([A-Za-z_][A-Za-z0-9_]*)|index\s+[.$]\s+["`]([^"`]+)["`]"#).ok());
    let metadata = template.metadata.iter().flat_map(|m| m.labels.values().chain(m.annotations.values()));
    let own = template.data.values().chain(metadata).chain(template.template_from.iter().filter_map(|f| f.literal.as_ref()));
    let others = sources.values().flatten().flat_map(|source| source.texts.values()).filter_map(SecretBytes::expose_str);
    let mut names = BTreeSet::new();
    for text in own.map(String::as_str).chain(others) {
        let Some(regex) = FIELD.as_ref() else { continue };
        names.extend(regex.captures_iter(text).filter_map(|c| Some(c.get(1).or(c.get(2))?.as_str().to_owned())));
    }
    names
}
