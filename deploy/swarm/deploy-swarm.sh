#!/usr/bin/env bash
# Runs erlmcp as a stack on a Docker Swarm.
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
# shellcheck source=deploy/scripts/lib.sh
. "$root/deploy/scripts/lib.sh"

usage() {
	cat <<'USAGE'
deploy-swarm.sh init|deploy|status|rollback|remove [options]

  init       makes this node a manager unless it is one, the network erlmcp-overlay, and the secrets that are not there
             yet: erlmcp-erlang-cookie, -db-password and -jwt-secret at random, -tls-cert and -tls-key from
             TLS_CERT and TLS_KEY (paths), else of a certificate that it issues to itself
  deploy     starts or updates the stack, and waits until its services run
  status     shows services and tasks
  rollback   brings the services back to what they were before their last update, and waits
  remove     takes the stack away, and waits until it has gone; --all takes network and secrets too. Volumes stay.

  --override FILE      one more compose file for deploy (SWARM_OVERRIDE)
  --resolve MODE       how images are looked up: always, changed or never (SWARM_RESOLVE, always)
  --advertise ADDRESS  this node's address, for init (SWARM_ADVERTISE, the first of hostname -I)
  --listen ADDRESS     where to listen for other nodes, for init (SWARM_LISTEN, 0.0.0.0:2377)
  --wait SECONDS       longest wait (600)
  --all                see above
  --dry-run            say what would be done

The stack is named erlmcp; STACK names another. Settings come from the environment: ERLMCP_IMAGE, ERLMCP_REPLICAS, ...
USAGE
}

action='' override=${SWARM_OVERRIDE:-} resolve=${SWARM_RESOLVE:-always} advertise=${SWARM_ADVERTISE:-}
listen=${SWARM_LISTEN:-0.0.0.0:2377} wait=600 all='' stack=${STACK:-erlmcp}
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--dry-run) dry=yes ;;
	--all) all=yes ;;
	--override | --resolve | --advertise | --listen | --wait)
		[ $# -gt 1 ] || wrong "$1 needs a value"
		case $1 in
		--override) override=$2 ;;
		--resolve) resolve=$2 ;;
		--advertise) advertise=$2 ;;
		--listen) listen=$2 ;;
		--wait) wait=$2 ;;
		esac
		shift
		;;
	-*) wrong "unknown option $1" ;;
	*) [ -z "$action" ] || wrong "one action at a time"; action=$1 ;;
	esac
	shift
done
services=(erlmcp erlmcp-session erlmcp-registry erlmcp-metrics)
secrets=(erlmcp-erlang-cookie erlmcp-db-password erlmcp-jwt-secret erlmcp-tls-cert erlmcp-tls-key)

manager() { [ "$(docker info -f '{{.Swarm.ControlAvailable}}' 2> /dev/null)" = true ]; }

# secret NAME: keeps its input under that name, unless the name is taken.
secret() {
	if docker secret inspect "$1" > /dev/null 2>&1; then
		say "secret $1 is there"
		cat > /dev/null
	elif [ -n "$dry" ]; then
		say "would make the secret $1"
		cat > /dev/null
	else
		docker secret create "$1" - > /dev/null
		say "secret $1 made"
	fi
}

init() {
	need openssl
	if manager; then
		say "this node is a manager"
	else
		[ -n "$advertise" ] || advertise=$(hostname -I | awk '{print $1}')
		run docker swarm init --advertise-addr "$advertise" --listen-addr "$listen"
	fi
	if docker network inspect erlmcp-overlay > /dev/null 2>&1; then
		say "network erlmcp-overlay is there"
	else
		run docker network create --driver overlay --attachable --subnet 172.28.0.0/16 erlmcp-overlay
	fi
	openssl rand -base64 48 | tr -d '\n' | secret erlmcp-erlang-cookie
	openssl rand -hex 24 | tr -d '\n' | secret erlmcp-db-password
	openssl rand -hex 32 | tr -d '\n' | secret erlmcp-jwt-secret
	local pair
	pair=$(mktemp -d)
	# shellcheck disable=SC2064
	trap "rm -rf '$pair'" EXIT
	if [ -n "${TLS_CERT:-}" ] && [ -n "${TLS_KEY:-}" ]; then
		cp "$TLS_CERT" "$pair/cert"
		cp "$TLS_KEY" "$pair/key"
	else
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=erlmcp \
			-addext subjectAltName=DNS:erlmcp,DNS:localhost -keyout "$pair/key" -out "$pair/cert" 2> /dev/null
	fi
	secret erlmcp-tls-cert < "$pair/cert"
	secret erlmcp-tls-key < "$pair/key"
	# Redis and Postgres keep their data on one node: this one, unless another is labelled already.
	if [ -z "$dry" ] && ! docker node ls -q | xargs docker node inspect -f '{{index .Spec.Labels "erlmcp.data"}}' | grep -qx true; then
		docker node update --label-add erlmcp.data=true "$(docker info -f '{{.Swarm.NodeID}}')" > /dev/null
		say "this node keeps the data of Redis and Postgres"
	fi
}

# settled: waits until every service has as many tasks as it should, and no update goes on.
settled() {
	local name line update until=$((SECONDS + wait))
	for name in "${services[@]}" redis postgres; do
		while :; do
			line=$(docker service ls --filter "name=${stack}_$name" --format '{{.Name}} {{.Replicas}}' | awk -v name="${stack}_$name" '$1 == name {print $2}')
			update=$(docker service inspect "${stack}_$name" -f '{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}' 2> /dev/null || true)
			case $update in
			updating | rollback_started) ;;
			paused | rollback_paused) fail "${stack}_$name: $(docker service inspect "${stack}_$name" -f '{{.UpdateStatus.Message}}')" ;;
			*) [ -z "$line" ] || [ "${line%/*}" != "${line#*/}" ] || break ;;
			esac
			if [ "$SECONDS" -ge "$until" ]; then
				docker service ps --no-trunc "${stack}_$name" | head -n 12 >&2 || true
				fail "${stack}_$name has ${line:-no} tasks after $wait s${update:+, its update is $update}"
			fi
			sleep 1
		done
		say "${stack}_$name $line${update:+ ($update)}"
	done
}

deploy() {
	local files=(-c "$root/docker-compose.yml" -c "$root/docker-compose.swarm.yml") name
	[ -z "$override" ] || files+=(-c "$override")
	[ -n "$dry" ] || manager || fail "this node is no manager; run init first"
	for name in "${secrets[@]}"; do
		[ -n "$dry" ] || docker secret inspect "$name" > /dev/null 2>&1 || fail "the secret $name is missing; run init first"
	done
	run docker stack deploy "${files[@]}" --resolve-image="$resolve" "$stack"
	[ -n "$dry" ] || settled
}

status() {
	docker stack services "$stack"
	docker stack ps "$stack" --filter desired-state=running
}

rollback() {
	local name
	for name in "${services[@]}"; do
		if [ -z "$dry" ] && [ "$(docker service inspect "${stack}_$name" -f '{{if .PreviousSpec}}yes{{end}}')" != yes ]; then
			say "${stack}_$name was never updated"
			continue
		fi
		run docker service rollback --detach "${stack}_$name"
	done
	[ -n "$dry" ] || settled
}

remove() {
	local until=$((SECONDS + wait)) name
	run docker stack rm "$stack"
	[ -z "$dry" ] || return 0
	# The stack is gone from the list before its containers are.
	while [ -n "$(docker ps -aq --filter "label=com.docker.stack.namespace=$stack")$(docker network ls -q --filter "label=com.docker.stack.namespace=$stack")" ]; do
		[ "$SECONDS" -lt "$until" ] || fail "containers or networks of the stack are there after $wait s"
		sleep 1
	done
	if [ -n "$all" ]; then
		docker network rm erlmcp-overlay > /dev/null 2>&1 || true
		for name in "${secrets[@]}"; do docker secret rm "$name" > /dev/null 2>&1 || true; done
	fi
	say "the stack $stack is gone"
}

case $action in
init | deploy | status | rollback | remove)
	need docker
	"$action"
	;;
'') wrong "an action is needed" ;;
*) wrong "unknown action $action" ;;
esac
