package examples

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/strata-build/strata/internal/testimage"
)

// TestWebServices runs a service of each language and asks it.
func TestWebServices(t *testing.T) {
	for _, service := range []struct{ name, port, hello, path, answer string }{
		{"python", "8000", "Hello from Python!\n", "/add/1/2", "{\"sum\":3}\n"},
		{"node", "3000", "Hello from Node!\n", "/add/1/2", `{"sum":3}`},
	} {
		t.Run(service.name, func(t *testing.T) {
			u := in(t, service.name)
			u.build(u.debian())
			id := u.start("-p", local(service.port), service.name)
			if page := u.curl(id, service.port, "/"); page != service.hello {
				t.Errorf("/ is %q", page)
			}
			if page := u.curl(id, service.port, service.path); page != service.answer {
				t.Errorf("%s is %q", service.path, page)
			}
			if user := u.strata("exec", id, "id", "-un"); user != "www-data" {
				t.Errorf("it runs as %s", user)
			}
			u.strata("stop", id)
			if code := u.strata("wait", id); code != "0" {
				t.Errorf("when asked to stop, it ends with %s", code)
			}
		})
	}
}

func TestGo(t *testing.T) {
	u := in(t, "go")
	golang := shared.base(t, "golang:1.26", testimage.Golang)
	u.strata("build", "--set", "golang="+golang, "--set", "version=1.2", ".")
	if out := u.strata("run", "--rm", "api", "--version"); out != "api 1.2" {
		t.Errorf("it says %q", out)
	}
	// The Dockerfile beside it makes the same program, with the caches of the
	// build before it.
	u.strata("build", "-f", "Dockerfile", "-t", "api:docker", "--build-arg", "golang="+golang, "--build-arg", "version=1.2", ".")
	if cue, docker := u.layers("api"), u.layers("api:docker"); !slices.Equal(cue, docker) {
		t.Errorf("the CUE has the layers %v, the Dockerfile %v", cue, docker)
	}
	id := u.start("-p", local("8080"), "api")
	if page := u.curl(id, "8080", "/"); page != "api 1.2\n" {
		t.Errorf("it serves %q", page)
	}
}

func TestNginx(t *testing.T) {
	u := in(t, "nginx")
	u.build(u.debian())
	id := u.start("-p", local("80"), "nginx")
	if page := u.curl(id, "80", "/"); page != "<h1>nginx, compiled by Strata</h1>\n" {
		t.Errorf("it serves %q", page)
	}
	u.wants("its log", u.strata("logs", id), "GET / HTTP/1.1\" 200")
	if got := u.try("exec", id, "gcc", "--version"); got.code != 127 {
		t.Errorf("the compiler is in the image: %v", got)
	}
	u.strata("stop", id)
	if code := u.strata("wait", id); code != "0" {
		t.Errorf("when asked to stop, it ends with %s", code)
	}
}

func TestMariaDB(t *testing.T) {
	u := in(t, "mariadb")
	u.build(u.debian())
	if got := u.try("run", "--rm", "mariadb"); got.code == 0 || !strings.Contains(got.stderr, "MYSQL_ROOT_PASSWORD") {
		t.Errorf("without a password: %v", got)
	}
	const password = `it's a "secret"\`
	id := u.start("-p", local("3306"), "-e", "MYSQL_ROOT_PASSWORD="+password, "mariadb")
	u.until(patience, func() error {
		got := u.sql(id, password, "SELECT @@character_set_server, @@collation_server")
		if got.stdout != "utf8mb3\tutf8mb3_unicode_ci\n" {
			return fmt.Errorf("the database answers %v", got)
		}
		return nil
	})
	got := u.sql(id, password, "CREATE DATABASE shop; CREATE TABLE shop.t (name TEXT); INSERT INTO shop.t VALUES ('žluť'); SELECT name, CHAR_LENGTH(name), LENGTH(name) FROM shop.t")
	if got.stdout != "žluť\t4\t6\n" {
		t.Errorf("a table answers %v", got)
	}
	if got := u.sql(id, "wrong", "SELECT 1"); got.code == 0 || !strings.Contains(got.stderr, "Access denied") {
		t.Errorf("another password: %v", got)
	}
	u.strata("stop", "--time", "30", id)
	u.strata("start", id)
	u.until(patience, func() error {
		if got := u.sql(id, password, "SELECT COUNT(*) FROM shop.t"); got.stdout != "1\n" {
			return fmt.Errorf("after a restart it answers %v", got)
		}
		return nil
	})
}

// sql asks the database of a container through its published port, with the
// client of another container.
func (u user) sql(id, password, query string) outcome {
	u.Helper()
	host, port, err := net.SplitHostPort(u.address(id, "3306"))
	if err != nil {
		u.Fatal(err)
	}
	return u.try("run", "--rm", "--network", "host", "-e", "MYSQL_PWD="+password, "--entrypoint", "mariadb", "mariadb",
		"--host", host, "--port", port, "--user", "root", "--default-character-set", "utf8mb4", "--batch", "--skip-column-names", "--execute", query)
}

func TestLNMP(t *testing.T) {
	u := in(t, "lnmp")
	u.strata("build", "--progress", "plain", "--set", "base="+u.debian(), ".")
	out := u.strata("run", "--rm", "--entrypoint", "sh", "lnmp", "-c",
		"nginx -t 2>&1; php -v; mariadbd --version; ls -l /srv/www /etc/service/nginx/run; stat -c %U /run/mysqld")
	u.wants("the image", out, "test is successful", "PHP 8.2", "MariaDB", "www-data www-data", "-rwxr-xr-x", "mysql")
	if strings.Contains(out, "index.php.bak") {
		t.Errorf("an excluded file was copied:\n%s", out)
	}
	u.dockerfile("lnmp:dockerfile", u.debian())
	for _, image := range []string{"lnmp", "lnmp:dockerfile"} {
		id := u.start("-p", local("80"), image)
		if page := u.curl(id, "80", "/"); page != "MySQL is OK!" {
			t.Errorf("%s answers %q", image, page)
		}
	}
}
