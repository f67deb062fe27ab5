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
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_secs(1);

/// The digester, with the key that is kept in the operator's namespace; makes one where there is none. A process that may
/// not read it uses a key of its own: everything works, but after a restart each Secret is read once.
pub async fn digester(client: &kube::Client, namespace: &str) -> Digester {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut own = [0_u8; KEY_BYTES];
    // a key that can be guessed is worse than none
    while aws_lc_rs::rand::fill(&mut own).is_err() {
        tracing::error!("the system gives no random numbers: waiting for them");
        tokio::time::sleep(PAUSE).await;
    }
    let key_of = |secret: Secret| secret.data.and_then(|mut data| data.remove(KEY)).filter(|k| k.0.len() >= KEY_BYTES);
    for _ in 0..3 {
        match api.get_opt(SECRET).await {
            Ok(Some(secret)) => match key_of(secret) {
                Some(key) => return Digester::new(&key.0),
                None => {
                    tracing::warn!(
                        secret = SECRET,
                        namespace,
                        "the Secret holds no usable key: delete it to have it made anew"
                    );
                    return Digester::new(&own);
                }
            },
            Ok(None) => {
                let mut secret =
                    Secret { type_: Some("keyferry.io/digest-key".into()), immutable: Some(true), ..Secret::default() };
                secret.metadata.name = Some(SECRET.into());
                secret.data = Some([(KEY.to_owned(), ByteString(own.to_vec()))].into());
                match api.create(&PostParams::default(), &secret).await {
                    Ok(_) => return Digester::new(&own),
                    // another replica was quicker: take its key
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    Err(error) => return without_key(namespace, &own, &error),
                }
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                return without_key(namespace, &own, &kube::Error::Api(status));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    Digester::new(&own)
}

fn without_key(namespace: &str, own: &[u8], error: &kube::Error) -> Digester {
    let code = match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    };
    tracing::warn!(
        secret = SECRET,
        namespace,
        code,
        "the digest key cannot be kept: each Secret is read once after a restart; let the operator get and create this Secret"
    );
    Digester::new(own)
}
