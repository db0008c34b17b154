package network

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestParsePorts(t *testing.T) {
	loopback, loopback6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	for spec, want := range map[string][]Port{
		"80":                     {{ContainerPort: 80, Protocol: "tcp"}},
		":80":                    {{ContainerPort: 80, Protocol: "tcp"}},
		"0:80":                   {{ContainerPort: 80, Protocol: "tcp"}},
		"8080:80":                {{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}},
		"8080:80/UDP":            {{HostPort: 8080, ContainerPort: 80, Protocol: "udp"}},
		"127.0.0.1:8080:80/udp":  {{HostIP: loopback, HostPort: 8080, ContainerPort: 80, Protocol: "udp"}},
		"127.0.0.1::80":          {{HostIP: loopback, ContainerPort: 80, Protocol: "tcp"}},
		"127.0.0.1:0:80":         {{HostIP: loopback, ContainerPort: 80, Protocol: "tcp"}},
		"[::1]:8080:80":          {{HostIP: loopback6, HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}},
		"[::1]::80":              {{HostIP: loopback6, ContainerPort: 80, Protocol: "tcp"}},
		"[::ffff:127.0.0.1]::80": {{HostIP: loopback, ContainerPort: 80, Protocol: "tcp"}},
		"::80":                   {{ContainerPort: 80, Protocol: "tcp"}},
		"8000-8001:80-81": {
			{HostPort: 8000, ContainerPort: 80, Protocol: "tcp"},
			{HostPort: 8001, ContainerPort: 81, Protocol: "tcp"},
		},
		"65534-65535":  {{ContainerPort: 65534, Protocol: "tcp"}, {ContainerPort: 65535, Protocol: "tcp"}},
		"8000-8010:80": {{HostPort: 8000, HostPortEnd: 8010, ContainerPort: 80, Protocol: "tcp"}},
	} {
		got, err := ParsePorts([]string{spec})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q is %v, %v; want %v", spec, got, err, want)
		}
	}
}

func TestParsePortsRefuses(t *testing.T) {
	for spec, says := range map[string]string{
		"":                "a port is missing",
		"8080:":           "a port is missing",
		"http":            `"http" is not a port`,
		"8080:0":          `"0" is not a port`,
		"65536":           `"65536" is not a port`,
		"-1:80":           "a port is missing",
		"80/sctp":         "it is tcp or udp",
		"80/tcp/udp":      "it is tcp or udp",
		"127.0.0.1:80":    `"127.0.0.1" is not a port`,
		"localhost:1:80":  `"localhost" is not an IP address`,
		"::1:8080:80":     "an IPv6 address goes into brackets",
		"[::1]:80":        "an address needs a host port too",
		"[::1]":           "an address needs a host port too",
		"[nonsense]:1:80": `"nonsense" is not an IP address`,
		"8002-8000:80-82": "ends before it begins",
		"8000-8002:80-81": "have not the same length",
		"8000:80-81":      "have not the same length",
	} {
		got, err := ParsePorts([]string{"1:1", spec})
		if err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "[[ADDRESS:]HOSTPORT:]PORT[/tcp|/udp]") {
			t.Errorf("%q is %v, and the error %v, want one that says %q and the form", spec, got, err, says)
		}
	}
}

func TestParseExposed(t *testing.T) {
	got, err := ParseExposed([]string{"80/tcp", "53/udp", "8000-8001"})
	want := []Port{
		{ContainerPort: 80, Protocol: "tcp"}, {ContainerPort: 53, Protocol: "udp"},
		{ContainerPort: 8000, Protocol: "tcp"}, {ContainerPort: 8001, Protocol: "tcp"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if got, err := ParseExposed([]string{"8080:80"}); err == nil {
		t.Errorf("an image exposes a port of the host: %v", got)
	}
}

func TestPortInRecords(t *testing.T) {
	for text, port := range map[string]Port{
		`{"containerPort":80,"protocol":"tcp"}`: {ContainerPort: 80, Protocol: "tcp"},
		`{"hostIP":"::1","hostPort":8000,"hostPortEnd":8010,"containerPort":80,"protocol":"udp"}`: {
			HostIP: netip.IPv6Loopback(), HostPort: 8000, HostPortEnd: 8010, ContainerPort: 80, Protocol: "udp",
		},
	} {
		data, err := json.Marshal(port)
		if err != nil || string(data) != text {
			t.Errorf("%v is written as %s, %v; want %s", port, data, err, text)
		}
		var got Port
		if err := json.Unmarshal(data, &got); err != nil || got != port {
			t.Errorf("%s is read as %v, %v", data, got, err)
		}
	}
}

func TestPortAsText(t *testing.T) {
	for want, port := range map[string]Port{
		"[::1]:8080->80/tcp": {HostIP: netip.IPv6Loopback(), HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
		"8080->80/tcp":       {HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
		"53/udp":             {ContainerPort: 53, Protocol: "udp"},
	} {
		if got := port.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzParsePorts wants ports that can be published, or an error.
func FuzzParsePorts(f *testing.F) {
	for _, spec := range []string{"80", "8080:80/udp", "[::1]:8080:80", "8000-8010:80", "1-3:2-4", "127.0.0.1::80", "::80"} {
		f.Add(spec)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		ports, err := ParsePorts([]string{spec})
		if err == nil && len(ports) == 0 {
			t.Error("no ports and no error")
		}
		for _, p := range ports {
			if p.ContainerPort == 0 || p.Protocol != "tcp" && p.Protocol != "udp" || p.HostPortEnd != 0 && p.HostPortEnd <= p.HostPort {
				t.Errorf("%q gives %+v", spec, p)
			}
		}
	})
}
