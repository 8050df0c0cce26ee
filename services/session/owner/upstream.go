package owner

import (
	"context"
	"encoding/json"
	"slices"
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
	// Listener hears what the server sends outside any call, and Journal how far that is, where it could be heard on from
	// there in another process.
	Listener upstream.Listener
	Journal  upstream.Journal
	// Conversation is one that another process had with the server for this client, to be gone on with; nil for none.
	Conversation *Conversation
}

// Conversation is what another process must know to go on with one.
type Conversation struct {
	// URL of the server, and the ID that it gave the conversation, which nobody else must see.
	URL string `json:"url"`
	ID  string `json:"id"`
	// Version is the revision that is spoken.
	Version string `json:"version"`
	Logging bool   `json:"logging,omitempty"`
	// Heard is how far the server was heard outside calls; empty for not at all.
	Heard string `json:"heard,omitempty"`
}

// stateless reports whether a modern client's calls of a server hang together by nothing, so that they need no
// conversation of their own.
func stateless(s *registryv1.CatalogServer) bool {
	switch s.GetServer().GetEndpoint().(type) {
	case *registryv1.Server_Grpc:
		return true
	case *registryv1.Server_Http:
		return slices.Contains(s.GetOffer().GetEras(), registryv1.Era_ERA_MODERN)
	}
	return false
}

// End is a conversation with a server.
type End struct {
	upstream.Peer
	// Modern says which era the server is spoken to in.
	Modern bool
	// Logging says that a legacy server takes logging/setLevel.
	Logging bool
	// Conversation is what it takes to go on with it in another process; nil where that can't be.
	Conversation *Conversation
}

// leave ends the conversation here, so that another process can go on with it.
func (e End) leave() {
	if c, ok := e.Peer.(upstream.Continuer); ok && e.Conversation != nil {
		c.Leave()
		return
	}
	_ = e.Close()
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

	mu      sync.Mutex // never held while waiting
	end     End
	isOpen  bool
	closed  bool
	opening chan struct{}      // closed when the one who opens is done; nil while nobody opens
	giveUp  context.CancelFunc // ends the opening
}

// get returns the conversation. One caller opens it, with its own ctx, and the others wait for that one.
func (s *slot) get(ctx context.Context) (End, error) {
	for {
		s.mu.Lock()
		end, isOpen, closed, opening := s.end, s.isOpen, s.closed, s.opening
		if !isOpen && !closed && opening == nil {
			s.opening = make(chan struct{})
			ctx, s.giveUp = context.WithCancel(ctx)
			s.mu.Unlock()
			return s.openNow(ctx)
		}
		s.mu.Unlock()
		switch {
		case closed:
			return End{}, upstream.ErrClosed
		case isOpen:
			return end, nil
		}
		select {
		case <-opening:
		case <-ctx.Done():
			return End{}, ctx.Err()
		}
	}
}

func (s *slot) openNow(ctx context.Context) (End, error) {
	end, err := s.open(ctx)
	s.mu.Lock()
	s.giveUp()
	close(s.opening)
	s.opening = nil
	closed := s.closed
	if err == nil && !closed {
		s.end, s.isOpen = end, true
	}
	s.mu.Unlock()
	if closed {
		if err == nil {
			_ = end.Close()
		}
		return End{}, upstream.ErrClosed
	}
	return end, err
}

// drop closes a conversation that broke; the next get opens another one. It does nothing to a newer one.
func (s *slot) drop(broken End) {
	s.mu.Lock()
	ours := s.isOpen && s.end.Peer == broken.Peer
	if ours {
		s.isOpen = false
	}
	s.mu.Unlock()
	if ours {
		_ = broken.Close()
	}
}

// current returns the conversation if it is open.
func (s *slot) current() (End, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end, s.isOpen
}

// close ends the conversation for good.
func (s *slot) close() { s.shut(func(end End) { _ = end.Close() }) }

// leave ends the conversation here, so that another process can go on with it.
func (s *slot) leave() { s.shut(End.leave) }

func (s *slot) shut(shut func(End)) {
	s.mu.Lock()
	s.closed = true
	end, isOpen := s.end, s.isOpen
	s.isOpen = false
	if s.opening != nil {
		s.giveUp()
	}
	s.mu.Unlock()
	if isOpen {
		shut(end)
	}
}
