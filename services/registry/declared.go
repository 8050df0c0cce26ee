package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/discovery"
	"erlmcp.dev/services/registry/store"
)

// declare makes the store follow the configuration file: one change, and none where it does already. The file wins
// over a server of the same name that was registered by a call, and over a view: the view stays out of sight until
// one of the two is gone. Where replicas have different files the one that started last decides.
func (s *Service) declare(ctx context.Context, servers []*registryv1.Server) error {
	declared := map[string]*registryv1.Server{}
	for _, spec := range servers {
		if declared[spec.GetName()] != nil {
			return fmt.Errorf("server %q is declared twice; give each its own name", spec.GetName())
		}
		if err := check(spec); err != nil {
			return fmt.Errorf("server %q: %w", spec.GetName(), err)
		}
		declared[spec.GetName()] = spec
	}
	_, err := s.store.Change(ctx, func(tx store.Tx) error {
		before, err := tx.Servers(ctx)
		if err != nil {
			return err
		}
		known := map[string]*store.Server{}
		for _, one := range before {
			name := one.Spec.GetName()
			known[name] = one
			if one.Declared && declared[name] == nil {
				s.log.Info("a server is not declared any more, and removed", "server", name)
				if err := remove(ctx, tx, name); err != nil {
					return err
				}
			}
		}
		for _, spec := range servers { // in the file's order, so that names go to the first
			if err := s.declareOne(ctx, tx, spec, known[spec.GetName()]); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// declareOne adds a declared server or, where it was known before, brings it up to date. What it offered stays for
// as long as its address does, until it is asked.
func (s *Service) declareOne(ctx context.Context, tx store.Tx, spec *registryv1.Server, known *store.Server) error {
	if known != nil && known.Declared && proto.Equal(known.Spec, spec) {
		return nil
	}
	record := &store.Server{Spec: proto.CloneOf(spec), Declared: true, State: registryv1.ServerState_SERVER_STATE_PENDING}
	if known != nil && known.Offer != nil && sameAddress(known.Spec, spec) {
		record.State, record.Message, record.Offer = known.State, known.Message, known.Offer
		record.CheckedAt = time.Time{} // so that it is asked at once
	}
	if known == nil {
		switch _, err := tx.View(ctx, spec.GetName()); {
		case err == nil:
			s.log.Warn("a declared server and a view have the same name; the view can't be reached until one is renamed", "name", spec.GetName())
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
	}
	err := tx.PutServer(ctx, record, discovery.Names(record))
	if _, taken := errors.AsType[*store.NameTaken](err); taken {
		// Its new prefix makes it collide. Discovery finds that out again, and says so in its state.
		record.State, record.Message, record.Offer = registryv1.ServerState_SERVER_STATE_PENDING, "", nil
		err = tx.PutServer(ctx, record, nil)
	}
	return err
}
