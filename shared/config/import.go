package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// foreignServer is a server in the JSON that desktop clients use. They agree on these fields only roughly.
type foreignServer struct {
	Command   string            `json:"command"`
	Args      []string          `json:"args"`
	Env       map[string]string `json:"env"`
	Cwd       string            `json:"cwd"`
	URL       string            `json:"url"`
	ServerURL string            `json:"serverUrl"`
	HTTPURL   string            `json:"httpUrl"`
	Headers   map[string]string `json:"headers"`
	Disabled  bool              `json:"disabled"`
}

// importedServer is an entry of `servers:`, in the order that its keys are written.
type importedServer struct {
	Name    string            `yaml:"name"`
	URL     string            `yaml:"url,omitempty"`
	Headers map[string]string `yaml:"headers,omitempty"`
	Command []string          `yaml:"command,omitempty,flow"`
	Env     map[string]string `yaml:"env,omitempty"`
	Dir     string            `yaml:"dir,omitempty"`
}

// Import turns the mcpServers JSON of desktop clients into the `servers:` part of a configuration file. The notes
// say what an operator should look at: servers that were left out or renamed, references that can't be kept.
func Import(r io.Reader) (servers []byte, notes []string, err error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read the servers to import: %w", err)
	}
	if len(data) > maxFile {
		return nil, nil, fmt.Errorf("the servers to import are longer than %s", Size(maxFile))
	}
	list, err := foreignServers(data)
	if err != nil {
		return nil, nil, err
	}
	var file struct {
		Servers []importedServer `yaml:"servers"`
	}
	taken := map[string]bool{}
	for _, original := range slices.Sorted(maps.Keys(list)) {
		from := list[original]
		if from.Disabled {
			notes = append(notes, quote(original)+" is disabled and left out")
			continue
		}
		name := serverName(original, taken)
		if name != original {
			notes = append(notes, fmt.Sprintf("%s is named %s here", quote(original), name))
		}
		server, note, err := from.convert(name)
		if err != nil {
			return nil, nil, fmt.Errorf("server %s: %w", quote(original), err)
		}
		if note != "" {
			notes = append(notes, fmt.Sprintf("%s: %s", name, note))
		}
		file.Servers = append(file.Servers, server)
	}
	if len(file.Servers) == 0 {
		return nil, notes, errors.New("no server to import; the file should look like {\"mcpServers\": {\"name\": {\"command\": ...}}}")
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(file), enc.Close()); err != nil {
		return nil, nil, fmt.Errorf("write the servers as YAML: %w", err)
	}
	return out.Bytes(), notes, nil
}

// foreignServers finds the servers in a client's file: under mcpServers or servers, or the whole file.
func foreignServers(data []byte) (map[string]foreignServer, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var top map[string]json.RawMessage
	if err := json.Unmarshal(data, &top); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line := 1 + bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n"))
			return nil, fmt.Errorf("not JSON, line %d: %w; comments and trailing commas have to go", line, err)
		}
		return nil, errors.New("not a JSON object; the file should look like {\"mcpServers\": {...}}")
	}
	body := json.RawMessage(data)
	for _, key := range []string{"mcpServers", "servers"} {
		if inner, ok := top[key]; ok {
			body = inner
			break
		}
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, errors.New("mcpServers is no JSON object")
	}
	list := map[string]foreignServer{}
	for name, one := range raw {
		var s foreignServer
		if err := json.Unmarshal(one, &s); err != nil {
			return nil, fmt.Errorf("server %s: a field has another type than expected: %w", quote(name), err)
		}
		list[name] = s
	}
	return list, nil
}

func (f *foreignServer) convert(name string) (importedServer, string, error) {
	address := f.URL
	for _, other := range []string{f.ServerURL, f.HTTPURL} {
		if address == "" {
			address = other
		}
	}
	switch {
	case f.Command != "" && address != "":
		return importedServer{}, "", errors.New("has a command and a url; remove one")
	case f.Command != "":
		env, note := keepReferences(f.Env)
		return importedServer{Name: name, Command: append([]string{f.Command}, f.Args...), Env: env, Dir: f.Cwd}, note, nil
	case address != "":
		headers, note := keepReferences(f.Headers)
		return importedServer{Name: name, URL: address, Headers: headers}, note, nil
	}
	return importedServer{}, "", errors.New("has neither a command nor a url")
}

var foreignReference = regexp.MustCompile(`\$\{([^}]*)\}`)

// keepReferences carries ${NAME} and ${env:NAME} over, and keeps what only the client can fill in as plain text.
func keepReferences(values map[string]string) (map[string]string, string) {
	var foreign []string
	kept := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		text := foreignReference.ReplaceAllStringFunc(values[key], func(ref string) string {
			name, fallback, has := strings.Cut(strings.TrimPrefix(ref[2:len(ref)-1], "env:"), ":-")
			if !isVariable(name) {
				foreign = append(foreign, key)
				return "$" + ref
			}
			if has {
				return "${" + name + ":-" + fallback + "}"
			}
			return "${" + name + "}"
		})
		if rest := foreignReference.ReplaceAllString(text, ""); strings.Contains(rest, "${") {
			text = strings.ReplaceAll(values[key], "${", "$${")
			foreign = append(foreign, key)
		}
		kept[key] = text
	}
	if len(foreign) == 0 {
		return kept, ""
	}
	return kept, "fill in " + strings.Join(slices.Compact(foreign), ", ") + ", which only that client knows"
}

// serverName makes a valid and unused name.
func serverName(original string, taken map[string]bool) string {
	const longest = 40
	base := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, original)
	base = strings.Trim(base[:min(len(base), longest)], "-")
	if base == "" {
		base = "server"
	}
	name := base
	for i := 2; taken[name]; i++ {
		suffix := fmt.Sprintf("-%d", i)
		name = strings.TrimRight(base[:min(len(base), longest-len(suffix))], "-") + suffix
	}
	taken[name] = true
	return name
}
