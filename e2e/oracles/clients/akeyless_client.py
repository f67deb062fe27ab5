# Akeyless' own SDK against a service: ACCESS_ID ACCESS_KEY. Reads, writes /new, changes it, deletes /old.
import json
import sys

import akeyless
from akeyless.rest import ApiException

url, access_id, access_key = sys.argv[1:]
api = akeyless.V2Api(akeyless.ApiClient(akeyless.Configuration(host=url)))


def status(call):
    try:
        call()
    except ApiException as error:
        return error.status


def plain(answer):
    return answer if isinstance(answer, dict) else answer.to_dict()


denied = status(lambda: api.auth(akeyless.Auth(access_id=access_id, access_key="wrong")))
token = api.auth(akeyless.Auth(access_id=access_id, access_key=access_key)).token
api.create_secret(akeyless.CreateSecret(name="/new", value="1", tags=["t"], token=token))
api.update_secret_val(akeyless.UpdateSecretVal(name="/new", value="2", token=token))
api.delete_item(akeyless.DeleteItem(name="/old", token=token))
item = api.describe_item(akeyless.DescribeItem(name="/new", token=token))
listed = api.list_items(akeyless.ListItems(filter="/app/", type=["static-secret"], token=token))
print(json.dumps({
    "denied": denied,
    "missing": status(lambda: api.describe_item(akeyless.DescribeItem(name="/none", token=token))),
    "new": [item.item_name, item.item_type, item.item_tags, item.last_version],
    "get": plain(api.get_secret_value(akeyless.GetSecretValue(names=["/new", "/app/a"], token=token))),
    "first": plain(api.get_secret_value(akeyless.GetSecretValue(names=["/new"], version=1, token=token))),
    "dynamic": plain(api.get_dynamic_secret_value(akeyless.GetDynamicSecretValue(name="/dynamic", token=token))),
    "rotated": plain(api.get_rotated_secret_value(akeyless.GetRotatedSecretValue(names="/rotated", token=token))),
    "list": [item.item_name for item in listed.items],
}))
