#!/usr/bin/env python3
"""Writes the files that are made from others; with --check, says which of them are out of date and exits 1.

    charts/keyferry/files/crds/*.yaml        from crds/
    charts/keyferry/files/known-values.txt   the top-level names of the chart's values.yaml
    charts/keyferry/README.md                its table of values, from the comments in values.yaml
    deploy/keyferry.yaml                     the bundle for `kubectl apply`, from the chart

Needs Helm 3 or later: $HELM, else `helm` on the path. Run from anywhere; no cluster is needed.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "keyferry"
NAMESPACE = "keyferry"


def crds():
    """The chart's copies of the CRDs. A copy and not a link: packagers and GitOps tools do not follow links alike."""
    found = sorted((ROOT / "crds").glob("*.yaml"))
    if not found:
        sys.exit("crds/ is empty: `keyferry crds` makes its files")
    return {CHART / "files" / "crds" / f.name: f.read_text() for f in found}


def values():
    """(path, default, description) of every value that has a `# --` comment."""
    found, parents, comment = [], [], None
    for line in (CHART / "values.yaml").read_text().splitlines():
        if match := re.fullmatch(r" *# -- (.*)", line):
            comment = match[1]
            continue
        match = re.fullmatch(r"( *)([\w-]+): ?(.*)", line)
        if not match:
            continue
        depth = len(match[1]) // 2
        parents = parents[:depth] + [match[2]]
        if comment:
            found.append((".".join(parents), match[3], comment))
        comment = None
    return found


def known_values():
    names = re.findall(r"^([\w-]+):", (CHART / "values.yaml").read_text(), re.MULTILINE)
    return "\n".join(sorted(names)) + "\n"


def readme():
    def cell(text):
        return text.replace("|", "\\|")

    rows = ["| Value | Default | Meaning |", "|---|---|---|"]
    for path, default, meaning in values():
        shown = f"`{cell(default)}`" if default else "see values.yaml"
        rows.append(f"| `{path}` | {shown} | {cell(meaning)} |")
    table = "<!-- values -->\n" + "\n".join(rows) + "\n<!-- /values -->"
    text = (CHART / "README.md").read_text()
    return re.sub(r"<!-- values -->.*<!-- /values -->", lambda _: table, text, flags=re.DOTALL)


def bundle():
    """The chart with its default values, in a namespace that enforces the restricted Pod Security Standard."""
    helm = os.environ.get("HELM", "helm")
    if not shutil.which(helm):
        sys.exit(f"Helm is not at {helm!r}: set HELM to its path")
    command = [helm, "template", "keyferry", str(CHART), "--namespace", NAMESPACE, "--kube-version", "1.36.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    # What only Helm has a use for, or would be untrue here.
    ours = re.compile(r" *(# Source: .*|helm\.sh/(chart|resource-policy): .*|app\.kubernetes\.io/managed-by: Helm)\n")
    objects = "".join(l for l in done.stdout.splitlines(keepends=True) if not ours.fullmatch(l))
    objects = re.sub(r"\n  annotations:\n(?=  \w)", "\n", objects)  # left empty by the above
    return f"""\
# keyferry, for `kubectl apply -f`. Made from charts/keyferry by deploy/generate.py; do not edit.
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
{objects}"""


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    stale = []

    def write(path, text):
        if path.exists() and path.read_text() == text:
            return
        stale.append(str(path.relative_to(ROOT)))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    copies = crds()
    for old in set((CHART / "files" / "crds").glob("*.yaml")) - set(copies):
        stale.append(str(old.relative_to(ROOT)))
        if not check:
            old.unlink()
    for path, text in copies.items():
        write(path, text)
    write(CHART / "files" / "known-values.txt", known_values())
    write(CHART / "README.md", readme())
    write(ROOT / "deploy" / "keyferry.yaml", bundle())  # last: it is made from the files above
    for path in stale:
        print(f"{path}: {'out of date, run `make generate`' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
