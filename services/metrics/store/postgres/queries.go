package postgres

import _ "embed"

// Longer statements; what they do is said in the files.
var (
	//go:embed queries/add_batch.sql
	addBatch string
	//go:embed queries/add_usage.sql
	addUsage string
	//go:embed queries/set_tenants.sql
	setTenants string
	//go:embed queries/sum_usage.sql
	sumUsage string
	//go:embed queries/add_events.sql
	addEvents string
	//go:embed queries/list_events.sql
	listEvents string
	//go:embed queries/see_node.sql
	seeNode string
	//go:embed queries/list_nodes.sql
	listNodes string
)

var (
	//go:embed queries/add_session_events.sql
	addSessionEvents string
	//go:embed queries/list_session_events.sql
	listSessionEvents string
)
