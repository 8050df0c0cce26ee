package orderdesk

import (
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	orderdeskv1 "erlmcp.dev/examples/orderdesk/v1"
)

// MaxOrders is how many orders a desk remembers. Beyond it the oldest is forgotten once it is done; while it is
// not, no order is taken.
const MaxOrders = 10_000

// Desk is the service: an order book and a stock in memory. It is safe for concurrent use.
type Desk struct {
	orderdeskv1.UnimplementedOrderDeskServiceServer

	// Step is how long an order stays placed, packed and shipped, each; two seconds from New. It may be set
	// until the desk is used.
	Step time.Duration

	mu       sync.Mutex
	products []*orderdeskv1.Product // by SKU
	orders   map[string]*order
	placed   []*order // all orders, oldest first
	requests map[request]*order
	taken    int // orders ever
}

// request is who asked, and the id that they gave.
type request struct{ customer, id string }

// order is an order as it was placed. Its state follows from the time.
type order struct {
	placed    *orderdeskv1.Order // without state; never changed
	asked     *orderdeskv1.PlaceOrderRequest
	at        time.Time
	cancelled time.Time     // zero while it is not
	done      chan struct{} // closed when it is cancelled
}

// New returns a desk with a full stock and no orders.
func New() *Desk {
	return &Desk{
		Step:     2 * time.Second,
		products: assortment(),
		orders:   map[string]*order{},
		requests: map[request]*order{},
	}
}

var stages = []orderdeskv1.OrderState{
	orderdeskv1.OrderState_ORDER_STATE_PLACED,
	orderdeskv1.OrderState_ORDER_STATE_PACKED,
	orderdeskv1.OrderState_ORDER_STATE_SHIPPED,
	orderdeskv1.OrderState_ORDER_STATE_DELIVERED,
}

// state returns an order's state at a time, and since when it has it. The lock is held.
func (d *Desk) state(o *order, now time.Time) (state orderdeskv1.OrderState, since time.Time) {
	if !o.cancelled.IsZero() {
		return orderdeskv1.OrderState_ORDER_STATE_CANCELLED, o.cancelled
	}
	stage := len(stages) - 1
	if d.Step > 0 {
		stage = min(int(now.Sub(o.at)/d.Step), stage)
	}
	return stages[stage], o.at.Add(time.Duration(stage) * d.Step)
}

// final says whether a state is the last one.
func final(state orderdeskv1.OrderState) bool {
	return state == orderdeskv1.OrderState_ORDER_STATE_DELIVERED || state == orderdeskv1.OrderState_ORDER_STATE_CANCELLED
}

// shown is the order as clients see it. The lock is held.
func (d *Desk) shown(o *order, now time.Time) *orderdeskv1.Order {
	shown := proto.CloneOf(o.placed)
	shown.State, _ = d.state(o, now)
	return shown
}

// product returns the product with a SKU, or nil. The lock is held.
func (d *Desk) product(sku string) *orderdeskv1.Product {
	for _, p := range d.products {
		if p.GetSku() == sku {
			return p
		}
	}
	return nil
}
