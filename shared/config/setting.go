package config

import "slices"

// Setting is a row of the table: all there is to know about one setting.
type Setting struct {
	// Key in the file, nested by dots.
	Key string
	// Env are the variables that set it: the first is its name, others are aliases.
	Env []string
	// EnvFile are variables that hold the path of a file with its value. Each secret has one for each name in Env.
	EnvFile []string
	// Flag without dashes; empty where only --set reaches it.
	Flag string
	Kind Kind
	// Choices of a Choice.
	Choices []string
	// Default in the form it would be written; empty for none, or for one that is worked out.
	Default string
	// DefaultDoc tells a default that is worked out.
	DefaultDoc string
	// Roles that use it; all when empty.
	Roles []Role
	// Doc is one line for operators.
	Doc string

	// at finds the field; check looks at its value once it is set.
	at    func(*Config) any
	check func(*Config) (problem, fix string)
}

// Kind is how a setting is written.
type Kind string

// Kinds.
const (
	String   Kind = "string"
	Choice   Kind = "choice"
	Bool     Kind = "bool"
	Int      Kind = "number"
	Port     Kind = "port"
	Ratio    Kind = "ratio"
	Duration Kind = "duration"
	Bytes    Kind = "size"
	URL      Kind = "URL"
	List     Kind = "list"
	Hidden   Kind = "secret"
	Hiddens  Kind = "secrets"
	PEM      Kind = "PEM"
)

// Secret reports whether values are kept from view, and may be given as a file.
func (s *Setting) Secret() bool { return s.Kind == Hidden || s.Kind == Hiddens || s.Kind == PEM }

// Settings is the whole table, in the order of the documentation.
func Settings() []Setting {
	all := slices.Concat(generalSettings(), portSettings(), clusterSettings(), storeSettings(), accessSettings(), taskSettings(), metricsSettings(), telemetrySettings())
	for i := range all {
		s := &all[i]
		if s.Secret() {
			for _, name := range s.Env {
				s.EnvFile = append(s.EnvFile, name+"_FILE")
			}
		}
	}
	return all
}

// Variable is an environment variable that is known without setting anything in a server process.
type Variable struct {
	Name, Doc string
}

// OtherVariables are read by compose files, and by the commands that talk to a running erlmcp.
func OtherVariables() []Variable {
	return []Variable{
		{"ERLMCP_CONFIG", "Path of the configuration file, as --config."},
		{"ERLMCP_ADDR", "Address that the operator's commands talk to, as --addr."},
		{"ERLMCP_API_KEY", "API key of the operator's commands, as --key."},
		{"ERLMCP_API_KEY_FILE", "Path of a file that holds it."},
		{"ERLMCP_VERSION", "Read by compose: the image's tag."},
		{"ERLMCP_IMAGE", "Read by compose: the image."},
		{"ERLMCP_REPLICAS", "Read by compose: number of gateways."},
		{"ERLMCP_CPU_LIMIT", "Read by compose. GOMAXPROCS follows the cgroup."},
		{"ERLMCP_CPU_RESERVATION", "Read by compose."},
		{"ERLMCP_MEMORY_LIMIT", "Read by compose. GOMEMLIMIT follows the cgroup: nine tenths of its memory, unless it is set."},
		{"ERLMCP_MEMORY_RESERVATION", "Read by compose."},
	}
}

func find(settings []Setting, key string) *Setting {
	for i := range settings {
		if settings[i].Key == key {
			return &settings[i]
		}
	}
	return nil
}
