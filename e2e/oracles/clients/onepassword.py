# 1Password's client for Python against a Connect server: TOKEN. Reads the item `db`, makes `made`, changes it, and deletes `db`.
import json
import sys

from onepasswordconnectsdk.client import new_client
from onepasswordconnectsdk.errors import FailedToRetrieveItemException, FailedToRetrieveVaultException
from onepasswordconnectsdk.models import Field, Item, ItemVault

url, token = sys.argv[1:]
connect = new_client(url, token)
vault = connect.get_vault_by_title("prod")
item = connect.get_item_by_title("db", vault.id)
file = connect.get_files(item.id, vault.id)[0]
content = connect.get_file_content(file.id, item.id, vault.id)


def missing():
    try:
        connect.get_item_by_id("a" * 26, vault.id)
    except FailedToRetrieveItemException as error:
        return error.status_code


def denied():
    try:
        new_client(url, "wrong").get_vaults()
    except FailedToRetrieveVaultException:
        return True


said = {
    "vaults": [[vault.id, vault.name] for vault in connect.get_vaults()],
    "fields": {field.label: field.value for field in item.fields},
    "tags": item.tags,
    "file": [file.name, content.decode() if isinstance(content, bytes) else content],
    "summary": not hasattr(connect.get_items(vault.id)[0], "fields") or connect.get_items(vault.id)[0].fields is None,
    "missing": missing(),
    "denied": denied(),
}
fields = [Field(label="token", value="one", type="CONCEALED")]
made = connect.create_item(vault.id, Item(vault=ItemVault(id=vault.id), title="made", category="SERVER", fields=fields))
made.fields[0].value = "two"
connect.update_item(made.id, vault.id, made)
connect.delete_item(item.id, vault.id)
print(json.dumps(said))
