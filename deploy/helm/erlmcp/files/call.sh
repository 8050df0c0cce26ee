# shellcheck shell=sh
# Runs in the image, with BusyBox's commands. GATEWAY, KEY, SECRET and POD_IP come from the pod.
[ -n "${KEY:-}" ] || {
  echo "the Secret $SECRET has no admin-key: put an administrator's API key there, with which this test registers its server"
  exit 1
}
name=helm-test-$$-$(date +%s)
http=${ERLMCP_HTTP_PORT:-8081} health=${HEALTH_PORT:-9090}

get() { # PATH: the REST API's answer
  timeout 10 wget -q -O - --no-check-certificate --header "Authorization: Bearer $KEY" "$GATEWAY$1"
}
post() { # PATH BODY HEADER...
  path=$1 body=$2
  timeout 10 wget -q -O - --no-check-certificate --header "Authorization: Bearer $KEY" --header "$3" ${4:+--header "$4"} --post-data "$body" "$GATEWAY$path"
}
# However it ends, nothing stays behind.
finish() {
  code=$?
  trap - EXIT
  if [ -n "$registered" ]; then
    # wget knows no DELETE.
    if post "/api/v1/servers/$name" '' 'Content-Type: application/x-www-form-urlencoded' 'X-HTTP-Method-Override: DELETE' > /dev/null; then
      echo "removed $name"
    else
      echo "could not remove $name"
      code=1
    fi
  fi
  kill "$server"
  exit "$code"
}
registered=''
erlmcp up --demo > /tmp/server.log 2>&1 &
server=$!
trap finish EXIT
trap 'exit 143' TERM INT
until wget -q -O /dev/null "http://127.0.0.1:$health/ready"; do sleep 1; done

echo "register $name, which is this pod"
registered=yes
post /api/v1/servers "{\"name\":\"$name\",\"http\":{\"url\":\"http://$POD_IP:$http/mcp\"}}" 'Content-Type: application/json' > /dev/null

echo "wait until its tools are listed"
tool=${name}_orders_GetProduct
until get /api/v1/tools | grep -q "\"$tool\""; do sleep 1; done

echo "call $tool"
answer=$(post "/api/v1/tools/$tool:call" '{"arguments":{"sku":"lighthouse"}}' 'Content-Type: application/json')
echo "$answer"
case $answer in
  *lighthouse*) echo "the tool answered" ;;
  *) echo "the answer is not the tool's"; exit 1 ;;
esac
