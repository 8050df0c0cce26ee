package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Source is where settings come from. In order: flags, environment, file, defaults.
type Source struct {
	// Roles that will run; all when empty.
	Roles []Role
	// Path of the file that --config names.
	Path string
	// Search holds the files that are tried where no path was given; the first that exists is read.
	Search []string
	// Flags that were given, in order.
	Flags []Flag
	// Environ is the environment, as os.Environ has it. An empty variable counts as none.
	Environ []string
	// Hostname of this machine; asked of the system when empty.
	Hostname string
	// ReadFile reads the file and secrets; os.ReadFile when nil.
	ReadFile func(path string) ([]byte, error)
}

// Flag is a setting given on the command line.
type Flag struct {
	// Name as it was written, such as "--port" or "--set ports.api".
	Name string
	// Key of the setting; may be a secret's key with _file.
	Key   string
	Value string
}

// Origin says where a value came from.
type Origin struct {
	Layer Layer
	// Place in it: a flag, a variable, a line of the file; empty for defaults.
	Place string
	// path of the file that a secret was read from.
	path string
}

// Layer is one of the places that settings come from.
type Layer string

// Layers.
const (
	FromFlag    Layer = "flag"
	FromEnv     Layer = "env"
	FromFile    Layer = "file"
	FromDefault Layer = "default"
)

// Load reads and checks all settings. Its error is an [Error], except where the file can't be read at all.
func Load(src Source) (Config, error) {
	l, err := newLoader(src)
	if err != nil {
		return Config{}, err
	}
	if err := l.assignAll(); err != nil {
		return Config{}, err
	}
	if err := l.declareServers(); err != nil {
		return Config{}, err
	}
	if err := l.unknownVariables(); err != nil {
		return Config{}, err
	}
	l.derive()
	if err := l.check(); err != nil {
		return Config{}, err
	}
	return l.config, nil
}

// Lookup reads one setting as text, and checks nothing else: for commands that only want to know where a running
// erlmcp listens.
func Lookup(src Source, key string) (string, error) {
	l, err := newLoader(src)
	if err != nil {
		return "", err
	}
	s := find(l.settings, key)
	if s == nil {
		return "", fmt.Errorf("config: there is no setting %s", key)
	}
	if err := l.assign(s); err != nil {
		return "", err
	}
	return s.show(&l.config), nil
}

// loader holds what one Load knows.
type loader struct {
	src      Source
	settings []Setting
	env      environment
	flags    map[string]Flag
	file     *file
	config   Config
}

func newLoader(src Source) (*loader, error) {
	if len(src.Roles) == 0 {
		src.Roles = Roles()
	}
	if src.ReadFile == nil {
		src.ReadFile = os.ReadFile
	}
	if src.Hostname == "" {
		src.Hostname, _ = os.Hostname() // the fallback below serves where there is none
	}
	src.Hostname = cmp.Or(src.Hostname, "localhost")
	l := &loader{src: src, settings: Settings(), env: newEnvironment(src.Environ), flags: map[string]Flag{}}
	l.config = Config{Roles: src.Roles, origins: map[string]Origin{}}
	if err := l.readFlags(); err != nil {
		return nil, err
	}
	if err := l.readFile(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *loader) readFlags() error {
	var keys []string
	for i := range l.settings {
		keys = append(keys, l.settings[i].Key)
	}
	for _, f := range l.src.Flags {
		s := find(l.settings, f.Key)
		if base := find(l.settings, strings.TrimSuffix(f.Key, "_file")); s == nil && base != nil && base.Secret() {
			s = &Setting{Kind: String}
		}
		switch {
		case s == nil:
			return &Error{f.Name, "there is no setting " + plain(f.Key), didYouMean(f.Key, keys, "`erlmcp config check` lists all")}
		case s.Kind == Hidden || s.Kind == Hiddens:
			fix := "use --set " + s.Key + "_file=PATH"
			if len(s.Env) > 0 {
				fix += " or " + s.Env[0]
			}
			return &Error{f.Name, "a secret on the command line can be seen by everyone on this machine", fix}
		}
		l.flags[f.Key] = f
	}
	return nil
}

func (l *loader) readFile() error {
	path, origin := l.src.Path, "--config"
	if path == "" {
		path, origin = l.env.values["ERLMCP_CONFIG"], "ERLMCP_CONFIG"
	}
	given := path != ""
	candidates := l.src.Search
	if given {
		candidates = []string{path}
	}
	l.file = &file{}
	for _, p := range candidates {
		data, err := l.src.ReadFile(p)
		switch {
		case err != nil && os.IsNotExist(err) && !given:
			continue
		case err != nil && os.IsNotExist(err):
			return &Error{origin, "there is no file " + quote(p), "give the path of an erlmcp.yaml"}
		case err != nil:
			return &Error{plain(p), "can't be read: " + reason(err), "let this user read it"}
		}
		l.config.File = p
		l.file, err = readFile(filepath.ToSlash(p), data, l.settings)
		return err
	}
	return nil
}

func reason(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		err = p.Err // without the path, which is told already
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

func (l *loader) assignAll() error {
	for i := range l.settings {
		if err := l.assign(&l.settings[i]); err != nil {
			return err
		}
	}
	return nil
}

// given is a value with its origin.
type given struct {
	text   string
	origin Origin
}

func (l *loader) assign(s *Setting) error {
	v, err := l.resolve(s)
	if err != nil {
		return err
	}
	if v.origin.Layer == FromDefault && v.text == "" {
		return nil
	}
	l.config.origins[s.Key] = v.origin
	if s.Kind == PEM && v.origin.path == "" && !strings.Contains(v.text, "-----BEGIN ") {
		// A path given where PEM could be.
		v.origin.path = v.text
		if v.text, err = l.secret(v.origin.Place, v.origin.path); err != nil {
			return err
		}
	}
	if s.Kind == PEM {
		s.at(&l.config).(*Material).File = v.origin.path
	}
	if problem, fix := s.assign(&l.config, v.text); problem != "" {
		return &Error{v.origin.Place, problem, fix}
	}
	return nil
}

// resolve finds a setting's text in the first layer that has it.
func (l *loader) resolve(s *Setting) (given, error) {
	if f, ok := l.flags[s.Key]; ok {
		return given{text: f.Value, origin: Origin{Layer: FromFlag, Place: f.Name}}, nil
	}
	if f, ok := l.flags[s.Key+"_file"]; ok && s.Secret() {
		text, err := l.secret(f.Name, f.Value)
		return given{text, Origin{FromFlag, f.Name, f.Value}}, err
	}
	if v, ok, err := l.fromEnv(s); ok || err != nil {
		return v, err
	}
	inline, isInline := l.file.values[s.Key]
	path, isPath := l.file.values[s.Key+"_file"]
	switch {
	case isInline && isPath && s.Secret():
		return given{}, l.file.errorf(path.line, s.Key+"_file", "keep one", "%s is in line %d", s.Key, inline.line)
	case isInline:
		return given{text: inline.text, origin: Origin{Layer: FromFile, Place: l.linePlace(inline.line, s.Key)}}, nil
	case isPath && s.Secret():
		place := l.linePlace(path.line, s.Key+"_file")
		text, err := l.secret(place, path.text)
		return given{text, Origin{FromFile, place, path.text}}, err
	}
	return given{text: s.Default, origin: Origin{Layer: FromDefault, Place: s.Key}}, nil
}

func (l *loader) linePlace(line int, key string) string {
	return fmt.Sprintf("%s:%d %s", l.file.path, line, key)
}

func (l *loader) secret(place, path string) (string, error) {
	text, err := readSecretFile(l.src.ReadFile, path)
	if err != nil {
		return "", &Error{place, err.Error(), "give the path of a file with the secret in it"}
	}
	return text, nil
}

// set reports whether an operator gave a setting a value.
func (l *loader) set(key string) bool {
	o, ok := l.config.origins[key]
	return ok && o.Layer != FromDefault
}

// place names where an operator gave a setting its value, or should.
func (l *loader) place(key string) string {
	if o, ok := l.config.origins[key]; ok && o.Layer != FromDefault {
		return o.Place
	}
	if s := find(l.settings, key); s != nil && len(s.Env) > 0 {
		return s.Env[0]
	}
	return key
}
