package registry

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Docker Hub is asked at the place that registries.conf gives for it, and its
// answer read as the API has it.
func TestSearchHub(t *testing.T) {
	var asked string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		switch r.URL.Query().Get("q") {
		case "nginx":
			fmt.Fprint(w, `{"num_results":1,"results":[{"name":"nginx","description":"Official build","star_count":20000,"is_official":true}]}`)
		case "html":
			fmt.Fprint(w, `<html>`)
		default:
			http.Error(w, "no", http.StatusTooManyRequests)
		}
	}))
	t.Cleanup(s.Close)
	conf := write(t, fmt.Sprintf("[[registry]]\nprefix = \"docker.io\"\nlocation = %q\n", strings.TrimPrefix(s.URL, "http://")), t.TempDir(), "r.conf")
	c := newClient(t, Options{RegistriesConf: []string{conf}})
	found, err := c.SearchHub(context.Background(), "nginx", 500)
	if err != nil || len(found) != 1 || found[0] != (Found{Name: "nginx", Description: "Official build", Stars: 20000, Official: true}) {
		t.Errorf("found %+v, %v", found, err)
	}
	if asked != "/v1/search?n=100&q=nginx" {
		t.Errorf("asked for %s", asked)
	}
	_, err = c.SearchHub(context.Background(), "html", 5)
	wantError(t, err, "not that of a search")
	_, err = c.SearchHub(context.Background(), "busy", 5)
	wantError(t, err, "limits the rate of requests")
}

func TestSearchCatalog(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/":
		case "/v2/_catalog":
			fmt.Fprint(w, `{"repositories":["team/web","team/db","other"]}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	c := newClient(t, Options{})
	for term, want := range map[string]string{"": "team/web team/db other", "team": "team/web team/db", "xyz": ""} {
		found, err := c.SearchCatalog(context.Background(), host, term)
		var names []string
		for _, f := range found {
			names = append(names, strings.TrimPrefix(f.Name, host+"/"))
		}
		if err != nil || strings.Join(names, " ") != want {
			t.Errorf("%q: %q, %v", term, names, err)
		}
	}
	none := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(none.Close)
	_, err := c.SearchCatalog(context.Background(), strings.TrimPrefix(none.URL, "http://"), "")
	wantError(t, err, "offers no catalog")
}
