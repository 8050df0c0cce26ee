package rpc

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"google.golang.org/grpc/metadata"

	"erlmcp.dev/shared/access"
)

// Keys of metadata between services.
const (
	credentialKey = "erlmcp-service"
	// behalfKey holds the JSON of a principal. It counts only beside a valid service credential.
	behalfKey = "erlmcp-principal-bin"
)

// ServiceCredentials makes and checks credentials between services; seal.Keys does.
type ServiceCredentials interface {
	Credential(node string, now time.Time) string
	Check(credential string, now time.Time) (node string, err error)
}

// OnBehalf makes the calls that carry ctx act for a principal, and no longer with the calling service's own
// rights: the called service authorises, audits and sees that principal.
func OnBehalf(ctx context.Context, p access.Principal) context.Context {
	encoded, err := json.Marshal(p)
	if err != nil {
		panic("rpc: " + err.Error()) // strings and a number
	}
	return metadata.AppendToOutgoingContext(ctx, behalfKey, string(encoded))
}

// CallerFromContext returns who calls, to a handler.
func CallerFromContext(ctx context.Context) (access.Principal, bool) { return access.FromContext(ctx) }

// byMetadata authenticates calls from the network: services by their credential, everyone else by a bearer token.
func byMetadata(services ServiceCredentials, others access.Authenticator) func(context.Context) (access.Principal, error) {
	return func(ctx context.Context) (access.Principal, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if credential := first(md, credentialKey); credential != "" {
			if services == nil {
				return access.Principal{}, access.ErrUnauthenticated
			}
			node, err := services.Check(credential, time.Now())
			if err != nil {
				return access.Principal{}, access.ErrUnauthenticated
			}
			return inStead(md, node)
		}
		if others == nil {
			return access.Principal{}, access.ErrUnauthenticated
		}
		token, _ := access.Bearer(http.Header{"Authorization": md["authorization"]})
		return others.Authenticate(ctx, token)
	}
}

// asService takes every call for one of this process's own services.
func asService(node string) func(context.Context) (access.Principal, error) {
	return func(ctx context.Context) (access.Principal, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		return inStead(md, node)
	}
}

// inStead returns the principal that a service acts for: itself, unless it says otherwise.
func inStead(md metadata.MD, node string) (access.Principal, error) {
	encoded := first(md, behalfKey)
	if encoded == "" {
		return access.Principal{ID: node, Method: access.MethodService}, nil
	}
	var p access.Principal
	if err := json.Unmarshal([]byte(encoded), &p); err != nil || p.ID == "" {
		return access.Principal{}, access.ErrUnauthenticated
	}
	return p, nil
}

// first returns a key's value; md's keys are lower case already.
func first(md metadata.MD, key string) string {
	if values := md[key]; len(values) > 0 {
		return values[0]
	}
	return ""
}
