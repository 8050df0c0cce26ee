package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/discovery"
	"erlmcp.dev/services/registry/store"
)

// maxServers is how many servers are kept.
const maxServers = 10_000

// RegisterServer implements RegistryServiceServer. What the server offers is asked before the change and not in it:
// only the change decides, and it is short.
func (s *Service) RegisterServer(ctx context.Context, req *registryv1.RegisterServerRequest) (*registryv1.RegisterServerResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	const doing = "register a server"
	spec, err := reveal(req.GetServer(), nil)
	if err == nil {
		err = check(spec)
	}
	if err == nil {
		err = nameFree(ctx, s.store, spec.GetName())
	}
	if err != nil {
		return nil, s.status(ctx, doing, err)
	}
	record := &store.Server{Spec: spec}
	if err := s.ask(ctx, record); err != nil {
		return nil, s.status(ctx, doing, err)
	}
	version, err := s.store.Change(ctx, func(tx store.Tx) error {
		if err := nameFree(ctx, tx, spec.GetName()); err != nil {
			return err
		}
		names, err := tx.Names(ctx, store.KindServer)
		if err != nil {
			return err
		}
		if len(names) >= maxServers {
			return tooMany(typeServer, maxServers)
		}
		return put(ctx, tx, record)
	})
	if err != nil {
		return nil, s.status(ctx, doing, err)
	}
	s.log.InfoContext(ctx, "a server was registered", "server", spec.GetName(), "state", record.State, "message", record.Message, "version", version)
	return &registryv1.RegisterServerResponse{Status: statusOf(record)}, nil
}

// UpdateServer implements RegistryServiceServer. Where the new declaration leads to the same address and the server
// does not answer, what it offered before stays.
func (s *Service) UpdateServer(ctx context.Context, req *registryv1.UpdateServerRequest) (*registryv1.UpdateServerResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	const doing = "update a server"
	name := req.GetServer().GetName()
	old, err := changeable(ctx, s.store, name)
	if err != nil {
		return nil, s.status(ctx, doing, err)
	}
	spec, err := reveal(req.GetServer(), old.Spec)
	if err == nil {
		err = check(spec)
	}
	if err != nil {
		return nil, s.status(ctx, doing, err)
	}
	record := &store.Server{Spec: spec}
	if sameAddress(spec, old.Spec) {
		record.Offer = old.Offer
	}
	if err := s.ask(ctx, record); err != nil {
		return nil, s.status(ctx, doing, err)
	}
	version, err := s.store.Change(ctx, func(tx store.Tx) error {
		now, err := changeable(ctx, tx, name)
		if err != nil {
			return err
		}
		if !proto.Equal(now.Spec, old.Spec) {
			return refuse(codes.Aborted, fmt.Sprintf("server %q was changed by someone else meanwhile; look at it and try again", name))
		}
		return put(ctx, tx, record)
	})
	if err != nil {
		return nil, s.status(ctx, doing, err)
	}
	s.log.InfoContext(ctx, "a server was updated", "server", name, "state", record.State, "message", record.Message, "version", version)
	return &registryv1.UpdateServerResponse{Status: statusOf(record)}, nil
}

// DeleteServer implements RegistryServiceServer. Views that name the server go on without it; a view that is left
// without any stays, and shows nothing.
func (s *Service) DeleteServer(ctx context.Context, req *registryv1.DeleteServerRequest) (*registryv1.DeleteServerResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	name := req.GetName()
	version, err := s.store.Change(ctx, func(tx store.Tx) error {
		if _, err := changeable(ctx, tx, name); err != nil {
			return err
		}
		return remove(ctx, tx, name)
	})
	if err != nil {
		return nil, s.status(ctx, "remove a server", err)
	}
	s.log.InfoContext(ctx, "a server was removed", "server", name, "version", version)
	return &registryv1.DeleteServerResponse{}, nil
}

// GetServer implements RegistryServiceServer.
func (s *Service) GetServer(ctx context.Context, req *registryv1.GetServerRequest) (*registryv1.GetServerResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := s.store.Server(ctx, req.GetName())
	if err != nil {
		return nil, s.status(ctx, "read a server", orNotFound(err, typeServer, req.GetName()))
	}
	return &registryv1.GetServerResponse{Status: statusOf(found)}, nil
}

// ListServers implements RegistryServiceServer.
func (s *Service) ListServers(ctx context.Context, _ *registryv1.ListServersRequest) (*registryv1.ListServersResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	all, err := s.store.Servers(ctx)
	if err != nil {
		return nil, s.status(ctx, "list servers", err)
	}
	response := &registryv1.ListServersResponse{}
	for _, one := range all {
		response.Servers = append(response.Servers, statusOf(one))
	}
	return response, nil
}

// RefreshServer implements RegistryServiceServer. Any replica asks; it need not be the one that leads.
func (s *Service) RefreshServer(ctx context.Context, req *registryv1.RefreshServerRequest) (*registryv1.RefreshServerResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	name := req.GetName()
	now, err := s.discovery.Refresh(ctx, name)
	if silent, ok := errors.AsType[*discovery.Unreachable](err); ok {
		err = refuse(codes.Unavailable, fmt.Sprintf("server %q does not answer: %v; check that it runs and that the registry can reach it", name, silent),
			reason("UNREACHABLE", map[string]string{"server": name}))
	}
	if err != nil {
		return nil, s.status(ctx, "refresh a server", orNotFound(err, typeServer, name))
	}
	return &registryv1.RefreshServerResponse{Status: statusOf(now)}, nil
}

// ask asks a server what it offers and writes that into its record. A server that does not answer is no error.
func (s *Service) ask(ctx context.Context, record *store.Server) error {
	offer, failure := s.discovery.Describe(ctx, record.Spec)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	discovery.Settle(record, offer, failure, time.Now())
	return nil
}

// put keeps a server, or refuses it because of its names.
func put(ctx context.Context, tx store.Tx, record *store.Server) error {
	err := tx.PutServer(ctx, record, discovery.Names(record))
	if taken, ok := errors.AsType[*store.NameTaken](err); ok {
		return collision(record.Spec.GetName(), taken)
	}
	return err
}

// remove removes a server, and its name from views.
func remove(ctx context.Context, tx store.Tx, name string) error {
	views, err := tx.Views(ctx)
	if err != nil {
		return err
	}
	for _, v := range views {
		i := slices.Index(v.GetServers(), name)
		if i < 0 {
			continue
		}
		v.Servers = slices.Delete(v.GetServers(), i, i+1)
		if err := tx.PutView(ctx, v); err != nil {
			return err
		}
	}
	return tx.DeleteServer(ctx, name)
}

// nameFree returns nil where neither a server nor a view has the name.
func nameFree(ctx context.Context, r store.Reader, name string) error {
	if _, err := r.Server(ctx, name); !errors.Is(err, store.ErrNotFound) {
		if err == nil {
			err = nameInUse(typeServer, name, "update that one, or choose another name")
		}
		return err
	}
	if _, err := r.View(ctx, name); !errors.Is(err, store.ErrNotFound) {
		if err == nil {
			err = nameInUse(typeView, name, "servers and views share their names, so choose another")
		}
		return err
	}
	return nil
}

// changeable returns a server that may be changed by a call.
func changeable(ctx context.Context, r store.Reader, name string) (*store.Server, error) {
	found, err := r.Server(ctx, name)
	if err != nil {
		return nil, orNotFound(err, typeServer, name)
	}
	if found.Declared {
		return nil, fixed(name)
	}
	return found, nil
}
