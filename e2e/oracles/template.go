package main

import (
	"bytes"
	"encoding/hex"
	"maps"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"sigs.k8s.io/yaml"
)

// templateScope is what the templates see: a Secret's values, not all of them text.
var templateScope = map[string]string{
	"s": "Hello, Wide World", "n": "42", "f": "3.75", "csv": "pear,apple,fig", "multi": "one\ntwo\nthree", "empty": "",
	"j":    `{"a":1,"b":{"c":[1,"two",null]},"d":"<x&y>","e":1e21,"f":0.000001,"t":true}`,
	"list": `[3,1,2,"x",{"k":"v"}]`, "y": "a: 1\nb:\n- x\n- y: z\nc: yes\n", "dash-key": "dashed", "dot.key": "dotted",
	"bin": "\x00\x01\xfe\xff", "mixed": "é\xffz", "uni": "ÀÉ ß ǆ 日本 😀", "zero": "0", "url": "https://ann:pw@host.test:8443/p/a%20th?q=1&r=a+b#frag",
}

// templateFuncs are ESO's: sprig without what looks outside, and its own for YAML. The sprig that ESO uses has hexdec, too.
func templateFuncs() template.FuncMap {
	funcs := template.FuncMap{
		"toYaml": func(v any) string {
			data, err := yaml.Marshal(v)
			if err != nil {
				return ""
			}
			return strings.TrimSuffix(string(data), "\n")
		},
		"fromYaml": func(s string) map[string]any {
			m := map[string]any{}
			if err := yaml.Unmarshal([]byte(s), &m); err != nil {
				m["Error"] = err.Error()
			}
			return m
		},
		"hexdec": func(s string) string {
			data, err := hex.DecodeString(s)
			if err != nil {
				return err.Error()
			}
			return string(data)
		},
	}
	maps.Copy(funcs, sprig.TxtFuncMap())
	for _, name := range []string{"env", "expandenv", "getHostByName"} {
		delete(funcs, name)
	}
	return funcs
}

// runTemplate prints the template, and what it renders or that it fails: the stage.
func runTemplate() {
	scope := map[string]string{}
	for k, v := range templateScope {
		scope[k] = latin1(v)
	}
	emit(map[string]any{"scope": scope})
	funcs := templateFuncs()
	seen := map[string]bool{}
	for _, text := range templateCases() {
		if seen[text] {
			continue
		}
		seen[text] = true
		line := map[string]any{"template": latin1(text)}
		parsed, err := template.New("key").Option("missingkey=error").Funcs(funcs).Parse(text)
		if err != nil {
			line["fails"] = "parse"
			line["error"] = latin1(err.Error())
			emit(line)
			continue
		}
		out := bytes.Buffer{}
		data := map[string]string{}
		maps.Copy(data, templateScope)
		if err := parsed.Execute(&out, data); err != nil {
			line["fails"] = "execute"
			line["error"] = latin1(err.Error())
		} else {
			line["result"] = latin1(out.String())
		}
		emit(line)
	}
}
