//! The key of the digests: made once, and kept in a Secret in the operator's namespace, so that an unchanged Secret is known
//! without reading it also after a restart.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};

use crate::plan::digest::{Digester, KEY_BYTES};

/// Name of the Secret.
const SECRET: &str = "keyferry-digest-key";
/// Key in it.
const KEY: &str = "key";
/// How long to wait before asking again, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The digester, with the key that is kept in the operator's namespace; makes one where there is none. An API server that does not
/// answer is waited for. A process that may not read it uses a key of its own: everything works, but after a restart each Secret is
/// read once.
pub async fn digester(client: &kube::Client, namespace: &str) -> Digester {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut own = [0_u8; KEY_BYTES];
    // a key that can be guessed is worse than none
    while aws_lc_rs::rand::fill(&mut own).is_err() {
        tracing::error!("the system gives no random numbers: waiting for them");
        tokio::time::sleep(PAUSE).await;
    }
    let mut pause = PAUSE;
    loop {
        match kept(&api, namespace, &own).await {
            Ok(Some(digester)) => return digester,
            // another replica was quicker: take its key
            Ok(None) => {}
            Err(kube::Error::Api(status)) if is_refusal(status.code) => return without_key(namespace, &own, status.code),
            Err(error) => {
                let code = code(&error);
                tracing::warn!(secret = SECRET, namespace, code, "the digest key could not be read or made; trying again");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

/// The digester with the key that is kept, or with `own`, which is kept from now on; `None` where somebody else made one just now.
async fn kept(api: &Api<Secret>, namespace: &str, own: &[u8]) -> Result<Option<Digester>, kube::Error> {
    if let Some(secret) = api.get_opt(SECRET).await? {
        let key = secret.data.and_then(|mut data| data.remove(KEY)).filter(|key| key.0.len() >= KEY_BYTES);
        return Ok(Some(match key {
            Some(key) => Digester::new(&key.0),
            None => {
                tracing::warn!(
                    secret = SECRET,
                    namespace,
                    "the Secret holds no usable key: delete it to have it made anew; until then each Secret is read, and each status \
                     written, once after every restart"
                );
                Digester::new(own)
            }
        }));
    }
    let mut secret = Secret { type_: Some("keyferry.io/digest-key".into()), immutable: Some(true), ..Secret::default() };
    secret.metadata.name = Some(SECRET.into());
    secret.data = Some([(KEY.to_owned(), ByteString(own.to_vec()))].into());
    match api.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(Some(Digester::new(own))),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether asking again gets no other answer: the request was understood, and is not granted.
const fn is_refusal(code: u16) -> bool {
    matches!(code, 400..=499) && !matches!(code, 401 | 408 | 409 | 429)
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

fn without_key(namespace: &str, own: &[u8], code: u16) -> Digester {
    tracing::warn!(
        secret = SECRET,
        namespace,
        code,
        "the digest key cannot be kept: each Secret is read, and each status written, once after every restart; let the operator \
         get and create this Secret"
    );
    Digester::new(own)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    /// The digest that is made when the API server answers so, one answer a request; whether all were asked for.
    async fn digest(answers: &[(u16, serde_json::Value)]) -> (String, bool) {
        let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
        let left = answers.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            let (code, body) = answers.lock().unwrap().pop_front().unwrap();
            let answer = Response::builder().status(code).header("content-type", "application/json");
            let answer = answer.body(Body::from(body.to_string().into_bytes())).unwrap();
            async move { Ok::<_, Infallible>(answer) }
        });
        let digester = digester(&kube::Client::new(service, "ns"), "ns").await;
        let all = left.lock().unwrap().is_empty();
        (digester.data(std::iter::empty()), all)
    }

    fn refused(code: u16) -> (u16, serde_json::Value) {
        let reason = if code == 404 { "NotFound" } else { "" };
        (code, json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code }))
    }

    fn secret(key: &[u8]) -> (u16, serde_json::Value) {
        let data = json!({ KEY: ByteString(key.to_vec()) });
        (200, json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": SECRET }, "data": data }))
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_does_not_answer_yet_is_waited_for() {
        let (key, start) = ([7; KEY_BYTES], Instant::now());
        let mut answers = vec![refused(503); 6];
        // made by another replica between the question and the attempt
        answers.extend([refused(404), refused(409), secret(&key)]);
        assert_eq!(digest(&answers).await, (Digester::new(&key).data(std::iter::empty()), true));
        assert_eq!(start.elapsed(), Duration::from_secs(1 + 2 + 4 + 8 + 8 + 8 + 8));
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_not_keep_a_key_has_one_of_its_own() {
        let start = Instant::now();
        for answers in [vec![refused(403)], vec![refused(404), refused(403)], vec![secret(b"short")]] {
            let (one, all) = digest(&answers).await;
            assert!(all && one != digest(&answers).await.0, "the key is made anew each time");
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
