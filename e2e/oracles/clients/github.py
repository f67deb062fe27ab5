# PyGithub against a service: APP INSTALLATION KEY ORGANIZATION. Logs in as the App and writes secrets of the organization, a repository
# and an environment; the client seals them itself.
import json
import os
import sys

# The package has this script's name.
sys.path = [path for path in sys.path if os.path.abspath(path or ".") != os.path.dirname(os.path.abspath(__file__))]

import github  # noqa: E402

url, app, installation, key, name = sys.argv[1:]
auth = github.Auth.AppAuth(int(app), key).get_installation_auth(int(installation))
server = github.Github(auth=auth, base_url=f"{url}/api/v3", retry=None)


def status(call):
    try:
        call()
    except github.GithubException as error:
        return error.status


organization = server.get_organization(name)
organization.create_secret("ORG", "käse")
repository = server.get_repo(f"{name}/app")
repository.create_secret("REPO", "one")
repository.create_secret("REPO", "two")
repository.create_secret("GONE", "x")
repository.delete_secret("GONE")
environment = repository.get_environment("prod")
environment.create_secret("ENV", "three")
print(json.dumps({
    "organization": [secret.name for secret in organization.get_secrets()],
    "repository": [secret.name for secret in repository.get_secrets()],
    "environment": [secret.name for secret in environment.get_secrets()],
    "missing": status(lambda: repository.get_secret("NONE").created_at),
}))
