package store

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// Row is a Server as databases keep it: messages in protobuf's wire format, so that fields which this release does
// not know survive it. Only implementations of [Store] use it.
type Row struct {
	Name     string
	Spec     []byte
	Declared bool
	State    int32
	Message  string
	// Offer is nil for none, and not nil though empty for an empty one.
	Offer []byte
	// CheckedAt in Unix microseconds; 0 for never.
	CheckedAt int64
	Version   int64
}

// NewRow returns the row of a server.
func NewRow(s *Server) (Row, error) {
	r := Row{
		Name: s.Spec.GetName(), Declared: s.Declared, State: int32(s.State), Message: s.Message, Version: int64(s.Version),
	}
	if !s.CheckedAt.IsZero() {
		r.CheckedAt = s.CheckedAt.UnixMicro()
	}
	var err error
	if r.Spec, err = Marshal(s.Spec); err != nil {
		return Row{}, fmt.Errorf("encode the declaration of server %q: %w", r.Name, err)
	}
	if s.Offer != nil {
		if r.Offer, err = Marshal(s.Offer); err != nil {
			return Row{}, fmt.Errorf("encode the offer of server %q: %w", r.Name, err)
		}
	}
	return r, nil
}

// Server returns the server of a row.
func (r *Row) Server() (*Server, error) {
	s := &Server{
		Spec: &registryv1.Server{}, Declared: r.Declared, State: registryv1.ServerState(r.State), Message: r.Message,
		Version: uint64(r.Version),
	}
	if r.CheckedAt != 0 {
		s.CheckedAt = time.UnixMicro(r.CheckedAt).UTC()
	}
	if err := proto.Unmarshal(r.Spec, s.Spec); err != nil {
		return nil, fmt.Errorf("decode the declaration of server %q: %w", r.Name, err)
	}
	if r.Offer != nil {
		s.Offer = &registryv1.Offer{}
		if err := proto.Unmarshal(r.Offer, s.Offer); err != nil {
			return nil, fmt.Errorf("decode the offer of server %q: %w", r.Name, err)
		}
	}
	return s, nil
}

// Marshal encodes a message the same way each time, never as nil.
func Marshal(m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err == nil && b == nil {
		b = []byte{}
	}
	return b, err
}
