package flow

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dchest/siphash"
)

// KeySize is the length of a key in bytes: one SipHash key for tokens, one for
// the other keyed hashes.
const KeySize = 32

// A Key authenticates tokens and keys the hashes behind branches and tags. It is
// immutable and safe for concurrent use. Nodes that share traffic share it.
type Key struct {
	mac0, mac1   uint64
	hash0, hash1 uint64
}

// NewKey returns the key made of the KeySize bytes in raw.
func NewKey(raw []byte) (*Key, error) {
	if len(raw) != KeySize {
		return nil, fmt.Errorf("flow: a token key has %d bytes, this one has %d", KeySize, len(raw))
	}
	return &Key{
		mac0:  binary.LittleEndian.Uint64(raw[0:]),
		mac1:  binary.LittleEndian.Uint64(raw[8:]),
		hash0: binary.LittleEndian.Uint64(raw[16:]),
		hash1: binary.LittleEndian.Uint64(raw[24:]),
	}, nil
}

// RandomKey returns a key that exists only in memory: calls do not survive a
// restart with it. For tests and the demo.
func RandomKey() *Key {
	var raw [KeySize]byte
	rand.Read(raw[:]) // never fails, see crypto/rand
	k, _ := NewKey(raw[:])
	return k
}

// LoadKey reads the key at path, and makes one there (mode 0600) if there is
// none. A key that others can read is refused: whoever has it can forge tokens.
func LoadKey(path string) (*Key, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if raw, err = createKey(path); err != nil {
			return nil, fmt.Errorf("make the token key: %w", err)
		}
		return NewKey(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("read the token key: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the token key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("token key %s has mode %04o: others can read it; chmod 600 it, or remove it to have a new one made (established calls lose their signalling)", path, info.Mode().Perm())
	}
	k, err := NewKey(raw)
	if err != nil {
		return nil, fmt.Errorf("token key %s: %w; remove it to have a new one made", path, err)
	}
	return k, nil
}

// createKey writes a new key durably and without a moment in which a shorter
// file could be read: to a temporary name first, then linked into place. Another
// process that was faster wins.
func createKey(path string) ([]byte, error) {
	raw := make([]byte, KeySize)
	rand.Read(raw)
	f, err := os.CreateTemp(filepath.Dir(path), ".token-key-*") // CreateTemp makes it 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(raw)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return nil, err
	}
	if err := os.Link(f.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return os.ReadFile(path)
		}
		return nil, err
	}
	return raw, nil
}

// Hash is a keyed hash of b for values that a stranger must not be able to
// predict or to collide: branches, tags, table slots.
func (k *Key) Hash(b []byte) uint64 { return siphash.Hash(k.hash0, k.hash1, b) }

func (k *Key) mac(b []byte) uint64 { return siphash.Hash(k.mac0, k.mac1, b) }
