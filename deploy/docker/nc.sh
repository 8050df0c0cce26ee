#!/bin/sh
# nc with -z and -v, which BusyBox's lacks: nc -zv postgres 5432 tells whether the port opens. Everything else is
# BusyBox's nc.
scan=
for word in "$@"; do
  case $word in
    -[vz]*z* | -z*) scan=yes ;;
  esac
done
[ -n "$scan" ] || exec /bin/busybox nc "$@"
wait=3
while [ $# -gt 2 ]; do
  case $1 in
    -w) wait=$2; shift ;;
    -w*) wait=${1#-w} ;;
  esac
  shift
done
if /bin/busybox nc -w "$wait" "$1" "$2" < /dev/null > /dev/null 2>&1; then
  echo "$1 $2 open"
else
  echo "$1 $2: no connection within $wait s" >&2
  exit 1
fi
