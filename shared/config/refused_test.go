package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"erlmcp.dev/shared/config"
	"erlmcp.dev/shared/testkit"
)

// refusal is one case of testdata/refused.txtar.
type refusal struct {
	source config.Source
	want   string
}

func TestStartIsRefusedWithOneLineThatNamesPlaceAndFix(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/refused.txtar")
	if err != nil {
		t.Fatal(err)
	}
	cert, key := testkit.CertificateFiles(t, t.TempDir())
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{cert}", cert, "{key}", key, "{short}", short)

	var order []string
	cases := map[string]*refusal{}
	for _, f := range archive.Files {
		name, part, ok := strings.Cut(f.Name, "/")
		if !ok {
			t.Fatalf("%s: name files case/part", f.Name)
		}
		c := cases[name]
		if c == nil {
			c = &refusal{source: source()}
			cases[name] = c
			order = append(order, name)
		}
		text := fill.Replace(string(f.Data))
		switch part {
		case "erlmcp.yaml":
			c.source.Path = "erlmcp.yaml"
			c.source.ReadFile = withFile(text)
		case "env":
			c.source.Environ = strings.Split(strings.TrimSpace(text), "\n")
		case "role":
			c.source.Roles = []config.Role{config.Role(strings.TrimSpace(text))}
		case "flags":
			for line := range strings.Lines(text) {
				k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
				c.source.Flags = append(c.source.Flags, config.Flag{Name: "--set " + k, Key: k, Value: v})
			}
		case "want":
			c.want = strings.TrimSpace(text)
		default:
			t.Fatalf("%s: unknown part", f.Name)
		}
	}
	for _, name := range order {
		t.Run(name, func(t *testing.T) {
			c := cases[name]
			if c.want == "" {
				t.Fatal("no want")
			}
			_, err := config.Load(c.source)
			var e *config.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an Error: %s", err, c.want)
			}
			if got := err.Error(); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// source is a host where nothing is set.
func source() config.Source {
	return config.Source{Hostname: "host1", Environ: []string{"HOME=/home/op"}}
}

// withFile reads erlmcp.yaml from memory and the rest from disk.
func withFile(text string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if path == "erlmcp.yaml" {
			return []byte(text), nil
		}
		return os.ReadFile(path)
	}
}
