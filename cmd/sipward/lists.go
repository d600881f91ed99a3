package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sipward/conf"
	"sipward/policy/ban"
	"sipward/policy/iplist"
	"sipward/policy/scanner"
)

// Where the entries of lists come from, beside the files, which name themselves.
const (
	originConfig  = "config"
	originCommand = "command"
)

// lists are the prefix sets of a configuration, those from files included.
type lists struct {
	allow, deny, trunks, pbx *iplist.Set
}

// loadLists reads every list file; all that is wrong is reported at once.
func loadLists(c *conf.Config) (lists, error) {
	allow, err1 := listOf(c, "lists.allow_files", c.Lists.Allow, c.Lists.AllowFiles)
	for _, x := range allow.Entries() { // of those in the configuration conf has said it
		if x.Prefix.Bits() == 0 {
			err1 = errors.Join(err1, fmt.Errorf("%s: %s", x.Origin, allowsEverybody(x.Prefix)))
		}
	}
	deny, err2 := listOf(c, "lists.deny_files", c.Lists.Deny, c.Lists.DenyFiles)
	trunks, _ := listOf(c, "", c.Trunks, nil)
	var hosts []netip.Prefix
	for _, p := range c.PBX {
		hosts = append(hosts, host(p.Address.Addr()))
	}
	pbx, _ := listOf(c, "", hosts, nil)
	return lists{allow: allow, deny: deny, trunks: trunks, pbx: pbx}, errors.Join(err1, err2)
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// listOf puts prefixes and those in files together; key is where the files are named.
func listOf(c *conf.Config, key string, prefixes []netip.Prefix, files []string) (*iplist.Set, error) {
	entries := entriesOf(prefixes)
	var errs []error
	for i, f := range files {
		more, err := iplist.ReadFile(f)
		errs = append(errs, unreadable(c, key, i, err))
		entries = append(entries, more...)
	}
	return iplist.New(entries), errors.Join(errs...)
}

func entriesOf(prefixes []netip.Prefix) []iplist.Entry {
	var entries []iplist.Entry
	for _, p := range prefixes {
		entries = append(entries, iplist.Entry{Prefix: p, Origin: originConfig})
	}
	return entries
}

// allowsEverybody says what is wrong with an allow list that has such a prefix.
func allowsEverybody(p netip.Prefix) string {
	return fmt.Sprintf("%s is everybody, which would switch the protection off; allow the prefixes that you trust", p)
}

// unreadable says where the i-th file of a key is named, if err is that it cannot be read.
func unreadable(c *conf.Config, key string, i int, err error) error {
	if why := new(fs.PathError); errors.As(err, &why) {
		return c.Problem(fmt.Sprintf("%s[%d]", key, i), fmt.Sprintf("the file cannot be read: %v; correct its name or its mode", why))
	}
	return err
}

// withCommands adds the entries that were made by command.
func (l lists) withCommands(store *ban.Store) lists {
	l.allow = withEntries(l.allow, store.ListEntries(listAllow))
	l.deny = withEntries(l.deny, store.ListEntries(listDeny))
	return l
}

func withEntries(set *iplist.Set, more []ban.ListEntry) *iplist.Set {
	if len(more) == 0 {
		return set
	}
	entries := set.Entries()
	for _, e := range more {
		entries = append(entries, iplist.Entry{Prefix: e.Prefix, Origin: originCommand, Comment: e.Comment})
	}
	return iplist.New(entries)
}

// known returns the sets of those who are let in whatever they do, and what each
// means.
func (l lists) known() []knownSet {
	return []knownSet{{l.allow, "on the allow list"}, {l.pbx, "one of your PBXes"}, {l.trunks, "one of your trunks"}}
}

type knownSet struct {
	set  *iplist.Set
	what string
}

// overlap says whether a set and a prefix have an address in common.
func overlap(set *iplist.Set, p netip.Prefix) bool {
	return slices.ContainsFunc(set.Entries(), func(x iplist.Entry) bool { return x.Prefix.Overlaps(p) })
}

// loadSignatures puts the built-in signatures and those of the configuration
// together.
func loadSignatures(c *conf.Config) (*scanner.Set, error) {
	set := scanner.Default()
	var errs []error
	for i, name := range c.Scanner.Signatures {
		text, err := os.ReadFile(name)
		if err != nil {
			errs = append(errs, unreadable(c, "scanner.signatures", i, err))
			continue
		}
		own, err := scanner.Parse(name, text)
		if err == nil {
			if own, err = set.Merge(own); err == nil {
				set = own
			}
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil || len(c.Scanner.Disable) == 0 {
		return set, err
	}
	return disable(set, c.Scanner.Disable)
}

// disable switches signatures off as a file of one's own would.
func disable(set *scanner.Set, ids []string) (*scanner.Set, error) {
	var text strings.Builder
	text.WriteString("change:\n")
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		fmt.Fprintf(&text, "- {id: %q, disable: true}\n", id)
	}
	off, err := scanner.Parse("scanner.disable", []byte(text.String()))
	if err == nil {
		off, err = set.Merge(off)
	}
	var problems scanner.Errors
	if errors.As(err, &problems) {
		err = nil
		for _, p := range problems { // their lines are of the text above
			err = errors.Join(err, errors.New("scanner.disable: "+p.Text))
		}
	}
	return off, err
}

// files returns every file beside the configuration that it is made of.
func (c *configuration) files() []string {
	all := slices.Concat(c.conf.Lists.AllowFiles, c.conf.Lists.DenyFiles, c.conf.Scanner.Signatures, secretFiles(c.conf), certificateFiles(c.conf))
	if c.conf.Control.Certificate != "" {
		all = append(all, c.conf.Control.Certificate, c.conf.Control.CertificateKey)
	}
	return all
}

// stamp is what changes when a file does, or is put in the place of another.
type stamp struct {
	changed unix.Timespec
	inode   uint64
	size    int64
}

// stamps looks at files; one that cannot be seen has the zero stamp.
func stamps(files []string) map[string]stamp {
	all := make(map[string]stamp, len(files))
	for _, f := range files {
		var st unix.Stat_t
		if err := unix.Stat(f, &st); err != nil {
			st = unix.Stat_t{}
		}
		all[f] = stamp{changed: st.Ctim, inode: st.Ino, size: st.Size}
	}
	return all
}

// pollFiles is how often these files are looked at.
const pollFiles = time.Second

// watchFiles puts files with lists, signatures, secrets and certificates in force when they change. It waits
// until they have not changed for a whole period, so that one that is being
// written is not read by half.
func (e *edge) watchFiles(ctx context.Context) error {
	tick := time.NewTicker(pollFiles)
	defer tick.Stop()
	var before map[string]stamp
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := stamps(e.current().files())
		if maps.Equal(now, before) {
			e.reloadFiles(now)
		}
		before = now
	}
}

// reloadFiles reads the files again if they are not those that were read last.
func (e *edge) reloadFiles(now map[string]stamp) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if maps.Equal(now, e.config.read) {
		return
	}
	next := *e.config
	if err := next.loadFiles(); err != nil {
		e.log.Error("a list, a signature file, a secret or a certificate has changed and is wrong; what was in force stays in force", "err", err)
		same := *e.config
		same.read = next.read
		e.config = &same
		return
	}
	if err := e.pool.Reload(poolConfig(&next, e.store, e.log)); err != nil {
		e.log.Error("the PBXes stay as they were", "err", err)
	}
	e.apply(&next)
	e.warn(&next)
	e.log.Info("files have changed and are in force", "allow", e.lists.allow.Len(), "deny", e.lists.deny.Len())
}
