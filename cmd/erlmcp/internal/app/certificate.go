package app

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"erlmcp.dev/shared/config"
)

// certificate is a certificate and its key, read again when their files change: what renews certificates writes new
// files and tells nobody.
type certificate struct {
	cert, key config.Material
	log       *slog.Logger

	mu     sync.Mutex
	now    *tls.Certificate
	stamp  [2]time.Time // when the files that were last looked into were written
	looked time.Time
}

// lookEvery is how often the files' times are looked at, at most.
const lookEvery = time.Second

func newCertificate(cert, key config.Material, log *slog.Logger) (*certificate, error) {
	pair, err := tls.X509KeyPair([]byte(cert.PEM), []byte(key.PEM))
	if err != nil {
		return nil, fmt.Errorf("reading the TLS certificate: %w", err)
	}
	c := &certificate{cert: cert, key: key, log: log, now: &pair}
	c.stamp = c.written()
	return c, nil
}

// get returns the pair that holds now. A new one that can't be used is logged once and does not replace the old one.
func (c *certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookEvery {
		return c.now
	}
	c.looked = time.Now()
	stamp := c.written()
	if stamp == c.stamp {
		return c.now
	}
	c.stamp = stamp
	pair, err := c.read()
	if err != nil {
		c.log.Warn("the changed TLS certificate can't be used; the one before goes on", "error", err)
		return c.now
	}
	c.log.Info("the TLS certificate was read again", "until", pair.Leaf.NotAfter)
	c.now = &pair
	return c.now
}

func (c *certificate) read() (tls.Certificate, error) {
	cert, err := material(c.cert)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := material(c.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

// material reads the PEM's file again, where it came from one.
func material(m config.Material) ([]byte, error) {
	if m.File == "" {
		return []byte(m.PEM), nil
	}
	return os.ReadFile(m.File)
}

// written says when the files were written; zero for what is no file or is away.
func (c *certificate) written() (at [2]time.Time) {
	for i, m := range []config.Material{c.cert, c.key} {
		if m.File == "" {
			continue
		}
		if info, err := os.Stat(m.File); err == nil {
			at[i] = info.ModTime()
		}
	}
	return at
}
