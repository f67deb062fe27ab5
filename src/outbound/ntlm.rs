//! NTLMv2 over HTTP: a login that belongs to one connection, in three messages (MS-NLMP, MS-NTHT).
//!
//! There is neither signing nor sealing of what follows, as HTTP asks for none, so no session key is sent. Extended Protection
//! (binding to the TLS channel) is not served: a server that insists on it refuses.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use md4::{Digest as _, Md4};
use md5::Md5;
use zeroize::Zeroizing;

use super::{Answer, Call, HttpClient, in_time};
use crate::chance::SystemChance;
use crate::providers::{ErrorKind, ProviderError};
use crate::render::template::chance::Chance as _;
use crate::secret_bytes::SecretBytes;

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";

// What is agreed on (MS-NLMP 2.2.2.5).
const UNICODE: u32 = 1;
const REQUEST_TARGET: u32 = 1 << 2;
const NTLM: u32 = 1 << 9;
const ALWAYS_SIGN: u32 = 1 << 15;
const EXTENDED_SESSION: u32 = 1 << 19;
const TARGET_INFO: u32 = 1 << 23;
const KEY_128: u32 = 1 << 29;
const KEY_56: u32 = 1 << 31;
/// What we can do.
const OURS: u32 = UNICODE | REQUEST_TARGET | NTLM | ALWAYS_SIGN | EXTENDED_SESSION | TARGET_INFO | KEY_128 | KEY_56;

// What the server tells of itself (MS-NLMP 2.2.2.1).
const AV_END: u16 = 0;
const AV_FLAGS: u16 = 6;
const AV_TIMESTAMP: u16 = 7;
/// In [`AV_FLAGS`]: the messages are covered by a code.
const HAS_MIC: u32 = 2;

/// Length of the last message without what its fields point to.
const HEAD: usize = 88;
/// Where the code over all messages is in it.
const MIC: std::ops::Range<usize> = 72..88;
/// Seconds from 1601, where Windows begins, to 1970.
const EPOCH: i64 = 11_644_473_600;

/// Who logs in. No `Debug`: it holds a password.
pub struct Login {
    domain: Option<String>,
    user: String,
    password: SecretBytes,
}

impl Login {
    /// A user, as `DOMAIN\user`, `user@domain` or `user`, and its password.
    ///
    /// # Errors
    /// `Misconfigured` where one is not UTF-8 text. `what` names the object.
    pub fn new(user: &SecretBytes, password: SecretBytes, what: &str) -> Result<Self, ProviderError> {
        let no_text =
            |part: &str| ProviderError::new(ErrorKind::Misconfigured, format!("{what}: the {part} is not UTF-8 text"));
        let user = user.expose_str().ok_or_else(|| no_text("user name"))?;
        password.expose_str().ok_or_else(|| no_text("password"))?;
        let (domain, user) = match user.split_once('\\') {
            Some((domain, user)) => (Some(domain.to_owned()), user),
            // the domain is in the name
            None if user.contains('@') => (Some(String::new()), user),
            None => (None, user),
        };
        Ok(Self { domain, user: user.to_owned(), password })
    }
}

impl HttpClient {
    /// As [`HttpClient::send`], with a login by NTLM where the server asks for one.
    ///
    /// The call is sent as it is first. A server that answers it without a login is not given one.
    ///
    /// # Errors
    /// As for [`HttpClient::send`]; `Denied` where the server offers no NTLM, `Malformed` where what it says is none.
    pub async fn send_ntlm(&self, call: Call, login: &Login, what: &str) -> Result<Answer, ProviderError> {
        let deadline = call.deadline;
        in_time(deadline, what, self.log_in(call, login, what)).await
    }

    async fn log_in(&self, call: Call, login: &Login, what: &str) -> Result<Answer, ProviderError> {
        let first = self.exchange(call.again(), what).await?;
        if first.status != StatusCode::UNAUTHORIZED {
            return Ok(first);
        }
        let scheme = offered(&first.headers).ok_or_else(|| {
            let text = format!("{what}: the server asks for a login, and not by NTLM (401): check auth.ntlm and the URL");
            ProviderError::new(ErrorKind::Denied, text)
        })?;
        let with = |call: Call, message: &[u8]| {
            let value = Zeroizing::new(format!("{scheme} {}", STANDARD.encode(message)));
            call.header(AUTHORIZATION.as_str(), value.as_bytes(), what)
        };
        let mut line = self.line(&call.uri, what).await?;
        let negotiate = negotiate();
        let asked = with(call.again().body(SecretBytes::default()), &negotiate)?;
        let challenged = line.exchange(asked, what).await?;
        let Some(challenge) = token(&challenged.headers, scheme) else {
            return match challenged.status {
                StatusCode::UNAUTHORIZED => Err(malformed(what, "the server offers NTLM and begins no login")),
                _ => challenged
                    .success(what)
                    .and_then(|_| Err(malformed(what, "the server asked for a login, and then for none"))),
            };
        };
        let mut nonce = [0; 8];
        SystemChance.fill(&mut nonce);
        let proof = authenticate(&negotiate, &challenge, login, nonce, Timestamp::now())
            .ok_or_else(|| malformed(what, "what the server says in the login is not NTLMv2 with Unicode"))?;
        line.exchange(with(call, &proof)?, what).await
    }
}

fn malformed(what: &str, text: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Malformed, format!("{what}: {text}"))
}

/// The scheme under which the server takes NTLM.
fn offered(headers: &HeaderMap) -> Option<&'static str> {
    let offers = |scheme: &str| {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let mut names = values.flat_map(|value| value.split(',')).filter_map(|part| part.split_whitespace().next());
        names.any(|name| name.eq_ignore_ascii_case(scheme))
    };
    ["NTLM", "Negotiate"].into_iter().find(|scheme| offers(scheme))
}

/// The message that the server answers with.
fn token(headers: &HeaderMap, scheme: &str) -> Option<Vec<u8>> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut messages = values.filter_map(|value| {
        let (name, message) = value.trim().split_once(' ')?;
        name.eq_ignore_ascii_case(scheme).then(|| STANDARD.decode(message.trim()).ok())?
    });
    messages.next()
}

/// The first message: what we can do.
fn negotiate() -> Vec<u8> {
    let mut message = [SIGNATURE.as_slice(), &1_u32.to_le_bytes(), &OURS.to_le_bytes()].concat();
    // neither a domain nor a workstation
    message.extend([0; 16]);
    message
}

/// What the server says in the second message.
struct Challenge<'m> {
    flags: u32,
    nonce: [u8; 8],
    target: &'m [u8],
    info: &'m [u8],
}

impl<'m> Challenge<'m> {
    fn read(message: &'m [u8]) -> Option<Self> {
        let flags = number(message, 20)?;
        let is_one = message.get(..8)? == SIGNATURE && number(message, 8)? == 2;
        let info = if flags & TARGET_INFO == 0 { &[][..] } else { field(message, 40)? };
        (is_one && flags & UNICODE != 0).then_some(Self {
            flags,
            nonce: message.get(24..32)?.try_into().ok()?,
            target: field(message, 12)?,
            info,
        })
    }
}

fn number(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(message.get(at..at + 4)?.try_into().ok()?))
}

/// What a field with length and place points to.
fn field(message: &[u8], at: usize) -> Option<&[u8]> {
    let length = u16::from_le_bytes(message.get(at..at + 2)?.try_into().ok()?).into();
    let start = usize::try_from(number(message, at + 4)?).ok()?;
    if length == 0 { Some(&[]) } else { message.get(start..start.checked_add(length)?) }
}

/// The server's own description as it goes back to it, and whether the server has a clock, so that the messages are covered by a
/// code.
fn echoed(info: &[u8]) -> Option<(Vec<u8>, Option<[u8; 8]>)> {
    let (mut pairs, mut rest, mut clock) = (Vec::new(), info, None);
    while !rest.is_empty() {
        let id = u16::from_le_bytes(rest.get(..2)?.try_into().ok()?);
        let length: usize = u16::from_le_bytes(rest.get(2..4)?.try_into().ok()?).into();
        let value = rest.get(4..4 + length)?;
        rest = rest.get(4 + length..)?;
        match id {
            AV_END => break,
            AV_TIMESTAMP => clock = Some(value.try_into().ok()?),
            _ => {}
        }
        pairs.push((id, value.to_vec()));
    }
    if clock.is_some() {
        let flags = pairs.iter().find(|(id, _)| *id == AV_FLAGS).and_then(|(_, value)| number(value, 0)).unwrap_or_default();
        pairs.retain(|(id, _)| *id != AV_FLAGS);
        pairs.push((AV_FLAGS, (flags | HAS_MIC).to_le_bytes().to_vec()));
    }
    let mut all = Vec::new();
    for (id, value) in pairs.iter().chain([&(AV_END, Vec::new())]) {
        all.extend(id.to_le_bytes());
        all.extend(u16::try_from(value.len()).ok()?.to_le_bytes());
        all.extend(value);
    }
    Some((all, clock))
}

/// The third message: the proof that we know the password. `None` where the second is none that we can answer.
fn authenticate(
    negotiate: &[u8],
    challenge: &[u8],
    login: &Login,
    nonce: [u8; 8],
    now: Timestamp,
) -> Option<Zeroizing<Vec<u8>>> {
    let said = Challenge::read(challenge)?;
    let (info, clock) = echoed(said.info)?;
    let domain = match &login.domain {
        Some(domain) => utf16(domain),
        None => Zeroizing::new(said.target.to_vec()),
    };
    let user = utf16(&login.user);
    let key = key(&login.user, login.password.expose_str()?, &domain);
    let (proof, session) = proof(&key, &said.nonce, nonce, clock.unwrap_or_else(|| filetime(now)), &info);
    // with a clock, the old proof is of no use (MS-NLMP 3.1.5.1.2)
    let old = if clock.is_some() { vec![0; 24] } else { lm_proof(&key, &said.nonce, nonce) };
    let mut message = Zeroizing::new([SIGNATURE.as_slice(), &3_u32.to_le_bytes()].concat());
    let mut payload = Zeroizing::new(Vec::new());
    // the workstation and the session key are empty
    for part in [&old[..], &proof[..], &domain[..], &user[..], &[], &[]] {
        let length = u16::try_from(part.len()).ok()?.to_le_bytes();
        message.extend([length, length].concat());
        message.extend(u32::try_from(HEAD + payload.len()).ok()?.to_le_bytes());
        payload.extend(part);
    }
    message.extend((said.flags & OURS).to_le_bytes());
    message.resize(HEAD, 0);
    message.extend(payload.iter());
    if clock.is_some() {
        let mic = hmac(&session, &[negotiate, challenge, &message]);
        message[MIC].copy_from_slice(&mic[..]);
    }
    Some(message)
}

/// NTOWFv2: what stands for the password.
fn key(user: &str, password: &str, domain: &[u8]) -> Zeroizing<[u8; 16]> {
    let hash: Zeroizing<[u8; 16]> = Zeroizing::new(Md4::digest(&utf16(password)[..]).into());
    hmac(&hash, &[&utf16(&user.to_uppercase()), domain])
}

/// The NTLMv2 response, and the key of the session.
fn proof(
    key: &[u8; 16],
    server: &[u8; 8],
    nonce: [u8; 8],
    time: [u8; 8],
    info: &[u8],
) -> (Zeroizing<Vec<u8>>, Zeroizing<[u8; 16]>) {
    let said = [&[1, 1, 0, 0, 0, 0, 0, 0][..], &time, &nonce, &[0; 4], info, &[0; 4]].concat();
    let proof = hmac(key, &[server, &said]);
    let session = hmac(key, &[&proof[..]]);
    (Zeroizing::new([&proof[..], &said].concat()), session)
}

/// The LMv2 response.
fn lm_proof(key: &[u8; 16], server: &[u8; 8], nonce: [u8; 8]) -> Vec<u8> {
    [&hmac(key, &[server, &nonce])[..], &nonce].concat()
}

fn hmac(key: &[u8; 16], parts: &[&[u8]]) -> Zeroizing<[u8; 16]> {
    // a key that is shorter than the block stands for one with zeroes after it (RFC 2104)
    let mut block = Zeroizing::new([0; 64]);
    block[..16].copy_from_slice(key);
    let mut mac = Hmac::<Md5>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn utf16(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.encode_utf16().flat_map(u16::to_le_bytes).collect())
}

/// A moment as Windows counts: tenths of a microsecond since 1601.
fn filetime(now: Timestamp) -> [u8; 8] {
    let ticks = (now.as_second() + EPOCH) * 10_000_000 + i64::from(now.subsec_nanosecond() / 100);
    ticks.to_le_bytes()
}

#[cfg(test)]
mod tests;
