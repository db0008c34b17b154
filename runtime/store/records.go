package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Entry is a record as Records lists it.
type Entry struct {
	Bucket, Key string
	// Refs are what the record keeps from collection.
	Refs []Ref
	// Created is when it was put, LastUsed when it was put or touched.
	Created, LastUsed time.Time
	// Size is the length of its file.
	Size int64

	value json.RawMessage
}

// Decode unmarshals the record's value into v.
func (e Entry) Decode(v any) error {
	if err := json.Unmarshal(e.value, v); err != nil {
		return fmt.Errorf("decode record %s/%s: %w", e.Bucket, e.Key, err)
	}
	return nil
}

// PutRecord writes a record, or replaces it: v as JSON under the key, which
// may be any text. While the record lives, a collection keeps refs.
func (s *Store) PutRecord(bucket, key string, v any, refs ...Ref) error {
	err := s.putRecord(bucket, key, v, refs)
	if err != nil {
		return fmt.Errorf("put record %s/%s: %w", shorten(bucket), shorten(key), s.Explain(err))
	}
	return nil
}

func (s *Store) putRecord(bucket, key string, v any, refs []Ref) error {
	path, err := s.recordPath(bucket, key)
	if err != nil {
		return err
	}
	if err := checkRefs(refs); err != nil {
		return err
	}
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.Stamped(func(stamp Stamp) error {
		data, err := encodeRecord(&envelope{
			Bucket: bucket, Key: key, Refs: refs,
			Created: time.Now().UnixNano(), Stamp: stamp, Value: value,
		})
		if err != nil {
			return err
		}
		return s.replaceFile(path, data)
	})
}

// replaceFile writes a file under a temporary name and renames it.
func (s *Store) replaceFile(path string, data []byte) error {
	name, err := s.ownedName()
	if err != nil {
		return err
	}
	temp := s.path(dirTemp, name)
	if err = writeNewFile(temp, data); err == nil {
		err = renameMaking(temp, path)
	}
	if err != nil {
		return errors.Join(err, removeFile(temp))
	}
	return nil
}

// renameTries is how often a directory is made again that DeleteRecord, at the
// same moment, has found empty.
const renameTries = 100

// renameMaking renames a file, making the directories that it goes to when
// they turn out to be missing.
func renameMaking(from, to string) error {
	err := rename(from, to)
	for range renameTries {
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		// It exists, and then it does not: it is being removed.
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		err = rename(from, to)
	}
	return err
}

// GetRecord reads a record into v, which may be nil. It reports false for a
// miss: there is none, or it is damaged, or it may be after a power loss, or
// its value does not fit v.
func (s *Store) GetRecord(bucket, key string, v any) (bool, error) {
	path, err := s.recordPath(bucket, key)
	if err != nil {
		return false, fmt.Errorf("get record: %w", err)
	}
	data, err := readFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get record %s/%s: %w", bucket, shorten(key), err)
	}
	e, err := decodeRecord(data)
	if err != nil || e.Bucket != bucket || e.Key != key || !s.counts(e) {
		return false, nil
	}
	return v == nil || json.Unmarshal(e.Value, v) == nil, nil
}

// counts reports whether no power loss can have made a whole record untrue.
func (s *Store) counts(e *envelope) bool {
	return slices.Contains(s.verified, e.Bucket) || s.Trusts(e.Stamp)
}

// DeleteRecord removes a record, if there is one. Its directory goes with the
// last one in it: a bucket whose records come and go, as those of containers
// do, would be slow to list for ever.
func (s *Store) DeleteRecord(bucket, key string) error {
	path, err := s.recordPath(bucket, key)
	if err == nil {
		err = removeFile(path)
	}
	if err != nil {
		return fmt.Errorf("delete record %s/%s: %w", shorten(bucket), shorten(key), err)
	}
	_ = unix.Rmdir(filepath.Dir(path)) // which fails as long as others are in it
	return nil
}

// TouchRecord marks a record as used now, for the order in which a collection
// drops records. There is no error: the order is all that a failure changes.
func (s *Store) TouchRecord(bucket, key string) {
	path, err := s.recordPath(bucket, key)
	if err != nil {
		return
	}
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, path, now, unix.AT_SYMLINK_NOFOLLOW)
}

func (s *Store) recordPath(bucket, key string) (string, error) {
	if err := ValidName(bucket); err != nil {
		return "", fmt.Errorf("bucket: %w", err)
	}
	if !validText(key) {
		return "", fmt.Errorf("key %q: %w", shorten(key), ErrInvalidName)
	}
	hash := hashName(key)
	return s.path(dirRecords, bucket, hash[:2], hash), nil
}

// Buckets lists the buckets that exist.
func (s *Store) Buckets() ([]string, error) {
	entries, err := os.ReadDir(s.path(dirRecords))
	if err != nil {
		return nil, fmt.Errorf("list buckets: %w", err)
	}
	var names []string
	for _, e := range entries {
		if ValidName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Records lists the records of a bucket that count, in no order.
func (s *Store) Records(bucket string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for f, err := range s.recordFiles(bucket) {
			if err != nil {
				yield(Entry{}, fmt.Errorf("list records of %s: %w", shorten(bucket), err))
				return
			}
			if f.good && !yield(f.Entry, nil) {
				return
			}
		}
	}
}

// recordFile is a file in a bucket; its Entry is set when it is good.
type recordFile struct {
	Entry
	path string
	good bool
}

// recordFiles lists all files of a bucket, also those that do not count.
func (s *Store) recordFiles(bucket string) iter.Seq2[recordFile, error] {
	return func(yield func(recordFile, error) bool) {
		if err := ValidName(bucket); err != nil {
			yield(recordFile{}, err)
			return
		}
		shards, err := os.ReadDir(s.path(dirRecords, bucket))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			yield(recordFile{}, err)
			return
		}
		for _, shard := range shards {
			if !s.shardFiles(bucket, shard.Name(), yield) {
				return
			}
		}
	}
}

func (s *Store) shardFiles(bucket, shard string, yield func(recordFile, error) bool) bool {
	entries, err := os.ReadDir(s.path(dirRecords, bucket, shard))
	if errors.Is(err, os.ErrNotExist) {
		return true // its last record was removed meanwhile
	}
	if err != nil {
		return yield(recordFile{}, err)
	}
	for _, e := range entries {
		f, err := s.readRecordFile(bucket, s.path(dirRecords, bucket, shard, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if !yield(f, err) || err != nil {
			return false
		}
	}
	return true
}

func (s *Store) readRecordFile(bucket, path string) (recordFile, error) {
	f := recordFile{Entry: Entry{Bucket: bucket}, path: path}
	data, err := readFile(path)
	if err != nil {
		return f, err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return f, err
	}
	f.Size, f.LastUsed = fi.Size(), fi.ModTime()
	e, err := decodeRecord(data)
	if err != nil || e.Bucket != bucket || hashName(e.Key) != filepath.Base(path) || !s.counts(e) {
		return f, nil
	}
	f.Key, f.Refs, f.Created, f.value, f.good = e.Key, e.Refs, e.created(), e.Value, true
	return f, nil
}
