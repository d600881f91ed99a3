package ban

import (
	"database/sql"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sipward/policy/dbfile"
)

// The defaults of PlacesConfig.
const (
	DefaultPlacesPerAccount = 32
	DefaultPlacesAccounts   = 100_000
	DefaultPlacesRemember   = 90 * 24 * time.Hour
)

// PlacesConfig sizes a Places.
type PlacesConfig struct {
	Store      *Store        // nil: in memory only
	PerAccount int           // sources remembered of an account, of which the one not seen for longest makes room; 0: DefaultPlacesPerAccount
	Accounts   int           // accounts remembered, likewise; 0: DefaultPlacesAccounts
	Remember   time.Duration // how long a source is known after its last registration; 0: DefaultPlacesRemember
}

// Places knows from which sources each account has registered, so that when an
// account is under attack its owner is not shut out with the attackers. Only
// what the PBX accepted belongs in here: then strangers cannot fill it.
//
// It takes about 200 bytes for an account with one place, and 32 for each
// further one.
type Places struct {
	cfg    PlacesConfig
	seed   maphash.Seed
	shards [placeShards]placeShard
}

const placeShards = 64

type placeShard struct {
	mu sync.RWMutex
	of map[string][]place
}

// place is a source that an account has registered from.
type place struct {
	source netip.Addr
	seen   int64 // Unix seconds: within placeRefresh of the last registration
}

// placeRefresh is how much later a registration must be to be worth writing down:
// phones register every few minutes.
const placeRefresh = int64(24 * time.Hour / time.Second)

// NewPlaces makes a Places and loads what the store holds.
func NewPlaces(cfg PlacesConfig, now int64) (*Places, error) {
	if cfg.PerAccount <= 0 {
		cfg.PerAccount = DefaultPlacesPerAccount
	}
	if cfg.Accounts <= 0 {
		cfg.Accounts = DefaultPlacesAccounts
	}
	if cfg.Remember <= 0 {
		cfg.Remember = DefaultPlacesRemember
	}
	p := &Places{cfg: cfg, seed: maphash.MakeSeed()}
	for i := range p.shards {
		p.shards[i].of = make(map[string][]place)
	}
	if cfg.Store == nil {
		return p, nil
	}
	if err := cfg.Store.attach(p, now); err != nil {
		return nil, fmt.Errorf("load known places: %w", err)
	}
	return p, nil
}

func (p *Places) shard(account []byte) *placeShard {
	return &p.shards[maphash.Bytes(p.seed, account)%placeShards]
}

// Known says whether account has registered from source, which is an address as
// the policy counts sources (IPv6 masked). It does not allocate.
func (p *Places) Known(account []byte, source netip.Addr, now int64) bool {
	oldest := (now - int64(p.cfg.Remember)) / int64(time.Second)
	s := p.shard(account)
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, k := range s.of[string(account)] {
		if k.source == source {
			return k.seen >= oldest
		}
	}
	return false
}

// Sources calls f with each source that an account has registered from since the given
// time (Unix nanoseconds; within a day, which is how exactly it is known). A source with
// several accounts comes several times.
func (p *Places) Sources(since int64, f func(source netip.Addr)) {
	oldest := since/int64(time.Second) - placeRefresh
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.RLock()
		for _, places := range s.of {
			for _, k := range places {
				if k.seen >= oldest {
					f(k.source)
				}
			}
		}
		s.mu.RUnlock()
	}
}

// Add notes that account has registered from source. It does not allocate when
// that is known already.
func (p *Places) Add(account []byte, source netip.Addr, now int64) {
	if len(account) == 0 {
		return
	}
	sec := now / int64(time.Second)
	s := p.shard(account)
	s.mu.RLock()
	fresh := slices.ContainsFunc(s.of[string(account)], func(k place) bool {
		return k.source == source && sec-k.seen < placeRefresh
	})
	s.mu.RUnlock()
	if !fresh {
		p.note(s, string(account), source, sec)
	}
}

func (p *Places) note(s *placeShard, account string, source netip.Addr, sec int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.of[account]
	if !known {
		p.makeRoom(s)
	}
	// Always a new slice, newest first: the old one may wait to be written.
	places := append(make([]place, 0, len(old)+1), place{source, sec})
	for _, k := range old {
		if k.source != source && len(places) < p.cfg.PerAccount && sec-k.seen < int64(p.cfg.Remember/time.Second) {
			places = append(places, k)
		}
	}
	p.set(s, account, places)
}

// makeRoom forgets the account that has not registered for longest, if the
// shard is full. It looks at all of a shard, about 1,600 accounts, once for each
// account that is new.
func (p *Places) makeRoom(s *placeShard) {
	if len(s.of) < (p.cfg.Accounts+placeShards-1)/placeShards {
		return
	}
	var oldest string
	var seen int64
	for account, places := range s.of {
		if oldest == "" || places[0].seen < seen {
			oldest, seen = account, places[0].seen
		}
	}
	p.set(s, oldest, nil)
}

// set replaces what is known of an account. The shard is locked.
func (p *Places) set(s *placeShard, account string, places []place) {
	if len(places) == 0 {
		delete(s.of, account)
	} else {
		s.of[account] = places
	}
	if p.cfg.Store != nil {
		p.cfg.Store.putLater(placeKey(account), placeRow{account, places})
	}
}

type placeKey string

type placeRow struct {
	account string
	places  []place // not changed by anyone
}

func (r placeRow) write(b *dbfile.Batch) error {
	if len(r.places) == 0 {
		return b.Exec(`DELETE FROM places WHERE account = ?`, r.account)
	}
	return b.Exec(`INSERT OR REPLACE INTO places (account, sources) VALUES (?, ?)`, r.account, formatPlaces(r.places))
}

func formatPlaces(places []place) string {
	var b []byte
	for i, k := range places {
		if i > 0 {
			b = append(b, ' ')
		}
		b = k.source.AppendTo(b)
		b = append(b, '@')
		b = strconv.AppendInt(b, k.seen, 10)
	}
	return string(b)
}

func parsePlaces(text string) ([]place, error) {
	places := make([]place, 0, strings.Count(text, " ")+1)
	for f := range strings.FieldsSeq(text) {
		source, seen, _ := strings.Cut(f, "@")
		a, err := netip.ParseAddr(source)
		if err != nil {
			return nil, err
		}
		sec, err := strconv.ParseInt(seen, 10, 64)
		if err != nil {
			return nil, err
		}
		places = append(places, place{a, sec})
	}
	return places, nil
}

var _ owner = (*Places)(nil)

func (p *Places) load(db *sql.DB, _ int64) error {
	rows, err := db.Query(`SELECT account, sources FROM places`)
	if err != nil {
		return err
	}
	defer rows.Close()
	bad := 0
	for rows.Next() {
		var account string
		var sources sql.RawBytes
		err := rows.Scan(&account, &sources)
		if err != nil {
			bad++
			continue
		}
		places, err := parsePlaces(string(sources))
		if err != nil || len(places) == 0 || account == "" {
			bad++
			continue
		}
		p.restore(account, places)
	}
	p.cfg.Store.badRows(bad)
	return rows.Err()
}

// restore takes in what the store knows of an account. What memory has of it is
// newer.
func (p *Places) restore(account string, places []place) {
	s := p.shard([]byte(account))
	s.mu.Lock()
	defer s.mu.Unlock()
	newer, known := s.of[account]
	if !known {
		p.makeRoom(s)
		s.of[account] = places
		return
	}
	merged := slices.Clone(newer)
	for _, k := range places {
		if len(merged) < p.cfg.PerAccount && !slices.ContainsFunc(newer, func(n place) bool { return n.source == k.source }) {
			merged = append(merged, k)
		}
	}
	p.set(s, account, merged)
}

func (p *Places) all(put func(row)) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.RLock()
		rows := make([]placeRow, 0, len(s.of))
		for account, places := range s.of {
			rows = append(rows, placeRow{account, places})
		}
		s.mu.RUnlock()
		for _, r := range rows {
			put(r)
		}
	}
}
