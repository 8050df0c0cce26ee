package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"erlmcp.dev/shared/config"
)

func TestSecretsAreNeverPrinted(t *testing.T) {
	const secret = "hunter2hunter2hunter2hunter2hunter2"
	src := with(nil, "ERLANG_COOKIE="+secret, "ERLMCP_DB_PASSWORD="+secret, "REDIS_URL=redis://:"+secret+"@redis:6379",
		"ERLMCP_JWT_SECRET="+secret, "ERLMCP_JWT_AUDIENCE=https://a.example.com", "TOKEN="+secret)
	src.Path, src.ReadFile = "erlmcp.yaml", withFile(`servers:
  - name: a
    url: https://user:hunter2hunter2@a.example.com/mcp?key=hunter2
    headers: {Authorization: "Bearer ${TOKEN}"}
`)
	c := load(t, src)
	if string(c.Cluster.Secrets[0]) != secret {
		t.Fatal("the secret can't be used")
	}
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	servers := c.Servers
	c.Servers = nil // API messages are not for printing; the registry masks them
	_, _ = fmt.Fprintf(&out, "%v %+v %#v %s", c, c, c, c.Cluster.Secrets)
	slog.New(slog.NewTextHandler(&out, nil)).Info("loaded", "config", c, "secret", c.DB.Password)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("loaded", "config", c, "secret", c.DB.Password)
	if err := json.NewEncoder(&out).Encode(c); err != nil {
		t.Fatal(err)
	}
	if i := strings.Index(out.String(), "hunter2"); i >= 0 {
		t.Errorf("printed: ...%s", out.String()[max(0, i-200):i])
	}
	if !strings.Contains(out.String(), "a       http  https://a.example.com/mcp") {
		t.Errorf("the server is missing:\n%s", out.String())
	}
	if got := servers[0].GetHttp().GetHeaders()["Authorization"]; got != "Bearer "+secret {
		t.Error("the header's reference is not filled in")
	}
}

func TestErrorsDoNotQuoteSecrets(t *testing.T) {
	for _, env := range [][]string{
		{"ERLMCP_ENV=production", "ERLANG_COOKIE=changeme-hunter2"},
		{"ERLMCP_DB_URL=postgres://u:hunter2@ho st/x"},
		{"REDIS_URL=redis://:hunter2@host:port/x"},
		{"REDIS_URL=rediss://:hunter2@/0"},
		{"ERLMCP_JWT_SECRET=hunter2"},
		{"ERLMCP_ADMIN_KEY=erlmcp_hunter2"},
		{"ERLMCP_TLS_KEY=-----BEGIN hunter2"},
	} {
		_, err := config.Load(with(nil, env...))
		if err == nil {
			t.Errorf("%q starts", env)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", env, err)
		}
	}
}
