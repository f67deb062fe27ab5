#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use super::*;
use crate::server::ListenAddr;
use crate::telemetry::{Level, TimeEncoding};

/// Every flag of ESO's controller with its default there (v2.9.0), and whether it is one of those without effect.
const ESO: &[(&str, &str, bool)] = &[
    ("metrics-addr", ":8080", true),
    ("metrics-auth", "false", false),
    ("metrics-secure", "false", false),
    ("metrics-cert-dir", "", false),
    ("metrics-cert-name", "tls.crt", false),
    ("metrics-key-name", "tls.key", false),
    ("controller-class", "default", true),
    ("enable-leader-election", "false", true),
    ("leader-election-id", "external-secrets-controller", true),
    ("leader-election-lease-duration", "15s", true),
    ("leader-election-renew-deadline", "10s", true),
    ("leader-election-retry-period", "2s", true),
    ("concurrent", "1", true),
    ("client-qps", "50", false),
    ("client-burst", "100", false),
    ("live-addr", ":8082", true),
    ("loglevel", "info", true),
    ("zap-time-encoding", "epoch", true),
    ("namespace", "", true),
    ("enable-cluster-store-reconciler", "true", true),
    ("enable-secret-store-reconciler", "true", true),
    ("enable-cluster-external-secret-reconciler", "true", true),
    ("enable-cluster-push-secret-reconciler", "true", true),
    ("enable-push-secret-reconciler", "true", true),
    ("enable-secrets-caching", "false", false),
    ("enable-configmaps-caching", "false", false),
    ("enable-managed-secrets-caching", "true", false),
    ("enable-secret-api-read-on-cache-mismatch", "true", false),
    ("store-requeue-interval", "5m", true),
    ("enable-flood-gate", "true", true),
    ("enable-generator-state", "true", true),
    ("enable-extended-metric-labels", "false", false),
    ("enable-http2", "false", false),
    ("unsafe-allow-generic-targets", "false", true),
    ("template-left-delimiter", "{{", true),
    ("template-right-delimiter", "}}", true),
    ("generator-gc-grace-period", "2m", true),
    ("enable-vault-token-cache", "false", false),
    ("vault-token-cache-size", "262144", false),
    ("experimental-enable-vault-token-cache", "false", false),
    ("experimental-vault-token-cache-size", "262144", false),
    ("experimental-enable-doppler-oidc-cache", "false", false),
    ("experimental-doppler-oidc-cache-size", "1024", false),
    ("doppler-etag-cache-size", "16384", false),
    ("pulumi-oidc-cache-size", "1024", false),
    ("mysterybox-tokens-cache-size", "1024", false),
    ("mysterybox-connections-cache-size", "1024", false),
];

fn parse(args: &[&str]) -> Result<Settings, String> {
    let args = ["keyferry", "controller"].iter().chain(args);
    match Cli::try_parse_from(args).map_err(|e| e.to_string())?.run(&mut io::sink()).map_err(|e| e.to_string())? {
        Task::Controller(settings) => Ok(*settings),
        Task::Done | Task::Adopt(_) | Task::Render(_) => Err("nothing to run".into()),
    }
}

#[test]
fn the_command_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_of_eso_is_accepted_and_only_those_without_effect_warn() {
    for (name, value, has_effect) in ESO {
        let flag = format!("--{name}={value}");
        let warnings = parse(&[&flag]).unwrap_or_else(|e| panic!("{flag}: {e}")).warnings;
        assert_eq!(warnings.len(), usize::from(!has_effect), "{flag}: {warnings:?}");
        assert!(warnings.iter().all(|w| w.starts_with(&format!("--{name} has no effect: "))), "{warnings:?}");
    }
    let unknown_to_eso: Vec<_> = IGNORED.iter().filter(|i| !ESO.iter().any(|(name, ..)| *name == i.name)).collect();
    assert!(unknown_to_eso.is_empty(), "{unknown_to_eso:?}");
    assert_eq!(parse(&["--enable-http2", "--enable-http2=false", "--client-qps", "10"]).unwrap().warnings.len(), 2);
}

#[test]
fn defaults_are_those_of_eso_but_for_two() {
    let command = Cli::command();
    let controller = command.find_subcommand("controller").unwrap();
    for (name, value, has_effect) in ESO.iter().filter(|(_, _, has_effect)| *has_effect) {
        let arg = controller.get_arguments().find(|a| a.get_long() == Some(*name)).expect(name);
        let default = arg.get_default_values()[0].to_string_lossy();
        let expected = match *name {
            "concurrent" => "32",
            "zap-time-encoding" => "rfc3339nano",
            _ => value,
        };
        assert_eq!(default, expected, "--{name} {has_effect}");
    }
}

#[test]
fn every_flag_has_its_environment_variable() {
    let command = Cli::command();
    for arg in command.find_subcommand("controller").unwrap().get_arguments().filter(|a| !a.is_hide_set()) {
        let expected = format!("KEYFERRY_{}", arg.get_long().unwrap().to_uppercase().replace('-', "_"));
        assert_eq!(arg.get_env().unwrap().to_string_lossy(), expected);
    }
}

#[test]
fn bad_values_name_the_flag() {
    for (args, says) in [
        (["--loglevel=loud"], "--loglevel"),
        (["--enable-flood-gate=yes"], "--enable-flood-gate"),
        (["--enable-http2=maybe"], "--enable-http2"),
        (["--store-requeue-interval=0s"], "--store-requeue-interval"),
        (["--status-heartbeat=soon"], "--status-heartbeat"),
        (["--metrics-addr=8080"], "--metrics-addr"),
        (["--concurrent=0"], "--concurrent"),
        (["--namespaces=a,B"], "--namespaces"),
        (["--namespaces=,"], "--namespaces"),
        (["--leader-election-id="], "--leader-election-id"),
        (["--leader-election-id=A_B"], "--leader-election-id"),
        (["--cache-bytes-per-store=lots"], "--cache-bytes-per-store"),
        (["--zap-time-encoding=sundial"], "--zap-time-encoding"),
        (["--leader-election-renew-deadline=20s"], "--leader-election-renew-deadline"),
        (["--leader-election-retry-period=9s"], "--leader-election-retry-period"),
        (["--log-fromat=json"], "--log-format"),
        (["--enable-everything"], "--enable-everything"),
    ] {
        let error = parse(&args).unwrap_err();
        assert!(error.contains(says), "{args:?}: {error}");
    }
}

#[test]
fn of_a_flag_that_is_given_twice_the_last_counts() {
    let settings =
        parse(&["--concurrent=5", "--enable-flood-gate", "--enable-flood-gate=false", "--concurrent", "7"]).unwrap();
    assert_eq!((settings.concurrent.get(), settings.flood_gate), (7, false));
    let scoped = parse(&["--namespaces=a", "--namespaces=b,c"]).unwrap();
    assert_eq!(scoped.scope, Scope::Namespaces(vec!["b".into(), "c".into()]));
}

#[test]
fn a_flag_without_a_command_is_the_controllers() {
    let with = |args: &[&str]| with_command(["keyferry"].iter().chain(args).map(|&arg| OsString::from(arg)));
    for args in [["--concurrent=5"].as_slice(), &["--metrics-addr", ":9090"], &["--enable-leader-election"]] {
        let understood = with(args);
        assert_eq!(understood, with(&[["controller"].as_slice(), args].concat()), "{args:?}");
        assert!(
            matches!(Cli::try_parse_from(understood).unwrap().run(&mut io::sink()), Ok(Task::Controller(_))),
            "{args:?}"
        );
    }
    let others: [&[&str]; 6] = [&[], &["--help"], &["--version"], &["-V"], &["version"], &["render", "--no-such"]];
    for args in others {
        assert_eq!(with(args).len(), args.len() + 1, "{args:?}");
    }
}

#[test]
fn go_style_booleans() {
    for (arg, expected) in [
        ("--enable-leader-election", true),
        ("--enable-leader-election=true", true),
        ("--enable-leader-election=T", true),
        ("--enable-leader-election=0", false),
    ] {
        assert_eq!(parse(&[arg]).unwrap().election.is_some(), expected, "{arg}");
    }
}

#[test]
fn flags_become_settings() {
    let plain = parse(&[]).unwrap();
    assert_eq!(plain.scope, Scope::Cluster);
    assert_eq!(plain.one_namespace(), None);
    assert!(
        plain.cluster_stores
            && plain.secret_stores
            && plain.flood_gate
            && plain.adopt_secrets
            && !plain.allow_local_endpoints
    );
    assert_eq!((plain.concurrent.get(), plain.election, plain.warnings), (32, None, vec![]));
    assert_eq!(plain.metrics_addr, ListenAddr::Port(8080));

    let one = parse(&["--namespace", "team-a", "--metrics-addr=0"]).unwrap();
    assert_eq!(one.one_namespace(), Some("team-a"));
    assert_eq!((one.scope, one.cluster_stores), (Scope::Namespaces(vec!["team-a".into()]), true));
    assert_eq!(one.metrics_addr, ListenAddr::Off);

    let list =
        parse(&["--namespaces=a,b", "--loglevel", "dpanic", "--zap-time-encoding=epoch", "--log-format=text"]).unwrap();
    assert_eq!(list.one_namespace(), None);
    assert_eq!((list.scope, list.cluster_stores), (Scope::Namespaces(vec!["a".into(), "b".into()]), false));
    assert_eq!(list.log, LogSettings { format: LogFormat::Text, level: Level::Error, time: TimeEncoding::Epoch });

    let elected = parse(&["--enable-leader-election", "--leader-election-namespace=ops"]).unwrap().election.unwrap();
    assert_eq!((elected.name.as_str(), elected.namespace.as_deref()), ("external-secrets-controller", Some("ops")));
    assert_eq!(elected.timing.renew_deadline(), Duration::from_secs(10));

    let error = parse(&["--namespace=a", "--namespaces=b"]).unwrap_err();
    assert!(error.contains("--namespace and --namespaces"), "{error}");
}

#[test]
fn commands_that_print() {
    for (command, starts, contains) in [("version", "keyferry ", "."), ("crds", "", "kind: CustomResourceDefinition")] {
        let mut out = Vec::new();
        let task = Cli::try_parse_from(["keyferry", command]).unwrap().run(&mut out).unwrap();
        assert!(matches!(task, Task::Done));
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(starts) && text.contains(contains), "{command}");
    }
}

#[test]
fn the_page_about_flags_is_up_to_date() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/flags.md")).unwrap_or_default();
    assert_eq!(page, docs::markdown(&Cli::command()), "run: cargo run -- flags > docs/flags.md");
}

#[test]
fn what_is_cluster_wide_needs_all_namespaces() {
    for (args, external, push, warnings) in [
        (vec![], true, true, 0),
        (vec!["--enable-cluster-external-secret-reconciler=false"], false, true, 0),
        (vec!["--enable-cluster-push-secret-reconciler=false"], true, false, 0),
        (vec!["--namespaces=a"], false, false, 1),
        (vec!["--namespace=a"], false, false, 1),
        (
            vec![
                "--namespaces=a",
                "--enable-cluster-external-secret-reconciler=false",
                "--enable-cluster-push-secret-reconciler=false",
            ],
            false,
            false,
            0,
        ),
    ] {
        let settings = parse(&args).unwrap();
        assert_eq!((settings.cluster_external_secrets, settings.cluster_push_secrets), (external, push), "{args:?}");
        assert_eq!(settings.warnings.len(), warnings, "{args:?}");
    }
}

/// What the page about moving says is typed, is understood.
#[test]
fn the_commands_of_the_page_about_moving_are_commands() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/moving-from-eso.md")).unwrap();
    let commands: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| line.starts_with("keyferry ")).collect();
    assert!(commands.len() >= 4, "{commands:?}");
    for command in commands {
        let words = command.split('#').next().unwrap_or_default().split_whitespace();
        assert!(matches!(Cli::try_parse_from(words).unwrap().run(&mut io::sink()), Ok(Task::Adopt(_))), "{command}");
    }
}
