package config

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"bytes"

	"go.yaml.in/yaml/v3"
)

// maxFile is the longest configuration file that is read, in bytes.
const maxFile = 4 << 20

// file is a configuration file, flattened: settings by key with the line that each is on.
type file struct {
	path    string
	values  map[string]fileValue
	servers *yaml.Node
}

type fileValue struct {
	text string
	line int
}

func (f *file) errorf(line int, key, fix, format string, args ...any) *Error {
	place := f.path
	if line > 0 {
		place = fmt.Sprintf("%s:%d", f.path, line)
	}
	if key != "" {
		place += " " + plain(key)
	}
	return &Error{Place: place, Problem: fmt.Sprintf(format, args...), Fix: fix}
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

// syntax turns the YAML reader's complaint into ours.
func (f *file) syntax(err error) *Error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	line := 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		_, _ = fmt.Sscan(m[1], &line) // stays 0 where there is none
		text = text[len(m[0]):]
	}
	return f.errorf(line, "", "check the indentation, and quote text with special characters", "not YAML: %s", text)
}

// readFile flattens a configuration file.
func readFile(path string, data []byte, settings []Setting) (*file, error) {
	f := &file{path: path, values: map[string]fileValue{}}
	if len(data) > maxFile {
		return nil, f.errorf(0, "", "declare servers through the API instead", "longer than %s", Size(maxFile))
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return f, nil
	} else if err != nil {
		return nil, f.syntax(err)
	}
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, f.errorf(second.Line, "", "keep one, and remove the --- line", "a second document")
	case !errors.Is(err, io.EOF):
		return nil, f.syntax(err)
	}
	if len(doc.Content) == 0 {
		return f, nil
	}
	root := doc.Content[0]
	if isNull(root) {
		return f, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, f.errorf(root.Line, "", "write keys and values, such as log: {level: info}", "%s instead of settings", nodeKind(root))
	}
	w := walker{file: f, settings: settings}
	for i := range settings {
		s := &settings[i]
		w.keys = append(w.keys, s.Key)
		if s.Secret() {
			w.keys = append(w.keys, s.Key+"_file")
		}
	}
	w.keys = append(w.keys, "servers")
	if err := w.mapping("", root); err != nil {
		return nil, err
	}
	return f, nil
}

// walker goes down the nested keys of a file.
type walker struct {
	*file
	settings []Setting
	keys     []string
}

func (w *walker) mapping(prefix string, m *yaml.Node) error {
	for i := 0; i+1 < len(m.Content); i += 2 {
		k, v := m.Content[i], m.Content[i+1]
		name := prefix + k.Value
		if k.Kind != yaml.ScalarNode || k.Value == "" || k.Tag == "!!merge" {
			return w.errorf(k.Line, strings.TrimSuffix(prefix, "."), "keys are plain words", "%s as a key", nodeKind(k))
		}
		if v.Kind == yaml.AliasNode || v.Anchor != "" {
			return w.errorf(v.Line, name, "write the value out", "anchors and aliases are not supported")
		}
		if err := w.entry(name, k, v); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) entry(name string, k, v *yaml.Node) error {
	if name == "servers" {
		if w.servers != nil {
			return w.errorf(k.Line, name, "keep one", "is here twice")
		}
		w.servers = v
		return nil
	}
	setting := find(w.settings, name)
	if setting == nil {
		if s := find(w.settings, strings.TrimSuffix(name, "_file")); s != nil && s.Secret() {
			setting = &Setting{Key: name, Kind: String}
		}
	}
	if setting != nil {
		if have, twice := w.values[name]; twice {
			return w.errorf(k.Line, name, "keep one", "is in line %d already", have.line)
		}
		text, err := w.scalar(setting, v)
		if err != nil {
			return err
		}
		w.values[name] = fileValue{text, k.Line}
		return nil
	}
	if !w.section(name) {
		return w.errorf(k.Line, name, didYouMean(name, w.keys, "docs/configuration.md lists all keys"), "unknown key")
	}
	switch {
	case isNull(v):
		return nil
	case v.Kind != yaml.MappingNode:
		return w.errorf(v.Line, name, "nest its settings below it", "%s instead of settings", nodeKind(v))
	}
	return w.mapping(name+".", v)
}

// section reports whether settings are nested below a key.
func (w *walker) section(name string) bool {
	for _, k := range w.keys {
		if strings.HasPrefix(k, name+".") {
			return true
		}
	}
	return false
}

// scalar returns the text of a setting's value, once its YAML type fits.
func (w *walker) scalar(s *Setting, v *yaml.Node) (string, error) {
	wrong := func(want string) error {
		return w.errorf(v.Line, s.Key, "write "+want, "%s instead of %s", nodeKind(v), want)
	}
	if v.Kind == yaml.SequenceNode && (s.Kind == List || s.Kind == Hiddens) {
		parts := make([]string, 0, len(v.Content))
		for _, item := range v.Content {
			if item.Kind != yaml.ScalarNode || isNull(item) {
				return "", w.errorf(item.Line, s.Key, "write words in the list", "%s in the list", nodeKind(item))
			}
			parts = append(parts, item.Value)
		}
		return strings.Join(parts, "\n"), nil
	}
	if v.Kind != yaml.ScalarNode {
		return "", wrong(article(s.Kind))
	}
	if isNull(v) {
		return "", w.errorf(v.Line, s.Key, "give one, or remove the key", "has no value")
	}
	switch s.Kind {
	case Bool:
		if v.Tag != "!!bool" {
			return "", wrong("true or false")
		}
	case Int, Port:
		if v.Tag != "!!int" {
			return "", wrong(article(s.Kind))
		}
	case Ratio:
		if v.Tag != "!!int" && v.Tag != "!!float" {
			return "", wrong(article(s.Kind))
		}
	case Duration:
		if v.Tag != "!!str" {
			return "", wrong("a duration such as 30s")
		}
	}
	return v.Value, nil
}

func article(k Kind) string {
	switch k {
	case Port:
		return "a port number"
	case Choice, String:
		return "text"
	}
	return "a " + string(k)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// nodeKind names what a node is, never what it says.
func nodeKind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	case yaml.ScalarNode:
		switch n.Tag {
		case "!!null":
			return "nothing"
		case "!!bool":
			return "true or false"
		case "!!int", "!!float":
			return "a number"
		}
		return "text"
	}
	return "something else"
}
