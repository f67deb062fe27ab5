# Infisical's own SDK against a service: CLIENT_ID CLIENT_SECRET PROJECT. Reads, writes NEW, changes it, deletes OLD.
import json
import sys

from infisical_sdk import InfisicalError, InfisicalSDKClient
from infisical_sdk.infisical_requests import APIError

url, client_id, client_secret, project = sys.argv[1:]
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
}))
