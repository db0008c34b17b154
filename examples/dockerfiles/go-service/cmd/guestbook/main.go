// Command guestbook serves a guest book over HTTP and keeps it in a file.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"net/http"
	"os"
	"sync"
)

var version = "dev"

// book is the guest book.
type book struct {
	mu      sync.Mutex
	file    string
	Entries []entry
}

type entry struct{ Name, Text string }

func open(file string) (*book, error) {
	b := &book{file: file}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	return b, json.Unmarshal(data, &b.Entries)
}

func (b *book) add(e entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Entries = append(b.Entries, e)
	data, err := json.Marshal(b.Entries)
	if err != nil {
		return err
	}
	return os.WriteFile(b.file, data, 0o644)
}

// ServeHTTP lists the entries, and takes new ones by POST.
func (b *book) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		if err := b.add(entry{r.FormValue("name"), r.FormValue("text")}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.Entries {
		fmt.Fprintf(w, "%s: %s\n", e.Name, e.Text)
	}
}

func main() {
	listen := flag.String("listen", ":8080", "address")
	data := flag.String("data", "book.json", "file of the book")
	show := flag.Bool("version", false, "print the version")
	flag.Parse()
	if *show {
		fmt.Println("guestbook", version)
		return
	}
	b, err := open(*data)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/", b)
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	log.Print("listening on ", *listen)
	log.Fatal(http.ListenAndServe(*listen, nil))
}
