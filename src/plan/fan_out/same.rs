//! Whether a parent and a child that is there want the same, however each of them says it.
//!
//! ESO copies the spec as Go structs, and its CRDs fill in defaults: in the child `24h` is `24h0m0s`, what is empty or `false` is left
//! out, and a struct that Go cannot leave out is there without content (`metadata: {}`). The parent keeps what its author wrote. Were such
//! a child written in the parent's words, its generation would change, and with it every value that it generates.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::external_secret::{
    Data, DataFrom, Find, FindName, GeneratorRef, RemoteRef, Rewrite, RewriteMerge, SecretStoreRef, SourceRef, SyncWindow,
    SyncWindows, Target, Template, TemplateFrom, TemplateRef, TemplateRefItem,
};
use crate::api::fan_out::{Child, Parent};
use crate::api::generators::{GROUP, VERSION};
use crate::api::push_secret::{
    PushData, PushDataTo, PushDataToMatch, PushMatch, PushRemoteRef, PushSelector, PushSource, PushStoreRef,
};
use crate::api::{ExternalSecretSpec, PushSecretSpec};
use crate::plan::{duration, refresh};

/// Whether a child wants what its parent wants of it.
pub(super) fn is_wanted(parent: &Parent, child: &Child) -> bool {
    match (parent, child) {
        (Parent::ClusterExternalSecret(ces), Child::ExternalSecret(es)) => same(&ces.spec.external_secret_spec, &es.spec),
        (Parent::ClusterPushSecret(cps), Child::PushSecret(ps)) => same(&cps.spec.push_secret_spec, &ps.spec),
        _ => false,
    }
}

fn same<T: SpellOut + Clone + PartialEq>(wanted: &T, live: &T) -> bool {
    wanted == live || spelled_out(wanted) == spelled_out(live)
}

fn spelled_out<T: SpellOut + Clone>(spec: &T) -> T {
    let mut spec = spec.clone();
    spec.spell_out();
    spec
}

/// A part of a spec that says the same in several ways. Each takes all its fields apart, so that a new one is not forgotten: what
/// ESO leaves out by itself gets the default that both operators take it for, and what is optional to Go, too, stays as it is.
trait SpellOut {
    /// Brings it into the one form in which everything is said.
    fn spell_out(&mut self);
}

impl<T: SpellOut> SpellOut for Option<T> {
    fn spell_out(&mut self) {
        self.iter_mut().for_each(T::spell_out);
    }
}

impl<T: SpellOut> SpellOut for Vec<T> {
    fn spell_out(&mut self) {
        self.iter_mut().for_each(T::spell_out);
    }
}

impl SpellOut for ExternalSecretSpec {
    fn spell_out(&mut self) {
        let Self { secret_store_ref, target, refresh_policy, refresh_interval, sync_windows, data, data_from } = self;
        secret_store_ref.get_or_insert_default().spell_out();
        target.get_or_insert_default().spell_out();
        refresh_policy.get_or_insert_default();
        spell_out_interval(refresh_interval);
        sync_windows.spell_out();
        data.spell_out();
        data_from.spell_out();
    }
}

impl SpellOut for SecretStoreRef {
    fn spell_out(&mut self) {
        let Self { name, kind } = self;
        name.get_or_insert_default();
        kind.get_or_insert_default();
    }
}

impl SpellOut for SyncWindows {
    fn spell_out(&mut self) {
        let Self { kind: _, windows } = self;
        windows.spell_out();
    }
}

impl SpellOut for SyncWindow {
    fn spell_out(&mut self) {
        let Self { schedule: _, duration } = self;
        as_go_prints(duration);
    }
}

impl SpellOut for Target {
    fn spell_out(&mut self) {
        let Self { name, creation_policy, deletion_policy, immutable, manifest: _, template } = self;
        name.get_or_insert_default();
        creation_policy.get_or_insert_default();
        deletion_policy.get_or_insert_default();
        immutable.get_or_insert_default();
        template.spell_out();
    }
}

impl SpellOut for Template {
    fn spell_out(&mut self) {
        let Self { type_, engine_version, merge_policy, metadata, data: _, template_from } = self;
        type_.get_or_insert_default();
        engine_version.get_or_insert_default();
        merge_policy.get_or_insert_default();
        metadata.get_or_insert_default();
        template_from.spell_out();
    }
}

impl SpellOut for TemplateFrom {
    fn spell_out(&mut self) {
        let Self { config_map, secret, literal: _, target, values_decoding_strategy } = self;
        config_map.spell_out();
        secret.spell_out();
        spell_out_text(target, "Data");
        values_decoding_strategy.get_or_insert_default();
    }
}

impl SpellOut for TemplateRef {
    fn spell_out(&mut self) {
        let Self { name: _, items } = self;
        items.spell_out();
    }
}

impl SpellOut for TemplateRefItem {
    fn spell_out(&mut self) {
        let Self { key: _, template_as } = self;
        template_as.get_or_insert_default();
    }
}

impl SpellOut for Data {
    fn spell_out(&mut self) {
        let Self { secret_key: _, remote_ref, source_ref } = self;
        remote_ref.spell_out();
        source_ref.spell_out();
    }
}

impl SpellOut for RemoteRef {
    fn spell_out(&mut self) {
        let Self { key: _, property, version, metadata_policy, conversion_strategy, decoding_strategy, null_byte_policy } =
            self;
        property.get_or_insert_default();
        version.get_or_insert_default();
        metadata_policy.get_or_insert_default();
        conversion_strategy.get_or_insert_default();
        decoding_strategy.get_or_insert_default();
        null_byte_policy.get_or_insert_default();
    }
}

impl SpellOut for SourceRef {
    fn spell_out(&mut self) {
        let Self { store_ref, generator_ref } = self;
        store_ref.spell_out();
        generator_ref.spell_out();
    }
}

impl SpellOut for GeneratorRef {
    fn spell_out(&mut self) {
        let Self { api_version, kind: _, name: _ } = self;
        spell_out_text(api_version, &format!("{GROUP}/{VERSION}"));
    }
}

impl SpellOut for DataFrom {
    fn spell_out(&mut self) {
        let Self { extract, find, rewrite, source_ref } = self;
        extract.spell_out();
        find.spell_out();
        rewrite.spell_out();
        source_ref.spell_out();
    }
}

impl SpellOut for Find {
    fn spell_out(&mut self) {
        let Self { path: _, name, tags: _, conversion_strategy, decoding_strategy, null_byte_policy } = self;
        name.spell_out();
        conversion_strategy.get_or_insert_default();
        decoding_strategy.get_or_insert_default();
        null_byte_policy.get_or_insert_default();
    }
}

impl SpellOut for FindName {
    fn spell_out(&mut self) {
        let Self { regexp } = self;
        regexp.get_or_insert_default();
    }
}

impl SpellOut for Rewrite {
    fn spell_out(&mut self) {
        let Self { merge, regexp: _, transform: _ } = self;
        merge.spell_out();
    }
}

impl SpellOut for RewriteMerge {
    fn spell_out(&mut self) {
        let Self { into, priority: _, priority_policy, conflict_policy, strategy } = self;
        into.get_or_insert_default();
        priority_policy.get_or_insert_default();
        conflict_policy.get_or_insert_default();
        strategy.get_or_insert_default();
    }
}

impl SpellOut for PushSecretSpec {
    fn spell_out(&mut self) {
        let Self { refresh_interval, secret_store_refs, update_policy, deletion_policy, selector, data, data_to, template } =
            self;
        spell_out_interval(refresh_interval);
        secret_store_refs.spell_out();
        update_policy.get_or_insert_default();
        deletion_policy.get_or_insert_default();
        selector.spell_out();
        data.spell_out();
        data_to.spell_out();
        template.spell_out();
    }
}

impl SpellOut for PushStoreRef {
    fn spell_out(&mut self) {
        let Self { name, label_selector, kind } = self;
        name.get_or_insert_default();
        label_selector.spell_out();
        kind.get_or_insert_default();
    }
}

impl SpellOut for LabelSelector {
    fn spell_out(&mut self) {
        let Self { match_expressions, match_labels } = self;
        match_labels.get_or_insert_default();
        for requirement in match_expressions.get_or_insert_default() {
            requirement.values.get_or_insert_default();
        }
    }
}

impl SpellOut for PushSelector {
    fn spell_out(&mut self) {
        let Self { secret, generator_ref } = self;
        secret.spell_out();
        generator_ref.spell_out();
    }
}

impl SpellOut for PushSource {
    fn spell_out(&mut self) {
        let Self { name, selector } = self;
        name.get_or_insert_default();
        selector.spell_out();
    }
}

impl SpellOut for PushData {
    fn spell_out(&mut self) {
        let Self { match_: PushMatch { secret_key, remote_ref }, metadata: _, conversion_strategy } = self;
        let PushRemoteRef { remote_key: _, property } = remote_ref;
        secret_key.get_or_insert_default();
        property.get_or_insert_default();
        conversion_strategy.get_or_insert_default();
    }
}

impl SpellOut for PushDataTo {
    fn spell_out(&mut self) {
        let Self { store_ref, remote_key, match_, rewrite: _, metadata: _, conversion_strategy } = self;
        store_ref.spell_out();
        remote_key.get_or_insert_default();
        match_.spell_out();
        conversion_strategy.get_or_insert_default();
    }
}

impl SpellOut for PushDataToMatch {
    fn spell_out(&mut self) {
        let Self { regexp } = self;
        regexp.get_or_insert_default();
    }
}

/// A text that is left out or empty stands for this one.
fn spell_out_text(text: &mut Option<String>, default: &str) {
    let text = text.get_or_insert_default();
    if text.is_empty() {
        text.push_str(default);
    }
}

fn spell_out_interval(interval: &mut Option<String>) {
    let default = SignedDuration::try_from(refresh::DEFAULT_INTERVAL).unwrap_or_default();
    spell_out_text(interval, &duration::format(default));
    interval.iter_mut().for_each(as_go_prints);
}

/// Writes a duration as Go does; one that is none stays as it is.
fn as_go_prints(text: &mut String) {
    if let Ok(time) = duration::parse(text) {
        *text = duration::format(time);
    }
}
