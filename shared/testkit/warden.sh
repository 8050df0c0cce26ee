# shellcheck shell=sh
# Stands between a test and its server, so that the server never outlives the test.
#
# usage: sh -c "$script" warden SIGNAL DIR command...
#   stdin  the test's end of a pipe. A line names the signal to end the server with, and the data stay. The end
#          of the input means that the test's process is gone: SIGNAL is sent, and DIR removed unless empty.
#   fd 3   gets the server's process id.
abandon=$1 dir=$2
shift 2
"$@" </dev/null 3>&- &
server=$!
echo "$server" >&3
exec 3>&-
read -r signal
kill -"${signal:-$abandon}" "$server"
kill -CONT "$server"
wait "$server"
if [ -z "$signal" ] && [ -n "$dir" ]; then
	cd / && rm -rf "$dir"
fi
exit 0
