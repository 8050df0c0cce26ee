# shellcheck shell=sh
# Runs in the image, with BusyBox's commands. GATEWAY, KEY and POD_IP come from the pod.
name=helm-test-$$-$(date +%s)

ask() { # METHOD PATH [BODY]: the REST API's answer
  if [ "$1" = POST ]; then
    timeout 10 wget -q -O - --no-check-certificate --header "Authorization: Bearer $KEY" --header 'Content-Type: application/json' --post-data "$3" "$GATEWAY$2"
  else
    timeout 10 wget -q -O - --no-check-certificate --header "Authorization: Bearer $KEY" "$GATEWAY$2"
  fi
}

erlmcp up --demo > /tmp/server.log 2>&1 &
server=$!
trap 'kill $server' EXIT
until wget -q -O /dev/null http://127.0.0.1:9090/ready; do sleep 1; done

echo "register $name, which is this pod"
ask POST /api/v1/servers "{\"name\":\"$name\",\"http\":{\"url\":\"http://$POD_IP:8081/mcp\"}}" > /dev/null

echo "wait until its tools are listed"
tool=${name}_orders_GetProduct
until ask GET /api/v1/tools | grep -q "\"$tool\""; do sleep 1; done

echo "call $tool"
answer=$(ask POST "/api/v1/tools/$tool:call" '{"arguments":{"sku":"lighthouse"}}')
echo "$answer"
case $answer in
  *lighthouse*) echo "the tool answered" ;;
  *) echo "the answer is not the tool's"; exit 1 ;;
esac

# BusyBox's wget knows no DELETE; the request is short enough to be written out.
host=${GATEWAY#*://}
case $GATEWAY in
  http://*)
    # nc ends with its input, which so waits for the answer.
    { printf 'DELETE /api/v1/servers/%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n' "$name" "$host" "$KEY"; sleep 3; } |
      nc "${host%:*}" "${host#*:}" | head -n 1 | grep ' 200 '
    echo "removed $name"
    ;;
esac
