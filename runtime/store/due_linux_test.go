package store

import (
	"path/filepath"
	"testing"
	"time"
)

// openBoot opens a store in a boot of the machine.
func openBoot(t *testing.T, root, boot string) *Store {
	t.Helper()
	s, err := New(Options{Root: root, BootID: boot, Verified: []string{"names"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSyncIsDueUntilItIsDone(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	s := openBoot(t, root, "boot-1")
	if s.SyncDue(0) {
		t.Error("a new store has something to sync")
	}
	if err := s.PutRecord("cache", "k", 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openBoot(t, root, "boot-1")
	if !s.SyncDue(0) || s.SyncDue(time.Hour) {
		t.Errorf("due at once: %t, due after an hour: %t", s.SyncDue(0), s.SyncDue(time.Hour))
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.SyncDue(0) {
		t.Error("a sync is due after the sync")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	after := openBoot(t, root, "boot-2")
	defer after.Close()
	if ok, err := after.GetRecord("cache", "k", nil); !ok || err != nil {
		t.Errorf("a synced record is a miss after a reboot: %t, %v", ok, err)
	}
}

func TestVerifiedRecordsSurviveAReboot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	s := openBoot(t, root, "boot-1")
	for _, bucket := range []string{"names", "cache"} {
		if err := s.PutRecord(bucket, "k", 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	after := openBoot(t, root, "boot-2")
	defer after.Close()
	for bucket, want := range map[string]bool{"names": true, "cache": false} {
		if ok, err := after.GetRecord(bucket, "k", nil); ok != want || err != nil {
			t.Errorf("record in %s: %t, %v; want %t", bucket, ok, err, want)
		}
	}
}
