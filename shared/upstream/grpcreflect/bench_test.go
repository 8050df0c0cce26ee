package grpcreflect_test

import (
	"testing"

	"erlmcp.dev/shared/upstream/grpcreflect"
)

// BenchmarkUnary is one call over loopback, the test's service included: it decodes and encodes dynamically too.
func BenchmarkUnary(b *testing.B) {
	for name, arguments := range map[string]string{
		"small": `{"text":"x","number":"7"}`,
		"list":  `{"list":[{"text":"a","number":1},{"text":"b","number":2},{"text":"c","number":3},{"text":"d","inner":{"text":"e"}}]}`,
	} {
		b.Run(name, func(b *testing.B) {
			target, _ := newService(b, plain, map[string]handler{"Do": echo}).start(b)
			p := open(b, grpcreflect.Config{Target: target, Log: quiet})
			req := request("Do", arguments)
			b.ReportAllocs()
			for b.Loop() {
				reply, err := p.Call(b.Context(), req, nil)
				if err != nil || reply.Error != nil {
					b.Fatalf("%v %s", err, reply.Error)
				}
			}
		})
	}
}

// BenchmarkDescribe is reading unchanged descriptors again, as the registry does now and then.
func BenchmarkDescribe(b *testing.B) {
	target, _ := newService(b, kitchen, kitchenHandlers).start(b)
	p := open(b, grpcreflect.Config{Target: target, Log: quiet})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Describe(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
