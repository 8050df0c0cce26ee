// Package spool is a bounded queue on disk, for what must reach another process though either dies. It must not know
// what its entries are. Start at [Open].
//
// A spool is a directory. Each process that opens it makes a directory of its own inside, which it holds by a lock,
// and takes over what processes that ended left in theirs. An entry is one file: its checksum, then its bytes. It is
// written under another name and renamed, so it is there whole or not at all, whenever the process is killed.
package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/gofrs/flock"
	"github.com/google/uuid"
)

// ErrFull says that an entry found no room.
var ErrFull = errors.New("the spool is full")

// ErrEmpty says that nothing waits.
var ErrEmpty = errors.New("the spool is empty")

// Config is what a Spool needs.
type Config struct {
	// Dir is made where there is none. Several processes may share it.
	Dir string
	// Limit of bytes on disk, for this process's part; each entry counts as whole blocks of 4 KiB.
	Limit int64
	// Sync has each entry outlive a loss of power too, at the price of waiting for the disk. Without it an entry
	// outlives the process, and a loss of power may take the last half minute.
	Sync bool
	// Overwrite has the oldest entries go for a new one that finds no room; without it Add fails with ErrFull.
	Overwrite bool
	// Dropped is told of each entry that goes undelivered: for a newer one, or because it was damaged (entry is nil
	// then). Optional.
	Dropped func(entry []byte)
}

// Spool is an open queue. Safe for concurrent use by several that add; one takes.
type Spool struct {
	config Config
	dir    string
	lock   *flock.Flock
	wake   chan struct{}

	mu      sync.Mutex
	waiting []entry // oldest first
	next    uint64
	bytes   int64
}

type entry struct {
	number uint64
	bytes  int64
}

const (
	block    = 4 << 10
	checksum = 4 // bytes
	lockName = "lock"
)

// Open opens the spool in a directory, with all that waits in it and belongs to no living process.
func Open(c Config) (*Spool, error) {
	if c.Dropped == nil {
		c.Dropped = func([]byte) {}
	}
	s := &Spool{config: c, dir: filepath.Join(c.Dir, uuid.NewString()), wake: make(chan struct{}, 1)}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	// The lock is held before the directory bears its name: no other process may take it for a dead one's.
	making := s.dir + ".new"
	if err := os.Mkdir(making, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	s.lock = flock.New(filepath.Join(making, lockName))
	if held, err := s.lock.TryLock(); err != nil || !held {
		return nil, fmt.Errorf("lock the spool %s: %w", making, errors.Join(err, os.RemoveAll(making)))
	}
	if err := os.Rename(making, s.dir); err != nil {
		return nil, fmt.Errorf("make the spool: %w", errors.Join(err, s.lock.Close(), os.RemoveAll(making)))
	}
	if err := s.adopt(); err != nil {
		return nil, fmt.Errorf("take over what waits in the spool %s: %w", c.Dir, errors.Join(err, s.Close()))
	}
	return s, nil
}

// adopt moves here what dead processes left.
func (s *Spool) adopt() error {
	all, err := os.ReadDir(s.config.Dir)
	if err != nil {
		return err
	}
	for _, one := range all {
		dir := filepath.Join(s.config.Dir, one.Name())
		if !one.IsDir() || dir == s.dir || strings.HasSuffix(dir, ".new") {
			continue
		}
		if err := s.adoptFrom(dir); err != nil && !errors.Is(err, fs.ErrNotExist) { // another may be quicker
			return err
		}
	}
	return nil
}

func (s *Spool) adoptFrom(dir string) error {
	left := flock.New(filepath.Join(dir, lockName))
	held, err := left.TryLock()
	if err != nil || !held {
		return err
	}
	defer func() { _ = left.Close() }()
	files, err := os.ReadDir(dir) // by name, which is by age
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := strconv.ParseUint(f.Name(), 10, 64); err != nil {
			continue // the lock, or what was not finished
		}
		about, err := f.Info()
		if err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(dir, f.Name()), s.path(s.next)); err != nil {
			return err
		}
		s.push(about.Size())
	}
	return os.RemoveAll(dir)
}

// Wake gives a token while something may be waiting.
func (s *Spool) Wake() <-chan struct{} { return s.wake }

// Waiting is how many entries wait.
func (s *Spool) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// Add keeps an entry. Once it returns nil the entry outlives the process.
func (s *Spool) Add(data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := int64(checksum + len(data))
	for s.bytes+onDisk(size) > s.config.Limit {
		if !s.config.Overwrite || len(s.waiting) == 0 {
			return ErrFull
		}
		oldest := s.waiting[0].number
		gone, err := s.read(oldest)
		if err != nil {
			gone = nil
		}
		if err := s.shift(oldest); err != nil {
			return err
		}
		s.config.Dropped(gone)
	}
	file := make([]byte, checksum, size)
	binary.BigEndian.PutUint32(file, crc32.ChecksumIEEE(data))
	if err := s.write(s.path(s.next), append(file, data...)); err != nil {
		return fmt.Errorf("write to the spool: %w", err)
	}
	s.push(size)
	return nil
}

func (s *Spool) write(path string, data []byte) error {
	unfinished := path + ".new"
	f, err := os.OpenFile(unfinished, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && s.config.Sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(unfinished))
	}
	if err := os.Rename(unfinished, path); err != nil {
		return err
	}
	if !s.config.Sync {
		return nil
	}
	d, err := os.Open(s.dir) // the name must outlive a loss of power too
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Oldest returns the entry that waits longest, or ErrEmpty. It waits on, until Remove. Damaged ones are dropped.
func (s *Spool) Oldest() (number uint64, data []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) > 0 {
		number = s.waiting[0].number
		data, err = s.read(number)
		switch {
		case err == nil:
			return number, data, nil
		case !errors.Is(err, errDamaged) && !errors.Is(err, fs.ErrNotExist):
			return 0, nil, fmt.Errorf("read from the spool: %w", err)
		}
		if err := s.shift(number); err != nil {
			return 0, nil, err
		}
		s.config.Dropped(nil)
	}
	return 0, nil, ErrEmpty
}

var errDamaged = errors.New("the entry is damaged")

func (s *Spool) read(number uint64) ([]byte, error) {
	file, err := os.ReadFile(s.path(number))
	if err != nil {
		return nil, err
	}
	if len(file) < checksum || binary.BigEndian.Uint32(file) != crc32.ChecksumIEEE(file[checksum:]) {
		return nil, errDamaged
	}
	return file[checksum:], nil
}

// Remove lets go of what Oldest returned, which may have had to go meanwhile.
func (s *Spool) Remove(number uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 || s.waiting[0].number != number {
		return nil
	}
	return s.shift(number)
}

// shift removes the oldest entry.
func (s *Spool) shift(number uint64) error {
	if err := os.Remove(s.path(number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove from the spool: %w", err)
	}
	s.bytes -= s.waiting[0].bytes
	s.waiting = s.waiting[1:]
	return nil
}

func (s *Spool) push(size int64) {
	s.waiting = append(s.waiting, entry{s.next, onDisk(size)})
	s.bytes += onDisk(size)
	s.next++
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func onDisk(size int64) int64 { return (size + block - 1) / block * block }

func (s *Spool) path(number uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%020d", number))
}

// Close lets go of the spool. What waits is found by the next process that opens it.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return errors.Join(os.RemoveAll(s.dir), s.lock.Close())
	}
	return s.lock.Close()
}
