package cli_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	gatewayv1 "erlmcp.dev/proto/erlmcp/gateway/v1"
	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
	sessionv1 "erlmcp.dev/proto/erlmcp/session/v1"

	"erlmcp.dev/cmd/erlmcp/internal/cli"
)

// cluster answers as all services do, and keeps the last request.
type cluster struct {
	gatewayv1.UnimplementedGatewayServiceServer
	metricsv1.UnimplementedMetricsServiceServer
	registryv1.UnimplementedAccessServiceServer
	registryv1.UnimplementedRegistryServiceServer
	sessionv1.UnimplementedSessionServiceServer

	last proto.Message
}

func (c *cluster) ListServers(context.Context, *registryv1.ListServersRequest) (*registryv1.ListServersResponse, error) {
	return &registryv1.ListServersResponse{Servers: []*registryv1.ServerStatus{
		{
			Server: &registryv1.Server{Name: "files", Endpoint: &registryv1.Server_Stdio{Stdio: &registryv1.StdioEndpoint{Command: []string{"npx", "fs"}}}},
			State:  registryv1.ServerState_SERVER_STATE_READY, Tools: []string{"read", "write"},
		},
		{
			Server: &registryv1.Server{Name: "weather", Endpoint: &registryv1.Server_Http{Http: &registryv1.HttpEndpoint{Url: "https://w/mcp"}}},
			State:  registryv1.ServerState_SERVER_STATE_UNREACHABLE, Message: "no answer\x1b[31m\nstart it",
		},
	}}, nil
}

func (c *cluster) RegisterServer(_ context.Context, req *registryv1.RegisterServerRequest) (*registryv1.RegisterServerResponse, error) {
	c.last = req.GetServer()
	return &registryv1.RegisterServerResponse{Status: &registryv1.ServerStatus{Server: req.GetServer(), State: registryv1.ServerState_SERVER_STATE_READY}}, nil
}

func (c *cluster) DeleteServer(_ context.Context, req *registryv1.DeleteServerRequest) (*registryv1.DeleteServerResponse, error) {
	if req.GetName() != "files" {
		return nil, status.Errorf(codes.NotFound, "there is no server %q; `erlmcp servers list` shows all", req.GetName())
	}
	return &registryv1.DeleteServerResponse{}, nil
}

func (c *cluster) RefreshServer(_ context.Context, req *registryv1.RefreshServerRequest) (*registryv1.RefreshServerResponse, error) {
	return &registryv1.RefreshServerResponse{Status: &registryv1.ServerStatus{Server: &registryv1.Server{Name: req.GetName()}}}, nil
}

func (c *cluster) CreateKey(ctx context.Context, req *registryv1.CreateKeyRequest) (*registryv1.CreateKeyResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if got := strings.Join(md.Get("authorization"), ","); got != "Bearer admin-key" {
		return nil, status.Error(codes.Unauthenticated, "no valid API key")
	}
	c.last = req
	return &registryv1.CreateKeyResponse{Key: &registryv1.Key{Id: "k1"}, Secret: "erlmcp_k1_s"}, nil
}

func (c *cluster) ListKeys(context.Context, *registryv1.ListKeysRequest) (*registryv1.ListKeysResponse, error) {
	return &registryv1.ListKeysResponse{Keys: []*registryv1.Key{
		{Id: "k1", Principal: "alice", Tenant: "acme", Role: registryv1.Role_ROLE_ADMIN, CreatedAt: &timestamppb.Timestamp{Seconds: 1e9}},
	}}, nil
}

func (c *cluster) QueryUsage(_ context.Context, req *metricsv1.QueryUsageRequest) (*metricsv1.QueryUsageResponse, error) {
	if fmt.Sprint(req.GetBy(), req.GetOrder(), req.GetStep()) != "[DIMENSION_TENANT DIMENSION_NAME] ORDER_ERRORS STEP_DAY" {
		return nil, status.Errorf(codes.InvalidArgument, "asked for %v", req)
	}
	return &metricsv1.QueryUsageResponse{Usage: []*metricsv1.Usage{
		{Tenant: req.GetTenant(), Name: "rain", Calls: 5, Errors: 2, P50Micros: 1250, P90Micros: 250_000},
	}}, nil
}

func (c *cluster) ListSessionEvents(_ context.Context, req *metricsv1.ListSessionEventsRequest) (*metricsv1.ListSessionEventsResponse, error) {
	return &metricsv1.ListSessionEventsResponse{Events: []*metricsv1.SessionEvent{{
		At: &timestamppb.Timestamp{Seconds: 1e9}, Kind: metricsv1.SessionEvent_KIND_CLOSED, SessionId: req.GetSessionId(), Principal: req.GetPrincipal(),
		Node: "n@h", Reason: "idle",
	}}}, nil
}

func (c *cluster) RevokeKey(context.Context, *registryv1.RevokeKeyRequest) (*registryv1.RevokeKeyResponse, error) {
	return nil, status.Error(codes.PermissionDenied, "the role viewer may not do this")
}

func (c *cluster) ListSessions(_ context.Context, req *sessionv1.ListSessionsRequest) (*sessionv1.ListSessionsResponse, error) {
	var from int
	_, _ = fmt.Sscan(req.GetPageToken(), &from)
	resp := &sessionv1.ListSessionsResponse{NextPageToken: fmt.Sprint(from + int(req.GetPageSize()))}
	for i := range int(req.GetPageSize()) {
		resp.Sessions = append(resp.Sessions, &sessionv1.Session{SessionId: fmt.Sprintf("s%04d", from+i), Principal: "alice"})
	}
	return resp, nil
}

func (c *cluster) GetSession(_ context.Context, req *sessionv1.GetSessionRequest) (*sessionv1.GetSessionResponse, error) {
	return &sessionv1.GetSessionResponse{Session: &sessionv1.Session{SessionId: req.GetSessionId(), Owner: "n@h", Upstreams: []string{"a", "b"}, Restarts: map[string]uint32{"b": 1, "a": 2}}}, nil
}

func (c *cluster) CloseSession(context.Context, *sessionv1.CloseSessionRequest) (*sessionv1.CloseSessionResponse, error) {
	return &sessionv1.CloseSessionResponse{}, nil
}

func (c *cluster) ListTools(_ context.Context, req *gatewayv1.ListToolsRequest) (*gatewayv1.ListToolsResponse, error) {
	tool, err := structpb.NewStruct(map[string]any{
		"name": req.GetView() + "_echo", "description": "Says it again. And again.",
		"inputSchema": map[string]any{"properties": map[string]any{"text": map[string]any{}, "loud": map[string]any{}}, "required": []any{"text"}},
	})
	return &gatewayv1.ListToolsResponse{Tools: []*structpb.Struct{tool}}, err
}

func (c *cluster) CallTool(_ context.Context, req *gatewayv1.CallToolRequest) (*gatewayv1.CallToolResponse, error) {
	c.last = req
	result, err := structpb.NewStruct(map[string]any{
		"content": []any{map[string]any{"type": "text", "text": req.GetArguments().GetFields()["text"].GetStringValue()}},
		"isError": req.GetName() == "broken",
	})
	return &gatewayv1.CallToolResponse{Result: result}, err
}

func (c *cluster) ListNodes(context.Context, *metricsv1.ListNodesRequest) (*metricsv1.ListNodesResponse, error) {
	return &metricsv1.ListNodesResponse{
		Nodes:   []*metricsv1.Node{{Name: "n@h", Roles: []string{"gateway", "session"}, Version: "3.0.0", Address: "h:9101"}},
		Missing: []*metricsv1.Node{{Name: "n@i", Roles: []string{"registry"}, Version: "3.0.0", Address: "i:9103"}},
	}, nil
}

// serve starts a cluster, and returns a function that runs commands against it.
func serve(t *testing.T) (*cluster, func(args ...string) result) {
	t.Helper()
	c, addr := serveAt(t)
	return c, func(args ...string) result {
		return run(t, args, func(s *cli.System) {
			s.Environ = append(s.Environ, "ERLMCP_ADDR="+addr, "ERLMCP_API_KEY=admin-key")
			s.In = strings.NewReader(`{"text": "from stdin"}`)
		})
	}
}

// serveAt starts a cluster, and returns where it is.
func serveAt(t *testing.T) (c *cluster, addr string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c = &cluster{}
	srv := grpc.NewServer()
	healthpb.RegisterHealthServer(srv, health.NewServer())
	gatewayv1.RegisterGatewayServiceServer(srv, c)
	metricsv1.RegisterMetricsServiceServer(srv, c)
	registryv1.RegisterAccessServiceServer(srv, c)
	registryv1.RegisterRegistryServiceServer(srv, c)
	sessionv1.RegisterSessionServiceServer(srv, c)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c, lis.Addr().String()
}

func TestAdminCommandsShowWhatTheClusterAnswers(t *testing.T) {
	_, erlmcp := serve(t)
	for _, test := range []struct {
		args string
		want string
	}{
		{"servers list", "NAME     KIND   STATE        TOOLS  PROMPTS  RESOURCES  WHERE          MESSAGE\n" +
			"files    stdio  ready        2      0        0          npx fs         -\n" +
			"weather  http   unreachable  0      0        0          https://w/mcp  no answer [31m start it\n"},
		{"servers remove files", "server files removed\n"},
		{"keys list", "ID  PRINCIPAL  TENANT  ROLE   CREATED               EXPIRES  DESCRIPTION\nk1  alice      acme    admin  2001-09-09 01:46:40Z  -        -\n"},
		{"usage --by tenant,name --tenant acme --order errors --step day", "START  TENANT  PRINCIPAL  SERVER  METHOD  NAME  CALLS  ERRORS  P50     P90    P99\n-      acme    -          -       -       rain  5      2       1.25ms  250ms  -\n"},
		{"sessions history --principal alice --session s1", "AT                    WHAT    ID  PRINCIPAL  OWNER  WHY\n2001-09-09 01:46:40Z  closed  s1  alice      n@h    idle\n"},
		{"tools list --view demo", "NAME       ARGUMENTS    DESCRIPTION\ndemo_echo  text [loud]  Says it again\n"},
		{`tools call echo {"text":"hi"}`, "hi\n"},
		{"tools call echo -", "from stdin\n"},
		{"nodes", "NAME  STATE    ROLES            VERSION  ADDRESS  STARTED  SEEN\nn@h   lives    gateway,session  3.0.0    h:9101   -        -\nn@i   missing  registry         3.0.0    i:9103   -        -\n"},
		{"sessions show x", "ID         x\nprincipal  -\nclient     -\nversion    -\nview       -\nowner      n@h\ncreated    -\nused       -\naddress    -\nupstreams  a b\nrestarts   a (2) b (1)\n"},
		{"sessions close x", "session x closed\n"},
	} {
		r := erlmcp(strings.Fields(test.args)...)
		if diff := cmp.Diff(result{out: test.want}, r, cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s: %s", test.args, diff)
		}
	}
}

func TestJSONOutputIsTheAPIsJSON(t *testing.T) {
	_, erlmcp := serve(t)
	for args, want := range map[string]string{
		"servers list":      `"state":`,
		"servers refresh a": `"name":`,
		"keys list":         `"principal":`,
		"tools list":        `"inputSchema":`,
		"tools call echo":   `"content":`,
		"nodes":             `"roles":`,
		"sessions list":     `"nextPageToken":`,
		"servers rm files":  "{}",
	} {
		if r := erlmcp(append(strings.Fields(args), "-o", "json")...); r.code != 0 || !strings.HasPrefix(r.out, "{") || !strings.Contains(r.out, want) {
			t.Errorf("%s: %+v", args, r)
		}
	}
}

func TestServersAddDeclaresEveryKind(t *testing.T) {
	c, erlmcp := serve(t)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"w", "--url", "https://w/mcp", "--header", "Authorization: Bearer a=b", "--prefix", "", "--calls", "direct"},
			`name:"w" http:{url:"https://w/mcp" headers:{key:"Authorization" value:"Bearer a=b"}} prefix:"" calls:CALL_PATH_DIRECT`},
		{[]string{"f", "--env", "K=v", "--dir", "/d", "--call-timeout", "1m", "--", "npx", "-y", "fs"},
			`name:"f" stdio:{command:"npx" command:"-y" command:"fs" env:{key:"K" value:"v"} dir:"/d"} call_timeout:{seconds:60}`},
		{[]string{"g", "--grpc", "o:1", "--grpc-tls", "--service", "a.B,a.C", "--metadata", "k=v", "--calls", "session"},
			`name:"g" grpc:{target:"o:1" tls:true services:"a.B" services:"a.C" metadata:{key:"k" value:"v"}} calls:CALL_PATH_SESSION`},
	} {
		r := erlmcp(append([]string{"servers", "add"}, test.args...)...)
		if r.code != 0 || !strings.Contains(r.out, "ready") {
			t.Errorf("%v: %+v", test.args, r)
			continue
		}
		want := &registryv1.Server{}
		if err := prototext.Unmarshal([]byte(test.want), want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(proto.Message(want), c.last, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestNewKeyIsAloneOnStandardOutput(t *testing.T) {
	c, erlmcp := serve(t)
	r := erlmcp("keys", "create", "ci", "--role", "viewer", "--ttl", "1h")
	if r.code != 0 || r.out != "erlmcp_k1_s\n" || !strings.Contains(r.err, "key k1 for ci (viewer)") {
		t.Errorf("%+v", r)
	}
	want := &registryv1.CreateKeyRequest{}
	if err := prototext.Unmarshal([]byte(`principal:"ci" role:ROLE_VIEWER ttl:{seconds:3600}`), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(proto.Message(want), c.last, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestSessionsAreReadPageByPage(t *testing.T) {
	_, erlmcp := serve(t)
	r := erlmcp("sessions", "list", "--limit", "1234")
	if n := strings.Count(r.out, "alice"); r.code != 0 || n != 1234 || !strings.Contains(r.out, "s1233") {
		t.Errorf("code %d, %d sessions, %s", r.code, n, r.err)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	_, erlmcp := serve(t)
	for args, want := range map[string]string{
		"servers remove gone":          "erlmcp: there is no server \"gone\"; `erlmcp servers list` shows all\n",
		"keys create ci --key another": "erlmcp: no valid API key; give an API key by ERLMCP_API_KEY or --key\n",
		"keys revoke k1":               "erlmcp: the role viewer may not do this; use a key with the role admin\n",
		"tools call broken":            "erlmcp: the tool failed; its result says why\n",
	} {
		if r := erlmcp(strings.Fields(args)...); r.code != 1 || r.err != want {
			t.Errorf("%s: %+v, want %s", args, r, want)
		}
	}
}
