package grpcreflect_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"erlmcp.dev/shared/upstream"
	"erlmcp.dev/shared/upstream/grpcreflect"
)

func TestTLSIsChecked(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, plain, map[string]handler{"Do": echo})
	s.options = []grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}))}
	target, _ := s.start(t)
	trusted := x509.NewCertPool()
	trusted.AddCert(certificate)
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
