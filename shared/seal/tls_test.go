package seal_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"erlmcp.dev/shared/seal"
)

// handshake joins a server and a client over a pipe, and returns what went wrong and the names they see.
func handshake(t *testing.T, server, client *tls.Config) (serverSaw, clientSaw string, err error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s, c := tls.Server(a, server), tls.Client(b, client)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := s.HandshakeContext(ctx)
		if err == nil {
			_, err = s.Write([]byte("x")) // in TLS 1.3 a client learns only here that its certificate was refused
		}
		if err != nil {
			_ = a.Close()
		}
		done <- err
	}()
	err = c.HandshakeContext(ctx)
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	if err != nil {
		_ = b.Close()
	}
	err = errors.Join(<-done, err)
	if peers := s.ConnectionState().PeerCertificates; len(peers) > 0 {
		serverSaw = peers[0].Subject.CommonName
	}
	if peers := c.ConnectionState().PeerCertificates; len(peers) > 0 {
		clientSaw = peers[0].Subject.CommonName
	}
	return serverSaw, clientSaw, err
}

func serverTLS(t *testing.T, k *seal.Keys) *tls.Config {
	t.Helper()
	c, err := k.ServerTLS("server@a")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func clientTLS(t *testing.T, k *seal.Keys) *tls.Config {
	t.Helper()
	c, err := k.ClientTLS("client@b")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNodesOfOneSecretTrustEachOther(t *testing.T) {
	one, two := seal.Generate(), seal.Generate()
	nobody := clientTLS(t, keys(t, one))
	nobody.GetClientCertificate = nil
	for _, c := range []struct {
		name           string
		server, client *tls.Config
		ok             bool
		sees           string
	}{
		{"the same secret, two processes", serverTLS(t, keys(t, one)), clientTLS(t, keys(t, one)), true, "client@b"},
		{"another secret", serverTLS(t, keys(t, one)), clientTLS(t, keys(t, two)), false, ""},
		{"no certificate", serverTLS(t, keys(t, one)), nobody, true, ""},
		// Rotation, step by step: both directions at each.
		{"old to old and new", serverTLS(t, keys(t, one, two)), clientTLS(t, keys(t, one)), true, "client@b"},
		{"old and new to old", serverTLS(t, keys(t, one)), clientTLS(t, keys(t, one, two)), true, "client@b"},
		{"new and old to old and new", serverTLS(t, keys(t, one, two)), clientTLS(t, keys(t, two, one)), true, "client@b"},
		{"old and new to new and old", serverTLS(t, keys(t, two, one)), clientTLS(t, keys(t, one, two)), true, "client@b"},
		{"new to new and old", serverTLS(t, keys(t, two, one)), clientTLS(t, keys(t, two)), true, "client@b"},
		{"old to new", serverTLS(t, keys(t, two)), clientTLS(t, keys(t, one)), false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			serverSaw, clientSaw, err := handshake(t, c.server, c.client)
			if (err == nil) != c.ok {
				t.Fatalf("got %v", err)
			}
			if c.ok && (serverSaw != c.sees || clientSaw != "server@a") {
				t.Errorf("the server saw %q, the client %q", serverSaw, clientSaw)
			}
		})
	}
}

func TestCertificatesAreRenewedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))) // the authority is not older
		secret := seal.Generate()
		server, client := serverTLS(t, keys(t, secret)), clientTLS(t, keys(t, secret))
		first, err := server.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		same, err := server.GetCertificate(nil)
		if err != nil || same != first {
			t.Errorf("a certificate was made for each handshake: %v", err)
		}
		for range 10 {
			time.Sleep(30 * time.Hour) // nobody called for longer than a certificate lives
			if _, _, err := handshake(t, server, client); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestACertificateIsGoodForTheClusterOnly(t *testing.T) {
	secret := seal.Generate()
	client := clientTLS(t, keys(t, secret))
	client.ServerName = "elsewhere.example"
	if _, _, err := handshake(t, serverTLS(t, keys(t, secret)), client); err == nil {
		t.Error("it was taken for another name")
	}
}
