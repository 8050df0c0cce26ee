package rpc

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// parseTarget makes a target of gRPC's, and what it takes to resolve it, of what Dial takes.
func parseTarget(target string) (string, []grpc.DialOption, error) {
	if strings.TrimSpace(target) == "" {
		return "", nil, errors.New("the address is empty; give host:port")
	}
	if !strings.Contains(target, ",") {
		if _, ok := hostOf(target); ok {
			return "passthrough:///" + target, nil, nil
		}
		return target, []grpc.DialOption{grpc.WithResolvers(newNames())}, nil
	}
	var state resolver.State
	for address := range strings.SplitSeq(target, ",") {
		address = strings.TrimPrefix(strings.TrimSpace(address), "dns:///")
		host, ok := hostOf(address)
		if !ok {
			return "", nil, fmt.Errorf("%q is no address; in a list each one must be host:port", address)
		}
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address, ServerName: host})
	}
	addresses := manual.NewBuilderWithScheme("erlmcp-list")
	addresses.InitialState(state)
	return addresses.Scheme() + ":///services", []grpc.DialOption{grpc.WithResolvers(addresses)}, nil
}

// hostOf returns the host of a host:port.
func hostOf(address string) (string, bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return "", false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return host, err == nil
}
