// Package telemetry makes what a process says about itself: its log and its Prometheus series. It must not know
// sessions, catalogues or clients; whoever owns those reports here. Start at [NewLog] and [NewMetrics].
package telemetry
