package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A page of the deployment guide, and its blocks of commands with the comments above them.
type block struct{ page, mark, text string }

func deploymentBlocks(t *testing.T) []block {
	t.Helper()
	pages, err := filepath.Glob("../../docs/deployment/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%q, %v", pages, err)
	}
	fence := regexp.MustCompile("(?s)(?:<!-- ([^\n]*) -->\n)?```bash\n(.*?)```")
	var found []block
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fence.FindAllStringSubmatch(string(text), -1) {
			found = append(found, block{filepath.Base(page), m[1], m[2]})
		}
	}
	return found
}

func TestEveryBlockOfTheGuideSaysWhatRunsIt(t *testing.T) {
	for _, b := range deploymentBlocks(t) {
		what, rest, _ := strings.Cut(b.mark, ": ")
		switch what {
		case "needs":
		case "tested":
			for _, path := range regexp.MustCompile(`(deploy/test/[a-z0-9-]+\.sh|test/deploy|cmd/erlmcp/internal/cli)`).FindAllString(rest, -1) {
				if _, err := os.Stat("../../" + path); err != nil {
					t.Errorf("%s names a test that is not there: %v", b.page, err)
				}
			}
			if !strings.Contains(rest, "test/") && !strings.Contains(rest, "cmd/") {
				t.Errorf("%s: %q names no test", b.page, b.mark)
			}
		default:
			t.Errorf("%s: nothing says what runs\n%s", b.page, b.text)
		}
	}
}

// What the guide's commands name is there: files, and objects of Kubernetes, compose and Swarm.
func TestWhatTheGuidesCommandsNameIsThere(t *testing.T) {
	var objects strings.Builder
	for _, pattern := range []string{"../../k8s/*.yaml", "../../docker-compose*.yml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %q, %v", pattern, files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			objects.Write(text)
		}
	}
	file := regexp.MustCompile(`(?:^|[ =])\.?/?((?:scripts|docker-swarm)/[a-z-]+\.sh|k8s/[a-z-]+\.yaml|helm/erlmcp[a-z/.-]*|docker-compose[a-z.]*\.yml|\.env\.prod\.template|Dockerfile)\b`)
	set := regexp.MustCompile(`statefulset[/ ](erlmcp-[a-z]+)`)
	service := regexp.MustCompile(`docker service [a-z]+ (?:-f )?erlmcp_([a-z-]+)`)
	lane := regexp.MustCompile(`docker compose (?:run --rm|stop|start|exec|logs -f) ([a-z][a-z-]+)`)
	seen := 0
	for _, b := range deploymentBlocks(t) {
		for _, m := range file.FindAllStringSubmatch(b.text, -1) {
			seen++
			if _, err := os.Stat("../../" + m[1]); err != nil {
				t.Errorf("%s: %v", b.page, err)
			}
		}
		for _, m := range set.FindAllStringSubmatch(b.text, -1) {
			seen++
			if !strings.Contains(objects.String(), "name: "+m[1]+"\n") {
				t.Errorf("%s: there is no StatefulSet %s", b.page, m[1])
			}
		}
		for _, m := range append(service.FindAllStringSubmatch(b.text, -1), lane.FindAllStringSubmatch(b.text, -1)...) {
			seen++
			if name := m[1]; !strings.Contains(objects.String(), "\n  "+name+":") && !strings.Contains(compose(t), "\n  "+name+":") {
				t.Errorf("%s: compose has no service %s", b.page, name)
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d names were found in the guide", seen)
	}
}

func compose(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../compose/docker-compose.quality.yml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
