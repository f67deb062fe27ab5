//! SSHKey: a key pair, in the form that OpenSSH writes.

use async_trait::async_trait;
use aws_lc_rs::encoding::{AsBigEndian as _, AsDer as _, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _};

use super::openssh::{self, Pair};
use super::{GenerateCx, Generated, Generator, misconfigured};
use crate::api::generators::{SshKeySpec, SshKeyType};
use crate::providers::{ErrorKind, ProviderError};

#[async_trait]
impl Generator for SshKeySpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let comment = self.comment.clone().unwrap_or_default();
        if comment.contains(['\n', '\r']) {
            return Err(misconfigured("spec.comment has more than one line".into()));
        }
        let mut check = [0; 4];
        cx.random(&mut check)?;
        let (kind, size) = (self.key_type.unwrap_or_default(), self.key_size);
        // a large RSA key takes seconds: not on the threads that all others share
        let made = tokio::task::spawn_blocking(move || pair(kind, size)).await;
        let pair = made.map_err(|_| ProviderError::new(ErrorKind::Unavailable, "the key could not be made"))??;
        Ok(Generated::values([
            ("privateKey", openssh::private_key(&pair, check, &comment)),
            ("publicKey", openssh::public_key(&pair, &comment)),
        ]))
    }
}

/// Makes a key pair.
fn pair(kind: SshKeyType, size: Option<i64>) -> Result<Pair, ProviderError> {
    let failed = |_: Unspecified| ProviderError::new(ErrorKind::Unavailable, "the key could not be made");
    match kind {
        SshKeyType::Rsa => {
            let pair = rsa::KeyPair::generate(rsa_size(size)?).map_err(failed)?;
            let der: Pkcs8V1Der<'static> = pair.as_der().map_err(failed)?;
            openssh::rsa(der.as_ref()).ok_or_else(|| failed(Unspecified))
        }
        SshKeyType::Ecdsa => {
            let (curve, algorithm): (_, &'static EcdsaSigningAlgorithm) = match size {
                Some(384) => ("nistp384", &signature::ECDSA_P384_SHA384_ASN1_SIGNING),
                Some(521) => ("nistp521", &signature::ECDSA_P521_SHA512_ASN1_SIGNING),
                _ => ("nistp256", &signature::ECDSA_P256_SHA256_ASN1_SIGNING),
            };
            let pair = EcdsaKeyPair::generate(algorithm).map_err(failed)?;
            let private: EcPrivateKeyBin<'static> = pair.private_key().as_be_bytes().map_err(failed)?;
            Ok(openssh::ecdsa(curve, pair.public_key().as_ref(), private.as_ref()))
        }
        SshKeyType::Ed25519 => {
            let pair = Ed25519KeyPair::generate().map_err(failed)?;
            let seed = pair.seed().map_err(failed)?;
            let seed = seed.as_be_bytes().map_err(failed)?;
            Ok(openssh::ed25519(pair.public_key().as_ref(), seed.as_ref()))
        }
    }
}

/// The sizes that the cryptographic library makes, as NIST approves them.
fn rsa_size(size: Option<i64>) -> Result<KeySize, ProviderError> {
    match size.unwrap_or(2048) {
        2048 => Ok(KeySize::Rsa2048),
        3072 => Ok(KeySize::Rsa3072),
        4096 => Ok(KeySize::Rsa4096),
        8192 => Ok(KeySize::Rsa8192),
        other => Err(ProviderError::new(
            ErrorKind::Unsupported,
            format!("spec.keySize: RSA keys of {other} bits are not made: choose 2048, 3072, 4096 or 8192"),
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use serde_json::{Value, json};

    use super::*;
    use crate::generators::testing::cx;

    async fn make(spec: Value) -> Result<(String, String), String> {
        let made = serde_json::from_value::<SshKeySpec>(spec).unwrap().generate(&cx()).await.map_err(|e| e.detail)?;
        let text = |key: &str| made.values[key].expose_str().unwrap().to_owned();
        Ok((text("privateKey"), text("publicKey")))
    }

    /// The public key and size that OpenSSH reads out of a private key; `None` where there is no OpenSSH.
    fn by_openssh(private: &str) -> Option<(String, String)> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = std::env::temp_dir().join(format!(
            "keyferry-ssh-{}-{:x}",
            std::process::id(),
            private.len() ^ (private.as_ptr() as usize)
        ));
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(private.as_bytes()).unwrap();
        let run = |arguments: &[&str]| {
            let output =
                Command::new("ssh-keygen").args(arguments).arg("-f").arg(&path).stdin(Stdio::null()).output().ok()?;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
        };
        let found = run(&["-y"]).and_then(|public| Some((public, run(&["-l"])?)));
        std::fs::remove_file(&path).unwrap();
        found
    }

    #[tokio::test]
    async fn openssh_reads_each_kind() {
        let table = [
            (json!({}), "ssh-rsa AAAAB3NzaC1yc2E", "2048 "),
            (json!({ "keyType": "rsa", "keySize": 3072, "comment": "a b@c" }), "ssh-rsa AAAAB3NzaC1yc2E", "3072 "),
            (json!({ "keyType": "ecdsa" }), "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY", "256 "),
            (json!({ "keyType": "ecdsa", "keySize": 384 }), "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQ", "384 "),
            (json!({ "keyType": "ecdsa", "keySize": 521 }), "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjE", "521 "),
            (json!({ "keyType": "ecdsa", "keySize": 999 }), "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTY", "256 "),
            (json!({ "keyType": "ed25519", "comment": "x" }), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI", "256 "),
        ];
        for (spec, begins, size) in table {
            let (private, public) = make(spec.clone()).await.unwrap();
            assert!(private.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"), "{spec}");
            assert!(private.ends_with("\n-----END OPENSSH PRIVATE KEY-----\n"), "{spec}");
            assert!(private.lines().all(|line| line.len() <= 70), "{spec}");
            assert!(public.starts_with(begins), "{spec}: {public}");
            assert_eq!(
                spec["comment"].as_str().unwrap_or_default(),
                public.splitn(3, ' ').nth(2).unwrap_or_default().trim_end()
            );
            if let Some((read, about)) = by_openssh(&private) {
                let plain = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
                assert_eq!(plain(&read), plain(public.trim_end()), "{spec}");
                assert!(about.starts_with(size), "{spec}: {about}");
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_made_is_told() {
        let error = make(json!({ "keySize": 1024 })).await.unwrap_err();
        assert_eq!(error, "spec.keySize: RSA keys of 1024 bits are not made: choose 2048, 3072, 4096 or 8192");
        assert_eq!(make(json!({ "comment": "a\nssh-rsa x" })).await.unwrap_err(), "spec.comment has more than one line");
    }
}
