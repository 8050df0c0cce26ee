package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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

// A mark says "needs: what a test has not", or "tested: who runs it (how)"; what of a tested block nothing runs comes
// last, as "; by hand: stem, stem".
func TestEveryBlockOfTheGuideSaysWhatRunsIt(t *testing.T) {
	for _, b := range deploymentBlocks(t) {
		what, rest, _ := strings.Cut(b.mark, ": ")
		switch what {
		case "needs":
		case "tested":
			if len(runners(rest)) == 0 {
				t.Errorf("%s: %q names no test", b.page, b.mark)
			}
		default:
			t.Errorf("%s: nothing says what runs\n%s", b.page, b.text)
		}
	}
}

func runners(mark string) []string {
	return regexp.MustCompile(`deploy/(?:test|swarm)/[a-z0-9-]+\.sh|test/deploy|cmd/erlmcp/internal/cli`).FindAllString(mark, -1)
}

// What is said to run a block runs each of its commands, the arguments aside that differ from place to place.
func TestWhatIsSaidToRunABlockOfTheGuideRunsIt(t *testing.T) {
	seen := 0
	for _, b := range deploymentBlocks(t) {
		rest, tested := strings.CutPrefix(b.mark, "tested: ")
		if !tested {
			continue
		}
		rest, excused, _ := strings.Cut(rest, "; by hand: ")
		hand := map[string]bool{}
		for _, stem := range strings.Split(excused, ", ") {
			hand[stem] = stem != ""
		}
		var said []speech
		for _, runner := range runners(rest) {
			said = append(said, spoken(t, "../../"+runner)...)
		}
		for _, stem := range stems(b.text) {
			seen++
			words := strings.Fields(stem)
			is := slices.ContainsFunc(said, func(s speech) bool { return s.says(words) })
			if is == hand[stem] {
				t.Errorf("%s: %q: run by %s: %v, said to be by hand: %v", b.page, stem, rest, is, hand[stem])
			}
			delete(hand, stem)
		}
		for stem, is := range hand {
			if is {
				t.Errorf("%s: nothing of the block is %q", b.page, stem)
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d commands were found in the guide", seen)
	}
}

// speech is the words of one command, or of a whole Go test, whose arguments may stand anywhere in it.
type speech struct {
	words    []string
	anywhere bool
}

func (s speech) says(words []string) bool {
	for _, word := range s.words {
		if len(words) > 0 && word == words[0] {
			words = words[1:]
		}
	}
	return len(words) == 0 || s.anywhere && !slices.ContainsFunc(words, func(word string) bool { return !slices.Contains(s.words, word) })
}

// spoken are the commands of a script as words, with the guide's names instead of the script's own; of a directory of
// Go tests, each one's words.
func spoken(t *testing.T, path string) (said []speech) {
	t.Helper()
	files, err := filepath.Glob(path + "/*_test.go")
	if strings.HasSuffix(path, ".sh") {
		files = []string{path}
	}
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v", path, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		whole := regexp.MustCompile(`(?m)^\s*(#|//).*$`).ReplaceAllString(string(text), "")
		whole = strings.ReplaceAll(whole, "\\\n", " ")
		whole = regexp.MustCompile(`(^|[^\w.])k `).ReplaceAllString(whole, "$1 kubectl ")
		whole = regexp.MustCompile(`(^|[^\w.])inside `).ReplaceAllString(whole, "$1 docker exec erlmcp ")
		whole = strings.NewReplacer(`"$kubectl"`, "kubectl", `"$helm"`, "helm", "$release", "erlmcp").Replace(whole)
		if strings.HasSuffix(file, ".go") {
			whole = strings.ReplaceAll(strings.ReplaceAll(whole, "\n", " "), " func Test", "\n func Test")
		}
		for line := range strings.Lines(whole) {
			var words []string
			for _, word := range strings.FieldsFunc(line, func(c rune) bool { return strings.ContainsRune(" \t\n\"'`(){}[],;|&$", c) }) {
				words = append(words, plain(word))
			}
			said = append(said, speech{words, strings.HasSuffix(file, ".go")})
		}
	}
	return said
}

// plain is a word without what is not the command's own: the directory of a program, the name of an object or host.
func plain(word string) string {
	switch {
	case strings.HasPrefix(word, "http://"):
		_, path, _ := strings.Cut(strings.TrimPrefix(word, "http://"), "/")
		return "/" + path
	case strings.HasPrefix(word, "-"):
		option, _, _ := strings.Cut(word, "=")
		return option
	case strings.HasSuffix(word, ".sh") || strings.HasPrefix(word, "/opt/"):
		return filepath.Base(word)
	case strings.HasPrefix(word, "statefulset/"), strings.HasPrefix(word, "pod/"):
		kind, _, _ := strings.Cut(word, "/")
		return kind
	}
	return word
}

// stems are what the commands of a block do: programs and what they are told first, without what differs from place to
// place.
func stems(text string) (found []string) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	text = regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(text, "")
	inner := regexp.MustCompile(`"?\$\(([^()]*)\)"?`)
	for _, m := range inner.FindAllStringSubmatch(text, -1) {
		text += "\n" + m[1]
	}
	text = inner.ReplaceAllString(text, "VALUE")
	text = regexp.MustCompile(`'[^']*'|"[^"]*"`).ReplaceAllString(text, "VALUE")
	for _, command := range regexp.MustCompile(`\n|\||&&`).Split(text, -1) {
		command = regexp.MustCompile(`^(\s*[A-Z_]+=\S+)+`).ReplaceAllString(command, "")
		words := strings.Fields(command)
		if len(words) == 0 {
			continue
		}
		words[0] = filepath.Base(words[0])
		stem := []string{words[0]}
		switch words[0] {
		case "grep", "tr", "sha256sum", "cd", "chmod", "date", "hostname", "awk", "jq", "echo": // what others do is looked at
			continue
		case "docker":
			stem = ofDocker(words)
		case "kubectl":
			stem = append(stem, told(words[1:], 2)...)
			if len(stem) == 3 && (stem[1] == "rollout" || stem[1] == "create" && stem[2] == "secret") {
				stem = append([]string{"kubectl"}, told(words[1:], 3)...)
			}
		case "curl":
			for _, word := range words[1:] {
				if strings.HasPrefix(word, "http://") {
					stem = append(stem, plain(word))
				}
			}
		case "openssl":
			stem = append(stem, words[1:3]...)
		case "helm", "git", "erlmcp":
			stem = append(stem, told(words[1:], 1)...)
		default: // a script: its first argument and its options
			if strings.HasSuffix(words[0], ".sh") {
				if len(words) > 1 && regexp.MustCompile(`^[a-z]+$`).MatchString(words[1]) {
					stem = append(stem, words[1])
				}
				for _, word := range words[1:] {
					if strings.HasPrefix(word, "--") {
						stem = append(stem, plain(word))
					}
				}
			}
		}
		found = append(found, strings.Join(stem, " "))
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// told are the first n words that are no options, paths or settings.
func told(words []string, n int) (first []string) {
	for i, word := range words {
		if i > 0 && (words[i-1] == "-n" || words[i-1] == "--namespace") {
			continue
		}
		word, _, _ = strings.Cut(plain(word), ",")
		if len(first) < n && regexp.MustCompile(`^[a-z][a-z0-9-]*$`).MatchString(word) {
			first = append(first, word)
		}
	}
	return first
}

// ofDocker is the stem of a command of docker's: what is run inside a container counts.
func ofDocker(words []string) []string {
	stem := []string{"docker"}
	at := 1
	for ; at < len(words) && strings.HasPrefix(words[at], "-"); at++ {
	}
	kind := words[at]
	stem = append(stem, kind)
	switch kind {
	case "compose", "service", "stack", "secret", "network", "swarm", "node":
		rest := told(words[at+1:], 1)
		stem = append(stem, rest...)
		if len(rest) == 1 {
			kind = rest[0]
		}
	}
	switch kind {
	case "exec":
		for i := at + 1; i < len(words); i++ {
			if strings.HasPrefix(words[i], "erlmcp") { // the container
				stem = append(stem, plain(words[i+1]))
				if inside := plain(words[i+1]); (inside == "erlmcp" || inside == "cat") && i+2 < len(words) {
					stem = append(stem, words[i+2])
				}
				break
			}
		}
	case "logs", "up":
		for _, word := range words[at+1:] {
			if kind == "logs" && (word == "-f" || word == "--tail") || word == "--scale" || word == "--profile" {
				stem = append(stem, word)
			}
		}
	}
	return stem
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

// Where our pages cover what the original guide has, section by section.
var original = []struct{ section, where string }{
	{"Overview", "README.md"},
	{"Architecture Components", "prerequisites.md#ports"},
	{"Deployment Architecture", "README.md"},
	{"Prerequisites", "prerequisites.md"},
	{"System Requirements", "prerequisites.md#machines"},
	{"Software Requirements", "prerequisites.md#software"},
	{"Network Requirements", "prerequisites.md#ports"},
	{"Quick Start Deployment", "quick-start.md"},
	{"Docker Deployment", "docker.md"},
	{"Single Node Production Deployment", "docker.md#compose"},
	{"Docker Compose Quality Gates", "docker.md#quality-lanes"},
	{"Docker Swarm Deployment", "swarm.md"},
	{"Initialize Swarm Cluster", "swarm.md"},
	{"Manual Swarm Deployment", "swarm.md"},
	{"Swarm Service Configuration", "swarm.md"},
	{"Kubernetes Deployment", "kubernetes.md"},
	{"Namespace Creation", "kubernetes.md"},
	{"Create Secrets", "kubernetes.md"},
	{"Deploy StatefulSet", "kubernetes.md#what-there-is"},
	{"Verify Deployment", "kubernetes.md"},
	{"Rolling Update", "kubernetes.md#rolling-update"},
	{"Helm Chart Deployment", "helm.md"},
	{"Install Helm Chart", "helm.md"},
	{"Helm Chart Values", "helm.md"},
	{"Environment Configuration", "configuration.md"},
	{"Required Environment Variables", "../configuration.md#configuration"},
	{"Optional Environment Variables", "../configuration.md#configuration"},
	{"Production Configuration Template", "docker.md#compose"},
	{"Rollback Procedures, each kind and the script", "rollback.md"},
	{"Health Monitoring", "health.md"},
	{"Health Check Endpoints", "health.md"},
	{"Health Check Script", "health.md"},
	{"Prometheus Metrics", "health.md#metrics"},
	{"Alerting Rules", "../observability.md#metrics-alerts-and-dashboards"},
	{"Troubleshooting", "troubleshooting.md"},
	{"1. Container Fails to Start", "troubleshooting.md#it-does-not-start"},
	{"2. Cluster Nodes Not Connecting", "troubleshooting.md#nodes-do-not-find-each-other"},
	{"3. High Memory Usage", "troubleshooting.md#memory-grows"},
	{"4. Database Connection Failures", "troubleshooting.md#the-database-does-not-answer"},
	{"5. Performance Degradation", "troubleshooting.md#it-is-slow"},
	{"Diagnostic Commands", "troubleshooting.md#looking-inside"},
	{"Log Analysis", "troubleshooting.md#reading-the-log"},
	{"Disaster Recovery", "disaster-recovery.md"},
	{"Backup Strategy", "disaster-recovery.md#backups"},
	{"Restore Procedures", "disaster-recovery.md#restore"},
	{"Multi-Region Disaster Recovery", "disaster-recovery.md#regions"},
	{"Graceful Shutdown", "disaster-recovery.md#stopping-one-process-gently"},
	{"A. Port Reference", "prerequisites.md#ports"},
	{"B. File Locations", "docker.md#the-image"},
	{"C. Useful Links", "README.md#help"},
	{"D. Support", "README.md#help"},
}

func TestTheGuideCoversTheOriginalsTableOfContents(t *testing.T) {
	for _, o := range original {
		page, anchor, _ := strings.Cut(o.where, "#")
		text, err := os.ReadFile("../../docs/deployment/" + page)
		if err != nil {
			t.Errorf("%s: %v", o.section, err)
			continue
		}
		if anchor != "" && !slices.Contains(anchors(string(text)), anchor) {
			t.Errorf("%s: %s has no #%s", o.section, page, anchor)
		}
	}
}

// Links between the guide's pages lead to pages and headings that are there.
func TestLinksOfTheGuideLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("../../docs/deployment/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%q, %v", pages, err)
	}
	seen := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`).FindAllStringSubmatch(string(text), -1) {
			seen++
			to := page
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(page), m[1])
			}
			info, err := os.Stat(to)
			if err != nil {
				t.Errorf("%s: %v", filepath.Base(page), err)
				continue
			}
			if m[2] == "" || info.IsDir() {
				continue
			}
			target, err := os.ReadFile(to)
			if err != nil || !slices.Contains(anchors(string(target)), m[2]) {
				t.Errorf("%s: %s has no #%s, %v", filepath.Base(page), to, m[2], err)
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d links were found", seen)
	}
}

// anchors are the names by which a page's headings are linked to.
func anchors(page string) (names []string) {
	page = regexp.MustCompile("(?s)```.*?```").ReplaceAllString(page, "")
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// The guide's table has the names and types that TestMetricsAreClean finds at every role, and names no other series
// than those that somebody registers.
func TestTheGuideListsTheMetricsThatThereAre(t *testing.T) {
	text, err := os.ReadFile("../../docs/deployment/health.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(erlmcp_[a-z_]+)` \\| (gauge|counter|histogram) \\|").FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = m[2]
	}
	if diff := cmp.Diff(contract, listed); diff != "" {
		t.Errorf("the guide's table (-contract +guide):\n%s", diff)
	}
	sources, err := filepath.Glob("../../shared/telemetry/*.go")
	if err != nil || len(sources) < 5 {
		t.Fatalf("%q, %v", sources, err)
	}
	registered := map[string]bool{}
	for _, source := range sources {
		code, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"(erlmcp_[a-z_]+)"`).FindAllStringSubmatch(string(code), -1) {
			registered[m[1]] = !strings.HasSuffix(source, "_test.go") || registered[m[1]]
		}
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`(erlmcp_[a-z_]+)`").FindAllStringSubmatch(string(text), -1) {
		named[m[1]] = true
		if !registered[m[1]] {
			t.Errorf("the guide lists %s, which nobody has", m[1])
		}
	}
	for name, is := range registered {
		if is && !named[name] {
			t.Errorf("the guide does not list %s", name)
		}
	}
}
