//! Services that cannot run on a test machine, as small servers on loopback: each speaks the part of its documented protocol that
//! keyferry uses, one file each. The conformance suite of the providers and the end-to-end tests run against the same ones, and
//! each is proven by the vendor's own client (`e2e/oracles/clients`, run by `e2e/tests/suite/saas` and `aws`).
//!
//! A fake keeps what it holds, checks who asks as the service does, and quotes what it refuses, as careless services do: nothing of
//! that may be passed on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod acm;
pub mod akeyless;
pub mod bitwarden;
pub mod conjur;
pub mod delinea;
pub mod doppler;
pub mod files;
pub mod github;
pub mod gitlab;
pub mod ibm;
pub mod infisical;
pub mod keeper;
pub mod onepassword;
pub mod pulumi;
pub mod registry;
pub mod scaleway;
pub mod secretserver;
mod server;
mod tls;
pub mod vault;
pub mod webhook;

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::sync::Notify;

pub use server::{FakeServer, Received, Reply};
pub use tls::Pki;

/// Stands in what a fake says when it fails: no error, log line or status may carry it.
pub const CANARY: &str = "c4n4ry-6b1d";

/// SHA-256 of bytes, in hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A service.
pub trait Fake: Send + Sync + 'static {
    /// Answers a request.
    fn answer(&self, asked: &Received) -> Reply;

    /// Says no, in the service's own way where it has one.
    fn refuse(&self, refusal: Refusal) -> Reply {
        let body = json!({"message": format!("refused {CANARY}"), "error": CANARY, "errors": [CANARY]});
        let reply = Reply::json(refusal.status(), &body);
        match refusal {
            Refusal::Throttled(seconds) => reply.with("retry-after", &seconds.to_string()),
            Refusal::Denied | Refusal::Broken => reply,
        }
    }
}

/// Why a service says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The right is missing.
    Denied,
    /// Too many calls: wait for so many seconds.
    Throttled(u64),
    /// It fails, as overloaded services do.
    Broken,
}

impl Refusal {
    /// The status that most services give it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Denied => 403,
            Self::Throttled(_) => 429,
            Self::Broken => 503,
        }
    }
}

/// What is wrong with a service.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It says no.
    Refuses(Refusal),
    /// It takes the call, tells so, and never answers.
    Hangs(Arc<Notify>),
    /// It answers with success and with nonsense.
    Garbles,
}

/// A fake that runs; it ends with its runtime.
pub struct Service<F> {
    /// The service itself, to put things in and to look.
    pub fake: Arc<F>,
    /// The server before it.
    pub server: FakeServer,
    fault: Arc<Mutex<Option<Fault>>>,
}

impl<F: Fake> Service<F> {
    /// Starts it on a free port, without TLS.
    pub async fn start(fake: F) -> Self {
        let (fake, fault) = (Arc::new(fake), Arc::<Mutex<Option<Fault>>>::default());
        let server = FakeServer::start(answering(fake.clone(), fault.clone())).await;
        Self { fake, server, fault }
    }

    /// Starts it with TLS, under a certificate of an authority for tests.
    pub async fn start_tls(pki: &Pki, fake: F) -> Self {
        let (fake, fault) = (Arc::new(fake), Arc::<Mutex<Option<Fault>>>::default());
        let server = FakeServer::start_tls(pki, false, answering(fake.clone(), fault.clone())).await;
        Self { fake, server, fault }
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.server.url
    }

    /// From now on it behaves so; `None`: as it should.
    pub fn set_fault(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
    }
}

fn answering<F: Fake>(
    fake: Arc<F>,
    fault: Arc<Mutex<Option<Fault>>>,
) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    move |asked| {
        let fault = fault.lock().unwrap().clone();
        match fault {
            None => fake.answer(asked),
            Some(Fault::Refuses(refusal)) => fake.refuse(refusal),
            Some(Fault::Hangs(reached)) => {
                reached.notify_one();
                Reply::never()
            }
            Some(Fault::Garbles) => Reply::text(200, &format!("<html>{CANARY}")),
        }
    }
}
