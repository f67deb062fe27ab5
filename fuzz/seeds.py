#!/usr/bin/env python3
"""Makes the inputs that fuzzing starts from, out of the vectors that Go answered and of shapes that once took too much, and
dictionaries of what inputs are made of."""

import hashlib
import json
import pathlib
import re

import shapes

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE.parent / "tests" / "vectors"
# enough of each sort to begin with: the fuzzer itself drops what adds nothing
MOST = 2000
LONGEST = 4096


def lines(name):
    with open(VECTORS / f"{name}.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def templates():
    return [line["template"] for line in lines("template") if "template" in line]


def paths():
    for line in lines("gjson"):
        for answer in line["answers"]:
            yield f"{answer['path']}\n{line['json']}"


def rewrites():
    for line in lines("regexp"):
        yield "\n".join([f"/{line['source']}", line.get("target", ""), *list(line.get("results", {}))[:6]])
    yield json.dumps({"rewrites": [{"merge": {"priority": ["b", "a"], "conflictPolicy": "Ignore"}}], "entries": {"a": '{"x":1}', "b": '{"x":2}'}})
    yield json.dumps({"rewrites": [{"merge": {"into": "m", "strategy": "JSON", "priorityPolicy": "IgnoreNotFound"}}], "entries": {"a": '{"x":[1]}', "b": '{"y":1e21}'}})
    yield json.dumps({"rewrites": [{"transform": {"template": "{{ .value | upper }}"}}, {"regexp": {"source": "(.)-", "target": "${1}_"}}], "entries": {"a-b": "1"}})


SEEDS = {
    "template": lambda: shapes.TEMPLATES + templates(),
    "path": lambda: shapes.PATHS + list(paths()),
    "rewrite": lambda: shapes.REWRITES + list(rewrites()),
    "decode": lambda: shapes.DECODED + [line["in"] for line in lines("base64")] + [line["json"] for line in lines("gjson")],
    "duration": lambda: shapes.DURATIONS + [line["in"] for line in lines("duration")] + [line["schedule"] for line in lines("cron")],
    "yaml": lambda: shapes.YAML + [line["template"] for line in lines("template") if "Yaml" in line.get("template", "")]
    + ["a: 010\nb: &x [yes, ~, 1.50]\nc: {<<: {d: *x}}\n", "? k\n: |+\n  a\n\n- b", "a: !!binary aGk=\n---\nb"],
}


def words(target):
    """What an input may be put together from: signs, and functions and keywords of templates."""
    found = set()
    if target == "template":
        for text in templates():
            found.update(re.findall(r"[A-Za-z_][A-Za-z0-9_]{2,}", text))
    return sorted(found.union(shapes.WORDS[target], shapes.GROWTH))


def entry(word):
    """A word as a line of a dictionary."""
    plain = range(0x20, 0x7F)
    text = "".join(chr(byte) if byte in plain and byte not in b'"\\' else f"\\x{byte:02x}" for byte in word.encode())
    return f'"{text}"\n'


def main():
    for target, seeds in SEEDS.items():
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        all_seeds = [seed.encode("utf-8", "surrogatepass") for seed in seeds()]
        for seed in [seed for seed in all_seeds if len(seed) <= LONGEST][:MOST]:
            (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
        (HERE / "corpus" / f"{target}.dict").write_text("".join(map(entry, words(target))), encoding="utf-8")


if __name__ == "__main__":
    main()
