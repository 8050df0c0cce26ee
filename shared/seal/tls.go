package seal

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"time"
)

// ServerName is the name that every service's certificate is for: what matters is that it was issued from the
// cluster secret, not where the service is.
const ServerName = "services.erlmcp.internal"

// Certificates of nodes are short-lived and renewed long before they end.
const (
	certificateLife  = 24 * time.Hour
	certificateRenew = 8 * time.Hour
)

// ServerTLS is the configuration of a node's gRPC server: TLS 1.3, with a certificate from the cluster secret.
// Clients that present a certificate must have one from it too; those that present none prove themselves by
// other means, as operators do.
func (k *Keys) ServerTLS(node string) (*tls.Config, error) {
	source, err := k.certificates(node)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return source.get() },
		ClientAuth:     tls.VerifyClientCertIfGiven,
		ClientCAs:      source.pool,
		NextProtos:     []string{"h2"},
	}, nil
}

// ClientTLS is the configuration of a node's gRPC clients, for servers with ServerTLS.
func (k *Keys) ClientTLS(node string) (*tls.Config, error) {
	source, err := k.certificates(node)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return source.get() },
		RootCAs:              source.pool,
		ServerName:           ServerName,
	}, nil
}

// certificates issues one node's certificates.
type certificates struct {
	node string
	ca   *x509.Certificate
	key  ed25519.PrivateKey
	pool *x509.CertPool

	mu      sync.Mutex
	current *tls.Certificate
	renewAt time.Time
}

func (k *Keys) certificates(node string) (*certificates, error) {
	c := &certificates{node: node, pool: x509.NewCertPool()}
	for i, secret := range k.secrets {
		ca, key, err := authority(secret)
		if err != nil {
			return nil, err
		}
		c.pool.AddCert(ca)
		if i == 0 {
			c.ca, c.key = ca, key
		}
	}
	if _, err := c.get(); err != nil {
		return nil, err
	}
	return c, nil
}

// authority makes the certificate authority of a secret: the same one, to the byte, on every node.
func authority(secret []byte) (*x509.Certificate, ed25519.PrivateKey, error) {
	key := ed25519.NewKeyFromSeed(derive(secret, "erlmcp certificate authority v1", ed25519.SeedSize))
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(derive(secret, "erlmcp certificate authority serial v1", 16)),
		Subject:               pkix.Name{CommonName: "erlmcp cluster"},
		SubjectKeyId:          derive(secret, "erlmcp certificate authority id v1", 20),
		NotBefore:             time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2125, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("making the cluster's certificate authority: %w", err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("making the cluster's certificate authority: %w", err)
	}
	return ca, key, nil
}

// get returns a certificate that is good for hours.
func (c *certificates) get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.current != nil && now.Before(c.renewAt) {
		return c.current, nil
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a certificate's key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, fmt.Errorf("making a certificate's serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: c.node},
		DNSNames:     []string{ServerName},
		NotBefore:    now.Add(-time.Hour), // clocks differ
		NotAfter:     now.Add(certificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.ca, public, c.key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	c.current = &tls.Certificate{Certificate: [][]byte{der, c.ca.Raw}, PrivateKey: private}
	c.renewAt = now.Add(certificateRenew)
	return c.current, nil
}
