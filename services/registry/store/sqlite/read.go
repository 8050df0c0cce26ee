package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// querier is the database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, sql string, args ...any) (*sql.Rows, error)
}

// reader implements store.Reader.
type reader struct{ querier }

// serverColumns has the offer twice: the driver tells an empty one not from none.
const serverColumns = "name, spec, declared, state, message, offer, offer IS NOT NULL, checked_at, version"

// Server implements store.Reader.
func (r reader) Server(ctx context.Context, name string) (*store.Server, error) {
	found, err := r.servers(ctx, "SELECT "+serverColumns+" FROM registry_servers WHERE name = ?", name)
	return only(found, err, "server", name)
}

// Servers implements store.Reader.
func (r reader) Servers(ctx context.Context) ([]*store.Server, error) {
	return r.servers(ctx, "SELECT "+serverColumns+" FROM registry_servers ORDER BY name")
}

// View implements store.Reader.
func (r reader) View(ctx context.Context, name string) (*registryv1.View, error) {
	found, err := r.views(ctx, "SELECT view FROM registry_views WHERE name = ?", name)
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
	names, err := collect(ctx, r, query, nil, func(rows *sql.Rows) (name string, err error) {
		err = rows.Scan(&name)
		return name, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the names of records of kind %d: %w", kind, err)
	}
	return names, nil
}

func (r reader) servers(ctx context.Context, query string, args ...any) ([]*store.Server, error) {
	found, err := collect(ctx, r, query, args, func(rows *sql.Rows) (*store.Server, error) {
		var s store.Row
		var known bool
		if err := rows.Scan(&s.Name, &s.Spec, &s.Declared, &s.State, &s.Message, &s.Offer, &known, &s.CheckedAt, &s.Version); err != nil {
			return nil, err
		}
		if known && s.Offer == nil {
			s.Offer = []byte{}
		}
		return s.Server()
	})
	if err != nil {
		return nil, fmt.Errorf("read servers: %w", err)
	}
	return found, nil
}

func (r reader) views(ctx context.Context, query string, args ...any) ([]*registryv1.View, error) {
	return messages[registryv1.View](ctx, r, "views", query, args...)
}

func (r reader) keys(ctx context.Context, query string, args ...any) ([]*registryv1.KeyRecord, error) {
	return messages[registryv1.KeyRecord](ctx, r, "keys", query, args...)
}

// messages reads a column of encoded messages.
func messages[T any, M interface {
	*T
	proto.Message
}](ctx context.Context, q querier, what, query string, args ...any) ([]*T, error) {
	found, err := collect(ctx, q, query, args, func(rows *sql.Rows) (*T, error) {
		var encoded []byte
		if err := rows.Scan(&encoded); err != nil {
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

// collect runs a query and scans all its rows.
func collect[T any](ctx context.Context, q querier, query string, args []any, scan func(*sql.Rows) (T, error)) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() // closing twice does no harm
	var found []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, errors.Join(rows.Err(), rows.Close())
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

// Since implements store.Follower. The snapshot of a read transaction is its one moment.
func (s *Store) Since(ctx context.Context, version uint64) (*store.Changes, error) {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("read what changed since version %d: %w", version, err)
	}
	defer func() { _ = tx.Rollback() }() // it only read
	changes, err := since(ctx, tx, int64(version))
	if err != nil {
		return nil, fmt.Errorf("read what changed since version %d: %w", version, err)
	}
	return changes, nil
}

func since(ctx context.Context, tx *sql.Tx, version int64) (c *store.Changes, err error) {
	var now, floor int64
	if err := tx.QueryRowContext(ctx, "SELECT version, floor FROM registry_catalog").Scan(&now, &floor); err != nil {
		return nil, err
	}
	c = &store.Changes{Version: uint64(now)}
	if version == 0 || version < floor || version > now {
		c.Snapshot, version = true, 0
	}
	if version == now {
		return c, nil
	}
	r := reader{tx}
	if c.Servers, err = r.servers(ctx, "SELECT "+serverColumns+" FROM registry_servers WHERE version > ? ORDER BY name", version); err != nil {
		return nil, err
	}
	if c.Views, err = r.views(ctx, "SELECT view FROM registry_views WHERE version > ? ORDER BY name", version); err != nil {
		return nil, err
	}
	if c.Keys, err = r.keys(ctx, "SELECT record FROM registry_keys WHERE version > ? ORDER BY id", version); err != nil {
		return nil, err
	}
	if c.Snapshot {
		return c, nil
	}
	return c, removals(ctx, tx, version, c)
}

func removals(ctx context.Context, tx *sql.Tx, version int64, c *store.Changes) error {
	const query = "SELECT kind, name FROM registry_removed WHERE version > ? ORDER BY kind, name"
	_, err := collect(ctx, tx, query, []any{version}, func(rows *sql.Rows) (struct{}, error) {
		var kind store.Kind
		var name string
		err := rows.Scan(&kind, &name)
		switch kind {
		case store.KindServer:
			c.RemovedServers = append(c.RemovedServers, name)
		case store.KindView:
			c.RemovedViews = append(c.RemovedViews, name)
		case store.KindKey:
			c.RemovedKeys = append(c.RemovedKeys, name)
		}
		return struct{}{}, err
	})
	return err
}
