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
  deploy     starts or updates the stack, and waits until its services run as they are told to; fails when Swarm rolls
             the update of one back, which it does by itself
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

# update FIELD SERVICE: of its last update, nothing when it was never updated.
update() { docker service inspect "$2" -f "{{with .UpdateStatus}}{{.$1}}{{end}}" 2> /dev/null || true; }

# current SERVICE: whether no task runs with another image or other settings than the service has. Just after a change
# there are as many tasks as there should be, all of them old, and no update goes on yet.
current() {
	local shape wanted tasks
	shape='{{.ContainerSpec.Image}} {{json .ContainerSpec.Args}} {{json .ContainerSpec.Env}} {{.ForceUpdate}}'
	shape+='{{with .Resources}}{{with .Limits}}{{with .NanoCPUs}} {{.}} CPU{{end}}{{with .MemoryBytes}} {{.}} bytes{{end}}{{end}}{{end}}'
	wanted=$(docker service inspect "$1" -f "{{with .Spec.TaskTemplate}}$shape{{end}}")
	# A task may be gone before it is looked at; then it is looked again.
	tasks=$(docker service ps --quiet --no-trunc --filter desired-state=running "$1" |
		xargs -r docker inspect --type task -f "{{with .Spec}}$shape{{end}}") || return 1
	[ -z "$tasks" ] || ! printf '%s\n' "$tasks" | grep -vxF -e "$wanted" > /dev/null
}

# settled: waits until every service has as many tasks as it should, all of them current, and no update goes on. Fails
# when one went back to what it was before the update that began after started[SERVICE].
declare -A started
settled() {
	local name line state why='' until=$((SECONDS + wait))
	for name in "${services[@]}" redis postgres; do
		name=${stack}_$name
		while :; do
			line=$(docker service ls --filter "name=$name" --format '{{.Name}} {{.Replicas}}' | awk -v name="$name" '$1 == name {print $2}')
			state=$(update State "$name")
			case $state in
			updating) ;;
			rollback_started) why=$(update Message "$name") ;;
			paused | rollback_paused) fail "$name: $(update Message "$name")" ;;
			*)
				if [ "$state" = rollback_completed ] && [ -n "${started[$name]+known}" ] && [ "$(update StartedAt "$name")" != "${started[$name]}" ]; then
					docker service ps --no-trunc --filter desired-state=shutdown "$name" --format '{{.Name}} {{.Image}}: {{.CurrentState}} {{.Error}}' | head -n 5 >&2 || true
					fail "$name was rolled back by Swarm and runs as before${why:+: $why}; look at docker service logs $name, and deploy again"
				fi
				if [ -n "$line" ] && [ "${line%/*}" = "${line#*/}" ] && current "$name"; then break; fi
				;;
			esac
			if [ "$SECONDS" -ge "$until" ]; then
				docker service ps --no-trunc "$name" | head -n 12 >&2 || true
				fail "$name has ${line:-no} tasks after $wait s${state:+, its update is $state}, or some are not current"
			fi
			sleep 1
		done
		say "$name $line${state:+ ($state)}"
	done
}

deploy() {
	local files=(-c "$root/docker-compose.yml" -c "$root/docker-compose.swarm.yml") name
	[ -z "$override" ] || files+=(-c "$override")
	[ -n "$dry" ] || manager || fail "this node is no manager; run init first"
	for name in "${secrets[@]}"; do
		[ -n "$dry" ] || docker secret inspect "$name" > /dev/null 2>&1 || fail "the secret $name is missing; run init first"
	done
	for name in "${services[@]}" redis postgres; do
		[ -n "$dry" ] || started[${stack}_$name]=$(update StartedAt "${stack}_$name")
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
	if [ -z "$dry" ] || [ "$action" = status ]; then need docker; fi
	"$action"
	;;
'') wrong "an action is needed" ;;
*) wrong "unknown action $action" ;;
esac
