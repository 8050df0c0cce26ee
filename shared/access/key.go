package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// keyPrefix starts every API key: erlmcp_<id>_<secret>, so that a leaked one is recognised.
const keyPrefix = "erlmcp_"

var keyEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewKey makes an API key. secret is the whole key, shown once; the record holds only the hash of its secret
// part, which has 256 random bits. A zero expiresAt means never.
func NewKey(principal string, role registryv1.Role, description string, expiresAt time.Time) (rec *registryv1.KeyRecord, secret string, err error) {
	var random [42]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, "", fmt.Errorf("making an API key: %w", err)
	}
	id := strings.ToLower(keyEncoding.EncodeToString(random[:10]))
	private := strings.ToLower(keyEncoding.EncodeToString(random[10:]))
	hash := sha256.Sum256([]byte(private))
	rec = &registryv1.KeyRecord{
		Key: &registryv1.Key{
			Id: id, Principal: principal, Role: role, Description: description, CreatedAt: timestamppb.Now(),
		},
		SecretSha256: hash[:],
	}
	if !expiresAt.IsZero() {
		rec.Key.ExpiresAt = timestamppb.New(expiresAt)
	}
	return rec, keyPrefix + id + "_" + private, nil
}

// minPrivate is the fewest characters of a key's secret part where an operator made the key.
const minPrivate = 32

// GivenKey is the record of an API key that an operator made: erlmcp_<id>_<secret>, an id of 8 to 32 and a secret of at
// least 32 of a-z and 0-9.
func GivenKey(text, principal string, role registryv1.Role, description string) (*registryv1.KeyRecord, error) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	id, private, split := strings.Cut(rest, "_")
	if !ok || !split || len(id) < 8 || len(id) > 32 || len(private) < minPrivate || !plain(id) || !plain(private) {
		return nil, fmt.Errorf("not %sID_SECRET, with 8 to 32 for ID and at least %d for SECRET of a-z and 0-9", keyPrefix, minPrivate)
	}
	hash := sha256.Sum256([]byte(private))
	return &registryv1.KeyRecord{
		Key:          &registryv1.Key{Id: id, Principal: principal, Role: role, Description: description, CreatedAt: timestamppb.Now()},
		SecretSha256: hash[:],
	}, nil
}

func plain(s string) bool { return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") == "" }

// firstKeys is how long a request waits for the first keys. A process that just started answers it late rather than
// call a good key wrong: balancers may send requests before they learn that it is not ready.
const firstKeys = 5 * time.Second

// KeySet authenticates API keys. It is filled from the catalogue. The zero KeySet waits for its first keys.
type KeySet struct {
	keys   atomic.Pointer[map[string]*registryv1.KeyRecord] // by id
	once   sync.Once
	filled chan struct{} // closed once there are keys; see first
}

// first is closed once keys were applied, be it none.
func (s *KeySet) first() chan struct{} {
	s.once.Do(func() { s.filled = make(chan struct{}) })
	return s.filled
}

// Apply takes a published change of the keys. Calls must not overlap.
func (s *KeySet) Apply(snapshot bool, changed []*registryv1.KeyRecord, removed []string) {
	if !snapshot && len(changed) == 0 && len(removed) == 0 {
		return
	}
	next := map[string]*registryv1.KeyRecord{}
	if held := s.keys.Load(); held != nil && !snapshot {
		maps.Copy(next, *held)
	}
	for _, k := range changed {
		next[k.GetKey().GetId()] = k
	}
	for _, id := range removed {
		delete(next, id)
	}
	if s.keys.Swap(&next) == nil {
		close(s.first())
	}
}

// Authenticate implements Authenticator.
func (s *KeySet) Authenticate(ctx context.Context, bearer string) (Principal, error) {
	rest, ok := strings.CutPrefix(bearer, keyPrefix)
	id, private, split := strings.Cut(rest, "_")
	if !ok || !split {
		return Principal{}, ErrUnauthenticated
	}
	held := s.keys.Load()
	if held == nil {
		wait, cancel := context.WithTimeout(ctx, firstKeys)
		defer cancel()
		select {
		case <-s.first():
			held = s.keys.Load()
		case <-wait.Done():
			return Principal{}, ErrUnavailable
		}
	}
	record := (*held)[id]
	hash := sha256.Sum256([]byte(private))
	if subtle.ConstantTimeCompare(hash[:], record.GetSecretSha256()) != 1 {
		return Principal{}, ErrUnauthenticated
	}
	key := record.GetKey()
	if key.GetExpiresAt() != nil && !time.Now().Before(key.GetExpiresAt().AsTime()) {
		return Principal{}, ErrUnauthenticated
	}
	return Principal{ID: key.GetPrincipal(), Role: key.GetRole(), Method: MethodKey, Tenant: key.GetTenant()}, nil
}
