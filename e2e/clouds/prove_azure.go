package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// Microsoft's official clients, with a login by an application's secret, do to the stand-in what they do to Azure.
func proveAzure(url, control, ca string) {
	ctx := context.Background()
	authority, err := os.ReadFile(ca)
	must(err == nil, "the certificate authority: %v", err)
	roots := x509.NewCertPool()
	must(roots.AppendCertsFromPEM(authority), "the certificate authority is no PEM")
	options := azcore.ClientOptions{
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: url},
		Transport: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}},
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}
	var login struct{ Tenant, Client, Secret string }
	response, err := http.Get(control + "/login")
	must(err == nil && json.NewDecoder(response.Body).Decode(&login) == nil, "the login: %v", err)
	credential := func(secret string) azcore.TokenCredential {
		made, err := azidentity.NewClientSecretCredential(login.Tenant, login.Client, secret, &azidentity.ClientSecretCredentialOptions{
			ClientOptions: options, DisableInstanceDiscovery: true,
		})
		must(err == nil, "the credential: %v", err)
		return made
	}
	client, err := azsecrets.NewClient(url, credential(login.Secret), &azsecrets.ClientOptions{ClientOptions: options, DisableChallengeResourceVerification: true})
	must(err == nil, "the client: %v", err)

	first, err := client.SetSecret(ctx, "proof", azsecrets.SetSecretParameters{Value: keep("one")}, nil)
	must(err == nil, "set: %v", err)
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	_, err = client.SetSecret(ctx, "proof", azsecrets.SetSecretParameters{
		Value: keep("two"), ContentType: keep("text/plain"), Tags: map[string]*string{"team": keep("a")},
		SecretAttributes: &azsecrets.SecretAttributes{Expires: &end},
	}, nil)
	must(err == nil, "set: %v", err)
	for version, want := range map[string]string{"": "two", first.ID.Version(): "one"} {
		found, err := client.GetSecret(ctx, "proof", version, nil)
		must(err == nil && *found.Value == want, "get %q: %v", version, err)
	}
	found, err := client.GetSecret(ctx, "proof", "", nil)
	must(err == nil && *found.ContentType == "text/plain" && *found.Tags["team"] == "a" && found.Attributes.Expires.Equal(end), "its attributes: %v", err)
	_, err = client.GetSecret(ctx, "nope", "", nil)
	refusedWith(err, http.StatusNotFound, "SecretNotFound")

	for _, name := range []string{"proof-1", "proof-2", "proof-3", "proof-4", "proof-5", "proof-6"} {
		_, err = client.SetSecret(ctx, name, azsecrets.SetSecretParameters{Value: keep("x")}, nil)
		must(err == nil, "set: %v", err)
	}
	names := map[string]bool{}
	for pager := client.NewListSecretPropertiesPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		must(err == nil, "list: %v", err)
		for _, secret := range page.Value {
			names[secret.ID.Name()] = true
		}
	}
	must(len(names) == 7 && names["proof"], "list over pages: %d secrets", len(names))

	_, err = client.DeleteSecret(ctx, "proof", nil)
	must(err == nil, "delete: %v", err)
	_, err = client.GetSecret(ctx, "proof", "", nil)
	refusedWith(err, http.StatusNotFound, "SecretNotFound")
	_, err = client.SetSecret(ctx, "proof", azsecrets.SetSecretParameters{Value: keep("three")}, nil)
	refusedWith(err, http.StatusConflict, "Conflict")
	gone, err := client.GetDeletedSecret(ctx, "proof", nil)
	must(err == nil && *gone.Tags["team"] == "a", "the deleted one: %v", err)
	_, err = client.RecoverDeletedSecret(ctx, "proof", nil)
	must(err == nil, "recover: %v", err)
	time.Sleep(1100 * time.Millisecond)
	found, err = client.GetSecret(ctx, "proof", "", nil)
	must(err == nil && *found.Value == "two", "after the recovery: %v", err)
	_, err = client.UpdateSecretProperties(ctx, "proof", found.ID.Version(), azsecrets.UpdateSecretPropertiesParameters{Tags: map[string]*string{"team": keep("b")}}, nil)
	must(err == nil, "update: %v", err)
	found, err = client.GetSecret(ctx, "proof", "", nil)
	must(err == nil && *found.Value == "two" && *found.Tags["team"] == "b" && *found.ContentType == "text/plain", "after the update: %v", err)

	turn(control, "/disable?name=proof-1")
	_, err = client.GetSecret(ctx, "proof-1", "", nil)
	refusedWith(err, http.StatusForbidden, "Forbidden")
	for fault, number := range map[string]int{"denied": http.StatusForbidden, "throttled": http.StatusTooManyRequests} {
		turn(control, "/fault?kind="+fault+"&wait=1")
		_, err = client.GetSecret(ctx, "proof", "", nil)
		refusedWith(err, number, "")
	}
	turn(control, "/fault")

	proveKeys(ctx, url, credential(login.Secret), options)
	proveCertificates(ctx, url, credential(login.Secret), options)

	stranger, err := azsecrets.NewClient(url, credential("another"), &azsecrets.ClientOptions{ClientOptions: options, DisableChallengeResourceVerification: true})
	must(err == nil, "the client: %v", err)
	_, err = stranger.GetSecret(ctx, "proof", "", nil)
	var notLoggedIn *azidentity.AuthenticationFailedError
	must(errors.As(err, &notLoggedIn), "a wrong login: %v", err)
}

func refusedWith(err error, number int, code string) {
	var refused *azcore.ResponseError
	must(errors.As(err, &refused) && refused.StatusCode == number && (code == "" || refused.ErrorCode == code), "not refused with %d %s: %v", number, code, err)
}

func proveKeys(ctx context.Context, url string, credential azcore.TokenCredential, options azcore.ClientOptions) {
	client, err := azkeys.NewClient(url, credential, &azkeys.ClientOptions{ClientOptions: options, DisableChallengeResourceVerification: true})
	must(err == nil, "the client: %v", err)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err == nil, "the key: %v", err)
	jwk := &azkeys.JSONWebKey{
		Kty: keep(azkeys.KeyTypeRSA), N: key.N.Bytes(), E: big.NewInt(int64(key.E)).Bytes(), D: key.D.Bytes(),
		P: key.Primes[0].Bytes(), Q: key.Primes[1].Bytes(),
		DP: key.Precomputed.Dp.Bytes(), DQ: key.Precomputed.Dq.Bytes(), QI: key.Precomputed.Qinv.Bytes(),
	}
	_, err = client.ImportKey(ctx, "proof", azkeys.ImportKeyParameters{Key: jwk, Tags: map[string]*string{"team": keep("a")}}, nil)
	must(err == nil, "import the key: %v", err)
	found, err := client.GetKey(ctx, "proof", "", nil)
	must(err == nil && bytes.Equal(found.Key.N, jwk.N) && found.Key.D == nil && *found.Tags["team"] == "a", "get the key: %v", err)
	_, err = client.DeleteKey(ctx, "proof", nil)
	must(err == nil, "delete the key: %v", err)
	_, err = client.GetKey(ctx, "proof", "", nil)
	refusedWith(err, http.StatusNotFound, "KeyNotFound")
}

func proveCertificates(ctx context.Context, url string, credential azcore.TokenCredential, options azcore.ClientOptions) {
	client, err := azcertificates.NewClient(url, credential, &azcertificates.ClientOptions{ClientOptions: options, DisableChallengeResourceVerification: true})
	must(err == nil, "the client: %v", err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err == nil, "the key: %v", err)
	wish := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "proof"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, wish, wish, &key.PublicKey, key)
	must(err == nil, "the certificate: %v", err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(err == nil, "the key: %v", err)
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	_, err = client.ImportCertificate(ctx, "proof", azcertificates.ImportCertificateParameters{
		Base64EncodedCertificate: keep(string(text)),
		CertificatePolicy:        &azcertificates.CertificatePolicy{SecretProperties: &azcertificates.SecretProperties{ContentType: keep("application/x-pem-file")}},
	}, nil)
	must(err == nil, "import the certificate: %v", err)
	found, err := client.GetCertificate(ctx, "proof", "", nil)
	must(err == nil && bytes.Equal(found.CER, der), "get the certificate: %v", err)
	_, err = client.DeleteCertificate(ctx, "proof", nil)
	must(err == nil, "delete the certificate: %v", err)
	_, err = client.GetCertificate(ctx, "proof", "", nil)
	refusedWith(err, http.StatusNotFound, "CertificateNotFound")
}
