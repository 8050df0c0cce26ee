package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"erlmcp.dev/services/metrics"
	"erlmcp.dev/services/metrics/store"
	"erlmcp.dev/shared/access"

	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// as answers calls as though p made them.
func as(p access.Principal) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			return handle(access.NewContext(ctx, p), req)
		}),
		grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
			return handle(srv, stream{s, access.NewContext(s.Context(), p)})
		}),
	}
}

type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }

func export(ctx context.Context, c metricsv1.MetricsServiceClient, req *metricsv1.ExportUsageRequest) (lines []string, contentType string, err error) {
	pieces, err := c.ExportUsage(ctx, req)
	if err != nil {
		return nil, "", err
	}
	for {
		piece, err := pieces.Recv()
		if errors.Is(err, io.EOF) {
			return lines, contentType, nil
		}
		if err != nil {
			return nil, "", err
		}
		lines, contentType = append(lines, strings.Split(string(piece.GetData()), "\n")...), piece.GetContentType()
	}
}

func TestAPrincipalWithoutARoleSeesItsOwnUsageOnly(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		service := metrics.New(metrics.Config{Store: s, Clock: (&clock{now: noon.Add(time.Minute)}).Now})
		must(service.RecordUsage(t.Context(), &metricsv1.RecordUsageRequest{Node: "a", Usage: []*metricsv1.Usage{
			{Minute: at(0), Principal: "ann", Calls: 1}, {Minute: at(0), Principal: "bob", Calls: 2},
		}}))(t)
		for name, c := range map[string]struct {
			who  access.Principal
			ask  string
			want uint64 // 0: refused
		}{
			"own":             {access.Principal{ID: "ann", Method: access.MethodKey}, "", 1},
			"own, named":      {access.Principal{ID: "ann", Method: access.MethodKey}, "ann", 1},
			"another's":       {access.Principal{ID: "ann", Method: access.MethodKey}, "bob", 0},
			"a viewer's all":  {access.Principal{ID: "ann", Method: access.MethodKey, Role: registryv1.Role_ROLE_VIEWER}, "", 3},
			"an admin's any":  {access.Principal{ID: "ann", Method: access.MethodKey, Role: registryv1.Role_ROLE_ADMIN}, "bob", 2},
			"a service's all": {access.Principal{ID: "erlmcp@a", Method: access.MethodService}, "", 3},
		} {
			addr, _ := listen(t, service, "127.0.0.1:0", as(c.who)...)
			client := dial(t, addr)
			ask := &metricsv1.QueryUsageRequest{Principal: c.ask}
			got, err := client.QueryUsage(t.Context(), ask)
			_, _, exported := export(t.Context(), client, &metricsv1.ExportUsageRequest{Query: ask})
			if c.want == 0 {
				if status.Code(err) != codes.PermissionDenied || status.Code(exported) != codes.PermissionDenied {
					t.Errorf("%s: %v, %v", name, err, exported)
				}
				continue
			}
			if err != nil || exported != nil || len(got.GetUsage()) != 1 || got.GetUsage()[0].GetCalls() != c.want {
				t.Errorf("%s: %v, %v, %v", name, got, err, exported)
			}
		}
	})
}

func TestLatenciesOfManyNodesMerge(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		c := client(t, metrics.Config{Store: s, Clock: (&clock{now: noon.Add(time.Minute)}).Now})
		// Bucket 36 begins at 1024 us, bucket 76 at about a second.
		for node, u := range map[string]*metricsv1.Usage{
			"a": {Minute: at(0), Calls: 97, Buckets: []uint32{36}, BucketCalls: []uint64{97}},
			"b": {Minute: at(0), Calls: 3, Buckets: []uint32{36, 76}, BucketCalls: []uint64{1, 2}},
		} {
			must(c.RecordUsage(t.Context(), &metricsv1.RecordUsageRequest{Node: node, Usage: []*metricsv1.Usage{u}}))(t)
		}
		for _, step := range []metricsv1.Step{metricsv1.Step_STEP_MINUTE, metricsv1.Step_STEP_DAY} {
			got := must(c.QueryUsage(t.Context(), &metricsv1.QueryUsageRequest{Step: step, Since: at(-time.Hour)}))(t).GetUsage()
			if len(got) != 1 || got[0].GetP50Micros() != 1152 || got[0].GetP90Micros() != 1152 || got[0].GetP99Micros() < 1_000_000 {
				t.Errorf("%v: %v", step, got)
			}
		}
		for name, u := range map[string]*metricsv1.Usage{
			"a bucket that is none":   {Minute: at(0), Calls: 1, Buckets: []uint32{128}, BucketCalls: []uint64{1}},
			"a bucket twice":          {Minute: at(0), Calls: 2, Buckets: []uint32{1, 1}, BucketCalls: []uint64{1, 1}},
			"buckets without counts":  {Minute: at(0), Calls: 2, Buckets: []uint32{1}},
			"more calls than were":    {Minute: at(0), Calls: 1, Buckets: []uint32{1}, BucketCalls: []uint64{2}},
			"calls that overflow all": {Minute: at(0), Calls: 1, Buckets: []uint32{1, 2}, BucketCalls: []uint64{1, 1<<64 - 1}},
		} {
			_, err := c.RecordUsage(t.Context(), &metricsv1.RecordUsageRequest{Node: "c", Usage: []*metricsv1.Usage{u}})
			if status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestUsageIsExportedWhole(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		c := client(t, metrics.Config{Store: s, Clock: (&clock{now: noon.Add(time.Minute)}).Now})
		var rows []*metricsv1.Usage
		for i := range 3000 {
			rows = append(rows, &metricsv1.Usage{Minute: at(0), Principal: fmt.Sprintf("=p%d", i), Name: `a,"b`, Calls: 1, Tenant: "+t"})
		}
		must(c.RecordUsage(t.Context(), &metricsv1.RecordUsageRequest{Node: "a", Usage: rows}))(t)
		query := &metricsv1.QueryUsageRequest{Limit: 1, By: []metricsv1.Dimension{
			metricsv1.Dimension_DIMENSION_MINUTE, metricsv1.Dimension_DIMENSION_PRINCIPAL, metricsv1.Dimension_DIMENSION_NAME,
		}}
		lines, kind, err := export(t.Context(), c, &metricsv1.ExportUsageRequest{Query: query, Format: metricsv1.Format_FORMAT_CSV})
		if err != nil || len(lines) != 3001 || !strings.HasPrefix(kind, "text/csv") {
			t.Fatalf("%d lines of %q, %v", len(lines), kind, err)
		}
		if want := `2026-03-04T12:00:00Z,'=p7,,,"a,""b",1,0,0,0,0,0,'+t`; !slices.Contains(lines, want) {
			t.Errorf("no line %s, but such as %s", want, lines[1])
		}
		lines, kind, err = export(t.Context(), c, &metricsv1.ExportUsageRequest{Query: query})
		if err != nil || len(lines) != 3000 || kind != "application/x-ndjson" || !strings.HasPrefix(lines[0], "{") {
			t.Errorf("%d lines of %q, %v", len(lines), kind, err)
		}
	})
}

// reader takes an export piece by piece, once it is let.
type reader struct {
	grpc.ServerStream
	ctx   context.Context
	began chan struct{}
	read  <-chan struct{}
}

func (r *reader) Context() context.Context { return r.ctx }

func (r *reader) Send(*httpbody.HttpBody) error {
	r.began <- struct{}{}
	<-r.read
	return nil
}

// An export holds a connection to the database for as long as its reader likes, and anybody may export what is their own.
func TestSlowReadersOfExportsHoldUpNothingElse(t *testing.T) {
	each(t, func(t *testing.T, s store.Store) {
		service := metrics.New(metrics.Config{Store: s})
		record := func(sequence uint64) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := service.RecordUsage(ctx, &metricsv1.RecordUsageRequest{Node: "n", Sequence: sequence, Usage: []*metricsv1.Usage{{
				Minute: timestamppb.New(time.Now().Truncate(time.Minute)), Principal: "ann", Server: "s", Method: "tools/call", Name: "x", Calls: 1,
			}}})
			if err != nil {
				t.Fatal(err)
			}
		}
		record(1)
		read, ended := make(chan struct{}), make(chan error, 10)
		export := func() (began chan struct{}) {
			began = make(chan struct{}, 1)
			go func() {
				ended <- service.ExportUsage(&metricsv1.ExportUsageRequest{}, &reader{ctx: t.Context(), began: began, read: read})
			}()
			return began
		}
		for range 2 {
			<-export()
		}
		for range 6 {
			began := export()
			select {
			case err := <-ended:
				if status.Code(err) != codes.ResourceExhausted {
					t.Errorf("one more: %v", err)
				}
			case <-began:
				t.Error("one more began")
			}
		}
		record(2)
		close(read)
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		export()
		if err := <-ended; err != nil {
			t.Errorf("once the others ended: %v", err)
		}
	})
}
