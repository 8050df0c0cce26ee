package config

import (
	"fmt"
	"strings"
)

// sections of the documentation, by the first word of the keys.
var sections = []struct{ prefix, title string }{
	{"", "General"}, {"ports", "Ports"}, {"cluster", "Cluster"}, {"https", "TLS towards clients"}, {"tls", "TLS between services"},
	{"db", "Postgres"}, {"redis", "Redis"}, {"auth", "Who may come in"}, {"limits", "Limits"}, {"tasks", "Tasks"},
	{"keep", "What the metrics service keeps"}, {"log", "Logs"}, {"otel", "OpenTelemetry"}, {"erl", "Accepted for compatibility"},
}

const docsHead = `<!-- Made by "erlmcp config docs" from the table in shared/config. Don't edit. -->

# Configuration

A setting is taken from the first of: its flag, its environment variable, the configuration file, its default.
What is unknown, malformed or missing stops the start with one line that names the place and the fix.
` + "`erlmcp config check` shows what holds, and from where." + `

- **Flags**: the common settings have one; ` + "`--set KEY=VALUE`" + ` sets any, but for secrets.
- **Variables**: an empty one counts as not set. An unknown one that starts with ERLMCP_ is an error. The variables
  that Kubernetes makes for a Service (` + "`ERLMCP_PORT=tcp://...`" + `) are told apart and ignored.
- **Secrets**: each variable X of a secret may be given as X_FILE, and each key as KEY_file: the path of a file that
  holds it. Secrets are never printed or logged.
- **File**: ` + "`--config PATH`" + ` or ERLMCP_CONFIG; else ` + "`erlmcp.yaml`" + ` in the working directory, else
  ` + "`etc/erlmcp.yaml`" + ` beside the directory of the program. Keys are nested by dots.
- **Kinds**: a duration is a number with its unit (30s, 5m, 1h); a size likewise (64KiB, 16MiB, 1GiB); a list is
  words apart by commas, or a YAML list; port 0 picks a free port.

## File

` + "```yaml\n" + DocsExample + "```" + `

Each server has a ` + "`name`" + ` and one of ` + "`url`, `command` or `grpc`" + `. A server's tools are named
` + "`<name>_<tool>`" + ` unless ` + "`prefix`" + ` says otherwise. Values of headers, env and metadata may refer to
environment variables: ` + "`${NAME}`" + `, or ` + "`${NAME:-default}`; `$${`" + ` stands for a plain ` + "`${`" + `.
` + "`erlmcp import FILE`" + ` prints this list from the mcpServers JSON that desktop clients use.

| key | for | meaning |
|---|---|---|
| name | all | Unique: 1 to 40 of a-z, 0-9 and '-'. |
| prefix | all | Put before the names of tools and prompts; default ` + "`<name>_`" + `. Empty passes names through unchanged. |
| calls | all | How legacy clients' calls travel: ` + "`session`" + ` (they outlive the gateway; the default) or ` + "`direct`" + ` (faster). |
| timeout | all | Longest time of one call; default 5m, at most 24h. |
| repeat | all | Which tool calls are carried out again when a process died: ` + "`annotated`" + ` (readOnlyHint, idempotentHint; the default), ` + "`never`" + ` or ` + "`always`" + `. |
| promote_after | all | A tool call that takes longer becomes a task; default tasks.promote_after, 0s for never. |
| url | HTTP | Address of an MCP server. Streamable HTTP or HTTP+SSE, of any revision, is found out. |
| headers | url | Sent with each request. |
| command | stdio | Program and arguments, as a list. |
| env | command | Added to a minimal environment. |
| dir | command | Working directory. |
| grpc | gRPC | host:port of a gRPC service with reflection; its methods become tools. |
| tls | grpc | true for TLS. |
| services | grpc | Full names of the services to offer; all when left out. |
| metadata | grpc | Sent with each call. |

## Settings
`

// DocsExample is the configuration file that the documentation shows.
const DocsExample = `log:
  level: info
limits:
  max_body: 16MiB
servers:
  - name: weather                  # an MCP server over HTTP
    url: https://weather.example.com/mcp
    headers: {Authorization: "Bearer ${WEATHER_TOKEN:-none}"}
  - name: files                    # a program
    command: [npx, -y, "@modelcontextprotocol/server-filesystem", /data]
    prefix: ""
  - name: orders                   # a gRPC service with reflection
    grpc: orders:50051
    timeout: 30s
`

// Docs is the documentation of all settings, in Markdown.
func Docs() string {
	var b strings.Builder
	b.WriteString(docsHead)
	settings := Settings()
	for _, section := range sections {
		fmt.Fprintf(&b, "\n### %s\n\n| key | variables, flag | kind | default | roles | meaning |\n|---|---|---|---|---|---|\n", section.title)
		for i := range settings {
			s := &settings[i]
			first, _, nested := strings.Cut(s.Key, ".")
			if (nested && first == section.prefix) || (!nested && section.prefix == "") {
				b.WriteString(s.docsRow())
			}
		}
	}
	b.WriteString("\n### Other variables\n\n| variable | meaning |\n|---|---|\n")
	for _, v := range OtherVariables() {
		fmt.Fprintf(&b, "| %s | %s |\n", v.Name, v.Doc)
	}
	return b.String()
}

func (s *Setting) docsRow() string {
	names := append([]string{}, s.Env...)
	names = append(names, s.EnvFile...)
	if s.Flag != "" {
		names = append(names, "--"+s.Flag)
	}
	kind := string(s.Kind)
	if s.Kind == Choice {
		kind = oneOf(s.Choices)
	}
	def := s.DefaultDoc
	if s.Default != "" {
		def = s.Default
	}
	cells := []string{s.Key, strings.Join(names, ", "), kind, def, roleNames(s.Roles), s.Doc}
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(c, "|", "\\|")
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}
