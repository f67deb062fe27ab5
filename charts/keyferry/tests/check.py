#!/usr/bin/env python3
"""Checks the chart without a cluster: lint, golden files, what must be refused, what must never be rendered.

    UPDATE=1 check.py    writes golden/ anew; read the diff before committing it

Needs Helm 3 or later: $HELM, else `helm` on the path. The golden files leave out the CRDs (crds/ is compared by itself) and the
default values (deploy/keyferry.yaml is their golden file).
"""

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHART = HERE.parent
HELM = os.environ.get("HELM", "helm")
KUBE = ("--kube-version", "1.36.0")
failures = []


def helm(*args):
    done = subprocess.run([HELM, *args], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def render(*args):
    """The rendered objects; a chart that does not render is a failure."""
    code, out, err = helm("template", "test", str(CHART), "--namespace", "test", *KUBE, *args)
    expect(code == 0, f"helm template {' '.join(args)}: {err.strip()}")
    return out


def sets(*values):
    return [arg for value in values for arg in ("--set-json", value)]


def expect(good, message):
    if not good:
        failures.append(message)


def lint():
    for values in sorted((CHART / "ci").glob("*.yaml")):
        code, out, err = helm("lint", "--strict", str(CHART), "--values", str(values), *KUBE)
        expect(code == 0, f"helm lint {values.name}: {out}{err}")


def golden():
    for values in sorted((CHART / "ci").glob("*-values.yaml")):
        name = values.name.removesuffix("-values.yaml")
        if name == "default":
            continue
        got = render("--values", str(values), *sets("installCRDs=false"), "--api-versions", "monitoring.coreos.com/v1/ServiceMonitor")
        path = HERE / "golden" / f"{name}.yaml"
        if os.environ.get("UPDATE"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(got)
            continue
        want = path.read_text() if path.exists() else ""
        diff = difflib.unified_diff(want.splitlines(), got.splitlines(), f"golden/{name}.yaml", "rendered", lineterm="", n=2)
        expect(want == got, "\n".join(diff) + "\nIf that is meant: UPDATE=1 charts/keyferry/tests/check.py")


def crds():
    keep = "helm.sh/resource-policy: keep"
    all_kinds = len(list((CHART / "files" / "crds").glob("*.yaml")))
    for values, kinds, kept in [
        ((), all_kinds, all_kinds),
        (("crds.keep=false",), all_kinds, 0),
        (("crds.createClusterSecretStore=false", "processClusterStore=false"), all_kinds - 1, all_kinds - 1),
        (("crds.createPushSecret=false", "processPushSecret=false"), all_kinds - 1, all_kinds - 1),
        (("crds.createClusterGenerator=false", "processClusterGenerator=false"), all_kinds - 1, all_kinds - 1),
        (("crds.createSecretStore=false",), all_kinds, all_kinds),
        (("installCRDs=false",), 0, 0),
    ]:
        out = render(*sets(*values))
        got = out.count("\nkind: CustomResourceDefinition\n"), out.count(keep)
        expect(got == (kinds, kept), f"{values}: {got[0]} CRDs of which {got[1]} are kept, want {kinds} and {kept}")


def rights():
    """Least privilege, whatever else the golden files come to say."""
    for values in sorted((CHART / "ci").glob("*.yaml")):
        out = render("--values", str(values), *sets("installCRDs=false"))
        expect("'*'" not in out and '"*"' not in out, f"{values.name}: a rule has a wildcard")
        for rule in re.findall(r"resources: \[secrets\].*?verbs: \[(.*?)\]", out, re.DOTALL):
            expect("update" not in rule and "deletecollection" not in rule, f"{values.name}: secrets may be used with {rule}")
    for given in (False, True):
        out = render(*sets("installCRDs=false", f"systemAuthDelegator={str(given).lower()}"))
        expect(("system:auth-delegator" in out) == given, f"system:auth-delegator, where systemAuthDelegator is {given}")
    scoped = render(*sets("installCRDs=false", 'scopedNamespaces=["a","b"]', 'scopedNamespace="c"'))
    expect("kind: ClusterRole" not in scoped, "a list of namespaces has cluster-wide rights")
    for kind in ("clustersecretstores", "clusterexternalsecrets", "clusterpushsecrets"):
        expect(kind not in scoped, f"a list of namespaces has rights on {kind}")
    # Namespaces are changed, and ExternalSecrets made and deleted, only for ClusterExternalSecrets.
    no_fan_out = render(*sets("installCRDs=false", "processClusterExternalSecret=false", "processClusterPushSecret=false"))
    for out, wanted in [(render(*sets("installCRDs=false")), True), (no_fan_out, False)]:
        for rule in ("resources: [namespaces]\n    verbs: [patch]", "resources: [externalsecrets]\n    verbs: [create, delete]"):
            expect((rule in out) == wanted, f"{rule!r} is {'missing' if wanted else 'there without need'}")
    expect("--namespaces=a,b,c" in scoped, "the list of namespaces does not get to the operator")
    # What it is told not to serve, it does not warn about.
    for kind in ("external-secret", "push-secret"):
        expect(f"--enable-cluster-{kind}-reconciler=false" in scoped, f"a list of namespaces asks for cluster-{kind}s")
    # Events are only created, statuses only patched.
    for rule in re.findall(r"resources:.*?verbs: \[.*?\]", render(*sets("installCRDs=false"), "--show-only", "templates/rbac.yaml"), re.DOTALL):
        expect("/status" not in rule or rule.endswith("verbs: [patch]"), f"more than `patch` of a status: {rule}")
        expect("[events]" not in rule or rule.endswith("verbs: [create]"), f"more than `create` of events: {rule}")
    # Stores are changed only for PushSecrets.
    for values, cluster, namespaced in [
        ((), "get, list, watch, patch", "externalsecrets, secretstores"),
        (("processPushSecret=false",), "get, list, watch", "externalsecrets"),
    ]:
        out = render(*sets("installCRDs=false", *values), "--show-only", "templates/rbac.yaml")
        got = re.findall(r"resources: \[clustersecretstores\]\n    verbs: \[(.*?)\]", out)
        expect(got == [cluster], f"{values}: rights on ClusterSecretStores are {got}, want {cluster}")
        got = re.findall(r"resources: \[(externalsecrets.*?)\]\n    verbs: \[patch\]", out)
        expect(got == [namespaced], f"{values}: `patch` is given of {got}, want {namespaced}")
    for enabled in (False, True):
        out = render(*sets("installCRDs=false", f"genericTargets.enabled={str(enabled).lower()}"))
        writes = 'resources: ["configmaps"]\n    verbs: ["get","list","watch","create","patch","delete"]' in out
        expect(writes == enabled, f"ConfigMaps may be written: {writes}, where genericTargets.enabled is {enabled}")
    cluster_wide = ("processClusterStore=false", "processClusterExternalSecret=false", "processClusterPushSecret=false")
    for right, off in [
        ("serviceaccounts/token", "rbac.serviceAccountTokenCreate=false"),
        ("clustersecretstores", "processClusterStore=false"),
        ("namespaces]", "processClusterStore=false"),
        ("clusterexternalsecrets", "processClusterExternalSecret=false"),
        ("clusterpushsecrets", "processClusterPushSecret=false"),
        ("secretstores/status", "processSecretStore=false"),
        ("pushsecrets", "processPushSecret=false"),
        ("clusterpushsecrets", "processPushSecret=false"),
        ("externalsecrets/finalizers", "openshiftFinalizers=false"),
        ("leases", "leaderElect=false"),
        ("kind: Role\n", "rbac.create=false"),
        ("kind: ClusterRole\n", "rbac.create=false"),
    ]:
        # All that is cluster-wide goes off too: `secretstores/status` is part of `clustersecretstores/status`, and so on.
        with_it, without = render(*sets("installCRDs=false")), render(*sets("installCRDs=false", off, *cluster_wide))
        expect(right in with_it, f"{right} is missing by default")
        expect(right not in without, f"{right} is there with {off}")


def push_secrets():
    """ClusterPushSecrets are served where PushSecrets are, with rights and flag; who has neither kind still reads ClusterExternalSecrets."""
    flag = "--enable-cluster-push-secret-reconciler=false"
    for values, served in [
        ((), True),
        (("processPushSecret=false",), False),
        (("processClusterPushSecret=false",), False),
    ]:
        out = render(*sets("installCRDs=false", "rbac.aggregateToView=false", "rbac.aggregateToEdit=false", "rbac.aggregateToAdmin=false", *values))
        rights = re.findall(r"resources: \[clusterpushsecrets[^\]]*\]|- clusterpushsecrets", out)
        expect(bool(rights) == served, f"{values}: rights on ClusterPushSecrets: {rights}")
        expect((flag not in out) == served, f"{values}: the flag does not say whether ClusterPushSecrets are served")
    expect("clusterexternalsecrets" in render(*sets("installCRDs=false", "processPushSecret=false")), "ClusterExternalSecrets went too")


def egress():
    """What the NetworkPolicy lets out: DNS, the ports that are asked for, and those where clouds give out logins."""
    on = "networkPolicy.enabled=true"
    openshift = ("--api-versions", "security.openshift.io/v1")
    for values, ports in [
        ((), [53, 53, 443, 6443, 8200, 80, 988]),
        (("networkPolicy.egressPorts=[443,8443]",), [53, 53, 443, 8443, 80, 988]),
        (("networkPolicy.egressPorts=[]",), [53, 53]),
        (('networkPolicy.extraEgress=[{"ports":[{"port":5696}]}]',), [53, 53, 443, 6443, 8200, 80, 988, 5696]),
        (('networkPolicy.egress=[{"ports":[{"port":3128}]}]',), [3128]),
    ]:
        out = render(*sets("installCRDs=false", on, *values), "--show-only", "templates/networkpolicy.yaml")
        got = [int(port) for port in re.findall(r"port: (\d+)", out.split("egress:")[1])]
        expect(got == ports, f"{values}: out of the Pod go {got}, want {ports}")
    metadata = render(*sets("installCRDs=false", on), "--show-only", "templates/networkpolicy.yaml").partition("- to:")[2]
    blocks = re.findall(r"cidr: (\S+)", metadata)
    expect(blocks == ["169.254.0.0/16", "fd00:ec2::/32"] and "port: 80\n" in metadata, f"port 80 is open to {blocks}")
    dns = render(*sets("installCRDs=false", on), *openshift, "--show-only", "templates/networkpolicy.yaml")
    got = re.findall(r"port: (\d+)\n +protocol: (\w+)", dns)
    want = [("53", "UDP"), ("53", "TCP"), ("5353", "UDP"), ("5353", "TCP")]
    expect(got == want, f"on OpenShift, DNS goes to {got}, want {want}")


def one_writer():
    """Two Pods never write at once: either a Lease decides, or the old Pod goes first."""
    for values, lease, recreate in [
        ((), True, False),
        (("leaderElect=false",), False, True),
        (("leaderElect=false", "replicaCount=2"), True, False),
        (("replicaCount=2", "extraArgs.enable-leader-election=false"), True, False),
        (("leaderElect=false", "extraArgs.enable-leader-election=true"), True, False),
        (("leaderElect=false", 'extraArgs.enable-leader-election=""'), True, False),
        (("extraArgs.enable-leader-election=false",), False, True),
        (('extraArgs.enable-leader-election="F"',), False, True),
    ]:
        out = render(*sets("installCRDs=false", *values))
        expect(out.count("--enable-leader-election") == lease, f"{values}: the flag is there {out.count('--enable-leader-election')} times")
        expect(("resources: [leases]" in out) == lease, f"{values}: rights on leases are not {lease}")
        expect(("--enable-leader-election=true" in out) == lease, f"{values}: leader election is not {lease}")
        expect(("type: Recreate" in out) == recreate, f"{values}: Recreate is not {recreate}")


def lease():
    """The Lease that the operator is told to take is the one that it has the rights on."""
    for values, name, namespace in [
        ((), "external-secrets-controller", "test"),
        (('leaderElectionID="a"',), "a", "test"),
        (('leaderElectionID="a"', "extraArgs.leader-election-id=7"), "7", "test"),
        (('extraArgs.leader-election-namespace="ops"',), "external-secrets-controller", "ops"),
        (('extraArgs.leader-election-namespace="test"',), "external-secrets-controller", "test"),
    ]:
        out = render(*sets("installCRDs=false", *values), "--show-only", "templates/rbac.yaml")
        got = [
            (re.search(r'resources: \[leases\]\n    resourceNames: \["(.*?)"\]', role)[1], re.search(r"namespace: \"?([\w-]+)", role)[1])
            for role in out.split("\n---\n")
            if "resources: [leases]" in role
        ]
        expect(got == [(name, namespace)], f"{values}: rights on the Leases {got}, want {name} in {namespace}")
        bound = re.findall(r"kind: RoleBinding\nmetadata:\n  name: test-keyferry-lease\n  namespace: \"?([\w-]+)", out)
        expect(bound == ([] if namespace == "test" else [namespace]), f"{values}: bound in {bound}")


def health_port():
    """The process listens where the probes look, also with the values of ESO's chart, and nothing is rendered that a probe has not."""
    for values, port, probes in [
        ((), 8082, ["live", "live"]),
        (("live.listen.port=9000",), 9000, ["live", "live"]),
        (("livenessProbe.spec.port=9090", "readinessProbe.spec.port=9090"), 9090, ["live", "live"]),
        (("livenessProbe.spec.httpGet.port=9091",), 9091, ["9091", "live"]),
        (("livenessProbe.spec.port=8082", "livenessProbe.spec.httpGet.port=9091"), 9091, ["9091", "live"]),
        (("livenessProbe.spec.httpGet=null", 'livenessProbe.spec.exec={"command":["true"]}'), 8082, ["live"]),
        (('extraArgs.live-addr=":9092"', "livenessProbe.spec.port=8083"), 9092, ["live", "live"]),
    ]:
        out = render(*sets("installCRDs=false", *values), "--show-only", "templates/deployment.yaml")
        expect(f"--live-addr=:{port}\"" in out, f"{values}: it does not listen on {port}")
        expect(f"name: live\n              containerPort: {port}\n" in out, f"{values}: the port `live` is not {port}")
        got = re.findall(r"^ +port: (\S+)", out, re.MULTILINE)
        expect(got == probes, f"{values}: the probes have the ports {got}, want {probes}")


def ports():
    """The Pod's ports are those of the flags, which extraArgs may set; where nothing is listened on, there is no port and no probe."""
    both = {"metrics": "8080", "live": "8082"}
    for values, want, probes in [
        ((), both, 2),
        (('extraArgs.metrics-addr=":9090"',), both | {"metrics": "9090"}, 2),
        (('extraArgs={"metrics-addr":"[::]:9090","live-addr":"0.0.0.0:9092"}',), {"metrics": "9090", "live": "9092"}, 2),
        (('extraArgs.metrics-addr="0"',), {"live": "8082"}, 2),
        (("extraArgs.live-addr=0",), {"metrics": "8080"}, 0),
        (('extraArgs={"metrics-addr":"0","live-addr":"0"}',), {}, 0),
    ]:
        out = render(*sets("installCRDs=false", *values), "--show-only", "templates/deployment.yaml")
        got = dict(re.findall(r"- name: (\S+)\n +containerPort: (\S+)", out))
        expect(got == want, f"{values}: the ports are {got}, want {want}")
        expect(("ports:\n" in out) == bool(want), f"{values}: `ports:` without one")
        expect(out.count("httpGet:") == probes, f"{values}: {out.count('httpGet:')} probes, want {probes}")
    out = render(*sets("installCRDs=false", "livenessProbe.spec.httpGet.port=8085", 'extraArgs.live-addr=":9000"'),
                 "--show-only", "templates/deployment.yaml")
    expect(re.findall(r"\n +port: (\S+)", out) == ["live"] * 2, "a probe asks elsewhere than extraArgs say")


def resources():
    """Given ones replace the defaults as a whole: a request beside the default limit could be above it."""
    for values, want in [
        ((), "limits:\n  memory: 128Mi\nrequests:\n  cpu: 10m\n  memory: 32Mi\n"),
        (("resources=null",), "limits:\n  memory: 128Mi\nrequests:\n  cpu: 10m\n  memory: 32Mi\n"),
        (('resources={"requests":{"memory":"256Mi"}}',), "requests:\n  memory: 256Mi\n"),
    ]:
        out = render(*sets("installCRDs=false", *values), "--show-only", "templates/deployment.yaml")
        got = re.sub(r"^ {12}", "", "".join(re.findall(r"resources:\n((?: {12}.*\n)+)", out)), flags=re.MULTILINE)
        expect(got == want, f"{values}: the resources are {got!r}, want {want!r}")


def numbers():
    """Names that YAML would read as a number or a truth stay text."""
    rights = ('scopedNamespace="456"', 'scopedNamespaces=["on"]', 'extraArgs.leader-election-namespace="789"')
    names = ('namespaceOverride="123"', 'fullnameOverride="007"', 'nameOverride="1e3"')
    on = ("networkPolicy.enabled=true", "podDisruptionBudget.enabled=true", 'serviceMonitor={"enabled":true,"renderMode":"alwaysRender"}')
    out = render(*sets("installCRDs=false", *on, *names, *rights))
    for text in ("123", "456", "on", "789", "007", "1e3"):
        bare = re.findall(rf"^.*[:\[ ] ?{text}\]?$", out, re.MULTILINE)
        expect(f'"{text}"' in out and not bare, f"{text!r} is no text in {bare}")


def emptied():
    """A map or list whose default is empty may be set to null."""
    found, parents = [], []
    for indent, name, default in re.findall(r"^( *)([\w-]+): ?(.*)$", (CHART / "values.yaml").read_text(), re.MULTILINE):
        parents = [*parents[: len(indent) // 2], name]
        if default in ("{}", "[]"):
            found.append(".".join(parents))
    expect({"commonLabels", "global.podLabels", "scopedNamespaces", "crds.annotations"} <= set(found), f"only {found} are found")
    on = sets("genericTargets.enabled=true", "networkPolicy.enabled=true", "metrics.service.enabled=true")
    on += sets("serviceMonitor.enabled=true", 'serviceMonitor.renderMode="alwaysRender"')
    expect(render(*on, *sets(*(f"{path}=null" for path in found))) == render(*on), "null is not the same as empty")
    schema = json.loads((CHART / "values.schema.json").read_text())
    for path in found:
        at = schema
        for name in path.split("."):
            at = at["properties"][name]
        expect("null" in at["type"], f"the schema does not take null for {path}, as a parent chart may give it")


def budget():
    """One of the two fields, never both and never none."""
    on = "podDisruptionBudget.enabled=true"
    for values, want in [
        ((), "maxUnavailable: 1"),
        (("podDisruptionBudget.minAvailable=1",), "minAvailable: 1"),
        (("podDisruptionBudget.minAvailable=1", "podDisruptionBudget.maxUnavailable=0"), "maxUnavailable: 0"),
        (('podDisruptionBudget.maxUnavailable="50%"',), "maxUnavailable: 50%"),
        (("podDisruptionBudget.maxUnavailable=null", "podDisruptionBudget.minAvailable=null"), "maxUnavailable: 1"),
    ]:
        out = render(*sets("installCRDs=false", on, *values), "--show-only", "templates/poddisruptionbudget.yaml")
        got = re.findall(r"(?:min|max)\w+: .*", out)
        expect(got == [want], f"{values}: {got}, want {want}")


def long_names():
    out = render(*sets("installCRDs=false", f'fullnameOverride="{"a" * 60}"', "metrics.service.enabled=true"), "--show-only", "templates/service.yaml")
    name = re.search(r"^  name: (.*)", out, re.MULTILINE)[1]
    expect(name == "a" * 55 + "-metrics", f"the Service is named {name}, which has {len(name)} signs")


def openshift():
    values = sets("installCRDs=false", "podSecurityContext.fsGroup=2000")
    for api, adapt, ids in [
        ((), "auto", True),
        (("--api-versions", "security.openshift.io/v1"), "auto", False),
        (("--api-versions", "security.openshift.io/v1"), "disabled", True),
        ((), "force", False),
    ]:
        out = render(*values, "--set", f"global.compatibility.openshift.adaptSecurityContext={adapt}", *api)
        got = [key for key in ("runAsUser:", "runAsGroup:", "fsGroup:") if key in out]
        expect(len(got) == (3 if ids else 0), f"{adapt} {api}: ids are {got}")


def refused():
    for value, text in [
        ('scopedRBAC=true', "scopedRBAC needs a namespace"),
        ('image.repository="mirror.test/external-secrets/external-secrets"', "is External Secrets Operator's image"),
        ('image.repository="mirror.test/external-secrets/external-secrets"', "image.repository \""),
        ('global.repository="mirror.test/external-secrets/external-secrets"', "global.repository \""),
        ('serviceMonitor={"enabled":true,"renderMode":"failIfMissing"}', "install the Prometheus operator first"),
        ('serviceMonitor={"enable":true}', "enable"),
        ('replicaCount="two"', "replicaCount"),
        ('scopedNamespaces=["Team_A"]', "scopedNamespaces"),
        ('storeRequeueInterval="5 minutes"', "storeRequeueInterval"),
        ('log.level="loud"', "level"),
        ('extraArgs={"--loglevel":"debug"}', "extraArgs"),
        ('image.digest="latest"', "digest"),
        ('concurrent=0', "concurrent"),
    ]:
        code, _, err = helm("template", "test", str(CHART), *KUBE, *sets("installCRDs=false", value))
        expect(code != 0, f"{value} is not refused")
        expect(text in err, f"{value}: the error does not say {text!r}: {err.strip()}")


def ignored():
    """NOTES.txt tells which values had no effect. The template behind it is rendered through extraObjects."""
    probe = 'extraObjects=["kind: Ignored\\nlines: {{ include \\"keyferry.ignored\\" . | toJson }}"]'

    def told(*args):
        lines = re.search(r"^kind: Ignored\nlines: (.*)$", render(*args, *sets("installCRDs=false", probe)), re.MULTILINE)
        return set(re.findall(r"^  ([\w.-]+): ", json.loads(lines[1]), re.MULTILINE)) if lines else {"(nothing rendered)"}

    expect(not told(), f"default values are told to have no effect: {told()}")
    want = {"webhook", "certController", "bitwarden-sdk-server", "crds.conversion", "image.flavour", "aValueOfALaterRelease"}
    got = told("--values", str(CHART / "ci" / "eso-legacy-values.yaml"))
    expect(want <= got, f"not told to have no effect: {want - got}")
    expect("replicaCount" not in got and "scopedNamespace" not in got, f"told to have no effect, wrongly: {got}")


def main():
    if not shutil.which(HELM):
        sys.exit(f"Helm is not at {HELM!r}: set HELM to its path")
    for check in (lint, golden, crds, rights, push_secrets, egress, one_writer, lease, health_port, ports, resources, numbers, emptied, budget, long_names, openshift, refused, ignored):
        before = len(failures)
        check()
        print(f"{check.__name__:12} {'ok' if len(failures) == before else 'FAILED'}")
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
