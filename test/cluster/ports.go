package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports below the range that the kernel gives to outgoing connections: a port that was free stays free while a
// program is down, so a killed process comes back on the address it had.
const (
	firstPort = 20000
	lastPort  = 29999
)

var ports struct {
	sync.Mutex
	next int // 0 until the first use
}

// FreePorts are n ports of 127.0.0.1 that nothing listens on and that no other call in this process was given.
// Other test binaries choose from the same range, at another place in it.
func FreePorts(n int) ([]int, error) {
	ports.Lock()
	defer ports.Unlock()
	const size = lastPort - firstPort + 1
	if ports.next == 0 {
		ports.next = firstPort + rand.IntN(size)
	}
	found := make([]int, 0, n)
	for range size {
		if len(found) == n {
			return found, nil
		}
		port := ports.next
		if ports.next++; ports.next > lastPort {
			ports.next = firstPort
		}
		listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = listener.Close()
		found = append(found, port)
	}
	return nil, fmt.Errorf("no %d free ports between %d and %d", n, firstPort, lastPort)
}
