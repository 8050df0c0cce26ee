package redisx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Mode is the kind of installation.
type Mode string

const (
	// Single is one server. It is the mode where none is given.
	Single Mode = "single"
	// Sentinel is a server found, and replaced after its death, with the help of sentinels.
	Sentinel Mode = "sentinel"
	// Cluster is a Redis Cluster.
	Cluster Mode = "cluster"
)

// Settings say where Redis is. The zero value is redis://localhost:6379.
type Settings struct {
	// URL is redis://user:password@host:port/database, rediss:// for TLS. Several hosts are separated by commas:
	// a cluster's nodes, or the sentinels. The query may hold mode and master. What the URL says goes before
	// the fields below.
	URL  string
	Mode Mode
	// Addresses are host:port of the server, of some of the cluster's nodes, or of the sentinels.
	Addresses []string
	// Master is the name that the sentinels know the server by; "mymaster" when empty.
	Master             string
	Username, Password string
	// PasswordFile is read at each new connection, so that a password can change without a restart. It goes
	// before Password.
	PasswordFile                       string
	SentinelUsername, SentinelPassword string
	// Database is the number of the database; a cluster has only 0.
	Database int
	// TLS is used when set, or with a default when the URL is rediss://.
	TLS *tls.Config

	// DialTimeout bounds a new connection, Timeout one command; 2 s each when 0. A context's deadline bounds both.
	DialTimeout, Timeout time.Duration
	// PoolSize is the most connections to one server; ten for each CPU when 0.
	PoolSize int
}

// New makes a client. It does not connect: use [Ping] for that. The caller closes it.
func New(settings Settings) (redis.UniversalClient, error) {
	options, mode, err := settings.options()
	if err != nil {
		return nil, err
	}
	switch mode {
	case Single:
		return redis.NewClient(options.Simple()), nil
	case Sentinel:
		return redis.NewFailoverClient(options.Failover()), nil
	default:
		return redis.NewClusterClient(options.Cluster()), nil
	}
}

func (s Settings) options() (*redis.UniversalOptions, Mode, error) {
	if err := s.applyURL(); err != nil {
		return nil, "", err
	}
	switch s.Mode {
	case "":
		s.Mode = Single
	case Single, Sentinel, Cluster:
	default:
		return nil, "", fmt.Errorf("the Redis mode %q is none of single, sentinel and cluster", s.Mode)
	}
	switch {
	case len(s.Addresses) == 0 && s.Mode == Sentinel:
		s.Addresses = []string{"localhost:26379"}
	case len(s.Addresses) == 0:
		s.Addresses = []string{"localhost:6379"}
	case len(s.Addresses) > 1 && s.Mode == Single:
		return nil, "", fmt.Errorf("the Redis mode is single and there are %d addresses: set the mode to cluster or sentinel", len(s.Addresses))
	}
	if s.Mode == Cluster && s.Database != 0 {
		return nil, "", errors.New("a Redis Cluster has only database 0")
	}
	options := &redis.UniversalOptions{
		Addrs:            s.Addresses,
		Username:         s.Username,
		Password:         s.Password,
		SentinelUsername: s.SentinelUsername,
		SentinelPassword: s.SentinelPassword,
		DB:               s.Database,
		TLSConfig:        s.TLS,
		PoolSize:         s.PoolSize,
		DialTimeout:      orDefault(s.DialTimeout, 2*time.Second),
		ReadTimeout:      orDefault(s.Timeout, 2*time.Second),
		WriteTimeout:     orDefault(s.Timeout, 2*time.Second),
		// A caller's deadline must end a call to a frozen server.
		ContextTimeoutEnabled: true,
		// While Redis is down a call should soon say so: retrying is done once, above the dialler.
		DialerRetries: 1,
		MaxRetries:    2,
		// Only Redis Enterprise sends these.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		// Pipelines use the connections that there are.
		PipelinePoolSize: -1,
	}
	if s.Mode == Sentinel {
		options.MasterName = s.Master
		if options.MasterName == "" {
			options.MasterName = "mymaster"
		}
	}
	if s.PasswordFile != "" {
		options.CredentialsProviderContext = passwordFile(s.Username, s.PasswordFile)
		// A wrong path should stop the start, not each connection.
		if _, _, err := options.CredentialsProviderContext(context.Background()); err != nil {
			return nil, "", err
		}
	}
	return options, s.Mode, nil
}

func orDefault(given, otherwise time.Duration) time.Duration {
	if given == 0 {
		return otherwise
	}
	return given
}

func passwordFile(username, path string) func(context.Context) (string, string, error) {
	return func(context.Context) (string, string, error) {
		password, err := os.ReadFile(path)
		if err != nil {
			return "", "", fmt.Errorf("read the Redis password: %w", err)
		}
		return username, strings.TrimRight(string(password), "\r\n"), nil
	}
}

// applyURL puts what the URL says into the other fields. Its errors never show the URL, which may hold a
// password.
func (s *Settings) applyURL() error {
	if s.URL == "" {
		return nil
	}
	// net/url takes one host only, so the list of hosts is cut out before.
	scheme, rest, found := strings.Cut(s.URL, "://")
	if !found || scheme != "redis" && scheme != "rediss" {
		return errors.New("the Redis URL is malformed: it must begin with redis:// or rediss://")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	hosts := authority[strings.LastIndexByte(authority, '@')+1:]
	parsed, err := url.Parse(scheme + "://" + strings.TrimSuffix(authority, hosts) + "host" + tail)
	if err != nil {
		return errors.New("the Redis URL is malformed: percent-encode special characters of user and password")
	}
	if scheme == "rediss" && s.TLS == nil {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if hosts != "" {
		if s.Addresses, err = addresses(hosts, parsed.Query().Get("mode") == string(Sentinel) || s.Mode == Sentinel); err != nil {
			return err
		}
	}
	if name := parsed.User.Username(); name != "" {
		s.Username = name
	}
	if password, set := parsed.User.Password(); set {
		s.Password, s.PasswordFile = password, ""
	}
	if database := strings.Trim(parsed.Path, "/"); database != "" {
		if s.Database, err = strconv.Atoi(database); err != nil || s.Database < 0 {
			return errors.New("the Redis URL is malformed: its path must be the number of a database")
		}
	}
	return s.applyQuery(parsed.Query())
}

func (s *Settings) applyQuery(query url.Values) error {
	for key := range query {
		switch key {
		case "mode":
			s.Mode = Mode(query.Get(key))
		case "master":
			s.Master = query.Get(key)
		default:
			return fmt.Errorf("the Redis URL has an unknown parameter %q: mode and master are known", key)
		}
	}
	return nil
}

// addresses splits a list of hosts and adds the usual port where one has none.
func addresses(hosts string, sentinel bool) ([]string, error) {
	port := ":6379"
	if sentinel {
		port = ":26379"
	}
	var list []string
	for host := range strings.SplitSeq(hosts, ",") {
		name, number, hasPort := cutPort(host)
		if name == "" {
			return nil, errors.New("the Redis URL is malformed: a host is empty")
		}
		if !hasPort {
			host += port
		} else if n, err := strconv.Atoi(number); err != nil || n < 1 || n > 65535 {
			return nil, errors.New("the Redis URL is malformed: a port is no number from 1 to 65535")
		}
		list = append(list, host)
	}
	return list, nil
}

// cutPort splits host:port, also where the host is an IPv6 address in brackets.
func cutPort(host string) (name, port string, found bool) {
	colon := strings.LastIndexByte(host, ':')
	if colon < 0 || colon < strings.LastIndexByte(host, ']') {
		return host, "", false
	}
	return host[:colon], host[colon+1:], true
}
