package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"embed"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"reflect"
	"strings"
	"time"

	"github.com/Masterminds/sprig/v3"
	"github.com/lestrrat-go/jwx/v2/jwk"
	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// Test-only keys and certificates: see testdata/README.md.
//
//go:embed testdata/*.pem testdata/*.p12
var testdata embed.FS

// counting stands for randomness: bytes 0, 1, 2 and so on, beginning anew with each call of a function.
type counting struct{ next byte }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.next
		c.next++
	}
	return len(p), nil
}

// ref is an argument that has been printed before, by its name; names with a plus between them are joined.
type ref string

// pair is an argument of sprig's type certificate: names of a certificate and of its key.
type pair struct{ Cert, Key ref }

type cryptoRun struct {
	material map[ref][]byte
	names    map[string]ref
	sprig    map[string]any
}

// keep prints what others refer to.
func (r *cryptoRun) keep(name string, bytes []byte) ref {
	r.material[ref(name)], r.names[string(bytes)] = bytes, ref(name)
	if strings.HasPrefix(string(bytes), "-----") {
		emit(map[string]any{"name": name, "text": string(bytes)})
	} else {
		emit(map[string]any{"name": name, "base64": base64.StdEncoding.EncodeToString(bytes)})
	}
	return ref(name)
}

func (r *cryptoRun) text(name ref) (text string) {
	for _, part := range strings.Split(string(name), "+") {
		bytes, ok := r.material[ref(part)]
		if !ok {
			panic("not kept: " + part)
		}
		text += string(bytes)
	}
	return text
}

// short is a text, or its name if it is long: such a text is printed once.
func (r *cryptoRun) short(text string) any {
	name, ok := r.names[text]
	switch {
	case len(text) < 100:
		return latin1(text)
	case !ok:
		name = r.keep(fmt.Sprintf("made-%d", len(r.names)), []byte(text))
	}
	return map[string]any{"ref": name}
}

func runCrypto() {
	run := &cryptoRun{map[ref][]byte{}, map[string]ref{}, sprig.TxtFuncMap()}
	files, err := testdata.ReadDir("testdata")
	must(err)
	for _, file := range files {
		content, err := testdata.ReadFile("testdata/" + file.Name())
		must(err)
		run.keep(file.Name(), content)
	}
	// The version of sprig that ESO has takes an algorithm.
	bcrypt := run.sprig["bcrypt"].(func(string) string)
	run.sprig["htpasswd"] = func(name, password, algorithm string) string {
		if strings.Contains(name, ":") {
			return "invalid username: " + name
		}
		if algorithm == "sha" {
			sum := sha1.Sum([]byte(password))
			return name + ":{SHA}" + base64.StdEncoding.EncodeToString(sum[:])
		}
		return name + ":" + bcrypt(password)
	}
	run.readPkcs12()
	run.writePkcs12()
	run.pemAndChains()
	run.jwks()
	run.decryptions()
	run.passwords()
	run.certificates()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// call prints what a function makes of its arguments, or that it fails. A panic is a failure, too: text/template makes it one.
func (r *cryptoRun) call(name string, args ...any) {
	line := map[string]any{"fn": name, "args": args}
	made, now, err := r.invoke(name, args)
	switch made := made.(type) {
	case nil:
	case string:
		line["text"] = r.short(made)
	case []string:
		line["texts"] = made
	default:
		v := reflect.ValueOf(made)
		line["cert"], line["key"], line["now"] = r.short(v.Field(0).String()), r.short(v.Field(1).String()), now
	}
	if err != nil {
		line = map[string]any{"fn": name, "args": args, "error": err.Error()}
	}
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			args[i] = r.short(arg)
		case ref:
			args[i] = map[string]any{"ref": arg}
		case pair:
			args[i] = map[string]any{"cert": arg.Cert, "key": arg.Key}
		}
	}
	emit(line)
}

// invoke makes certificates again until they are valid for whole days, as sprig asks for the time twice.
func (r *cryptoRun) invoke(name string, args []any) (made any, now int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	for {
		real := rand.Reader
		rand.Reader = &counting{}
		made, err = r.apply(name, args)
		rand.Reader = real
		if err != nil || !strings.Contains(name, "Cert") && !strings.Contains(name, "CA") || name == "filterCertChain" || name == "certSANs" {
			return made, 0, err
		}
		if name == "buildCustomCert" {
			return made, 0, nil
		}
		block, _ := pem.Decode([]byte(certOf(made)))
		cert, err := x509.ParseCertificate(block.Bytes)
		must(err)
		if cert.NotAfter.Sub(cert.NotBefore)%(24*time.Hour) == 0 {
			return made, cert.NotBefore.Unix(), nil
		}
	}
}

func (r *cryptoRun) apply(name string, args []any) (any, error) {
	fn, ok := esoCrypto[name]
	if !ok {
		fn = r.sprig[name]
	}
	v := reflect.ValueOf(fn)
	in := make([]reflect.Value, len(args))
	for i, arg := range args {
		switch arg := arg.(type) {
		case ref:
			in[i] = reflect.ValueOf(r.text(arg))
		case pair:
			made, err := r.apply("buildCustomCert", []any{r.base64(arg.Cert), r.base64(arg.Key)})
			must(err)
			in[i] = reflect.ValueOf(made)
		case []any:
			in[i] = reflect.ValueOf(arg)
		default:
			in[i] = reflect.ValueOf(arg).Convert(v.Type().In(i))
		}
	}
	out := v.Call(in)
	if len(out) == 2 && !out[1].IsNil() {
		return nil, out[1].Interface().(error)
	}
	return out[0].Interface(), nil
}

func (r *cryptoRun) base64(name ref) string {
	return base64.StdEncoding.EncodeToString([]byte(r.text(name)))
}

// esoCrypto are ESO's functions, told in short with the libraries that ESO uses.
var esoCrypto = map[string]any{
	"pkcs12key": func(in string) (string, error) { return p12Key("", in) }, "pkcs12keyPass": p12Key,
	"pkcs12cert": func(in string) (string, error) { return p12Certs("", in) }, "pkcs12certPass": p12Certs,
	"pemToPkcs12":               func(c, k string) (string, error) { return toP12(c, k, "", false) },
	"pemToPkcs12Pass":           func(c, k, p string) (string, error) { return toP12(c, k, p, false) },
	"fullPemToPkcs12":           func(c, k string) (string, error) { return toP12(c, k, "", true) },
	"fullPemToPkcs12Pass":       func(c, k, p string) (string, error) { return toP12(c, k, p, true) },
	"pemTruststoreToPKCS12":     func(c string) (string, error) { return toTrustStore(c, "") },
	"pemTruststoreToPKCS12Pass": toTrustStore,
	"filterPEM":                 filterBlocks, "filterCertChain": filterChain, "certSANs": sansOf,
	"jwkPublicKeyPem": jwkPublic, "jwkPrivateKeyPem": jwkPrivate, "rsaDecrypt": rsaDecrypt,
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func p12Key(pass, in string) (string, error) {
	key, _, _, err := pkcs12.DecodeChain([]byte(in), pass)
	if err != nil {
		return "", fmt.Errorf("unable to decode pkcs12 with password: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return block("PRIVATE KEY", der), err
}

func p12Certs(pass, in string) (string, error) {
	_, leaf, others, err := pkcs12.DecodeChain([]byte(in), pass)
	if err != nil {
		return "", fmt.Errorf("unable to decode pkcs12 certificate with password: %w", err)
	}
	all := append([]*x509.Certificate{leaf}, others...)
	if ordered, err := orderChain(all); err == nil {
		all = ordered
	}
	return blocksOf(all), nil
}

func blocksOf(certs []*x509.Certificate) string {
	text := ""
	for _, cert := range certs {
		text += block("CERTIFICATE", cert.Raw)
	}
	return text
}

func anyKey(in string) (any, error) {
	b, _ := pem.Decode([]byte(in))
	if key, err := x509.ParsePKCS1PrivateKey(b.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS8PrivateKey(b.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(b.Bytes); err == nil {
		return key, nil
	}
	return nil, errors.New("unable to parse private key type")
}

// certsOf stops at what is no certificate by a panic, as ESO does.
func certsOf(in string) (certs []*x509.Certificate, err error) {
	for rest := []byte(in); len(rest) > 0; {
		var b *pem.Block
		b, rest = pem.Decode(rest)
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

func toP12(certPem, keyPem, pass string, full bool) (string, error) {
	b, rest := pem.Decode([]byte(certPem))
	leaf, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return "", err
	}
	var others []*x509.Certificate
	if full {
		if others, err = certsOf(string(rest)); err != nil {
			return "", err
		}
	}
	key, err := anyKey(keyPem)
	if err != nil {
		return "", err
	}
	pfx, err := pkcs12.Modern.WithRand(&counting{}).Encode(key, leaf, others, pass)
	return base64.StdEncoding.EncodeToString(pfx), err
}

func toTrustStore(certPem, pass string) (string, error) {
	certs, err := certsOf(certPem)
	if err != nil {
		return "", err
	}
	pfx, err := pkcs12.Modern.WithRand(&counting{}).EncodeTrustStore(certs, pass)
	return base64.StdEncoding.EncodeToString(pfx), err
}

// fromFirst drops what stands before the first block, which newer versions of Go take less of.
func fromFirst(in string) []byte {
	if i := strings.Index(in, "-----BEGIN"); i > 0 {
		in = in[i:]
	}
	return []byte(in)
}

func filterBlocks(kind, in string) (string, error) {
	text, data := "", fromFirst(in)
	for {
		b, rest := pem.Decode(data)
		if data = rest; b == nil {
			break
		}
		if strings.EqualFold(b.Type, kind) {
			text += string(pem.EncodeToMemory(b))
		}
	}
	if text == "" && len(data) > 0 {
		return "", errors.New("error filtering pem: found junk")
	}
	return text, nil
}

// orderChain links each certificate with the one whose key identifier it names.
func orderChain(certs []*x509.Certificate) ([]*x509.Certificate, error) {
	above, named := map[int]int{}, map[int]bool{}
	for i, cert := range certs {
		for j, other := range certs {
			if i != j && bytes.Equal(cert.AuthorityKeyId, other.SubjectKeyId) {
				above[i], named[j] = j, true
				break
			}
		}
	}
	at := -1
	for i := range certs {
		if named[i] {
			continue
		}
		if at >= 0 {
			return nil, errors.New("found multiple leaf or disjunct certificates")
		}
		at = i
	}
	if at < 0 {
		return nil, errors.New("no leaf certificate found")
	}
	var chain []*x509.Certificate
	for ok := true; ok; at, ok = above[at] {
		if len(chain) == len(certs) {
			return nil, errors.New("constructing chain resulted in cycle")
		}
		chain = append(chain, certs[at])
	}
	return chain, nil
}

func filterChain(kind, in string) (string, error) {
	var certs []*x509.Certificate
	for data := []byte(in); ; {
		b, rest := pem.Decode(data)
		if data = rest; b == nil {
			break
		}
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return "", err
		}
		certs = append(certs, cert)
	}
	chain, err := orderChain(certs)
	if err != nil {
		return "", err
	}
	own := func(c *x509.Certificate) bool { return bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId) }
	root := func(c *x509.Certificate) bool { return c.AuthorityKeyId == nil || own(c) }
	switch last := chain[len(chain)-1]; {
	case kind == "leaf" && chain[0].AuthorityKeyId != nil && !own(chain[0]):
		return blocksOf(chain[:1]), nil
	case kind == "root" && root(last):
		return blocksOf([]*x509.Certificate{last}), nil
	case kind == "intermediate":
		end := 1
		for end < len(chain) && !root(chain[end]) {
			end++
		}
		return blocksOf(chain[1:end]), nil
	}
	return "", nil
}

func sansOf(in string) ([]string, error) {
	b, _ := pem.Decode(fromFirst(in))
	if b == nil {
		return nil, errors.New("failed to decode PEM block")
	}
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("failed to parse certificate: %w", err)
	}
	sans := append([]string{}, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		sans = append(sans, ip.String())
	}
	sans = append(sans, cert.EmailAddresses...)
	for _, uri := range cert.URIs {
		sans = append(sans, uri.String())
	}
	return sans, nil
}

func rawKey(in string) (raw any, err error) {
	key, err := jwk.ParseKey([]byte(in))
	if err == nil {
		err = key.Raw(&raw)
	}
	return raw, err
}

func jwkPublic(in string) (string, error) {
	key, err := rawKey(in)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	return block("PUBLIC KEY", der), err
}

func jwkPrivate(in string) (string, error) {
	key, err := rawKey(in)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return block("PRIVATE KEY", der), err
}

func rsaDecrypt(scheme, name, in, keyPem string) (string, error) {
	if scheme == "None" {
		return in, nil
	}
	if scheme != "RSA-OAEP" {
		return "", fmt.Errorf("decryption scheme %v is not supported", scheme)
	}
	if b, _ := pem.Decode([]byte(keyPem)); b == nil {
		return "", errors.New("failed to decode PEM block")
	}
	key, err := anyKey(keyPem)
	if err != nil {
		return "", errors.New("could not parse private key: unable to parse private key type")
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return "", errors.New("could not parse RSA private key")
	}
	out, err := rsa.DecryptOAEP(hashNamed(name), nil, private, []byte(in), nil)
	if err != nil {
		return "", fmt.Errorf("error decrypting data with RSA: %w", err)
	}
	return string(out), nil
}

func hashNamed(name string) hash.Hash {
	switch name {
	case "SHA1":
		return sha1.New()
	case "SHA512":
		return sha512.New()
	}
	return sha256.New()
}

func certOf(made any) string { return reflect.ValueOf(made).Field(0).String() }
