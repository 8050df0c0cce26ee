#!/usr/bin/env bash
# Asks a running erlmcp how it is.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source=deploy/scripts/lib.sh
. "$here/lib.sh"

usage() {
	cat <<'USAGE'
health-check.sh [--dry-run] [ENDPOINT [TIMEOUT]]

Asks ENDPOINT (http://localhost:9090/health) and the /metrics beside it, each within TIMEOUT seconds (5), and where
there is a container, ERLMCP_CONTAINER (erlmcp), its ping. Ends with 0 when all is well, or when it is degraded, which
it says in a line of its own that begins with "Warning:"; else with 1.
USAGE
}

words=()
for word in "$@"; do
	case $word in
	-h | --help) usage; exit 0 ;;
	--dry-run) dry=yes ;;
	-*) wrong "unknown option $word" ;;
	*) words+=("$word") ;;
	esac
done
[ "${#words[@]}" -le 2 ] || wrong "too many arguments"
endpoint=${words[0]:-http://localhost:9090/health}
timeout=${words[1]:-5}
container=${ERLMCP_CONTAINER:-erlmcp}

if [ -n "$dry" ]; then
	say "would ask $endpoint and ${endpoint%/health}/metrics, and ping the container $container"
	exit 0
fi
need curl

# The status of the whole decides, which comes first: those of dependencies follow, and "healthy" is a part of "unhealthy".
answer=$(curl --silent --show-error --fail-with-body --max-time "$timeout" "$endpoint" 2>&1) || fail "health check failed: $answer"
case $(printf %s "$answer" | tr -d ' \t\r\n' | sed -n 's/^{"status":"\([a-z]*\)".*/\1/p') in
healthy) say "Health check passed" ;;
degraded)
	say "Health check passed"
	say "Warning: degraded: $answer"
	;;
unhealthy) fail "health check failed: $answer" ;;
*) fail "health check failed: $endpoint is no erlmcp: $answer" ;;
esac

metrics=$(curl --silent --show-error --fail --max-time "$timeout" "${endpoint%/health}/metrics" 2>&1) || fail "metrics check failed: $metrics"
case $metrics in
*erlmcp_up*) say "Metrics endpoint accessible" ;;
*) fail "metrics check failed: erlmcp_up is not among the metrics" ;;
esac

if command -v docker > /dev/null && [ "$(docker inspect -f '{{.State.Running}}' "$container" 2> /dev/null)" = true ]; then
	docker exec "$container" /opt/erlmcp/bin/erlmcp ping > /dev/null || fail "the container $container does not answer ping"
	say "Distribution: Node responding"
else
	say "Distribution: no container $container here to ping"
fi
say "All health checks passed"
