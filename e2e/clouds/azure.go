package main

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	certfake "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	keyfake "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	secretfake "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets/fake"
)

// The tenant and the application that may log in.
const (
	tenant      = "e2e-tenant"
	application = "e2e-application"
)

// What Key Vault's refusals are called, as codes in its errors.
const (
	deletedButRecoverable = "ObjectIsDeletedButRecoverable"
	disabledSecret        = "SecretDisabled"
)

// An object of a vault with all its versions. One that was deleted can be recovered.
type kept[T any] struct {
	versions []T
	deleted  bool
}

// Azure: a Key Vault on Microsoft's generated stubs, and Entra ID.
type azure struct {
	switches switches
	base     string
	resource string
	secret   string
	mu       sync.Mutex
	tokens   map[string]string
	// When a recovered secret can be used again: that takes a while, as Azure does it.
	recovered    map[string]time.Time
	secrets      map[string]*kept[azsecrets.Secret]
	keys         map[string]*kept[azkeys.KeyBundle]
	certificates map[string]*kept[azcertificates.Certificate]
	transports   map[string]interface {
		Do(*http.Request) (*http.Response, error)
	}
}

func newAzure(base, resource string) *azure {
	if resource == "" {
		resource = base
	}
	a := &azure{
		base: base, resource: resource, secret: random(), tokens: map[string]string{}, recovered: map[string]time.Time{},
		secrets: map[string]*kept[azsecrets.Secret]{}, keys: map[string]*kept[azkeys.KeyBundle]{},
		certificates: map[string]*kept[azcertificates.Certificate]{},
	}
	a.transports = map[string]interface {
		Do(*http.Request) (*http.Response, error)
	}{
		"secrets":      secretfake.NewServerTransport(a.secretServer()),
		"keys":         keyfake.NewServerTransport(a.keyServer()),
		"certificates": certfake.NewServerTransport(a.certificateServer()),
	}
	return a
}

func (a *azure) id(kind, name, version string) string {
	return strings.TrimSuffix(fmt.Sprintf("%s/%s/%s/%s", a.base, kind, name, version), "/")
}

// The wanted version of an object; an empty one means the newest. Some of the stubs leave a version in the name.
func pick[T any](objects map[string]*kept[T], name, version string, id func(T) string) (T, bool) {
	var none T
	if first, rest, ok := strings.Cut(name, "/"); ok {
		name, version = first, rest
	}
	object := objects[name]
	if object == nil || object.deleted {
		return none, false
	}
	for i := len(object.versions) - 1; i >= 0; i-- {
		if found := object.versions[i]; version == "" || strings.HasSuffix(id(found), "/"+version) {
			return found, true
		}
	}
	return none, false
}

// Adds a version, unless the object is deleted.
func add[T any](objects map[string]*kept[T], name string, version T) bool {
	object := objects[name]
	if object == nil {
		object = &kept[T]{}
		objects[name] = object
	}
	if object.deleted {
		return false
	}
	object.versions = append(object.versions, version)
	return true
}

// Deletes or recovers an object, and returns its newest version.
func become[T any](objects map[string]*kept[T], name string, deleted bool) (T, bool) {
	var none T
	object := objects[name]
	if object == nil || object.deleted == deleted || len(object.versions) == 0 {
		return none, false
	}
	object.deleted = deleted
	return object.versions[len(object.versions)-1], true
}

func secretID(s azsecrets.Secret) string                { return string(*s.ID) }
func keyID(k azkeys.KeyBundle) string                   { return string(*k.Key.KID) }
func certificateID(c azcertificates.Certificate) string { return string(*c.ID) }

func (a *azure) set(name string, asked azsecrets.SetSecretParameters) (azsecrets.Secret, string) {
	id, now := azsecrets.ID(a.id("secrets", name, random())), time.Now().Truncate(time.Second)
	attributes := &azsecrets.SecretAttributes{Enabled: keep(true)}
	if asked.SecretAttributes != nil {
		attributes = asked.SecretAttributes
		if attributes.Enabled == nil {
			attributes.Enabled = keep(true)
		}
	}
	attributes.Created, attributes.Updated, attributes.RecoveryLevel = &now, &now, keep("Recoverable+Purgeable")
	made := azsecrets.Secret{ID: &id, Value: asked.Value, Tags: asked.Tags, ContentType: asked.ContentType, Attributes: attributes}
	if len(*asked.Value) > 25600 {
		return made, "BadParameter"
	}
	if !add(a.secrets, name, made) {
		return made, deletedButRecoverable
	}
	return made, ""
}

func (a *azure) secretServer() *secretfake.Server {
	return &secretfake.Server{
		SetSecret: func(_ context.Context, name string, asked azsecrets.SetSecretParameters, _ *azsecrets.SetSecretOptions) (r azfake.Responder[azsecrets.SetSecretResponse], e azfake.ErrorResponder) {
			a.mu.Lock()
			defer a.mu.Unlock()
			switch made, refusal := a.set(name, asked); refusal {
			case "":
				r.SetResponse(http.StatusOK, azsecrets.SetSecretResponse{Secret: made}, nil)
			case deletedButRecoverable:
				e.SetResponseError(http.StatusConflict, refusal)
			default:
				e.SetResponseError(http.StatusBadRequest, refusal)
			}
			return
		},
		GetSecret: func(_ context.Context, name, version string, _ *azsecrets.GetSecretOptions) (r azfake.Responder[azsecrets.GetSecretResponse], e azfake.ErrorResponder) {
			a.mu.Lock()
			defer a.mu.Unlock()
			found, ok := pick(a.secrets, name, version, secretID)
			switch {
			case !ok || time.Now().Before(a.recovered[name]):
				e.SetResponseError(http.StatusNotFound, "SecretNotFound")
			case !*found.Attributes.Enabled:
				e.SetResponseError(http.StatusForbidden, disabledSecret)
			default:
				r.SetResponse(http.StatusOK, azsecrets.GetSecretResponse{Secret: found}, nil)
			}
			return
		},
		DeleteSecret: func(_ context.Context, name string, _ *azsecrets.DeleteSecretOptions) (r azfake.Responder[azsecrets.DeleteSecretResponse], e azfake.ErrorResponder) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if found, ok := become(a.secrets, name, true); ok {
				gone := azsecrets.DeletedSecret{ID: found.ID, Tags: found.Tags, Attributes: found.Attributes, RecoveryID: keep(a.id("deletedsecrets", name, ""))}
				r.SetResponse(http.StatusOK, azsecrets.DeleteSecretResponse{DeletedSecret: gone}, nil)
			} else {
				e.SetResponseError(http.StatusNotFound, "SecretNotFound")
			}
			return
		},
		GetDeletedSecret: func(_ context.Context, name string, _ *azsecrets.GetDeletedSecretOptions) (r azfake.Responder[azsecrets.GetDeletedSecretResponse], e azfake.ErrorResponder) {
			a.mu.Lock()
			defer a.mu.Unlock()
			object := a.secrets[name]
			if object == nil || !object.deleted {
				e.SetResponseError(http.StatusNotFound, "SecretNotFound")
				return
			}
			newest := object.versions[len(object.versions)-1]
			gone := azsecrets.DeletedSecret{ID: newest.ID, Tags: newest.Tags, Attributes: newest.Attributes, RecoveryID: keep(a.id("deletedsecrets", name, ""))}
			r.SetResponse(http.StatusOK, azsecrets.GetDeletedSecretResponse{DeletedSecret: gone}, nil)
			return
		},
		UpdateSecretProperties: func(_ context.Context, name, version string, asked azsecrets.UpdateSecretPropertiesParameters, _ *azsecrets.UpdateSecretPropertiesOptions) (r azfake.Responder[azsecrets.UpdateSecretPropertiesResponse], e azfake.ErrorResponder) {
			a.mu.Lock()
			defer a.mu.Unlock()
			found, ok := pick(a.secrets, name, version, secretID)
			if !ok {
				e.SetResponseError(http.StatusNotFound, "SecretNotFound")
				return
			}
			for i, held := range a.secrets[name].versions {
				if secretID(held) == secretID(found) {
					change(&a.secrets[name].versions[i], asked)
					found = a.secrets[name].versions[i]
				}
			}
			found.Value = nil
			r.SetResponse(http.StatusOK, azsecrets.UpdateSecretPropertiesResponse{Secret: found}, nil)
			return
		},
		RecoverDeletedSecret: func(_ context.Context, name string, _ *azsecrets.RecoverDeletedSecretOptions) (r azfake.Responder[azsecrets.RecoverDeletedSecretResponse], e azfake.ErrorResponder) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if found, ok := become(a.secrets, name, false); ok {
				a.recovered[name] = time.Now().Add(time.Second)
				found.Value = nil
				r.SetResponse(http.StatusOK, azsecrets.RecoverDeletedSecretResponse{Secret: found}, nil)
			} else {
				e.SetResponseError(http.StatusNotFound, "SecretNotFound")
			}
			return
		},
		NewListSecretPropertiesPager: func(*azsecrets.ListSecretPropertiesOptions) (r azfake.PagerResponder[azsecrets.ListSecretPropertiesResponse]) {
			a.mu.Lock()
			defer a.mu.Unlock()
			var all []*azsecrets.SecretProperties
			for name, object := range a.secrets {
				if object.deleted {
					continue
				}
				newest := object.versions[len(object.versions)-1]
				id := azsecrets.ID(a.id("secrets", name, ""))
				all = append(all, &azsecrets.SecretProperties{ID: &id, Attributes: newest.Attributes, Tags: newest.Tags, ContentType: newest.ContentType})
			}
			sort.Slice(all, func(i, j int) bool { return *all[i].ID < *all[j].ID })
			pages := slices.Collect(slices.Chunk(all, 3))
			if len(pages) == 0 {
				pages = [][]*azsecrets.SecretProperties{{}}
			}
			for _, page := range pages {
				list := azsecrets.SecretPropertiesListResult{Value: page}
				r.AddPage(http.StatusOK, azsecrets.ListSecretPropertiesResponse{SecretPropertiesListResult: list}, nil)
			}
			return
		},
	}
}

// Changes of a version what is asked for, and leaves the rest.
func change(secret *azsecrets.Secret, asked azsecrets.UpdateSecretPropertiesParameters) {
	if asked.Tags != nil {
		secret.Tags = asked.Tags
	}
	if asked.ContentType != nil {
		secret.ContentType = asked.ContentType
	}
	if asked.SecretAttributes != nil && asked.SecretAttributes.Expires != nil {
		secret.Attributes.Expires = asked.SecretAttributes.Expires
	}
}

func (a *azure) keyServer() *keyfake.Server {
	return &keyfake.Server{
		ImportKey: func(_ context.Context, name string, asked azkeys.ImportKeyParameters, _ *azkeys.ImportKeyOptions) (r azfake.Responder[azkeys.ImportKeyResponse], e azfake.ErrorResponder) {
			a.mu.Lock()
			defer a.mu.Unlock()
			id := azkeys.ID(a.id("keys", name, random()))
			// A vault keeps the private half to itself.
			public := &azkeys.JSONWebKey{KID: &id, Kty: asked.Key.Kty, KeyOps: asked.Key.KeyOps, N: asked.Key.N, E: asked.Key.E, Crv: asked.Key.Crv, X: asked.Key.X, Y: asked.Key.Y}
			whole := asked.Key.Kty != nil && (len(asked.Key.D) > 0 && (len(asked.Key.P) > 0 || len(asked.Key.X) > 0) || len(asked.Key.K) > 0)
			made := azkeys.KeyBundle{Key: public, Tags: asked.Tags, Attributes: &azkeys.KeyAttributes{Enabled: keep(true), Created: keep(time.Now())}}
			switch {
			case !whole:
				e.SetResponseError(http.StatusBadRequest, "BadParameter")
			case !add(a.keys, name, made):
				e.SetResponseError(http.StatusConflict, deletedButRecoverable)
			default:
				r.SetResponse(http.StatusOK, azkeys.ImportKeyResponse{KeyBundle: made}, nil)
			}
			return
		},
		GetKey: func(_ context.Context, name, version string, _ *azkeys.GetKeyOptions) (r azfake.Responder[azkeys.GetKeyResponse], e azfake.ErrorResponder) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if found, ok := pick(a.keys, name, version, keyID); ok {
				r.SetResponse(http.StatusOK, azkeys.GetKeyResponse{KeyBundle: found}, nil)
			} else {
				e.SetResponseError(http.StatusNotFound, "KeyNotFound")
			}
			return
		},
		DeleteKey: func(_ context.Context, name string, _ *azkeys.DeleteKeyOptions) (r azfake.Responder[azkeys.DeleteKeyResponse], e azfake.ErrorResponder) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if found, ok := become(a.keys, name, true); ok {
				r.SetResponse(http.StatusOK, azkeys.DeleteKeyResponse{DeletedKey: azkeys.DeletedKey{Key: found.Key, Tags: found.Tags}}, nil)
			} else {
				e.SetResponseError(http.StatusNotFound, "KeyNotFound")
			}
			return
		},
	}
}

func (a *azure) certificateServer() *certfake.Server {
	return &certfake.Server{
		ImportCertificate: func(_ context.Context, name string, asked azcertificates.ImportCertificateParameters, _ *azcertificates.ImportCertificateOptions) (r azfake.Responder[azcertificates.ImportCertificateResponse], e azfake.ErrorResponder) {
			a.mu.Lock()
			defer a.mu.Unlock()
			der, err := importable(asked)
			id := azcertificates.ID(a.id("certificates", name, random()))
			made := azcertificates.Certificate{ID: &id, CER: der, Tags: asked.Tags, Policy: asked.CertificatePolicy, Attributes: &azcertificates.CertificateAttributes{Enabled: keep(true), Created: keep(time.Now())}}
			switch {
			case err != nil:
				e.SetResponseError(http.StatusBadRequest, "BadParameter")
			case !add(a.certificates, name, made):
				e.SetResponseError(http.StatusConflict, deletedButRecoverable)
			default:
				r.SetResponse(http.StatusOK, azcertificates.ImportCertificateResponse{Certificate: made}, nil)
			}
			return
		},
		GetCertificate: func(_ context.Context, name, version string, _ *azcertificates.GetCertificateOptions) (r azfake.Responder[azcertificates.GetCertificateResponse], e azfake.ErrorResponder) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if found, ok := pick(a.certificates, name, version, certificateID); ok {
				r.SetResponse(http.StatusOK, azcertificates.GetCertificateResponse{Certificate: found}, nil)
			} else {
				e.SetResponseError(http.StatusNotFound, "CertificateNotFound")
			}
			return
		},
		DeleteCertificate: func(_ context.Context, name string, _ *azcertificates.DeleteCertificateOptions) (r azfake.Responder[azcertificates.DeleteCertificateResponse], e azfake.ErrorResponder) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if found, ok := become(a.certificates, name, true); ok {
				gone := azcertificates.DeletedCertificate{ID: found.ID, CER: found.CER, Tags: found.Tags}
				r.SetResponse(http.StatusOK, azcertificates.DeleteCertificateResponse{DeletedCertificate: gone}, nil)
			} else {
				e.SetResponseError(http.StatusNotFound, "CertificateNotFound")
			}
			return
		},
	}
}

// The certificate of an import in PEM, which must come with its private key.
func importable(asked azcertificates.ImportCertificateParameters) ([]byte, error) {
	policy := asked.CertificatePolicy
	if policy == nil || policy.SecretProperties == nil || policy.SecretProperties.ContentType == nil || *policy.SecretProperties.ContentType != "application/x-pem-file" {
		return nil, errors.New("only PEM is understood here")
	}
	var der []byte
	var key bool
	for rest := []byte(*asked.Base64EncodedCertificate); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" && der == nil {
			der = block.Bytes
		}
		key = key || strings.HasSuffix(block.Type, "PRIVATE KEY")
	}
	if !key {
		return nil, errors.New("no private key")
	}
	_, err := x509.ParseCertificate(der)
	return der, err
}

func (a *azure) login() any {
	return map[string]string{"tenant": tenant, "client": application, "secret": a.secret}
}

func pointers(tags map[string]string) map[string]*string {
	all := map[string]*string{}
	for name, value := range tags {
		all[name] = &value
	}
	return all
}

func values(tags map[string]*string) map[string]string {
	all := map[string]string{}
	for name, value := range tags {
		all[name] = *value
	}
	return all
}

func (a *azure) put(name, value string, tags map[string]string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, refusal := a.set(name, azsecrets.SetSecretParameters{Value: &value, Tags: pointers(tags)}); refusal != "" {
		return errors.New(refusal)
	}
	return nil
}

// `key/name` and `cert/name` look at keys and certificates.
func (a *azure) look(name string) (held, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if key, ok := strings.CutPrefix(name, "key/"); ok {
		found, ok := pick(a.keys, key, "", keyID)
		if !ok {
			return held{}, false
		}
		detail := map[string]any{"kty": found.Key.Kty, "n": base64.RawURLEncoding.EncodeToString(found.Key.N)}
		return held{Tags: values(found.Tags), Versions: len(a.keys[key].versions), Detail: detail}, true
	}
	if certificate, ok := strings.CutPrefix(name, "cert/"); ok {
		found, ok := pick(a.certificates, certificate, "", certificateID)
		if !ok {
			return held{}, false
		}
		return held{Value: hex.EncodeToString(found.CER), Tags: values(found.Tags), Versions: len(a.certificates[certificate].versions)}, true
	}
	found, ok := pick(a.secrets, name, "", secretID)
	if !ok {
		return held{}, false
	}
	detail := map[string]any{"contentType": found.ContentType, "expires": found.Attributes.Expires, "version": found.ID.Version()}
	return held{Value: *found.Value, Tags: values(found.Tags), Versions: len(a.secrets[name].versions), Detail: detail}, true
}

func (a *azure) disable(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	found, ok := pick(a.secrets, name, "", secretID)
	if !ok {
		return errors.New("no such secret")
	}
	*found.Attributes.Enabled = false
	return nil
}

func (a *azure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.switches.recorded(w, r, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/" + tenant + "/v2.0/.well-known/openid-configuration":
			at := a.base + "/" + tenant
			answer(w, http.StatusOK, map[string]string{
				"token_endpoint": at + "/oauth2/v2.0/token", "authorization_endpoint": at + "/oauth2/v2.0/authorize",
				"issuer": at + "/v2.0", "jwks_uri": at + "/discovery/v2.0/keys",
			})
		case "/" + tenant + "/oauth2/v2.0/token":
			a.entra(w, r)
		default:
			a.vault(w, r)
		}
	})
}

// The token endpoint: for the application's secret, or for a token of a ServiceAccount that the application trusts.
func (a *azure) entra(w http.ResponseWriter, r *http.Request) {
	assertion := r.FormValue("client_assertion")
	trusted := false
	if found, err := claims(assertion, nil); err == nil {
		audiences, _ := found["aud"].([]any)
		subject, _ := found["sub"].(string)
		trusted = slices.Contains(audiences, any("api://AzureADTokenExchange")) && strings.HasPrefix(subject, "system:serviceaccount:")
	}
	scope, isDefault := strings.CutSuffix(r.FormValue("scope"), "/.default")
	// MSAL asks for these besides.
	scope, _, _ = strings.Cut(scope, " ")
	good := r.FormValue("grant_type") == "client_credentials" && r.FormValue("client_id") == application && (trusted || r.FormValue("client_secret") == a.secret)
	if !good || (!isDefault && !strings.Contains(r.FormValue("scope"), "/.default")) {
		text := "AADSTS7000215: Invalid client secret provided: " + r.FormValue("client_secret") + assertion
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client", "error_description": text, "error_codes": []int{7000215}})
		return
	}
	token := "eyJ0." + random()
	a.mu.Lock()
	a.tokens[token] = strings.TrimSuffix(scope, "/.default")
	a.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token})
}

func (a *azure) knows(r *http.Request) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	scope, ok := a.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	return ok && scope == a.resource
}

// Key Vault's own form of a refusal: the outer code is coarse, the inner one tells.
func (a *azure) refuse(w http.ResponseWriter, number int, code string) {
	outer := map[int]string{400: "BadParameter", 401: "Unauthorized", 403: "Forbidden", 409: "Conflict", 429: "Throttled", 503: "ServiceUnavailable"}[number]
	if outer == "" {
		outer = code
	}
	inner := map[string]string{"code": code}
	answer(w, number, map[string]any{"error": map[string]any{"code": outer, "message": "The request was refused: " + code, "innererror": inner}})
}

func (a *azure) vault(w http.ResponseWriter, r *http.Request) {
	if !a.knows(r) {
		challenge := fmt.Sprintf(`Bearer authorization="%s/%s", resource="%s"`, a.base, tenant, a.resource)
		w.Header().Set("WWW-Authenticate", challenge)
		a.refuse(w, http.StatusUnauthorized, "AKV10000")
		return
	}
	fault, wait := a.switches.current()
	switch fault {
	case "denied":
		a.refuse(w, http.StatusForbidden, "ForbiddenByPolicy")
		return
	case "throttled":
		w.Header().Set("Retry-After", wait)
		a.refuse(w, http.StatusTooManyRequests, "VaultRequestTypeLimitReached")
		return
	case "broken":
		a.refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable")
		return
	}
	kind, method := operation(r)
	transport := a.transports[kind]
	if transport == nil || method == "" || r.URL.Query().Get("api-version") == "" {
		a.refuse(w, http.StatusBadRequest, "BadParameter")
		return
	}
	inner := r.Clone(context.WithValue(r.Context(), runtime.CtxAPINameKey{}, "Client."+method))
	inner.URL, _ = url.Parse(a.base + r.URL.RequestURI())
	// Microsoft's clients end the path with a slash where they ask for no version; the stubs take that for part of a name.
	inner.URL.Path = strings.TrimSuffix(inner.URL.Path, "/")
	response, err := transport.Do(inner)
	var refused *azcore.ResponseError
	if errors.As(err, &refused) {
		a.refuse(w, refused.StatusCode, refused.ErrorCode)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer response.Body.Close()
	if code := response.Header.Get("X-Ms-Error-Code"); code != "" {
		a.refuse(w, response.StatusCode, code)
		return
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || !json.Valid(body) {
		http.Error(w, "the stubs gave no JSON", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(response.StatusCode)
	_, _ = w.Write(body)
}

// The kind of object that a request is about, and the method of Microsoft's client that sends such requests.
func operation(r *http.Request) (kind, method string) {
	steps := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	kind, deleted := strings.CutPrefix(steps[0], "deleted")
	one := map[string]string{"secrets": "Secret", "keys": "Key", "certificates": "Certificate"}[kind]
	last := steps[len(steps)-1]
	switch {
	case deleted && r.Method == http.MethodPost && len(steps) == 3 && last == "recover":
		return kind, "RecoverDeleted" + one
	case deleted && r.Method == http.MethodGet && len(steps) == 2 && kind == "secrets":
		return kind, "GetDeletedSecret"
	case deleted:
		return kind, ""
	case r.Method == http.MethodPatch && len(steps) == 3 && kind == "secrets":
		return kind, "UpdateSecretProperties"
	case r.Method == http.MethodGet && kind == "secrets" && (len(steps) == 1 || strings.HasPrefix(last, "fake_page_")):
		return kind, "NewListSecretPropertiesPager"
	case r.Method == http.MethodGet && (len(steps) == 2 || len(steps) == 3):
		return kind, "Get" + one
	case r.Method == http.MethodPut && len(steps) == 2 && kind == "secrets":
		return kind, "SetSecret"
	case r.Method == http.MethodPut && len(steps) == 2 && kind == "keys":
		return kind, "ImportKey"
	case r.Method == http.MethodPost && len(steps) == 3 && last == "import" && kind == "certificates":
		return kind, "ImportCertificate"
	case r.Method == http.MethodDelete && len(steps) == 2:
		return kind, "Delete" + one
	}
	return kind, ""
}
