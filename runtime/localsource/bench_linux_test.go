package localsource

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func manyFiles(b *testing.B, n int) string {
	b.Helper()
	dir := b.TempDir()
	data := make([]byte, 10<<10)
	for i := range n {
		d := filepath.Join(dir, fmt.Sprintf("d%02d/e%03d", i/1000, i/100))
		if i%100 == 0 {
			must(b, os.MkdirAll(d, 0o755))
		}
		data[0], data[1] = byte(i), byte(i>>8)
		must(b, os.WriteFile(filepath.Join(d, fmt.Sprintf("file-%d.js", i)), data[:2+i*7919%(len(data)-2)], 0o644))
	}
	return dir
}

// loop runs f, and reports the processor time too: that says more on a busy
// machine.
func loop(b *testing.B, f func()) {
	var before, after unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &before))
	for b.Loop() {
		f()
	}
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &after))
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/1e6/float64(b.N), "cpu-ms/op")
}

func benchScan(b *testing.B, n int) {
	dir := manyFiles(b, n)
	b.Run("cold", func(b *testing.B) {
		loop(b, func() { scan(b, dir, Options{}) })
	})
	b.Run("warm", func(b *testing.B) {
		o := later(Options{CacheDir: b.TempDir()})
		scan(b, dir, o)
		loop(b, func() {
			if m := scan(b, dir, o); m.Stats().Hashed != 0 {
				b.Fatal("not warm")
			}
		})
	})
	b.Run("walkdir", func(b *testing.B) {
		loop(b, func() {
			must(b, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
				if err == nil {
					_, err = d.Info()
				}
				return err
			}))
		})
	})
}

func BenchmarkScan20000(b *testing.B)  { benchScan(b, 20000) }
func BenchmarkScan200000(b *testing.B) { benchScan(b, 200000) }
