# Infisical's own SDK against a service: CLIENT_ID CLIENT_SECRET PROJECT IDENTITY JWT LDAP_PASSWORD TOKEN AWS_KEY_ID AWS_SECRET_KEY.
# Reads, writes NEW, changes it, deletes OLD; then reads USER with each login that the SDK has.
import json
import os
import sys

from infisical_sdk import InfisicalError, InfisicalSDKClient
from infisical_sdk.infisical_requests import APIError

url, client_id, client_secret, project, identity, jwt, password, token, key_id, secret_key = sys.argv[1:]
client = InfisicalSDKClient(host=url, cache_ttl=None)
there = {"project_slug": project, "environment_slug": "prod", "secret_path": "/app"}


def status(call):
    try:
        call()
    except APIError as error:
        return error.status_code
    except InfisicalError:
        return "error"


denied = status(lambda: client.auth.universal_auth.login(client_id, "wrong"))
login = client.auth.universal_auth.login(client_id, client_secret)
secrets = client.secrets
secrets.create_secret_by_name(secret_name="NEW", secret_value="  1 ", **there)
secrets.update_secret_by_name(current_secret_name="NEW", secret_value="2\n", **there)
secrets.delete_secret_by_name(secret_name="OLD", **there)
listed = secrets.list_secrets(**there)
below = secrets.list_secrets(recursive=True, **there)
# What the machine has configured for AWS has no say.
for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_REGION="eu-west-1")


def aws(key_id, secret_key, identity=identity):
    os.environ.update(AWS_ACCESS_KEY_ID=key_id, AWS_SECRET_ACCESS_KEY=secret_key)
    client.auth.aws_auth.login(identity)


def read_after(login):
    client.set_token("none")
    login()
    return secrets.get_secret_by_name(secret_name="USER", **there).secretValue


def refused(*logins):
    return [status(login) for login in logins]


auth = client.auth
ways = {
    "aws": lambda: aws(key_id, secret_key),
    "ldap": lambda: auth.ldap_auth.login(identity, "bob", password),
    "oidc": lambda: auth.oidc_auth.login(identity, jwt),
    "token": lambda: auth.token_auth.login(token),
}
print(json.dumps({
    "life": login.expiresIn,
    "denied": denied,
    "missing": status(lambda: secrets.get_secret_by_name(secret_name="NONE", **there)),
    "get": secrets.get_secret_by_name(secret_name="URL", **there).secretValue,
    "as written": secrets.get_secret_by_name(secret_name="URL", expand_secret_references=False, **there).secretValue,
    "first version": secrets.get_secret_by_name(secret_name="USER", version="1", **there).secretValue,
    "list": {secret.secretKey: secret.secretValue for secret in listed.secrets},
    "imports": {secret["secretKey"]: secret["secretValue"] for one in listed.imports for secret in one.secrets},
    "below": sorted(secret.secretPath + " " + secret.secretKey for secret in below.secrets),
    "logins": {way: read_after(login) for way, login in ways.items()},
    "no logins": {
        "aws": refused(lambda: aws(key_id, "wrong"), lambda: aws("AKIDOTHER", secret_key), lambda: aws(key_id, secret_key, "other")),
        "ldap": refused(lambda: auth.ldap_auth.login(identity, "bob", "wrong")),
        "oidc": refused(lambda: auth.oidc_auth.login(identity, "wrong"), lambda: auth.oidc_auth.login("other", jwt)),
    },
}))
