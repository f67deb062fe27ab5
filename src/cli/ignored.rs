//! ESO's flags that keyferry has no use for: accepted, so that a Deployment written for ESO starts, each with one warning that
//! says why it has no effect. One line each in [`IGNORED`].

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::value::{GoBool, SWITCH};

/// A flag of ESO's that does nothing here.
#[derive(Debug, PartialEq, Eq)]
pub struct IgnoredFlag {
    /// Name, without the dashes.
    pub name: &'static str,
    /// Whether it is a boolean, so that a bare `--name` is complete.
    pub switch: bool,
    /// Why it has no effect.
    pub reason: &'static str,
}

const fn value(name: &'static str, reason: &'static str) -> IgnoredFlag {
    IgnoredFlag { name, switch: false, reason }
}

const fn switch(name: &'static str, reason: &'static str) -> IgnoredFlag {
    IgnoredFlag { name, switch: true, reason }
}

const PLAIN_METRICS: &str =
    "metrics are served over plain HTTP without login and hold no secret value; restrict the port with a NetworkPolicy";
const NO_SECRET_CACHE: &str = "Secrets are watched by metadata only and their values are never cached";
const ONE_LOGIN: &str = "each store logs in once, and renews that login before it ends";
const NO_PROVIDER: &str = "this provider is not served by this version";
const ONE_CACHE: &str =
    "values are cached for all providers alike; see --cache-entries-per-store and --cache-bytes-per-store";

/// The flags of ESO's controller (v2.9.0) without effect here.
pub const IGNORED: &[IgnoredFlag] = &[
    switch("metrics-auth", PLAIN_METRICS),
    switch("metrics-secure", PLAIN_METRICS),
    value("metrics-cert-dir", PLAIN_METRICS),
    value("metrics-cert-name", PLAIN_METRICS),
    value("metrics-key-name", PLAIN_METRICS),
    value("client-qps", "requests to the API server are bounded by --concurrent, not by a rate"),
    value("client-burst", "requests to the API server are bounded by --concurrent, not by a rate"),
    switch("enable-secrets-caching", NO_SECRET_CACHE),
    switch("enable-configmaps-caching", "ConfigMaps are read when a store names one"),
    switch("enable-managed-secrets-caching", NO_SECRET_CACHE),
    switch(
        "enable-secret-api-read-on-cache-mismatch",
        "a Secret whose resourceVersion changed is always read from the API server",
    ),
    switch(
        "enable-extended-metric-labels",
        "labels of objects are not copied into metrics; join with kube-state-metrics instead",
    ),
    switch("enable-http2", "metrics and health are served over HTTP/1.1"),
    switch("enable-vault-token-cache", ONE_LOGIN),
    value("vault-token-cache-size", ONE_LOGIN),
    switch("experimental-enable-vault-token-cache", ONE_LOGIN),
    value("experimental-vault-token-cache-size", ONE_LOGIN),
    switch("experimental-enable-doppler-oidc-cache", ONE_LOGIN),
    value("experimental-doppler-oidc-cache-size", ONE_LOGIN),
    value("doppler-etag-cache-size", ONE_CACHE),
    value("pulumi-oidc-cache-size", ONE_LOGIN),
    value("mysterybox-tokens-cache-size", NO_PROVIDER),
    value("mysterybox-connections-cache-size", NO_PROVIDER),
];

/// Those of [`IGNORED`] that were given. Made for `#[command(flatten)]`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ignored(pub Vec<&'static IgnoredFlag>);

impl clap::Args for Ignored {
    fn augment_args(command: Command) -> Command {
        command.args(IGNORED.iter().map(|flag| {
            let arg = Arg::new(flag.name).long(flag.name).hide(true).action(ArgAction::Append);
            if flag.switch {
                arg.value_name(SWITCH).value_parser(clap::value_parser!(GoBool))
            } else {
                arg.num_args(1).value_parser(clap::value_parser!(String))
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Ignored {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(IGNORED.iter().filter(|flag| matches.contains_id(flag.name)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
