# Doppler's own SDK against a service: TOKEN PROJECT CONFIG. It knows the secrets of Doppler's documentation only: it writes STRIPE,
# reads all, deletes ALGOLIA (by its endpoint) and DATABASE (by a change).
import json
import sys

from dopplersdk import DopplerSDK
from dopplersdk.models.SecretsUpdateRequest import SecretsUpdateRequest, SecretsUpdateRequestChangeRequests
from http_exceptions import HTTPException

url, token, project, config = sys.argv[1:]
place = {"config": config, "project": project}


def sdk(token):
    made = DopplerSDK(token)
    made.set_base_url(url)
    return made.secrets


def status(call):
    try:
        call()
    except HTTPException as error:
        return int(error.status_code)


secrets = sdk(token)
secrets.update(SecretsUpdateRequest(secrets={"STRIPE": "3"}, **place))
value = secrets.get(name="DATABASE", **place).value
value = value if isinstance(value, dict) else vars(value)
all = secrets.download(format="json", **place)
said = {
    "download": [all.STRIPE, all.ALGOLIA, all.DATABASE],
    "env": secrets.download(format="env", name_transformer="camel", **place).text,
    "get": [value["raw"], value["computed"]],
    "names": secrets.names(**place).names,
    "missing": status(lambda: secrets.get(name="NONE", **place)),
    "denied": status(lambda: sdk("dp.pt.wrong").names(**place)),
}
secrets.delete(name="ALGOLIA", **place)
change = SecretsUpdateRequestChangeRequests(value=None, originalName="DATABASE", name="DATABASE", shouldDelete=True)
secrets.update(SecretsUpdateRequest(change_requests=[change], **place))
print(json.dumps(said))
