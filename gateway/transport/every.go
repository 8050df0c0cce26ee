package transport

import (
	"sync"
	"time"
)

// Every calls f over and over, each time once a while has gone by, until it is false. In between it takes a timer, and no
// goroutine. stop waits for a call under way, and after it there is none.
func Every(while time.Duration, f func() bool) (stop func()) {
	var mu sync.Mutex // held during a call
	var timer *time.Timer
	stopped := false
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(while, func() {
		mu.Lock()
		defer mu.Unlock()
		if !stopped && f() {
			timer.Reset(while)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		timer.Stop()
	}
}
