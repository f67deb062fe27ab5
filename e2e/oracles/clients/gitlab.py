# GitLab's client for Python against a service: TOKEN PROJECT. Reads variables of the project and its groups, makes MADE, changes it,
# and deletes SCOPED of one environment.
import json
import os
import sys

# The package has this script's name.
sys.path = [path for path in sys.path if os.path.abspath(path or ".") != os.path.dirname(os.path.abspath(__file__))]

import gitlab  # noqa: E402

url, token, path = sys.argv[1:]
server = gitlab.Gitlab(url, private_token=token)
project = server.projects.get(path, lazy=True)
scope = lambda name: {"filter": {"environment_scope": name}}  # noqa: E731


def refused(call):
    try:
        call()
    except gitlab.exceptions.GitlabError as error:
        return [error.response_code, error.error_message]


groups = project.groups.list(get_all=True)
outer = next(group for group in groups if group.full_path == "group")
said = {
    "listed": len(project.variables.list(get_all=True, per_page=100)),
    "groups": sorted(group.full_path for group in groups),
    "scoped": project.variables.get("SCOPED", **scope("dev")).value,
    "several": refused(lambda: project.variables.get("SCOPED"))[0],
    "missing": refused(lambda: project.variables.get("NONE")),
    "no_project": refused(lambda: server.projects.get("other/app", lazy=True).variables.list()),
    "group": server.groups.get(outer.id, lazy=True).variables.get("GROUP").value,
    "denied": refused(lambda: gitlab.Gitlab(url, private_token="wrong").projects.get(path, lazy=True).variables.list())[0],
}
project.variables.create({"key": "MADE", "value": "one", "environment_scope": "prod", "masked": True})
project.variables.update("MADE", {"value": "two", **scope("prod")})
project.variables.delete("SCOPED", **scope("dev"))
print(json.dumps(said))
