//! Fake: gives the values of its spec.

use async_trait::async_trait;

use super::{GenerateCx, Generated, Generator};
use crate::api::generators::FakeSpec;
use crate::providers::ProviderError;
use crate::secret_bytes::SecretBytes;

#[async_trait]
impl Generator for FakeSpec {
    async fn generate(&self, _: &GenerateCx) -> Result<Generated, ProviderError> {
        Ok(Generated::values(self.data.iter().map(|(key, value)| (key.clone(), SecretBytes::from(value.as_str())))))
    }
}
