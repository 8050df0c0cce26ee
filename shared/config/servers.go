package config

import (
	"errors"
	"slices"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// maxServers is how many servers a file may declare.
const maxServers = 10000

// serverKeys are the keys of one entry of `servers:`; for those that belong to one kind of endpoint, which.
var serverKeys = map[string]string{
	"name": "", "prefix": "", "calls": "", "timeout": "", "promote_after": "", "repeat": "",
	"url": "", "headers": "url",
	"command": "", "env": "command", "dir": "command",
	"grpc": "", "tls": "grpc", "services": "grpc", "metadata": "grpc",
	"openapi": "",
}

// endpointKeys say what a server is; each has exactly one.
var endpointKeys = []string{"url", "command", "grpc"}

// declareServers reads the `servers:` list.
func (l *loader) declareServers() error {
	list := l.file.servers
	if list == nil || isNull(list) {
		return nil
	}
	if list.Kind != yaml.SequenceNode {
		return l.file.errorf(list.Line, "servers", "write a list, each entry from a dash: - name: ...", "%s instead of a list", nodeKind(list))
	}
	if len(list.Content) > maxServers {
		return l.file.errorf(list.Line, "servers", "declare them through the API", "%d servers; a file holds at most %d", len(list.Content), maxServers)
	}
	lines := map[string]int{}
	for _, node := range list.Content {
		d := declaration{loader: l, line: node.Line, values: map[string]*yaml.Node{}}
		server, err := d.server(node)
		if err != nil {
			return err
		}
		if line, twice := lines[server.GetName()]; twice {
			return d.wrong("name", "give each server its own name", "the server in line %d is named %s too", line, quote(server.GetName()))
		}
		lines[server.GetName()] = node.Line
		l.config.Servers = append(l.config.Servers, server)
	}
	return nil
}

// declaration is one entry of the list while it is read.
type declaration struct {
	*loader
	line   int
	values map[string]*yaml.Node
}

// wrong blames a key of the entry, or the entry where it hasn't that key.
func (d *declaration) wrong(key, fix, format string, args ...any) error {
	line := d.line
	if v := d.values[key]; v != nil {
		line = v.Line
	}
	return d.file.errorf(line, "servers."+key, fix, format, args...)
}

func (d *declaration) server(node *yaml.Node) (*registryv1.Server, error) {
	if err := d.keys(node); err != nil {
		return nil, err
	}
	server := &registryv1.Server{}
	var prefix, calls, repeat string
	if err := first(d.text("name", &server.Name), d.text("prefix", &prefix), d.text("calls", &calls), d.text("repeat", &repeat)); err != nil {
		return nil, err
	}
	if server.Name == "" {
		return nil, d.wrong("name", "add name: and a word of a-z, 0-9 and '-'", "a server without a name")
	}
	if d.values["prefix"] != nil {
		server.Prefix = proto.String(prefix)
	}
	var err error
	if server.Calls, err = d.calls(calls); err != nil {
		return nil, err
	}
	if server.Repeat, err = d.repeat(repeat); err != nil {
		return nil, err
	}
	if err := first(d.duration("timeout", &server.CallTimeout), d.duration("promote_after", &server.PromoteAfter)); err != nil {
		return nil, err
	}
	if err := d.endpoint(server); err != nil {
		return nil, err
	}
	return server, d.validate(server)
}

// duration reads a duration, which stays nil where the key is missing or empty.
func (d *declaration) duration(key string, into **durationpb.Duration) error {
	var text string
	if err := d.text(key, &text); err != nil || text == "" {
		return err
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		return d.wrong(key, "write a number with its unit, such as 30s or 5m", "%s is no duration", quote(text))
	}
	*into = durationpb.New(v)
	return nil
}

// keys sorts out the entry's keys, and finds what kind of server it is.
func (d *declaration) keys(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return d.file.errorf(node.Line, "servers", "write name: and url:, command: or grpc:", "%s instead of a server", nodeKind(node))
	}
	known := make([]string, 0, len(serverKeys))
	for k := range serverKeys {
		known = append(known, k)
	}
	slices.Sort(known)
	for i := 0; i+1 < len(node.Content); i += 2 {
		k, v := node.Content[i], node.Content[i+1]
		if _, ok := serverKeys[k.Value]; !ok || k.Kind != yaml.ScalarNode {
			return d.file.errorf(k.Line, "servers."+k.Value, didYouMean(k.Value, known, "a server has "+oneOf(known)), "unknown key")
		}
		if d.values[k.Value] != nil {
			return d.file.errorf(k.Line, "servers."+k.Value, "keep one", "is here twice")
		}
		if v.Kind == yaml.AliasNode || v.Anchor != "" {
			return d.file.errorf(v.Line, "servers."+k.Value, "write the value out", "anchors and aliases are not supported")
		}
		d.values[k.Value] = v
	}
	if d.values["openapi"] != nil {
		return d.wrong("openapi", "put an MCP server in front of the REST API and declare its url", "REST APIs as tools are not built yet")
	}
	var kinds []string
	for _, k := range endpointKeys {
		if d.values[k] != nil {
			kinds = append(kinds, k)
		}
	}
	switch len(kinds) {
	case 0:
		return d.wrong("name", "add url:, command: or grpc:", "nothing says where this server is")
	case 1:
	default:
		return d.wrong(kinds[1], "keep one, or declare two servers", "this server has %s already", kinds[0])
	}
	for _, k := range known {
		if of := serverKeys[k]; of != "" && of != kinds[0] && d.values[k] != nil {
			return d.wrong(k, "remove it", "belongs to a server with %s:, and this one has %s:", of, kinds[0])
		}
	}
	return nil
}

func (d *declaration) repeat(text string) (registryv1.Repeat, error) {
	switch text {
	case "":
		return registryv1.Repeat_REPEAT_UNSPECIFIED, nil
	case "annotated":
		return registryv1.Repeat_REPEAT_ANNOTATED, nil
	case "never":
		return registryv1.Repeat_REPEAT_NEVER, nil
	case "always":
		return registryv1.Repeat_REPEAT_ALWAYS, nil
	}
	return 0, d.wrong("repeat", "write annotated, never or always", "%s says of no calls whether they may be repeated", quote(text))
}

func (d *declaration) calls(text string) (registryv1.CallPath, error) {
	switch text {
	case "":
		return registryv1.CallPath_CALL_PATH_UNSPECIFIED, nil
	case "session":
		return registryv1.CallPath_CALL_PATH_SESSION, nil
	case "direct":
		return registryv1.CallPath_CALL_PATH_DIRECT, nil
	}
	return 0, d.wrong("calls", "write session or direct", "%s is no way of calling", quote(text))
}

func (d *declaration) endpoint(server *registryv1.Server) error {
	switch {
	case d.values["url"] != nil:
		http := &registryv1.HttpEndpoint{}
		server.Endpoint = &registryv1.Server_Http{Http: http}
		return first(d.text("url", &http.Url), d.pairs("headers", &http.Headers))
	case d.values["command"] != nil:
		stdio := &registryv1.StdioEndpoint{}
		server.Endpoint = &registryv1.Server_Stdio{Stdio: stdio}
		return first(d.words("command", &stdio.Command), d.pairs("env", &stdio.Env), d.text("dir", &stdio.Dir))
	default:
		grpc := &registryv1.GrpcEndpoint{}
		server.Endpoint = &registryv1.Server_Grpc{Grpc: grpc}
		return first(d.text("grpc", &grpc.Target), d.truth("tls", &grpc.Tls), d.words("services", &grpc.Services), d.pairs("metadata", &grpc.Metadata))
	}
}

// validate applies the API's own rules, which hold for declared servers too.
func (d *declaration) validate(server *registryv1.Server) error {
	err := protovalidate.Validate(server)
	var invalid *protovalidate.ValidationError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &invalid) || len(invalid.Violations) == 0:
		return d.wrong("name", "", "%s", strings.Join(strings.Fields(err.Error()), " "))
	}
	v := invalid.Violations[0].Proto
	path := protovalidate.FieldPathString(v.GetField())
	for _, known := range []struct{ path, key, problem, fix string }{
		{"name", "name", quote(server.GetName()) + " is no name of a server", "use 1 to 40 of a-z, 0-9 and '-', with no '-' at the ends"},
		{"prefix", "prefix", quote(server.GetPrefix()) + " is no prefix", "use at most 40 of A-Z, a-z, 0-9, '_', '.' and '-'"},
		{"call_timeout", "timeout", quote(trimDuration(server.GetCallTimeout().AsDuration())) + " is out of range", "give more than 0s and at most 24h"},
		{"promote_after", "promote_after", quote(trimDuration(server.GetPromoteAfter().AsDuration())) + " is out of range", "give 0s to 24h"},
		{"http.url", "url", "no URL of a server", "write http:// or https://, a host and a path"},
		{"stdio.command", "command", "no program", "write a list with the program first: [npx, -y, some-server]"},
		{"grpc.target", "grpc", "no address", "write host:port"},
	} {
		if path == known.path {
			return d.wrong(known.key, known.fix, "%s", known.problem)
		}
	}
	key := path[strings.LastIndexByte(path, '.')+1:]
	if i := strings.IndexByte(key, '['); i >= 0 {
		key = key[:i]
	}
	return d.wrong(key, "", "%s", v.GetMessage())
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
