package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/discovery"
	"erlmcp.dev/services/registry/lead"
	"erlmcp.dev/services/registry/store"
	"erlmcp.dev/services/registry/watch"
	"erlmcp.dev/shared/health"
)

// Config is what the service needs.
type Config struct {
	// Store keeps everything; the caller closes it, after Run has ended.
	Store store.Store
	// Discoverer reaches servers.
	Discoverer discovery.Discoverer
	// Declared are the servers of the configuration file, valid and each with its own name. The store is made to
	// follow them: those declared before and not here are removed.
	Declared []*registryv1.Server
	// Node is this process's unique name in the cluster; made up when empty.
	Node string
	Log  *slog.Logger

	// ProbeInterval is how often a server that answers is asked what it offers; 60 s when 0. The other fields are for
	// tests, and sane when 0; see discovery.Config, lead.Config and watch.Config.
	ProbeInterval                                 time.Duration
	DescribeTimeout, Debounce, RetryMin, RetryMax time.Duration
	LeaseTTL, Poll                                time.Duration
	MessageSize                                   int
}

// Service implements RegistryService and AccessService of erlmcp.registry.v1.
type Service struct {
	registryv1.UnimplementedRegistryServiceServer
	registryv1.UnimplementedAccessServiceServer

	store     store.Store
	hub       *watch.Hub
	discovery *discovery.Discovery
	lead      lead.Config
	log       *slog.Logger
}

// New makes the service and brings the store in line with the declared servers. Calls are answered at once; Run
// publishes and discovers.
func New(ctx context.Context, c Config) (*Service, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Node == "" {
		c.Node = uuid.NewString()
	}
	hub := watch.New(watch.Config{Store: c.Store, Poll: c.Poll, MessageSize: c.MessageSize, Log: c.Log})
	s := &Service{
		store: c.Store,
		hub:   hub,
		discovery: discovery.New(discovery.Config{
			Store: c.Store, Servers: hub, Discoverer: c.Discoverer, Interval: c.ProbeInterval, Timeout: c.DescribeTimeout,
			Debounce: c.Debounce, RetryMin: c.RetryMin, RetryMax: c.RetryMax, Log: c.Log,
		}),
		lead: lead.Config{Lease: c.Store, Holder: c.Node, TTL: c.LeaseTTL, Log: c.Log},
		log:  c.Log,
	}
	if err := s.declare(ctx, c.Declared); err != nil {
		return nil, fmt.Errorf("take over the declared servers: %w", err)
	}
	return s, nil
}

// Register adds both services to a server, whose interceptors must hold requests against the proto's rules and
// check who calls.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	registryv1.RegisterRegistryServiceServer(r, s)
	registryv1.RegisterAccessServiceServer(r, s)
}

// Run publishes the catalogue and, while this process leads, discovers and probes servers, until ctx ends. All
// watchers are sent away then. It is called once.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-s.hub.Loaded(): // discovery is to know from the first which servers there are
			lead.Run(ctx, s.lead, s.discovery.Run)
		}
	})
	return s.hub.Run(ctx)
}

// Reasons why the service is not ready.
const (
	notLoaded health.Reason = "the catalogue is not loaded yet"
	noStore   health.Reason = "the registry's database does not answer"
)

// Ready returns an error, with a health.Reason, until there is a catalogue, and while the store does not answer within
// a second. Watchers are served all the same then.
func (s *Service) Ready() error {
	select {
	case <-s.hub.Loaded():
	default:
		return notLoaded
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.store.Ping(ctx); err != nil {
		return fmt.Errorf("%w: %w", noStore, err)
	}
	return nil
}

// WatchCatalog implements RegistryServiceServer; watch.Hub.Watch says what a stream looks like.
func (s *Service) WatchCatalog(_ *registryv1.WatchCatalogRequest, stream grpc.ServerStreamingServer[registryv1.WatchCatalogResponse]) error {
	err := s.hub.Watch(stream.Context(), stream.Send)
	if errors.Is(err, watch.ErrStopped) {
		return errStopping
	}
	return err
}
