# Delinea's own SDK of DevOps Secrets Vault against a service: CLIENT_ID CLIENT_SECRET. Reads.
import json
import sys

from delinea.secrets.vault import PasswordGrantAuthorizer, SecretsVault, SecretsVaultAccessError, VaultSecret

url, client_id, client_secret = sys.argv[1:]


def status(call):
    try:
        call()
    except SecretsVaultAccessError as error:
        return error.response.status_code


vault = SecretsVault(url, PasswordGrantAuthorizer(url, client_id, client_secret))
secret = VaultSecret(**vault.get_secret("/app/db"))
wrong = SecretsVault(url, PasswordGrantAuthorizer(url, client_id, "wrong"))
print(json.dumps({
    "data": secret.data,
    "version": secret.version,
    "denied": status(lambda: wrong.get_secret("app/db")),
    "missing": status(lambda: vault.get_secret("app/none")),
}))
