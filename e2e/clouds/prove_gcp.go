package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	secretmanager "cloud.google.com/go/secretmanager/apiv1"
	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"golang.org/x/oauth2"
	oauthgoogle "golang.org/x/oauth2/google"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// Google's official client, over REST, with a login by a service account's key, does to the stand-in what it does to Google.
func proveGoogle(url, control string) {
	ctx := context.Background()
	response, err := http.Get(control + "/login")
	must(err == nil, "the key: %v", err)
	key, err := io.ReadAll(response.Body)
	must(err == nil && json.Valid(key), "the key: %v", err)
	config, err := oauthgoogle.JWTConfigFromJSON(key, "https://www.googleapis.com/auth/cloud-platform")
	must(err == nil, "the key: %v", err)
	client, err := secretmanager.NewRESTClient(ctx, option.WithEndpoint(url), option.WithTokenSource(config.TokenSource(ctx)))
	must(err == nil, "the client: %v", err)
	parent, secret := "projects/"+project, "projects/"+project+"/secrets/proof"

	automatic := &pb.Replication{Replication: &pb.Replication_Automatic_{Automatic: &pb.Replication_Automatic{}}}
	for i, name := range []string{"proof", "proof-1", "proof-2", "proof-3", "proof-4"} {
		team := []string{"a", "b"}[i%2]
		made, err := client.CreateSecret(ctx, &pb.CreateSecretRequest{
			Parent: parent, SecretId: name, Secret: &pb.Secret{Labels: map[string]string{"team": team}, Replication: automatic},
		})
		must(err == nil && made.GetLabels()["team"] == team, "create %s: %v", name, err)
	}
	for _, value := range []string{"one", "two\x00\xff"} {
		_, err = client.AddSecretVersion(ctx, &pb.AddSecretVersionRequest{Parent: secret, Payload: &pb.SecretPayload{
			Data: []byte(value), DataCrc32C: keep(checksum([]byte(value))),
		}})
		must(err == nil, "add: %v", err)
	}
	access := func(version string) (*pb.AccessSecretVersionResponse, error) {
		return client.AccessSecretVersion(ctx, &pb.AccessSecretVersionRequest{Name: secret + "/versions/" + version})
	}
	for version, want := range map[string]string{"latest": "two\x00\xff", "1": "one", "2": "two\x00\xff"} {
		found, err := access(version)
		must(err == nil && string(found.GetPayload().GetData()) == want, "access %s: %v", version, err)
		must(found.Payload.GetDataCrc32C() == checksum([]byte(want)), "the checksum of %s", version)
	}
	_, err = access("9")
	must(codeOf(err) == codes.NotFound, "a missing version: %v", err)
	_, err = client.DisableSecretVersion(ctx, &pb.DisableSecretVersionRequest{Name: secret + "/versions/2"})
	must(err == nil, "disable: %v", err)
	_, err = access("latest")
	must(codeOf(err) == codes.FailedPrecondition, "a disabled version: %v", err)
	versions := client.ListSecretVersions(ctx, &pb.ListSecretVersionsRequest{Parent: secret, Filter: "state:ENABLED"})
	enabled, err := versions.Next()
	must(err == nil && enabled.GetName() == secret+"/versions/1", "versions: %v", err)

	names := 0
	for list := client.ListSecrets(ctx, &pb.ListSecretsRequest{Parent: parent, Filter: "labels.team=a name:proof"}); ; names++ {
		_, err := list.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		must(err == nil, "list: %v", err)
	}
	must(names == 3, "list: %d secrets", names)
	names = 0
	for list := client.ListSecrets(ctx, &pb.ListSecretsRequest{Parent: parent}); ; names++ {
		if _, err := list.Next(); err != nil {
			break
		}
	}
	must(names == 5, "list over pages: %d secrets", names)

	now, err := client.GetSecret(ctx, &pb.GetSecretRequest{Name: secret})
	must(err == nil, "get: %v", err)
	change := &pb.UpdateSecretRequest{
		Secret:     &pb.Secret{Name: secret, Etag: now.Etag, Labels: map[string]string{"team": "c"}, Annotations: map[string]string{"x": "y"}},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"labels", "annotations"}},
	}
	updated, err := client.UpdateSecret(ctx, change)
	must(err == nil && updated.GetLabels()["team"] == "c" && updated.GetAnnotations()["x"] == "y", "update: %v", err)
	_, err = client.UpdateSecret(ctx, change)
	must(codeOf(err) == codes.FailedPrecondition, "an old etag: %v", err)
	must(client.DeleteSecret(ctx, &pb.DeleteSecretRequest{Name: secret, Etag: updated.Etag}) == nil, "delete")
	_, err = client.GetSecret(ctx, &pb.GetSecretRequest{Name: secret})
	must(codeOf(err) == codes.NotFound, "a missing secret: %v", err)

	for fault, code := range map[string]codes.Code{"denied": codes.PermissionDenied, "throttled": codes.ResourceExhausted} {
		turn(control, "/fault?kind="+fault+"&wait=1")
		_, err = client.GetSecret(ctx, &pb.GetSecretRequest{Name: parent + "/secrets/proof-1"})
		must(codeOf(err) == code, "%s: %v", fault, err)
	}
	turn(control, "/fault")

	stranger := oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "ya29.made-up"})
	client, err = secretmanager.NewRESTClient(ctx, option.WithEndpoint(url), option.WithTokenSource(stranger))
	must(err == nil, "the client: %v", err)
	_, err = client.GetSecret(ctx, &pb.GetSecretRequest{Name: parent + "/secrets/proof-1"})
	must(codeOf(err) == codes.Unauthenticated, "a made-up token: %v", err)
}

// The code that an answer's body names: the client itself keeps only the number, which several codes share.
func codeOf(err error) codes.Code {
	var refused *googleapi.Error
	var body struct{ Error struct{ Status string } }
	if !errors.As(err, &refused) || json.Unmarshal([]byte(refused.Body), &body) != nil {
		return codes.Unknown
	}
	for code, name := range statusName {
		if name == body.Error.Status {
			return code
		}
	}
	return codes.Unknown
}
