package inventory

import "testing"

func TestEcosystems(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		os   OS
		want string
	}{
		{Deb, OS{ID: "debian", Version: "12"}, "Debian:12"},
		{Deb, OS{ID: "debian", Codename: "trixie"}, "Debian:13"},
		{Deb, OS{ID: "debian", Codename: "sid"}, ""},
		{Deb, OS{ID: "ubuntu", Version: "22.04"}, "Ubuntu:22.04"},
		{Deb, OS{}, ""},
		{Apk, OS{ID: "alpine", Version: "3.19.1"}, "Alpine:v3.19"},
		{Apk, OS{ID: "alpine", Version: "3.22_alpha20250108"}, "Alpine:edge"},
		{Apk, OS{ID: "wolfi", Version: "20230201"}, "Wolfi"},
		{RPM, OS{ID: "rhel", Version: "9.4"}, "Red Hat:enterprise_linux:9"},
		{RPM, OS{ID: "almalinux", Version: "9.4"}, "AlmaLinux:9"},
		{RPM, OS{ID: "rocky", Version: "8.9"}, "Rocky Linux:8"},
		{RPM, OS{ID: "opensuse-leap", Version: "15.6"}, "openSUSE:Leap 15.6"},
		{RPM, OS{ID: "opensuse-tumbleweed", Version: "20240101"}, "openSUSE:Tumbleweed"},
		{RPM, OS{ID: "sles", Version: "15.5"}, "SUSE:Linux Enterprise Server 15 SP5"},
		{RPM, OS{ID: "sles", Version: "15"}, "SUSE:Linux Enterprise Server 15"},
		{RPM, OS{ID: "fedora", Version: "40"}, ""},
		{Go, OS{ID: "debian", Version: "12"}, "Go"},
		{NPM, OS{}, "npm"},
		{Python, OS{}, "PyPI"},
	} {
		if got := c.os.ecosystem(c.kind); got != c.want {
			t.Errorf("%s packages of %+v belong to %q, want %q", c.kind, c.os, got, c.want)
		}
	}
}

func TestSourceOfRPM(t *testing.T) {
	for file, want := range map[string]string{
		"openssl-3.0.7-24.el9.src.rpm": "openssl", "a-b-1-2.src.rpm": "a-b", "(none)": "", "": "",
	} {
		if got := sourceOfRPM(file); got != want {
			t.Errorf("source of %q is %q, want %q", file, got, want)
		}
	}
}

func TestNormalPython(t *testing.T) {
	for name, want := range map[string]string{"Foo.Bar__baz": "foo-bar-baz", "PyYAML": "pyyaml", "a-_.b": "a-b", "": ""} {
		if got := NormalPython(name); got != want {
			t.Errorf("%q is compared as %q, want %q", name, got, want)
		}
	}
}
