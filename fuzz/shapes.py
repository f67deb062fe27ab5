"""Inputs of the shapes that once took too much time or memory, and of their like, for each target; and words to make more of."""


def grow(part, exponent):
    """Stands for 2 to the power of `exponent` parts: see `grown` in src/lib.rs."""
    return f"\x01{chr(ord('0') + exponent)}{part}\x02"


def bomb(of, levels, wide):
    """YAML whose aliases double what they stand for, or more."""
    names = "abcdefghijklmnopqrstuvwxyz"[:levels]
    first = f"{names[0]}: &{names[0]} [{','.join([of] * wide)}]\n"
    return first + "".join(f"{name}: &{name} [{','.join([f'*{before}'] * wide)}]\n" for before, name in zip(names, names[1:]))


def merges(levels):
    """YAML whose maps take in the one before, twice."""
    return "m0: &m0 {k: v}\n" + "".join(f"m{i}: &m{i} {{<<: *m{i - 1}, k{i}: *m{i - 1}}}\n" for i in range(1, levels))


def nested(text, levels):
    return "[" * levels + text + "]" * levels


def of_yaml(text, then):
    """A template that reads YAML, as text in Go's quotes."""
    return '{{ "' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '" | fromYaml | ' + then + " }}"


TEMPLATES = [
    # more decimals than Rust prints
    '{{ printf "%.70000f %.70000e %.70000x %.70000g" 1.5 1.5 1.5 1.5 | len }}',
    '{{ printf "%.70000U %070000d %+70000q %#.70000x" 65 -1 "x" "y" | len }}',
    '{{ printf "%1000000d|%-1000000s|%.1000000f" 1 "x" 1.5 | len }}',
    '{{ printf "%[1]*.[1]*f %[2]*[1]d %-*d" 70000 9 1.5 | len }}',
    '{{ printf (repeat 10 "%1000000[1]v") nil }}',
    '{{ printf "%#g %#.70000G %b %x %+.3e" 1e300 1e-300 5e-324 0.1 1e21 }}',
    '{{ printf "%70000v" (list 1 2 (dict "a" (list "b"))) | len }}',
    # a zone's name that a layout prints again and again
    '{{ $d := toDate "2006 MST" "2024 +' + grow("0", 10) + '5" }}{{ $d.Format "' + grow("MST", 8) + '" | len }}',
    '{{ $d := toDate "2006 MST" "2024 GMT+' + grow("0", 10) + '5" }}{{ $d.Format "' + grow("MST", 8) + '" | len }}',
    '{{ dateInZone "2006-01-02T15:04:05.999999999Z07:00 MST Monday January __2 002" now "America/New_York" }}',
    '{{ dateInZone "' + grow("January", 10) + '" now "' + grow("Etc/", 10) + 'UTC" | len }}',
    '{{ mustToDate "2006-01-02 15:04:05 -07:00:00 MST" "2024-02-29 23:59:59 +05:30:15 CEST" | unixEpoch }}',
    # matches that look at all the rest, each
    '{{ regexFindAll "a+b|a" (repeat 4096 "a") -1 | len }}',
    '{{ regexReplaceAll "a*b|a" (repeat 4096 "a") "$0$0" | len }}',
    '{{ regexSplit ".*[^a-z0-9]|[a-z0-9]" .noise -1 | len }}',
    '{{ regexMatch "[a-f][a-z0-9]{200}[^a-z0-9]" .noise }}',
    '{{ regexMatch "((\\\\pL{100}){100}){100}" .user }}',
    '{{ range until 20 }}{{ $y := regexReplaceAll (printf "%d|.*" .) $.long "" }}{{ end }}',
    '{{ regexReplaceAll "(.*)" .long "' + grow("$1", 8) + '" | len }}',
    '{{ regexReplaceAllLiteral "" .long .long | len }}',
    "{{ repeat 1000 (repeat 1000 .user) | len }}{{ repeat 9223372036854775807 .user }}",
    '{{ $x := "ab" }}{{ range until 60 }}{{ $x = print $x $x }}{{ end }}{{ $x }}',
    "{{ range until 300 }}{{ range until 300 }}{{ end }}{{ end }}{{ range 9223372036854775807 }}{{ end }}",
    "{{ $l := list 1 2 }}{{ range until 40 }}{{ $l = list $l $l }}{{ end }}{{ toYaml $l }}",
    "{{ .anchors | fromYaml | toYaml | fromYaml | toJson }}",
    of_yaml(bomb("x", 6, 8), "toYaml | len"),
    of_yaml(merges(12), "toYaml | len"),
    of_yaml("a: &a " + nested("", 60) + "\nb: " + nested("*a", 60), "toJson | len"),
    '{{ splitList "" .long | join "," | len }}{{ len (split " " .long) }}',
    '{{ fromJson (printf "[%s0]" (repeat 20000 "0,")) | len }}{{ fromJson (print (repeat 5000 "[") (repeat 5000 "]")) }}',
    '{{ define "r" }}{{ template "r" . }}{{ template "r" . }}{{ end }}{{ template "r" . }}',
    grow("{{ if true }}", 8) + grow("{{ end }}", 8),
    "{{ " + grow("(", 8) + "1" + grow(")", 8) + " }}",
    '{{ nindent 9223372036854775807 "a" }}{{ indent 70000 .yaml | len }}',
]

# A path, and what it leads into.
PATHS = [
    # twice the work for each step that is not there
    grow("a.", 5) + "b\n",
    grow("a.", 6) + 'b\n{"a":{"a":{"a":1}}}',
    grow("a.", 7) + "b\n{}",
    grow("a.", 12) + "b\n" + grow('{"a":', 7) + "1" + grow("}", 7),
    grow("1000.", 3) + "a\n[]",
    "1000\n[1]",
    "a.1001\n{}",
    "a.-1\n{\"a\":[]}",
    "a.:1.b\n{\"a\":{\"1\":{}}}",
    'a\\.b.c\n{ "a.b" : {"c" : 1 , "d":[ ] } }',
    "2\n[1e999]",
    "1\n[" + nested("", 130) + "]",
    grow("@tostr|", 5) + '@this\n{"a":"\\""}',
    grow("[@this,@this]|", 5) + "@this\n[1]",
    '{"x":' + grow("[@this,a],", 4) + '}\n{"a":1}',
    '#(%"' + grow("*a", 6) + 'b")#\n["' + grow("a", 12) + '"]',
    "#.#.#.a\n" + nested('{"a":1},{"a":[2]}', 3),
    "@dig:a\n" + grow('{"a":', 6) + "1" + grow("}", 6),
    '@pretty:{"indent":"' + grow(" ", 10) + '","width":1}\n[' + grow("[1],", 8) + "0]",
    '@flatten:{"deep":true}\n' + grow("[", 7) + grow("]", 7),
    "$" + grow("[0,0]", 5) + "\n" + grow("[", 7) + "1" + grow("]", 7),
    "$..*..*..*\n" + nested("1,2", 20),
    "$..[?@..[?@..x]]\n" + nested('{"x":1}', 20),
    "$" + grow("[?(", 6) + "\n{}",
]

# See `Input::of_lines` in fuzz_targets/rewrite.rs.
REWRITES = [
    # keys that grow with each rewrite, alone and together
    "/(?s).+\n" + "$0" * 10 + "\n*10\nab",
    "/(?s).+\n" + "$0" * 10 + "\n*3\n" + "\n".join(f"{i:03}" for i in range(100)),
    "~{{ .value }}{{ .value }}\n*15\n" + grow("ab", 6),
    "~{{ repeat 1048576 .value }}\na\nb",
    '~{{ printf "%1000000s" .value }}\n/ \n$0$0\na',
    # keys that have many steps each
    "~{{ range 100000 }}{{ end }}{{ .value }}\n" + "\n".join(f"{i:03}" for i in range(60)),
    # matches that look at all the rest, each
    "/.*[^A-Z]|[A-Z]\n\n" + grow("A", 10),
    "/a+b|a\nb\n*8\n" + grow("a", 10),
    "/\n" + grow("x", 8) + "\n" + grow("k", 10),
    "/((\\pL{100}){100}){100}\nx\na",
    "/(a{1000}){1000}\nx\na",
    "/" + grow("(", 10) + "a" + grow(")", 10) + "\nx\na",
    "/[a-f][a-z]{200}[^a-z]\n${0}\n" + grow("abcdefghijklmnopqrstuvwxyz", 6),
    "<j all m-b,m-a\n<i\n={\"x\":1e308,\"y\":[1e20,\"<\"]}\nm-a\nm-b",
    "<ij x\n/x\nxx\n*8\n={\"x\":\"<\\u2028<\"}\na\nb",
    "<in gone,a\n~{{ .value | upper }}\n={" + ",".join(f'"k{i}":{i}' for i in range(40)) + "}\na",
    "/^db\\.(\\w+)$\n${1}_$0\n~{{ .value | trunc 3 }}\n<ij all\ndb.primary\ndb.replica",
]

YAML = [
    bomb("x", 15, 8),
    bomb("x", 8, 9),
    bomb("{a: b}", 12, 2),
    merges(16),
    'a: &a "' + grow("x", 12) + '"\n' + "".join(f"k{i}: *a\n" for i in range(100)),
    'a: &a "' + grow("x", 12) + '"\nb: [' + grow("*a,", 12) + "*a]\n",
    # each anchor keeps a copy
    "".join(f"{{k: &a{i} " for i in range(60)) + grow("x", 12) + "}" * 60,
    # what is nested is put into what is nested
    "a: &a " + nested("", 60) + "\nb: &b " + nested("*a", 60) + "\nc: " + nested("*b", 60),
    "a: &a {b: 1}\nc: {<<: [" + grow("*a,", 10) + "*a]}\n",
    "a: &a [*a]",
    "? &k a\n: &v [*k, {<<: {d: *k}}]\n*k : *v\n",
    grow("[", 12),
    grow("{a: ", 10),
    grow("- ", 10) + "a",
    grow("? ", 10) + "a",
    grow("a:\n ", 8),
    "[" + grow("a,", 12) + "a]",
    "{" + grow("a: b,", 10) + "c}",
    "'" + grow("''", 12) + "'",
    '"' + grow("\\u0061", 10) + '"',
    "a: |\n" + grow("  b\n\n", 10),
    "a: >\n" + grow("  b c\n", 10),
    grow("---\n", 10),
    grow("# c\n", 12) + "a: b",
    grow("!!str &a ", 6) + "x",
    "a: " + grow("1_", 10) + "1\nb: 0x" + grow("f", 10) + "\n",
    "!!binary " + grow("AAAA", 10),
]

DURATIONS = [
    grow("1h", 10),
    "0." + grow("9", 12) + "s",
    "2562047h47m16.854775807s",
    "-2562047h47m16.854775808s",
    # five years of days, for nothing
    "0 0 30 2 *",
    "0 0 29 2 *",
    "0 0 29 feb sun",
    "59 23 31 12 ?",
    grow("0,", 10) + "0 0 * * *",
    "0-59/7,*/59 0-23/23 1-31 jan-dec sun-sat",
    "TZ=Europe/Berlin 0 22 * * *",
    "CRON_TZ=America/New_York 0 5 * * 1",
    "@every 1ns",
    "@every 2562047h",
    "allow 1709164770\n0 22 * * *|2h\n0 23 * * *|3h",
    "deny 1780344000\n*/30 9-17 * * 1-5|45m\n0 0 1 * *|25h\nbad|1h\n0 22 * * 7|2h",
    # as many windows as are looked at, which never open, or always
    "deny\n" + grow("0 0 30 2 *|1h\n", 7),
    "allow\n" + grow("* * * * *|1h\n", 7),
    "allow\n" + "\n".join(f"{i % 60} {i % 24} 29 2 *|{i + 1}h" for i in range(64)),
    "allow\n0-31 12 * * *|1m\n0-59/2 * * * *|61s",
    "allow\n0 0 29 2 *|8784h\n0 0 1 1 *|2562047h\n* * * * *|-1h\n5 * * * *|0",
    "deny\n@every 6h|1h\n@hourly|30m\nCRON_TZ=Asia/Kolkata 0 0 * * *|1h\n@daily|1ns",
]

DECODED = [
    grow("/", 12),
    grow("_U002f_", 10),
    grow("QUJD\n", 10),
    '"' + grow("<", 12) + '"',
    '"' + grow("\\ud83d", 10) + '"',
    "[" + grow("1e20,", 10) + "0]",
    grow("[", 12) + grow("]", 12),
    grow('{"a":', 7) + "1" + grow("}", 7),
]

GROWTH = ["\x01" + chr(ord("0") + exponent) for exponent in (4, 8, 12)] + ["\x02"]

WORDS = {
    "template": """{{ }} {{- -}} {{/* */}} := = $ | ` (index . .long .noise .anchors .yaml printf "%d" "%.70000f" "%1000000s" %[1]*.* %-9 %#v %+q %U %x
        regexMatch regexFindAll regexReplaceAll regexSplit repeat range until template define fromYaml toYaml fromJson toJson (?s) .* [^a-z] {1000}
        \\\\pL $1 ${0} dateInZone toDate mustToDate .Format 2006-01-02 15:04:05 .999999999 -0700 Z07:00 MST GMT+5 __2 002 America/New_York &a *a
        <<: 9223372036854775807""".split(),
    "path": """@pretty @ugly @reverse @this @flatten @join @valid @keys @values @tostr @fromstr @group @dig #( )# #. .. | \\. :1 -1 !"x" a.
        [@this,@this] {"deep":true} == != %"* * ? $.. [?@. [0,0] [-1] null true 1e999 "\\u0061" {"a": [] {}""".split(),
    "decode": "\\u \\ud83d \\udc00 _U002f_ _U1f600_ = == - _ + / 1e308 1e-7 null true {\"a\": [ ] , <".split(),
    "duration": """h m s ms us µs ns 0. 2562047h @every @yearly @monthly @weekly @daily @hourly allow deny * */ ? - , / feb sun 29 30 31 | |1h |1m
        TZ=Europe/Berlin CRON_TZ=UTC 1709164770""".split() + ["\n", " "],
    "rewrite": """/ ~ < *5 = $0 ${1} $$ (?s) .+ .* [^A-Z] \\pL {1000} (?P<n> {{ }} .value repeat printf range until upper trunc <i <ij <n {"x":1}
        "rewrites": "entries": "regexp": "source": "target": "transform": "template": "merge": "into": "priority": "strategy":"JSON"
        "conflictPolicy":"Ignore" "priorityPolicy":"IgnoreNotFound\"""".split() + ["\n", "\n/", "\n~", "\n*9\n"],
    "yaml": """&a *a <<: *b, &b ? : - [ ] { } ' " # ~ | > |- >+ !!binary !!str !!int !!float !!null !!timestamp --- ... %YAML .inf .nan 0x 0o 0b 1_ 1e
        yes off 2001-01-01""".split() + ["\n", "\n  ", "\n- ", "<<: *a", ": ", "? ", "- ", "&a ", "*a, "],
}
