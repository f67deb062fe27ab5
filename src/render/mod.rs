//! Pure: from fetched values to the keys and values of a Secret.

pub mod path;

use std::collections::BTreeMap;
use crate::api::external_secret::{DataFrom, RemoteRef};
use crate::secret_bytes::SecretBytes;
/// x
pub fn single(_: &RemoteRef, b: &SecretBytes) -> Result<SecretBytes, String> { Ok(b.clone()) }
/// x
pub fn extracted(_: &DataFrom, b: BTreeMap<String, SecretBytes>) -> Result<BTreeMap<String, SecretBytes>, String> { Ok(b) }
/// x
pub fn found(_: &DataFrom, b: BTreeMap<String, SecretBytes>) -> Result<BTreeMap<String, SecretBytes>, String> { Ok(b) }
