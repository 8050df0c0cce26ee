package orderdesk_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"erlmcp.dev/examples/orderdesk"
	orderdeskv1 "erlmcp.dev/examples/orderdesk/v1"
)

// serve runs a desk on a loopback port until the test ends.
func serve(t testing.TB, desk *orderdesk.Desk) (target string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	orderdesk.Register(server, desk)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return listener.Addr().String()
}

func client(t testing.TB, desk *orderdesk.Desk) orderdeskv1.OrderDeskServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(serve(t, desk), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return orderdeskv1.NewOrderDeskServiceClient(conn)
}

func order(sku string, quantity int32) *orderdeskv1.PlaceOrderRequest {
	return &orderdeskv1.PlaceOrderRequest{
		Customer: "ada",
		Lines:    []*orderdeskv1.OrderLine{{Sku: sku, Quantity: quantity}},
		Delivery: &orderdeskv1.PlaceOrderRequest_PickUpBy{PickUpBy: "ada"},
	}
}

func stock(t *testing.T, c orderdeskv1.OrderDeskServiceClient, sku string) int32 {
	t.Helper()
	out, err := c.GetProduct(t.Context(), &orderdeskv1.GetProductRequest{Sku: sku})
	if err != nil {
		t.Fatal(err)
	}
	return out.GetProduct().GetStock()
}

func wantCode(t *testing.T, err error, want codes.Code, detail any) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != want {
		t.Fatalf("%v, want %v", err, want)
	}
	if detail == nil {
		return
	}
	if len(st.Details()) != 1 {
		t.Fatalf("%v has %d details", err, len(st.Details()))
	}
	if got, want := st.Details()[0].(proto.Message).ProtoReflect().Descriptor(), detail.(proto.Message).ProtoReflect().Descriptor(); got != want {
		t.Errorf("%v tells %v, want %v", err, got.FullName(), want.FullName())
	}
}

func TestProductsComePageByPage(t *testing.T) {
	c := client(t, orderdesk.New())
	var skus []string
	in := &orderdeskv1.ListProductsRequest{PageSize: 4}
	for {
		out, err := c.ListProducts(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range out.GetProducts() {
			skus = append(skus, p.GetSku())
		}
		if in.PageToken = out.GetNextPageToken(); in.PageToken == "" {
			break
		}
	}
	if len(skus) != 6 || skus[0] != "kettle-steel" || skus[5] != "tray-oak" {
		t.Errorf("%v", skus)
	}
	out, err := c.ListProducts(t.Context(), &orderdeskv1.ListProductsRequest{Search: "MUG"})
	if err != nil || len(out.GetProducts()) != 2 {
		t.Errorf("%v, %v", err, out)
	}
	_, err = c.ListProducts(t.Context(), &orderdeskv1.ListProductsRequest{PageSize: -1})
	wantCode(t, err, codes.InvalidArgument, &errdetails.BadRequest{})
}

func TestAnOrderTakesFromTheStockAndCancellingPutsBack(t *testing.T) {
	c := client(t, orderdesk.New())
	before := stock(t, c, "mug-blue")
	placed, err := c.PlaceOrder(t.Context(), order("mug-blue", 3))
	if err != nil {
		t.Fatal(err)
	}
	if got := placed.GetOrder().GetTotal().GetMinorUnits(); got != 3*1299 {
		t.Errorf("it costs %d", got)
	}
	if got := stock(t, c, "mug-blue"); got != before-3 {
		t.Errorf("%d left of %d", got, before)
	}
	for range 2 { // the second changes nothing
		out, err := c.CancelOrder(t.Context(), &orderdeskv1.CancelOrderRequest{Id: placed.GetOrder().GetId()})
		if err != nil || out.GetOrder().GetState() != orderdeskv1.OrderState_ORDER_STATE_CANCELLED {
			t.Fatalf("%v, %v", err, out)
		}
	}
	if got := stock(t, c, "mug-blue"); got != before {
		t.Errorf("%d of %d after cancelling", got, before)
	}
}

func TestOrdersThatCannotBeAreRefusedWhole(t *testing.T) {
	c := client(t, orderdesk.New())
	limit := int64(1)
	limited := order("mug-blue", 1)
	limited.SpendingLimit = &limit
	twice := order("mug-blue", 1)
	twice.Lines = append(twice.Lines, twice.GetLines()[0])
	second := order("mug-blue", 1)
	second.Lines = append(second.Lines, &orderdeskv1.OrderLine{Sku: "mug-red", Quantity: 1})
	nobody := order("mug-blue", 1)
	nobody.Delivery = nil
	for name, c2 := range map[string]struct {
		in     *orderdeskv1.PlaceOrderRequest
		code   codes.Code
		detail proto.Message
	}{
		"out of stock":       {order("mug-red", 1), codes.FailedPrecondition, &errdetails.PreconditionFailure{}},
		"in part":            {second, codes.FailedPrecondition, &errdetails.PreconditionFailure{}},
		"over the limit":     {limited, codes.FailedPrecondition, &errdetails.PreconditionFailure{}},
		"no such product":    {order("mug-gold", 1), codes.NotFound, &errdetails.ResourceInfo{}},
		"nothing of it":      {order("mug-blue", 0), codes.InvalidArgument, &errdetails.BadRequest{}},
		"the same twice":     {twice, codes.InvalidArgument, &errdetails.BadRequest{}},
		"for nobody":         {nobody, codes.InvalidArgument, &errdetails.BadRequest{}},
		"with no one's name": {&orderdeskv1.PlaceOrderRequest{}, codes.InvalidArgument, &errdetails.BadRequest{}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.PlaceOrder(t.Context(), c2.in)
			wantCode(t, err, c2.code, c2.detail)
		})
	}
	if got := stock(t, c, "mug-blue"); got != 5000 {
		t.Errorf("refused orders took from the stock: %d left", got)
	}
}

func TestARequestIDMakesOneOrder(t *testing.T) {
	c := client(t, orderdesk.New())
	in := order("tray-oak", 2)
	in.RequestId = "r1"
	var ids sync.Map
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			out, err := c.PlaceOrder(t.Context(), in)
			if err != nil {
				t.Error(err)
				return
			}
			ids.Store(out.GetOrder().GetId(), true)
		})
	}
	all.Wait()
	n := 0
	ids.Range(func(any, any) bool { n++; return true })
	if n != 1 || stock(t, c, "tray-oak") != 1198 {
		t.Errorf("%d orders, %d left", n, stock(t, c, "tray-oak"))
	}
	other := order("tray-oak", 3)
	other.RequestId = "r1"
	_, err := c.PlaceOrder(t.Context(), other)
	wantCode(t, err, codes.AlreadyExists, nil)
	other.Customer = "bob" // whose ids are his own
	if _, err := c.PlaceOrder(t.Context(), other); err != nil {
		t.Error(err)
	}
}

func TestTheStockIsNeverOversold(t *testing.T) {
	c := client(t, orderdesk.New())
	var sold atomic.Int32
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			switch _, err := c.PlaceOrder(t.Context(), order("lighthouse", 1)); status.Code(err) {
			case codes.OK:
				sold.Add(1)
			case codes.FailedPrecondition:
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if sold.Load() != 3 {
		t.Errorf("%d of 3 lighthouses were sold", sold.Load())
	}
}

func TestAWatchedOrderGoesThroughItsStates(t *testing.T) {
	desk := orderdesk.New()
	desk.Step = 20 * time.Millisecond
	c := client(t, desk)
	placed, err := c.PlaceOrder(t.Context(), order("mug-blue", 1))
	if err != nil {
		t.Fatal(err)
	}
	states := watch(t.Context(), t, c, placed.GetOrder().GetId())
	if len(states) == 0 || states[len(states)-1] != orderdeskv1.OrderState_ORDER_STATE_DELIVERED {
		t.Errorf("%v", states)
	}
	for i := 1; i < len(states); i++ {
		if states[i] <= states[i-1] {
			t.Errorf("%v goes back", states)
		}
	}
	_, err = c.CancelOrder(t.Context(), &orderdeskv1.CancelOrderRequest{Id: placed.GetOrder().GetId()})
	wantCode(t, err, codes.FailedPrecondition, &errdetails.PreconditionFailure{})
}

func watch(ctx context.Context, t *testing.T, c orderdeskv1.OrderDeskServiceClient, id string) (states []orderdeskv1.OrderState) {
	t.Helper()
	stream, err := c.WatchOrder(ctx, &orderdeskv1.WatchOrderRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	for {
		out, err := stream.Recv()
		if err != nil {
			return states
		}
		states = append(states, out.GetState())
	}
}

func TestCancellingEndsAWatch(t *testing.T) {
	desk := orderdesk.New()
	desk.Step = time.Hour
	c := client(t, desk)
	placed, err := c.PlaceOrder(t.Context(), order("mug-blue", 1))
	if err != nil {
		t.Fatal(err)
	}
	id := placed.GetOrder().GetId()
	stream, err := c.WatchOrder(t.Context(), &orderdeskv1.WatchOrderRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := stream.Recv(); err != nil || out.GetState() != orderdeskv1.OrderState_ORDER_STATE_PLACED {
		t.Fatalf("%v, %v", out, err)
	}
	if _, err := c.CancelOrder(t.Context(), &orderdeskv1.CancelOrderRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	if out, err := stream.Recv(); err != nil || out.GetState() != orderdeskv1.OrderState_ORDER_STATE_CANCELLED {
		t.Fatalf("%v, %v", out, err)
	}
	_, err = stream.Recv()
	if err == nil || status.Code(err) == codes.Canceled {
		t.Errorf("the stream goes on: %v", err)
	}
	if _, err := c.GetOrder(t.Context(), &orderdeskv1.GetOrderRequest{Id: "order-77"}); status.Code(err) != codes.NotFound {
		t.Errorf("%v", err)
	}
}

func TestTheBookIsBounded(t *testing.T) {
	desk := orderdesk.New()
	desk.Step = time.Hour
	in := order("mug-blue", 1)
	var first string
	for i := range orderdesk.MaxOrders {
		out, err := desk.PlaceOrder(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = out.GetOrder().GetId()
		}
		// Cancelling all but the first keeps the stock.
		if i > 0 {
			if _, err := desk.CancelOrder(t.Context(), &orderdeskv1.CancelOrderRequest{Id: out.GetOrder().GetId()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err := desk.PlaceOrder(t.Context(), in)
	wantCode(t, err, codes.ResourceExhausted, nil)
	if _, err := desk.CancelOrder(t.Context(), &orderdeskv1.CancelOrderRequest{Id: first}); err != nil {
		t.Fatal(err)
	}
	if _, err := desk.PlaceOrder(t.Context(), in); err != nil {
		t.Errorf("the oldest is done, and still: %v", err)
	}
	_, err = desk.GetOrder(t.Context(), &orderdeskv1.GetOrderRequest{Id: first})
	wantCode(t, err, codes.NotFound, nil)
}
