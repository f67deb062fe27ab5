package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// The project of all secrets that a test arranges.
const project = "e2e-project"

// The service account whose key the stand-in hands out, and that may be impersonated.
const account = "reader@e2e-project.iam.gserviceaccount.com"

// Google: its Secret Manager over REST, and its logins.
type google struct {
	switches switches
	service  *secretManager
	base     string
	key      *rsa.PrivateKey
	mu       sync.Mutex
	// Access tokens, and what each came from: "key", "federation" or "impersonation".
	tokens map[string]string
}

func newGoogle(base string) *google {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		log.Fatal(err)
	}
	return &google{service: newSecretManager(), base: base, key: key, tokens: map[string]string{}}
}

func random() string {
	bytes := make([]byte, 16)
	_, _ = rand.Read(bytes)
	return hex.EncodeToString(bytes)
}

func (g *google) grant(origin string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	token := "ya29." + random()
	g.tokens[token] = origin
	return token
}

func (g *google) origin(r *http.Request) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
}

// A service account's key, as Google makes its file.
func (g *google) login() any {
	der, err := x509.MarshalPKCS8PrivateKey(g.key)
	if err != nil {
		log.Fatal(err)
	}
	return map[string]string{
		"type": "service_account", "project_id": project, "private_key_id": "k1", "client_email": account, "client_id": "1",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   g.base + "/token",
	}
}

func (g *google) put(name, value string, tags map[string]string) error {
	ctx, parent := context.Background(), "projects/"+project
	automatic := &pb.Replication{Replication: &pb.Replication_Automatic_{Automatic: &pb.Replication_Automatic{}}}
	_, err := g.service.CreateSecret(ctx, &pb.CreateSecretRequest{
		Parent: parent, SecretId: name, Secret: &pb.Secret{Labels: tags, Replication: automatic},
	})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return err
	}
	secret := parent + "/secrets/" + name
	_, err = g.service.AddSecretVersion(ctx, &pb.AddSecretVersionRequest{Parent: secret, Payload: &pb.SecretPayload{Data: []byte(value)}})
	return err
}

func (g *google) look(name string) (held, bool) {
	g.service.mu.Lock()
	defer g.service.mu.Unlock()
	secret := g.service.secrets["projects/"+project+"/secrets/"+name]
	if secret == nil {
		return held{}, false
	}
	found := held{Tags: secret.meta.Labels, Versions: len(secret.versions), Detail: map[string]any{
		"annotations": secret.meta.Annotations, "replication": secret.meta.Replication.String(),
	}}
	if n := len(secret.versions); n > 0 {
		found.Value = string(secret.versions[n-1].data)
	}
	return found, true
}

func (g *google) disable(name string) error {
	_, err := g.service.become("projects/"+project+"/secrets/"+name+"/versions/latest", pb.SecretVersion_DISABLED)
	return err
}

func (g *google) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.switches.recorded(w, r, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			g.exchangeKey(w, r)
		case r.URL.Path == "/v1/token":
			g.exchangeToken(w, r)
		case strings.HasSuffix(r.URL.Path, ":generateAccessToken"):
			g.impersonate(w, r)
		default:
			g.serveSecrets(w, r)
		}
	})
}

func granted(w http.ResponseWriter, token string) {
	answer(w, http.StatusOK, map[string]any{"access_token": token, "expires_in": 3599, "token_type": "Bearer"})
}

func notGranted(w http.ResponseWriter, why string) {
	answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant", "error_description": why})
}

// The claims of a token; with a key, only if it signed them.
func claims(token string, key *rsa.PublicKey) (map[string]any, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errors.New("this is no JWT")
	}
	if key != nil {
		signature, err := base64.RawURLEncoding.DecodeString(parts[2])
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature); err != nil {
			return nil, err
		}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, err
	}
	var found map[string]any
	if err := json.Unmarshal(payload, &found); err != nil {
		return nil, err
	}
	if end, _ := found["exp"].(float64); end < float64(time.Now().Unix()) {
		return nil, errors.New("the token has expired")
	}
	return found, nil
}

// RFC 7523: a key signs that it is the service account.
func (g *google) exchangeKey(w http.ResponseWriter, r *http.Request) {
	found, err := claims(r.FormValue("assertion"), &g.key.PublicKey)
	switch {
	case r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
		notGranted(w, "another grant_type")
	case err != nil:
		notGranted(w, err.Error())
	case found["iss"] != account || found["aud"] != g.base+"/token":
		notGranted(w, "another issuer or audience")
	default:
		granted(w, g.grant("key"))
	}
}

// RFC 8693: the pool takes tokens of ServiceAccounts that are for it.
func (g *google) exchangeToken(w http.ResponseWriter, r *http.Request) {
	found, err := claims(r.FormValue("subject_token"), nil)
	audience := r.FormValue("audience")
	var audiences []string
	switch aud := found["aud"].(type) {
	case string:
		audiences = []string{aud}
	case []any:
		for _, one := range aud {
			text, _ := one.(string)
			audiences = append(audiences, text)
		}
	}
	subject, _ := found["sub"].(string)
	switch {
	case r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange":
		notGranted(w, "another grant_type")
	case err != nil:
		notGranted(w, err.Error())
	case !strings.HasPrefix(audience, "//iam.googleapis.com/projects/") || !slices.Contains(audiences, "https:"+audience):
		notGranted(w, "the token is not for the pool")
	case !strings.HasPrefix(subject, "system:serviceaccount:"):
		notGranted(w, "the token is of nobody that the pool knows")
	default:
		granted(w, g.grant("federation"))
	}
}

func (g *google) impersonate(w http.ResponseWriter, r *http.Request) {
	if g.origin(r) != "federation" || r.URL.Path != "/v1/projects/-/serviceAccounts/"+account+":generateAccessToken" {
		refuse(w, status.Error(codes.PermissionDenied, "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist)."), "")
		return
	}
	end := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	answer(w, http.StatusOK, map[string]string{"accessToken": g.grant("impersonation"), "expireTime": end})
}

// How Google's front end tells a code of gRPC over HTTP.
var httpStatus = map[codes.Code]int{
	codes.InvalidArgument: 400, codes.FailedPrecondition: 400, codes.Unauthenticated: 401, codes.PermissionDenied: 403,
	codes.NotFound: 404, codes.AlreadyExists: 409, codes.Aborted: 409, codes.ResourceExhausted: 429, codes.Unimplemented: 501,
	codes.Unavailable: 503,
}

// The code as it stands in JSON.
var statusName = map[codes.Code]string{
	codes.InvalidArgument: "INVALID_ARGUMENT", codes.FailedPrecondition: "FAILED_PRECONDITION", codes.Unauthenticated: "UNAUTHENTICATED",
	codes.PermissionDenied: "PERMISSION_DENIED", codes.NotFound: "NOT_FOUND", codes.AlreadyExists: "ALREADY_EXISTS", codes.Aborted: "ABORTED",
	codes.ResourceExhausted: "RESOURCE_EXHAUSTED", codes.Unimplemented: "UNIMPLEMENTED", codes.Unavailable: "UNAVAILABLE",
}

func refuse(w http.ResponseWriter, err error, wait string) {
	code := status.Code(err)
	number := httpStatus[code]
	if number == 0 {
		number = http.StatusInternalServerError
	}
	if wait != "" {
		w.Header().Set("Retry-After", wait)
	}
	answer(w, number, map[string]any{"error": map[string]any{"code": number, "message": status.Convert(err).Message(), "status": statusName[code]}})
}

func (g *google) serveSecrets(w http.ResponseWriter, r *http.Request) {
	if g.origin(r) == "" {
		refuse(w, status.Error(codes.Unauthenticated, "Request had invalid authentication credentials: "+r.Header.Get("Authorization")), "")
		return
	}
	fault, wait := g.switches.current()
	switch fault {
	case "denied":
		refuse(w, status.Error(codes.PermissionDenied, "Permission denied on resource (or it may not exist)."), "")
		return
	case "throttled":
		refuse(w, status.Error(codes.ResourceExhausted, "Quota exceeded for quota metric 'Access requests'."), wait)
		return
	case "broken":
		refuse(w, status.Error(codes.Unavailable, "The service is currently unavailable."), "")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	found, err := g.route(r, body)
	if err != nil {
		refuse(w, err, "")
		return
	}
	text, err := protojson.Marshal(found)
	if err != nil {
		refuse(w, err, "")
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	_, _ = w.Write(text)
}

var resource = regexp.MustCompile(`^/v1/(projects/[^/]+(?:/locations/[^/]+)?)/secrets(?:/([^/:]+)(/versions(?:/([^/:]+))?)?)?(?::([A-Za-z]+))?$`)

// The transcoding of the service's HTTP rules.
func (g *google) route(r *http.Request, body []byte) (proto.Message, error) {
	parts := resource.FindStringSubmatch(r.URL.Path)
	if parts == nil {
		return nil, status.Error(codes.Unimplemented, "no such method: "+r.URL.Path)
	}
	ctx, query, parent, id, verb := r.Context(), r.URL.Query(), parts[1], parts[2], parts[5]
	name := parent + "/secrets/" + id
	version := name + "/versions/" + parts[4]
	read := func(into proto.Message) error {
		if err := protojson.Unmarshal(body, into); err != nil {
			return status.Error(codes.InvalidArgument, "the body is not what the method takes")
		}
		return nil
	}
	kind := "secrets"
	switch {
	case parts[4] != "":
		kind = "version"
	case parts[3] != "":
		kind = "versions"
	case id != "":
		kind = "secret"
	}
	switch r.Method + " " + kind + " " + verb {
	case "GET secrets ":
		size, _ := strconv.Atoi(query.Get("pageSize"))
		return g.service.ListSecrets(ctx, &pb.ListSecretsRequest{
			Parent: parent, Filter: query.Get("filter"), PageToken: query.Get("pageToken"), PageSize: int32(size),
		})
	case "POST secrets ":
		secret := &pb.Secret{}
		if err := read(secret); err != nil {
			return nil, err
		}
		return g.service.CreateSecret(ctx, &pb.CreateSecretRequest{Parent: parent, SecretId: query.Get("secretId"), Secret: secret})
	case "GET secret ":
		return g.service.GetSecret(ctx, &pb.GetSecretRequest{Name: name})
	case "PATCH secret ":
		secret := &pb.Secret{}
		if err := read(secret); err != nil {
			return nil, err
		}
		secret.Name = name
		mask := &fieldmaskpb.FieldMask{Paths: strings.Split(query.Get("updateMask"), ",")}
		return g.service.UpdateSecret(ctx, &pb.UpdateSecretRequest{Secret: secret, UpdateMask: mask})
	case "DELETE secret ":
		return g.service.DeleteSecret(ctx, &pb.DeleteSecretRequest{Name: name, Etag: query.Get("etag")})
	case "POST secret addVersion":
		asked := &pb.AddSecretVersionRequest{}
		if err := read(asked); err != nil {
			return nil, err
		}
		asked.Parent = name
		return g.service.AddSecretVersion(ctx, asked)
	case "GET versions ":
		return g.service.ListSecretVersions(ctx, &pb.ListSecretVersionsRequest{Parent: name, Filter: query.Get("filter")})
	case "GET version ":
		return g.service.GetSecretVersion(ctx, &pb.GetSecretVersionRequest{Name: version})
	case "GET version access":
		return g.service.AccessSecretVersion(ctx, &pb.AccessSecretVersionRequest{Name: version})
	case "POST version disable":
		return g.service.DisableSecretVersion(ctx, &pb.DisableSecretVersionRequest{Name: version})
	case "POST version enable":
		return g.service.EnableSecretVersion(ctx, &pb.EnableSecretVersionRequest{Name: version})
	case "POST version destroy":
		return g.service.DestroySecretVersion(ctx, &pb.DestroySecretVersionRequest{Name: version})
	}
	return nil, status.Error(codes.Unimplemented, "no such method: "+r.Method+" "+r.URL.Path)
}
