package deploy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"
)

// engine is what the stand-in for Docker knows and does: this test binary under the name docker. Templates are carried
// out as Docker does it, over the names of its fields.
type engine struct {
	Images     map[string]imageConfig
	Containers map[string]*container
	// Services holds what is seen of each at one look after the other; the last look goes on. Looks begin with a list.
	Services map[string][]service
}

type imageConfig struct{ Config containerConfig }

type containerConfig struct {
	Image, User          string
	Env, Cmd, Entrypoint []string
	Labels               map[string]string
}

type container struct {
	Image  string
	Config containerConfig
	State  struct {
		Running bool
		Health  *struct{ Status string }
	}
	HostConfig hostConfig
}

type portBinding struct{ HostIp, HostPort string } //nolint:revive // Docker's name

type hostConfig struct {
	NetworkMode                            string
	PortBindings                           map[string][]portBinding
	AutoRemove, ReadonlyRootfs, Privileged bool
	Init                                   *bool
	RestartPolicy                          struct {
		Name              string
		MaximumRetryCount int
	}
	Tmpfs                                                                           map[string]string
	CapAdd, CapDrop, SecurityOpt                                                    []string
	Memory, MemorySwap, MemoryReservation, NanoCPUs, CPUShares, CPUPeriod, CPUQuota int64
	CpusetCpus                                                                      string
	PidsLimit                                                                       *int64
	Ulimits                                                                         []struct {
		Name       string
		Soft, Hard int64
	}
	LogConfig struct {
		Type   string
		Config map[string]string
	}
}

type service struct {
	Replicas     string
	Spec         struct{ TaskTemplate taskSpec }
	PreviousSpec *struct{}
	UpdateStatus *updateStatus
	Tasks        []taskSpec `json:",omitempty"` // those that should run
}

type taskSpec struct {
	ContainerSpec struct {
		Image     string
		Args, Env []string
	}
	ForceUpdate int
	Resources   *struct {
		Limits *struct{ NanoCPUs, MemoryBytes int64 }
	}
}

type updateStatus struct{ State, StartedAt, Message string }

// newEngine is a stand-in that knows this.
func newEngine(t *testing.T, e engine) standIns {
	t.Helper()
	stand := newStandIns(t, nil)
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(stand.dir, "docker"))
	}
	path := filepath.Join(stand.dir, "engine")
	if err == nil {
		err = e.write(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	// A program with the race detector sleeps a second before it ends, and scripts ask dozens of times.
	stand.Env = append(stand.Env, "ENGINE="+path, "GORACE=atexit_sleep_ms=0")
	return stand
}

func (e *engine) write(path string) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// docker is the stand-in's main.
func docker(args []string) error {
	path := os.Getenv("ENGINE")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var e engine
	if err := json.Unmarshal(text, &e); err != nil {
		return err
	}
	if err := e.do(args); err != nil {
		return err
	}
	return e.write(path)
}

var errUnknown = errors.New("the stand-in for docker knows no such object or command")

// trace writes down what was asked for.
func trace(args []string) error {
	file, err := os.OpenFile(os.Getenv("TRACE"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(file, strings.Join(args, " "))
	return errors.Join(err, file.Close())
}

func (e *engine) do(args []string) error {
	words := strings.Join(args, " ")
	is := func(prefix string) bool { return strings.HasPrefix(words+" ", prefix+" ") }
	last := args[len(args)-1]
	switch {
	case is("info"):
		_, err := fmt.Println("true")
		return err
	case is("secret inspect"):
		return nil
	case is("compose") && strings.Contains(words, " ps "):
		for name := range e.Containers {
			fmt.Println(name)
		}
		return nil
	case is("image inspect"):
		image, known := e.Images[last]
		if !known {
			return errUnknown
		}
		return show(args, image)
	case is("service ls"):
		for name, looks := range e.Services {
			if len(looks) > 1 && is("service ls --filter name="+name) {
				e.Services[name] = looks[1:]
			}
			fmt.Println(name, e.Services[name][0].Replicas)
		}
		return nil
	case is("service inspect"):
		looks, known := e.Services[args[2]]
		if !known {
			return errUnknown
		}
		return show(args, looks[0])
	case is("service ps --quiet"):
		for i := range e.Services[last][0].Tasks {
			fmt.Printf("%s/%d\n", last, i)
		}
		return nil
	case is("service ps"):
		_, err := fmt.Println("a task failed: no such file")
		return err
	case is("inspect --type task"):
		for _, id := range args[slices.Index(args, "-f")+2:] {
			name, number, _ := strings.Cut(id, "/")
			var i int
			if _, err := fmt.Sscan(number, &i); err != nil {
				return err
			}
			if err := show(args, struct{ Spec taskSpec }{e.Services[name][0].Tasks[i]}); err != nil {
				return err
			}
		}
		return nil
	case is("inspect"):
		names := args[1:]
		if i := slices.Index(args, "-f"); i >= 0 {
			names = slices.Delete(slices.Clone(args), i, i+2)[1:]
		}
		for _, name := range names {
			found, known := e.Containers[name]
			if !known {
				return errUnknown
			}
			if err := show(args, found); err != nil {
				return err
			}
		}
		return nil
	case is("rename"):
		e.Containers[args[2]] = e.Containers[args[1]]
		delete(e.Containers, args[1])
	case is("rm"):
		delete(e.Containers, last)
	case is("run"):
		name := args[slices.Index(args, "--name")+1]
		made := &container{}
		made.State.Running = true
		made.State.Health = &struct{ Status string }{"healthy"}
		for _, arg := range args {
			if _, known := e.Images[arg]; known {
				made.Config.Image = arg
			}
		}
		if strings.Contains(made.Config.Image, "broken") {
			made.State.Health.Status = "unhealthy"
		}
		e.Containers[name] = made
		file := args[slices.Index(args, "--env-file")+1]
		variables, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		// The file's name is never the same.
		args = strings.Fields(strings.ReplaceAll(words, file, strings.ReplaceAll(strings.TrimSpace(string(variables)), "\n", ",")))
	case is("stop"), is("start"), is("logs"), is("compose"), is("stack deploy"), is("service rollback"):
	default:
		return fmt.Errorf("%w: %s", errUnknown, words)
	}
	return trace(args)
}

// show carries out the template of -f, and adds a line as Docker does.
func show(args []string, what any) error {
	i := slices.Index(args, "-f")
	if i < 0 {
		return nil
	}
	parsed, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"json": func(v any) (string, error) {
		text, err := json.Marshal(v)
		return string(text), err
	}}).Parse(args[i+1])
	if err == nil {
		err = parsed.Execute(os.Stdout, what)
	}
	fmt.Println()
	return err
}
