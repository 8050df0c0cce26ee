package deploy

import (
	"os"
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
		stages := map[string]bool{}
		for _, line := range instructions(t, path) {
			word, rest, _ := strings.Cut(line, " ")
			switch word {
			case "FROM":
				m := regexp.MustCompile(`^(?:--platform=\S+ )?(\S+)(?: AS (\S+))?$`).FindStringSubmatch(rest)
				if m == nil {
					t.Errorf("%s: %q can't be read", path, line)
					continue
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
