// Package chaos runs a whole cluster of real processes under load, kills, freezes and rolls each of them at random
// moments, and checks what clients were promised: no call that may not be repeated is carried out twice, none that
// may be fails, no event is lost or comes twice, and whatever is lost is reported as lost.
//
// It must not know how erlmcp keeps its promises. Start at TestChaos; the test's flags are -seed and -for.
package chaos
