package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// check looks at each setting, then at what must hold between them.
func (l *loader) check() error {
	for i := range l.settings {
		s := &l.settings[i]
		if s.check == nil {
			continue
		}
		if problem, fix := s.check(&l.config); problem != "" {
			return &Error{l.place(s.Key), problem, fix}
		}
	}
	for _, rule := range []func() error{l.checkPorts, l.checkSecrets, l.checkStores, l.checkTLS, l.checkHTTPS, l.checkTargets, l.checkJWT} {
		if err := rule(); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) wrong(key, fix, format string, args ...any) error {
	return &Error{l.place(key), fmt.Sprintf(format, args...), fix}
}

func (l *loader) checkPorts() error {
	p := &l.config.Ports
	if p.Dist > 65535-len(Roles()) {
		return l.wrong("ports.dist", "give a lower port", "%d leaves no room for the gRPC ports above it", p.Dist)
	}
	if p.DistMax > 0 && p.DistMin > p.DistMax {
		return l.wrong("ports.dist_min", "give a range from low to high", "%d is above %s, %d", p.DistMin, l.place("ports.dist_max"), p.DistMax)
	}
	if p.GRPC > 0 && ((p.DistMin > 0 && p.GRPC < p.DistMin) || (p.DistMax > 0 && p.GRPC > p.DistMax)) {
		key := "ports.grpc"
		if !l.set(key) {
			key = "ports.dist"
		}
		return l.wrong(key, "widen the range, or choose a port inside it", "gRPC port %d is outside the distribution range %d-%d", p.GRPC, p.DistMin, p.DistMax)
	}
	taken := map[int]string{}
	for _, key := range []string{"ports.grpc", "ports.health", "ports.metrics", "ports.api", "ports.http", "ports.ws", "ports.sse"} {
		s := find(l.settings, key)
		port := *s.at(&l.config).(*int)
		if port == 0 || (len(s.Roles) > 0 && !l.config.Runs(RoleGateway)) {
			continue
		}
		if other := taken[port]; other != "" {
			return l.wrong(key, "give each its own port", "port %d is %s already", port, other)
		}
		taken[port] = key
	}
	return nil
}

func (l *loader) checkSecrets() error {
	c := &l.config
	if len(c.Cluster.Secrets) == 0 && !c.Whole() {
		return l.wrong("cluster.secret", "make one: openssl rand -base64 48", "not set, and the role %s shares it with the others of its cluster", roleNames(c.Roles))
	}
	if len(c.Cluster.Secrets) > 2 {
		return l.wrong("cluster.secret", "keep the new one and the last", "holds %s, and at most two are in use while one is changed", plural(len(c.Cluster.Secrets), "secret"))
	}
	for _, s := range c.Cluster.Secrets {
		if err := l.checkKeySecret("cluster.secret", string(s)); err != nil {
			return err
		}
	}
	if s := c.Auth.JWT.Secret; s != "" {
		if err := l.checkKeySecret("auth.jwt.secret", string(s)); err != nil {
			return err
		}
	}
	if c.Env != Production {
		return nil
	}
	for _, store := range []struct {
		name     string
		password Secret
		url      Secret
	}{{"db", c.DB.Password, c.DB.URL}, {"redis", c.Redis.Password, c.Redis.URL}} {
		key, password := store.name+".password", string(store.password)
		if u, err := url.Parse(string(store.url)); err == nil && l.set(store.name+".url") {
			if inURL, has := u.User.Password(); has && !l.set(key) {
				key, password = store.name+".url", inURL
			}
		}
		if weak(password) {
			return l.wrong(key, "choose a random one: openssl rand -hex 24", "a known weak password, which production refuses")
		}
	}
	return nil
}

// checkKeySecret looks at a secret that keys are made from.
func (l *loader) checkKeySecret(key, secret string) error {
	switch {
	case len(secret) < minSecret:
		return l.wrong(key, "make one: openssl rand -base64 48", "%s, and at least %d are needed", plural(len(secret), "byte"), minSecret)
	case l.config.Env == Production && (weak(secret) || monotonous(secret)):
		return l.wrong(key, "make one: openssl rand -base64 48", "a known weak secret, which production refuses")
	}
	return nil
}

func (l *loader) checkStores() error {
	if l.set("db.url") {
		if l.set("db.host") {
			return l.wrong("db.host", "keep one", "%s sets the database too", l.place("db.url"))
		}
		u, err := url.Parse(string(l.config.DB.URL))
		if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
			return l.wrong("db.url", "write postgres://user@host:5432/name", "not a Postgres URL")
		}
	}
	r := &l.config.Redis
	if l.set("redis.url") {
		if l.set("redis.host") {
			return l.wrong("redis.host", "keep one", "%s sets Redis too", l.place("redis.url"))
		}
		u, err := url.Parse(string(r.URL))
		if err != nil || (u.Scheme != "redis" && u.Scheme != "rediss") || u.Host == "" {
			return l.wrong("redis.url", "write redis://host:6379/0", "not a Redis URL")
		}
		if db := strings.Trim(u.Path, "/"); db != "" {
			if n, err := strconv.Atoi(db); err != nil || n < 0 {
				return l.wrong("redis.url", "write redis://host:6379/0", "its path is no database number")
			}
		}
	}
	from := "redis.host"
	if l.set("redis.url") {
		from = "redis.url"
	}
	for _, a := range r.Addrs {
		if !isHostPort(a) {
			return l.wrong(from, "give hosts as host or host:port", "%s is no address", quote(a))
		}
	}
	switch {
	case len(r.Addrs) == 0:
		return l.wrong(from, "give host or host:port", "names no host")
	case r.Mode == RedisSingle && len(r.Addrs) > 1:
		return l.wrong("redis.mode", "set it to sentinel or cluster, or name one host", "one server is expected, but %d are named", len(r.Addrs))
	case r.Mode == RedisCluster && r.DB != 0:
		return l.wrong("redis.url", "leave the number out", "a Redis cluster has no database %d", r.DB)
	}
	return nil
}

func (l *loader) checkTLS() error {
	t := &l.config.TLS
	if !t.Enabled && l.config.Env == Production && !l.config.Whole() {
		return l.wrong("tls.enabled", "remove it: without certificates, services issue their own", "plain text between services is refused in production")
	}
	if proto, _ := erlFlags(l.config.Cluster.Flags); l.set("tls.enabled") && proto != "" && strings.HasSuffix(proto, "_tls") != t.Enabled {
		return l.wrong("tls.enabled", "let both say the same", "contradicts -proto_dist %s of %s", proto, l.place("cluster.flags"))
	}
	if err := l.checkPair("tls", t.Cert, t.Key); err != nil {
		return err
	}
	if t.Cert.PEM != "" && t.CA.PEM == "" {
		return l.wrong("tls.ca", "give the authority that signed the services' certificates", "not set, though %s is", l.place("tls.cert"))
	}
	if t.CA.PEM != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(t.CA.PEM)) {
		return l.wrong("tls.ca", "give certificates in PEM", "holds no certificate")
	}
	return nil
}

func (l *loader) checkHTTPS() error {
	return l.checkPair("https", l.config.HTTPS.Cert, l.config.HTTPS.Key)
}

// checkPair checks a certificate and its key, of that section.
func (l *loader) checkPair(section string, cert, key Material) error {
	switch {
	case cert.PEM != "" && key.PEM == "":
		return l.wrong(section+".key", "give the private key of the certificate", "not set, though %s is", l.place(section+".cert"))
	case key.PEM != "" && cert.PEM == "":
		return l.wrong(section+".cert", "give the certificate of the key", "not set, though %s is", l.place(section+".key"))
	case cert.PEM == "":
		return nil
	}
	if _, err := tls.X509KeyPair([]byte(cert.PEM), []byte(key.PEM)); err != nil {
		return l.wrong(section+".cert", "give a certificate in PEM and its own key", "no usable pair with %s: %s", l.place(section+".key"), strings.TrimPrefix(err.Error(), "tls: "))
	}
	return nil
}

// checkTargets asks for the addresses that a role can't work without.
func (l *loader) checkTargets() error {
	c := &l.config
	for _, need := range []struct {
		key  string
		role Role
		have []string
	}{
		{"cluster.session", RoleSession, c.Cluster.Session},
		{"cluster.registry", RoleRegistry, c.Cluster.Registry},
		{"cluster.metrics", RoleMetrics, c.Cluster.Metrics},
	} {
		if len(need.have) > 0 || c.Runs(need.role) {
			continue
		}
		for _, user := range find(l.settings, need.key).Roles {
			if c.Runs(user) {
				return l.wrong(need.key, "give host:port of the "+string(need.role)+" service, or its gRPC target", "not set, and the role %s needs it", user)
			}
		}
	}
	return nil
}

func (l *loader) checkJWT() error {
	j := &l.config.Auth.JWT
	switch {
	case j.Enabled() && j.Audience == "":
		return l.wrong("auth.jwt.audience", "give the public URL of the MCP endpoint, which tokens must name", "not set, and without it tokens for other services would be believed")
	case !j.Enabled() && j.Audience != "":
		return l.wrong("auth.jwt.audience", "set auth.jwt.issuer too", "set, but nothing says which tokens to believe")
	case j.JWKSURL != "" && j.Issuer == "":
		return l.wrong("auth.jwt.issuer", "give the issuer that tokens name", "not set, though %s is", l.place("auth.jwt.jwks_url"))
	}
	if l.config.Env != Production {
		return nil
	}
	switch {
	case strings.HasPrefix(j.Issuer, "http://"):
		return l.wrong("auth.jwt.issuer", "use https://", "plain HTTP is refused in production")
	case strings.HasPrefix(j.JWKSURL, "http://"):
		return l.wrong("auth.jwt.jwks_url", "use https://", "plain HTTP is refused in production")
	}
	return nil
}
