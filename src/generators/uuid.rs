//! UUID: a random one (RFC 9562, version 4).

use async_trait::async_trait;

use super::{GenerateCx, Generated, Generator};
use crate::api::generators::UuidSpec;
use crate::providers::ProviderError;
use crate::secret_bytes::SecretBytes;

const KEY: &str = "uuid";

#[async_trait]
impl Generator for UuidSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let mut bytes = [0; 16];
        cx.random(&mut bytes)?;
        Ok(Generated::values([(KEY, SecretBytes::from(version_4(bytes)))]))
    }
}

/// The text of a UUID of version 4 with these random bytes.
fn version_4(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_variant_are_set() {
        assert_eq!(version_4([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(version_4([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let counted: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap_or_default());
        assert_eq!(version_4(counted), "00010203-0405-4607-8809-0a0b0c0d0e0f");
    }
}
