# Scaleway's own SDK against a service: ACCESS_KEY SECRET_KEY PROJECT REGION. Makes a secret in a folder, writes two versions, reads
# them, and deletes OLD.
import base64
import json
import sys

from scaleway_core.client import Client
from scaleway_core.api import ScalewayException
from scaleway.secret.v1beta1 import SecretV1Beta1API

url, access, secret, project, region = sys.argv[1:]


def client(secret):
    return SecretV1Beta1API(Client(
        access_key=access, secret_key=secret, api_url=url, default_project_id=project, default_region=region,
    ))


def status(call):
    try:
        call()
        return 200
    except ScalewayException as error:
        return error.status_code


def text(answer):
    return base64.b64decode(answer.data).decode()


api = client(secret)
new = api.create_secret(name="new", protected=False, path="/team", tags=["app"])
for value in ["one", "two"]:
    data = base64.b64encode(value.encode()).decode()
    api.create_secret_version(secret_id=new.id, data=data, disable_previous=True)
[old] = api.list_secrets(scheduled_for_deletion=False, name="old").secrets
api.delete_secret(secret_id=old.id)
print(json.dumps({
    "denied": status(lambda: client("00000000-0000-4000-8000-000000000000").list_secrets(scheduled_for_deletion=False)),
    "missing": status(lambda: api.access_secret_version(secret_id=old.id, revision="latest")),
    "by id": text(api.access_secret_version(secret_id=new.id, revision="latest_enabled")),
    "by path": text(api.access_secret_version_by_path(secret_path="/team", secret_name="new", revision="2")),
    "disabled": status(lambda: api.access_secret_version(secret_id=new.id, revision="1")),
    "statuses": [str(api.get_secret_version(secret_id=new.id, revision=number).status) for number in ["1", "2"]],
    "in the folder": [one.name for one in api.list_secrets(scheduled_for_deletion=False, path="/team").secrets],
    "all": len(api.list_secrets_all(scheduled_for_deletion=False, page_size=50)),
}))
