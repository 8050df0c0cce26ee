package registry

import (
	"fmt"
	"maps"
	"net/url"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// hidden is shown in place of a secret value; in an update it stands for the value that is kept.
const hidden = "***"

// secrets returns the map of a declaration whose values are secret, and the map's field. The map may be nil.
func secrets(s *registryv1.Server) (values map[string]string, field string) {
	switch e := s.GetEndpoint().(type) {
	case *registryv1.Server_Http:
		return e.Http.GetHeaders(), "server.http.headers"
	case *registryv1.Server_Stdio:
		return e.Stdio.GetEnv(), "server.stdio.env"
	case *registryv1.Server_Grpc:
		return e.Grpc.GetMetadata(), "server.grpc.metadata"
	}
	return nil, ""
}

// redact returns a copy of a declaration that may be shown.
func redact(s *registryv1.Server) *registryv1.Server {
	c := proto.CloneOf(s)
	values, _ := secrets(c)
	for name := range values {
		values[name] = hidden
	}
	return c
}

// reveal puts the values of old, which may be nil, in place of those that s does not tell. It returns a copy, or a
// *fieldError where old has no such value, or it would go to another place: nobody gets a secret to see by having it sent
// to a server of their own.
func reveal(s, old *registryv1.Server) (*registryv1.Server, error) {
	c := proto.CloneOf(s)
	values, field := secrets(c)
	kept, keptField := secrets(old)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if values[name] != hidden {
			continue
		}
		value, ok := kept[name]
		if !ok || keptField != field {
			return nil, &fieldError{field, fmt.Sprintf("there is no value of %q to keep; write the value instead of %s", name, hidden)}
		}
		if !samePlace(s, old) {
			return nil, &fieldError{field, fmt.Sprintf("the value of %q is kept only for the place that it was given for; write it anew for this one, instead of %s", name, hidden)}
		}
		values[name] = value
	}
	return c, nil
}

// samePlace reports whether what two declarations give a server along goes to the same: one origin, program or gRPC target.
func samePlace(a, b *registryv1.Server) bool {
	switch e := a.GetEndpoint().(type) {
	case *registryv1.Server_Http:
		one, err := url.Parse(e.Http.GetUrl())
		other, also := url.Parse(b.GetHttp().GetUrl())
		return err == nil && also == nil && one.Scheme == other.Scheme && one.Host == other.Host
	case *registryv1.Server_Stdio:
		return slices.Equal(e.Stdio.GetCommand(), b.GetStdio().GetCommand()) && e.Stdio.GetDir() == b.GetStdio().GetDir()
	case *registryv1.Server_Grpc:
		return e.Grpc.GetTarget() == b.GetGrpc().GetTarget() && e.Grpc.GetTls() == b.GetGrpc().GetTls()
	}
	return false
}

// sameAddress reports whether two declarations lead to the same server, whatever secrets they bring along.
func sameAddress(a, b *registryv1.Server) bool {
	bare := func(s *registryv1.Server) *registryv1.Server {
		c := &registryv1.Server{Endpoint: proto.CloneOf(s).GetEndpoint()}
		values, _ := secrets(c)
		clear(values)
		return c
	}
	return proto.Equal(bare(a), bare(b))
}

// statusOf is a server as it is shown.
func statusOf(s *store.Server) *registryv1.ServerStatus {
	keys := func(items []*registryv1.Item) []string {
		names := make([]string, len(items))
		for i, item := range items {
			names[i] = item.GetKey()
		}
		return names
	}
	st := &registryv1.ServerStatus{
		Server: redact(s.Spec), State: s.State, Message: s.Message, Declared: s.Declared, Eras: s.Offer.GetEras(),
		Tools: keys(s.Offer.GetTools()), Prompts: keys(s.Offer.GetPrompts()),
		Resources: keys(s.Offer.GetResources()), ResourceTemplates: keys(s.Offer.GetResourceTemplates()),
	}
	if !s.CheckedAt.IsZero() {
		st.CheckedAt = timestamppb.New(s.CheckedAt)
	}
	return st
}
