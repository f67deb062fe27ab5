//! Pure: where a key of a store is in Vault.

use super::config::{Vault, Version};

/// The key-value engine of a store: where it is mounted, if the store says so, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    path: Option<String>,
    pub version: Version,
}

impl Mount {
    pub fn of(vault: &Vault) -> Self {
        let path = vault.path.as_deref().map(|path| path.trim_matches('/')).filter(|path| !path.is_empty());
        Self { path: path.map(str::to_owned), version: vault.version.unwrap_or_default() }
    }

    /// Where the store says that the engine is mounted.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Path of a key's values.
    pub fn data(&self, key: &str) -> String {
        self.under("data", key)
    }

    /// Path of what is known of a key besides its values, and of lists. An engine without versions has no such place of its own.
    pub fn metadata(&self, key: &str) -> String {
        self.under("metadata", key)
    }

    /// The path of a key. The mount, and `data` after it, may stand in the key already. Without a mount, the key begins with it,
    /// and it is one step long unless `data` stands further on.
    fn under(&self, part: &str, key: &str) -> String {
        let versions = self.version == Version::V2;
        let Some(mount) = &self.path else {
            return match key.split_once("/data/") {
                _ if !versions => key.to_owned(),
                Some((mount, rest)) => format!("{mount}/{part}/{rest}"),
                None => match key.split_once('/') {
                    Some((mount, rest)) => format!("{mount}/{part}/{rest}"),
                    None => format!("{key}/{part}"),
                },
            };
        };
        let inner = match key.strip_prefix(mount.as_str()).and_then(|rest| rest.strip_prefix('/')) {
            Some(inner) if versions => inner.strip_prefix("data/").unwrap_or(inner),
            Some(inner) => inner,
            None => key,
        };
        if versions { format!("{mount}/{part}/{inner}") } else { format!("{mount}/{inner}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_esos_paths() {
        let mount = |path: Option<&str>, version| {
            Mount::of(&Vault { path: path.map(Into::into), version: Some(version), ..Vault::default() })
        };
        for (path, version, key, data, metadata) in [
            (Some("secret/path"), Version::V2, "foo", "secret/path/data/foo", "secret/path/metadata/foo"),
            (Some("secret/path"), Version::V1, "foo", "secret/path/foo", "secret/path/foo"),
            (Some("secret/path"), Version::V2, "secret/path/foo", "secret/path/data/foo", "secret/path/metadata/foo"),
            (Some("secret/path"), Version::V2, "secret/path/data/foo", "secret/path/data/foo", "secret/path/metadata/foo"),
            (Some("secret/path"), Version::V1, "secret/path/foo", "secret/path/foo", "secret/path/foo"),
            (Some("secret/path"), Version::V1, "secret/path/data/foo", "secret/path/data/foo", "secret/path/data/foo"),
            (Some("kv"), Version::V2, "kv-2/foo", "kv/data/kv-2/foo", "kv/metadata/kv-2/foo"),
            (Some("/kv/"), Version::V2, "data/foo", "kv/data/data/foo", "kv/metadata/data/foo"),
            (None, Version::V2, "secret/path/foo", "secret/data/path/foo", "secret/metadata/path/foo"),
            (None, Version::V2, "secret/path/data/foo", "secret/path/data/foo", "secret/path/metadata/foo"),
            (None, Version::V1, "secret/path/foo", "secret/path/foo", "secret/path/foo"),
            (None, Version::V2, "secret", "secret/data", "secret/metadata"),
            (Some("kv"), Version::V2, "", "kv/data/", "kv/metadata/"),
            (Some("kv"), Version::V1, "", "kv/", "kv/"),
        ] {
            let mount = mount(path, version);
            assert_eq!((mount.data(key).as_str(), mount.metadata(key).as_str()), (data, metadata), "{path:?} {key}");
        }
    }
}
