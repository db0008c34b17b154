package cdi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const gpus = `
cdiVersion: 0.6.0
kind: vendor.com/gpu
containerEdits: {env: [ALL=1]}
devices:
- name: zero
  annotations: {org.mobyproject.buildkit.device.class: compute, org.mobyproject.buildkit.device.autoallow: "true"}
  containerEdits:
    env: [ZERO=1]
    deviceNodes: [{path: /dev/gpu0, hostPath: /dev/null}, {path: /dev/zero}]
    mounts: [{hostPath: /lib/gpu, containerPath: /usr/lib/gpu, options: [ro, bind]}]
    additionalGids: [44]
- {name: one, containerEdits: {hooks: [{hookName: createContainer, path: /bin/true}]}}
`

const other = `{"cdiVersion": "0.5.0", "kind": "vendor.com/net", "devices": [
	{"name": "eth", "containerEdits": {"netDevices": [{"hostInterfaceName": "eth1", "name": "eth0"}]}}]}`

func registry(t *testing.T) *Registry {
	t.Helper()
	first, second := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		filepath.Join(first, "gpus.yaml"): gpus, filepath.Join(first, "other.json"): other, filepath.Join(first, "README"): "{",
		filepath.Join(second, "late.json"): `{"kind": "vendor.com/net", "devices": [{"name": "late"}]}`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Load(first, filepath.Join(first, "none"), second)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestFind(t *testing.T) {
	r := registry(t)
	for name, want := range map[string][]string{
		"vendor.com/gpu=zero": {"vendor.com/gpu=zero"},
		"vendor.com/gpu":      {"vendor.com/gpu=zero"},
		"vendor.com/gpu=*":    {"vendor.com/gpu=zero", "vendor.com/gpu=one"},
		"vendor.com/gpu=two":  nil,
		"vendor.com/net":      {"vendor.com/net=eth"},
		"vendor.com/net=late": {"vendor.com/net=late"},
		"compute":             {"vendor.com/gpu=zero"},
		"vendor.com":          nil,
		"":                    nil,
	} {
		var got []string
		for _, d := range r.Find(name) {
			got = append(got, d.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", name, diff)
		}
	}
}

func TestDevice(t *testing.T) {
	r := registry(t)
	want := &Device{
		Name: "vendor.com/gpu=zero", AutoAllow: true, Env: []string{"ALL=1", "ZERO=1"},
		Nodes:  []Node{{"/dev/null", "/dev/gpu0"}, {"/dev/zero", "/dev/zero"}},
		Mounts: []Mount{{"/lib/gpu", "/usr/lib/gpu", true}}, Groups: []uint32{44},
	}
	if diff := cmp.Diff(want, r.Find("vendor.com/gpu=zero")[0], cmpopts.IgnoreUnexported(Device{})); diff != "" {
		t.Error(diff)
	}
	for name, reason := range map[string]string{"vendor.com/gpu=zero": "", "vendor.com/gpu=one": "hooks", "vendor.com/net=eth": "network interface"} {
		err := r.Find(name)[0].Check()
		if (err == nil) != (reason == "") || err != nil && !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v, want %q", name, err, reason)
		}
	}
}

func TestLoadBroken(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.json"), []byte(`{"kind": [`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "a.json") {
		t.Errorf("error %v", err)
	}
}
