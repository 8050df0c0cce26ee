package orderdesk

import (
	"context"
	"strings"

	"google.golang.org/protobuf/proto"

	orderdeskv1 "erlmcp.dev/examples/orderdesk/v1"
)

// currency of all prices.
const currency = "EUR"

func assortment() []*orderdeskv1.Product {
	product := func(sku, name string, cents int64, stock int32) *orderdeskv1.Product {
		return &orderdeskv1.Product{Sku: sku, Name: name, Stock: stock, Price: &orderdeskv1.Money{Currency: currency, MinorUnits: cents}}
	}
	return []*orderdeskv1.Product{
		product("kettle-steel", "Steel kettle", 4950, 300),
		// Its price is 2^53 + 1: who takes it for a double is off by one.
		product("lighthouse", "Lighthouse, with island", 1<<53+1, 3),
		product("mug-blue", "Blue mug", 1299, 5000),
		product("mug-red", "Red mug", 1299, 0),
		product("teapot-clay", "Clay teapot", 3900, 800),
		product("tray-oak", "Oak tray", 2500, 1200),
	}
}

// ListProducts implements the service. The page token is the last SKU of the page before.
func (d *Desk) ListProducts(_ context.Context, in *orderdeskv1.ListProductsRequest) (*orderdeskv1.ListProductsResponse, error) {
	if err := check(in); err != nil {
		return nil, err
	}
	size := int(in.GetPageSize())
	if size == 0 {
		size = 20
	}
	search := strings.ToLower(in.GetSearch())
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &orderdeskv1.ListProductsResponse{}
	for _, p := range d.products {
		if p.GetSku() <= in.GetPageToken() || !strings.Contains(p.GetSku(), search) && !strings.Contains(strings.ToLower(p.GetName()), search) {
			continue
		}
		if len(out.Products) == size {
			out.NextPageToken = out.GetProducts()[size-1].GetSku()
			break
		}
		out.Products = append(out.Products, proto.CloneOf(p))
	}
	return out, nil
}

// GetProduct implements the service.
func (d *Desk) GetProduct(_ context.Context, in *orderdeskv1.GetProductRequest) (*orderdeskv1.GetProductResponse, error) {
	if err := check(in); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.product(in.GetSku())
	if p == nil {
		return nil, notFound("product", in.GetSku())
	}
	return &orderdeskv1.GetProductResponse{Product: proto.CloneOf(p)}, nil
}
