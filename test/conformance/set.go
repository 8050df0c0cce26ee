package conformance

// Set is one run of the suite: all scenarios of a revision, or those that the revision requires, frozen at its
// release.
type Set struct {
	Name string
	args []string
}

// Sets are all runs of the suite, oldest revision first.
func Sets() []Set {
	var sets []Set
	for _, version := range []string{"2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"} {
		sets = append(sets, Set{"all " + version, []string{"--suite", "all", "--spec-version", version}})
	}
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		sets = append(sets, Set{"required " + version, []string{"--requirements", version}})
	}
	return sets
}
