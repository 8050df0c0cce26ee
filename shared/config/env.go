package config

import (
	"regexp"
	"slices"
	"strings"
)

// environment holds the variables that are not empty.
type environment struct {
	values map[string]string
	// read marks variables that the file refers to.
	read map[string]bool
}

func newEnvironment(environ []string) environment {
	e := environment{values: map[string]string{}, read: map[string]bool{}}
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" && strings.TrimSpace(value) != "" {
			e.values[name] = value
		}
	}
	return e
}

// reference looks up a variable that the file refers to.
func (e environment) reference(name string) (string, bool) {
	e.read[name] = true
	v, ok := e.values[name]
	return v, ok
}

// fromEnv finds a setting in its variables. Two of them that disagree are an error: which one was meant?
func (l *loader) fromEnv(s *Setting) (given, bool, error) {
	var found given
	take := func(name, text, path string) error {
		if found.origin.Place == "" {
			found = given{text, Origin{FromEnv, name, path}}
			return nil
		}
		if found.text != text {
			return &Error{found.origin.Place, "differs from " + name + ", which sets the same", "keep one"}
		}
		return nil
	}
	for _, name := range s.Env {
		text, ok := l.env.values[name]
		if !ok || (s.Kind == Port && serviceLink(text)) {
			continue
		}
		if err := take(name, strings.TrimSpace(text), ""); err != nil {
			return given{}, false, err
		}
	}
	for _, name := range s.EnvFile {
		path, ok := l.env.values[name]
		if !ok {
			continue
		}
		text, err := l.secret(name, path)
		if err != nil {
			return given{}, false, err
		}
		if err := take(name, text, path); err != nil {
			return given{}, false, err
		}
	}
	return found, found.origin.Place != "", nil
}

// Kubernetes gives every container variables for each Service of its namespace, and a Service named "erlmcp" or
// "redis" collides with ours: ERLMCP_PORT=tcp://10.0.0.1:8080, ERLMCP_SERVICE_HOST, ERLMCP_PORT_8080_TCP_ADDR.
var serviceVariable = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)

func serviceLink(value string) bool {
	for _, proto := range []string{"tcp://", "udp://", "sctp://"} {
		if strings.HasPrefix(value, proto) {
			return true
		}
	}
	return false
}

// unknownVariables refuses ERLMCP_* variables that set nothing: they are slips of the pen.
func (l *loader) unknownVariables() error {
	var known []string
	for i := range l.settings {
		known = append(known, l.settings[i].Env...)
		known = append(known, l.settings[i].EnvFile...)
	}
	for _, v := range OtherVariables() {
		known = append(known, v.Name)
	}
	var unknown []string
	for name, value := range l.env.values {
		if !strings.HasPrefix(name, "ERLMCP_") || slices.Contains(known, name) || l.env.read[name] {
			continue
		}
		if serviceVariable.MatchString(name) || (strings.HasSuffix(name, "_PORT") && serviceLink(value)) {
			continue
		}
		unknown = append(unknown, name)
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return &Error{plain(unknown[0]), "no variable of erlmcp", didYouMean(unknown[0], known, "unset it; docs/configuration.md lists all")}
}
