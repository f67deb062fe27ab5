//! Certificate Manager. The emulator neither exports certificates nor finds them by tags, so these tests have a server of their own,
//! which asks no IAM and is proven by boto3; everything else is the operator's real way.

use keyferry_e2e::certs::{Authority, Pair};
use keyferry_fakes::acm::{Acm, Held, action};
use keyferry_fakes::{Fault, Refusal, Service};

use super::push::{PUSH_SECRET, push, pushed, to};
use super::*;
use crate::lab::{operator_with, with_lab};
use crate::saas::with_client;

fn actions(acm: &Service<Acm>) -> Vec<String> {
    acm.server.received().iter().map(|asked| action(asked).to_owned()).collect()
}

/// The operator, with a Certificate Manager, and the store `aws` with a key that IAM knows.
async fn lab_with(ns: &Sandbox<'_>, acm: &Service<Acm>) -> Result<impl Sized> {
    let env = [("AWS_ACM_ENDPOINT", acm.url()), ("AWS_RESOURCE_GROUPS_TAGGING_API_ENDPOINT", acm.url())];
    let operator = operator_with(ns, &[], &env).await?;
    let all = json!([{"Effect": "Allow", "Action": ["acm:*", "tag:GetResources"], "Resource": "*"}]);
    let key = ns.aws().create_user(&ns.name, all).await?;
    apply_key(ns, "key", &key).await?;
    apply_store(ns, STORE, "aws", json!({"service": "CertificateManager", "auth": key_auth("key")})).await?;
    Ok(operator)
}

/// A certificate of an authority, as ACM issues one that may be exported.
fn issued(authority: &Authority, host: &str) -> Result<Held> {
    let Pair { cert: certificate, key } = authority.server(host, &[host])?;
    let chain = authority.pair().cert.clone();
    Ok(Held { certificate, chain, key, exportable: true, kind: "AMAZON_ISSUED", ..Held::default() })
}

#[test]
fn a_certificate_is_exported_with_its_key_and_again_when_it_is_renewed() -> Result<()> {
    with_lab("acm-read", async |ns| {
        let (acm, authority) = (Service::start(Acm::default()).await, Authority::new()?);
        let first = issued(&authority, "site.test")?;
        let arn = acm.fake.hold("site", first.clone());
        let _operator = lab_with(ns, &acm).await?;
        let expected = |held: &Held| format!("{}{}{}", held.certificate, held.chain, held.key).replace("\r\n", "\n");
        apply_external_secret(ns, "site", "aws", data("bundle.pem", &arn)).await?;
        wait_data(ns, "site", &[("bundle.pem", &expected(&first))]).await?;

        // as a tls Secret, out of the one text
        let template = json!({"type": "kubernetes.io/tls", "data": {
            "tls.crt": r#"{{ .pem | filterPEM "CERTIFICATE" }}"#, "tls.key": r#"{{ .pem | filterPEM "PRIVATE KEY" }}"#,
        }});
        let mut spec = data("pem", &arn);
        spec["target"] = json!({"template": template});
        apply_external_secret(ns, "tls", "aws", spec).await?;
        let certificates = format!("{}{}", first.certificate, first.chain).replace("\r\n", "\n");
        wait_data(ns, "tls", &[("tls.crt", &certificates), ("tls.key", &first.key.replace("\r\n", "\n"))]).await?;
        let exports = || actions(&acm).iter().filter(|action| *action == "ExportCertificate").count();
        assert_eq!(exports(), 1, "one export for both");

        force_sync(ns, "site").await?;
        let asked = || actions(&acm).iter().filter(|action| *action == "GetCertificate").count();
        let (before, begun) = (asked(), Instant::now());
        while asked() == before {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody asks whether the certificate is still the same");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(exports(), 1, "it is still the same");

        let renewed = issued(&authority, "site.test")?;
        acm.fake.change(&arn, |held| *held = renewed.clone());
        force_sync(ns, "site").await?;
        wait_data(ns, "site", &[("bundle.pem", &expected(&renewed))]).await?;

        // what is refused, missing or not for export names its cause, and the key stands in no message
        let closed = acm.fake.hold("closed", Held { exportable: false, ..issued(&authority, "closed.test")? });
        apply_external_secret(ns, "closed", "aws", data("pem", &closed)).await?;
        assert!(wait_failed(ns, "closed").await?.contains("is not exportable (Options.Export is not ENABLED)"));
        let refused = acm.fake.hold("refused", issued(&authority, "refused.test")?);
        acm.set_fault(Some(Fault::Refuses(Refusal::Denied)));
        apply_external_secret(ns, "denied", "aws", data("pem", &refused)).await?;
        let message = wait_failed(ns, "denied").await?;
        assert!(message.contains("acm:GetCertificate") && message.contains("AccessDeniedException"), "{message}");
        acm.set_fault(None);
        acm.fake.remove(&arn);
        let mut spec = data("pem", &arn);
        spec["target"] = json!({"deletionPolicy": "Delete"});
        apply_external_secret(ns, "site", "aws", spec).await?;
        force_sync(ns, "site").await?;
        ns.wait(("v1", "Secret"), "site", |secret| secret.is_none()).await.map(drop)
    })
}

/// A tls Secret, as cert-manager keeps them.
async fn tls_secret(ns: &Sandbox<'_>, held: &Held) -> Result<()> {
    let data = json!({"tls.crt": format!("{}{}", held.certificate, held.chain), "tls.key": held.key});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "src"}, "type": "kubernetes.io/tls", "stringData": data});
    ns.cluster().apply_object(secret, &ns.name).await
}

#[test]
fn a_tls_secret_is_imported_followed_and_taken_back() -> Result<()> {
    with_lab("acm-push", async |ns| {
        let (acm, authority) = (Service::start(Acm::default()).await, Authority::new()?);
        acm.fake.lag();
        let first = issued(&authority, "site.test")?;
        let _operator = lab_with(ns, &acm).await?;
        tls_secret(ns, &first).await?;
        let mut entry = to("site", "", "");
        entry["metadata"] = json!({
            "apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": "PushSecretMetadata",
            "spec": {"tags": {"environment": "prod", "team": "a"}},
        });
        push(ns, "push", json!({"refreshInterval": "2s", "deletionPolicy": "Delete", "data": [entry]})).await?;
        pushed(ns, "push").await?;
        let only = || {
            let all = acm.fake.all();
            assert_eq!(all.len(), 1, "one certificate");
            all.into_iter().next().unwrap()
        };
        let (arn, held) = only();
        assert_eq!(held.key, first.key);
        let tags = json!({
            "managed-by": "external-secrets", "external-secrets-remote-key": "site", "environment": "prod", "team": "a",
        });
        assert_eq!(json!(held.tags), tags);
        let imports = || actions(&acm).iter().filter(|action| *action == "ImportCertificate").count();
        let (seen, begun) = (actions(&acm).len(), Instant::now());
        while actions(&acm).len() < seen + 4 {
            assert!(begun.elapsed() < Duration::from_secs(30), "an interval of two seconds brings no second look");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(imports(), 1, "what is unchanged is not imported again");

        let renewed = issued(&authority, "site.test")?;
        tls_secret(ns, &renewed).await?;
        let begun = Instant::now();
        while acm.fake.at(&arn).is_none_or(|held| held.key != renewed.key) {
            assert!(begun.elapsed() < Duration::from_secs(30), "the renewed certificate is not imported");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(only().0, arn, "what uses the certificate goes on with it");

        ns.kubectl(&["delete", "pushsecret", "push", "--timeout=20s"]).await?;
        assert!(acm.fake.all().is_empty());

        // a key of the Secret is no certificate
        push(ns, "part", json!({"data": [to("part", "tls.crt", "")]})).await?;
        let message = ns.wait_ready(PUSH_SECRET, "part", "False", "Errored").await?;
        assert!(message.contains("secretKey must be empty for the AWS Certificate Manager provider"), "{message}");
        Ok(())
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    with_client(Acm::default(), async |client| {
        let (acm, authority) = (client.fake(), Authority::new()?);
        let [first, other] = [issued(&authority, "site.test")?, issued(&authority, "other.test")?];
        let arn = acm.hold("site", first.clone());
        let used = acm.hold("used", Held { in_use: true, kind: "IMPORTED", ..first.clone() });
        let login = ["AKIDEXAMPLE", "secret", REGION, &arn];
        let material = [&first.certificate, &first.chain, &first.key, &other.certificate, &other.key, &used];
        let material = material.map(String::as_str);
        let mut said = client.run("acm", &[&login[..], &material[..]].concat()).await?;
        let new = said["new"].take();
        let expected = json!({
            "new": null,
            "described": [[true, "AMAZON_ISSUED", "ENABLED"], [true, "IMPORTED", "DISABLED"]],
            "exported": [true, true, true],
            "imported": [true, true, true],
            "of the team": [2, true],
            "of the team's stage": [1, true],
            "of nobody": [1, []],
            "tags": {"stage": "test", "empty": ""},
            "errors": {
                "gone": "ResourceNotFoundException",
                "deleted twice": "ResourceNotFoundException",
                "nothing to replace": "ResourceNotFoundException",
                "in use": "ResourceInUseException",
                "two certificates": "ValidationException",
                "no key": "ValidationException",
                "tags of a replacement": "ValidationException",
                "not exportable": "ValidationException",
                "short passphrase": "ValidationException",
                "bad passphrase": "ValidationException",
            },
        });
        assert_eq!(said, expected);
        let new = new.as_str().unwrap();
        assert!(acm.all().keys().eq([new, &arn, &used]), "{:?}", acm.all().keys());
        let held = acm.at(new).unwrap();
        assert!(held.certificate == other.certificate && held.key == other.key && held.chain.is_empty());

        let refusals = [
            (Refusal::Denied, "AccessDeniedException"),
            (Refusal::Throttled(7), "ThrottlingException"),
            (Refusal::Broken, "503"),
        ];
        for (refusal, code) in refusals {
            client.set_fault(Fault::Refuses(refusal));
            assert_eq!(client.run("acm", &login).await?, json!([code, code]), "{refusal:?}");
        }
        Ok(())
    })
}
