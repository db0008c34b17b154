package examples

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestCommit(t *testing.T) {
	u := in(t, "commit")
	base := u.busybox()
	u.strata("build", "--set", "base="+base, ".")
	u.dockerfile("httpd:dockerfile", base)
	if cue, docker := u.id("httpd"), u.id("httpd:dockerfile"); cue != docker {
		t.Errorf("the CUE is image %s, the Dockerfile %s", cue, docker)
	}

	id := u.start("-i", base, "sh", "-c", "mkdir -p /data/htdocs && echo 'Welcome to busybox httpd.' > /data/htdocs/index.html && rm /bin/wget && sleep 1000")
	u.until(patience, func() error {
		return missing(u.strata("diff", id), "A /data", "A /data/htdocs", "A /data/htdocs/index.html", "D /bin/wget")
	})
	u.strata("commit", "-m", "a page", "-a", "Ann <ann@example.org>", "-c", `CMD ["/bin/httpd","-f","-h","/data/htdocs"]`, "-p", id, "shop/httpd:v1")
	t.Cleanup(func() { u.strata("rmi", "shop/httpd:v1") })

	before, after := u.layers(base), u.layers("shop/httpd:v1")
	if len(after) != len(before)+1 || !slices.Equal(before, after[:len(before)]) {
		t.Errorf("the layers are %v, on top of %v; want one more", after, before)
	}
	u.wants("the history", u.strata("history", "--no-trunc", "shop/httpd:v1"), "a page")
	if cmd := u.strata("inspect", "--format", "{{json .Config.Cmd}} {{.Author}}", "shop/httpd:v1"); cmd != `["/bin/httpd","-f","-h","/data/htdocs"] Ann <ann@example.org>` {
		t.Errorf("its command and author are %s", cmd)
	}
	for _, image := range []string{"shop/httpd:v1", "httpd"} {
		server := u.start("-p", local("80"), image)
		if page := u.curl(server, "80", "/"); page != "Welcome to busybox httpd.\n" {
			t.Errorf("%s serves %q", image, page)
		}
	}
	if got := u.try("run", "--rm", "shop/httpd:v1", "ls", "/bin/wget"); got.code == 0 {
		t.Errorf("what was removed is in the image: %v", got)
	}
}

// missing is an error that names the lines that a text lacks.
func missing(text string, lines ...string) error {
	var errs []error
	have := strings.Split(text, "\n")
	for _, line := range lines {
		if !slices.Contains(have, line) {
			errs = append(errs, fmt.Errorf("there is no line %q in:\n%s", line, text))
		}
	}
	return errors.Join(errs...)
}

func TestStress(t *testing.T) {
	u := in(t, "stress")
	u.build(u.debian())
	if got := u.try("run", "--rm", "stress", "--cpu", "1", "--timeout", "1"); got.code != 0 || !strings.Contains(got.stdout, "successful run") {
		t.Errorf("within its limits: %v", got)
	}
	if got := u.try("run", "--rm", "stress"); !strings.Contains(got.stdout+got.stderr, "Usage: stress") {
		t.Errorf("without arguments: %v", got)
	}
	got := u.try("run", "--rm", "--memory", "200M", "stress", "--vm", "1", "--vm-bytes", "500M")
	if got.code != 1 || !strings.Contains(got.stderr, "more memory than the limit of 200MiB (--memory)") {
		t.Errorf("beyond its memory: %v", got)
	}
	id := u.start("--memory", "200M", "stress", "--vm", "1", "--vm-bytes", "500M")
	if code := u.strata("wait", id); code != "1" {
		t.Errorf("it ends with %s", code)
	}
	if oom := u.strata("inspect", "--format", "{{.State.OOMKilled}}", id); oom != "true" {
		t.Errorf("OOMKilled is %s", oom)
	}
	u.wants("ps", u.strata("ps", "-a", "--filter", "id="+id), "out of memory")
}

func TestSSHD(t *testing.T) {
	u := in(t, "sshd")
	u.build(u.debian())
	if got := u.try("run", "--rm", "sshd"); got.code == 0 || !strings.Contains(got.stderr, "AUTHORIZED_KEY") {
		t.Errorf("without a key: %v", got)
	}
	if got := u.try("run", "--rm", "--entrypoint", "sh", "sshd", "-c", "ls /etc/ssh/ssh_host_*"); got.code == 0 {
		t.Errorf("the image has host keys:\n%s", got.stdout)
	}
	mine, other := u.key("mine"), u.key("other")
	public, err := os.ReadFile(mine + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	id := u.start("-p", local("22"), "-e", "AUTHORIZED_KEY="+string(public), "sshd")
	u.until(patience, func() error {
		out, err := u.ssh(id, mine, "echo $SSH_CONNECTION; id -un; cat /proc/1/comm")
		if err != nil {
			return err
		}
		return missing(out, "root", "sshd")
	})
	if out, err := u.ssh(id, other, "true"); err == nil || !strings.Contains(out, "Permission denied (publickey)") {
		t.Errorf("another key: %v, %s", err, out)
	}
}

// key makes a key pair, and returns the private one's file.
func (u user) key(name string) string {
	u.Helper()
	file := filepath.Join(u.TempDir(), name)
	if _, err := u.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file); err != nil {
		u.Fatal(err)
	}
	return file
}

// ssh logs into a container.
func (u user) ssh(id, key, command string) (string, error) {
	u.Helper()
	host, port, err := net.SplitHostPort(u.address(id, "22"))
	if err != nil {
		u.Fatal(err)
	}
	return u.tool("ssh", "-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-p", port, "root@"+host, command)
}

func TestSystemd(t *testing.T) {
	u := in(t, "systemd")
	u.build(u.debian())
	for name, mounts := range map[string][]string{
		"its own groups": nil, "the machine's groups": {"-v", "/sys/fs/cgroup:/sys/fs/cgroup"},
	} {
		t.Run(name, func(t *testing.T) {
			u := user{T: t, dir: u.dir}
			id := u.start(append(mounts, "--privileged", "--tmpfs", "/run", "systemd")...)
			u.until(patience, func() error { return u.booted(id) })
			if init := u.strata("exec", id, "cat", "/proc/1/comm"); init != "systemd" {
				t.Errorf("the first process is %s", init)
			}
			if state := u.strata("exec", id, "systemctl", "is-active", "hello.service"); state != "active" {
				t.Errorf("the service is %s", state)
			}
			u.strata("stop", "--time", "30", id)
			// The kernel ends a first process that switches its machine off by
			// SIGINT.
			if code := u.strata("wait", id); code != "130" {
				t.Errorf("when asked to stop, it ends with %s", code)
			}
		})
	}
}

// booted asks a systemd. An error says what this machine's control groups are,
// on which it depends.
func (u user) booted(id string) error {
	u.Helper()
	got := u.try("exec", id, "systemctl", "is-system-running")
	if got.stdout == "running\n" {
		return nil
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	failed := u.try("exec", id, "systemctl", "--failed", "--no-pager").stdout
	return fmt.Errorf("systemd is not running: %v\n%s\nit needs 0:: or name=systemd among this machine's control groups:\n%s", got, failed, groups)
}

func TestRunit(t *testing.T) {
	u := in(t, "runit")
	u.build(u.debian())
	id := u.start("-p", local("80"), "runit")
	first := u.curl(id, "80", "/")
	if init := u.strata("exec", id, "cat", "/proc/1/comm"); init != "runsvdir" {
		t.Errorf("the first process is %s", init)
	}
	u.strata("exec", id, "sv", "kill", "/etc/service/clock")
	u.until(patience, func() error {
		if u.curl(id, "80", "/") == first {
			return errors.New("the service was not started again")
		}
		return nil
	})
	u.strata("stop", id)
	if code := u.strata("wait", id); code != "111" {
		t.Errorf("after a hangup it ends with %s, want runsvdir's 111", code)
	}
}

func TestRegistry(t *testing.T) {
	u := in(t, "registry")
	u.build(u.debian())
	id := u.start("-p", local("5000"), "--restart", "always", "registry")
	host := u.address(id, "5000")
	u.curl(id, "5000", "/v2/")

	hello := host + "/hello:1"
	u.strata("tag", "registry", hello)
	want := u.id(hello)
	u.strata("push", hello)
	u.strata("rmi", hello)
	if got := u.try("inspect", "--type", "image", hello); got.code == 0 {
		t.Errorf("the name is still there: %v", got)
	}
	u.strata("pull", hello)
	if got := u.id(hello); got != want {
		t.Errorf("image %s was pushed, %s pulled", want, got)
	}
	u.strata("rmi", hello)
	catalog := "{\"repositories\":[\"hello\"]}\n"
	if got := u.curl(id, "5000", "/v2/_catalog"); got != catalog {
		t.Errorf("the catalog is %s", got)
	}

	u.crash(id)
	u.until(patience, func() error {
		if n := u.strata("inspect", "--format", "{{.RestartCount}} {{.State.Status}}", id); n != "1 running" {
			return errors.New("its restarts and state are " + n)
		}
		return nil
	})
	if got := u.curl(id, "5000", "/v2/_catalog"); got != catalog {
		t.Errorf("after a restart the catalog is %s", got)
	}
}

// crash kills a container's main process behind Strata's back.
func (u user) crash(id string) {
	u.Helper()
	pid, err := strconv.Atoi(u.strata("inspect", "--format", "{{.State.Pid}}", id))
	if err != nil || pid <= 1 {
		u.Fatalf("process %d: %v", pid, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		u.Fatal(err)
	}
}

func TestTomcat(t *testing.T) {
	u := in(t, "tomcat")
	u.build(u.debian())
	id := u.start("-p", local("8080"), "tomcat")
	u.wants("the documentation", u.curl(id, "8080", "/docs/"), "Apache Tomcat 10")
	u.strata("exec", "-u", "root", id, "rm", "-r", "/etc/tomcat10/Catalina/localhost/docs.xml", "/usr/share/doc/tomcat10-docs")
	u.strata("commit", "-m", "without documentation", id, "tomcat:small")

	small := u.start("-p", local("8080"), "tomcat:small")
	u.wants("the start page", u.curl(small, "8080", "/"), "It works !")
	out, err := u.tool("curl", "-sS", "-o", os.DevNull, "-w", "%{http_code}", "http://"+u.address(small, "8080")+"/docs/")
	if err != nil || out != "404" {
		t.Errorf("/docs/ answers %s, %v", out, err)
	}
	if before, after := u.layers("tomcat"), u.layers("tomcat:small"); len(after) != len(before)+1 {
		t.Errorf("%d layers became %d", len(before), len(after))
	}
	if user := u.strata("inspect", "--format", "{{.Config.User}}", "tomcat:small"); user != "tomcat" {
		t.Errorf("the new image's user is %q", user)
	}
}

// size is what an image takes.
func (u user) size(image string) int {
	u.Helper()
	var size int
	if err := json.Unmarshal([]byte(u.strata("inspect", "--format", "{{.Size}}", image)), &size); err != nil {
		u.Fatal(err)
	}
	return size
}
