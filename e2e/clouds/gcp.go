package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"sort"
	"strconv"
	"strings"
	"sync"

	pb "cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Google's Secret Manager in memory, as the service interface that Google generates.
type secretManager struct {
	pb.UnimplementedSecretManagerServiceServer
	mu      sync.Mutex
	etags   int
	secrets map[string]*gcpSecret
}

type gcpSecret struct {
	meta     *pb.Secret
	versions []*gcpVersion
}

type gcpVersion struct {
	meta *pb.SecretVersion
	data []byte
}

func newSecretManager() *secretManager {
	return &secretManager{secrets: map[string]*gcpSecret{}}
}

func checksum(data []byte) int64 {
	return int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}

func (s *secretManager) etag() string {
	s.etags++
	return fmt.Sprintf("%q", strconv.Itoa(s.etags))
}

func (s *secretManager) find(name string) (*gcpSecret, error) {
	if secret := s.secrets[name]; secret != nil {
		return secret, nil
	}
	return nil, status.Errorf(codes.NotFound, "Secret [%s] not found.", name)
}

func (s *secretManager) version(name string) (*gcpVersion, error) {
	parent, id, ok := strings.Cut(name, "/versions/")
	if !ok {
		return nil, status.Error(codes.InvalidArgument, "not the name of a version")
	}
	missing := status.Errorf(codes.NotFound, "Secret Version [%s] not found.", name)
	secret, err := s.find(parent)
	if err != nil {
		return nil, err
	}
	number := len(secret.versions)
	if id != "latest" {
		if number, err = strconv.Atoi(id); err != nil {
			return nil, status.Error(codes.InvalidArgument, "a version is a number or \"latest\"")
		}
	}
	if number < 1 || number > len(secret.versions) {
		return nil, missing
	}
	return secret.versions[number-1], nil
}

func (s *secretManager) CreateSecret(_ context.Context, r *pb.CreateSecretRequest) (*pb.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := r.Parent + "/secrets/" + r.SecretId
	if s.secrets[name] != nil {
		return nil, status.Errorf(codes.AlreadyExists, "Secret [%s] already exists.", name)
	}
	regional := strings.Contains(r.Parent, "/locations/")
	if r.Secret == nil || (r.Secret.Replication == nil) != regional {
		return nil, status.Error(codes.InvalidArgument, "replication belongs to global secrets, and only to them")
	}
	meta := proto.Clone(r.Secret).(*pb.Secret)
	meta.Name, meta.CreateTime, meta.Etag = name, timestamppb.Now(), s.etag()
	s.secrets[name] = &gcpSecret{meta: meta}
	return meta, nil
}

func (s *secretManager) GetSecret(_ context.Context, r *pb.GetSecretRequest) (*pb.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, err := s.find(r.Name)
	if err != nil {
		return nil, err
	}
	return secret.meta, nil
}

func (s *secretManager) UpdateSecret(_ context.Context, r *pb.UpdateSecretRequest) (*pb.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, err := s.find(r.Secret.GetName())
	if err != nil {
		return nil, err
	}
	if r.Secret.Etag != "" && r.Secret.Etag != secret.meta.Etag {
		return nil, status.Error(codes.FailedPrecondition, "the etag is another one")
	}
	for _, field := range r.UpdateMask.GetPaths() {
		switch field {
		case "labels":
			secret.meta.Labels = r.Secret.Labels
		case "annotations":
			secret.meta.Annotations = r.Secret.Annotations
		case "topics":
			secret.meta.Topics = r.Secret.Topics
		default:
			return nil, status.Errorf(codes.InvalidArgument, "%s cannot be updated here", field)
		}
	}
	secret.meta.Etag = s.etag()
	return secret.meta, nil
}

func (s *secretManager) DeleteSecret(_ context.Context, r *pb.DeleteSecretRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, err := s.find(r.Name)
	if err != nil {
		return nil, err
	}
	if r.Etag != "" && r.Etag != secret.meta.Etag {
		return nil, status.Error(codes.FailedPrecondition, "the etag is another one")
	}
	delete(s.secrets, r.Name)
	return &emptypb.Empty{}, nil
}

// Terms as `labels.team=a` and `name:app`; all must hold.
func matches(secret *pb.Secret, filter string) (bool, error) {
	short := secret.Name[strings.LastIndex(secret.Name, "/")+1:]
	for _, term := range strings.Fields(filter) {
		if part, ok := strings.CutPrefix(term, "name:"); ok {
			if !strings.Contains(short, part) {
				return false, nil
			}
			continue
		}
		label, ok := strings.CutPrefix(term, "labels.")
		key, value, both := strings.Cut(label, "=")
		if !ok || !both {
			return false, status.Errorf(codes.InvalidArgument, "the filter %q is not understood", term)
		}
		if found, has := secret.Labels[key]; !has || found != value {
			return false, nil
		}
	}
	return true, nil
}

func (s *secretManager) ListSecrets(_ context.Context, r *pb.ListSecretsRequest) (*pb.ListSecretsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*pb.Secret
	for name, secret := range s.secrets {
		if !strings.HasPrefix(name, r.Parent+"/secrets/") {
			continue
		}
		ok, err := matches(secret.meta, r.Filter)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, secret.meta)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	start, _ := strconv.Atoi(r.PageToken)
	// Short pages, as Google may give at any time: whoever does not turn them misses secrets.
	size := min(int(r.PageSize), 3)
	if size == 0 {
		size = 3
	}
	answer := &pb.ListSecretsResponse{TotalSize: int32(len(all))}
	answer.Secrets = all[min(start, len(all)):min(start+size, len(all))]
	if start+size < len(all) {
		answer.NextPageToken = strconv.Itoa(start + size)
	}
	return answer, nil
}

func (s *secretManager) AddSecretVersion(_ context.Context, r *pb.AddSecretVersionRequest) (*pb.SecretVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, err := s.find(r.Parent)
	if err != nil {
		return nil, err
	}
	data := r.Payload.GetData()
	if sum := r.Payload.DataCrc32C; sum != nil && *sum != checksum(data) {
		return nil, status.Error(codes.InvalidArgument, "the checksum is another one")
	}
	if len(data) > 65536 {
		return nil, status.Error(codes.InvalidArgument, "a payload has at most 65536 bytes")
	}
	name := fmt.Sprintf("%s/versions/%d", r.Parent, len(secret.versions)+1)
	meta := &pb.SecretVersion{Name: name, CreateTime: timestamppb.Now(), State: pb.SecretVersion_ENABLED, Etag: s.etag()}
	secret.versions = append(secret.versions, &gcpVersion{meta: meta, data: data})
	return meta, nil
}

func (s *secretManager) GetSecretVersion(_ context.Context, r *pb.GetSecretVersionRequest) (*pb.SecretVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version, err := s.version(r.Name)
	if err != nil {
		return nil, err
	}
	return version.meta, nil
}

func (s *secretManager) ListSecretVersions(_ context.Context, r *pb.ListSecretVersionsRequest) (*pb.ListSecretVersionsResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret, err := s.find(r.Parent)
	if err != nil {
		return nil, err
	}
	answer := &pb.ListSecretVersionsResponse{}
	for i := len(secret.versions) - 1; i >= 0; i-- {
		meta := secret.versions[i].meta
		if wanted, ok := strings.CutPrefix(r.Filter, "state:"); !ok || meta.State.String() == wanted {
			answer.Versions = append(answer.Versions, meta)
		}
	}
	return answer, nil
}

func (s *secretManager) AccessSecretVersion(_ context.Context, r *pb.AccessSecretVersionRequest) (*pb.AccessSecretVersionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version, err := s.version(r.Name)
	if err != nil {
		return nil, err
	}
	if version.meta.State != pb.SecretVersion_ENABLED {
		return nil, status.Errorf(codes.FailedPrecondition, "Secret Version [%s] is in %s state.", version.meta.Name, version.meta.State)
	}
	payload := &pb.SecretPayload{Data: version.data, DataCrc32C: keep(checksum(version.data))}
	return &pb.AccessSecretVersionResponse{Name: version.meta.Name, Payload: payload}, nil
}

func (s *secretManager) become(name string, state pb.SecretVersion_State) (*pb.SecretVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	version, err := s.version(name)
	if err != nil {
		return nil, err
	}
	version.meta.State = state
	return version.meta, nil
}

func (s *secretManager) DisableSecretVersion(_ context.Context, r *pb.DisableSecretVersionRequest) (*pb.SecretVersion, error) {
	return s.become(r.Name, pb.SecretVersion_DISABLED)
}

func (s *secretManager) EnableSecretVersion(_ context.Context, r *pb.EnableSecretVersionRequest) (*pb.SecretVersion, error) {
	return s.become(r.Name, pb.SecretVersion_ENABLED)
}

func (s *secretManager) DestroySecretVersion(_ context.Context, r *pb.DestroySecretVersionRequest) (*pb.SecretVersion, error) {
	return s.become(r.Name, pb.SecretVersion_DESTROYED)
}
