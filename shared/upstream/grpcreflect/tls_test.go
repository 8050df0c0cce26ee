package grpcreflect_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"erlmcp.dev/shared/testkit"
	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/grpcreflect"
)

func TestTLSIsChecked(t *testing.T) {
	cert, key := testkit.Certificate(t)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, plain, map[string]handler{"Do": echo})
	s.options = []grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(&pair))}
	target, _ := s.start(t)
	trusted := x509.NewCertPool()
	trusted.AddCert(pair.Leaf)
	if r := call(t, open(t, grpcreflect.Config{Target: target, TLS: &tls.Config{RootCAs: trusted}}), "Do", `{}`); r.IsError {
		t.Error(r.text())
	}
	for name, config := range map[string]*tls.Config{"an unknown authority": {RootCAs: x509.NewCertPool()}, "plain text": nil} {
		_, err := open(t, grpcreflect.Config{Target: target, TLS: config}).Call(within(t, 10*time.Second), request("Do", `{}`), nil)
		if !errors.Is(err, upstream.ErrNotSent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
