package latency_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"erlmcp.dev/shared/latency"
)

func TestEveryDurationIsInTheBucketWhoseBoundsHoldIt(t *testing.T) {
	for bucket := range latency.Buckets - 1 {
		floor, next := latency.Floor(bucket), latency.Floor(bucket+1)
		if floor >= next {
			t.Fatalf("bucket %d is from %d to %d", bucket, floor, next)
		}
		for _, us := range []uint64{floor, next - 1} {
			if got := latency.Bucket(time.Duration(us) * time.Microsecond); got != bucket {
				t.Errorf("%d us are in bucket %d, not %d", us, got, bucket)
			}
		}
	}
	if latency.Bucket(-1) != 0 || latency.Bucket(math.MaxInt64) != latency.Buckets-1 {
		t.Error("the extremes have no bucket")
	}
}

func TestQuantilesOfASumAreNearTheTruth(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var counts [latency.Buckets]uint64
	var all []float64
	for range 20_000 {
		us := math.Exp(random.NormFloat64()*1.5 + 8)
		all = append(all, us)
		counts[latency.Bucket(time.Duration(us*1000))]++
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
		truth := all[max(int(q*float64(len(all))+0.5), 1)-1]
		if got := float64(latency.Quantile(&counts, q)); math.Abs(got-truth) > truth*0.126+1 {
			t.Errorf("quantile %v is %v, truly %v", q, got, truth)
		}
	}
	if n := latency.Quantile(new([latency.Buckets]uint64), 0.5); n != 0 {
		t.Errorf("%d of nothing", n)
	}
}
