# Keeper's own SDK against a service: CONFIG FOLDER. Reads records and a file, makes one, changes it, and deletes OLD.
import json
import sys

import requests
from keeper_secrets_manager_core import SecretsManager, core
from keeper_secrets_manager_core.dto.dtos import RecordCreate, RecordField
from keeper_secrets_manager_core.exceptions import KeeperError
from keeper_secrets_manager_core.storage import InMemoryKeyValueStorage

url, config, folder = sys.argv[1:]
post = requests.post


def without_tls(address, **more):
    # The SDK insists on https. What it sends is encrypted once more, so that this changes nothing in it.
    return post(address.replace("https://", "http://"), **more)


core.requests.post = without_tls


def said(call):
    try:
        call()
        return "ok"
    except KeeperError as error:
        return str(error).split(",")[0]


manager = SecretsManager(config=InMemoryKeyValueStorage(config))
[one] = manager.get_secrets(["one-uid"])
new = RecordCreate("externalSecrets", "new")
new.fields = [RecordField(field_type="login", value="ann")]
uid = manager.create_secret(folder, new)
[made] = manager.get_secrets([uid])
made.set_standard_field_value("login", "bob")
manager.save(made)
again = manager.get_secrets([uid])[0]
manager.delete_secret("old-uid")
stale = said(lambda: manager.save(made))
print(json.dumps({
    "title": one.title,
    "password": one.get_standard_field_value("password", single=True),
    "custom": one.get_custom_field_value("token", single=True),
    "file": one.find_file_by_title("note").get_file_data().decode(),
    "revisions": [made.revision, again.revision],
    "changed": again.get_standard_field_value("login", single=True),
    "under an old revision": stale,
    "titles": sorted(record.title for record in manager.get_secrets()),
    "folders": [shown.folder_uid for shown in manager.get_folders()],
}))
