package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/services/registry/store"
)

// Change implements store.Writer.
func (s *Store) Change(ctx context.Context, do func(store.Tx) error) (uint64, error) {
	sqltx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("begin a change of the catalogue: %w", err)
	}
	defer func() { _ = sqltx.Rollback() }() // does nothing after a commit
	var now int64
	if err := sqltx.QueryRowContext(ctx, "SELECT version FROM registry_catalog").Scan(&now); err != nil {
		return 0, fmt.Errorf("begin a change of the catalogue: %w", err)
	}
	change := &tx{reader: reader{sqltx}, tx: sqltx, version: now + 1}
	if err := do(change); err != nil {
		return 0, err
	}
	if !change.wrote {
		return uint64(now), nil
	}
	if err := publish(ctx, sqltx, now+1, now+1-s.keep); err != nil {
		return 0, fmt.Errorf("raise the catalogue's version: %w", err)
	}
	if err := sqltx.Commit(); err != nil {
		return 0, fmt.Errorf("commit a change of the catalogue: %w", err)
	}
	s.tell()
	return uint64(now) + 1, nil
}

// publish sets the catalogue's version and forgets removals up to floor.
func publish(ctx context.Context, tx *sql.Tx, version, floor int64) error {
	if _, err := tx.ExecContext(ctx, "UPDATE registry_catalog SET version = ?, floor = max(floor, ?)", version, floor); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM registry_removed WHERE version <= ?", floor)
	return err
}

// Note implements store.Writer.
func (s *Store) Note(ctx context.Context, name string, version uint64, checkedAt time.Time, message string) error {
	_, err := s.db.ExecContext(ctx, "UPDATE registry_servers SET checked_at = ?, message = ? WHERE name = ? AND version = ?",
		checkedAt.UnixMicro(), message, name, int64(version))
	if err != nil {
		return fmt.Errorf("note that server %q was asked: %w", name, err)
	}
	return nil
}

// tx implements store.Tx.
type tx struct {
	reader
	tx *sql.Tx
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
	pairs := make([][2]any, len(names))
	for i, n := range names {
		pairs[i] = [2]any{n.Kind, n.Name}
	}
	claimed, err := json.Marshal(pairs)
	if err != nil {
		return fmt.Errorf("encode the names of server %q: %w", row.Name, err)
	}
	var taken store.NameTaken
	err = t.tx.QueryRowContext(ctx, takenName, row.Name, string(claimed)).Scan(&taken.Kind, &taken.Name.Name, &taken.Holder)
	if err == nil {
		return &taken
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("look for names that server %q may not have: %w", row.Name, err)
	}
	_, err = t.tx.ExecContext(ctx, putServer, row.Name, row.Spec, row.Declared, row.State, row.Message, row.Offer, row.CheckedAt, t.version)
	if err != nil {
		return fmt.Errorf("keep server %q: %w", row.Name, err)
	}
	for _, sql := range []string{dropNames, claimNames} {
		if _, err := t.tx.ExecContext(ctx, sql, row.Name, string(claimed)); err != nil {
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
	return t.remove(ctx, store.KindServer, "DELETE FROM registry_servers WHERE name = ?", name)
}

// PutView implements store.Tx.
func (t *tx) PutView(ctx context.Context, v *registryv1.View) error {
	encoded, err := store.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode view %q: %w", v.GetName(), err)
	}
	_, err = t.tx.ExecContext(ctx, `INSERT INTO registry_views (name, view, version) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET view = excluded.view, version = excluded.version`, v.GetName(), encoded, t.version)
	if err != nil {
		return fmt.Errorf("keep view %q: %w", v.GetName(), err)
	}
	return t.unremove(ctx, store.KindView, v.GetName())
}

// DeleteView implements store.Tx.
func (t *tx) DeleteView(ctx context.Context, name string) error {
	return t.remove(ctx, store.KindView, "DELETE FROM registry_views WHERE name = ?", name)
}

// AddKey implements store.Tx.
func (t *tx) AddKey(ctx context.Context, k *registryv1.KeyRecord) error {
	id := k.GetKey().GetId()
	encoded, err := store.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode key %q: %w", id, err)
	}
	result, err := t.tx.ExecContext(ctx, "INSERT INTO registry_keys (id, record, version) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", id, encoded, t.version)
	if err != nil {
		return fmt.Errorf("keep key %q: %w", id, err)
	}
	if n, _ := result.RowsAffected(); n == 0 { // this driver always knows
		return fmt.Errorf("key %q: %w", id, store.ErrExists)
	}
	return t.unremove(ctx, store.KindKey, id)
}

// DeleteKey implements store.Tx.
func (t *tx) DeleteKey(ctx context.Context, id string) error {
	return t.remove(ctx, store.KindKey, "DELETE FROM registry_keys WHERE id = ?", id)
}

// unremove forgets that a record was removed: it is there.
func (t *tx) unremove(ctx context.Context, kind store.Kind, name string) error {
	t.wrote = true
	if _, err := t.tx.ExecContext(ctx, "DELETE FROM registry_removed WHERE kind = ? AND name = ?", kind, name); err != nil {
		return fmt.Errorf("forget that %q was removed: %w", name, err)
	}
	return nil
}

// remove deletes a record and remembers that.
func (t *tx) remove(ctx context.Context, kind store.Kind, sql, name string) error {
	result, err := t.tx.ExecContext(ctx, sql, name)
	if err != nil {
		return fmt.Errorf("remove %q: %w", name, err)
	}
	if n, _ := result.RowsAffected(); n == 0 { // this driver always knows
		return fmt.Errorf("%q: %w", name, store.ErrNotFound)
	}
	t.wrote = true
	if _, err := t.tx.ExecContext(ctx, noteRemoval, kind, name, t.version); err != nil {
		return fmt.Errorf("remember that %q was removed: %w", name, err)
	}
	return nil
}
