//! OpenLDAP's server, as Debian has it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::debian;
use crate::cache::Cache;

/// Where the parts of OpenLDAP are.
#[derive(Debug, Clone)]
pub struct OpenLdap {
    /// `slapd`; it is `slapadd`, too, under that name.
    pub slapd: PathBuf,
    /// The folder with its schemas.
    pub schemas: PathBuf,
    /// The folder with its modules.
    pub modules: PathBuf,
    /// Where it finds shared libraries; `None`: where every program does.
    pub libraries: Option<PathBuf>,
}

impl OpenLdap {
    /// Finds it, and unpacks Debian's package in the cache where it is not installed: installed, it would start by itself.
    ///
    /// # Errors
    /// When Debian's package cannot be fetched.
    pub fn find_or_unpack() -> Result<Self> {
        if Path::new("/usr/sbin/slapd").exists() {
            return Self::under(Path::new("/"), None);
        }
        let root = debian::unpack(&Cache::open()?, "slapd")?;
        let libraries = std::fs::read_dir(root.join("usr/lib"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-linux-gnu")))
            .context("Debian's package of slapd holds no libraries")?;
        Self::under(&root, Some(libraries))
    }

    fn under(root: &Path, libraries: Option<PathBuf>) -> Result<Self> {
        let (slapd, schemas) = (root.join("usr/sbin/slapd"), root.join("etc/ldap/schema"));
        let modules = root.join("usr/lib/ldap");
        for path in [&slapd, &schemas, &modules] {
            ensure!(path.exists(), "{} is missing: is that Debian's slapd?", path.display());
        }
        Ok(Self { slapd, schemas, modules, libraries })
    }
}
