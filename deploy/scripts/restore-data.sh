#!/usr/bin/env bash
# Brings back what backup-data.sh saved.
set -euo pipefail
umask 077
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
# shellcheck source=deploy/scripts/lib.sh
. "$here/lib.sh"

usage() {
	cat <<'USAGE'
restore-data.sh FILE --yes [options]

Checks FILE, then makes the database what it was when FILE was made; what is there now is gone. A damaged file is
refused with what is wrong with it, and nothing is changed; a restore that fails changes nothing either. Stop registry
and metrics service before, and start them after: they read the restored tables. Processes of a newer release bring the
tables up to date when they start.

  by default           into the Postgres of ERLMCP_DB_URL, or of ERLMCP_DB_HOST and the like, read as erlmcp does
  --compose            into the one of the compose stack here
  --kubernetes         into the chart's own (pod erlmcp-postgres-0)
  --data-dir DIR       into an embedded one, while its erlmcp is stopped

  --namespace NAME          of Kubernetes (erlmcp)
  --passphrase-file FILE    for an encrypted backup
  --yes                     what is there now may go
  --dry-run                 check FILE, and say what would be done
USAGE
}

file='' where=environment namespace=erlmcp pass='' into='' yes=''
while [ $# -gt 0 ]; do
	case $1 in
	-h | --help) usage; exit 0 ;;
	--dry-run) dry=yes ;;
	--yes) yes=yes ;;
	--compose) where=compose ;;
	--kubernetes) where=kubernetes ;;
	--namespace | --passphrase-file | --data-dir)
		[ $# -gt 1 ] || wrong "$1 needs a value"
		case $1 in
		--namespace) namespace=$2 ;;
		--passphrase-file) pass=$2 ;;
		--data-dir) where=embedded into=$2 ;;
		esac
		shift
		;;
	-*) wrong "unknown option $1" ;;
	*) [ -z "$file" ] || wrong "one FILE at a time"; file=$1 ;;
	esac
	shift
done
[ -n "$file" ] || wrong "a FILE is needed"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unseal "$file" "$work" "$pass"
say "$file is whole: $(tr '\n' ',' < "$work/README" | sed 's/,$//; s/,/, /g')"
if [ "$where" = embedded ]; then
	[ -f "$work/erlmcp.db" ] || fail "refused: $file holds no embedded database; leave --data-dir out"
else
	[ -f "$work/database.dump" ] || fail "refused: $file holds an embedded database; give --data-dir"
fi
if [ -n "$dry" ]; then
	say "would replace the database ($where${into:+ $into})"
	exit 0
fi
[ -n "$yes" ] || fail "this replaces the database; give --yes if that is meant"

# What psql says when all is committed.
committed=erlmcp-restored

# restorer turns a dump on its input into SQL, with the pg_restore of where the database is.
restorer() {
	case $where in
	compose) docker compose exec -T postgres pg_restore --file=- --no-owner --no-privileges ;;
	kubernetes) "${KUBECTL:-kubectl}" --namespace "$namespace" exec -i erlmcp-postgres-0 -- pg_restore --file=- --no-owner --no-privileges ;;
	*) pg_restore --file=- --no-owner --no-privileges ;;
	esac
}

if [ "$where" = embedded ]; then
	mkdir -p "$into"
	rm -f "$into/erlmcp.db-wal" "$into/erlmcp.db-shm"
	for one in erlmcp.db cluster-secret admin-key; do
		[ ! -f "$work/$one" ] || cp -p "$work/$one" "$into/$one"
	done
else
	[ "$where" != environment ] || { need pg_restore psql; database; }
	# First the whole of it as SQL, here: of a dump that breaks off on its way nothing reaches the database.
	restorer < "$work/database.dump" > "$work/dump.sql" || fail "pg_restore failed; nothing was changed"
	case $(tail -n 20 "$work/dump.sql") in
	*'-- PostgreSQL database dump complete'*) ;;
	*) fail "what pg_restore wrote breaks off; nothing was changed" ;;
	esac
	# All or nothing: BEGIN and COMMIT are part of the text, since psql --single-transaction commits what it has when its
	# input breaks off. The public schema goes first, so that tables which the backup did not have go too.
	{
		printf 'BEGIN;\nDROP SCHEMA IF EXISTS public CASCADE;\nCREATE SCHEMA public;\n'
		LC_ALL=C awk '/^COPY .* FROM stdin;$/ { rows = 1 } /^\\\.$/ { rows = 0 }
			rows || !/^(CREATE SCHEMA public;|COMMENT ON SCHEMA public)/' "$work/dump.sql"
		printf 'COMMIT;\n\\echo %s\n' "$committed"
	} > "$work/restore.sql"
	postgres psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 < "$work/restore.sql" > "$work/said" ||
		fail "psql failed; nothing was changed, unless its connection broke at the very end"
	grep -qx "$committed" "$work/said" ||
		fail "psql did not get all of it; nothing was changed, unless its connection broke at the very end"
fi
say "restored; start erlmcp, and look at /ready"
