package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// Change implements store.Writer. The lock on the catalogue's row is held until the commit: without it a lower version
// could be committed after a higher one was read.
func (s *Store) Change(ctx context.Context, do func(store.Tx) error) (version uint64, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(pgtx pgx.Tx) error {
		// A replica that freezes in here must not keep the others from writing for longer.
		if _, err := pgtx.Exec(ctx, "SET LOCAL idle_in_transaction_session_timeout = '10s'"); err != nil {
			return fmt.Errorf("begin a change of the catalogue: %w", err)
		}
		var now int64
		if err := pgtx.QueryRow(ctx, "SELECT version FROM registry_catalog FOR UPDATE").Scan(&now); err != nil {
			return fmt.Errorf("begin a change of the catalogue: %w", err)
		}
		change := &tx{reader: reader{pgtx}, tx: pgtx, version: now + 1}
		if err := do(change); err != nil {
			return err
		}
		version = uint64(now)
		if !change.wrote {
			return nil
		}
		version++
		if _, err := pgtx.Exec(ctx, publish, now+1, now+1-s.keep); err != nil {
			return fmt.Errorf("raise the catalogue's version: %w", err)
		}
		if _, err := pgtx.Exec(ctx, "SELECT pg_notify($1, $2)", channel, strconv.FormatInt(now+1, 10)); err != nil {
			return fmt.Errorf("tell of a change of the catalogue: %w", err)
		}
		return nil
	})
	return version, err
}

// Note implements store.Writer.
func (s *Store) Note(ctx context.Context, name string, version uint64, checkedAt time.Time, message string) error {
	_, err := s.pool.Exec(ctx, "UPDATE registry_servers SET checked_at = $3, message = $4 WHERE name = $1 AND version = $2",
		name, int64(version), checkedAt.UnixMicro(), message)
	if err != nil {
		return fmt.Errorf("note that server %q was asked: %w", name, err)
	}
	return nil
}

// tx implements store.Tx.
type tx struct {
	reader
	tx pgx.Tx
	// version of the catalogue that this makes, if it wrote anything.
	version int64
	wrote   bool
}

// PutServer implements store.Tx.
func (t *tx) PutServer(ctx context.Context, s *store.Server, names []store.Name) error {
	row, err := store.NewRow(s)
	if err != nil {
		return err
	}
	kinds, texts := make([]int16, len(names)), make([]string, len(names))
	for i, n := range names {
		kinds[i], texts[i] = int16(n.Kind), n.Name
	}
	var taken store.NameTaken
	err = t.tx.QueryRow(ctx, takenName, row.Name, kinds, texts).Scan(&taken.Kind, &taken.Name.Name, &taken.Holder)
	if err == nil {
		return &taken
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("look for names that server %q may not have: %w", row.Name, err)
	}
	_, err = t.tx.Exec(ctx, putServer, row.Name, row.Spec, row.Declared, row.State, row.Message, row.Offer, row.CheckedAt, t.version)
	if err != nil {
		return fmt.Errorf("keep server %q: %w", row.Name, err)
	}
	for _, sql := range []string{dropNames, claimNames} {
		if _, err := t.tx.Exec(ctx, sql, row.Name, kinds, texts); err != nil {
			return fmt.Errorf("claim names for server %q: %w", row.Name, err)
		}
	}
	if err := t.unremove(ctx, store.KindServer, row.Name); err != nil {
		return err
	}
	s.Version = uint64(t.version)
	return nil
}

// DeleteServer implements store.Tx.
func (t *tx) DeleteServer(ctx context.Context, name string) error {
	return t.remove(ctx, store.KindServer, "DELETE FROM registry_servers WHERE name = $1", name)
}

// PutView implements store.Tx.
func (t *tx) PutView(ctx context.Context, v *registryv1.View) error {
	encoded, err := store.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode view %q: %w", v.GetName(), err)
	}
	_, err = t.tx.Exec(ctx, `INSERT INTO registry_views (name, view, version) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET view = excluded.view, version = excluded.version`, v.GetName(), encoded, t.version)
	if err != nil {
		return fmt.Errorf("keep view %q: %w", v.GetName(), err)
	}
	return t.unremove(ctx, store.KindView, v.GetName())
}

// DeleteView implements store.Tx.
func (t *tx) DeleteView(ctx context.Context, name string) error {
	return t.remove(ctx, store.KindView, "DELETE FROM registry_views WHERE name = $1", name)
}

// AddKey implements store.Tx.
func (t *tx) AddKey(ctx context.Context, k *registryv1.KeyRecord) error {
	id := k.GetKey().GetId()
	encoded, err := store.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode key %q: %w", id, err)
	}
	tag, err := t.tx.Exec(ctx, "INSERT INTO registry_keys (id, record, version) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", id, encoded, t.version)
	if err != nil {
		return fmt.Errorf("keep key %q: %w", id, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("key %q: %w", id, store.ErrExists)
	}
	return t.unremove(ctx, store.KindKey, id)
}

// DeleteKey implements store.Tx.
func (t *tx) DeleteKey(ctx context.Context, id string) error {
	return t.remove(ctx, store.KindKey, "DELETE FROM registry_keys WHERE id = $1", id)
}

// unremove forgets that a record was removed: it is there.
func (t *tx) unremove(ctx context.Context, kind store.Kind, name string) error {
	t.wrote = true
	if _, err := t.tx.Exec(ctx, "DELETE FROM registry_removed WHERE kind = $1 AND name = $2", kind, name); err != nil {
		return fmt.Errorf("forget that %q was removed: %w", name, err)
	}
	return nil
}

// remove deletes a record and remembers that.
func (t *tx) remove(ctx context.Context, kind store.Kind, sql, name string) error {
	tag, err := t.tx.Exec(ctx, sql, name)
	if err != nil {
		return fmt.Errorf("remove %q: %w", name, err)
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("%q: %w", name, store.ErrNotFound)
	}
	t.wrote = true
	if _, err := t.tx.Exec(ctx, noteRemoval, kind, name, t.version); err != nil {
		return fmt.Errorf("remember that %q was removed: %w", name, err)
	}
	return nil
}
