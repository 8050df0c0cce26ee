package deploy

import (
	"strings"
	"testing"
)

const deploySwarm = "../swarm/deploy-swarm.sh"

// gateways are five tasks, of which that many are as the service is now told to be.
func gateways(current int, now, before taskSpec, update *updateStatus) service {
	s := service{Replicas: "5/5", UpdateStatus: update, PreviousSpec: &struct{}{}}
	s.Spec.TaskTemplate = now
	for i := range 5 {
		if i < current {
			s.Tasks = append(s.Tasks, now)
		} else {
			s.Tasks = append(s.Tasks, before)
		}
	}
	return s
}

// swarm is a stack whose gateways are seen like this; its other services stay as they are.
func swarm(t *testing.T, looks ...service) standIns {
	t.Helper()
	services := map[string][]service{"erlmcp_erlmcp": looks}
	for _, name := range []string{"erlmcp-session", "erlmcp-registry", "erlmcp-metrics", "redis", "postgres"} {
		services["erlmcp_"+name] = []service{{Replicas: "1/1", Tasks: make([]taskSpec, 1)}}
	}
	return newEngine(t, engine{Services: services})
}

func task(image string, bytes int64, env ...string) taskSpec {
	var s taskSpec
	s.ContainerSpec.Image, s.ContainerSpec.Args, s.ContainerSpec.Env = image, []string{"gateway"}, env
	s.Resources = &struct {
		Limits *struct{ NanoCPUs, MemoryBytes int64 }
	}{&struct{ NanoCPUs, MemoryBytes int64 }{2e9, bytes}}
	return s
}

func TestASwarmDeployEndsWhenEveryTaskIsTheNewOne(t *testing.T) {
	before := task("erlmcp:3.0.0", 4<<30, "ERLMCP_ENV=production")
	for change, now := range map[string]taskSpec{
		"image":    task("erlmcp:3.0.1", 4<<30, "ERLMCP_ENV=production"),
		"variable": task("erlmcp:3.0.0", 4<<30, "ERLMCP_ENV=staging"),
		"limit":    task("erlmcp:3.0.0", 2<<30, "ERLMCP_ENV=production"),
	} {
		t.Run(change, func(t *testing.T) {
			stand := swarm(t,
				gateways(5, before, before, nil),
				gateways(0, now, before, nil), // as many as there should be, before the update begins
				gateways(2, now, before, &updateStatus{State: "updating", StartedAt: "12:00"}),
				gateways(5, now, before, &updateStatus{State: "completed", StartedAt: "12:00"}))
			if out := runs(t, stand.Env, deploySwarm, "deploy"); !strings.Contains(out, "erlmcp_erlmcp 5/5 (completed)") {
				t.Errorf("it says\n%s", out)
			}
		})
	}
}

func TestASwarmDeployThatWasRolledBackFailsAndSaysWhy(t *testing.T) {
	before, now := task("erlmcp:3.0.0", 4<<30), task("erlmcp:3.0.1", 4<<30)
	earlier := &updateStatus{State: "rollback_completed", StartedAt: "11:00", Message: "rollback completed"}
	stand := swarm(t,
		gateways(5, before, before, earlier),
		gateways(0, now, before, nil),
		gateways(1, now, before, &updateStatus{State: "updating", StartedAt: "12:00"}),
		gateways(1, before, now, &updateStatus{State: "rollback_started", StartedAt: "12:00", Message: "update rolled back due to failure of task x"}),
		gateways(5, before, now, &updateStatus{State: "rollback_completed", StartedAt: "12:00", Message: "rollback completed"}))
	out, err := script(t, stand.Env, deploySwarm, "deploy")
	for _, want := range []string{"erlmcp_erlmcp was rolled back by Swarm", "update rolled back due to failure of task x", "a task failed: no such file"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v, and not %q:\n%s", err, want, out)
		}
	}

	// A rollback before this deploy, or one that was asked for, is none.
	runs(t, swarm(t, gateways(5, before, before, earlier)).Env, deploySwarm, "deploy")
	stand = swarm(t,
		gateways(5, now, now, nil),
		gateways(5, before, before, &updateStatus{State: "rollback_completed", StartedAt: "12:00"}))
	runs(t, stand.Env, deploySwarm, "rollback")
}
