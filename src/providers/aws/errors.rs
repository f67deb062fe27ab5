//! AWS's errors in our words: a class, and a text that is stable, says what to do, and holds no credential.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::providers::{ErrorKind, ProviderError};

/// What is left where something could have been a credential.
const REDACTED: &str = "<redacted>";
/// Longest part of AWS's own message that goes into ours, in characters.
const MESSAGE_LIMIT: usize = 600;

/// A call, for the text of its error.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    /// IAM's name of the action: `secretsmanager:GetSecretValue`.
    pub(super) action: &'a str,
    /// What it was about: the secret's name, or the role's ARN. Empty: nothing in particular.
    pub(super) target: &'a str,
    /// Values that AWS's message must not carry on.
    pub(super) credentials: &'a [&'a str],
}

impl Call<'_> {
    /// The error of one item of an answer that is not an error as a whole.
    pub(super) fn item_error(&self, code: &str, message: &str) -> ProviderError {
        let kind = kind_of_code(code, message).unwrap_or(ErrorKind::Misconfigured);
        self.coded(kind, code, message)
    }

    /// The error of a call.
    pub(super) fn error<E: ProvideErrorMetadata>(&self, error: &SdkError<E, HttpResponse>) -> ProviderError {
        self.any_error(error, |message| message)
    }

    /// The error of a call whose request holds a value. Of what AWS says about it, only the refusals are taken: they come before
    /// the value is looked at.
    pub(super) fn error_of_write<E: ProvideErrorMetadata>(&self, error: &SdkError<E, HttpResponse>) -> ProviderError {
        self.any_error(error, |message| if is_access_denied(error.code()) { message } else { "" })
    }

    fn any_error<'m, E: ProvideErrorMetadata>(
        &self,
        error: &'m SdkError<E, HttpResponse>,
        keep: impl FnOnce(&'m str) -> &'m str,
    ) -> ProviderError {
        let (kind, what) = match error {
            SdkError::ServiceError(failure) => {
                let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
                // a secret in its recovery window is known by the message, so the class is found with all of it
                let kind = kind_of_code(code, message);
                return self.service_error(kind, code, keep(message), failure.raw());
            }
            SdkError::ConstructionFailure(_) => (ErrorKind::Misconfigured, "the request could not be built or signed"),
            SdkError::TimeoutError(_) => (ErrorKind::Unavailable, NO_ANSWER),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => (ErrorKind::Unavailable, NO_ANSWER),
            // a proxy's page, say, with a status of its own
            SdkError::ResponseError(failure) if !failure.raw().status().is_success() => {
                return self.service_error(None, "", "", failure.raw());
            }
            SdkError::ResponseError(_) => (ErrorKind::Malformed, "the answer could not be read"),
            _ => (ErrorKind::Unavailable, "no connection to AWS: check the network, the region and the endpoint"),
        };
        ProviderError::new(kind, self.text(what))
    }

    fn service_error(&self, kind: Option<ErrorKind>, code: &str, message: &str, raw: &HttpResponse) -> ProviderError {
        let status = raw.status();
        let mut result = if status.is_success() {
            ProviderError::new(ErrorKind::Malformed, self.text("the answer is not what the API describes"))
        } else if code.is_empty() {
            let kind = kind_of_status(status.as_u16()).unwrap_or(ErrorKind::Malformed);
            ProviderError::new(kind, self.text(&format!("HTTP status {} without an error of AWS's", status.as_u16())))
        } else {
            let kind = kind.or(kind_of_status(status.as_u16())).unwrap_or(ErrorKind::Misconfigured);
            self.coded(kind, code, message)
        };
        result.retry_after = retry_after(raw);
        result
    }

    fn coded(&self, kind: ErrorKind, code: &str, message: &str) -> ProviderError {
        if kind == ErrorKind::NotFound {
            return ProviderError::not_found(self.target);
        }
        let code = redact(code, self.credentials);
        let what = match advice(&code) {
            Some(Advice::Ours(text)) => format!("{code}: {text}"),
            Some(Advice::Aws) if !message.is_empty() => format!("{code}: {}", redact(message, self.credentials)),
            _ => code,
        };
        ProviderError::new(kind, self.text(&what))
    }

    fn text(&self, what: &str) -> String {
        match self.target {
            "" => format!("{}: {what}", self.action),
            target => format!("{} on {target:?}: {what}", self.action),
        }
    }
}

const NO_ANSWER: &str = "AWS did not answer in time";

/// The values of a login that must not show up in a text.
pub(super) fn secret_parts(credentials: &Credentials) -> [&str; 3] {
    [credentials.access_key_id(), credentials.secret_access_key(), credentials.session_token().unwrap_or_default()]
}

/// Whether new credentials may help.
pub(super) fn is_expired(code: Option<&str>) -> bool {
    matches!(code, Some("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired"))
}

/// Whether AWS does not know the access key (any more).
pub(super) fn is_unknown(code: Option<&str>) -> bool {
    matches!(code, Some("InvalidClientTokenId" | "UnrecognizedClientException"))
}

/// Whether IAM refuses the action, as opposed to the login.
pub(super) fn is_access_denied(code: Option<&str>) -> bool {
    matches!(code, Some("AccessDenied" | "AccessDeniedException"))
}

/// Class of an error code of the services that are called, or of STS; `None` where it is not known.
fn kind_of_code(code: &str, message: &str) -> Option<ErrorKind> {
    Some(match code {
        "InvalidResourceId" | "ParameterNotFound" | "ResourceNotFoundException" => ErrorKind::NotFound,
        "InvalidParameterException" | "InvalidRequestException" if is_marked_deleted(message) => ErrorKind::NotFound,
        "AccessDenied"
        | "AccessDeniedException"
        | "AuthFailure"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IDPRejectedClaim"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "InvalidIdentityToken"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "OptInRequired"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "TokenRefreshRequired"
        | "UnauthorizedOperation"
        | "UnrecognizedClientException" => ErrorKind::Denied,
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown"
        | "ThrottledException"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequestsException" => ErrorKind::Throttled,
        "IDPCommunicationError"
        | "InternalError"
        | "InternalFailure"
        | "InternalServerError"
        | "InternalServiceError"
        | "InternalServiceErrorException"
        | "InvalidNextTokenException"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => ErrorKind::Unavailable,
        "ConflictException" | "ParameterAlreadyExists" | "ResourceInUseException" | "TooManyUpdates" => ErrorKind::Conflict,
        // A quota and not a rate; and a parameter that is there.
        "LimitExceededException" | "ParameterLimitExceeded" | "ParameterVersionNotFound" => ErrorKind::Misconfigured,
        _ => return None,
    })
}

/// Class of an HTTP status, for answers that do not come from AWS itself or carry a code that is not known.
fn kind_of_status(status: u16) -> Option<ErrorKind> {
    match status {
        401 | 403 | 407 => Some(ErrorKind::Denied),
        429 => Some(ErrorKind::Throttled),
        408 | 500.. => Some(ErrorKind::Unavailable),
        _ => None,
    }
}

/// A secret in its recovery window: gone for readers, as for ESO.
fn is_marked_deleted(message: &str) -> bool {
    ["marked for deletion", "marked deleted"].iter().any(|m| message.contains(m))
}

/// What is said besides the code. AWS's message is taken only for codes whose message helps and is not known to quote a
/// request's signature or to change from call to call.
enum Advice {
    Ours(&'static str),
    Aws,
}

fn advice(code: &str) -> Option<Advice> {
    Some(match code {
        "InvalidSignatureException" | "SignatureDoesNotMatch" => {
            Advice::Ours("the secret access key does not belong to the access key id, or the clock is wrong")
        }
        "UnrecognizedClientException" | "InvalidClientTokenId" | "AuthFailure" => {
            Advice::Ours("AWS does not know the access key id, or the session token is not its own")
        }
        "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => {
            Advice::Ours("AWS cannot read the signature: look for stray characters in the access key")
        }
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => Advice::Ours("the credentials have expired"),
        "RequestExpired" => Advice::Ours("the clock is wrong"),
        "HierarchyTypeMismatchException" => {
            Advice::Ours("the type of a parameter cannot be changed: delete it, or leave secretType as it was")
        }
        "InvalidKeyId" => Advice::Ours("the KMS key does not exist or is disabled, or the role may not use it"),
        "LimitExceededException" | "ParameterLimitExceeded" => Advice::Ours("a quota of the service is reached"),
        "ParameterAlreadyExists" => Advice::Ours("somebody else made it in the meantime"),
        "ParameterMaxVersionLimitExceeded" => Advice::Ours("the oldest of its versions has a label: move the label"),
        "ParameterVersionNotFound" => Advice::Ours("the parameter has no such version or label"),
        "RequestInProgressException" => Advice::Ours("the certificate is not issued yet"),
        "ResourceInUseException" => Advice::Ours("it is in use: take it off what uses it first"),
        "OptInRequired" | "RegionDisabledException" => Advice::Ours("the region or service is not enabled for the account"),
        "AccessDenied"
        | "AccessDeniedException"
        | "DecryptionFailure"
        | "IDPRejectedClaim"
        | "InvalidIdentityToken"
        | "InvalidParameterException"
        | "InvalidRequestException"
        | "PackedPolicyTooLarge"
        | "ValidationError"
        | "ValidationException" => Advice::Aws,
        _ => return None,
    })
}

/// How long AWS asks to wait: `Retry-After` in seconds, or its own header in milliseconds.
fn retry_after(raw: &HttpResponse) -> Option<Duration> {
    let number = |name: &str| raw.headers().get(name)?.trim().parse::<u32>().ok().map(u64::from);
    number("x-amz-retry-after").map(Duration::from_millis).or_else(|| number("retry-after").map(Duration::from_secs))
}

/// A text of AWS's in one line, without the given values and without whatever looks like a key, a token, a signature or a
/// request id. The last is no secret, but would make the text differ from call to call.
fn redact(text: &str, credentials: &[&str]) -> String {
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // Shorter ones are not AWS's, and would tear up the words around them.
    for value in credentials.iter().filter(|v| v.len() >= 8) {
        text = text.replace(value, REDACTED);
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+_-.".contains(c);
    let mut result = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_part(c) != is_part(first)).unwrap_or(rest.len());
        let (run, tail) = rest.split_at(end);
        result.push_str(if looks_secret(run) { REDACTED } else { run });
        rest = tail;
    }
    match result.char_indices().nth(MESSAGE_LIMIT) {
        Some((cut, _)) => format!("{}…", &result[..cut]),
        None => result,
    }
}

/// No name of a user, role or session in an ARN is longer than 64 characters.
fn looks_secret(run: &str) -> bool {
    let bytes = run.as_bytes();
    let is_hex = |b: &u8| b.is_ascii_hexdigit();
    let access_key = run.len() >= 16
        && ["AKIA", "ASIA"].iter().any(|p| run.starts_with(p))
        && bytes.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let jwt = run.len() >= 16 && run.starts_with("eyJ");
    let signature = run.len() >= 32 && bytes.iter().all(is_hex);
    let uuid = run.len() == 36
        && bytes.iter().filter(|b| **b == b'-').count() == 4
        && bytes.iter().all(|b| *b == b'-' || is_hex(b));
    access_key || jwt || signature || uuid || run.len() > 64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'_> = Call { action: "secretsmanager:GetSecretValue", target: "prod/db", credentials: &[] };

    #[test]
    fn codes_and_texts() {
        let denied = "User: arn:aws:sts::111122223333:assumed-role/reader/keyferry-team-a-aws is not authorized to perform: \
                      secretsmanager:GetSecretValue on resource: prod/db because no identity-based policy allows it";
        let cases = [
            ("ResourceNotFoundException", "x", ErrorKind::NotFound, "Secret does not exist: \"prod/db\""),
            (
                "InvalidRequestException",
                "… because it was marked for deletion.",
                ErrorKind::NotFound,
                "Secret does not exist",
            ),
            ("InvalidParameterException", "currently marked deleted", ErrorKind::NotFound, "Secret does not exist"),
            (
                "InvalidParameterException",
                "Invalid name.",
                ErrorKind::Misconfigured,
                "InvalidParameterException: Invalid name.",
            ),
            ("AccessDeniedException", denied, ErrorKind::Denied, denied),
            ("InvalidSignatureException", "secret-canary", ErrorKind::Denied, "the secret access key does not belong"),
            ("UnrecognizedClientException", "secret-canary", ErrorKind::Denied, "does not know the access key id"),
            ("ExpiredTokenException", "secret-canary", ErrorKind::Denied, "have expired"),
            ("ThrottlingException", "secret-canary", ErrorKind::Throttled, "ThrottlingException"),
            ("InternalServiceError", "secret-canary", ErrorKind::Unavailable, "InternalServiceError"),
            ("DecryptionFailure", "key is disabled", ErrorKind::Misconfigured, "DecryptionFailure: key is disabled"),
            ("SomethingNew", "secret-canary", ErrorKind::Misconfigured, "SomethingNew"),
            ("ParameterNotFound", "secret-canary", ErrorKind::NotFound, "Secret does not exist"),
            (
                "ParameterVersionNotFound",
                "secret-canary",
                ErrorKind::Misconfigured,
                "\"prod/db\": ParameterVersionNotFound: the parameter has no such version or label",
            ),
            (
                "LimitExceededException",
                "secret-canary",
                ErrorKind::Misconfigured,
                "LimitExceededException: a quota of the service is reached",
            ),
            ("ParameterLimitExceeded", "secret-canary", ErrorKind::Misconfigured, "a quota of the service is reached"),
            ("InvalidResourceId", "secret-canary", ErrorKind::NotFound, "Secret does not exist"),
            ("ThrottledException", "secret-canary", ErrorKind::Throttled, "ThrottledException"),
            ("TooManyUpdates", "secret-canary", ErrorKind::Conflict, "TooManyUpdates"),
            ("InvalidKeyId", "secret-canary", ErrorKind::Misconfigured, "the KMS key does not exist"),
            ("RequestInProgressException", "secret-canary", ErrorKind::Misconfigured, "not issued yet"),
            ("ResourceInUseException", "secret-canary", ErrorKind::Conflict, "it is in use"),
        ];
        for (code, message, kind, text) in cases {
            let error = CALL.item_error(code, message);
            assert_eq!(error.kind, kind, "{code}");
            assert!(error.detail.contains(text), "{code}: {error}");
            assert!(!error.detail.contains("secret-canary"), "{code}: {error}");
        }
    }

    #[test]
    fn messages_lose_credentials_and_request_ids() {
        let token = "not/like+a-token=";
        let message = format!(
            "Credential=AKIAIOSFODNN7EXAMPLE/20261123/eu-west-1, Signature={}, token {token}, jwt eyJhbGciOiJSUzI1NiJ9.eyJpc3Mi.c2ln \
             (Request ID: 9b0c1f2e-1111-2222-3333-444455556666)\n arn:aws:iam::111122223333:role/reader {}",
            "0f".repeat(32),
            "aB3/".repeat(40).replace('/', "x"),
        );
        let call = Call { credentials: &[token], ..CALL };
        let error = call.item_error("AccessDeniedException", &message);
        assert_eq!(
            error.detail,
            "secretsmanager:GetSecretValue on \"prod/db\": AccessDeniedException: Credential=<redacted>/20261123/eu-west-1, \
             Signature=<redacted>, token <redacted>, jwt <redacted> (Request ID: <redacted>) \
             arn:aws:iam::111122223333:role/reader <redacted>"
        );
    }

    #[test]
    fn long_messages_are_cut() {
        let error = CALL.item_error("AccessDeniedException", &"é ".repeat(5000));
        assert!(error.detail.chars().count() < MESSAGE_LIMIT + 100);
    }

    proptest::proptest! {
        #[test]
        fn no_message_breaks_it_or_carries_a_given_value(before in ".{0,50}", value in "[A-Za-z0-9/+=]{16,100}", after in ".{0,50}") {
            let text = redact(&format!("{before} {value} {after}"), &[&value]);
            proptest::prop_assert!(!text.contains(&value));
        }
    }
}
