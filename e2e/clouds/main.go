// Stand-ins for Google's Secret Manager and Azure's Key Vault with their logins, for the end-to-end tests. Each is built on the vendor's
// own Go code: Google's generated messages and service interface behind a router for REST, Microsoft's generated server stubs behind
// the challenge and Entra ID. `prove-gcp` and `prove-azure` run the vendors' official clients against them.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
)

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: clouds gcp|azure|prove-gcp|prove-azure [flags]")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	listen := flags.String("listen", "", "address of the service")
	control := flags.String("control", "", "address of the plain HTTP service by which a test arranges things")
	cert := flags.String("cert", "", "file of the certificate, in PEM (azure)")
	key := flags.String("key", "", "file of its key, in PEM (azure)")
	ca := flags.String("ca", "", "file of the certificate authority, in PEM (prove-azure)")
	resource := flags.String("resource", "", "what the challenge says that tokens are for; empty: the service itself (azure)")
	url := flags.String("url", "", "address of the service, with its scheme (prove-…)")
	if err := flags.Parse(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
	switch os.Args[1] {
	case "gcp":
		cloud := newGoogle("http://" + *listen)
		go func() { log.Fatal(http.ListenAndServe(*control, cloud.switches.handler(cloud))) }()
		log.Fatal(http.ListenAndServe(*listen, cloud))
	case "azure":
		cloud := newAzure("https://"+*listen, *resource)
		go func() { log.Fatal(http.ListenAndServe(*control, cloud.switches.handler(cloud))) }()
		log.Fatal(http.ListenAndServeTLS(*listen, *cert, *key, cloud))
	case "prove-gcp":
		proveGoogle(*url, *control)
	case "prove-azure":
		proveAzure(*url, *control, *ca)
	default:
		log.Fatalf("no such command: %s", os.Args[1])
	}
}

// What a test may do to a service besides what everybody may.
type arrangeable interface {
	// Makes a secret, or a new version of it.
	put(name, value string, tags map[string]string) error
	// The newest version's value and the tags; false: there is no such secret.
	look(name string) (held, bool)
	// Disables the newest version.
	disable(name string) error
	// A login that the service takes.
	login() any
}

type held struct {
	Value    string            `json:"value"`
	Tags     map[string]string `json:"tags"`
	Versions int               `json:"versions"`
	Detail   map[string]any    `json:"detail,omitempty"`
}

// A request as the service saw it.
type seen struct {
	Line      string `json:"line"`
	UserAgent string `json:"userAgent"`
	Status    int    `json:"status"`
}

// What goes wrong, and what was asked.
type switches struct {
	mu    sync.Mutex
	fault string
	wait  string
	seen  []seen
}

// The fault that is on, and the time to wait that it tells.
func (s *switches) current() (string, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault, s.wait
}

func (s *switches) note(r *http.Request, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, seen{Line: r.Method + " " + r.URL.RequestURI(), UserAgent: r.UserAgent(), Status: status})
}

// Keeps the status for the record.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Serves a request and notes it.
func (s *switches) recorded(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request)) {
	recorder := &recorder{ResponseWriter: w, status: http.StatusOK}
	serve(recorder, r)
	s.note(r, recorder.status)
}

// GET /ready, /seen, /login and /secret?name=; POST /fault?kind=&wait=, /put and /disable?name=.
func (s *switches) handler(cloud arrangeable) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, cloud.login()) })
	mux.HandleFunc("GET /seen", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		answer(w, http.StatusOK, append([]seen{}, s.seen...))
	})
	mux.HandleFunc("GET /secret", func(w http.ResponseWriter, r *http.Request) {
		if held, ok := cloud.look(r.FormValue("name")); ok {
			answer(w, http.StatusOK, held)
		} else {
			answer(w, http.StatusNotFound, nil)
		}
	})
	mux.HandleFunc("POST /fault", func(_ http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fault, s.wait = r.FormValue("kind"), r.FormValue("wait")
	})
	mux.HandleFunc("POST /put", func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Name  string            `json:"name"`
			Value string            `json:"value"`
			Tags  map[string]string `json:"tags"`
		}
		err := json.NewDecoder(r.Body).Decode(&asked)
		if err == nil {
			err = cloud.put(asked.Name, asked.Value, asked.Tags)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc("POST /disable", func(w http.ResponseWriter, r *http.Request) {
		if err := cloud.disable(r.FormValue("name")); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Print(err)
	}
}

// Ends a proof that did not come to what it should.
func must(ok bool, format string, args ...any) {
	if !ok {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
		os.Exit(1)
	}
}

// Turns a switch of a service.
func turn(control, path string) {
	response, err := http.Post(strings.TrimSuffix(control, "/")+path, "", nil)
	must(err == nil && response.StatusCode == http.StatusOK, "%s: %v", path, err)
	response.Body.Close()
}

func keep[T any](value T) *T { return &value }
