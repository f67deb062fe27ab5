//! Writes of more than one object to one place.

use super::*;
use crate::providers::Source;

/// A service that all stores lead to: properties by key. A push reads, and then writes all of what it read with its own property.
#[derive(Default)]
struct Service {
    keys: Mutex<HashMap<String, Vec<(String, String)>>>,
}

struct At(Arc<Service>);

#[async_trait]
impl Login for At {
    async fn login(&self, _: &ProviderSpec, _: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(Self(self.0.clone())))
    }
}

#[async_trait]
impl Session for At {
    async fn get(&self, _: &[Want], _: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        Vec::new()
    }

    async fn push(&self, push: &Push, _: &CallCx) -> Result<Pushed, ProviderError> {
        let mut value = self.0.of(&push.place.key);
        sleep(LATENCY).await;
        let property = push.place.property().unwrap_or_default().to_owned();
        value.retain(|(name, _)| *name != property);
        value.push((property, push.secret_key.clone().unwrap()));
        value.sort();
        self.0.keys.lock().unwrap().insert(push.place.key.clone(), value);
        Ok(Pushed::Written)
    }

    async fn exists(&self, place: &Place, _: &CallCx) -> Result<bool, ProviderError> {
        sleep(LATENCY).await;
        Ok(self.0.of(&place.key).iter().any(|(name, _)| Some(name.as_str()) == place.property()))
    }

    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        Ok(Validation::Ready)
    }
}

impl Service {
    fn of(&self, key: &str) -> Vec<(String, String)> {
        self.keys.lock().unwrap().get(key).cloned().unwrap_or_default()
    }
}

fn leading_to(service: &Arc<Service>) -> Fetcher {
    let mut fetcher = fetcher(&Provider::new(1));
    fetcher.login = Arc::new(At(service.clone()));
    fetcher
}

/// The value is called as the key of the Secret that it comes from.
fn pushed(value: &str, property: &str) -> Push {
    let place = Place { key: "key".into(), property: Some(property.into()), ..Place::default() };
    Push { source: Arc::new(Source::default()), secret_key: Some(value.into()), place }
}

/// Else one of two objects takes away what the other one has pushed.
#[tokio::test(start_paused = true)]
async fn properties_that_are_written_at_once_are_both_there() {
    let service = Arc::new(Service::default());
    let (fetcher, store) = (leading_to(&service), store("s"));
    let one = fetcher.outlet(&store, 0, "ns", "push").await.unwrap();
    let other = fetcher.outlet(&store, 0, "ns", "push").await.unwrap();
    let (a, b) = (pushed("from one", "a"), pushed("from other", "b"));
    let (first, second) = tokio::join!(write(&one, &a), write(&other, &b));
    assert_eq!((first.unwrap(), second.unwrap()), (Pushed::Written, Pushed::Written));
    let both = [("a", "from one"), ("b", "from other")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(service.of("key"), both);
}

/// As under `updatePolicy: IfNotExists`.
#[tokio::test(start_paused = true)]
async fn who_looks_whether_a_place_is_free_has_its_turn_until_it_has_written() {
    let service = Arc::new(Service::default());
    let fetcher = &leading_to(&service);
    let store = &store("s");
    let push_if_free = |value: String| async move {
        let outlet = fetcher.outlet(store, 0, "ns", "push").await.unwrap();
        let push = pushed(&value, "p");
        let writing = outlet.writing(&push.place).await.unwrap();
        let is_free = !writing.exists(&push.place).await.unwrap();
        if is_free {
            writing.push(&push).await.unwrap();
        }
        is_free
    };
    let free = join_all((0..4).map(|i| push_if_free(format!("v{i}")))).await;
    assert_eq!(free.iter().filter(|free| **free).count(), 1);
    let first = free.iter().position(|free| *free).unwrap();
    assert_eq!(service.of("key"), [("p".to_owned(), format!("v{first}"))]);
}
