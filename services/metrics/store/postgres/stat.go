package postgres

import "github.com/jackc/pgx/v5/pgxpool"

// Stat says how the pool of connections is doing.
func (s *Store) Stat() *pgxpool.Stat { return s.pool.Stat() }
