# ORAS' own Python client against a registry: USER PASSWORD. Pushes an artifact of one file, and pulls it.
import json
import os
import sys
import tempfile

import oras.client

url, user, password = sys.argv[1:]
host = url.removeprefix("http://")
target = f"{host}/team/pushed:main"
client = oras.client.OrasClient(hostname=host, insecure=True)
with tempfile.TemporaryDirectory() as home:
    # What the caller has logged in to has no say.
    os.environ["HOME"] = home
    os.environ["DOCKER_CONFIG"] = home
    client.auth.set_basic_auth(user, password)
    os.chdir(home)
    with open("secrets.yaml", "w") as file:
        file.write("file: pushed\n")
    client.push(target=target, files=["secrets.yaml:application/yaml"], disable_path_validation=True)
    os.mkdir("pulled")
    [pulled] = client.pull(target=target, outdir="pulled")
    with open(pulled) as file:
        print(json.dumps({"pulled": file.read(), "title": os.path.basename(pulled)}))
