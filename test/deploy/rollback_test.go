package deploy

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestARolledBackContainerIsStartedAsTheOneBefore(t *testing.T) {
	one, limit := true, int64(200)
	was := &container{Image: "sha256:1"}
	was.State.Running = true
	was.Config = containerConfig{
		Image: "erlmcp:3.0.1", User: "7:7", Env: []string{"ERLMCP_ENV=production", "PATH=/bin"},
		Cmd: []string{"gateway", "--log-level=debug"}, Entrypoint: []string{"/opt/erlmcp/bin/erlmcp"},
	}
	h := &was.HostConfig
	h.NetworkMode, h.ReadonlyRootfs, h.Init, h.PidsLimit = "bridge", true, &one, &limit
	h.PortBindings = map[string][]portBinding{"8080/tcp": {{"127.0.0.1", "18080"}}, "9090/tcp": {{"", "9090"}}}
	h.RestartPolicy.Name, h.RestartPolicy.MaximumRetryCount = "on-failure", 3
	h.Tmpfs = map[string]string{"/tmp": "size=64m", "/run": ""}
	h.CapAdd, h.CapDrop, h.SecurityOpt = []string{"NET_BIND_SERVICE"}, []string{"ALL"}, []string{"no-new-privileges"}
	h.Memory, h.MemorySwap, h.NanoCPUs = 512<<20, 1<<30, 1_050_000_000
	h.Ulimits = append(h.Ulimits, struct {
		Name       string
		Soft, Hard int64
	}{"nofile", 1024, 2048})
	h.LogConfig.Type, h.LogConfig.Config = "json-file", map[string]string{"max-size": "10m"}
	images := map[string]imageConfig{
		"sha256:1":        {containerConfig{User: "65532:65532", Cmd: []string{"up"}, Entrypoint: []string{"/opt/erlmcp/bin/erlmcp"}}},
		"erlmcp:previous": {}, "erlmcp:broken": {},
	}
	options := "--restart=on-failure:3 --read-only --tmpfs=/run --tmpfs=/tmp:size=64m --cap-add=NET_BIND_SERVICE --cap-drop=ALL " +
		"--security-opt=no-new-privileges --init=true --memory=536870912 --memory-swap=1073741824 --cpus=1.050000000 --pids-limit=200 " +
		"--ulimit=nofile=1024:2048 --log-driver=json-file --log-opt=max-size=10m --network=bridge " +
		"--publish=127.0.0.1:18080:8080/tcp --publish=9090:9090/tcp --user=7:7"
	start := func(image string) string {
		return "run --detach --name erlmcp --env-file ERLMCP_ENV=production --volumes-from erlmcp-rolled-back " + options + " " + image + " gateway --log-level=debug"
	}

	stand := newEngine(t, engine{Images: images, Containers: map[string]*container{"erlmcp": was}})
	runs(t, stand.Env, "rollback.sh", "docker", "--to", "erlmcp:previous")
	if diff := cmp.Diff([]string{"stop -t 45 erlmcp", "rename erlmcp erlmcp-rolled-back", start("erlmcp:previous"), "rm erlmcp-rolled-back"}, stand.trace(t)); diff != "" {
		t.Error(diff)
	}

	stand = newEngine(t, engine{Images: images, Containers: map[string]*container{"erlmcp": was}})
	refuses(t, stand.Env, "is back as it was", "rollback.sh", "docker", "--to", "erlmcp:broken")
	if diff := cmp.Diff([]string{
		"stop -t 45 erlmcp", "rename erlmcp erlmcp-rolled-back", start("erlmcp:broken"), "logs --tail 20 erlmcp",
		"rm --force erlmcp", "rename erlmcp-rolled-back erlmcp", "start erlmcp",
	}, stand.trace(t)); diff != "" {
		t.Error(diff)
	}

	// What the image itself says is for the other image to say anew; a container that would be gone is left alone.
	was.Config.Cmd, was.Config.User = []string{"up"}, "65532:65532"
	was.Config.Entrypoint = []string{"/bin/sh", "-c"}
	was.HostConfig = hostConfig{NetworkMode: "host"}
	stand = newEngine(t, engine{Images: images, Containers: map[string]*container{"erlmcp": was}})
	runs(t, stand.Env, "rollback.sh", "docker", "--to", "erlmcp:previous")
	if done := stand.trace(t); !strings.HasSuffix(done[2], "erlmcp-rolled-back --network=host --entrypoint=/bin/sh erlmcp:previous -c") {
		t.Errorf("it was started as %s", done[2])
	}
	was.HostConfig.AutoRemove = true
	stand = newEngine(t, engine{Images: images, Containers: map[string]*container{"erlmcp": was}})
	refuses(t, stand.Env, "--rm", "rollback.sh", "docker", "--to", "erlmcp:previous")
	if done := stand.trace(t); len(done) > 0 {
		t.Errorf("what was refused did %q", done)
	}
}

func TestRollingComposeBackKeepsHowManyOfEachThereAre(t *testing.T) {
	containers := map[string]*container{}
	for name, labels := range map[string][2]string{
		"a": {"erlmcp", "False"}, "b": {"erlmcp", "False"}, "c": {"erlmcp", "False"}, "d": {"erlmcp", "True"},
		"e": {"erlmcp-session", "False"}, "f": {"redis", "False"}, "g": {"erlmcp-bench", "False"},
	} {
		containers[name] = &container{Config: containerConfig{Labels: map[string]string{"com.docker.compose.service": labels[0], "com.docker.compose.oneoff": labels[1]}}}
	}
	stand := newEngine(t, engine{Images: map[string]imageConfig{"erlmcp:previous": {}}, Containers: containers})
	runs(t, stand.Env, "rollback.sh", "compose", "--to", "erlmcp:previous")
	want := []string{"compose up --detach --no-build --wait --wait-timeout 300 --scale=erlmcp=3 --scale=erlmcp-session=1"}
	if diff := cmp.Diff(want, stand.trace(t)); diff != "" {
		t.Error(diff)
	}
}

func TestRollingSwarmBackNamesItsServices(t *testing.T) {
	updated := []service{{PreviousSpec: &struct{}{}}}
	stand := newEngine(t, engine{Services: map[string][]service{
		"erlmcp_erlmcp": updated, "erlmcp_erlmcp-session": updated, "erlmcp_erlmcp-registry": {{}}, "erlmcp_erlmcp-metrics": updated,
	}})
	want := []string{"service rollback erlmcp_erlmcp", "service rollback erlmcp_erlmcp-session", "service rollback erlmcp_erlmcp-metrics"}
	refuses(t, newEngine(t, engine{}).Env, "there is no service erlmcp_erlmcp", "rollback.sh", "swarm", "--all")
	runs(t, stand.Env, "rollback.sh", "swarm")
	if diff := cmp.Diff(want[:1], stand.trace(t)); diff != "" {
		t.Error(diff)
	}
	out := runs(t, stand.Env, "rollback.sh", "swarm", "--all")
	if diff := cmp.Diff(want, stand.trace(t)); diff != "" || !strings.Contains(out, "erlmcp_erlmcp-registry stays as it is") {
		t.Error(diff, out)
	}
}

// A cluster whose set of ordered pods waits for erlmcp-cluster-2, of the release that is left. It is rolled out once
// that pod is deleted.
var stuckCluster = map[string]string{
	"helm": `
	case " $* " in *" --wait "*) echo "timed out waiting for the condition" >&2; exit 1 ;; esac
	echo "helm $*" >> "$TRACE"`,
	"kubectl": `
	[ "$1 $2" = "--namespace erlmcp" ]
	shift 2
	case "$*" in
	"rollout undo "*) echo "$*" >> "$TRACE" ;;
	"rollout history statefulset/erlmcp-registry") printf 'statefulset.apps/s\nREVISION  CHANGE-CAUSE\n1         <none>\n\n' ;;
	"rollout history "*) printf 'statefulset.apps/s\nREVISION  CHANGE-CAUSE\n3         <none>\n4         <none>\n\n' ;;
	"get statefulsets --selector app.kubernetes.io/instance=erlmcp -o name") echo statefulset.apps/erlmcp-cluster ;;
	"get statefulset"*observedGeneration*)
		# The controller takes a moment to see the change.
		if [ -e "$TRACE.seen" ]; then echo 4/4/erlmcp-cluster-good; else echo 4/3/erlmcp-cluster-bad; touch "$TRACE.seen"; fi ;;
	"get pods "*)
		echo erlmcp-cluster/erlmcp-cluster-good/True/erlmcp-cluster-0
		echo erlmcp-cluster/erlmcp-cluster-bad/True/erlmcp-cluster-1
		echo erlmcp-cluster/erlmcp-cluster-bad/False/erlmcp-cluster-2
		echo erlmcp-cluster/erlmcp-cluster-bad//erlmcp-cluster-3
		echo erlmcp-cluster/erlmcp-cluster-good/False/erlmcp-cluster-4
		echo erlmcp-session/erlmcp-session-bad/False/erlmcp-session-0
		echo ///by-hand ;;
	"delete pod "*) echo "$*" >> "$TRACE" ;;
	"rollout status "*)
		grep -q "delete pod erlmcp-cluster-2" "$TRACE" || { echo "timed out waiting for the condition" >&2; exit 1; } ;;
	*) echo "unexpected: $*" >&2; exit 1 ;;
	esac`,
}

func TestARollbackGetsPodsThatNeverBecameReadyOutOfTheWay(t *testing.T) {
	for kind, first := range map[string]string{
		"kubernetes": "rollout undo statefulset/erlmcp-cluster --to-revision=3",
		"helm":       "helm rollback erlmcp 3 --namespace erlmcp --timeout 10m",
	} {
		t.Run(kind, func(t *testing.T) {
			stand := newStandIns(t, stuckCluster)
			runs(t, stand.Env, "rollback.sh", kind, "--to", "3")
			want := []string{first, "delete pod erlmcp-cluster-2 --wait=false", "delete pod erlmcp-cluster-3 --wait=false"}
			if diff := cmp.Diff(want, stand.trace(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// All StatefulSets go back but one that was never updated.
func TestARollbackOfAllStatefulSets(t *testing.T) {
	stand := newStandIns(t, stuckCluster)
	refuses(t, stand.Env, "not with --all", "rollback.sh", "kubernetes", "--all", "--to", "3")
	out := runs(t, stand.Env, "rollback.sh", "kubernetes", "--all")
	undone := slices.DeleteFunc(stand.trace(t), func(line string) bool { return !strings.HasPrefix(line, "rollout undo ") })
	want := []string{"rollout undo statefulset/erlmcp-cluster", "rollout undo statefulset/erlmcp-session", "rollout undo statefulset/erlmcp-metrics"}
	if diff := cmp.Diff(want, undone); diff != "" || !strings.Contains(out, "erlmcp-registry stays as it is") {
		t.Error(diff, out)
	}
}
