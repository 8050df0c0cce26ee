package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// maxViews is how many views are kept.
const maxViews = 10_000

// PutView implements RegistryServiceServer. Its servers must exist; its tools need not yet.
func (s *Service) PutView(ctx context.Context, req *registryv1.PutViewRequest) (*registryv1.PutViewResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v := req.GetView()
	version, err := s.store.Change(ctx, func(tx store.Tx) error {
		servers, err := tx.Names(ctx, store.KindServer)
		if err != nil {
			return err
		}
		if _, clash := slices.BinarySearch(servers, v.GetName()); clash {
			return nameInUse(typeServer, v.GetName(), "it is a view of its own name; choose another name")
		}
		for i, name := range v.GetServers() {
			if _, ok := slices.BinarySearch(servers, name); !ok {
				return &fieldError{fmt.Sprintf("view.servers[%d]", i), fmt.Sprintf("there is no server %q; register it first", name)}
			}
		}
		old, err := tx.View(ctx, v.GetName())
		switch {
		case err == nil && proto.Equal(old, v):
			return nil
		case errors.Is(err, store.ErrNotFound):
			views, err := tx.Names(ctx, store.KindView)
			if err != nil {
				return err
			}
			if len(views) >= maxViews {
				return tooMany(typeView, maxViews)
			}
		case err != nil:
			return err
		}
		return tx.PutView(ctx, v)
	})
	if err != nil {
		return nil, s.status(ctx, "keep a view", err)
	}
	s.log.InfoContext(ctx, "a view was put", "view", v.GetName(), "version", version)
	return &registryv1.PutViewResponse{View: v}, nil
}

// DeleteView implements RegistryServiceServer.
func (s *Service) DeleteView(ctx context.Context, req *registryv1.DeleteViewRequest) (*registryv1.DeleteViewResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	version, err := s.store.Change(ctx, func(tx store.Tx) error { return tx.DeleteView(ctx, req.GetName()) })
	if err != nil {
		return nil, s.status(ctx, "remove a view", orNotFound(err, typeView, req.GetName()))
	}
	s.log.InfoContext(ctx, "a view was removed", "view", req.GetName(), "version", version)
	return &registryv1.DeleteViewResponse{}, nil
}

// ListViews implements RegistryServiceServer.
func (s *Service) ListViews(ctx context.Context, _ *registryv1.ListViewsRequest) (*registryv1.ListViewsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	views, err := s.store.Views(ctx)
	if err != nil {
		return nil, s.status(ctx, "list views", err)
	}
	return &registryv1.ListViewsResponse{Views: views}, nil
}
