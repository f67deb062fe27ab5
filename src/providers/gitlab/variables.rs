//! Which of several variables counts. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::secret_bytes::SecretBytes;

/// The scope of a variable for all environments.
pub(super) const ANY: &str = "*";
/// What `description` says of a variable that was pushed.
pub(super) const MARK: &str = "managed-by:external-secrets";

/// A variable, as GitLab tells it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Variable {
    pub key: String,
    /// None: GitLab shows it to nobody.
    #[serde(default, deserialize_with = "value")]
    pub value: Option<SecretBytes>,
    #[serde(default)]
    pub hidden: bool,
    #[serde(default)]
    environment_scope: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    pub masked: bool,
    #[serde(default)]
    pub protected: bool,
    #[serde(default)]
    pub raw: bool,
    #[serde(default)]
    pub variable_type: String,
}

fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretBytes>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretBytes::from))
}

impl Variable {
    /// Its scope.
    pub fn scope(&self) -> &str {
        self.environment_scope.as_deref().filter(|scope| !scope.is_empty()).unwrap_or(ANY)
    }

    /// How much of it is kept, in bytes.
    pub fn weight(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let value = self.value.as_ref().map_or(0, SecretBytes::len);
        self.key.len() + value + text(&self.environment_scope) + text(&self.description)
    }

    /// Whether it was pushed by us, or by ESO.
    pub fn is_ours(&self) -> bool {
        self.description.as_deref().is_some_and(|text| text.contains(MARK))
    }
}

/// What is picked of several variables of one key.
#[derive(Debug)]
pub(super) enum Pick<'a> {
    /// This one.
    One(&'a Variable),
    /// None is of the environment.
    None,
    /// Several are, and nobody says of which environment.
    Several,
}

/// The variable of a key for an environment: of its very scope, else of all environments. Without an environment any scope will do,
/// if there is only one, or one is for all.
pub(super) fn pick<'a>(all: &'a [Variable], key: &str, environment: &str) -> Pick<'a> {
    let of_key = || all.iter().filter(|variable| variable.key == key);
    let of_scope = |scope: &str| of_key().find(|variable| variable.scope() == scope);
    let any = || of_scope(ANY);
    if !matches!(environment, "" | ANY) {
        return of_scope(environment).or_else(any).map_or(Pick::None, Pick::One);
    }
    match any() {
        Some(found) => Pick::One(found),
        None if environment == ANY => Pick::None,
        None => match of_key().collect::<Vec<_>>()[..] {
            [] => Pick::None,
            [one] => Pick::One(one),
            _ => Pick::Several,
        },
    }
}

/// All variables for an environment by key, those of `sources` in order: a later source wins over an earlier one, and in each
/// the environment's own over those of all. Without an environment, one of some scope wins over those of all (ESO's rule).
pub(super) fn merged<'a>(
    sources: impl IntoIterator<Item = &'a [Variable]>,
    environment: &str,
) -> BTreeMap<&'a str, &'a Variable> {
    let mut all = BTreeMap::new();
    for source in sources {
        let (any, own): (Vec<_>, Vec<_>) = source.iter().partition(|variable| variable.scope() == ANY);
        let own = own.into_iter().filter(|variable| matches!(environment, "" | ANY) || variable.scope() == environment);
        all.extend(any.into_iter().chain(own).map(|variable| (variable.key.as_str(), variable)));
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables(all: &[(&str, &str, &str)]) -> Vec<Variable> {
        let one = |(key, scope, value): &(&str, &str, &str)| {
            serde_json::from_value(json!({"key": key, "environment_scope": scope, "value": value})).unwrap()
        };
        all.iter().map(one).collect()
    }

    fn text(variable: &Variable) -> &str {
        variable.value.as_ref().unwrap().expose_str().unwrap()
    }

    #[test]
    fn the_environments_own_variable_comes_first() {
        let all =
            variables(&[("K", "*", "any"), ("K", "prod", "prod"), ("L", "prod", "l"), ("M", "a", "1"), ("M", "b", "2")]);
        let picked = |key: &str, environment: &str| match pick(&all, key, environment) {
            Pick::One(variable) => text(variable).to_owned(),
            Pick::None => "none".to_owned(),
            Pick::Several => "several".to_owned(),
        };
        for (key, environment, expected) in [
            ("K", "prod", "prod"),
            ("K", "dev", "any"),
            ("K", "*", "any"),
            ("K", "", "any"),
            ("L", "prod", "l"),
            ("L", "dev", "none"),
            ("L", "*", "none"),
            ("L", "", "l"),
            ("M", "", "several"),
            ("M", "b", "2"),
            ("N", "", "none"),
        ] {
            assert_eq!(picked(key, environment), expected, "{key} {environment}");
        }
    }

    #[test]
    fn a_later_source_wins() {
        let group = variables(&[("A", "*", "g"), ("B", "prod", "g"), ("C", "dev", "g")]);
        let project = variables(&[("A", "prod", "own"), ("A", "*", "p"), ("B", "*", "p")]);
        let found = |environment: &str| -> Vec<(String, String)> {
            let all = merged([group.as_slice(), project.as_slice()], environment);
            all.into_iter().map(|(key, variable)| (key.to_owned(), text(variable).to_owned())).collect()
        };
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        assert_eq!(found("prod"), pairs(&[("A", "own"), ("B", "p")]));
        assert_eq!(found("dev"), pairs(&[("A", "p"), ("B", "p"), ("C", "g")]));
        assert_eq!(found(""), pairs(&[("A", "own"), ("B", "p"), ("C", "g")]));
    }
}
