package config

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// text reads a scalar, where the entry has that key.
func (d *declaration) text(key string, at *string) error {
	v := d.values[key]
	switch {
	case v == nil:
		return nil
	case v.Kind != yaml.ScalarNode || (isNull(v) && key != "prefix"):
		return d.wrong(key, "write text", "%s instead of text", nodeKind(v))
	}
	*at = v.Value
	return nil
}

func (d *declaration) truth(key string, at *bool) error {
	v := d.values[key]
	switch {
	case v == nil:
		return nil
	case v.Kind != yaml.ScalarNode || v.Tag != "!!bool":
		return d.wrong(key, "write true or false", "%s instead of true or false", nodeKind(v))
	}
	*at = strings.EqualFold(v.Value, "true")
	return nil
}

func (d *declaration) words(key string, at *[]string) error {
	v := d.values[key]
	switch {
	case v == nil:
		return nil
	case v.Kind != yaml.SequenceNode:
		return d.wrong(key, "write a list of words: [one, two]", "%s instead of a list", nodeKind(v))
	}
	for _, item := range v.Content {
		if item.Kind != yaml.ScalarNode || isNull(item) {
			return d.file.errorf(item.Line, "servers."+key, "write words in the list", "%s in the list", nodeKind(item))
		}
		*at = append(*at, item.Value)
	}
	return nil
}

// pairs reads names and values. Values may refer to environment variables, so that the file needs no secrets.
func (d *declaration) pairs(key string, at *map[string]string) error {
	v := d.values[key]
	switch {
	case v == nil || isNull(v):
		return nil
	case v.Kind != yaml.MappingNode:
		return d.wrong(key, "write names and values: {NAME: value}", "%s instead of names and values", nodeKind(v))
	}
	pairs := map[string]string{}
	for i := 0; i+1 < len(v.Content); i += 2 {
		name, value := v.Content[i], v.Content[i+1]
		place := "servers." + key + "." + name.Value
		switch {
		case name.Kind != yaml.ScalarNode || name.Value == "":
			return d.file.errorf(name.Line, "servers."+key, "names are plain words", "%s as a name", nodeKind(name))
		case value.Kind != yaml.ScalarNode || isNull(value):
			return d.file.errorf(value.Line, place, "write text", "%s instead of text", nodeKind(value))
		}
		if _, twice := pairs[name.Value]; twice {
			return d.file.errorf(name.Line, place, "keep one", "is here twice")
		}
		text, missing, ok := expand(value.Value, d.env.reference)
		if !ok {
			if missing == "" {
				return d.file.errorf(value.Line, place, "write ${NAME}, ${NAME:-default}, or $${ for ${ itself", "a reference that is not closed or not named")
			}
			return d.file.errorf(value.Line, place, "set it, or write ${"+missing+":-default}", "the variable %s is not set", plain(missing))
		}
		pairs[name.Value] = text
	}
	*at = pairs
	return nil
}

// expand replaces ${NAME} and ${NAME:-default}; $${ stands for ${ itself. It names the variable that is missing;
// none, where a reference is malformed.
func expand(text string, lookup func(string) (string, bool)) (out, missing string, ok bool) {
	var b strings.Builder
	for {
		i := strings.Index(text, "${")
		if i < 0 {
			b.WriteString(text)
			return b.String(), "", true
		}
		if i > 0 && text[i-1] == '$' {
			b.WriteString(text[:i-1] + "${")
			text = text[i+2:]
			continue
		}
		b.WriteString(text[:i])
		inner, rest, closed := strings.Cut(text[i+2:], "}")
		name, fallback, hasFallback := strings.Cut(inner, ":-")
		if !closed || !isVariable(name) {
			return "", "", false
		}
		value, found := lookup(name)
		if !found {
			if !hasFallback {
				return "", name, false
			}
			value = fallback
		}
		b.WriteString(value)
		text = rest
	}
}

func isVariable(name string) bool {
	for i, r := range name {
		letter := r == '_' || (r >= 'A' && r <= 'Z') || (r >= 'a' && r <= 'z')
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}
