package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/grpc"

	gatewayv1 "erlmcp.dev/proto/erlmcp/gateway/v1"
	metricsv1 "erlmcp.dev/proto/erlmcp/metrics/v1"
	"erlmcp.dev/shared/config"
	"erlmcp.dev/shared/rpc"
	"erlmcp.dev/shared/usage"
)

// wireRPC makes the ways between services: the channel inside the process, clients of the others, and the port
// on which others reach this one.
func (p *process) wireRPC() error {
	var err error
	if p.local, err = rpc.NewLocal(rpc.LocalConfig{Node: p.cfg.Node, Audit: p.audit, Tracer: p.tracer, Log: p.log}); err != nil {
		return err
	}
	p.client = rpc.ClientConfig{Node: p.cfg.Node, Services: p.keys}
	if p.cfg.TLS.Enabled {
		if p.tls, p.client.TLS, err = p.tlsConfigs(); err != nil {
			return err
		}
	}
	p.address = localAddress
	if p.streams == nil {
		if p.grpc, err = p.listen("grpc", p.cfg.Ports.GRPC); err != nil {
			return err
		}
		p.address = p.cfg.Cluster.Advertise
	}
	if host, port, err := net.SplitHostPort(p.address); err == nil && port == "0" {
		p.address = net.JoinHostPort(host, strconv.Itoa(p.grpc.Addr().(*net.TCPAddr).Port))
	}
	p.peers = rpc.NewPeers(p.client, p.address, p.local)
	p.onClose(p.peers)
	targets := map[Role][]string{
		config.RoleSession: p.cfg.Cluster.Session, config.RoleRegistry: p.cfg.Cluster.Registry, config.RoleMetrics: p.cfg.Cluster.Metrics,
	}
	p.conns[config.RoleGateway] = p.local
	for role, addresses := range targets {
		if p.cfg.Runs(role) {
			p.conns[role] = p.local
			continue
		}
		conn, err := rpc.Dial(strings.Join(addresses, ","), p.client)
		if err != nil {
			return err
		}
		p.conns[role] = conn
		p.onClose(conn)
	}
	p.auditor, err = usage.NewAuditor(usage.AuditorConfig{
		Client: metricsv1.NewMetricsServiceClient(p.conns[config.RoleMetrics]), Dir: p.spools(), Log: p.log,
	})
	if err != nil {
		return err
	}
	p.onClose(p.auditor)
	p.metrics.Events("audit", p.auditor)
	p.add("audit", p.auditor.Run)
	return nil
}

// spools is where what is on its way to the metrics service waits.
func (p *process) spools() string { return filepath.Join(p.cfg.DataDir, "spool") }

// audit keeps what administrators did. What the gateway only passes on is kept where it is done.
func (p *process) audit(ctx context.Context, e *metricsv1.AuditEvent) {
	own := strings.HasPrefix(e.GetMethod(), gatewayv1.GatewayService_ServiceDesc.ServiceName+"/")
	if p.cfg.Whole() || !p.cfg.Runs(config.RoleGateway) || own {
		p.auditor.Record(ctx, e)
	}
}

// tlsConfigs are TLS between services: by certificate files where given, else by certificates that every node
// issues for itself from the cluster secret.
func (p *process) tlsConfigs() (server, client *tls.Config, err error) {
	files := p.cfg.TLS
	if files.Cert.PEM == "" {
		if server, err = p.keys.ServerTLS(p.cfg.Node); err != nil {
			return nil, nil, err
		}
		client, err = p.keys.ClientTLS(p.cfg.Node)
		return server, client, err
	}
	cert, err := newCertificate(files.Cert, files.Key, p.log)
	if err != nil {
		return nil, nil, err
	}
	server = &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert.get(), nil },
	}
	client = &tls.Config{
		MinVersion:           tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert.get(), nil },
	}
	if files.CA.PEM != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(files.CA.PEM)) {
			return nil, nil, errors.New("the TLS authority (ERLMCP_TLS_CA) holds no certificate")
		}
		server.ClientCAs, server.ClientAuth = pool, tls.VerifyClientCertIfGiven
		client.RootCAs = pool
	}
	return server, client, nil
}

// serve makes a service reachable, inside the process and from the network.
func (p *process) serve(service interface{ Register(grpc.ServiceRegistrar) }) {
	service.Register(p.local)
	p.services = append(p.services, service)
}

// wireServing makes the gRPC server of all services of this process. It starts before them and stops after them:
// they end the streams that never end by themselves.
func (p *process) wireServing(context.Context) error {
	if p.streams != nil {
		return nil
	}
	server, err := rpc.NewServer(rpc.ServerConfig{
		Authenticator: p.authn, Services: p.keys, TLS: p.tls, Node: p.cfg.Node, Audit: p.audit, Drain: p.cfg.Drain, Tracer: p.tracer, Measure: p.metrics.GRPC(), Log: p.log,
	})
	if err != nil {
		return err
	}
	for _, s := range p.services {
		s.Register(server)
	}
	p.health.RegisterGRPC(server)
	serving := part{"gRPC", func(ctx context.Context) error { return server.Serve(ctx, limited(p.grpc, p.cfg.Limits.Connections)) }}
	p.parts = append([]part{serving}, p.parts...)
	return nil
}
