package dockerfilecompat

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// changedBase is a config with a bit of everything.
func changedBase() dockerspec.DockerOCIImageConfig {
	return dockerspec.DockerOCIImageConfig{
		ImageConfig: ocispecs.ImageConfig{
			User: "www", Env: []string{"PATH=/bin", "A=1"}, Cmd: []string{"sh"}, WorkingDir: "/srv",
			Labels: map[string]string{"old": "1"},
		},
		DockerOCIImageConfigExt: dockerspec.DockerOCIImageConfigExt{OnBuild: []string{"RUN make"}, Shell: []string{"/bin/ash", "-c"}},
	}
}

func TestApplyChanges(t *testing.T) {
	tests := []struct {
		changes []string
		want    string // of the fields that differ from changedBase
	}{
		{[]string{`CMD ["/bin/httpd", "-f"]`}, `{"Cmd":["/bin/httpd","-f"]}`},
		{[]string{`cmd httpd -f`}, `{"Cmd":["/bin/ash","-c","httpd -f"]}`},
		{[]string{`ENTRYPOINT ["/init"]`}, `{"Cmd":null,"Entrypoint":["/init"]}`},
		{[]string{`CMD ["-v"]`, `ENTRYPOINT ["/init"]`}, `{"Cmd":["-v"],"Entrypoint":["/init"]}`},
		{[]string{`ENV PATH=$PATH:/opt/bin A=2 B="x y"`}, `{"Env":["PATH=/bin:/opt/bin","A=2","B=x y"]}`},
		{[]string{`EXPOSE 80 53/udp 8000-8001`}, `{"ExposedPorts":{"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{}}}`},
		{[]string{`LABEL a=1 b="two words"`}, `{"Labels":{"a":"1","b":"two words","old":"1"}}`},
		{[]string{`ONBUILD COPY . /app`}, `{"OnBuild":["RUN make","COPY . /app"]}`},
		{[]string{`USER app:app`}, `{"User":"app:app"}`},
		{[]string{`VOLUME /data /log`}, `{"Volumes":{"/data":{},"/log":{}}}`},
		{[]string{`WORKDIR www`, `WORKDIR ../$A`}, `{"WorkingDir":"/srv/1"}`},
		{[]string{`STOPSIGNAL SIGQUIT`}, `{"StopSignal":"SIGQUIT"}`},
		{[]string{`HEALTHCHECK --interval=5s --retries=2 CMD curl -f http://localhost/`},
			`{"Healthcheck":{"Test":["CMD-SHELL","curl -f http://localhost/"],"Interval":5000000000,"Retries":2}}`},
		{[]string{"ENV C=1 \\\n D=2"}, `{"Env":["PATH=/bin","A=1","C=1","D=2"]}`},
		{nil, `{}`},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.changes, "; "), func(t *testing.T) {
			config := changedBase()
			if err := ApplyChanges(&config, tt.changes); err != nil {
				t.Fatal(err)
			}
			if got := differing(t, changedBase(), config); got != tt.want {
				t.Errorf("it changes\n\t%s\nwant\n\t%s", got, tt.want)
			}
		})
	}
}

// differing returns the fields of b that differ from those of a, as JSON,
// without a mark that BuildKit sets with each CMD.
func differing(t *testing.T, a, b dockerspec.DockerOCIImageConfig) string {
	t.Helper()
	fields := func(c dockerspec.DockerOCIImageConfig) (m map[string]json.RawMessage) {
		data, err := json.Marshal(c)
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	before, after := fields(a), fields(b)
	delete(after, "ArgsEscaped")
	for name := range before {
		if _, kept := after[name]; !kept {
			after[name] = json.RawMessage("null")
		} else if string(before[name]) == string(after[name]) {
			delete(after, name)
		}
	}
	data, err := json.Marshal(after)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A config of nothing gets what is asked for and nothing else.
func TestApplyChangesToNothing(t *testing.T) {
	var config dockerspec.DockerOCIImageConfig
	if err := ApplyChanges(&config, []string{`ENV A=1`}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(config.Env, []string{"A=1"}) {
		t.Errorf("Env = %q", config.Env)
	}
	config = dockerspec.DockerOCIImageConfig{}
	if err := ApplyChanges(&config, []string{`ENV PATH=/x:$PATH`}); err != nil {
		t.Fatal(err)
	}
	if want := "PATH=/x:" + strings.TrimPrefix(defaultPath, "PATH="); !slices.Equal(config.Env, []string{want}) {
		t.Errorf("Env = %q, want %q", config.Env, want)
	}
}

func TestApplyChangesRefuses(t *testing.T) {
	tests := map[string]string{
		`RUN rm -rf /`:            "RUN does not change an image's config",
		`FROM other`:              "FROM does not change",
		`COPY a b`:                "COPY does not change",
		"CMD a\nRUN b":            "not exactly one instruction",
		"":                        "",
		"# escape=`\nENV A=1":     "not exactly one instruction",
		`EXPOSE web`:              "web",
		`STOPSIGNAL SIGNOSE`:      "SIGNOSE",
		`HEALTHCHECK --often CMD`: "often",
		`WORKDIR`:                 "WORKDIR requires exactly one argument",
		`CDM ["x"]`:               "CDM does not change",
	}
	for change, want := range tests {
		config := changedBase()
		err := ApplyChanges(&config, []string{"ENV OK=1", change})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "ENV OK") {
			t.Errorf("%q: %v, want %q", change, err, want)
			continue
		}
		if got := differing(t, changedBase(), config); got != "{}" {
			t.Errorf("%q: it failed and changed %s", change, got)
		}
	}
}
