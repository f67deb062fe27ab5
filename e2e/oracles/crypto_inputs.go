package main

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwk"
	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

const secret = "se cret"

var privateKeys = []ref{
	"rsa2048.pem", "rsa2048-pkcs8.pem", "rsa1024.pem", "rsa512.pem", "prime256v1.pem", "prime256v1-pkcs8.pem", "secp384r1.pem",
	"secp384r1-pkcs8.pem", "secp521r1.pem", "secp521r1-pkcs8.pem", "secp224r1.pem", "ed25519.pem", "x25519.pem",
}

func (r *cryptoRun) readPkcs12() {
	passwords := map[ref]string{"modern.p12": "se cret-ä", "empty.p12": "", "open.p12": ""}
	files := []ref{}
	for _, name := range []string{"modern", "legacy", "rc2-128", "aes", "empty", "open", "nomac", "ec", "nokey"} {
		files = append(files, ref(name+".p12"))
	}
	// Files of go-pkcs12 itself, of every encoder that it has.
	key, leaf := mustKey(r.text("prime256v1.pem")), mustCerts(r.text("other.crt.pem"))
	chain := mustCerts(r.text("mid.crt.pem") + r.text("root.crt.pem"))
	for name, encoder := range map[string]*pkcs12.Encoder{
		"go-rc2.p12": pkcs12.LegacyRC2, "go-des.p12": pkcs12.LegacyDES, "go-2023.p12": pkcs12.Modern2023,
		"go-2026.p12": pkcs12.Modern2026, "go-1000.p12": pkcs12.Modern2023.WithIterations(1000),
	} {
		pfx, err := encoder.WithRand(&counting{}).Encode(key, leaf[0], chain, secret)
		must(err)
		r.material[ref(name)] = pfx
	}
	for _, name := range []string{"go-rc2.p12", "go-des.p12", "go-2023.p12", "go-2026.p12", "go-1000.p12"} {
		files = append(files, r.keep(name, r.material[ref(name)]))
	}
	for _, file := range files {
		password, ok := passwords[file]
		if !ok {
			password = secret
		}
		r.call("pkcs12keyPass", password, file)
		r.call("pkcs12certPass", password, file)
		r.call("pkcs12keyPass", "wrong", file)
		r.call("pkcs12certPass", "", file)
	}
	r.call("pkcs12key", ref("empty.p12"))
	r.call("pkcs12cert", ref("empty.p12"))
	r.call("pkcs12key", ref("open.p12"))
	r.call("pkcs12cert", ref("open.p12"))
	r.call("pkcs12key", ref("modern.p12"))
	r.call("pkcs12key", "")
	r.call("pkcs12key", "no file at all")
	r.call("pkcs12keyPass", secret, r.text("aes.p12")[:500])
	r.call("pkcs12certPass", secret, r.text("aes.p12")+"x")
	r.call("pkcs12certPass", "\U0001F600", ref("aes.p12"))
}

func mustKey(in string) any {
	key, err := anyKey(in)
	must(err)
	return key
}

func mustCerts(in string) []*x509.Certificate {
	certs, err := certsOf(in)
	must(err)
	return certs
}

func (r *cryptoRun) writePkcs12() {
	for _, key := range privateKeys {
		r.call("pemToPkcs12", ref("leaf.crt.pem"), key)
	}
	const full = ref("leaf.crt.pem+mid.crt.pem+root.crt.pem")
	r.call("pemToPkcs12", full, ref("ed25519.pem"))
	r.call("pemToPkcs12Pass", full, ref("ed25519.pem"), secret)
	r.call("pemToPkcs12Pass", ref("leaf.crt.pem"), ref("ed25519.pem"), "Käse")
	r.call("pemToPkcs12Pass", ref("leaf.crt.pem"), ref("ed25519.pem"), "\U0001F600")
	r.call("fullPemToPkcs12", full, ref("rsa2048.pem"))
	r.call("fullPemToPkcs12Pass", full, ref("ed25519.pem"), secret)
	r.call("fullPemToPkcs12Pass", ref("leaf.crt.pem"), ref("ed25519.pem"), secret)
	r.call("fullPemToPkcs12", r.text("leaf.crt.pem")+"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ref("ed25519.pem"))
	r.call("fullPemToPkcs12", r.text("leaf.crt.pem")+"-----BEGIN CERTIFICATE-----\nAAAA\n", ref("ed25519.pem"))
	r.call("pemToPkcs12", "no certificate", ref("ed25519.pem"))
	r.call("pemToPkcs12", ref("ed25519.pem"), ref("ed25519.pem"))
	r.call("pemToPkcs12", ref("leaf.crt.pem"), "no key")
	r.call("pemToPkcs12", ref("leaf.crt.pem"), ref("leaf.crt.pem"))
	r.call("pemTruststoreToPKCS12", ref("root.crt.pem"))
	r.call("pemTruststoreToPKCS12", full)
	r.call("pemTruststoreToPKCS12Pass", full, "changeit")
	r.call("pemTruststoreToPKCS12Pass", ref("names.crt.pem"), "changeit")
	r.call("pemTruststoreToPKCS12", "no certificate")
	r.call("pemTruststoreToPKCS12", ref("ed25519.pem"))
	r.call("pemTruststoreToPKCS12Pass", ref("root.crt.pem"), "\U0001F600")
}

func (r *cryptoRun) pemAndChains() {
	b := func(kind, body string) string {
		return "-----BEGIN " + kind + "-----\n" + body + "-----END " + kind + "-----\n"
	}
	texts := []string{
		"", "junk", "junk\n", "\n\n", b("A", "AAAA\n"), b("A", "AAAA\n") + b("B", "BBBB\n") + b("a", "CCCC\n"), "junk " + b("A", "AAAA\n"),
		"junk\n" + b("A", "AAAA\n") + "more\n" + b("B", "BBBB\n") + "end", b("A", ""), b("A", "K: v\nB: w\nProc-Type: 4,ENCRYPTED\n\nAAAA\n"),
		b("A", "K: v\n"), b("A", "K: v\n\n"), b("A", "AAA\n"), b("A", "A A\tAA\n"), b("A", "AAAA==\n"), b("A", "AB==\n"), b("A", "QQ\n==\n"), b("A", strings.Repeat("AAAA", 40)+"\n"),
		b("A", strings.Repeat("QUJD", 16)+"\n"), b("A", strings.Repeat("QUJD", 32)+"\n"), strings.ReplaceAll(b("A", "AAAA\n"), "\n", "\r\n"), strings.ReplaceAll(b("A", "AAAA\n"), "\n", " \t\n"),
		"-----BEGIN A-----\nAAAA\n", "-----BEGIN A-----\nAAAA\n" + b("A", "BBBB\n"), "-----BEGIN A-----\nAAAA\n-----END B-----\n" + b("A", "BBBB\n"), b("A", "AAAA\n") + "-----END A-----\n" + b("A", "BBBB\n"),
		"-----BEGIN A-----AAAA-----END A-----", "-----BEGIN A-----\nAAAA\n-----END A-----x\n" + b("A", "BBBB\n"), "-----BEGIN A-----\nAAAA\n-----END A-----", "-----BEGIN A----\nAAAA\n-----END A-----\n",
		"-----BEGIN A-----\n\nAAAA\n\n-----END A-----\n", "  -----BEGIN A-----\nAAAA\n-----END A-----\n", "-----BEGIN A-----\nK: v\n-----END A-----: x\n" + b("A", "AAAA\n"), "-----BEGIN A-----\n: \n\nAAAA\n-----END A-----\n",
		b("A B", "AAAA\n"), b("", "AAAA\n"), b("Ä", "AAAA\n"), "x-----BEGIN A-----\n" + b("A", "AAAA\n"), "-----BEGIN\n" + b("A", "AAAA\n"), b("A", "AAAA\nx: y\n"),
	}
	for _, text := range texts {
		r.call("filterPEM", "A", text)
	}
	r.call("filterPEM", "a b", b("A B", "AAAA\n"))
	r.call("filterPEM", "ä", b("Ä", "AAAA\n"))
	r.call("filterPEM", "", b("", "AAAA\n"))
	r.call("filterPEM", "B", texts[5])
	mixed := r.keep("mixed.pem", []byte("# remark\n"+r.text("root.crt.pem")+r.text("ed25519.pem")+"\n"+r.text("leaf.crt.pem")+r.text("mid.crt.pem")))
	r.call("filterPEM", "CERTIFICATE", mixed)
	r.call("filterPEM", "private key", mixed)
	r.call("filterPEM", "X", mixed)

	names := []string{"leaf.crt.pem", "mid.crt.pem", "root.crt.pem", "other.crt.pem", "names.crt.pem"}
	for _, set := range [][]int{{0}, {1}, {2}, {4}, {0, 1}, {1, 2}, {0, 1, 2}, {2, 0, 1}, {1, 2, 0}, {0, 2}, {3, 2}, {0, 1, 2, 3}, {4, 2}, {2, 2}, {4, 4}, {0, 1, 1, 2}} {
		parts := []string{}
		for _, i := range set {
			parts = append(parts, names[i])
		}
		chain := ref(strings.Join(parts, "+"))
		for _, kind := range []string{"leaf", "intermediate", "root"} {
			r.call("filterCertChain", kind, chain)
		}
	}
	r.call("filterCertChain", "none", ref("leaf.crt.pem"))
	r.call("filterCertChain", "leaf", "")
	r.call("filterCertChain", "leaf", "junk")
	r.call("filterCertChain", "leaf", mixed)
	r.call("filterCertChain", "leaf", b("CERTIFICATE", "AAAA\n"))
	for _, name := range names {
		r.call("certSANs", ref(name))
	}
	r.call("certSANs", mixed)
	r.call("certSANs", "")
	r.call("certSANs", ref("ed25519.pem"))
	r.call("certSANs", b("CERTIFICATE", "AAAA\n"))
}

func (r *cryptoRun) jwks() {
	both := func(jwk string) {
		r.call("jwkPublicKeyPem", jwk)
		r.call("jwkPrivateKeyPem", jwk)
	}
	for _, name := range privateKeys {
		key, err := jwk.FromRaw(mustKey(r.text(name)))
		if err != nil {
			continue
		}
		public, err := key.PublicKey()
		must(err)
		for _, key := range []jwk.Key{key, public} {
			text, err := json.Marshal(key)
			must(err)
			both(string(text))
		}
	}
	fields := map[string]any{}
	key, err := jwk.FromRaw(mustKey(r.text("rsa2048.pem")))
	must(err)
	text, err := json.Marshal(key)
	must(err)
	without := func(names ...string) string {
		fields = map[string]any{}
		must(json.Unmarshal(text, &fields))
		for _, name := range names {
			delete(fields, name)
		}
		out, err := json.Marshal(fields)
		must(err)
		return string(out)
	}
	both(without("dp", "dq", "qi"))
	both(without("p", "q"))
	both(without("p", "q", "dp", "dq", "qi"))
	both(without("d", "p", "q"))
	both(without("n"))
	both(without("e"))
	both(without("kty"))
	with := func(name string, value any) string {
		without()
		fields[name] = value
		out, err := json.Marshal(fields)
		must(err)
		return string(out)
	}
	r.call("jwkPrivateKeyPem", with("d", "AQAB"))
	r.call("jwkPrivateKeyPem", with("n", "AQAB"))
	r.call("jwkPrivateKeyPem", with("n", 5))
	r.call("jwkPrivateKeyPem", with("kid", "x"))
	r.call("jwkPrivateKeyPem", with("e", "AQAB=="))
	r.call("jwkPrivateKeyPem", with("e", "!"))
	const x, y, d = "KFsBZbHgOuNOMpLSbrJHT-fS6yaOEeqwDNLNo1jx630", "Av08OEreaBfZ4whBdcsZXAXkWzqRURMaliUftQ1kVnM", "blbu3F-icA8s8Q6Y-XARYZDRMYBmXTNP04LUXVnm3N4"
	for _, text := range []string{
		`nope`, ``, `[]`, `{}`, `null`, `"x"`, `{"kty":"RSA"}`, `{"kty":"oct","k":"c2VjcmV0"}`, `{"kty":"x"}`, `{"kty":5}`,
		`{"kty":"EC","crv":"P-256","x":"` + x + `","y":"` + y + `"}`,
		`{"kty":"EC","crv":"P-256","x":"` + x + `=","y":"` + strings.ReplaceAll(y, "-", "+") + `"}`,
		`{"kty":"EC","crv":"P-256","x":"` + x + `","y":"` + x + `"}`,
		`{"kty":"EC","crv":"P-384","x":"` + x + `","y":"` + y + `"}`,
		`{"kty":"EC","crv":"P-224","x":"` + x + `","y":"` + y + `"}`,
		`{"kty":"EC","crv":"P-256","x":"` + x + `"}`,
		`{"kty":"EC","x":"` + x + `","y":"` + y + `"}`,
		`{"kty":"EC","crv":"P-256","x":"` + x + `","y":"` + y + `","d":"` + d + `"}`,
		`{"kty":"EC","crv":"P-256","x":"` + x + `","y":"` + y + `","d":""}`,
		`{"kty":"OKP","crv":"Ed25519","x":"ssbSXVnyjMugbPGEHZyeFrTDv_eAzIndsiaczQSU2MY"}`,
		`{"kty":"OKP","crv":"Ed25519","x":"ssbSXVnyjMugbPGEHZyeFrTDv_eAzIndsiaczQSU2MY","d":"rlJ-t7KPqzufiTlSWnqAWh_Nzl4SZd9OHnhqmP9LWbU"}`,
		`{"kty":"OKP","crv":"Ed25519","x":"s8bSXVnyjMugbPGEHZyeFrTDv_eAzIndsiaczQSU2MY","d":"rlJ-t7KPqzufiTlSWnqAWh_Nzl4SZd9OHnhqmP9LWbU"}`,
		`{"kty":"OKP","crv":"Ed25519","x":"ssbSXVnyjMugbPGEHZyeFrTDv_eAzIndsiaczQSU2MY","d":"rlI"}`,
		`{"kty":"OKP","crv":"X25519","x":"ssbSXVnyjMugbPGEHZyeFrTDv_eAzIndsiaczQSU2MY"}`,
		`{"kty":"OKP","crv":"Ed448","x":"ssbS"}`, `{"kty":"OKP","x":"ssbS"}`, `{"kty":"OKP","crv":"Ed25519"}`,
	} {
		both(text)
	}
}

func (r *cryptoRun) decryptions() {
	encrypt := func(hash, text string, name ref) ref {
		key := mustKey(r.text(name)).(*rsa.PrivateKey)
		out, err := rsa.EncryptOAEP(hashNamed(hash), &counting{}, &key.PublicKey, []byte(text), nil)
		must(err)
		label := fmt.Sprintf("oaep-%s-%d-%s", hash, len(text), name)
		return r.keep(label, out)
	}
	for _, hash := range []string{"SHA1", "SHA256", "SHA512"} {
		for _, text := range []string{"some text", "\x00\xff\x80 bytes", ""} {
			in := encrypt(hash, text, "rsa2048.pem")
			for _, other := range []string{"SHA1", "SHA256", "SHA512", "None", "", "sha1"} {
				if text == "some text" || other == hash {
					r.call("rsaDecrypt", "RSA-OAEP", other, in, ref("rsa2048.pem"))
				}
			}
			r.call("rsaDecrypt", "RSA-OAEP", hash, in, ref("rsa2048-pkcs8.pem"))
		}
	}
	in := ref("oaep-SHA256-9-rsa2048.pem")
	r.call("rsaDecrypt", "RSA-OAEP", "SHA256", encrypt("SHA256", "weak", "rsa1024.pem"), ref("rsa1024.pem"))
	r.call("rsaDecrypt", "RSA-OAEP", "SHA256", in, ref("rsa1024.pem"))
	r.call("rsaDecrypt", "RSA-OAEP", "SHA256", in, ref("prime256v1.pem"))
	r.call("rsaDecrypt", "RSA-OAEP", "SHA256", in, ref("leaf.crt.pem"))
	r.call("rsaDecrypt", "RSA-OAEP", "SHA256", in, "no key")
	r.call("rsaDecrypt", "RSA-OAEP", "SHA256", "too short", ref("rsa2048.pem"))
	r.call("rsaDecrypt", "RSA-OAEP", "SHA256", "", ref("rsa2048.pem"))
	r.call("rsaDecrypt", "RSA-OAEP", "SHA256", strings.Repeat("x", 256), ref("rsa2048.pem"))
	r.call("rsaDecrypt", "None", "SHA256", "as it is", "no key")
	r.call("rsaDecrypt", "none", "SHA256", "as it is", ref("rsa2048.pem"))
	r.call("rsaDecrypt", "", "", "", "")
}

func (r *cryptoRun) passwords() {
	for _, text := range []string{"pw", "", "Käse", "a\x00b", strings.Repeat("x", 71), strings.Repeat("x", 72), strings.Repeat("x", 73)} {
		r.call("bcrypt", text)
		r.call("htpasswd", "ann", text, "sha")
	}
	r.call("htpasswd", "ann", "pw", "bcrypt")
	r.call("htpasswd", "ann", "pw", "")
	r.call("htpasswd", "ann", "pw", "SHA")
	r.call("htpasswd", "a:b", "pw", "sha")
	r.call("htpasswd", "", "", "sha")
	for i, shape := range []string{"maximum", "long", "medium", "short", "basic", "pin", "nosuch", ""} {
		r.call("derivePassword", i, shape, "correct horse", "ann@mail.test", "shop.test")
	}
	for i, site := range []string{"a", "", "Käse", "b", "c", "d"} {
		r.call("derivePassword", i*1000000007%4294967295, "long", "", "", site)
	}
	r.call("derivePassword", 4294967295, "maximum", "p\x00q", "Käse", strings.Repeat("s", 300))
	for _, key := range []string{"", "key", strings.Repeat("k", 32), strings.Repeat("k", 33)} {
		for _, text := range []string{"", "a", "fifteen bytes!!", "sixteen bytes!!!", strings.Repeat("long", 25), "\x00\xff"} {
			r.call("encryptAES", key, text)
			made, err := r.apply("encryptAES", []any{key, text})
			must(err)
			r.call("decryptAES", key, made)
			r.call("decryptAES", "other", made)
		}
	}
	for _, text := range []string{"not base64 !", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA==", base64.StdEncoding.EncodeToString(make([]byte, 33)), base64.StdEncoding.EncodeToString(make([]byte, 48))} {
		r.call("decryptAES", "key", text)
	}
}

func (r *cryptoRun) certificates() {
	r.call("genPrivateKey", "nosuch")
	b64 := func(name ref) string { return r.base64(name) }
	for _, key := range privateKeys {
		r.call("buildCustomCert", b64("leaf.crt.pem"), b64(key))
	}
	dsa := r.keep("dsa.pem", dsaKey())
	r.call("buildCustomCert", b64("leaf.crt.pem"), b64(dsa))
	r.call("buildCustomCert", "!", b64("ed25519.pem"))
	r.call("buildCustomCert", b64("leaf.crt.pem"), "!")
	r.call("buildCustomCert", "AAAA", b64("ed25519.pem"))
	r.call("buildCustomCert", b64("leaf.crt.pem"), "AAAA")
	r.call("buildCustomCert", b64("ed25519.pem"), b64("ed25519.pem"))
	r.call("buildCustomCert", b64("leaf.crt.pem"), b64("leaf.crt.pem"))
	r.call("buildCustomCert", b64("leaf.crt.pem"), base64.StdEncoding.EncodeToString([]byte("-----BEGIN X PRIVATE KEY-----\nAAAA\n-----END X PRIVATE KEY-----\n")))

	signers := []ref{"rsa2048.pem", "rsa2048-pkcs8.pem", "ed25519.pem", "prime256v1.pem", "secp384r1-pkcs8.pem", "secp521r1.pem"}
	for _, key := range signers {
		r.call("genCAWithKey", "ca.test", 365, key)
	}
	for _, key := range []ref{dsa, "x25519.pem", "leaf.crt.pem", "rsa512.pem"} {
		r.call("genCAWithKey", "ca.test", 365, key)
	}
	for _, name := range []string{"", "Käse", "a*b", "a@b", "a&b", "with space", "\xff", "it's (a) b+c,d-e.f/g:h=i?", "semi;colon", strings.Repeat("n", 200)} {
		r.call("genCAWithKey", name, 30, ref("ed25519.pem"))
	}
	for _, days := range []int{0, 1, -1, -10, 3650, 36500, 100000} {
		r.call("genCAWithKey", "days", days, ref("ed25519.pem"))
	}
	some := []any{"10.0.0.1", "::1", "2001:db8::1", "::ffff:1.2.3.4"}
	dns := []any{"a.test", "*.b.test", ""}
	r.call("genSelfSignedCertWithKey", "self.test", some, dns, 365, ref("ed25519.pem"))
	r.call("genSelfSignedCertWithKey", "self.test", []any{}, dns, 365, ref("ed25519.pem"))
	r.call("genSelfSignedCertWithKey", "self.test", some, []any{}, 365, ref("rsa2048.pem"))
	r.call("genSelfSignedCertWithKey", "self.test", []any{}, []any{}, 365, ref("ed25519.pem"))
	r.call("genSelfSignedCertWithKey", "", some, dns, 365, ref("ed25519.pem"))
	for _, ip := range []string{"", "x", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.256", "fe80::1%eth0", "1.2.3.4/8", "::1::"} {
		r.call("genSelfSignedCertWithKey", "self.test", []any{ip}, []any{}, 365, ref("ed25519.pem"))
	}
	r.call("genSelfSignedCertWithKey", "self.test", []any{}, []any{"Käse.test"}, 365, ref("ed25519.pem"))

	for _, key := range []ref{"ed25519.pem", "rsa2048.pem"} {
		made, err := r.apply("genCAWithKey", []any{"signer " + string(key), 365, key})
		must(err)
		cert := r.keep("ca-of-"+string(key), []byte(certOf(made)))
		ca := pair{cert, key}
		r.call("genSignedCertWithKey", "signed.test", some, dns, 365, ca, ref("prime256v1.pem"))
		r.call("genSignedCertWithKey", "signer "+string(key), []any{}, []any{}, 10, ca, key)
	}
	r.call("genSignedCertWithKey", "signed.test", []any{}, dns, 365, pair{"root.crt.pem", "prime256v1.pem"}, ref("ed25519.pem"))
	r.call("genSignedCertWithKey", "signed.test", []any{}, dns, 365, pair{"names.crt.pem", "ed25519.pem"}, ref("ed25519.pem"))
	r.call("genSignedCertWithKey", "signed.test", []any{}, dns, 365, pair{"root.crt.pem", "ed25519.pem"}, ref("ed25519.pem"))
	r.call("genSignedCertWithKey", "signed.test", []any{}, dns, 365, pair{"root.crt.pem", dsa}, ref("ed25519.pem"))
	r.call("genSignedCertWithKey", "signed.test", []any{}, dns, 365, pair{"root.crt.pem", "prime256v1.pem"}, "no key")
	r.call("genSignedCertWithKey", "signed.test", []any{}, dns, 365, pair{"root.crt.pem", "prime256v1.pem"}, dsa)
}

// dsaKey is in sprig's form of small numbers that make no key: only carried along.
func dsaKey() []byte {
	der, err := marshalIntegers(0, 23, 11, 4, 8, 7)
	must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "DSA PRIVATE KEY", Bytes: der})
}

func marshalIntegers(numbers ...int) ([]byte, error) { return asn1.Marshal(numbers) }
