package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"erlmcp.dev/shared/testkit"
)

// Layout is how many processes of each role run. Zero means the number in the comment.
type Layout struct {
	Gateways   int // 2
	Sessions   int // 2
	Registries int // 1
	// Durable says that Redis and Postgres keep on disk what they acknowledged until the cluster is stopped, so that
	// they may be killed and stopped too.
	Durable bool
	// Redis is the kind that the cluster uses; one server when empty.
	Redis RedisKind
}

// Cluster is erlmcp's four roles as processes of their own, on a private Redis and Postgres, with a balancer in
// front of the gateways. Tests may stop, kill, freeze and restart any of its parts.
type Cluster struct {
	Redis, Postgres *testkit.Server // Redis is nil where RedisSet is not
	RedisSet        *RedisSet
	Registry        *Node // the first of Registries
	Registries      []*Node
	Metrics         *Node
	Sessions        []*Node
	Gateways        []*Node
	// Balancer serves Streamable HTTP; API serves REST and every transport that shares that port.
	Balancer, API *Balancer

	data []string // directories that go with the cluster
}

// StartCluster starts a whole cluster and waits until every process is ready. The processes start all at once,
// in no order. ctx bounds the start.
func StartCluster(ctx context.Context, e Erlmcp, layout Layout) (*Cluster, error) {
	if layout.Gateways == 0 {
		layout.Gateways = 2
	}
	if layout.Sessions == 0 {
		layout.Sessions = 2
	}
	if layout.Registries == 0 {
		layout.Registries = 1
	}
	var err error
	if e.Dir, err = workDir(e.Dir); err != nil {
		return nil, err
	}
	c := &Cluster{
		Registries: make([]*Node, layout.Registries), Sessions: make([]*Node, layout.Sessions), Gateways: make([]*Node, layout.Gateways),
	}
	if err := c.start(ctx, e, layout); err != nil {
		_ = c.Stop(context.WithoutCancel(ctx)) // the start's error says more
		return nil, fmt.Errorf("start a cluster: %w", err)
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, e Erlmcp, layout Layout) error {
	var err error
	var args []string
	redis, postgres := "", ""
	if layout.Durable {
		args = []string{"--appendonly", "yes", "--appendfsync", "always"}
		for _, dir := range []*string{&redis, &postgres} {
			if *dir, err = os.MkdirTemp("", "erlmcp-cluster-"); err != nil {
				return err
			}
			c.data = append(c.data, *dir)
		}
	}
	var redisEnv []string
	if layout.Redis != RedisSingle {
		if c.RedisSet, err = StartRedisSet(ctx, layout.Redis); err != nil {
			return err
		}
		redisEnv = c.RedisSet.env()
	} else {
		if c.Redis, err = testkit.StartRedis(ctx, redis, args...); err != nil {
			return err
		}
		redisEnv = []string{"REDIS_URL=" + c.Redis.DSN()}
	}
	if c.Postgres, err = testkit.StartPostgres(ctx, postgres); err != nil {
		return err
	}
	type start struct {
		role, name string
		node       **Node
		ports      Ports
	}
	starts := []start{{role: "metrics", name: "metrics", node: &c.Metrics}}
	for i := range c.Registries {
		name := "registry"
		if i > 0 {
			name = fmt.Sprintf("registry%d", i+1)
		}
		starts = append(starts, start{role: "registry", name: name, node: &c.Registries[i]})
	}
	for i := range c.Sessions {
		starts = append(starts, start{role: "session", name: fmt.Sprintf("session%d", i+1), node: &c.Sessions[i]})
	}
	for i := range c.Gateways {
		starts = append(starts, start{role: "gateway", name: fmt.Sprintf("gateway%d", i+1), node: &c.Gateways[i]})
	}
	grpc := map[string][]string{} // by role
	for i := range starts {
		if starts[i].ports, err = newPorts(); err != nil {
			return err
		}
		grpc[starts[i].role] = append(grpc[starts[i].role], Address(starts[i].ports.GRPC))
	}
	env := append([]string{
		"ERLMCP_CLUSTER_SECRET=" + rand.Text() + rand.Text(),
		"ERLMCP_DB_URL=" + c.Postgres.DSN(),
		"ERLMCP_REGISTRY_ADDR=" + strings.Join(grpc["registry"], ","),
		"ERLMCP_METRICS_ADDR=" + strings.Join(grpc["metrics"], ","),
		"ERLMCP_SESSION_ADDR=" + strings.Join(grpc["session"], ","),
	}, redisEnv...)
	group, starting := errgroup.WithContext(ctx)
	for _, s := range starts {
		group.Go(func() (err error) {
			*s.node, err = e.start(starting, s.role, s.name, s.ports, env)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	c.Registry = c.Registries[0]
	var http, api []*Target
	for _, gateway := range c.Gateways {
		http = append(http, &Target{Address: Address(gateway.Ports.HTTP), Health: Address(gateway.Ports.Health)})
		api = append(api, &Target{Address: Address(gateway.Ports.API), Health: Address(gateway.Ports.Health)})
	}
	if c.Balancer, err = Balance(http...); err != nil {
		return err
	}
	c.API, err = Balance(api...)
	return err
}

// URL is the balanced Streamable HTTP endpoint, for a view or, where that is empty, for everything.
func (c *Cluster) URL(view string) string { return endpoint(c.Balancer.Address(), view) }

// Nodes are all erlmcp processes that were started.
func (c *Cluster) Nodes() []*Node {
	var nodes []*Node
	for _, n := range slices.Concat([]*Node{c.Metrics}, c.Registries, c.Sessions, c.Gateways) {
		if n != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Stop ends everything, gateways first, and gives what went wrong. Processes that a test killed are no error.
func (c *Cluster) Stop(ctx context.Context) error {
	for _, b := range []*Balancer{c.Balancer, c.API} {
		if b != nil {
			b.Close()
		}
	}
	var failed []error
	nodes := c.Nodes()
	for i := len(nodes) - 1; i >= 0; i-- {
		select {
		case <-nodes[i].Exited():
		default:
			if err := nodes[i].Stop(ctx); err != nil {
				failed = append(failed, fmt.Errorf("stop %s: %w", nodes[i].Name(), err))
			}
		}
	}
	for _, store := range []*testkit.Server{c.Postgres, c.Redis} {
		if store != nil {
			store.Stop()
		}
	}
	if c.RedisSet != nil {
		c.RedisSet.Stop()
	}
	for _, dir := range c.data {
		failed = append(failed, os.RemoveAll(dir))
	}
	return errors.Join(failed...)
}
