# IBM's own SDK against a service: APIKEY. Reads a secret of each kind of lookup, makes NEW, and lists all.
import json
import sys

from ibm_cloud_sdk_core import ApiException
from ibm_cloud_sdk_core.authenticators import IAMAuthenticator
from ibm_secrets_manager_sdk.secrets_manager_v2 import SecretsManagerV2

url, key = sys.argv[1:]


def client(key):
    service = SecretsManagerV2(authenticator=IAMAuthenticator(key, url=url))
    service.set_service_url(url)
    return service


def status(call):
    try:
        return call().get_status_code()
    except ApiException as error:
        return error.status_code


service = client(key)
prototype = {"name": "NEW", "secret_type": "arbitrary", "payload": "made"}
new = service.create_secret(secret_prototype=prototype).get_result()


def by_name(kind, name):
    return service.get_secret_by_name_type(secret_type=kind, name=name, secret_group_name="team").get_result()


versioned = by_name("arbitrary", "versioned")
listed, offset = [], 0
while True:
    page = service.list_secrets(offset=offset, limit=40, sort="id").get_result()
    listed += [secret["name"] for secret in page["secrets"]]
    offset += len(page["secrets"])
    if "next" not in page:
        break
print(json.dumps({
    "denied": status(lambda: client("wrong").list_secrets()),
    "missing": status(lambda: service.get_secret_by_name_type(secret_type="kv", name="none", secret_group_name="team")),
    "by id": service.get_secret(id=new["id"]).get_result()["payload"],
    "kv": by_name("kv", "map")["data"],
    "login": by_name("username_password", "login")["password"],
    "current": service.get_secret_version(secret_id=versioned["id"], id="current").get_result()["payload"],
    "previous": service.get_secret_version(secret_id=versioned["id"], id="previous").get_result()["payload"],
    "groups": [group["name"] for group in service.list_secret_groups().get_result()["secret_groups"]],
    "listed": len(listed), "distinct": len(set(listed)), "has values": any("payload" in secret for secret in page["secrets"]),
}))
