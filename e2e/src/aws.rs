//! A small client for the AWS services that the tests arrange things in: Secrets Manager, Parameter Store, IAM and STS. It signs
//! requests itself; the SDK for IAM alone would take longer to compile than everything else here.

use std::fmt;
use std::time::SystemTime;

use anyhow::anyhow;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::http;

/// The region of all secrets, the same as in the issue's example.
pub const REGION: &str = "eu-west-1";
/// The account that the emulator plays.
pub const ACCOUNT: &str = "000000000000";
/// The audience of tokens that AWS accepts.
pub const AUDIENCE: &str = "sts.amazonaws.com";

/// A refusal, as AWS words it, or (with the code `NoAnswer`) the lack of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The error code, such as `AccessDeniedException`.
    pub code: String,
    /// What the service says.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: "NoAnswer".to_owned(), message: format!("{error:#}") }
    }
}

/// What a call returns.
pub type Result<T> = std::result::Result<T, Failure>;

/// AWS, as one principal.
#[derive(Clone)]
pub struct Aws {
    endpoint: String,
    /// `None` calls without a signature, as a workload does that has only a token.
    credentials: Option<Credentials>,
}

impl Aws {
    /// The services at `endpoint`, called with an access key.
    #[must_use]
    pub fn with_key(endpoint: &str, id: &str, secret: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), credentials: Some(Credentials::new(id, secret, None, None, "e2e")) }
    }

    /// A call of Secrets Manager: `("GetSecretValue", {"SecretId": …})`.
    ///
    /// # Errors
    /// When the service refuses it.
    pub async fn secrets_manager(&self, action: &str, input: Value) -> Result<Value> {
        self.json("secretsmanager", "secretsmanager", action, input).await
    }

    /// A call of Parameter Store: `("GetParameter", {"Name": …})`.
    ///
    /// # Errors
    /// When the service refuses it.
    pub async fn parameter_store(&self, action: &str, input: Value) -> Result<Value> {
        self.json("ssm", "AmazonSSM", action, input).await
    }

    async fn json(&self, service: &str, target: &str, action: &str, input: Value) -> Result<Value> {
        let body = input.to_string();
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", &format!("{target}.{action}"))];
        let (ok, answer) = self.post(service, &headers, body).await?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|_| anyhow!("the answer to {action} is no JSON"))?;
        if ok {
            return Ok(answer);
        }
        let field = |names: [&str; 2]| {
            names.iter().find_map(|name| answer.get(*name)).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let code = field(["__type", "code"]);
        Err(Failure { code: code.rsplit('#').next().unwrap_or_default().to_owned(), message: field(["message", "Message"]) })
    }

    /// A call of `iam` or `sts`; the answer is XML (see [`element`]).
    ///
    /// # Errors
    /// When the service refuses it.
    pub async fn query(&self, service: &str, action: &str, parameters: &[(&str, &str)]) -> Result<String> {
        let version = if service == "iam" { "2010-05-08" } else { "2011-06-15" };
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", version)
            .extend_pairs(parameters)
            .finish();
        let (ok, answer) = self.post(service, &[("content-type", "application/x-www-form-urlencoded")], body).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let field = |name| element(&answer, name).unwrap_or_default().to_owned();
        if ok { Ok(answer) } else { Err(Failure { code: field("Code"), message: field("Message") }) }
    }

    /// Creates a secret, or gives an existing one a new current version.
    ///
    /// # Errors
    /// When the service refuses it.
    pub async fn put_secret(&self, name: &str, value: &str) -> Result<()> {
        let created = self.secrets_manager("CreateSecret", json!({"Name": name, "SecretString": value})).await;
        match created {
            Err(failure) if failure.code == "ResourceExistsException" => {
                self.secrets_manager("PutSecretValue", json!({"SecretId": name, "SecretString": value})).await?;
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Deletes a secret at once, without the days in which it could be restored.
    ///
    /// # Errors
    /// When the service refuses it.
    pub async fn delete_secret(&self, name: &str) -> Result<()> {
        self.secrets_manager("DeleteSecret", json!({"SecretId": name, "ForceDeleteWithoutRecovery": true})).await.map(drop)
    }

    /// Creates a user with one inline policy (a list of statements), and a key for it.
    ///
    /// # Errors
    /// When the service refuses it.
    pub async fn create_user(&self, name: &str, statements: Value) -> Result<AccessKey> {
        self.query("iam", "CreateUser", &[("UserName", name)]).await?;
        let policy = policy(statements);
        let parameters = [("UserName", name), ("PolicyName", "inline"), ("PolicyDocument", policy.as_str())];
        self.query("iam", "PutUserPolicy", &parameters).await?;
        AccessKey::read(&self.query("iam", "CreateAccessKey", &[("UserName", name)]).await?)
    }

    /// Creates a role with a trust policy and one inline policy (both lists of statements); returns its ARN.
    ///
    /// # Errors
    /// When the service refuses it.
    pub async fn create_role(&self, name: &str, trust: Value, statements: Value) -> Result<String> {
        let trust = policy(trust);
        self.query("iam", "CreateRole", &[("RoleName", name), ("AssumeRolePolicyDocument", &trust)]).await?;
        self.put_role_policy(name, statements).await?;
        Ok(format!("arn:aws:iam::{ACCOUNT}:role/{name}"))
    }

    /// Replaces a role's inline policy (a list of statements).
    ///
    /// # Errors
    /// When the service refuses it.
    pub async fn put_role_policy(&self, role: &str, statements: Value) -> Result<()> {
        let policy = policy(statements);
        let parameters = [("RoleName", role), ("PolicyName", "inline"), ("PolicyDocument", policy.as_str())];
        self.query("iam", "PutRolePolicy", &parameters).await.map(drop)
    }

    /// What a workload with a ServiceAccount token does on EKS: changes it for the credentials of a role.
    ///
    /// # Errors
    /// When the role's trust policy does not fit the token.
    pub async fn with_web_identity(&self, role_arn: &str, token: &str) -> Result<Self> {
        let parameters = [("RoleArn", role_arn), ("RoleSessionName", "e2e"), ("WebIdentityToken", token)];
        let unsigned = Self { endpoint: self.endpoint.clone(), credentials: None };
        let key = AccessKey::read(&unsigned.query("sts", "AssumeRoleWithWebIdentity", &parameters).await?)?;
        let credentials = Credentials::new(key.id, key.secret, key.session, None, "e2e");
        Ok(Self { credentials: Some(credentials), ..unsigned })
    }

    /// A temporary key that may do what this principal may.
    ///
    /// # Errors
    /// When the service refuses it.
    pub async fn temporary_key(&self) -> Result<AccessKey> {
        AccessKey::read(&self.query("sts", "GetSessionToken", &[]).await?)
    }

    /// The credentials of a role.
    ///
    /// # Errors
    /// When the role's trust policy does not fit.
    pub async fn assume_role(&self, role_arn: &str) -> Result<AccessKey> {
        let parameters = [("RoleArn", role_arn), ("RoleSessionName", "e2e")];
        AccessKey::read(&self.query("sts", "AssumeRole", &parameters).await?)
    }

    /// Posts `body`, signed; returns whether the status is 200, and the answer.
    async fn post(&self, service: &str, headers: &[(&str, &str)], body: String) -> anyhow::Result<(bool, Bytes)> {
        let url = format!("{}/", self.endpoint);
        let mut request = Request::post(&url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(Bytes::from(body.clone())))?;
        if let Some(credentials) = self.credentials.clone() {
            let identity = credentials.into();
            let params = v4::SigningParams::builder()
                .identity(&identity)
                .region(REGION)
                .name(service)
                .time(SystemTime::now())
                .settings(SigningSettings::default())
                .build()?
                .into();
            let signable =
                SignableRequest::new("POST", &url, headers.iter().copied(), SignableBody::Bytes(body.as_bytes()))?;
            sign(signable, &params)?.into_parts().0.apply_to_request_http1x(&mut request);
        }
        let (status, answer) = http::send(request).await?;
        Ok((status == hyper::StatusCode::OK, answer))
    }
}

/// An access key.
#[derive(Clone)]
pub struct AccessKey {
    /// `AKIA…`, or `ASIA…` if it is temporary.
    pub id: String,
    /// The secret half.
    pub secret: String,
    /// The session token of a temporary key.
    pub session: Option<String>,
}

impl AccessKey {
    fn read(answer: &str) -> Result<Self> {
        let field = |name| element(answer, name).map(str::to_owned).ok_or_else(|| anyhow!("the answer holds no {name}"));
        let session = element(answer, "SessionToken").map(str::to_owned);
        Ok(Self { id: field("AccessKeyId")?, secret: field("SecretAccessKey")?, session })
    }
}

/// The trust policy of a role that one ServiceAccount may take, as on EKS.
#[must_use]
pub fn trust_service_account(issuer: &str, namespace: &str, account: &str) -> Value {
    let issuer = issuer.trim_start_matches("https://");
    json!([{
        "Effect": "Allow",
        "Principal": {"Federated": format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{issuer}")},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {format!("{issuer}:sub"): format!("system:serviceaccount:{namespace}:{account}")},
            // Kubernetes puts audiences in a list. AWS also takes a plain StringEquals here; the emulator does not.
            "ForAnyValue:StringEquals": {format!("{issuer}:aud"): AUDIENCE},
        },
    }])
}

/// The statement that allows to read the secrets whose names match a pattern (`prod/*`).
#[must_use]
pub fn allow_reading(pattern: &str) -> Value {
    json!([
        {
            "Effect": "Allow",
            "Action": ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"],
            "Resource": format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{pattern}"),
        },
        {"Effect": "Allow", "Action": ["secretsmanager:BatchGetSecretValue", "secretsmanager:ListSecrets"], "Resource": "*"},
    ])
}

fn policy(statements: Value) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

/// The text of the first element `name` of an XML answer. The answers we read nest no element in one of the same name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_elements() {
        assert_eq!(element("<A><B>x</B><B>y</B></A>", "B"), Some("x"));
        assert_eq!(element("<A></A>", "B"), None);
    }

    #[test]
    fn a_trust_policy_names_issuer_subject_and_audience() {
        let trust = trust_service_account("https://issuer.test", "ns", "sa").to_string();
        for part in
            ["oidc-provider/issuer.test", r#""issuer.test:sub":"system:serviceaccount:ns:sa""#, r#""issuer.test:aud""#]
        {
            assert!(trust.contains(part), "{trust}");
        }
    }
}
