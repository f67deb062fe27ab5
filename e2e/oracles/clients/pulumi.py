# Pulumi's own SDK for ESC against a service: TOKEN ORGANIZATION PROJECT ENVIRONMENT. Opens and reads the environment, and changes it.
import json
import sys

import pulumi_esc_sdk as esc
from pulumi_esc_sdk.exceptions import ApiException

url, token, *place = sys.argv[1:]


def client(token):
    return esc.EscClient(esc.Configuration(host=url, access_token=token))


def status(call):
    try:
        call()
        return 200
    except ApiException as error:
        return error.status


api = client(token)
_, before, _ = api.open_and_read_environment(*place)
opened = api.open_environment(*place)
_, password = api.read_open_environment_property(*place, opened.id, "db.password")
definition, _ = api.get_environment(*place)
encrypted = definition.values.additional_properties["db"]["password"]["fn::secret"]
plain, _ = api.decrypt_environment(*place)
definition.values.additional_properties["new"] = {"fn::secret": "made"}
api.update_environment(*place, definition)
_, after, _ = api.open_and_read_environment(*place)
print(json.dumps({
    "denied": status(lambda: client("wrong").open_environment(*place)),
    "missing": status(lambda: api.open_environment(*place[:2], "none")),
    "values": before,
    "property": password,
    "is encrypted": list(encrypted),
    "decrypted": plain.values.additional_properties["db"]["password"]["fn::secret"],
    "after": after,
    "older": api.open_and_read_environment_at_version(*place, "stable")[1],
}))
