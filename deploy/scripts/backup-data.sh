#!/usr/bin/env bash
# Saves the data of a deployment as of one moment: catalogue, API keys, audit trail and usage.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source=deploy/scripts/lib.sh
. "$here/lib.sh"

usage() {
	cat <<'USAGE'
backup-data.sh [options]

Saves into one file under BACKUP_DIR (/backup/erlmcp/data) the database as of one moment, while erlmcp goes on, with
checksums, and checks the result. Redis is not saved: it holds live state, which clients make anew (sessions of older
clients end with it). The database is

  by default           the Postgres of ERLMCP_DB_URL, or of ERLMCP_DB_HOST and the like, read as erlmcp does
  --compose            the one of the compose stack here
  --kubernetes         the chart's own (pod erlmcp-postgres-0)
  --container NAME     the embedded one of a container that runs `erlmcp up`
  --data-dir DIR       the embedded one of `erlmcp up` on this host

  --to DIRECTORY            instead of BACKUP_DIR
  --namespace NAME          of Kubernetes (erlmcp)
  --passphrase-file FILE    encrypt with the passphrase in FILE
  --keep DAYS               forget backups that are older (30)
  --upload COMMAND          run COMMAND FILE afterwards, for instance to copy it elsewhere
  --dry-run                 say what would be done
USAGE
}

directory=${BACKUP_DIR:-/backup/erlmcp/data} where=environment namespace=erlmcp pass='' keep=30 upload='' source=''
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--dry-run) dry=yes ;;
	--compose) where=compose ;;
	--kubernetes) where=kubernetes ;;
	--to | --namespace | --passphrase-file | --keep | --upload | --container | --data-dir)
		[ $# -gt 1 ] || wrong "$1 needs a value"
		case $1 in
		--to) directory=$2 ;;
		--namespace) namespace=$2 ;;
		--passphrase-file) pass=$2 ;;
		--keep) keep=$2 ;;
		--upload) upload=$2 ;;
		--container) where=container source=$2 ;;
		--data-dir) where=embedded source=$2 ;;
		esac
		shift
		;;
	*) wrong "unknown argument $1" ;;
	esac
	shift
done
case $keep in '' | *[!0-9]*) wrong "--keep $keep is no number of days" ;; esac
target=$directory/erlmcp-data-$(date -u +%Y%m%d-%H%M%S).tar.gz${pass:+.enc}
if [ -n "$dry" ]; then
	say "would save the database ($where${source:+ $source}) as $target, and forget backups older than $keep days"
	exit 0
fi
need tar sha256sum
[ -z "$pass" ] || { need openssl; [ -s "$pass" ] || fail "the passphrase file $pass is empty or not there"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
case $where in
container)
	# Through the data directory: a container whose root is read-only may write nowhere else.
	inside() { docker exec "$source" sh -c "$@"; }
	copy=/var/lib/erlmcp/.backup.db
	trap 'rm -rf "$work"; inside "rm -f $copy" > /dev/null 2>&1 || true' EXIT
	inside "rm -f $copy && /opt/erlmcp/bin/erlmcp backup $copy" > /dev/null
	inside "cat $copy" > "$work/erlmcp.db"
	for file in cluster-secret admin-key; do
		if inside "test -f /var/lib/erlmcp/$file"; then inside "cat /var/lib/erlmcp/$file" > "$work/$file"; fi
	done
	;;
embedded)
	[ -f "$source/erlmcp.db" ] || fail "$source holds no erlmcp.db"
	"${ERLMCP:-erlmcp}" backup --data-dir "$source" "$work/erlmcp.db" > /dev/null
	for file in cluster-secret admin-key; do [ ! -f "$source/$file" ] || cp -p "$source/$file" "$work/"; done
	;;
*)
	if [ "$where" = environment ]; then
		need pg_dump
		database
	fi
	# One snapshot of all tables; pg_dump takes it without holding anybody up.
	postgres pg_dump --format=custom --no-owner --no-privileges > "$work/database.dump"
	head -c 5 "$work/database.dump" | grep -q PGDMP || fail "pg_dump wrote no dump"
	;;
esac
printf 'made %s\nfrom %s\nby erlmcp %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$where" "${ERLMCP_VERSION:-3}" > "$work/README"
mkdir -p "$directory"
seal "$work" "$target" "$pass"
forget "$directory" 'erlmcp-data-*' "$keep"
say "saved $target ($(du -h "$target" | cut -f1)), and checked it"
if [ -n "$upload" ]; then
	"$upload" "$target" || fail "the backup is made, but $upload failed"
fi
