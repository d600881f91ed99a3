package ban

import "database/sql"

// Sync writes what waits.
func (s *Store) Sync() error { return s.sync() }

// DB is the database itself, for those who break it.
func (s *Store) DB() *sql.DB { return s.db.Load() }

// Purge drops what is no longer needed.
func (s *Store) Purge(now int64) error {
	s.put(purgeKey{}, purgeRow(now))
	return s.sync()
}

// LimitPending sets how much may wait.
func (s *Store) LimitPending(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxPending = n
}
