package cli

import "github.com/spf13/cobra"

// watchdogCommand is for processes that run programs, not for people.
func watchdogCommand(s *System) *cobra.Command {
	return &cobra.Command{
		Use: "watchdog MARK", Hidden: true, Short: "End the programs of the erlmcp process that started this, once that is gone",
		Args: takes(1, 1, "a MARK"), RunE: func(_ *cobra.Command, args []string) error { return s.WatchPrograms(s.In, args[0]) },
	}
}
