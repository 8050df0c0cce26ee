#!/bin/sh
# Calls a tool again and again, as MCP clients do, and counts. Runs in the image, with BusyBox's commands.
#
#   load.sh URL KEY TOOL WORKERS
#
# ends when /tmp/stop is there, and then prints "calls N failed M". Each failed call prints a line that begins with
# FAILED, and one of 3 s or more a line that begins with SLOW. Every call is a connection of its own, so that each may
# meet another gateway.
url=$1 key=$2 tool=$3 workers=${4:-4}
body='{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"'$tool'","arguments":{"sku":"lighthouse"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}'

work() { # NUMBER
	done=0 failed=0
	while [ ! -e /tmp/stop ]; do
		begun=$(date +%s)
		answer=$(timeout 10 wget -q -O - \
			--header "Authorization: Bearer $key" --header 'Content-Type: application/json' \
			--header 'Accept: application/json, text/event-stream' --header 'MCP-Protocol-Version: 2026-07-28' \
			--header 'Mcp-Method: tools/call' --header "Mcp-Name: $tool" --post-data "$body" "$url" 2>&1)
		done=$((done + 1)) took=$(($(date +%s) - begun))
		[ "$took" -lt 3 ] || echo "SLOW $(date -u +%H:%M:%S) worker $1: $took s"
		case $answer in
			*'Lighthouse'* | *'lighthouse'*) ;;
			*)
				failed=$((failed + 1))
				echo "FAILED $(date -u +%H:%M:%S) worker $1: $answer"
				;;
		esac
		echo "$done $failed" > "/tmp/worker.$1"
		sleep 0.05
	done
}

i=0
while [ "$i" -lt "$workers" ]; do
	work "$i" &
	i=$((i + 1))
done
wait
cat /tmp/worker.* | { calls=0 failed=0; while read -r c f; do calls=$((calls + c)) failed=$((failed + f)); done; echo "calls $calls failed $failed"; }
