# shellcheck shell=bash
# What the scripts here share. Sourced, never run.

dry='' where='' namespace='' url=''

say() { printf '%s\n' "$*"; }
fail() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}
wrong() {
	printf '%s: %s; see --help\n' "${0##*/}" "$*" >&2
	exit 2
}

# run COMMAND...: does it, or with --dry-run only says so.
run() {
	if [ -n "$dry" ]; then
		printf 'would run:'
		printf ' %q' "$@"
		printf '\n'
	else
		"$@"
	fi
}

# need PROGRAM...: fails when one is not installed.
need() {
	local program
	for program in "$@"; do
		command -v "$program" > /dev/null || fail "$program is needed and not installed"
	done
}

# seal DIRECTORY FILE [PASSPHRASE-FILE]: packs a directory with checksums of what is in it, encrypted where a
# passphrase is given, and checks the result. FILE appears only when it is whole.
seal() {
	local from=$1 to=$2 pass=${3:-}
	(cd "$from" && find . -type f -print0 | sort -z | xargs -0 sha256sum) > "$to.sums"
	mv "$to.sums" "$from/SHA256SUMS"
	if [ -n "$pass" ]; then
		tar -C "$from" -czf - . | openssl enc -aes-256-cbc -pbkdf2 -iter 200000 -salt -pass "file:$pass" -out "$to.part"
	else
		tar -C "$from" -czf "$to.part" .
	fi
	chmod 600 "$to.part"
	mv "$to.part" "$to"
	(cd "$(dirname "$to")" && sha256sum "$(basename "$to")" > "$(basename "$to").sha256")
	local check
	check=$(mktemp -d)
	unseal "$to" "$check" "$pass"
	rm -rf "$check"
}

# unseal FILE DIRECTORY [PASSPHRASE-FILE]: unpacks what seal packed, or fails with what is wrong with it.
unseal() {
	local from=$1 to=$2 pass=${3:-} sum
	[ -f "$from" ] || fail "refused: $from is not there"
	if [ -f "$from.sha256" ]; then
		sum=$(sha256sum "$from")
		[ "${sum%% *}" = "$(cut -d' ' -f1 "$from.sha256")" ] ||
			fail "refused: $from is damaged: its checksum is not the one in $from.sha256"
	fi
	if [ "$(head -c 8 "$from" | tr -d '\0')" = Salted__ ]; then
		[ -n "$pass" ] || fail "refused: $from is encrypted; give --passphrase-file"
		openssl enc -d -aes-256-cbc -pbkdf2 -iter 200000 -pass "file:$pass" -in "$from" -out "$to/.plain" 2> /dev/null ||
			fail "refused: $from can't be decrypted with $pass"
	else
		cp "$from" "$to/.plain"
	fi
	tar -C "$to" -xzf "$to/.plain" 2> /dev/null ||
		fail "refused: $from is damaged or not what was encrypted with this passphrase: it can't be unpacked"
	rm -f "$to/.plain"
	[ -s "$to/SHA256SUMS" ] || fail "refused: $from is no backup of erlmcp: it holds no checksums"
	(cd "$to" && sha256sum --quiet --check SHA256SUMS > .check 2>&1) ||
		fail "refused: $from is damaged inside: $(head -n 1 "$to/.check")"
	rm -f "$to/.check"
}

# forget DIRECTORY PATTERN DAYS: removes older backups, but for the newest.
forget() {
	local directory=$1 pattern=$2 days=$3 newest file
	newest=$(find "$directory" -maxdepth 1 -name "$pattern" ! -name '*.sha256' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)
	while IFS= read -r file; do
		[ "$file" != "$newest" ] || continue
		say "forget $file, older than $days days"
		run rm -f "$file" "$file.sha256"
	done < <(find "$directory" -maxdepth 1 -name "$pattern" ! -name '*.sha256' -mtime "+$days")
}

# portable: passes a list of objects, as kubectl writes YAML, on without what belongs to the cluster that it is from: what
# the server gave each object, owners, and objects that every namespace has of its own. With them another cluster, or a
# namespace made anew, refuses the objects.
portable() {
	LC_ALL=C awk '
		function flush() {
			if (!foreign) printf "%s", item
			item = ""
			foreign = 0
		}
		/^- / { flush(); items = 1 }
		/^[a-zA-Z]/ { flush(); items = 0 }
		!items { print; next }
		/^(- |  )[a-zA-Z]/ { section = substr($0, 3); sub(/:.*/, "", section); skip = 0 }
		section == "metadata" && /^    [a-zA-Z]/ { skip = /^    (uid|resourceVersion|creationTimestamp|generation|selfLink|managedFields|ownerReferences):/ }
		section == "metadata" && /^    name: kube-root-ca.crt$/ { foreign = 1 }
		section == "type" && /kubernetes.io\/service-account-token$/ { foreign = 1 }
		!skip { item = item $0 "\n" }
		END { flush() }'
}

# decoded TEXT: a part of a URL without its percent signs.
decoded() {
	local text=${1//\\/\\\\}
	printf '%b' "${text//%/\\x}"
}

# database: where Postgres is, from ERLMCP_DB_URL or ERLMCP_DB_* as erlmcp itself reads them, in the variables that
# Postgres' programs read, so that no password is on a command line.
database() {
	PGPASSWORD=${ERLMCP_DB_PASSWORD:-${PGPASSWORD:-}}
	[ -z "${ERLMCP_DB_PASSWORD_FILE:-}" ] || PGPASSWORD=$(cat "$ERLMCP_DB_PASSWORD_FILE")
	url=${ERLMCP_DB_URL:-}
	[ -z "${ERLMCP_DB_URL_FILE:-}" ] || url=$(cat "$ERLMCP_DB_URL_FILE")
	if [ -n "$url" ]; then
		local rest=${url#*://} authority credentials
		authority=${rest%%[/?#]*}
		credentials=${authority%@*}
		case $authority in
		*:*@*)
			PGPASSWORD=$(decoded "${credentials#*:}")
			url="${url%%://*}://${credentials%%:*}@${authority##*@}${rest#"$authority"}"
			;;
		esac
	else
		export PGHOST=${ERLMCP_DB_HOST:-localhost} PGPORT=${ERLMCP_DB_PORT:-5432} PGUSER=${ERLMCP_DB_USER:-erlmcp}
		[ -z "${ERLMCP_DB_SSLMODE:-}" ] || export PGSSLMODE=$ERLMCP_DB_SSLMODE
		url=${ERLMCP_DB_NAME:-erlmcp}
	fi
	export PGPASSWORD
}

# postgres PROGRAM ARGUMENTS...: runs one of Postgres' programs where --compose, --kubernetes or the environment says
# the database is. Uses: where, namespace, url.
postgres() {
	local program=$1
	shift
	case $where in
	compose)
		# shellcheck disable=SC2016 # the container's own variables
		docker compose exec -T postgres sh -c 'program=$1; shift; exec "$program" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" "$@"' sh "$program" "$@"
		;;
	kubernetes)
		# shellcheck disable=SC2016
		"${KUBECTL:-kubectl}" --namespace "$namespace" exec -i erlmcp-postgres-0 -- sh -c 'program=$1; shift; exec "$program" --host 127.0.0.1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" "$@"' sh "$program" "$@"
		;;
	*) "$program" --dbname "$url" "$@" ;;
	esac
}
