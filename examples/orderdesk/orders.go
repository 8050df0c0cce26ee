package orderdesk

import (
	"context"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	orderdeskv1 "erlmcp.dev/examples/orderdesk/v1"
)

// PlaceOrder implements the service. An order is taken as a whole or not at all.
func (d *Desk) PlaceOrder(_ context.Context, in *orderdeskv1.PlaceOrderRequest) (*orderdeskv1.PlaceOrderResponse, error) {
	if err := check(in); err != nil {
		return nil, err
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	key := request{in.GetCustomer(), in.GetRequestId()}
	if known := d.requests[key]; known != nil && key.id != "" {
		if !proto.Equal(known.asked, in) {
			return nil, status.Errorf(codes.AlreadyExists, "request_id %q was used for another order, %s; choose a new one", key.id, known.placed.GetId())
		}
		return &orderdeskv1.PlaceOrderResponse{Order: d.shown(known, now)}, nil
	}
	total, err := d.price(in.GetLines())
	if err != nil {
		return nil, err
	}
	if in.SpendingLimit != nil && total > in.GetSpendingLimit() {
		return nil, precondition("SPENDING_LIMIT", "spending_limit", fmt.Sprintf("the order costs %d, more than its limit of %d", total, in.GetSpendingLimit()))
	}
	if err := d.makeRoom(now); err != nil {
		return nil, err
	}
	for _, line := range in.GetLines() {
		d.product(line.GetSku()).Stock -= line.GetQuantity()
	}
	o := d.take(in, total, now)
	if key.id != "" {
		d.requests[key] = o
	}
	return &orderdeskv1.PlaceOrderResponse{Order: d.shown(o, now)}, nil
}

// price adds up the lines and checks the stock. The lock is held.
func (d *Desk) price(lines []*orderdeskv1.OrderLine) (total int64, err error) {
	seen := map[string]bool{}
	for i, line := range lines {
		field := fmt.Sprintf("lines[%d]", i)
		p := d.product(line.GetSku())
		switch {
		case p == nil:
			return 0, notFound("product", line.GetSku())
		case seen[line.GetSku()]:
			return 0, invalid(field+".sku", "each SKU may stand in one line only")
		case line.GetQuantity() > p.GetStock():
			return 0, precondition("STOCK", line.GetSku(), fmt.Sprintf("only %d of %s are in stock", p.GetStock(), line.GetSku()))
		case p.GetPrice().GetMinorUnits() > (math.MaxInt64-total)/int64(line.GetQuantity()):
			return 0, invalid(field, "the order costs more than can be written down")
		}
		seen[line.GetSku()] = true
		total += p.GetPrice().GetMinorUnits() * int64(line.GetQuantity())
	}
	return total, nil
}

// makeRoom forgets the oldest order where the book is full. The lock is held.
func (d *Desk) makeRoom(now time.Time) error {
	if len(d.placed) < MaxOrders {
		return nil
	}
	oldest := d.placed[0]
	if state, _ := d.state(oldest, now); !final(state) {
		return status.Errorf(codes.ResourceExhausted, "%d orders are under way, and no more are taken; try again later", MaxOrders)
	}
	d.placed[0] = nil
	d.placed = d.placed[1:]
	delete(d.orders, oldest.placed.GetId())
	delete(d.requests, request{oldest.asked.GetCustomer(), oldest.asked.GetRequestId()})
	return nil
}

// take writes the order into the book. The lock is held.
func (d *Desk) take(in *orderdeskv1.PlaceOrderRequest, total int64, now time.Time) *order {
	d.taken++
	asked := proto.CloneOf(in)
	placed := &orderdeskv1.Order{
		Id:       fmt.Sprintf("order-%d", d.taken),
		Customer: asked.GetCustomer(),
		Lines:    asked.GetLines(),
		Total:    &orderdeskv1.Money{Currency: currency, MinorUnits: total},
		PlacedAt: timestamppb.New(now),
		Notes:    asked.GetNotes(),
	}
	switch how := asked.GetDelivery().(type) {
	case *orderdeskv1.PlaceOrderRequest_ShipTo:
		placed.Delivery = &orderdeskv1.Order_ShipTo{ShipTo: how.ShipTo}
	case *orderdeskv1.PlaceOrderRequest_PickUpBy:
		placed.Delivery = &orderdeskv1.Order_PickUpBy{PickUpBy: how.PickUpBy}
	}
	o := &order{placed: placed, asked: asked, at: now, done: make(chan struct{})}
	d.orders[placed.GetId()] = o
	d.placed = append(d.placed, o)
	return o
}

// GetOrder implements the service.
func (d *Desk) GetOrder(_ context.Context, in *orderdeskv1.GetOrderRequest) (*orderdeskv1.GetOrderResponse, error) {
	if err := check(in); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.orders[in.GetId()]
	if o == nil {
		return nil, notFound("order", in.GetId())
	}
	return &orderdeskv1.GetOrderResponse{Order: d.shown(o, time.Now())}, nil
}

// CancelOrder implements the service.
func (d *Desk) CancelOrder(_ context.Context, in *orderdeskv1.CancelOrderRequest) (*orderdeskv1.CancelOrderResponse, error) {
	if err := check(in); err != nil {
		return nil, err
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.orders[in.GetId()]
	if o == nil {
		return nil, notFound("order", in.GetId())
	}
	switch state, _ := d.state(o, now); state {
	case orderdeskv1.OrderState_ORDER_STATE_CANCELLED:
	case orderdeskv1.OrderState_ORDER_STATE_PLACED, orderdeskv1.OrderState_ORDER_STATE_PACKED:
		o.cancelled = now
		close(o.done)
		for _, line := range o.placed.GetLines() {
			d.product(line.GetSku()).Stock += line.GetQuantity()
		}
	default:
		return nil, precondition("STATE", o.placed.GetId(), "the order was shipped and can no longer be cancelled")
	}
	return &orderdeskv1.CancelOrderResponse{Order: d.shown(o, now)}, nil
}

// WatchOrder implements the service.
func (d *Desk) WatchOrder(in *orderdeskv1.WatchOrderRequest, out orderdeskv1.OrderDeskService_WatchOrderServer) error {
	if err := check(in); err != nil {
		return err
	}
	d.mu.Lock()
	o := d.orders[in.GetId()]
	d.mu.Unlock()
	if o == nil {
		return notFound("order", in.GetId())
	}
	last := orderdeskv1.OrderState_ORDER_STATE_UNSPECIFIED
	for {
		d.mu.Lock()
		state, since := d.state(o, time.Now())
		d.mu.Unlock()
		if state != last {
			if err := out.Send(&orderdeskv1.WatchOrderResponse{State: state, Since: timestamppb.New(since)}); err != nil {
				return err
			}
			last = state
		}
		if final(state) {
			return nil
		}
		next := time.NewTimer(time.Until(since.Add(d.Step)))
		select {
		case <-next.C:
		case <-o.done:
		case <-out.Context().Done():
			next.Stop()
			return status.FromContextError(out.Context().Err()).Err()
		}
		next.Stop()
	}
}
