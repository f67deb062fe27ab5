//! Whom a client trusts, and who it is.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier};

use crate::providers::{ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// What one server asks for besides what all do. The default: the system's trust anchors, and no client certificate.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// The only certificate authorities that are trusted, as PEM.
    pub ca: Option<Vec<u8>>,
    /// The client's certificate.
    pub identity: Option<Identity>,
}

impl TlsOptions {
    /// Whether nothing is asked for, so that connections can be shared.
    pub(super) fn is_plain(&self) -> bool {
        self.ca.is_none() && self.identity.is_none()
    }
}

/// A client certificate.
#[derive(Clone)]
pub struct Identity {
    /// Certificate and chain, as PEM.
    pub certificate: SecretBytes,
    /// Its private key, as PEM.
    pub key: SecretBytes,
}

/// The system's trust anchors, read once: they are some hundred.
static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();

fn system() -> Arc<RootCertStore> {
    let load = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    };
    SYSTEM.get_or_init(load).clone()
}

/// The configuration of a client.
///
/// # Errors
/// `Misconfigured` where a certificate or key cannot be used. `what` names the object.
pub(super) fn config(options: &TlsOptions, what: &str) -> Result<ClientConfig, ProviderError> {
    let bad = |text: &str| ProviderError::new(ErrorKind::Misconfigured, format!("{what}: {text}"));
    let roots = match &options.ca {
        Some(pem) => Arc::new(authorities(pem).ok_or_else(|| bad("the certificate authority is not whole PEM"))?),
        None => system(),
    };
    let builder = builder(what)?.with_root_certificates(roots);
    let Some(identity) = &options.identity else { return Ok(builder.with_no_client_auth()) };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(identity.certificate.expose())
        .collect::<Result<_, _>>()
        .map_err(|_| bad("the client certificate is not PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose())
        .map_err(|_| bad("the client certificate's private key is not PEM"))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|_| bad("the client certificate and its private key do not belong together"))
}

fn builder(what: &str) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, ProviderError> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|_| ProviderError::new(ErrorKind::Misconfigured, format!("{what}: no TLS version can be used")))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The configuration of a client that believes whatever certificate it is shown.
///
/// # Errors
/// As [`config`].
pub(super) fn unverified(what: &str) -> Result<ClientConfig, ProviderError> {
    let verifier = Arc::new(Credulous(provider()));
    Ok(builder(what)?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Asks of a server only that it has the key of the certificate that it shows.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn authorities(pem: &[u8]) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.ok()?).ok()?;
    }
    (!roots.is_empty()).then_some(roots)
}
