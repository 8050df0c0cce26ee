package grpcreflect

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	registryv1 "erlmcp.dev/proto/erlmcp/registry/v1"
)

// methods are what one reading of a server's descriptors came to. They do not change.
type methods struct {
	digest   string
	services []protoreflect.ServiceDescriptor
	tools    map[string]*method
	types    types
	offer    func() (*registryv1.Offer, error) // made once
	connects uint64
	read     time.Time
}

// method is one method as a tool.
type method struct {
	tool    string
	path    string // as gRPC calls it: "/shop.v1.Orders/Get"
	desc    protoreflect.MethodDescriptor
	streams bool // the server does
	types   types
	input   shape
	output  shape
}

// shape is a request's or response's message.
type shape struct {
	desc protoreflect.MessageDescriptor
	// boxed: the message's JSON is no object, and stands as the member "value" of one.
	boxed bool
}

func newShape(desc protoreflect.MessageDescriptor) shape {
	known, ok := wellKnown[desc.FullName()]
	return shape{desc, ok && !known.object}
}

func newMethods(found *descriptors, config Config) (*methods, error) {
	known := &methods{
		digest:   found.digest,
		services: found.services,
		tools:    map[string]*method{},
		types:    types{dynamicpb.NewTypes(found.files)},
	}
	log := config.Log.With("target", config.Target)
	complete := completeness{map[protoreflect.FullName]bool{}, maxDescriptorBytes / 8}
	var callable []protoreflect.MethodDescriptor
	for _, service := range found.services {
		for i := range service.Methods().Len() {
			m := service.Methods().Get(i)
			switch {
			case m.IsStreamingClient():
				log.Info("a method is left out: its client streams, and a tool is called once", "method", m.FullName())
			case !complete.message(m.Input()) || !complete.message(m.Output()):
				log.Warn("a method is left out: server reflection does not have all types that it needs", "method", m.FullName())
			default:
				callable = append(callable, m)
			}
		}
		if len(callable) > maxMethods {
			return nil, fmt.Errorf("the server has more than %d methods; name the services to offer", maxMethods)
		}
	}
	for i, name := range nameTools(callable) {
		m := callable[i]
		tool := &method{
			tool:    name,
			path:    fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()),
			desc:    m,
			streams: m.IsStreamingServer(),
			input:   newShape(m.Input()),
			output:  newShape(m.Output()),
			types:   known.types,
		}
		if tool.streams {
			tool.output.boxed = false // its messages stand in an array
		}
		known.tools[name] = tool
	}
	known.offer = sync.OnceValues(func() (*registryv1.Offer, error) { return known.describe(config.Target) })
	return known, nil
}

// again returns a copy for another reading that found the same.
func (k *methods) again() *methods {
	fresh := *k
	return &fresh
}

// sorted returns the methods in the order of their tools' names.
func (k *methods) sorted() []*method {
	all := make([]*method, 0, len(k.tools))
	for _, m := range k.tools {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *method) int { return cmp.Compare(a.tool, b.tool) })
	return all
}

func (m *method) idempotency() descriptorpb.MethodOptions_IdempotencyLevel {
	options, _ := m.desc.Options().(*descriptorpb.MethodOptions)
	return options.GetIdempotencyLevel()
}

// completeness finds out which messages are known with all that they consist of. The server may lack a file.
type completeness struct {
	known map[protoreflect.FullName]bool
	left  int // messages that may still be looked at; beyond it none is taken for whole
}

func (c *completeness) message(root protoreflect.MessageDescriptor) bool {
	seen := map[protoreflect.FullName]bool{}
	queue := []protoreflect.MessageDescriptor{root}
	for len(queue) > 0 {
		m := queue[0]
		queue = queue[1:]
		whole, known := c.known[m.FullName()]
		if known && whole || seen[m.FullName()] {
			continue
		}
		seen[m.FullName()] = true
		c.left--
		if known || m.IsPlaceholder() || c.left < 0 {
			c.known[root.FullName()] = false
			return false
		}
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			if e := f.Enum(); e != nil && e.IsPlaceholder() {
				c.known[root.FullName()] = false
				return false
			}
			if next := f.Message(); next != nil {
				queue = append(queue, next)
			}
		}
	}
	for name := range seen {
		c.known[name] = true
	}
	return true
}
