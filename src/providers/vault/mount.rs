//! Pure: where a key of a store is in Vault.

use super::config::{Vault, Version};
use super::provider::Block;

/// The key-value engine of a store: where it is mounted, if the store says so, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    path: Option<String>,
    pub version: Version,
    block: Block,
}

impl Mount {
    pub fn of(vault: &Vault, block: Block) -> Self {
        let path = vault.path.as_deref().map(|path| path.trim_matches('/')).filter(|path| !path.is_empty());
        Self { path: path.map(str::to_owned), version: vault.version.unwrap_or_default(), block }
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

    /// Where ESO up to 2.9 put the mark of a key that begins with the mount: it took the mount out of the path of the values only.
    pub fn older_metadata(&self, key: &str) -> Option<String> {
        let path = format!("{}/metadata/{key}", self.path()?);
        Some(path).filter(|path| self.version == Version::V2 && *path != self.metadata(key))
    }

    /// The path of a key. In a store of Vault, the mount, and `data` after it, may stand in the key already; OpenBao takes it as a
    /// folder. Without a mount, the key begins with it, and it is one step long unless `data` stands further on.
    fn under(&self, part: &str, key: &str) -> String {
        let versions = self.version == Version::V2;
        let Some(mount) = &self.path else {
            let key = key.trim_start_matches('/');
            return match key.split_once("/data/") {
                _ if !versions => key.to_owned(),
                Some((mount, rest)) => format!("{mount}/{part}/{rest}"),
                None => match key.split_once('/') {
                    Some((mount, rest)) => format!("{mount}/{part}/{rest}"),
                    None => format!("{key}/{part}"),
                },
            };
        };
        let after_mount = key.strip_prefix(mount.as_str()).and_then(|rest| rest.strip_prefix('/'));
        let inner = match after_mount.filter(|_| self.block == Block::Vault) {
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
            Mount::of(&Vault { path: path.map(Into::into), version: Some(version), ..Vault::default() }, Block::Vault)
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
            (None, Version::V2, "secret/data/", "secret/data/", "secret/metadata/"),
            // ESO takes what is before the slash for the mount: nothing
            (None, Version::V2, "/secret/foo", "secret/data/foo", "secret/metadata/foo"),
            (Some("kv"), Version::V2, "kv/", "kv/data/", "kv/metadata/"),
            (Some("kv"), Version::V2, "", "kv/data/", "kv/metadata/"),
            (Some("kv"), Version::V1, "", "kv/", "kv/"),
        ] {
            let mount = mount(path, version);
            assert_eq!((mount.data(key).as_str(), mount.metadata(key).as_str()), (data, metadata), "{path:?} {key}");
        }
    }

    /// As OpenBao's own client, which ESO uses there.
    #[test]
    fn a_folder_of_open_bao_may_have_the_mounts_name() {
        for (version, key, data, metadata) in [
            (Version::V2, "kv/db", "kv/data/kv/db", "kv/metadata/kv/db"),
            (Version::V2, "kv/data/db", "kv/data/kv/data/db", "kv/metadata/kv/data/db"),
            (Version::V2, "db", "kv/data/db", "kv/metadata/db"),
            (Version::V1, "kv/db", "kv/kv/db", "kv/kv/db"),
        ] {
            let vault = Vault { path: Some("kv".into()), version: Some(version), ..Vault::default() };
            let mount = Mount::of(&vault, Block::OpenBao);
            assert_eq!((mount.data(key).as_str(), mount.metadata(key).as_str()), (data, metadata), "{key}");
            assert_eq!(mount.older_metadata(key), None, "{key}");
        }
    }

    #[test]
    fn marks_of_older_versions_are_where_the_mount_stands_twice() {
        for (path, version, key, older) in [
            (Some("kv"), Version::V2, "kv/db", Some("kv/metadata/kv/db")),
            (Some("kv"), Version::V2, "kv/data/db", Some("kv/metadata/kv/data/db")),
            (Some("kv"), Version::V2, "db", None),
            (Some("kv"), Version::V2, "kv-2/db", None),
            (Some("kv"), Version::V1, "kv/db", None),
            (None, Version::V2, "kv/db", None),
        ] {
            let vault = Vault { path: path.map(Into::into), version: Some(version), ..Vault::default() };
            let found = Mount::of(&vault, Block::Vault).older_metadata(key);
            assert_eq!(found.as_deref(), older, "{path:?} {key}");
        }
    }
}
