#!/usr/bin/env bash
# Goes back to the release before.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source=deploy/scripts/lib.sh
. "$here/lib.sh"

usage() {
	cat <<'USAGE'
rollback.sh docker|compose|swarm|kubernetes|helm [ENVIRONMENT] [options]

  docker       replaces the container erlmcp by one of the image --to, with its ports, variables and volumes; puts it
               back when the other does not become healthy
  compose      starts the services with the image --to; ENVIRONMENT production (the default) reads .env.prod where
               there is one
  swarm        rolls erlmcp_erlmcp back to the specification before; --all: the other three services too
  kubernetes   undoes the last rollout of erlmcp-cluster, or goes to revision --to; --all: the other three too
  helm         rolls the release erlmcp back by one revision, or to revision --to

  --to IMAGE|REVISION   where to (docker and compose: ERLMCP_PREVIOUS_IMAGE, else erlmcp:3.0.0-previous)
  --namespace NAME      of Kubernetes and Helm (erlmcp)
  --all                 see above
  --dry-run             say what would be done
USAGE
}

words=() to='' namespace=erlmcp all=''
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--dry-run) dry=yes ;;
	--all) all=yes ;;
	--to | --namespace)
		[ $# -gt 1 ] || wrong "$1 needs a value"
		if [ "$1" = --to ]; then to=$2; else namespace=$2; fi
		shift
		;;
	-*) wrong "unknown option $1" ;;
	*) words+=("$1") ;;
	esac
	shift
done
[ "${#words[@]}" -le 2 ] || wrong "too many arguments"
kind=${words[0]:-docker} environment=${words[1]:-production}
kubectl=${KUBECTL:-kubectl} helm=${HELM:-helm}
previous=${to:-${ERLMCP_PREVIOUS_IMAGE:-erlmcp:3.0.0-previous}}

# with_image fails before anything is touched when there is nothing to go back to.
with_image() {
	[ -n "$dry" ] || docker image inspect "$previous" > /dev/null 2>&1 ||
		fail "there is no image $previous here; give --to, or pull it"
}

healthy() { # CONTAINER: waits for its health check
	local state
	for _ in $(seq 1 90); do
		state=$(docker inspect -f '{{if .State.Running}}{{if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}}{{else}}exited{{end}}' "$1" 2> /dev/null)
		case $state in
		healthy) return 0 ;;
		exited | unhealthy) return 1 ;;
		esac
		sleep 1
	done
	return 1
}

rollback_docker() {
	local name=${ERLMCP_CONTAINER:-erlmcp} variables arguments=() line
	with_image
	if [ -n "$dry" ]; then
		say "would stop the container $name, start $previous in its place, and put it back unless that becomes healthy"
		return
	fi
	docker inspect "$name" > /dev/null 2>&1 || fail "there is no container $name"
	variables=$(mktemp)
	# shellcheck disable=SC2064
	trap "rm -f '$variables'" EXIT
	docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' "$name" | grep -v -e '^PATH=' -e '^$' > "$variables"
	while IFS= read -r line; do
		[ -z "$line" ] || arguments+=(--publish "$line")
	done < <(docker inspect -f '{{range $port, $hosts := .HostConfig.PortBindings}}{{range $hosts}}{{if .HostIp}}{{.HostIp}}:{{end}}{{.HostPort}}:{{$port}}{{println}}{{end}}{{end}}' "$name")
	arguments+=(--network "$(docker inspect -f '{{.HostConfig.NetworkMode}}' "$name")")
	docker stop -t 45 "$name" > /dev/null
	docker rename "$name" "$name-rolled-back"
	# With the volumes of the one before: its data goes on.
	if docker run --detach --name "$name" --env-file "$variables" --volumes-from "$name-rolled-back" "${arguments[@]}" "$previous" > /dev/null && healthy "$name"; then
		docker rm "$name-rolled-back" > /dev/null
		return
	fi
	docker logs --tail 20 "$name" >&2 || true
	docker rm --force "$name" > /dev/null 2>&1 || true
	docker rename "$name-rolled-back" "$name"
	docker start "$name" > /dev/null
	fail "$previous did not become healthy; the container $name is back as it was"
}

rollback_compose() {
	local options=()
	with_image
	if [ "$environment" = production ] && [ -f .env.prod ]; then options+=(--env-file .env.prod); fi
	run env ERLMCP_IMAGE="$previous" docker compose "${options[@]}" up --detach --no-build --wait --wait-timeout 300
	say "write ERLMCP_IMAGE=$previous into the environment file too, or the next start goes forward again"
}

rollback_swarm() {
	local services=(erlmcp_erlmcp) service
	[ -z "$all" ] || services+=(erlmcp_erlmcp-session erlmcp_erlmcp-registry erlmcp_erlmcp-metrics)
	for service in "${services[@]}"; do
		run docker service rollback "$service"
	done
}

rollback_kubernetes() {
	local sets=(erlmcp-cluster) set
	[ -z "$all" ] || sets+=(erlmcp-session erlmcp-registry erlmcp-metrics)
	for set in "${sets[@]}"; do
		run "$kubectl" --namespace "$namespace" rollout undo "statefulset/$set" ${to:+--to-revision="$to"}
	done
	for set in "${sets[@]}"; do
		run "$kubectl" --namespace "$namespace" rollout status "statefulset/$set" --timeout=600s
	done
}

rollback_helm() {
	run "$helm" rollback erlmcp ${to:+"$to"} --namespace "$namespace" --wait --timeout 10m
}

case $kind in
docker | compose | swarm | kubernetes | helm)
	say "Initiating rollback for $kind in $environment"
	"rollback_$kind"
	;;
*) wrong "unknown deployment type $kind" ;;
esac
say "Rollback completed. Verify health:"
say "  curl http://localhost:9090/health"
