package postgres

import _ "embed"

// Longer statements; what they do is said in the files.
var (
	//go:embed queries/put_server.sql
	putServer string
	//go:embed queries/taken_name.sql
	takenName string
	//go:embed queries/drop_names.sql
	dropNames string
	//go:embed queries/claim_names.sql
	claimNames string
	//go:embed queries/note_removal.sql
	noteRemoval string
	//go:embed queries/publish.sql
	publish string
	//go:embed queries/hold_lease.sql
	holdLease string
)
