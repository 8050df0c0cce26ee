package redis

import (
	_ "embed"
	"fmt"
	"strconv"

	"erlmcp.dev/shared/redisx"
)

// The sources. Each begins with its contract.
var (
	//go:embed lua/shared.lua
	sharedSource string

	//go:embed lua/create.lua
	createSource string
	//go:embed lua/save.lua
	saveSource string
	//go:embed lua/touch.lua
	touchSource string
	//go:embed lua/claim.lua
	claimSource string
	//go:embed lua/release.lua
	releaseSource string
	//go:embed lua/delete.lua
	deleteSource string

	//go:embed lua/append.lua
	appendSource string
	//go:embed lua/read.lua
	readSource string

	//go:embed lua/reserve.lua
	reserveSource string
	//go:embed lua/keep.lua
	keepSource string
	//go:embed lua/drop.lua
	dropSource string
	//go:embed lua/list.lua
	listSource string

	//go:embed lua/reserve_result.lua
	reserveResultSource string
	//go:embed lua/settle_result.lua
	settleResultSource string

	//go:embed lua/task_reserve.lua
	taskReserveSource string
	//go:embed lua/task_create.lua
	taskCreateSource string
	//go:embed lua/task_save.lua
	taskSaveSource string
	//go:embed lua/task_claim.lua
	taskClaimSource string

	//go:embed lua/join.lua
	joinSource string
	//go:embed lua/beat.lua
	beatSource string
	//go:embed lua/leave.lua
	leaveSource string
	//go:embed lua/nodes.lua
	nodesSource string
)

var (
	createScript  = redisx.NewScript("create", sharedSource, createSource)
	saveScript    = redisx.NewScript("save", sharedSource, saveSource)
	touchScript   = redisx.NewScript("touch", sharedSource, touchSource)
	claimScript   = redisx.NewScript("claim", sharedSource, claimSource)
	releaseScript = redisx.NewScript("release", sharedSource, releaseSource)
	deleteScript  = redisx.NewScript("delete", sharedSource, deleteSource)

	appendScript = redisx.NewScript("append", sharedSource, appendSource)
	readScript   = redisx.NewScript("read", sharedSource, readSource)

	reserveScript = redisx.NewScript("reserve", sharedSource, reserveSource)
	keepScript    = redisx.NewScript("keep", sharedSource, keepSource)
	dropScript    = redisx.NewScript("drop", sharedSource, dropSource)
	listScript    = redisx.NewScript("list", sharedSource, listSource)

	reserveResultScript = redisx.NewScript("reserve_result", sharedSource, reserveResultSource)
	settleResultScript  = redisx.NewScript("settle_result", sharedSource, settleResultSource)

	taskReserveScript = redisx.NewScript("task_reserve", sharedSource, taskReserveSource)
	taskCreateScript  = redisx.NewScript("task_create", sharedSource, taskCreateSource)
	taskSaveScript    = redisx.NewScript("task_save", sharedSource, taskSaveSource)
	taskClaimScript   = redisx.NewScript("task_claim", sharedSource, taskClaimSource)

	joinScript  = redisx.NewScript("join", sharedSource, joinSource)
	beatScript  = redisx.NewScript("beat", sharedSource, beatSource)
	leaveScript = redisx.NewScript("leave", sharedSource, leaveSource)
	nodesScript = redisx.NewScript("nodes", sharedSource, nodesSource)
)

// reply is a script's answer: a word, then what the script's contract says.
type reply []any

// asReply takes what a script gave.
func asReply(value any, err error) (reply, error) {
	if err != nil {
		return nil, err
	}
	list, ok := value.([]any)
	if !ok || len(list) == 0 {
		return nil, fmt.Errorf("a script in Redis replied %v: another release may have changed it", value)
	}
	return list, nil
}

func (r reply) word() string { return r.text(0) }

// text is an element as a string; empty where there is none.
func (r reply) text(i int) string {
	if i >= len(r) {
		return ""
	}
	switch element := r[i].(type) {
	case string:
		return element
	case int64:
		return strconv.FormatInt(element, 10)
	}
	return ""
}

func (r reply) number(i int) uint64 {
	n, _ := strconv.ParseUint(r.text(i), 10, 64)
	return n
}
