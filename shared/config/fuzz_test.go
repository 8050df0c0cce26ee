package config_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/tools/txtar"

	"erlmcp.dev/shared/config"
)

// FuzzFile: whatever a file holds, it loads or is refused with one printable line that names it.
func FuzzFile(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/refused.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range archive.Files {
		if strings.HasSuffix(file.Name, ".yaml") {
			f.Add(file.Data)
		}
	}
	f.Add([]byte(config.DocsExample))
	f.Fuzz(func(t *testing.T, data []byte) {
		src := source()
		src.Path = "erlmcp.yaml"
		src.ReadFile = func(path string) ([]byte, error) {
			if path != "erlmcp.yaml" {
				return nil, errors.New("not here")
			}
			return data, nil
		}
		c, err := config.Load(src)
		if err != nil {
			var e *config.Error
			if !errors.As(err, &e) || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) || e.Problem == "" {
				t.Fatalf("%q", err)
			}
			return
		}
		names := map[string]bool{}
		for _, s := range c.Servers {
			if names[s.GetName()] || s.GetEndpoint() == nil {
				t.Fatalf("declared: %v", s)
			}
			names[s.GetName()] = true
		}
	})
}

// FuzzImport: what is imported can be loaded, or says why not.
func FuzzImport(f *testing.F) {
	f.Add(`{"mcpServers": {"a b": {"command": "npx", "args": ["-y"], "env": {"K": "${X} $${ ${input:y}"}}, "r": {"url": "http://h/"}}}`)
	f.Fuzz(func(t *testing.T, in string) {
		out, _, err := config.Import(strings.NewReader(in))
		if err != nil {
			return
		}
		src := source()
		src.Path, src.ReadFile = "erlmcp.yaml", withFile(string(out))
		if _, err := config.Load(src); err != nil {
			var e *config.Error
			if !errors.As(err, &e) || !strings.HasPrefix(e.Place, "erlmcp.yaml:") || strings.Contains(e.Problem, "not YAML") {
				t.Fatalf("%v\n%s", err, out)
			}
		}
	})
}
