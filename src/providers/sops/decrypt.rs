//! Opens a SOPS file: finds the data key, decrypts the values, and checks the code over the whole document.

use aws_lc_rs::digest::{Context, SHA512};

use super::age::{Identities, MAX_STANZAS, NotOpened};
use super::cipher::{self, DataKey};
use super::document::Node;
use super::format::Format;
use crate::providers::{ErrorKind, ProviderError};
use crate::render::re2;
use crate::secret_bytes::SecretBytes;

/// Most bytes of a file: what a ConfigMap or Secret holds.
pub(super) const MAX_FILE: usize = 1 << 20;
/// What the code begins with where it is over encrypted values only: SHA-256 of `sops`, as SOPS has it.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b, 0x97, 0x5b, 0x3b,
    0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];
/// End of the keys whose values stay as they are, where the file names no other rule.
const UNENCRYPTED: &str = "_unencrypted";

/// Decrypts a file. `what` says in errors where it comes from; nothing of the file is ever told.
///
/// # Errors
/// `Misconfigured` where it cannot be read with age keys at all, `Denied` where it is for other recipients, `Malformed` where it is
/// none of SOPS's or was changed after it was encrypted.
pub(super) fn open(file: &SecretBytes, format: Format, keys: &Identities, what: &str) -> Result<Node, ProviderError> {
    let fail = |kind, text: &str| ProviderError::new(kind, format!("{what}: {text}"));
    if file.expose().len() > MAX_FILE {
        return Err(fail(ErrorKind::Malformed, "the file is larger than 1 MiB"));
    }
    let (document, metadata) = format
        .read(file)
        .map_err(|reason| fail(ErrorKind::Malformed, &format!("the file cannot be read as {format:?}: {}", reason.0)))?;
    let metadata = Metadata(metadata);
    let rule = Rule::of(&metadata).map_err(|text| fail(ErrorKind::Misconfigured, text))?;
    let key = data_key(&metadata, keys).map_err(|(kind, text)| fail(kind, text))?;
    let only_encrypted = metadata.text("mac_only_encrypted").is_some_and(|text| text == "true");
    let mut code = Context::new(&SHA512);
    if only_encrypted {
        code.update(&ONLY_ENCRYPTED);
    }
    let changed = || {
        let text = "the file was changed after it was encrypted, so nothing of it is taken: encrypt it anew with sops";
        fail(ErrorKind::Malformed, text)
    };
    let mut note = |leaf: &Node, sealed: bool| {
        if let Some(bytes) = leaf.authenticated().filter(|_| sealed || !only_encrypted) {
            code.update(bytes.expose());
        }
    };
    let opened = document.decrypt(&key, &mut Vec::new(), &|path, leaf| rule.seals(path, leaf), &mut note);
    let opened = opened.map_err(|_| changed())?;
    let noted = metadata.text("mac").zip(metadata.text("lastmodified")).and_then(|(mac, at)| key.decrypt(&mac, &at).ok());
    let found: String = code.finish().as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    match noted {
        Some(Node::Text(noted)) if noted.expose() == found.as_bytes() => Ok(opened),
        _ => Err(changed()),
    }
}

/// What SOPS notes beside the document.
struct Metadata(Node);

impl Metadata {
    /// A field as text; `None` where it is missing or empty.
    fn text(&self, field: &str) -> Option<String> {
        let text = self.0.get(field)?.to_secret();
        text.expose_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

/// The key that the values are encrypted with.
fn data_key(metadata: &Metadata, keys: &Identities) -> Result<DataKey, (ErrorKind, &'static str)> {
    let of_group = |group: &Node| match group.get("age") {
        Some(Node::List(recipients)) => recipients
            .iter()
            .filter_map(|recipient| recipient.get("enc"))
            .filter_map(|message| message.to_secret().expose_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    let messages: Vec<String> = match metadata.0.get("key_groups") {
        Some(Node::List(groups)) if groups.len() > 1 => {
            let text = "its key is split between several key groups, which is not supported: encrypt it for one group";
            return Err((ErrorKind::Unsupported, text));
        }
        Some(Node::List(groups)) => groups.iter().flat_map(of_group).collect(),
        _ => of_group(&metadata.0),
    };
    if messages.is_empty() {
        let text = "it has no age recipient, and no other kind of key is used here: add one with sops rotate --add-age";
        return Err((ErrorKind::Misconfigured, text));
    }
    let too_many = (ErrorKind::Unsupported, "it is encrypted for more than 256 age recipients: encrypt it for fewer");
    if messages.len() > MAX_STANZAS {
        return Err(too_many);
    }
    let (mut reason, mut left) = (NotOpened::OtherRecipients, MAX_STANZAS);
    for message in messages {
        match keys.open(&message, &mut left) {
            Ok(key) => {
                return DataKey::new(&key).ok_or((ErrorKind::Malformed, "its data key is not one of SOPS"));
            }
            Err(NotOpened::Malformed) => reason = NotOpened::Malformed,
            Err(NotOpened::TooMany) => return Err(too_many),
            Err(NotOpened::OtherRecipients) => {}
        }
    }
    Err(match reason {
        NotOpened::TooMany => too_many,
        NotOpened::OtherRecipients => {
            (ErrorKind::Denied, "it is encrypted for other age recipients than the keys of ageKeySecretRef")
        }
        NotOpened::Malformed => (ErrorKind::Malformed, "the part of it that age encrypted is damaged"),
    })
}

/// Which values of a file are encrypted, by the keys that lead to them.
enum Rule {
    Suffix {
        end: String,
        seals: bool,
    },
    Regex {
        regex: Box<regex::bytes::Regex>,
        seals: bool,
    },
    /// By comments, which are not read: by what they look like. The code over the document tells whether that was right.
    Looks,
}

impl Rule {
    fn of(metadata: &Metadata) -> Result<Self, &'static str> {
        const FIELDS: [(&str, bool); 4] = [
            ("unencrypted_suffix", false),
            ("encrypted_suffix", true),
            ("unencrypted_regex", false),
            ("encrypted_regex", true),
        ];
        let comments = ["unencrypted_comment_regex", "encrypted_comment_regex"].iter().any(|f| metadata.text(f).is_some());
        let mut named: Vec<_> =
            FIELDS.iter().filter_map(|(field, seals)| Some((*field, *seals, metadata.text(field)?))).collect();
        match (named.pop(), comments) {
            (None, true) => Ok(Self::Looks),
            (None, false) => Ok(Self::Suffix { end: UNENCRYPTED.to_owned(), seals: false }),
            (Some(_), _) if comments || !named.is_empty() => {
                Err("it names several rules of what is encrypted, where SOPS allows one")
            }
            (Some((field, seals, text)), _) if field.ends_with("suffix") => Ok(Self::Suffix { end: text, seals }),
            (Some((_, seals, text)), _) => {
                let regex =
                    re2::compile_bytes(&text).map_err(|_| "its rule of what is encrypted is no regular expression")?;
                Ok(Self::Regex { regex: Box::new(regex), seals })
            }
        }
    }

    fn seals(&self, path: &[String], leaf: &Node) -> bool {
        match self {
            Self::Suffix { end, seals } => path.iter().any(|step| step.ends_with(end)) == *seals,
            Self::Regex { regex, seals } => path.iter().any(|step| regex.is_match(step.as_bytes())) == *seals,
            Self::Looks => matches!(leaf, Node::Text(text) if text.expose_str().is_some_and(cipher::is_sealed)),
        }
    }
}
