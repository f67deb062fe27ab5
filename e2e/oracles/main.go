// Command oracles prints what Go itself makes of inputs that keyferry must treat alike.
//
// One mode per vector file; to make them all again, from this folder:
//
//	for m in gjson regexp base64 duration cron crypto template; do go run . $m > ../../tests/vectors/$m.jsonl; done
//
// The inputs are the tables below, and for gjson also paths and values made by a generator with a fixed seed, so
// the output is the same each time. Bytes of gjson, base64, duration and template travel as Latin-1: one character for each byte.
// A result of regexp that is not there is the key unchanged.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/tidwall/gjson"
)

var out = bufio.NewWriter(os.Stdout)

func main() {
	modes := map[string]func(){
		"gjson": runGjson, "regexp": runRegexp, "base64": runBase64, "duration": runDuration, "cron": runCron,
		"crypto": runCrypto, "template": runTemplate,
	}
	if len(os.Args) != 2 || modes[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: oracles gjson|regexp|base64|duration|cron|crypto|template")
		os.Exit(2)
	}
	modes[os.Args[1]]()
	if err := out.Flush(); err != nil {
		panic(err)
	}
}

func emit(v any) {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
}

// latin1 turns each byte into the character of the same number.
func latin1(s string) string {
	r := make([]rune, len(s))
	for i := 0; i < len(s); i++ {
		r[i] = rune(s[i])
	}
	return string(r)
}

// answer is one look-up; raw is left out where it is the same as the text.
type answer struct {
	Path   string  `json:"path"`
	Exists bool    `json:"exists"`
	String string  `json:"string,omitempty"`
	Raw    *string `json:"raw,omitempty"`
}

func runGjson() {
	var order []string
	answers := map[string][]answer{}
	seen := map[[2]string]bool{}
	for _, c := range gjsonCases() {
		r, ok := lookUp(c[0], c[1])
		if seen[c] || !ok {
			continue
		}
		seen[c] = true
		if answers[c[0]] == nil {
			order = append(order, c[0])
		}
		a := answer{Path: latin1(c[1]), Exists: r.Exists(), String: latin1(r.String())}
		if raw := latin1(r.Raw); raw != a.String {
			a.Raw = &raw
		}
		answers[c[0]] = append(answers[c[0]], a)
	}
	for _, doc := range order {
		emit(map[string]any{"json": latin1(doc), "answers": answers[doc]})
	}
}

// lookUp says whether the original survives the look-up: it panics on some paths that make no sense.
func lookUp(doc, path string) (r gjson.Result, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	return gjson.GetBytes([]byte(doc), path), true
}

func runRegexp() {
	for i, source := range regexpSources {
		re, err := regexp.Compile(source)
		if err != nil {
			emit(map[string]any{"source": source, "error": err.Error()})
			continue
		}
		targets := regexpTargets
		if i > 0 && re.NumSubexp() == 0 {
			targets = []string{"<$0>"}
		}
		for _, target := range targets {
			results := map[string]string{}
			for _, key := range regexpKeys {
				if result := re.ReplaceAllString(key, target); result != key {
					results[key] = result
				}
			}
			emit(map[string]any{"source": source, "target": target, "results": results})
		}
	}
}

func runBase64() {
	for _, in := range base64Inputs() {
		line := map[string]any{"in": latin1(in)}
		if b, err := base64.StdEncoding.DecodeString(in); err == nil {
			line["std"] = latin1(string(b))
		}
		if b, err := base64.URLEncoding.DecodeString(in); err == nil {
			line["url"] = latin1(string(b))
		}
		emit(line)
	}
}

func runDuration() {
	for _, in := range durationInputs() {
		line := map[string]any{"in": latin1(in)}
		if d, err := time.ParseDuration(in); err == nil {
			line["nanos"] = d.Nanoseconds()
			line["text"] = d.String()
		}
		emit(line)
	}
}

func runCron() {
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)
	for _, schedule := range cronSchedules {
		s, err := parser.Parse(schedule)
		if err != nil {
			emit(map[string]any{"schedule": schedule, "error": true})
			continue
		}
		next := map[string]int64{}
		for _, from := range cronTimes {
			t := s.Next(from.UTC())
			if t.IsZero() {
				next[fmt.Sprint(from.Unix())] = 0
			} else {
				next[fmt.Sprint(from.Unix())] = t.Unix()
			}
		}
		emit(map[string]any{"schedule": schedule, "next": next})
	}
}
