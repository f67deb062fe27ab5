#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use proptest::prelude::*;

use super::*;

/// What a run came to.
struct Ran {
    code: u8,
    out: String,
    log: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// Runs `keyferry render` in the project's folder, with a standard input.
fn run(args: &[&str], input: &str) -> Ran {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        render: Render,
    }
    let render = Line::try_parse_from(["render"].iter().chain(args)).unwrap_or_else(|e| panic!("{e}")).render;
    let (mut out, mut log) = (Vec::new(), Vec::new());
    let code = match render.run(&mut input.as_bytes(), &mut out, &mut log) {
        Ok(code) => code,
        Err(error) => {
            log.extend(error.to_string().into_bytes());
            error.exit_code()
        }
    };
    Ran { code, out: String::from_utf8(out).unwrap(), log: String::from_utf8(log).unwrap() }
}

fn fake(values: &str) -> String {
    format!(
        "apiVersion: external-secrets.io/v1\nkind: SecretStore\nmetadata: {{name: s}}\nspec: {{provider: {{fake: {{data: [{values}]}}}}}}\n---\n"
    )
}

fn external_secret(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {{name: {name}}}\nspec:\n  secretStoreRef: {{name: s}}\n{spec}\n---\n"
    )
}

const ONE: &str = "  data: [{secretKey: k, remoteRef: {key: r}}]";

#[test]
fn every_example_is_rendered() {
    let mut rendered = 0;
    for file in fs::read_dir(root().join("examples")).unwrap() {
        let file = file.unwrap().path();
        let path = file.to_str().unwrap();
        let ran = run(&["--missing=placeholder", "--unsafe-allow-generic-targets", path], "");
        assert_eq!(ran.code, 0, "{path}\n{}", ran.log);
        rendered += ran.out.matches("\nkind: ").count();
    }
    assert!(rendered > 30, "{rendered} objects");
}

/// `tests/render` holds manifests and values, and what is printed of them. `UPDATE=1 cargo test render` writes the latter anew.
#[test]
fn what_is_printed_is_what_it_was() {
    let folder = root().join("tests/render");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    assert!(cases.len() >= 5, "cases are missing");
    for case in cases {
        let manifests = case.join("manifests.yaml");
        let manifests = fs::read_to_string(manifests).unwrap();
        let values = case.join("values.yaml");
        let mut args = vec!["-", "--show-values", "--namespace=team-a"];
        let more = fs::read_to_string(case.join("flags")).unwrap_or_default();
        args.extend(more.split_whitespace());
        if values.exists() {
            args.extend(["--values", values.to_str().unwrap()]);
        }
        let ran = run(&args, &manifests);
        let found = format!("{}=== exit code {}\n{}", ran.out, ran.code, ran.log);
        let golden = case.join("printed");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &found).unwrap();
        }
        assert_eq!(found, fs::read_to_string(&golden).unwrap_or_default(), "{}", case.display());
    }
}

#[test]
fn values_are_printed_where_that_is_asked_for_and_nowhere_else() {
    let template = "  target:\n    template:\n      mergePolicy: Merge\n      metadata: {labels: {l: '{{ .user }}', plain: text}, annotations: {a: 'x{{ .user }}'}}\n      data: {t: '{{ .user }}'}\n      templateFrom: [{target: Annotations, literal: 'b: {{ .user }}'}]\n";
    let extract = "  dataFrom: [{extract: {key: r}}]";
    let generic = "  target: {manifest: {apiVersion: v1, kind: ConfigMap}}\n";
    let manifests = [
        fake("{key: r, value: '{\"user\": \"canary\"}'}"),
        external_secret("plain", ONE),
        external_secret("template", &format!("{template}{extract}")),
        external_secret("generic", &format!("{generic}{extract}")),
        external_secret("wrong-key", &format!("  target: {{template: {{data: {{t: '{{{{ .usr }}}}'}}}}}}\n{extract}")),
        external_secret(
            "wrong-type",
            &format!("  target: {{template: {{type: kubernetes.io/tls, data: {{t: '{{{{ .user }}}}'}}}}}}\n{extract}"),
        ),
        external_secret(
            "wrong-decoding",
            "  data: [{secretKey: k, remoteRef: {key: r, property: user, decodingStrategy: Base64}}]",
        ),
        external_secret(
            "fromjson",
            &format!("  target: {{template: {{data: {{t: '{{{{ .user | mustFromJson }}}}'}}}}}}\n{extract}"),
        ),
    ]
    .concat();
    for form in ["yaml", "json"] {
        let flags = ["-", "--unsafe-allow-generic-targets", "-o", form];
        let masked = run(&flags, &manifests);
        let all = masked.out.clone() + &masked.log;
        assert!(!all.contains("canary") && !all.contains("Y2FuYXJ5"), "{all}");
        assert!(masked.out.contains("user") && masked.out.contains(print::MASK) && masked.out.contains("plain"));
        assert_eq!(masked.log.matches("error: ").count(), 4, "{}", masked.log);
        let shown = run(&[&flags[..], &["--show-values"]].concat(), &manifests);
        assert!(shown.out.contains("canary") && shown.out.contains("Y2FuYXJ5"), "{}", shown.out);
        assert!(!shown.log.contains("canary"), "{}", shown.log);
    }
}

#[test]
fn pushed_values_are_masked_unless_they_are_asked_for() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: src}\nstringData: {user: canary}\n---\n";
    let push = |name: &str, rest: &str| {
        format!(
            "apiVersion: external-secrets.io/v1alpha1\nkind: PushSecret\nmetadata: {{name: {name}}}\nspec:\n  secretStoreRefs: [{{name: s}}]\n  selector: {{secret: {{name: src}}}}\n{rest}\n---\n"
        )
    };
    let manifests = [
        fake(""),
        secret.to_owned(),
        push("one", "  data: [{match: {secretKey: user, remoteRef: {remoteKey: place}}}]"),
        push("all", "  dataTo: [{storeRef: {name: s}, remoteKey: bundle}]"),
        push(
            "wrong",
            "  template: {data: {t: '{{ .user | mustFromJson }}'}}\n  data: [{match: {secretKey: t, remoteRef: {remoteKey: x}}}]",
        ),
    ]
    .concat();
    for form in ["yaml", "json"] {
        let flags = ["-", "-o", form];
        let masked = run(&flags, &manifests);
        let all = masked.out.clone() + &masked.log;
        let bundle = "eyJ1c2VyIjoiY2FuYXJ5In0=";
        assert!(!["canary", "Y2FuYXJ5", bundle].iter().any(|value| all.contains(value)), "{all}");
        assert_eq!((masked.out.matches(print::MASK).count(), masked.log.matches("error: ").count()), (2, 1), "{all}");
        assert!(masked.out.contains("place") && masked.out.contains("bundle"));
        let shown = run(&[&flags[..], &["--show-values"]].concat(), &manifests);
        assert!(shown.out.contains("Y2FuYXJ5") && shown.out.contains(bundle), "{}", shown.out);
        assert!(!shown.log.contains("canary"), "{}", shown.log);
    }
}

#[test]
fn a_value_that_became_a_key_is_masked() {
    let made = |name: &str, from: &str| {
        external_secret(name, &format!("  target: {{template: {{data: {{t: x}}, templateFrom: [{{{from}}}]}}}}\n{ONE}"))
    };
    let push = "apiVersion: external-secrets.io/v1alpha1\nkind: PushSecret\nmetadata: {name: p}\nspec:\n  secretStoreRefs: [{name: s}]\n  selector: {secret: {name: src}}\n  template: {templateFrom: [{literal: '{{ .user }}: x'}]}\n  dataTo: [{storeRef: {name: s}}]\n";
    let manifests = [
        fake("{key: r, value: canary}"),
        "apiVersion: v1\nkind: Secret\nmetadata: {name: src}\nstringData: {user: canary}\n---\n".to_owned(),
        made("data", "literal: \"{{ .k }}: x\\npre-{{ .k }}: x\\nfixed: x\""),
        made("labels", "target: Labels, literal: '{{ .k }}: x'"),
        made("annotations", "target: Annotations, literal: '{{ .k }}: x'"),
        made("wrong", "literal: \"'{{ .k }} !': x\""),
        push.to_owned(),
    ]
    .concat();
    for form in ["yaml", "json"] {
        let masked = run(&["-", "-o", form], &manifests);
        let all = masked.out.clone() + &masked.log;
        assert!(!all.contains("canary"), "{all}");
        assert!(masked.out.contains("fixed") && masked.out.contains("<masked>2"), "{}", masked.out);
        let error = "Secret default/wrong: data: <masked> is no key";
        assert!(masked.log.contains(error) && masked.log.matches("error: ").count() == 1, "{}", masked.log);
        let shown = run(&["-", "-o", form, "--show-values"], &manifests);
        assert_eq!(shown.out.matches("canary").count(), 6, "{}", shown.out);
        assert!(!shown.log.contains("canary"), "{}", shown.log);
    }
}

#[test]
fn what_a_template_calls_like_our_own_labels_is_masked() {
    let own = "reconcile.external-secrets.io";
    let template = format!(
        "metadata: {{labels: {{{own}/x: '{{{{ .k }}}}'}}, annotations: {{{own}/managed: '{{{{ .k }}}}'}}}}, templateFrom: [{{target: Annotations, literal: '{own}/{{{{ .k }}}}: x'}}]"
    );
    let manifests =
        fake("{key: r, value: canary}") + &external_secret("a", &format!("  target: {{template: {{{template}}}}}\n{ONE}"));
    let masked = run(&["-"], &manifests);
    assert!(masked.code == 0 && !masked.out.contains("canary"), "{}{}", masked.out, masked.log);
    assert!(masked.out.contains(&format!("{own}/managed: \"true\"")), "{}", masked.out);
    assert!(!masked.out.contains("created-by: <"), "{}", masked.out);
    assert_eq!(run(&["-", "--show-values"], &manifests).out.matches("canary").count(), 3);
}

#[test]
fn a_push_that_fails_names_no_key_that_a_value_became() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: src}\nstringData: {user: canary}\n---\n";
    let kubernetes = "apiVersion: external-secrets.io/v1\nkind: SecretStore\nmetadata: {name: s}\nspec: {provider: {kubernetes: {server: {caProvider: {type: ConfigMap, name: ca, key: ca.crt}}, auth: {serviceAccount: {name: r}}}}}\n---\n";
    let push = |literal: &str, entries: &str| {
        format!(
            "{secret}apiVersion: external-secrets.io/v1alpha1\nkind: PushSecret\nmetadata: {{name: p}}\nspec:\n  secretStoreRefs: [{{name: s}}]\n  selector: {{secret: {{name: src}}}}\n  template: {{templateFrom: [{{literal: '{literal}'}}]}}\n  {entries}\n"
        )
    };
    let same = "dataTo: [{storeRef: {name: s}, rewrite: [{regexp: {source: '^.*$', target: same}}]}]";
    let lost = "data: [{match: {secretKey: lost, remoteRef: {remoteKey: r}}}]";
    let table = [
        (
            fake("") + &push("{{ .user }}: x", same),
            "duplicate remote key \"same\" from source key \"user\" (conflicts with dataTo[0]:<masked>)",
        ),
        (fake("") + &push("fixed: x", same), "duplicate remote key \"same\" from source key \"user\""),
        (fake("") + &push("{{ .user }}: x", lost), "secret key lost does not exist"),
        (
            kubernetes.to_owned() + &push("{{ .user }}: x", "dataTo: [{storeRef: {name: s}}]"),
            "could not write remote ref <masked> to target secretstore s: <masked>: it may name keys that a template made of values",
        ),
    ];
    for (manifests, wanted) in table {
        let ran = run(&["-", "-q"], &manifests);
        assert!(ran.code == 1 && ran.log.contains(wanted) && !ran.log.contains("canary"), "{wanted}\n{}", ran.log);
    }
}

#[test]
fn what_is_merged_into_one_secret_is_pushed_as_one() {
    let merged = |name: &str, key: &str, policy: &str| {
        let data = format!("  data: [{{secretKey: {key}, remoteRef: {{key: r}}}}]");
        external_secret(name, &format!("  target: {{name: app, creationPolicy: {policy}}}\n{data}"))
    };
    let push = "apiVersion: external-secrets.io/v1alpha1\nkind: PushSecret\nmetadata: {name: p}\nspec:\n  secretStoreRefs: [{name: s}]\n  selector: {secret: {name: app}}\n  data: [{match: {secretKey: a, remoteRef: {remoteKey: ra}}}, {match: {secretKey: b, remoteRef: {remoteKey: rb}}}]\n";
    for policy in ["CreateOrMerge", "Merge"] {
        let all = fake("{key: r, value: v}") + &merged("one", "a", policy) + &merged("two", "b", "Merge") + push;
        let ran = run(&["-", "-q"], &all);
        assert_eq!((ran.code, ran.log.as_str()), (0, ""), "{policy}");
        assert!(ran.out.contains("remoteKey: ra") && ran.out.contains("remoteKey: rb"), "{policy}\n{}", ran.out);
    }
}

#[test]
fn children_that_are_there_are_their_parents() {
    let spec = "{secretStoreRef: {name: s}, data: [{secretKey: k, remoteRef: {key: r}}]}";
    for uid in ["u", "former"] {
        let all = format!(
            "{}apiVersion: external-secrets.io/v1\nkind: ClusterExternalSecret\nmetadata: {{name: c, uid: u}}\nspec: {{namespaces: [default], externalSecretSpec: {spec}}}\n---\n\
             apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {{name: c, ownerReferences: [{{apiVersion: external-secrets.io/v1, kind: ClusterExternalSecret, name: c, uid: {uid}, controller: true}}]}}\nspec: {spec}\n",
            fake("{key: r, value: v}")
        );
        let ran = run(&["-"], &all);
        assert_eq!((ran.code, ran.log.as_str(), ran.out.matches("kind: Secret\n").count()), (0, "", 1), "{uid}");
    }
}

#[test]
fn placeholders_are_of_the_shape_that_is_asked_for() {
    let texts =
        "a: '{{ range $i := until 2 }}{{ $.password }}{{ end }}', b: '{{$p:=.user}}{{$p}}', c: '{{ index $ \"d-e\" }}'";
    let (raw, decoded) =
        ("{secretKey: a, remoteRef: {key: r}}", "{secretKey: b, remoteRef: {key: r, decodingStrategy: Base64}}");
    for spec in [
        format!("  target: {{template: {{data: {{{texts}}}}}}}\n  dataFrom: [{{extract: {{key: r}}}}]"),
        format!("  data: [{raw}, {decoded}]"),
        format!("  data: [{decoded}, {raw}]"),
    ] {
        let ran = run(&["-", "-q", "--missing=placeholder"], &external_secret("one", &spec));
        assert_eq!((ran.code, ran.log.as_str()), (0, ""), "{spec}");
    }
}

#[test]
fn each_mistake_is_one_line_that_says_what_to_do() {
    let store = fake("{key: r, value: v}");
    let table: &[(&str, String, &str)] = &[
        ("no store", external_secret("a", ONE), "could not get SecretStore \"s\", SecretStore.external-secrets.io \"s\" not found"),
        ("no value", store.clone() + &external_secret("a", "  data: [{secretKey: k, remoteRef: {key: x}}]"), "Secret does not exist: \"x\""),
        ("schema", store.clone() + &external_secret("a", "  refreshEvery: 1h\n  data: []"), "spec.refreshEvery: unknown field"),
        ("rule", store.clone() + &external_secret("a", "  data: []"), "spec: either data or dataFrom should be specified"),
        ("template", store.clone() + &external_secret("a", &format!("  target: {{template: {{data: {{t: '{{{{ .x'}}}}}}\n{ONE}")), "could not apply template"),
        (
            "two writers",
            store.clone() + &external_secret("a", &format!("  target: {{name: t}}\n{ONE}")) + &external_secret("b", &format!("  target: {{name: t}}\n{ONE}")),
            "ExternalSecret default/b (standard input, document 3): target is owned by another ExternalSecret: unable to mutate secret t: secret is owned by another ExternalSecret: a",
        ),
        (
            "two that replace",
            store.clone() + &external_secret("a", &format!("  target: {{name: t, creationPolicy: Orphan}}\n{ONE}")) + &external_secret("b", &format!("  target: {{name: t, creationPolicy: Orphan}}\n{ONE}")),
            "ExternalSecret default/b (standard input, document 3): could not update secret: another ExternalSecret writes Secret default/t",
        ),
        (
            "one that replaces",
            store.clone() + &external_secret("a", &format!("  target: {{name: t, creationPolicy: Orphan}}\n{ONE}")) + &external_secret("b", &format!("  target: {{name: t, creationPolicy: Merge}}\n{ONE}")),
            "ExternalSecret default/b (standard input, document 3): could not update secret: another ExternalSecret writes Secret default/t",
        ),
        (
            "annotation",
            store.clone() + &external_secret("a", &format!("  target: {{template: {{metadata: {{annotations: {{'an no': x}}}}}}}}\n{ONE}")),
            "the API server would not take Secret default/a: metadata.annotations[\"an no\"]: name part must consist of",
        ),
        (
            "key",
            store.clone() + &external_secret("a", &format!("  target: {{template: {{data: {{'a b': x}}}}}}\n{ONE}")),
            "the API server would not take Secret default/a: data: \"a b\" is no key",
        ),
        (
            "source",
            store.clone() + &external_secret("a", &format!("  target: {{template: {{templateFrom: [{{configMap: {{name: c, items: [{{key: k}}]}}}}]}}}}\n{ONE}")),
            "configmap c not found",
        ),
        ("store", "apiVersion: external-secrets.io/v1\nkind: SecretStore\nmetadata: {name: s}\nspec: {provider: {fake: {}, aws: {}}}\n".into(), "spec.provider"),
        ("nothing", "a: b".into(), "no Kubernetes object"),
        ("empty", String::new(), "there is no ExternalSecret"),
    ];
    for (name, manifests, wanted) in table {
        let ran = run(&["-", "-q"], manifests);
        assert_eq!(ran.code, 1, "{name}: {}", ran.log);
        assert!(ran.log.lines().any(|l| l.starts_with("error: ") && l.contains(wanted)), "{name}: {}", ran.log);
    }
    // the others are rendered all the same
    let ran = run(&["-", "-q"], &(store + &external_secret("bad", "  data: []") + &external_secret("good", ONE)));
    assert_eq!((ran.code, ran.log.lines().count()), (1, 1));
    assert!(ran.out.contains("name: good") && !ran.out.contains("name: bad"));
}

#[test]
fn what_cannot_be_read_is_a_wrong_call() {
    for args in [&["no/such/file"][..], &["-", "--values", "no/such/file"]] {
        let ran = run(args, "");
        assert_eq!(ran.code, 2, "{}", ran.log);
        assert!(ran.log.contains("no/such/file"));
    }
}

#[test]
fn namespaces_stores_and_classes_count_as_in_a_cluster() {
    let cluster_store = "apiVersion: external-secrets.io/v1\nkind: ClusterSecretStore\nmetadata: {name: s}\nspec: {provider: {fake: {data: [{key: r, value: v}]}}, conditions: [{namespaceSelector: {matchLabels: {tier: gold}}}]}\n---\n";
    let es = external_secret("a", ONE).replace("{name: s}", "{name: s, kind: ClusterSecretStore}");
    let namespace = |tier: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: default, labels: {{tier: {tier}}}}}\n---\n")
    };
    let ran = run(&["-"], &(cluster_store.to_owned() + &es));
    assert!(ran.log.contains("using cluster store \"s\" is not allowed from namespace \"default\""), "{}", ran.log);
    assert!(ran.log.contains("note: Namespace default is not among the manifests"), "{}", ran.log);
    assert_eq!(run(&["-"], &(cluster_store.to_owned() + &namespace("lead") + &es)).code, 1);
    assert_eq!(run(&["-"], &(cluster_store.to_owned() + &namespace("gold") + &es)).code, 0);
    let other = cluster_store.replace("spec: {", "spec: {controller: other, ") + &namespace("gold") + &es;
    let ran = run(&["-"], &other);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.log);
    assert_eq!(run(&["-", "--controller-class=other"], &other).out.matches("kind: Secret").count(), 1);
}

#[test]
fn rules_across_fields_are_those_of_the_api_server() {
    let object = |version: &str, kind: &str, spec: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
    };
    let (v1, alpha) = ("external-secrets.io/v1", "external-secrets.io/v1alpha1");
    let generators = "generators.external-secrets.io/v1alpha1";
    let push = |selector: &str, rewrite: &str| {
        format!(
            "{{secretStoreRefs: [{{name: s}}], selector: {{{selector}}}, dataTo: [{{storeRef: {{name: s}}, rewrite: [{{{rewrite}}}]}}]}}"
        )
    };
    let (secret, generator) = ("secret: {name: s}", "generatorRef: {kind: UUID, name: u}");
    let (regexp, transform) = ("regexp: {source: a, target: b}", "transform: {template: t}");
    let token =
        "{auth: {token: {secretRef: {name: s, key: k}}}, name: t, scopes: [read_repository], projectID: p, groupID: g}";
    let both_sources = push(&format!("{secret}, {generator}"), regexp);
    let table = [
        (object(alpha, "PushSecret", &push(secret, regexp)), ""),
        (
            object(alpha, "PushSecret", &both_sources),
            "spec.selector: selector must have exactly one of secret and generatorRef",
        ),
        (
            object(alpha, "ClusterPushSecret", &format!("{{pushSecretSpec: {both_sources}}}")),
            "spec.pushSecretSpec.selector: selector must have exactly one of secret and generatorRef",
        ),
        (
            object(alpha, "PushSecret", &push(secret, &format!("{regexp}, {transform}"))),
            "spec.dataTo[0].rewrite[0]: exactly one of regexp or transform must be set",
        ),
        (
            object(alpha, "PushSecret", &push(secret, "")),
            "spec.dataTo[0].rewrite[0]: exactly one of regexp or transform must be set",
        ),
        (object(generators, "GitlabDeployToken", token), "spec: exactly one of projectID and groupID must be set"),
        (
            object(v1, "ClusterExternalSecret", "{externalSecretSpec: {secretStoreRef: {name: s}}}"),
            "spec.externalSecretSpec: either data or dataFrom should be specified",
        ),
    ];
    for (text, wanted) in table {
        let ran = run(&["-", "-q", "--missing=placeholder"], &text);
        let found: Vec<&str> = ran.log.lines().collect();
        match wanted {
            "" => assert!(ran.code == 0 && found.is_empty(), "{text}\n{found:?}"),
            _ => assert!(matches!(found[..], [one] if one.ends_with(&format!(": {wanted}"))), "{text}\n{found:?}"),
        }
    }
}

#[test]
fn a_push_that_the_provider_would_refuse_unasked_is_told() {
    let store = "apiVersion: external-secrets.io/v1\nkind: SecretStore\nmetadata: {name: s}\nspec: {provider: {kubernetes: {server: {caProvider: {type: ConfigMap, name: ca, key: ca.crt}}, auth: {serviceAccount: {name: r}}}}}\n---\n";
    let push = |place: &str, spec: &str| {
        format!(
            "{store}apiVersion: external-secrets.io/v1alpha1\nkind: PushSecret\nmetadata: {{name: p}}\nspec:\n  secretStoreRefs: [{{name: s}}]\n  selector: {{secret: {{name: src}}}}\n  data: [{{match: {{secretKey: k, remoteRef: {{{place}}}}}, metadata: {{apiVersion: kubernetes.external-secrets.io/v1alpha1, kind: PushSecretMetadata, spec: {{{spec}}}}}}}]\n"
        )
    };
    let (whole, part) = ("remoteKey: r", "remoteKey: r, property: p");
    let table = [
        (push(part, "labels: {a: b}"), ""),
        (push(whole, ""), "requires property in RemoteRef to push secret value if secret key is defined"),
        (push(part, "label: {a: b}"), "unable to parse metadata parameters: "),
        (push(part, "remoteNamespace: x"), "remoteNamespace override is only supported with ClusterSecretStore"),
        (push(part, "sourceMergePolicy: Mix"), "unexpected source merge policy \"Mix\""),
    ];
    for (manifests, wanted) in table {
        let ran = run(&["-", "-q", "--missing=placeholder"], &manifests);
        assert_eq!(ran.code, u8::from(!wanted.is_empty()), "{}", ran.log);
        let begin = "set secret failed: could not write remote ref k to target secretstore s: ";
        assert!(wanted.is_empty() || (ran.log.contains(begin) && ran.log.contains(wanted)), "{wanted}\n{}", ran.log);
    }
}

#[cfg(unix)]
#[test]
fn folders_that_are_links_are_left_alone() {
    let folder = std::env::temp_dir().join(format!("keyferry-render-links-{}", std::process::id()));
    let inner = folder.join("inner");
    fs::create_dir_all(&inner).unwrap();
    let object = fake("{key: r, value: v}") + &external_secret("a", ONE);
    fs::write(inner.join("a.yaml"), object).unwrap();
    for (to, link) in [(".", folder.join("loop")), ("inner", folder.join("again"))] {
        std::os::unix::fs::symlink(to, link).unwrap();
    }
    // a file may be one: ConfigMaps are mounted so
    std::os::unix::fs::symlink("inner/a.yaml", folder.join("linked.yaml")).unwrap();
    let of = |path: &Path| run(&["-R", path.to_str().unwrap(), "-q"], "");
    let (all, through_a_link) = (of(&folder), of(&folder.join("again")));
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!((through_a_link.code, through_a_link.log.as_str()), (0, ""), "what is given is looked into");
    assert_eq!(all.log.matches("is there twice").count(), 2, "the file and its link: {}", all.log);
}

#[test]
fn what_this_version_does_not_serve_is_told() {
    let store = "apiVersion: external-secrets.io/v1\nkind: SecretStore\nmetadata: {name: s}\nspec: {provider: {onboardbase: {}}}\n---\n";
    let generator = "apiVersion: generators.external-secrets.io/v1alpha1\nkind: BeyondtrustWorkloadCredentialsDynamicSecret\nmetadata: {name: g}\nspec: {provider: {auth: {apikey: {token: {}}}, server: {apiUrl: u, siteId: s}}}\n---\n";
    let wanted = [
        "SecretStore default/s (standard input, document 1): spec.provider.onboardbase is not served by this version of keyferry; served are: ",
        "BeyondtrustWorkloadCredentialsDynamicSecret default/g (standard input, document 2): generators of kind BeyondtrustWorkloadCredentialsDynamicSecret are not served by this version of keyferry; served are: ",
    ];
    let all = format!("{store}{generator}");
    for (flag, code, word) in [("--missing=error", 1, "error"), ("--missing=placeholder", 0, "note")] {
        let ran = run(&["-", flag], &all);
        assert_eq!(ran.code, code, "{}", ran.log);
        for text in wanted {
            let text = format!("{word}: {text}");
            assert_eq!(ran.log.lines().filter(|line| line.starts_with(&text)).count(), 1, "{text}\n{}", ran.log);
        }
    }
    let other = store.replace("spec: {", "spec: {controller: other, ");
    assert_eq!(run(&["-"], &other).code, 0, "it is another operator's");
}

/// Random manifests: valid in shape or not, with texts of all sorts at each place.
fn manifest() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("r".to_owned()),
        Just("{{ .user }}".to_owned()),
        Just("{{ .user | b64dec".to_owned()),
        Just("@this.a|#(b==1)".to_owned()),
        ".{0,12}",
    ];
    let entry = (word.clone(), word.clone(), word.clone(), 0..6_u8).prop_map(|(a, b, c, which)| match which {
        0 => serde_json::json!({ "data": [{ "secretKey": a, "remoteRef": { "key": "r", "property": b, "decodingStrategy": "Auto" } }] }),
        1 => serde_json::json!({ "dataFrom": [{ "extract": { "key": "r" }, "rewrite": [{ "regexp": { "source": a, "target": b } }] }] }),
        2 => serde_json::json!({ "dataFrom": [{ "find": { "name": { "regexp": a } }, "rewrite": [{ "transform": { "template": b } }] }] }),
        3 => serde_json::json!({ "dataFrom": [{ "extract": { "key": "r" } }], "target": { "name": a, "template": { "data": { b: c }, "metadata": { "labels": { "l": a } } } } }),
        4 => serde_json::json!({ "dataFrom": [{ "find": { "name": { "regexp": "." } }, "rewrite": [{ "merge": { "priority": [a], "into": b } }] }], "refreshInterval": c }),
        _ => serde_json::json!({ "data": a, "dataFrom": [{ b: c }], "target": [c] }),
    });
    (entry, word, any::<bool>()).prop_map(|(mut spec, name, named)| {
        spec["secretStoreRef"] = serde_json::json!({ "name": "s" });
        let name = if named { "a".to_owned() } else { name };
        serde_json::json!({ "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": { "name": name }, "spec": spec }).to_string()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_manifests_are_rendered_or_refused(all in proptest::collection::vec(manifest(), 1..4), known in any::<bool>()) {
        let value = "'{\"user\": \"canary\", \"a\": [{\"b\": 1}]}'";
        let store = if known { fake(&format!("{{key: r, value: {value}}}")) } else { String::new() };
        let ran = run(&["-", "--missing=placeholder"], &(store + &all.join("\n---\n")));
        prop_assert!(ran.code <= 1);
        prop_assert_eq!(ran.code == 1, ran.log.contains("error: "));
        prop_assert!(!ran.out.contains("canary") && !ran.log.contains("canary"), "{} {}", ran.out, ran.log);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(---|[a-z]{1,3}: |- |\\{|\\}|\\[|\n|apiVersion: v1|kind: List|items:|[ -~]){0,30}") {
        let ran = run(&["-"], &text);
        prop_assert!(ran.code <= 1);
    }

    #[test]
    fn what_is_printed_is_read_back(key in "[-._a-zA-Z0-9]{1,8}", value in "\\PC{0,20}") {
        let data = serde_json::json!({ "apiVersion": "external-secrets.io/v1", "kind": "SecretStore", "metadata": { "name": "s" },
            "spec": { "provider": { "fake": { "data": [{ "key": "r", "value": format!("v{value}") }] } } } });
        let es = serde_json::json!({ "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": { "name": "a", "annotations": { "n": value } },
            "spec": { "secretStoreRef": { "name": "s" }, "data": [{ "secretKey": key, "remoteRef": { "key": "r" } }] } });
        let input = format!("{data}\n{es}");
        let yaml = run(&["-", "--show-values"], &input);
        prop_assume!(yaml.code == 0);
        let read = crate::render::yaml::to_json(&yaml.out.as_str().into()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&run(&["-", "--show-values", "-o", "json"], &input).out).unwrap();
        prop_assert_eq!(&json["items"][0], &read);
    }
}
