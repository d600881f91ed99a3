package kernel

import (
	"context"

	"sipward/policy/ban"
)

// Bans is the Feed of a ban table.
func Bans(t *ban.Table) Feed { return banFeed{t} }

type banFeed struct{ table *ban.Table }

// queue is how many changes may wait. More than that is a reset, which costs
// the kernel no more than the changes themselves.
const queue = 4096

func (f banFeed) Follow(ctx context.Context, reset func([]Entry), apply func(Entry, bool)) error {
	return f.table.Follow(ctx, queue,
		func(records []ban.Record) error {
			entries := make([]Entry, len(records))
			for i, r := range records {
				entries[i] = Entry{r.Prefix, r.Until}
			}
			reset(entries)
			return nil
		},
		func(c ban.Change) error {
			apply(Entry{c.Record.Prefix, c.Record.Until}, c.Kind == ban.Removed || c.Kind == ban.Expired)
			return nil
		})
}
