#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;

use super::super::TlsOptions;
use super::super::testing::outbound;
use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(hex.replace(char::is_whitespace, "").as_bytes()).unwrap()
}

fn login(user: &str) -> Login {
    Login::new(&user.into(), "Password".into(), "x").ok().unwrap()
}

/// The second message of MS-NLMP 4.2.4.3.
const CHALLENGE: &str = "
    4e544c4d53535000 02000000 0c000c0038000000 33828ae2 0123456789abcdef 0000000000000000 2400240044000000 0600701700 00000f
    530065007200760065007200 02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000";

/// MS-NLMP 4.2.1 and 4.2.4: user, domain, password, nonces and time, and what comes out.
#[test]
fn the_published_vectors() {
    let domain = utf16("Domain");
    let key = key("User", "Password", &domain);
    assert_eq!(key.to_vec(), bytes("0c868a403bfd7a93a3001ef22ef02e3f"), "NTOWFv2");
    let (server, nonce) = (bytes("0123456789abcdef").try_into().unwrap(), [0xaa; 8]);
    let lm = lm_proof(&key, &server, nonce);
    assert_eq!(lm, bytes("86c35097ac9cec102554764a57cccc19 aaaaaaaaaaaaaaaa"), "LMv2");
    let challenge = bytes(CHALLENGE);
    let info = Challenge::read(&challenge).unwrap().info.to_vec();
    let (proof, session) = proof(&key, &server, nonce, [0; 8], &info);
    assert_eq!(proof[..16], bytes("68cd0ab851e51c96aabc927bebef6a1c"), "NTProofStr");
    let temp = "0101000000000000 0000000000000000 aaaaaaaaaaaaaaaa 00000000";
    assert_eq!(proof[16..], [bytes(temp), info, vec![0; 4]].concat(), "what is proven");
    assert_eq!(session.to_vec(), bytes("8de40ccadbc14a82f15cb0ad0de95ca3"), "SessionBaseKey");
}

/// The fields of a third message, in order.
fn fields(message: &[u8]) -> Vec<Vec<u8>> {
    (0..6).map(|i| field(message, 12 + 8 * i).unwrap().to_vec()).collect()
}

#[test]
fn a_third_message_holds_the_proof() {
    let moment = Timestamp::from_second(-EPOCH).unwrap();
    let answer = |user| authenticate(&negotiate(), &bytes(CHALLENGE), &login(user), [0xaa; 8], moment).unwrap();
    let message = answer("Domain\\User");
    let found = fields(&message);
    assert_eq!(found[0], bytes("86c35097ac9cec102554764a57cccc19 aaaaaaaaaaaaaaaa"));
    assert_eq!(found[1][..16], bytes("68cd0ab851e51c96aabc927bebef6a1c"));
    assert_eq!(found[2..], [utf16("Domain").to_vec(), utf16("User").to_vec(), Vec::new(), Vec::new()]);
    assert_eq!(message[MIC], [0; 16], "the server has no clock");
    let flags = number(&message, 60).unwrap();
    assert_eq!((flags & UNICODE, flags & !OURS), (UNICODE, 0), "nothing is promised that we cannot do");
    // a user without a domain is one of the server's, and a principal brings its own
    assert_eq!(fields(&answer("User"))[2], utf16("Server").to_vec());
    assert_eq!(fields(&answer("User@domain"))[2..4], [Vec::new(), utf16("User@domain").to_vec()]);
}

#[test]
fn moments_are_those_of_windows() {
    let moment: Timestamp = "2026-11-26T14:00:00.5Z".parse().unwrap();
    let ticks = u64::from_le_bytes(filetime(moment));
    // 1601-01-01 to 2026-11-26 are 155,557 days
    assert_eq!(ticks, ((155_557 * 24 + 14) * 3600) * 10_000_000 + 5_000_000);
}

proptest! {
    /// A server may say what it likes.
    #[test]
    fn no_challenge_does_harm(mut message in prop::collection::vec(any::<u8>(), 0..120), real in any::<bool>(), at in 0_usize..92, with in any::<u8>()) {
        if real {
            message = bytes(CHALLENGE);
            message[at] = with;
        }
        drop(authenticate(&negotiate(), &message, &login("User"), [1; 8], Timestamp::UNIX_EPOCH));
    }
}

/// A server that lets in who proves to know the password of `Domain\User` on one connection, and counts what it was asked.
struct Guarded {
    url: String,
    asked: Arc<Mutex<Vec<(usize, String, String)>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// As Windows answers, with a clock.
    Windows,
    /// Under the other scheme, without a clock.
    Negotiates,
    /// With a login, but not by NTLM.
    Basic,
    /// That asks for none.
    Open,
    /// That begins a login and talks nonsense.
    Nonsense,
}

const SERVER_NONCE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn challenge(kind: Kind) -> Vec<u8> {
    let mut info = [&2_u16.to_le_bytes()[..], &12_u16.to_le_bytes(), &utf16("Domain")].concat();
    if kind == Kind::Windows {
        info.extend([&AV_TIMESTAMP.to_le_bytes()[..], &8_u16.to_le_bytes(), &[9; 8]].concat());
    }
    info.extend([0; 4]);
    let length = u16::try_from(info.len()).unwrap().to_le_bytes();
    let mut message = [SIGNATURE.as_slice(), &2_u32.to_le_bytes()].concat();
    message.extend([12, 0, 12, 0, 56, 0, 0, 0]);
    message.extend((OURS | 1 << 30).to_le_bytes());
    message.extend(SERVER_NONCE);
    message.extend([0; 8]);
    message.extend([&length[..], &length, &[68, 0, 0, 0]].concat());
    message.extend([0; 8]);
    message.extend([&utf16("Domain")[..], &info].concat());
    message
}

/// Whether the third message proves the password.
fn is_proven(kind: Kind, first: &[u8], message: &[u8]) -> bool {
    let found = fields(message);
    if (found[2].as_slice(), found[3].as_slice()) != (utf16("Domain").as_ref(), utf16("User").as_ref()) {
        return false;
    }
    let key = key("User", "Password", &found[2]);
    let (proof, said) = found[1].split_at(16);
    let good = hmac(&key, &[&SERVER_NONCE, said]);
    if good[..] != *proof {
        return false;
    }
    // what was proven is what we said of ourselves
    let info = &said[28..said.len() - 4];
    let has_mic =
        info.windows(8).any(|pair| pair == [&AV_FLAGS.to_le_bytes()[..], &[4, 0], &HAS_MIC.to_le_bytes()].concat());
    if kind != Kind::Windows {
        return !has_mic;
    }
    let session = hmac(&key, &[proof]);
    let mut zeroed = message.to_vec();
    zeroed[MIC].fill(0);
    has_mic
        && found[0] == [0; 24]
        && said[8..16] == [9; 8]
        && hmac(&session, &[first, &challenge(kind), &zeroed])[..] == message[MIC]
}

impl Guarded {
    async fn start(kind: Kind) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/in?a=b", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<(usize, String, String)>>> = Arc::default();
        let (kept, connections) = (asked.clone(), AtomicUsize::new(0));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (number, kept) = (connections.fetch_add(1, Ordering::SeqCst), kept.clone());
                // where this connection is in its login
                let begun: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (kept, begun) = (kept.clone(), begun.clone());
                    async move { Ok::<_, Infallible>(answer(kind, number, &kept, &begun, request).await) }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, asked }
    }

    async fn ask(&self, user: &str, password: &str) -> Result<Answer, ProviderError> {
        let client = outbound().client(&TlsOptions::default(), "x").unwrap();
        let call = Call::new(Method::POST, &self.url, "x")?.body("body".into());
        let login = Login::new(&user.into(), password.into(), "x")?;
        client.send_ntlm(call, &login, "webhook").await
    }

    /// Connection, line and body of each request.
    fn asked(&self) -> Vec<(usize, String, String)> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(
    kind: Kind,
    number: usize,
    kept: &Mutex<Vec<(usize, String, String)>>,
    begun: &Mutex<Option<Vec<u8>>>,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(parts.headers.contains_key("host"));
    kept.lock().unwrap().push((number, format!("{} {}", parts.method, parts.uri), body));
    let scheme = if kind == Kind::Negotiates { "Negotiate" } else { "NTLM" };
    let reply = |status: u16, says: Option<String>| {
        let response = Response::builder().status(status);
        let response = says.into_iter().fold(response, |response, says| response.header("www-authenticate", says));
        response.body(Full::new(Bytes::from_static(b"answer"))).unwrap()
    };
    let shown = parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let message = shown.and_then(|shown| STANDARD.decode(shown.strip_prefix(scheme)?.trim()).ok());
    let mut begun = begun.lock().unwrap();
    match (kind, message, begun.take()) {
        (Kind::Open, ..) => reply(200, None),
        (Kind::Basic, ..) => reply(401, Some("Basic realm=\"x\"".into())),
        (_, None, _) => reply(401, Some(scheme.into())),
        (Kind::Nonsense, Some(_), _) => reply(401, Some(format!("NTLM {}", STANDARD.encode("canary")))),
        (_, Some(message), None) => {
            assert_eq!(number_of(&message), 1);
            *begun = Some(message);
            reply(401, Some(format!("{scheme} {}", STANDARD.encode(challenge(kind)))))
        }
        (_, Some(message), Some(first)) if is_proven(kind, &first, &message) => reply(200, None),
        (_, Some(_), Some(_)) => reply(401, Some(scheme.into())),
    }
}

fn number_of(message: &[u8]) -> u32 {
    number(message, 8).unwrap()
}

#[tokio::test]
async fn a_server_lets_us_in() {
    for kind in [Kind::Windows, Kind::Negotiates] {
        let server = Guarded::start(kind).await;
        for user in ["Domain\\User", "User"] {
            let answer = server.ask(user, "Password").await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.body.expose()), (200, &b"answer"[..]), "{user}");
        }
        let asked = server.asked();
        let bodies: Vec<&str> = asked.iter().map(|(_, _, body)| body.as_str()).collect();
        assert_eq!(bodies, ["body", "", "body", "body", "", "body"], "who is not known yet is told nothing twice");
        assert!(asked.iter().all(|(_, line, _)| line == "POST /in?a=b"), "{asked:?}");
        assert_eq!(asked[1].0, asked[2].0, "the login is one connection's");
    }
}

#[tokio::test]
async fn who_does_not_know_the_password_stays_out() {
    let server = Guarded::start(Kind::Windows).await;
    for (user, password) in [("Domain\\User", "c4n4ry"), ("Other", "Password"), ("Domain\\User", "")] {
        let error = server.ask(user, password).await.and_then(|answer| answer.success("webhook")).err().unwrap();
        assert_eq!((error.kind, error.detail.contains("c4n4ry")), (ErrorKind::Denied, false), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_wants_something_else_is_told_nothing_of_the_password() {
    let open = Guarded::start(Kind::Open).await;
    assert_eq!(open.ask("User", "Password").await.unwrap().status, 200);
    assert_eq!(open.asked().len(), 1);
    for (kind, wanted) in [(Kind::Basic, ErrorKind::Denied), (Kind::Nonsense, ErrorKind::Malformed)] {
        let server = Guarded::start(kind).await;
        let error = server.ask("User", "c4n4ry").await.err().unwrap();
        assert_eq!(error.kind, wanted);
        assert!(!error.detail.contains("canary") && !error.detail.contains("c4n4ry"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_silent_is_left_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = outbound().client(&TlsOptions::default(), "x").unwrap();
    let call = Call::new(Method::GET, &url, "x").ok().unwrap().within(std::time::Duration::from_millis(100));
    let error = client.send_ntlm(call, &login("User"), "webhook").await.err().unwrap();
    assert_eq!(error.detail, "webhook: the server gave no answer in 0.1 s");
}

#[test]
fn names_and_passwords_are_text() {
    let bad = || SecretBytes::new(vec![0xff]);
    for (user, password) in [(bad(), "p".into()), ("u".into(), bad())] {
        let error = Login::new(&user, password, "spec.auth.ntlm").err().unwrap();
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(error.detail.starts_with("spec.auth.ntlm: the "), "{error}");
    }
}
