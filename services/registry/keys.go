package registry

import (
	"context"
	"slices"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/shared/access"
)

const (
	// maxKeys is how many API keys are kept.
	maxKeys = 10_000
	// keepExpired is how long an expired key is shown before it goes, when the next one is made.
	keepExpired = 7 * 24 * time.Hour
)

// CreateKey implements AccessServiceServer.
func (s *Service) CreateKey(ctx context.Context, req *registryv1.CreateKeyRequest) (*registryv1.CreateKeyResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	const doing = "make a key"
	role := req.GetRole()
	if role == registryv1.Role_ROLE_UNSPECIFIED {
		role = registryv1.Role_ROLE_USER
	}
	var expiresAt time.Time
	if req.GetTtl() != nil {
		expiresAt = time.Now().Add(req.GetTtl().AsDuration())
	}
	record, secret, err := access.NewKey(req.GetPrincipal(), role, req.GetDescription(), expiresAt)
	if err != nil {
		return nil, s.status(ctx, doing, err)
	}
	record.Key.Tenant = req.GetTenant()
	_, err = s.store.Change(ctx, func(tx store.Tx) error {
		left, err := dropExpired(ctx, tx)
		if err != nil {
			return err
		}
		if left >= maxKeys {
			return tooMany(typeKey, maxKeys)
		}
		return tx.AddKey(ctx, record)
	})
	if err != nil {
		return nil, s.status(ctx, doing, err)
	}
	s.log.InfoContext(ctx, "a key was made", "key", record.GetKey().GetId(), "principal", req.GetPrincipal(), "role", role)
	return &registryv1.CreateKeyResponse{Key: record.GetKey(), Secret: secret}, nil
}

// RevokeKey implements AccessServiceServer.
func (s *Service) RevokeKey(ctx context.Context, req *registryv1.RevokeKeyRequest) (*registryv1.RevokeKeyResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := s.store.Change(ctx, func(tx store.Tx) error { return tx.DeleteKey(ctx, req.GetId()) })
	if err != nil {
		return nil, s.status(ctx, "revoke a key", orNotFound(err, typeKey, req.GetId()))
	}
	s.log.InfoContext(ctx, "a key was revoked", "key", req.GetId())
	return &registryv1.RevokeKeyResponse{}, nil
}

// ListKeys implements AccessServiceServer. A key that expired is shown for another week or more.
func (s *Service) ListKeys(ctx context.Context, _ *registryv1.ListKeysRequest) (*registryv1.ListKeysResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	records, err := s.store.Keys(ctx)
	if err != nil {
		return nil, s.status(ctx, "list keys", err)
	}
	response := &registryv1.ListKeysResponse{}
	for _, r := range records {
		response.Keys = append(response.Keys, r.GetKey())
	}
	return response, nil
}

// EnsureAdminKey makes an API key for the principal "admin", with its role, where there is no key at all, and returns
// the key to be shown once. Of several replicas that start together one makes it.
func (s *Service) EnsureAdminKey(ctx context.Context) (secret string, created bool, err error) {
	record, secret, err := access.NewKey(adminName, registryv1.Role_ROLE_ADMIN, "made at the first start", time.Time{})
	if err != nil {
		return "", false, err
	}
	if created, err = s.addKeyUnless(ctx, record, func(ids []string) bool { return len(ids) > 0 }); err != nil || !created {
		return "", false, err
	}
	return secret, true, nil
}

// GiveAdminKey adds an API key that an operator made, for the principal "admin" with its role, where it is not there
// yet.
func (s *Service) GiveAdminKey(ctx context.Context, key string) error {
	record, err := access.GivenKey(key, adminName, registryv1.Role_ROLE_ADMIN, "given by the configuration")
	if err != nil {
		return err
	}
	_, err = s.addKeyUnless(ctx, record, func(ids []string) bool { return slices.Contains(ids, record.GetKey().GetId()) })
	return err
}

// adminName is the principal of the keys that a start makes.
const adminName = "admin"

func (s *Service) addKeyUnless(ctx context.Context, record *registryv1.KeyRecord, has func(ids []string) bool) (added bool, err error) {
	_, err = s.store.Change(ctx, func(tx store.Tx) error {
		added = false
		ids, err := tx.Names(ctx, store.KindKey)
		if err != nil || has(ids) {
			return err
		}
		added = true
		return tx.AddKey(ctx, record)
	})
	return added && err == nil, err
}

// dropExpired removes keys that expired long ago, and returns how many are left.
func dropExpired(ctx context.Context, tx store.Tx) (left int, err error) {
	keys, err := tx.Keys(ctx)
	if err != nil {
		return 0, err
	}
	left = len(keys)
	for _, k := range keys {
		expires := k.GetKey().GetExpiresAt()
		if expires == nil || time.Since(expires.AsTime()) < keepExpired {
			continue
		}
		if err := tx.DeleteKey(ctx, k.GetKey().GetId()); err != nil {
			return 0, err
		}
		left--
	}
	return left, nil
}
