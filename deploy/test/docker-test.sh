#!/usr/bin/env bash
# Tests the image, the compose files and the Swarm stack on a real Docker engine.
set -euo pipefail

usage() {
	cat <<'USAGE'
docker-test.sh [image|compose|lane|swarm]...

Builds the image and tries what the deployment guide does with it; without arguments all of: docker run with and
without a cookie, commands inside, health checks, logs, read-only; compose up, scale to three, stop and kill under load,
rollback, backup and restore; one quality lane, that passes and that fails; Swarm init, deploy, update, rollback, remove.
Needs an engine on which the names erlmcp* are free, and for swarm one that is in no swarm. What was started is removed.

  ERLMCP_BUILD=no     test the images erlmcp:3.0.0 and erlmcp-balancer:3.0.0 that are there
  SWARM_OVERRIDE      deploy/test/swarm-one-node.yml where the kernel has no IPVS

Ends with 0 when all passed, 1 when something failed, 3 when there is no Docker engine.
USAGE
}
case ${1:-} in -h | --help) usage; exit 0 ;; esac

cd "$(dirname "$(readlink -f "$0")")/../.."
docker version > /dev/null 2>&1 || { echo "docker-test: NOT RUN: no Docker engine answers"; exit 3; }
work=$(mktemp -d)
export COMPOSE_PROJECT_NAME=erlmcp-test COMPOSE_PROGRESS=quiet

say() { printf '\n=== %s (%s s)\n' "$*" "$SECONDS"; }
die() {
	printf 'docker-test: FAILED: %s\n' "$*" >&2
	exit 1
}
until_ok() { # SECONDS COMMAND...
	local until=$((SECONDS + $1))
	shift
	until "$@" > /dev/null 2>&1; do
		[ "$SECONDS" -lt "$until" ] || die "in vain: $*"
		sleep 0.5
	done
}
finish() {
	local code=$?
	trap - EXIT
	set +e
	[ "$code" = 0 ] || docker ps -a
	docker rm --force erlmcp erlmcp-rolled-back erlmcp-desk erlmcp-load > /dev/null 2>&1
	docker compose --profile quality down --volumes > /dev/null 2>&1
	if [ -n "${in_swarm:-}" ]; then
		docker-swarm/deploy-swarm.sh remove --all > /dev/null 2>&1
		docker swarm leave --force > /dev/null 2>&1
	fi
	rm -rf "$work"
	exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

inside() { docker exec erlmcp "$@"; }
is_healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "${1:-erlmcp}")" = healthy ]; }

build() {
	[ "${ERLMCP_BUILD:-yes}" = yes ] || return 0
	say "build"
	docker build --build-arg BUILD_DATE="$(date -u +'%Y-%m-%dT%H:%M:%SZ')" --build-arg VCS_REF="$(git rev-parse --short HEAD)" \
		--build-arg VERSION=3.0.0 -t erlmcp:3.0.0 -f Dockerfile .
	docker build -t erlmcp-balancer:3.0.0 deploy/docker/balancer
}

# What the guide's page on troubleshooting looks at, in the container that runs.
look_inside() { # KEY
	say "look inside"
	docker inspect erlmcp --format='{{json .State.Health}}' | grep '"Status"' > /dev/null || die "no health to inspect"
	inside /opt/erlmcp/bin/erlmcp memory | grep erlmcp_memory_total > /dev/null || die "memory"
	inside netstat -tln | grep ':8080 ' > /dev/null || die "netstat"
	docker exec -e ERLMCP_API_KEY="$1" erlmcp /opt/erlmcp/bin/erlmcp nodes | grep erlmcp@ > /dev/null || die "nodes"
	docker exec -e ERLMCP_API_KEY="$1" erlmcp /opt/erlmcp/bin/erlmcp log-level debug || die "log-level debug"
	curl -sf -H "Authorization: Bearer $1" http://localhost:9090/debug/pprof/goroutine?debug=1 | grep '^goroutine profile' > /dev/null || die "goroutines"
	curl -sf -H "Authorization: Bearer $1" -o "$work/heap.pprof" http://localhost:9090/debug/pprof/heap || die "heap"
	[ "$(curl -s -o /dev/null -w '%{http_code}' http://localhost:9090/debug/pprof/heap)" = 401 ] || die "profiles are open"
	docker exec -e ERLMCP_API_KEY="$1" erlmcp /opt/erlmcp/bin/erlmcp log-level info || die "log-level info"
}
read_logs() {
	say "read the log"
	[ "$(docker logs --tail 1 erlmcp 2>&1 | wc -l)" = 1 ] || die "docker logs --tail"
	! docker logs erlmcp 2>&1 | grep -v '^{"time":"[^"]*","level":"[A-Z]*","msg":".*}$' || die "a line of the log that is none"
	docker logs erlmcp 2>&1 | grep '"level":"INFO"' > /dev/null || die "no level in the log"
	timeout 2 docker logs -f erlmcp > /dev/null 2>&1 || [ $? = 124 ] || die "docker logs -f"
}

test_image() {
	say "image"
	docker tag erlmcp:3.0.0 erlmcp:3.0.0-previous
	[ "$(docker inspect -f '{{.Config.User}}' erlmcp:3.0.0)" = 65532:65532 ] || die "the image does not say who runs it"
	[ "$(docker inspect -f '{{index .Config.Labels "org.opencontainers.image.version"}}' erlmcp:3.0.0)" = 3.0.0 ] || die "no version among the labels"

	say "docker run with a cookie"
	docker run -d --name erlmcp -p 8080:8080 -p 9100:9100 -p 9090:9090 -e ERLMCP_ENV=production \
		-e ERLANG_COOKIE="$(openssl rand -base64 48 | tr -d '\n')" erlmcp:3.0.0 > /dev/null
	until_ok 30 curl -sf http://localhost:9090/ready
	curl -sf http://localhost:9090/health | grep -q '"healthy"' || die "/health"
	curl -sf http://localhost:9100/metrics | grep -q '^erlmcp_up' || die "/metrics"
	[ "$(inside /opt/erlmcp/bin/erlmcp ping)" = pong ] || die "ping"
	[ "$(inside /opt/erlmcp/bin/erlmcp getpid)" = 1 ] || die "getpid"
	inside /opt/erlmcp/bin/erlmcp versions | grep -q 'erlmcp 3.0.0' || die "versions"
	inside /opt/erlmcp/bin/erlmcp status | grep -q node || die "status"
	inside /opt/erlmcp/bin/healthcheck.sh | grep -q pong || die "healthcheck.sh"
	inside env | grep -q ERLMCP_ENV=production || die "env"
	inside nc -zv localhost 8080 || die "nc"
	inside nslookup localhost > /dev/null || true # the engine's DNS need not know it; that the command is there counts
	inside tar cf /tmp/data.tar /var/lib/erlmcp 2> /dev/null || die "tar"
	inside sh -c 'test -d /opt/erlmcp/etc -a -d /opt/erlmcp/releases -a -d /opt/erlmcp/log -a -d /var/log/erlmcp -a -d /var/run/erlmcp' || die "directories"
	inside grep -q '"bomFormat": "CycloneDX"' /opt/erlmcp/releases/3.0.0/sbom.json || die "no bill of materials"
	# Nothing is open in production: the first start made a key.
	[ "$(curl -s -o /dev/null -w '%{http_code}' http://localhost:8080/api/v1/tools)" = 401 ] || die "the API is open"
	local key
	key=$(inside cat /var/lib/erlmcp/admin-key)
	curl -sf -H "Authorization: Bearer $key" http://localhost:8080/api/v1/tools > /dev/null || die "the first key"
	until_ok 60 is_healthy
	scripts/health-check.sh || die "health-check.sh"

	look_inside "$key"
	read_logs

	say "back up the embedded store, roll back, restore"
	curl -sf -H "Authorization: Bearer $key" http://localhost:8080/api/v1/servers -d '{"name":"saved","grpc":{"target":"127.0.0.1:1"}}' > /dev/null || die "register"
	scripts/backup-data.sh --container erlmcp --to "$work/backup" || die "backup-data.sh --container"
	scripts/restore-data.sh "$work"/backup/erlmcp-data-*.gz --data-dir "$work/data" --yes || die "restore-data.sh --data-dir"
	cmp "$work/data/admin-key" <(inside cat /var/lib/erlmcp/admin-key) || die "the key is not in the backup"
	! scripts/rollback.sh docker --to erlmcp:nowhere 2> /dev/null || die "rolled back to an image that is not there"
	scripts/rollback.sh docker || die "rollback.sh docker"
	[ "$(docker inspect -f '{{.Config.Image}}' erlmcp)" = erlmcp:3.0.0-previous ] || die "rollback.sh docker runs another image"
	curl -sf -H "Authorization: Bearer $key" http://localhost:8080/api/v1/servers | grep -q '"saved"' || die "the data did not come along"
	scripts/graceful-shutdown.sh --container erlmcp || die "graceful-shutdown.sh"
	[ "$(docker inspect -f '{{.State.ExitCode}}' erlmcp)" = 0 ] || die "it did not end in good order"
	docker rm erlmcp > /dev/null

	say "docker run without a cookie, read-only, without capabilities"
	docker run -d --name erlmcp --read-only --cap-drop ALL --security-opt no-new-privileges -p 8080:8080 -p 9100:9100 -p 9090:9090 \
		-e ERLMCP_ENV=production erlmcp:3.0.0 > /dev/null
	until_ok 30 curl -sf http://localhost:9090/ready
	docker logs erlmcp 2>&1 | grep -q 'First API key' || die "the first key is not shown"
	docker restart erlmcp > /dev/null
	until_ok 30 curl -sf http://localhost:9090/ready
	docker rm --force --volumes erlmcp > /dev/null
	! docker run --rm -e ERLANG_COOKIE=short erlmcp:3.0.0 > "$work/log" 2>&1 || die "a short cookie is taken"
	grep -q ERLANG_COOKIE "$work/log" || die "the refusal does not name the variable"
}

# A tool's server and clients that call it through the balancer; `failed` fails on the first call that did.
load_start() {
	local network=${COMPOSE_PROJECT_NAME}_erlmcp
	key=$(docker compose exec -T erlmcp cat /run/secrets/admin_key)
	docker run -d --name erlmcp-desk --network "$network" --network-alias desk -e ERLMCP_ENV=dev -e ERLMCP_LISTEN=0.0.0.0 -e ERLMCP_ANONYMOUS=true \
		-e ERLMCP_ALLOWED_HOSTS='*' -e ERLMCP_DATA_DIR=/tmp/erlmcp erlmcp:3.0.0 up --demo > /dev/null
	until_ok 30 docker exec erlmcp-desk wget -q -O /dev/null http://127.0.0.1:9090/ready
	curl -sf -H "Authorization: Bearer $key" http://localhost:8080/api/v1/servers -d '{"name":"desk","http":{"url":"http://desk:8081/mcp"}}' > /dev/null || die "register"
	until_ok 30 sh -c "curl -sf -H 'Authorization: Bearer $key' http://localhost:8080/api/v1/tools | grep -q desk_orders_GetProduct"
	docker run -d --name erlmcp-load --network "$network" -v "$PWD/deploy/test/load.sh:/load.sh:ro" --entrypoint sh erlmcp:3.0.0 \
		/load.sh http://balancer:8081/mcp "$key" desk_orders_GetProduct 4 > /dev/null
}
unfailed() {
	sleep 2
	! docker logs erlmcp-load 2>&1 | grep FAILED || die "calls failed while $1"
	echo "no call failed: $1"
}
load_stop() { # FAILED: how many calls may have failed
	docker exec erlmcp-load touch /tmp/stop
	docker wait erlmcp-load > /dev/null
	docker logs --tail 1 erlmcp-load
	docker logs --tail 1 erlmcp-load | grep -q " failed $1\$" || die "calls failed"
}
calls_made() { docker exec erlmcp-load sh -c 'cat /tmp/worker.*' | awk '{n += $1} END {print n + 0}'; }
more_calls_than() { [ "$(calls_made)" -gt "$1" ]; }
# Kills a container, and lets each of the load's four clients lose the one call that it may have had there.
kill_under_load() { # CONTAINER
	docker kill "$1" > /dev/null
	until_ok 60 more_calls_than $(($(calls_made) + 100))
	lost=$(docker logs erlmcp-load 2>&1 | grep -c FAILED || true)
	[ "$lost" -le 4 ] || die "$lost calls failed, and only four can have been where the kill was"
	echo "calls that a killed gateway took with it: $lost"
}
gateways() { docker compose ps --format '{{.Name}}' erlmcp; }
three_ready() {
	local name
	[ "$(gateways | wc -l)" = 3 ] || return 1
	for name in $(gateways); do docker exec "$name" wget -q -O /dev/null http://127.0.0.1:9090/ready || return 1; done
}

test_compose() {
	say "compose up, as it comes"
	docker compose up -d --no-build --pull never --wait --wait-timeout 180 || die "compose up"
	until_ok 30 curl -sf http://localhost:9090/ready
	load_start
	unfailed "up"
	say "scale to three"
	docker compose up -d --no-build --pull never --scale erlmcp=3 || die "scale"
	until_ok 60 three_ready
	unfailed "scaled to three"
	say "look at what runs"
	docker compose exec -T erlmcp env | grep ERLMCP_NODE_NAME > /dev/null || die "env"
	docker compose exec -T erlmcp nc -zv erlmcp-registry 9103 || die "nc to the registry"
	docker compose exec -T erlmcp nslookup erlmcp-registry > /dev/null || die "nslookup of the registry"
	docker compose exec -T erlmcp-registry nc -zv postgres 5432 || die "nc to Postgres"
	docker compose exec -T erlmcp-registry nslookup postgres > /dev/null || die "nslookup of Postgres"
	docker compose logs postgres | grep 'ready to accept connections' > /dev/null || die "the log of Postgres"
	docker compose logs --tail 50 erlmcp-session | grep '"level":"INFO"' > /dev/null || die "the log of a service"
	timeout 2 docker compose logs -f erlmcp > /dev/null || [ $? = 124 ] || die "docker compose logs -f"

	say "stop, restart and kill under load"
	docker stop "$(gateways | sed -n 1p)" > /dev/null
	unfailed "a gateway stopped"
	docker start "$COMPOSE_PROJECT_NAME-erlmcp-1" > /dev/null
	until_ok 60 three_ready
	docker compose restart erlmcp-registry erlmcp-metrics erlmcp-session > /dev/null || die "restart"
	unfailed "registry, metrics and session restarted"
	kill_under_load "$(gateways | sed -n 2p)"
	load_stop "$lost"
	until_ok 60 sh -c "for i in 1 2 3 4 5 6; do curl -sf -H 'Authorization: Bearer $key' http://localhost:8080/api/v1/tools || exit 1; done"

	say "roll back"
	docker tag erlmcp:3.0.0 erlmcp:3.0.0-previous
	scripts/rollback.sh compose || die "rollback.sh compose"
	[ "$(docker inspect -f '{{.Config.Image}}' "$(gateways | head -n 1)")" = erlmcp:3.0.0-previous ] || die "another image runs"

	say "back up, wipe, restore"
	scripts/backup-data.sh --compose --to "$work/compose" || die "backup-data.sh --compose"
	docker compose stop erlmcp-registry erlmcp-metrics > /dev/null
	docker compose exec -T postgres sh -c 'psql -qU $POSTGRES_USER $POSTGRES_DB -c "DROP SCHEMA public CASCADE; CREATE SCHEMA public"' || die "wipe"
	scripts/restore-data.sh "$work"/compose/erlmcp-data-*.gz --compose --yes || die "restore-data.sh --compose"
	docker compose start erlmcp-registry erlmcp-metrics > /dev/null
	until_ok 60 sh -c "curl -sf -H 'Authorization: Bearer $key' http://localhost:8080/api/v1/servers | grep -q '\"desk\"'"
	docker rm --force erlmcp-desk erlmcp-load > /dev/null
	docker compose down --volumes

	say "compose in production, with secrets from files"
	mkdir "$work/prod"
	cp compose/.env.prod.template "$work/prod/env"
	(umask 077 && openssl rand -base64 48 | tr -d '\n' > "$work/prod/cookie" && openssl rand -hex 32 > "$work/prod/jwt")
	cat >> "$work/prod/env" <<-ENV
		ERLANG_COOKIE_SOURCE=$work/prod/cookie
		JWT_SECRET_SOURCE=$work/prod/jwt
		COMPOSE_PROJECT_NAME=$COMPOSE_PROJECT_NAME
		ERLMCP_REPLICAS=2
		ERLMCP_CPU_RESERVATION=0.05
		ERLMCP_MEMORY_RESERVATION=64M
	ENV
	docker compose --env-file "$work/prod/env" up -d --no-build --pull never --wait --wait-timeout 240 || die "compose up in production"
	docker compose --env-file "$work/prod/env" up -d --no-build --pull never --scale erlmcp=3 || die "scale in production"
	until_ok 30 curl -sf http://localhost:9090/ready
	[ "$(docker compose exec -T erlmcp cat /var/run/secrets/erlang.cookie)" = "$(cat "$work/prod/cookie")" ] || die "the cookie is not the one of the file"
	docker compose --env-file "$work/prod/env" down --volumes
}

# The cheapest of the quality lanes: it does what it says, and ends as its gate does.
test_lane() {
	say "a quality lane"
	docker compose run --rm erlmcp-build make compile || die "the lane erlmcp-build"
	! docker compose run --rm erlmcp-build make compile LDFLAGS=--nonsense > "$work/lane" 2>&1 || die "a lane passes though its gate fails"
	grep -q 'not defined: -nonsense' "$work/lane" || { cat "$work/lane"; die "the lane failed for another reason"; }
	docker compose --profile quality down --volumes
}

test_swarm() {
	say "Swarm"
	[ "$(docker info -f '{{.Swarm.LocalNodeState}}')" = inactive ] || die "this engine is in a swarm already"
	export SWARM_ADVERTISE=127.0.0.1 SWARM_LISTEN=127.0.0.1:2377 SWARM_RESOLVE=never ERLMCP_PUBLISH=host
	export ERLMCP_PORT=0 ERLMCP_HTTP_PORT=0 ERLMCP_WS_PORT=0 ERLMCP_SSE_PORT=0 HEALTH_PORT=0 METRICS_PORT=0
	export ERLMCP_REPLICAS=3 ERLMCP_SESSION_REPLICAS=1 ERLMCP_CONTROL_REPLICAS=1 ERLMCP_MAX_PER_NODE=8
	export ERLMCP_CPU_RESERVATION=0.05 ERLMCP_MEMORY_RESERVATION=64M ERLMCP_UPDATE_DELAY=1s ERLMCP_UPDATE_MONITOR=5s ERLMCP_ROLLBACK_DELAY=1s
	export SWARM_OVERRIDE=${SWARM_OVERRIDE-deploy/test/swarm-one-node.yml}
	in_swarm=yes
	docker tag erlmcp:3.0.0 erlmcp:3.0.1
	docker-swarm/deploy-swarm.sh init || die "init"
	docker-swarm/deploy-swarm.sh init > /dev/null || die "a second init"
	docker-swarm/deploy-swarm.sh deploy --wait 180 || die "deploy"
	running() { [ "$(docker service inspect erlmcp_erlmcp -f '{{.Spec.TaskTemplate.ContainerSpec.Image}}')" = "$1" ]; }
	ERLMCP_IMAGE=erlmcp:3.0.1 docker-swarm/deploy-swarm.sh deploy --wait 300 || die "update"
	running erlmcp:3.0.1 || die "the update did not come"
	docker-swarm/deploy-swarm.sh rollback --wait 300 || die "rollback"
	running erlmcp:3.0.0 || die "the rollback did not come"
	docker service ps erlmcp_erlmcp > /dev/null || die "docker service ps"
	docker-swarm/deploy-swarm.sh status
	docker-swarm/deploy-swarm.sh remove --all || die "remove"
	docker swarm leave --force
	in_swarm=''
}

build
for what in "${@:-image compose lane swarm}"; do
	for one in $what; do
		case $one in
		image | compose | lane | swarm) "test_$one" ;;
		*) usage >&2; exit 2 ;;
		esac
	done
done
say "passed"
