//! What every provider that is written to must do.
#![allow(clippy::unwrap_used)]

use super::*;

/// A source with the canary, a second value and one that is no text.
fn source(canary: &str) -> Arc<Source> {
    let data = [("user", canary), ("other", "o<&>"), ("with.dot", "d")].map(|(k, v)| (k.to_owned(), SecretBytes::from(v)));
    Arc::new(Source { data: data.into(), ..Source::default() })
}

fn place(key: &str, property: Option<&str>) -> Place {
    Place { key: key.to_owned(), property: property.map(Into::into), namespace: "team-a".to_owned(), ..Place::default() }
}

fn push(source: &Arc<Source>, secret_key: Option<&str>, property: Option<&str>) -> Push {
    Push { source: source.clone(), secret_key: secret_key.map(Into::into), place: place("new-db", property) }
}

fn came_to<T: PartialEq + Debug>(result: Result<T, ProviderError>, expected: &T) -> Outcome {
    match result {
        Ok(found) if found == *expected => Ok(()),
        Ok(found) => Err(format!("{found:?} in place of {expected:?}")),
        Err(error) => Err(format!("an error in place of {expected:?}: {error}")),
    }
}

pub(super) async fn pushes(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(World::default()).await;
    let property = fixture.plain_property();
    for value in [CANARY, "second"] {
        let pushed = session.push(&push(&source(value), Some("user"), property), &cx()).await;
        came_to(pushed, &Pushed::Written)?;
        is_value(read(session.as_ref(), &want("new-db"), property).await, value.as_bytes())?;
    }
    let missing = session.push(&push(&source(CANARY), Some("nope"), property), &cx()).await;
    is_error(missing, &[ErrorKind::Misconfigured]).map(drop)
}

pub(super) async fn push_whole(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(World::default()).await;
    came_to(session.push(&push(&source("ann"), None, None), &cx()).await, &Pushed::Written)?;
    let expected = match fixture.escapes_html() {
        true => r#"{"other":"o\u003c\u0026\u003e","user":"ann","with.dot":"d"}"#,
        false => r#"{"other":"o<&>","user":"ann","with.dot":"d"}"#,
    };
    is_value(read(session.as_ref(), &want("new-db"), None).await, expected.as_bytes())
}

pub(super) async fn push_unchanged(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(World::default()).await;
    for push in [push(&source("ann"), Some("user"), fixture.plain_property()), push(&source("ann"), None, None)] {
        came_to(session.push(&push, &cx()).await, &Pushed::Written)?;
        let before = fixture.writes();
        came_to(session.push(&push, &cx()).await, &Pushed::Unchanged)?;
        if fixture.writes() != before {
            return Err("something was written all the same".to_owned());
        }
    }
    Ok(())
}

pub(super) async fn push_property(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(World::default()).await;
    for (key, property) in [("user", "name"), ("other", "else"), ("user", "name")] {
        session.push(&push(&source("ann"), Some(key), Some(property)), &cx()).await.map_err(|e| e.to_string())?;
    }
    is_value(read(session.as_ref(), &want("new-db"), Some("name")).await, b"ann")?;
    is_value(read(session.as_ref(), &want("new-db"), Some("else")).await, b"o<&>")?;
    let again = session.push(&push(&source("ann"), Some("other"), Some("else")), &cx()).await;
    came_to(again, &Pushed::Unchanged)
}

pub(super) async fn exists(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(World::default()).await;
    let property = fixture.plain_property();
    came_to(session.exists(&place("new-db", property), &cx()).await, &false)?;
    session.push(&push(&source("ann"), Some("user"), property), &cx()).await.map_err(|e| e.to_string())?;
    came_to(session.exists(&place("new-db", property), &cx()).await, &true)?;
    came_to(session.exists(&place("new-db-2", property), &cx()).await, &false)
}

pub(super) async fn delete(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(World::default()).await;
    let property = fixture.plain_property();
    session.push(&push(&source("ann"), Some("user"), property), &cx()).await.map_err(|e| e.to_string())?;
    for _ in 0..2 {
        came_to(session.delete(&place("new-db", property), &cx()).await, &())?;
        is_error(fetch(session.as_ref(), &want("new-db")).await, &[ErrorKind::NotFound])?;
    }
    Ok(())
}

pub(super) async fn delete_property(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(World::default()).await;
    for (key, property) in [("user", "name"), ("other", "else")] {
        session.push(&push(&source("ann"), Some(key), Some(property)), &cx()).await.map_err(|e| e.to_string())?;
    }
    came_to(session.delete(&place("new-db", Some("name")), &cx()).await, &())?;
    is_error(read(session.as_ref(), &want("new-db"), Some("name")).await, &[ErrorKind::MissingProperty])?;
    is_value(read(session.as_ref(), &want("new-db"), Some("else")).await, b"o<&>")?;
    came_to(session.delete(&place("new-db", Some("else")), &cx()).await, &())?;
    is_error(fetch(session.as_ref(), &want("new-db")).await, &[ErrorKind::NotFound]).map(drop)
}

pub(super) async fn push_foreign(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(holding(vec![plain("new-db", CANARY)])).await;
    let pushed = session.push(&push(&source("mine"), Some("user"), fixture.plain_property()), &cx()).await;
    is_error(pushed, &[ErrorKind::Denied])?;
    came_to(session.delete(&place("new-db", None), &cx()).await, &())?;
    is_value(read(session.as_ref(), &want("new-db"), fixture.plain_property()).await, CANARY.as_bytes())
}

pub(super) async fn push_denied(fixture: &dyn Fixture) -> Outcome {
    let session = fixture.connect(World { secrets: Vec::new(), fault: Some(Fault::Denied) }).await;
    let property = fixture.plain_property();
    is_error(session.push(&push(&source(CANARY), Some("user"), property), &cx()).await, &[ErrorKind::Denied])?;
    is_error(session.delete(&place("new-db", property), &cx()).await, &[ErrorKind::Denied])?;
    is_error(session.exists(&place("new-db", property), &cx()).await, &[ErrorKind::Denied]).map(drop)
}
