package owners

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTheAlarmRingsAfterSilenceOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rung := make(chan struct{})
		a := newAlarm(3*time.Second, func() { close(rung) })
		defer a.stop()
		for range 5 {
			time.Sleep(2900 * time.Millisecond)
			a.again()
		}
		began := time.Now()
		<-rung
		if got := time.Since(began); got != 3300*time.Millisecond {
			t.Errorf("it rang after %v", got)
		}
	})
}

func TestTheAlarmDoesNotCountTimeInWhichItWasFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAlarm(3*time.Second, func() { t.Error("it rang") })
		defer a.stop()
		for _, asleep := range []time.Duration{time.Second, time.Minute} {
			a.mu.Lock()
			a.due = a.due.Add(-asleep) // as when the process went on that much too late
			a.mu.Unlock()
			time.Sleep(3200 * time.Millisecond)
			a.again() // what had come meanwhile was read
		}
	})
}
