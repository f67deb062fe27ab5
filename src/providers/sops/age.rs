//! Reads what was encrypted with age for X25519 recipients, as in age's specification (C2SP, `age-encryption.org/v1`).
//!
//! Of the format only what SOPS writes is read: an armored file with a payload of one chunk, which is a data key.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use crate::secret_bytes::SecretBytes;

const VERSION: &str = "age-encryption.org/v1\n";
const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
/// Human-readable part of an identity.
const IDENTITY: &str = "age-secret-key-";
/// What the wrapping key is derived for.
const X25519_LABEL: &[u8] = b"age-encryption.org/v1/X25519";
/// Bytes of a body's full line.
const COLUMNS: usize = 64;
/// Most bytes of one chunk: a data key is far smaller.
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;
/// Most identities of one key Secret. Each is tried on each stanza, which is work that nothing can interrupt.
const MAX_IDENTITIES: usize = 64;
/// Most stanzas of one file, in all its messages together.
pub(super) const MAX_STANZAS: usize = 256;

/// Private keys, each with its public one.
pub(super) struct Identities(Vec<Identity>);

struct Identity {
    key: PrivateKey,
    public: Vec<u8>,
}

/// Why a text holds no identities that can be used. It never shows the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadIdentities {
    /// There is none.
    #[error("it holds no age identity: a line that begins with AGE-SECRET-KEY-1")]
    None,
    /// A line is something else.
    #[error("a line of it is no age identity: each is AGE-SECRET-KEY-1 and what follows, or a comment")]
    Malformed,
    /// A line is of another kind.
    #[error("it holds an identity of a plugin, of SSH or for post-quantum recipients: only those of X25519 are read")]
    OtherKind,
    /// There are more than are tried.
    #[error("it holds more than {MAX_IDENTITIES} age identities: leave those that open the file")]
    TooMany,
}

/// Why a message was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotOpened {
    /// It is for other recipients.
    OtherRecipients,
    /// It is not what age writes, or was changed.
    Malformed,
    /// It is for more recipients than are looked through.
    TooMany,
}

impl Identities {
    /// Reads a file of identities: one on each line, with comments, as `age-keygen` writes it.
    ///
    /// # Errors
    /// See [`BadIdentities`].
    pub(super) fn parse(text: &SecretBytes) -> Result<Self, BadIdentities> {
        let text = text.expose_str().ok_or(BadIdentities::Malformed)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let found = lines.take(MAX_IDENTITIES + 1).map(Identity::parse).collect::<Result<Vec<_>, _>>()?;
        match found.len() {
            0 => Err(BadIdentities::None),
            1..=MAX_IDENTITIES => Ok(Self(found)),
            _ => Err(BadIdentities::TooMany),
        }
    }

    /// Decrypts an armored message. `left` is how many stanzas may still be tried, at first [`MAX_STANZAS`].
    ///
    /// # Errors
    /// See [`NotOpened`].
    pub(super) fn open(&self, armored: &str, left: &mut usize) -> Result<SecretBytes, NotOpened> {
        let message = unarmor(armored).ok_or(NotOpened::Malformed)?;
        let header = Header::parse(&message).ok_or(NotOpened::Malformed)?;
        *left = left.checked_sub(header.stanzas.len()).ok_or(NotOpened::TooMany)?;
        let pairs = self.0.iter().flat_map(|identity| header.stanzas.iter().map(move |stanza| (identity, stanza)));
        let file_key =
            pairs.into_iter().find_map(|(identity, stanza)| identity.unwrap(stanza)).ok_or(NotOpened::OtherRecipients)?;
        header.check(&file_key).and_then(|()| payload(&file_key, header.payload)).ok_or(NotOpened::Malformed)
    }
}

impl Identity {
    fn parse(line: &str) -> Result<Self, BadIdentities> {
        let upper = line.to_ascii_uppercase();
        if !upper.starts_with("AGE-SECRET-KEY-1") && upper.starts_with("AGE-") || upper.starts_with("-----BEGIN") {
            return Err(BadIdentities::OtherKind);
        }
        let (kind, bytes) = bech32::decode(line).map_err(|_| BadIdentities::Malformed)?;
        let bytes = Zeroizing::new(bytes);
        if kind.to_lowercase() != IDENTITY {
            return Err(BadIdentities::Malformed);
        }
        Self::of(&bytes).ok_or(BadIdentities::Malformed)
    }

    fn of(secret: &[u8]) -> Option<Self> {
        let key = PrivateKey::from_private_key(&X25519, secret).ok()?;
        let public = key.compute_public_key().ok()?.as_ref().to_vec();
        Some(Self { key, public })
    }

    /// The file key, if the stanza is for this identity.
    fn unwrap(&self, stanza: &Stanza<'_>) -> Option<SecretBytes> {
        let ["X25519", share] = stanza.arguments.as_slice() else { return None };
        let share = STANDARD_NO_PAD.decode(share).ok().filter(|share| share.len() == 32)?;
        let salt = [share.as_slice(), &self.public].concat();
        let peer = UnparsedPublicKey::new(&X25519, &share);
        let wrap = agreement::agree(&self.key, peer, (), |shared| derive(shared, &salt, X25519_LABEL).ok_or(())).ok()?;
        open_sealed(&wrap, [0; 12], &stanza.body).filter(|key| key.expose().len() == 16)
    }
}

/// One recipient's part of a header.
struct Stanza<'m> {
    arguments: Vec<&'m str>,
    body: Vec<u8>,
}

struct Header<'m> {
    stanzas: Vec<Stanza<'m>>,
    /// What the code is over.
    authenticated: &'m [u8],
    code: Vec<u8>,
    payload: &'m [u8],
}

impl<'m> Header<'m> {
    fn parse(message: &'m [u8]) -> Option<Self> {
        let mut rest = message.strip_prefix(VERSION.as_bytes())?;
        let mut stanzas = Vec::new();
        loop {
            let line = take_line(&mut rest)?;
            if let Some(code) = line.strip_prefix("--- ") {
                let end = message.len() - rest.len() - " \n".len() - code.len();
                let code = STANDARD_NO_PAD.decode(code).ok()?;
                return Some(Self { stanzas, authenticated: message.get(..end)?, code, payload: rest });
            }
            let arguments = line.strip_prefix("-> ")?.split(' ').collect();
            let mut body = String::new();
            loop {
                let line = take_line(&mut rest)?;
                body.push_str(line);
                if line.len() < COLUMNS {
                    break;
                }
            }
            stanzas.push(Stanza { arguments, body: STANDARD_NO_PAD.decode(body).ok()? });
        }
    }

    fn check(&self, file_key: &SecretBytes) -> Option<()> {
        let key = derive(file_key.expose(), &[], b"header")?;
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()), self.authenticated, &self.code).ok()
    }
}

fn take_line<'m>(rest: &mut &'m [u8]) -> Option<&'m str> {
    let end = memchr::memchr(b'\n', rest)?;
    let line = std::str::from_utf8(rest.get(..end)?).ok()?;
    *rest = rest.get(end + 1..)?;
    Some(line)
}

fn payload(file_key: &SecretBytes, payload: &[u8]) -> Option<SecretBytes> {
    let (nonce, sealed) = payload.split_at_checked(16)?;
    let key = derive(file_key.expose(), nonce, b"payload")?;
    // The first chunk, which is also the last one.
    let only = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    (sealed.len() <= CHUNK + TAG).then(|| open_sealed(&key, only, sealed)).flatten()
}

fn unarmor(text: &str) -> Option<Vec<u8>> {
    let body = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(body).ok()
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

/// HKDF with SHA-256, for a key of 32 bytes.
fn derive(secret: &[u8], salt: &[u8], label: &[u8]) -> Option<SecretBytes> {
    let mut key = Zeroizing::new([0; 32]);
    let labels = [label];
    let derived = Salt::new(HKDF_SHA256, salt).extract(secret);
    derived.expand(&labels, Bytes32).ok()?.fill(key.as_mut()).ok()?;
    Some(SecretBytes::new(key.to_vec()))
}

fn open_sealed(key: &SecretBytes, nonce: [u8; 12], sealed: &[u8]) -> Option<SecretBytes> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.expose()).ok()?);
    let mut plain = Zeroizing::new(sealed.to_vec());
    let opened = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut plain).ok()?;
    Some(SecretBytes::new(opened.to_vec()))
}

/// The other direction, for tests: identities that no file holds, and messages to them.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod writing {
    use aws_lc_rs::rand;

    use super::*;

    /// A private key made from a word, as a line of a file of identities.
    pub(crate) fn identity(word: &str) -> SecretBytes {
        let secret = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, word.as_bytes());
        let kind = bech32::Hrp::parse(IDENTITY).unwrap();
        SecretBytes::from(bech32::encode_upper::<bech32::Bech32>(kind, secret.as_ref()).unwrap())
    }

    /// The public key of an identity that was made from a word.
    pub(crate) fn recipient(word: &str) -> String {
        let identities = Identities::parse(&identity(word)).unwrap();
        bech32::encode::<bech32::Bech32>(bech32::Hrp::parse("age").unwrap(), &identities.0[0].public).unwrap()
    }

    fn random<const N: usize>() -> [u8; N] {
        let mut bytes = [0; N];
        rand::fill(&mut bytes).unwrap();
        bytes
    }

    fn seal(key: &SecretBytes, nonce: [u8; 12], plain: &[u8]) -> Vec<u8> {
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key.expose()).unwrap());
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed).unwrap();
        sealed
    }

    /// An armored message to the identities of some words.
    pub(crate) fn encrypt(words: &[&str], plain: &[u8]) -> String {
        let file_key = random::<16>();
        let mut header = VERSION.to_owned();
        for word in words {
            let identity = &Identities::parse(&self::identity(word)).unwrap().0[0];
            let ephemeral = Identity::of(&random::<32>()).unwrap();
            let salt = [ephemeral.public.as_slice(), &identity.public].concat();
            let peer = UnparsedPublicKey::new(&X25519, &identity.public);
            let wrap =
                agreement::agree(&ephemeral.key, peer, (), |shared| derive(shared, &salt, X25519_LABEL).ok_or(())).unwrap();
            let body = STANDARD_NO_PAD.encode(seal(&wrap, [0; 12], &file_key));
            header.push_str(&format!("-> X25519 {}\n{body}\n", STANDARD_NO_PAD.encode(&ephemeral.public)));
        }
        header.push_str("---");
        let key = derive(&file_key, &[], b"header").unwrap();
        let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()), header.as_bytes());
        let nonce = random::<16>();
        let key = derive(&file_key, &nonce, b"payload").unwrap();
        let sealed = seal(&key, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], plain);
        let head = format!("{header} {}\n", STANDARD_NO_PAD.encode(code.as_ref()));
        let body = STANDARD.encode([head.as_bytes(), &nonce, &sealed].concat());
        let lines: Vec<&str> = body.as_bytes().chunks(COLUMNS).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::writing::{encrypt, identity};
    use super::*;

    fn identities(words: &[&str]) -> Identities {
        let lines: Vec<String> = words.iter().map(|w| identity(w).expose_str().unwrap().to_owned()).collect();
        Identities::parse(&SecretBytes::from(format!("# made by a test\n\n{}\n", lines.join("\r\n")))).unwrap()
    }

    fn opened(identities: &Identities, message: &str) -> Result<SecretBytes, NotOpened> {
        let mut left = MAX_STANZAS;
        identities.open(message, &mut left)
    }

    #[test]
    fn more_identities_or_stanzas_than_are_tried_are_refused() {
        let ann = identity("ann");
        let lines = |count: usize| SecretBytes::from(vec![ann.expose_str().unwrap(); count].join("\n"));
        assert!(Identities::parse(&lines(MAX_IDENTITIES)).is_ok());
        assert_eq!(Identities::parse(&lines(MAX_IDENTITIES + 1)).err(), Some(BadIdentities::TooMany));
        let (ann, message) = (identities(&["ann"]), encrypt(&["eve", "bob", "ann"], b"data key"));
        let mut left = 5;
        assert!(ann.open(&message, &mut left).is_ok());
        assert_eq!(ann.open(&message, &mut left).err(), Some(NotOpened::TooMany));
    }

    #[test]
    fn any_recipient_opens_a_message_and_nobody_else() {
        let message = encrypt(&["ann", "bob"], b"data key");
        for words in [&["ann"][..], &["bob"], &["eve", "bob"]] {
            assert_eq!(opened(&identities(words), &message).unwrap().expose(), b"data key", "{words:?}");
        }
        assert_eq!(opened(&identities(&["eve"]), &message).err(), Some(NotOpened::OtherRecipients));
    }

    #[test]
    fn a_changed_message_is_not_opened() {
        let whole = unarmor(&encrypt(&["ann"], b"data key")).unwrap();
        let ann = identities(&["ann"]);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(opened(&ann, &format!("{BEGIN}\n{}\n{END}", STANDARD.encode(changed))).is_err(), "byte {at}");
        }
        for bad in ["", "text", "-----BEGIN AGE ENCRYPTED FILE-----\n!\n-----END AGE ENCRYPTED FILE-----"] {
            assert_eq!(opened(&ann, bad).err(), Some(NotOpened::Malformed), "{bad}");
        }
    }

    #[test]
    fn what_is_no_identity_is_told_without_showing_it() {
        let ann = identity("ann");
        let ann = ann.expose_str().unwrap();
        for (text, expected) in [
            ("", BadIdentities::None),
            ("# only a comment\n", BadIdentities::None),
            ("canary", BadIdentities::Malformed),
            (&ann[..ann.len() - 1], BadIdentities::Malformed),
            ("AGE-PLUGIN-YUBIKEY-1CANARY", BadIdentities::OtherKind),
            ("AGE-SECRET-KEY-PQ-1CANARY", BadIdentities::OtherKind),
        ] {
            let found = Identities::parse(&SecretBytes::from(text)).err().unwrap();
            assert_eq!(found, expected, "{text}");
            assert!(!found.to_string().to_lowercase().contains("canary"));
        }
        assert!(Identities::parse(&SecretBytes::from(ann.to_lowercase())).is_ok());
    }
}
