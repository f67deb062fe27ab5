//! What requests are called in the metrics: ESO's words.

use http::{Method, Request};

/// A list of Secrets.
pub(super) const LIST: &str = "ListSecrets";

/// The name of a request for Secrets, or for a review of rights.
pub(super) fn name<B>(request: &Request<B>) -> &'static str {
    let path = request.uri().path();
    // "", api, v1, namespaces, its name, secrets, its name
    let named = path.split('/').nth(6).is_some();
    match *request.method() {
        _ if path.ends_with("/selfsubjectrulesreviews") => "CreateSelfSubjectRulesReview",
        _ if path.ends_with("/selfsubjectaccessreviews") => "CreateSelfSubjectAccessReview",
        Method::GET if named => "GetSecret",
        Method::GET => LIST,
        Method::POST => "CreateSecret",
        Method::DELETE => "DeleteSecret",
        _ => "UpdateSecret",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_names_of_eso() {
        for (method, uri, expected) in [
            (Method::GET, "/api/v1/namespaces/n/secrets/secrets?", "GetSecret"),
            (Method::GET, "/api/v1/namespaces/n/secrets?limit=5", "ListSecrets"),
            (Method::POST, "/api/v1/namespaces/n/secrets?", "CreateSecret"),
            (Method::PUT, "/api/v1/namespaces/n/secrets/a?", "UpdateSecret"),
            (Method::PATCH, "/api/v1/namespaces/n/secrets/a?", "UpdateSecret"),
            (Method::DELETE, "/api/v1/namespaces/n/secrets/a?", "DeleteSecret"),
            (Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews?", "CreateSelfSubjectRulesReview"),
            (Method::POST, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews?", "CreateSelfSubjectAccessReview"),
        ] {
            let request = Request::builder().method(method).uri(uri).body(()).unwrap();
            assert_eq!(name(&request), expected, "{uri}");
        }
    }
}
