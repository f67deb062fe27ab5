# Conjur's own SDK against a service: ACCOUNT USER API_KEY. Reads, lists, and writes a value.
import asyncio
import json
import sys
from datetime import datetime

from conjur_api import Client
from conjur_api.errors.errors import HttpStatusError
from conjur_api.models import ConjurConnectionInfo, CredentialsData, SslVerificationMode
from conjur_api.providers import AuthnAuthenticationStrategy, SimpleCredentialsProvider

url, account, user, key = sys.argv[1:]


def client(api_key):
    provider = SimpleCredentialsProvider()
    provider.save(CredentialsData(machine=url, username=user, api_key=api_key))
    info = ConjurConnectionInfo(conjur_url=url, account=account)
    return Client(info, authn_strategy=AuthnAuthenticationStrategy(provider),
                  ssl_verification_mode=SslVerificationMode.INSECURE, async_mode=True)


async def status(call):
    try:
        await call
    except HttpStatusError as error:
        return error.status


async def main():
    conjur = client(key)
    await conjur.set("apps/new", "2")
    return {
        "denied": await status(client("wrong").get("apps/db")),
        "missing": await status(conjur.get("apps/none")),
        "forbidden": await status(conjur.get("apps/secret")),
        "get": (await conjur.get("apps/db")).decode(),
        "new": (await conjur.get("apps/new")).decode(),
        "first": (await conjur.get("apps/new", "1")).decode(),
        "many": await conjur.get_many("apps/db", "apps/new"),
        "many, one missing": await status(conjur.get_many("apps/db", "apps/none")),
        "list": await conjur.list({"kind": "variable", "limit": 2, "offset": 1}),
        "who": (await conjur.whoami())["username"],
    }


print(json.dumps(asyncio.run(main())))
