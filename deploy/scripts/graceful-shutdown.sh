#!/usr/bin/env bash
# Stops one pod, or one container, so that its clients lose nothing.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source=deploy/scripts/lib.sh
. "$here/lib.sh"

usage() {
	cat <<'USAGE'
graceful-shutdown.sh [POD] [options]
graceful-shutdown.sh --container NAME [options]

Deletes POD (erlmcp-cluster-0), which its StatefulSet starts again, and waits until it has gone: it takes no new work,
its clients move, open requests get their drain time. The time that it gets is checked before: the pause before the
signal, the drain time and five seconds to close must fit into it.

  --namespace NAME   (erlmcp)
  --grace SECONDS    time that the pod gets (60)
  --container NAME   stop this container instead, with docker
  --dry-run          say what would be done
USAGE
}

pod='' namespace=erlmcp grace=60 container=''
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--dry-run) dry=yes ;;
	--namespace | --grace | --container)
		[ $# -gt 1 ] || wrong "$1 needs a value"
		case $1 in
		--namespace) namespace=$2 ;;
		--grace) grace=$2 ;;
		--container) container=$2 ;;
		esac
		shift
		;;
	-*) wrong "unknown option $1" ;;
	*) [ -z "$pod" ] || wrong "one pod at a time"; pod=$1 ;;
	esac
	shift
done
case $grace in '' | *[!0-9]*) wrong "--grace $grace is no number of seconds" ;; esac
pod=${pod:-erlmcp-cluster-0}
kubectl=${KUBECTL:-kubectl}

if [ -n "$container" ]; then
	run docker stop -t "$grace" "$container"
	[ -n "$dry" ] || say "Container stopped gracefully after $SECONDS s, exit code $(docker inspect -f '{{.State.ExitCode}}' "$container")"
	exit 0
fi

if [ -z "$dry" ]; then
	pause=$("$kubectl" --namespace "$namespace" get pod "$pod" -o jsonpath='{.spec.containers[0].lifecycle.preStop.exec.command[1]}')
	drain=$("$kubectl" --namespace "$namespace" get configmap erlmcp-config -o jsonpath='{.data.ERLMCP_DRAIN_TIME}' 2> /dev/null || true)
	drain=${drain%s}
	need=$((${pause:-0} + ${drain:-25} + 5))
	[ "$grace" -ge "$need" ] ||
		fail "$grace s are too few: the pause before the signal (${pause:-0} s), the drain (${drain:-25} s) and closing (5 s) need $need"
fi
run "$kubectl" --namespace "$namespace" delete pod "$pod" --grace-period="$grace" --wait --timeout="$((grace + 60))s"
say "Pod terminated gracefully (after $SECONDS s)"
