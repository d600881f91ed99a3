package ban

import "database/sql"

// Sync writes what waits.
func (s *Store) Sync() error { return s.sync() }

// DB is the database itself, for those who break it.
func (s *Store) DB() *sql.DB { return s.db.Load() }
