package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	"erlmcp.dev/shared/config"
)

func TestServersBecomeDeclarations(t *testing.T) {
	src := with(nil, "ERLMCP_MY_TOKEN=s3")
	src.Path, src.ReadFile = "erlmcp.yaml", withFile(`
servers:
  - name: weather
    url: https://host/mcp
    headers: {Authorization: "Bearer ${ERLMCP_MY_TOKEN}", X-Plain: "$${x} $5", X-Or: "${NOT_SET:-a b}"}
    prefix: ""
    calls: direct
  - name: files
    command: [npx, -y, 42]
    env: {KEY: 1.0, EMPTY: ""}
    dir: /data
    prefix:
  - name: orders
    grpc: orders:50051
    tls: true
    services: [shop.v1.Orders]
    metadata: {k: v}
    timeout: 1m30s
    promote_after: 0s
    repeat: never
    calls: session
`)
	c := load(t, src)
	want := []string{
		`name:"weather" http:{url:"https://host/mcp" headers:{key:"Authorization" value:"Bearer s3"}
		   headers:{key:"X-Plain" value:"${x} $5"} headers:{key:"X-Or" value:"a b"}} prefix:"" calls:CALL_PATH_DIRECT`,
		`name:"files" stdio:{command:"npx" command:"-y" command:"42" env:{key:"KEY" value:"1.0"} env:{key:"EMPTY" value:""} dir:"/data"} prefix:""`,
		`name:"orders" grpc:{target:"orders:50051" tls:true services:"shop.v1.Orders" metadata:{key:"k" value:"v"}}
		   calls:CALL_PATH_SESSION call_timeout:{seconds:90} promote_after:{} repeat:REPEAT_NEVER`,
	}
	if len(c.Servers) != len(want) {
		t.Fatalf("%d servers", len(c.Servers))
	}
	for i, text := range want {
		w := &registryv1.Server{}
		if err := prototext.Unmarshal([]byte(text), w); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(proto.Message(w), proto.Message(c.Servers[i]), protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
	if c.Demo {
		t.Error("the demo stays on beside declared servers")
	}
}

func TestImportKeepsWhatDesktopClientsDeclare(t *testing.T) {
	in := `{"mcpServers": {
	  "File System": {"command": "npx", "args": ["-y", "fs", "/data"], "env": {"KEY": "${env:KEY_X}", "ASK": "${input:key}"}, "cwd": "/w", "type": "stdio"},
	  "file-system": {"command": "fs2", "alwaysAllow": ["x"]},
	  "remote": {"type": "http", "url": "https://r.example.com/mcp", "headers": {"Authorization": "Bearer ${R_TOKEN:-none}"}},
	  "off": {"command": "x", "disabled": true}
	}}`
	out, notes, err := config.Import(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	want := `servers:
  - name: file-system
    command: [npx, -y, fs, /data]
    env:
      ASK: $${input:key}
      KEY: ${KEY_X}
    dir: /w
  - name: file-system-2
    command: [fs2]
  - name: remote
    url: https://r.example.com/mcp
    headers:
      Authorization: Bearer ${R_TOKEN:-none}
`
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
	wantNotes := []string{
		`"File System" is named file-system here`, `file-system: fill in ASK, which only that client knows`,
		`"file-system" is named file-system-2 here`, `"off" is disabled and left out`,
	}
	if diff := cmp.Diff(wantNotes, notes); diff != "" {
		t.Error(diff)
	}
	src := with(nil, "KEY_X=v")
	src.Path, src.ReadFile = "erlmcp.yaml", withFile(string(out))
	c := load(t, src)
	if len(c.Servers) != 3 || c.Servers[0].GetStdio().GetEnv()["ASK"] != "${input:key}" || c.Servers[0].GetStdio().GetEnv()["KEY"] != "v" {
		t.Errorf("%v", c.Servers)
	}
}

func TestImportSaysWhatIsWrong(t *testing.T) {
	for in, want := range map[string]string{
		"{\n\"mcpServers\": {,}}":                "not JSON, line 2",
		`[]`:                                     "not a JSON object",
		`{"mcpServers": []}`:                     "mcpServers is no JSON object",
		`{"mcpServers": {}}`:                     "no server to import",
		`{"mcpServers": {"a": {}}}`:              `server "a": has neither a command nor a url`,
		`{"servers": {"a": {"command": ["x"]}}}`: `server "a": a field has another type`,
	} {
		_, _, err := config.Import(strings.NewReader(in))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
}

func TestDocumentedExampleLoads(t *testing.T) {
	src := source()
	src.Path, src.ReadFile = "erlmcp.yaml", withFile(config.DocsExample)
	if c := load(t, src); len(c.Servers) != 3 {
		t.Errorf("%d servers", len(c.Servers))
	}
}

func TestDocumentationIsFresh(t *testing.T) {
	have, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Docs(), string(have)); diff != "" {
		t.Errorf("run `make generate`: docs/configuration.md differs from the table\n%s", diff)
	}
}
