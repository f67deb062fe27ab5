//! MFA: a time-based one-time password (RFC 6238) of a shared secret.
//!
//! ESO always hashes with SHA-1, whatever `algorithm` says; here it is heeded.

use async_trait::async_trait;
use aws_lc_rs::hmac;
use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use super::{GenerateCx, Generated, Generator, misconfigured};
use crate::api::generators::MfaSpec;
use crate::providers::ProviderError;
use crate::secret_bytes::SecretBytes;

const LENGTH: i64 = 6;
const PERIOD: i64 = 30;
/// Most digits: a truncated hash has ten at most, the rest is zeros.
const MOST: i64 = 18;

#[async_trait]
impl Generator for MfaSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let algorithm = algorithm(self.algorithm.as_deref())?;
        let length = number(self.length, LENGTH, MOST, "length")?;
        let period = number(self.time_period, PERIOD, i64::MAX, "timePeriod")?;
        let key = key(&cx.connect.secret_text(&self.secret, "spec.secret").await?)?;
        let at = self.when.as_ref().map_or(cx.now, |when| when.0).as_second();
        let counter = u64::try_from(at.div_euclid(period))
            .map_err(|_| misconfigured("spec.when is before 1970: name a later moment".into()))?;
        let token = token(algorithm, &key, counter, length);
        let left = period - at.rem_euclid(period);
        Ok(Generated::values([("token", SecretBytes::from(token)), ("timeLeft", SecretBytes::from(left.to_string()))]))
    }
}

fn algorithm(name: Option<&str>) -> Result<hmac::Algorithm, ProviderError> {
    let plain = name.unwrap_or_default().to_lowercase().replace('-', "");
    match plain.trim_start_matches("hmac") {
        "" | "sha1" => Ok(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        "sha256" => Ok(hmac::HMAC_SHA256),
        "sha384" => Ok(hmac::HMAC_SHA384),
        "sha512" => Ok(hmac::HMAC_SHA512),
        _ => Err(misconfigured("spec.algorithm is none of sha1, sha256, sha384 and sha512".into())),
    }
}

/// A setting that is left out or zero is the default.
fn number(given: Option<i64>, default: i64, most: i64, field: &str) -> Result<i64, ProviderError> {
    match given.unwrap_or_default() {
        0 => Ok(default),
        given if (1..=most).contains(&given) => Ok(given),
        given => Err(misconfigured(format!("spec.{field}: {given} is not between 1 and {most}"))),
    }
}

/// The bytes of a secret as it is handed out: base32, often in groups and lower case.
fn key(text: &SecretBytes) -> Result<SecretBytes, ProviderError> {
    let text = text.expose_str().unwrap_or_default();
    let plain: Zeroizing<String> =
        text.chars().filter(|c| !matches!(c, ' ' | '=')).map(|c| c.to_ascii_uppercase()).collect::<String>().into();
    BASE32_NOPAD
        .decode(plain.as_bytes())
        .map(SecretBytes::new)
        .map_err(|_| misconfigured("spec.secret: the value is not base32: take the key as the service hands it out".into()))
}

/// The token of a moment (RFC 4226, section 5.3).
fn token(algorithm: hmac::Algorithm, key: &SecretBytes, counter: u64, length: i64) -> String {
    let tag = hmac::sign(&hmac::Key::new(algorithm, key.expose()), &counter.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag.last().copied().unwrap_or_default() & 0x0f);
    let truncated =
        tag.iter().skip(offset).take(4).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte)) & 0x7fff_ffff;
    let width = usize::try_from(length).unwrap_or_default();
    let digits = truncated % 10_u64.pow(u32::try_from(width).unwrap_or_default());
    format!("{digits:0width$}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B.
    #[test]
    fn tokens_are_those_of_the_rfc() {
        let table = [
            (59, "94287082", "46119246", "90693936"),
            (1_111_111_109, "07081804", "68084774", "25091201"),
            (1_111_111_111, "14050471", "67062674", "99943326"),
            (1_234_567_890, "89005924", "91819424", "93441116"),
            (2_000_000_000, "69279037", "90698825", "38618901"),
            (20_000_000_000_u64, "65353130", "77737706", "47863826"),
        ];
        let seed = |n: usize| SecretBytes::new(b"1234567890".iter().copied().cycle().take(n).collect());
        for (time, sha1, sha256, sha512) in table {
            for (name, length, want) in [("sha1", 20, sha1), ("SHA-256", 32, sha256), ("HMAC-SHA512", 64, sha512)] {
                assert_eq!(token(algorithm(Some(name)).unwrap(), &seed(length), time / 30, 8), want, "{name} at {time}");
            }
        }
        assert_eq!(algorithm(Some("HmacSHA384")).unwrap(), hmac::HMAC_SHA384);
        assert!(algorithm(Some("md5")).is_err());
    }

    #[test]
    fn a_secret_may_come_in_groups() {
        let plain = key(&"JBSWY3DPEHPK3PXP".into()).unwrap();
        assert_eq!(plain.expose(), b"Hello!\xde\xad\xbe\xef");
        assert_eq!(key(&"jbsw y3dp ehpk 3pxp".into()).unwrap(), plain);
        assert_eq!(key(&"GE======".into()).unwrap().expose(), b"1");
        let error = key(&"canary-18".into()).unwrap_err();
        assert!(!error.detail.contains("canary"), "{error}");
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(number(None, 6, 18, "length").unwrap(), 6);
        assert_eq!(number(Some(0), 6, 18, "length").unwrap(), 6);
        assert_eq!(number(Some(8), 6, 18, "length").unwrap(), 8);
        assert_eq!(number(Some(-1), 6, 18, "length").unwrap_err().detail, "spec.length: -1 is not between 1 and 18");
        assert_eq!(token(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &"k".into(), 0, 18).len(), 18);
    }
}
