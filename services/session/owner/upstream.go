package owner

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/upstream"
)

// Opener opens conversations with servers.
type Opener interface {
	// Open connects to a server for one client. Errors are upstream's sentinels, wrapped.
	Open(ctx context.Context, server *registryv1.CatalogServer, c EndClient) (End, error)
	// Describe asks a program what it offers.
	Describe(ctx context.Context, server *registryv1.Server) (*registryv1.Offer, error)
}

// EndClient is whom a conversation is for.
type EndClient struct {
	Principal string
	// Legacy says that the client can be asked while a call runs, so that a server of both eras is spoken to
	// in the legacy one.
	Legacy bool
	// Version is the newest legacy revision to speak.
	Version      string
	Capabilities json.RawMessage
	Info         json.RawMessage
	// Listener hears what the server sends outside any call.
	Listener upstream.Listener
}

// End is a conversation with a server.
type End struct {
	upstream.Peer
	// Modern says which era the server is spoken to in.
	Modern bool
	// Logging says that a legacy server takes logging/setLevel.
	Logging bool
}

// DefaultCallTimeout is how long a call may take where the server's declaration says nothing.
const DefaultCallTimeout = 5 * time.Minute

func callTimeout(s *registryv1.CatalogServer) time.Duration {
	if d := s.GetServer().GetCallTimeout(); d != nil {
		return d.AsDuration()
	}
	return DefaultCallTimeout
}

// slot holds the conversation with one server, opened when it is first needed and again after it broke.
type slot struct {
	open func(ctx context.Context) (End, error)

	mu     sync.Mutex // held while opening, so that there is one conversation
	end    End
	isOpen bool
	closed bool
}

// get returns the conversation.
func (s *slot) get(ctx context.Context) (End, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return End{}, upstream.ErrClosed
	}
	if s.isOpen {
		return s.end, nil
	}
	end, err := s.open(ctx)
	if err != nil {
		return End{}, err
	}
	s.end, s.isOpen = end, true
	return end, nil
}

// drop closes a conversation that broke; the next get opens another one. It does nothing to a newer one.
func (s *slot) drop(broken End) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isOpen && s.end.Peer == broken.Peer {
		_ = s.end.Close()
		s.isOpen = false
	}
}

// current returns the conversation if it is open.
func (s *slot) current() (End, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end, s.isOpen
}

// close ends the conversation for good.
func (s *slot) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.isOpen {
		_ = s.end.Close()
		s.isOpen = false
	}
}
