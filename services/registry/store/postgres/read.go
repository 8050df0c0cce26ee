package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// querier is the pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// reader implements store.Reader.
type reader struct{ querier }

const serverColumns = "name, spec, declared, state, message, offer, checked_at, version"

// Server implements store.Reader.
func (r reader) Server(ctx context.Context, name string) (*store.Server, error) {
	found, err := r.servers(ctx, "SELECT "+serverColumns+" FROM registry_servers WHERE name = $1", name)
	return only(found, err, "server", name)
}

// Servers implements store.Reader.
func (r reader) Servers(ctx context.Context) ([]*store.Server, error) {
	return r.servers(ctx, "SELECT "+serverColumns+" FROM registry_servers ORDER BY name")
}

// View implements store.Reader.
func (r reader) View(ctx context.Context, name string) (*registryv1.View, error) {
	found, err := r.views(ctx, "SELECT view FROM registry_views WHERE name = $1", name)
	return only(found, err, "view", name)
}

// Views implements store.Reader.
func (r reader) Views(ctx context.Context) ([]*registryv1.View, error) {
	return r.views(ctx, "SELECT view FROM registry_views ORDER BY name")
}

// Keys implements store.Reader.
func (r reader) Keys(ctx context.Context) ([]*registryv1.KeyRecord, error) {
	return r.keys(ctx, "SELECT record FROM registry_keys ORDER BY version DESC, id")
}

// Names implements store.Reader.
func (r reader) Names(ctx context.Context, kind store.Kind) ([]string, error) {
	query := map[store.Kind]string{
		store.KindServer: "SELECT name FROM registry_servers ORDER BY name",
		store.KindView:   "SELECT name FROM registry_views ORDER BY name",
		store.KindKey:    "SELECT id FROM registry_keys ORDER BY id",
	}[kind]
	rows, err := r.Query(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("read the names of records of kind %d: %w", kind, err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the names of records of kind %d: %w", kind, err)
	}
	return names, nil
}

func (r reader) servers(ctx context.Context, sql string, args ...any) ([]*store.Server, error) {
	rows, err := r.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read servers: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*store.Server, error) {
		var s store.Row
		if err := row.Scan(&s.Name, &s.Spec, &s.Declared, &s.State, &s.Message, &s.Offer, &s.CheckedAt, &s.Version); err != nil {
			return nil, err
		}
		return s.Server()
	})
	if err != nil {
		return nil, fmt.Errorf("read servers: %w", err)
	}
	return found, nil
}

func (r reader) views(ctx context.Context, sql string, args ...any) ([]*registryv1.View, error) {
	return messages[registryv1.View](ctx, r, "views", sql, args...)
}

func (r reader) keys(ctx context.Context, sql string, args ...any) ([]*registryv1.KeyRecord, error) {
	return messages[registryv1.KeyRecord](ctx, r, "keys", sql, args...)
}

// messages reads a column of encoded messages.
func messages[T any, M interface {
	*T
	proto.Message
}](ctx context.Context, q querier, what, sql string, args ...any) ([]*T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*T, error) {
		var encoded []byte
		if err := row.Scan(&encoded); err != nil {
			return nil, err
		}
		m := new(T)
		return m, proto.Unmarshal(encoded, M(m))
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return found, nil
}

// only returns the one record that was looked for by its key.
func only[T any](found []*T, err error, what, key string) (*T, error) {
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s %q: %w", what, key, store.ErrNotFound)
	}
	return found[0], nil
}

// Since implements store.Follower. The snapshot of a repeatable-read transaction is its one moment.
func (s *Store) Since(ctx context.Context, version uint64) (changes *store.Changes, err error) {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) error {
		changes, err = since(ctx, tx, int64(version))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read what changed since version %d: %w", version, err)
	}
	return changes, nil
}

func since(ctx context.Context, tx pgx.Tx, version int64) (*store.Changes, error) {
	var now, floor int64
	if err := tx.QueryRow(ctx, "SELECT version, floor FROM registry_catalog").Scan(&now, &floor); err != nil {
		return nil, err
	}
	c := &store.Changes{Version: uint64(now)}
	if version == 0 || version < floor || version > now {
		c.Snapshot, version = true, 0
	}
	if version == now {
		return c, nil
	}
	r := reader{tx}
	err := errors.Join(
		collect(&c.Servers)(r.servers(ctx, "SELECT "+serverColumns+" FROM registry_servers WHERE version > $1 ORDER BY name", version)),
		collect(&c.Views)(r.views(ctx, "SELECT view FROM registry_views WHERE version > $1 ORDER BY name", version)),
		collect(&c.Keys)(r.keys(ctx, "SELECT record FROM registry_keys WHERE version > $1 ORDER BY id", version)),
	)
	if err != nil || c.Snapshot {
		return c, err
	}
	return c, removals(ctx, tx, version, c)
}

// collect passes records on, or the error.
func collect[T any](to *[]*T) func([]*T, error) error {
	return func(found []*T, err error) error {
		*to = found
		return err
	}
}

func removals(ctx context.Context, tx pgx.Tx, version int64, c *store.Changes) error {
	rows, err := tx.Query(ctx, "SELECT kind, name FROM registry_removed WHERE version > $1 ORDER BY kind, name", version)
	if err != nil {
		return err
	}
	var kind store.Kind
	var name string
	_, err = pgx.ForEachRow(rows, []any{&kind, &name}, func() error {
		switch kind {
		case store.KindServer:
			c.RemovedServers = append(c.RemovedServers, name)
		case store.KindView:
			c.RemovedViews = append(c.RemovedViews, name)
		case store.KindKey:
			c.RemovedKeys = append(c.RemovedKeys, name)
		}
		return nil
	})
	return err
}
