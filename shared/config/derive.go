package config

import (
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// defaultDist is where gRPC ports are counted from.
const defaultDist = 9100

// derive works out what follows from other settings.
func (l *loader) derive() {
	c := &l.config
	c.Node = l.node()
	if !l.set("listen") {
		c.Listen = "0.0.0.0"
		if c.Env == Dev {
			c.Listen = "127.0.0.1"
		}
	}
	if !l.set("data_dir") {
		c.DataDir = l.stateDir()
	}
	if !l.set("lame_duck") && c.Env != Dev {
		c.LameDuck = 2 * time.Second
	}
	if !l.set("demo") {
		c.Demo = c.Env == Dev && len(c.Servers) == 0
	}
	if !l.set("auth.anonymous") {
		c.Auth.Anonymous = c.Env == Dev && c.Loopback()
	}
	if !l.set("auth.allowed_hosts") && c.Env != Dev && !c.AnonymousAdmin() {
		c.Auth.Hosts = []string{"*"}
	}
	l.derivePorts()
	l.deriveTLS()
	l.deriveTargets()
	l.deriveStores()
}

// node completes the name of this process. Files of variables are often written with ${HOSTNAME} in them, and not
// everything that reads them puts the name in.
func (l *loader) node() string {
	n := l.config.Node
	if n == "" {
		n = "erlmcp@"
	}
	for _, v := range []string{"${HOSTNAME}", "$HOSTNAME"} {
		n = strings.ReplaceAll(n, v, l.src.Hostname)
	}
	if strings.HasSuffix(n, "@") {
		n += l.src.Hostname
	}
	return n
}

func (l *loader) stateDir() string {
	if dir := l.env.values["XDG_STATE_HOME"]; filepath.IsAbs(dir) {
		return filepath.Join(dir, "erlmcp")
	}
	if home := l.env.values["HOME"]; filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "erlmcp")
	}
	return ".erlmcp"
}

func (l *loader) derivePorts() {
	p := &l.config.Ports
	if !l.set("ports.dist") {
		p.Dist = defaultDist
		if p.DistMin > 0 {
			p.Dist = p.DistMin
		}
	}
	if !l.set("ports.grpc") {
		p.GRPC = l.distPort(grpcOffset(l.config.Roles))
	}
}

// distPort is the gRPC port of the role with that offset.
func (l *loader) distPort(offset int) int {
	if l.config.Ports.Dist == 0 {
		return 0
	}
	return l.config.Ports.Dist + offset
}

func (l *loader) deriveTLS() {
	c := &l.config
	proto, ignored := erlFlags(c.Cluster.Flags)
	if !l.set("tls.enabled") {
		plainText := strings.HasSuffix(proto, "_tcp")
		c.TLS.Enabled = strings.HasSuffix(proto, "_tls") || (c.Env == Production && !c.Whole() && !plainText)
	}
	for _, flag := range ignored {
		c.Warnings = append(c.Warnings, l.place("cluster.flags")+": "+plain(flag)+" means nothing to erlmcp and is ignored")
	}
}

// deriveTargets finds the other roles on this host in dev, and this process for the others.
func (l *loader) deriveTargets() {
	c := &l.config
	for i, at := range []*[]string{nil, &c.Cluster.Session, &c.Cluster.Registry, &c.Cluster.Metrics} {
		if at == nil || len(*at) > 0 || c.Env != Dev || c.Runs(Roles()[i]) || c.Ports.Dist == 0 {
			continue
		}
		*at = []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(l.distPort(i+1)))}
	}
	if !l.set("cluster.advertise") {
		host := l.src.Hostname
		if a, err := netip.ParseAddr(c.Listen); err != nil || !a.IsUnspecified() {
			host = c.Listen
		}
		c.Cluster.Advertise = net.JoinHostPort(host, strconv.Itoa(c.Ports.GRPC))
	}
}

// deriveStores makes the complete URLs.
func (l *loader) deriveStores() {
	c := &l.config
	c.DB.Set = l.set("db.url") || l.set("db.host")
	if c.DB.URL == "" {
		u := url.URL{Scheme: "postgres", Host: net.JoinHostPort(c.DB.Host, strconv.Itoa(c.DB.Port)), Path: "/" + c.DB.Name}
		query := url.Values{"sslmode": {c.DB.SSLMode}}
		if strings.HasPrefix(c.DB.Host, "/") {
			// A directory of sockets has no place in a URL's host.
			u.Host = ""
			query.Set("host", c.DB.Host)
			query.Set("port", strconv.Itoa(c.DB.Port))
		}
		u.User = userinfo(c.DB.User, c.DB.Password)
		u.RawQuery = query.Encode()
		c.DB.URL = Secret(u.String())
	} else {
		c.DB.URL = withPassword(c.DB.URL, c.DB.Password)
	}

	r := &c.Redis
	r.Set = l.set("redis.url") || l.set("redis.host")
	if r.URL != "" {
		r.URL = withPassword(r.URL, r.Password)
		u, err := url.Parse(string(r.URL))
		if err != nil {
			return // check refuses it
		}
		r.Addrs = l.redisAddrs(u.Host)
		r.TLS = r.TLS || u.Scheme == "rediss"
		if u.User != nil {
			r.User = u.User.Username()
			if p, ok := u.User.Password(); ok {
				r.Password = Secret(p)
			}
		}
		r.DB, _ = strconv.Atoi(strings.Trim(u.Path, "/")) // check refuses what is no number
		return
	}
	r.Addrs = l.redisAddrs(r.Host)
	if r.Mode == RedisSingle && len(r.Addrs) == 1 {
		u := url.URL{Scheme: "redis", Host: r.Addrs[0], Path: "/0", User: userinfo(r.User, r.Password)}
		if r.TLS {
			u.Scheme = "rediss"
		}
		r.URL = Secret(u.String())
	}
}

func (l *loader) redisAddrs(hosts string) []string {
	addrs := split(hosts)
	for i, a := range addrs {
		if _, _, err := net.SplitHostPort(a); err != nil {
			addrs[i] = net.JoinHostPort(strings.Trim(a, "[]"), strconv.Itoa(l.config.Redis.Port))
		}
	}
	return addrs
}

func userinfo(user string, password Secret) *url.Userinfo {
	switch {
	case password != "":
		return url.UserPassword(user, string(password))
	case user != "":
		return url.User(user)
	}
	return nil
}

// withPassword puts a password into a URL that has none.
func withPassword(in, password Secret) Secret {
	u, err := url.Parse(string(in))
	if err != nil || password == "" {
		return in
	}
	if _, has := u.User.Password(); has {
		return in
	}
	u.User = url.UserPassword(u.User.Username(), string(password))
	return Secret(u.String())
}
