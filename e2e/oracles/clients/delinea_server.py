# Delinea's own SDK of Secret Server against a service: USER PASSWORD DOMAIN ID PATH. Reads.
import json
import sys

from delinea.secrets.server import DomainPasswordGrantAuthorizer, SecretServer, SecretServerError, ServerSecret

url, user, password, domain, number, path = sys.argv[1:]


def kind(call):
    try:
        call()
    except SecretServerError as error:
        return type(error).__name__


server = SecretServer(url, DomainPasswordGrantAuthorizer(url, user, domain, password))
secret = ServerSecret(**server.get_secret(number))
found = json.loads(server.search_secrets({"paging.filter.searchText": secret.name, "paging.filter.searchField": "Name"}))
wrong = SecretServer(url, DomainPasswordGrantAuthorizer(url, user, domain, "wrong"))
print(json.dumps({
    "name": secret.name,
    "fields": {slug: field.value for slug, field in secret.fields.items()},
    "by path": server.get_secret_by_path(path)["id"],
    "found": [record["id"] for record in found["records"]],
    "missing": kind(lambda: server.get_secret(4711)),
    "denied": kind(lambda: wrong.get_secret(number)),
}))
