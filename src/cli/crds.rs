//! `keyferry crds`.

/// The CustomResourceDefinitions as one stream of YAML documents, ready for `kubectl apply -f -`.
#[must_use]
pub fn yaml() -> String {
    crate::api::crds::yaml()
}
