package deploy

import (
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// instructions are a Dockerfile's, continued lines joined, comments left out.
func instructions(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	open := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		part, more := strings.CutSuffix(line, "\\")
		if open {
			found[len(found)-1] += " " + part
		} else {
			found = append(found, part)
		}
		open = more
	}
	return found
}

// What a linter of Dockerfiles would say of ours.
func TestDockerfilesKeepTheRulesOfTheirCraft(t *testing.T) {
	for _, path := range []string{"../../Dockerfile", "../../deploy/docker/balancer/Dockerfile"} {
		user, health, entry := "", false, ""
		stages, defaults := map[string]bool{}, map[string]string{}
		for _, line := range instructions(t, path) {
			word, rest, _ := strings.Cut(line, " ")
			switch word {
			case "FROM":
				m := regexp.MustCompile(`^(?:--platform=\S+ )?(\S+)(?: AS (\S+))?$`).FindStringSubmatch(rest)
				if m == nil {
					t.Errorf("%s: %q can't be read", path, line)
					continue
				}
				if name, is := strings.CutPrefix(m[1], "$"); is {
					m[1] = defaults[name]
				}
				if tag := m[1][strings.LastIndex(m[1], "/")+1:]; !stages[m[1]] && (!strings.Contains(tag, ":") || strings.HasSuffix(tag, ":latest")) {
					t.Errorf("%s: %s has no tag of its own", path, m[1])
				}
				stages[m[2]] = true
				user, health, entry = "", false, ""
			case "RUN":
				if strings.Contains(rest, "apt-get install") && (!strings.Contains(rest, "--no-install-recommends") || !strings.Contains(rest, "apt-get update") || !strings.Contains(rest, "rm -rf /var/lib/apt/lists/*")) {
					t.Errorf("%s: an install that updates, takes what is recommended, or leaves lists: %q", path, rest)
				}
				if m := regexp.MustCompile(`apt-get download "?([^" ]+)`).FindStringSubmatch(rest); m != nil && !strings.Contains(m[1], "=") {
					t.Errorf("%s: %s is any version", path, m[1])
				}
				if strings.Contains(rest, "sudo ") || strings.Contains(rest, "curl ") {
					t.Errorf("%s: %q", path, rest)
				}
			case "ADD", "MAINTAINER":
				t.Errorf("%s: use COPY and LABEL: %q", path, line)
			case "WORKDIR":
				if !strings.HasPrefix(rest, "/") {
					t.Errorf("%s: a relative WORKDIR: %q", path, line)
				}
			case "USER":
				user = rest
			case "HEALTHCHECK":
				health = true
			case "CMD", "ENTRYPOINT":
				entry = rest
				if !strings.HasPrefix(rest, "[") {
					t.Errorf("%s: a shell would stand between the signal and the program: %q", path, line)
				}
			case "ENV", "ARG":
				if name, value, is := strings.Cut(rest, "="); is && word == "ARG" {
					defaults[name] = value
				}
				if regexp.MustCompile(`(?i)(password|secret|token|cookie)\S*=`).MatchString(rest) {
					t.Errorf("%s: a secret would be in the image: %q", path, line)
				}
			}
		}
		if user == "" || strings.HasPrefix(user, "root") || strings.HasPrefix(user, "0") || !health || entry == "" {
			t.Errorf("%s: runs as %q, health check %v, starts %q", path, user, health, entry)
		}
	}
}

// The tool that writes what is in the image is the one that the Makefile has.
func TestTheImagesBillOfMaterialsIsWrittenByTheMakefilesTool(t *testing.T) {
	versions := map[string]string{}
	for _, path := range []string{"../../Makefile", "../../Dockerfile"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if m := regexp.MustCompile(`CycloneDX/cyclonedx-gomod(?:/cmd/cyclonedx-gomod@|,)(v[0-9.]+)`).FindSubmatch(text); m != nil {
			versions[path] = string(m[1])
		}
	}
	if v := versions["../../Makefile"]; v == "" || v != versions["../../Dockerfile"] {
		t.Errorf("versions are %v", versions)
	}
}

// No secret that the deployment guide has operators write beside the sources comes into a stage of the build.
func TestSecretsBesideTheSourcesStayOutOfTheBuild(t *testing.T) {
	ignored, err := os.ReadFile("../../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	template, err := os.ReadFile("../../.env.prod.template")
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{".env.prod", "tls.crt", "tls.key", "certs/tls.key", "data/erlmcp.db", "data/erlmcp.db-wal", "data/admin-key"}
	for _, m := range regexp.MustCompile(`(?m)^(?:# )?[A-Z_]+_SOURCE=\./(\S+)$`).FindAllStringSubmatch(string(template), -1) {
		secrets = append(secrets, m[1])
	}
	if len(secrets) < 11 {
		t.Errorf("the template names only %q", secrets)
	}
	for _, secret := range secrets {
		out := false
		for pattern := range strings.Lines(string(ignored)) {
			pattern = strings.TrimSpace(pattern)
			name := secret
			if rest, anywhere := strings.CutPrefix(pattern, "**/"); anywhere {
				pattern, name = rest, path.Base(secret)
			}
			if is, err := path.Match(pattern, name); err != nil {
				t.Fatal(err)
			} else if is {
				out = true
			}
		}
		if !out {
			t.Errorf("%s would be copied into the build", secret)
		}
	}
}
