#!/usr/bin/env bash
# A two-node mesh whose identities come from SPIRE, through a rotation and an agent restart. SPIRE_BIN names the folder with
# spire-server and spire-agent; without it this script is skipped. Needs python3 and curl. About two minutes.
set -euo pipefail
if [[ -z ${SPIRE_BIN:-} ]]; then
    echo "skipped: interop spire: needs SPIRE_BIN, the folder of spire-server and spire-agent"
    exit 0
fi
source "$(dirname "${BASH_SOURCE[0]}")/mesh.sh"
echo "spire     server $("$SPIRE_BIN/spire-server" --version 2>&1 | head -n 1), agent $("$SPIRE_BIN/spire-agent" --version 2>&1 | head -n 1)"
stop hq

spire_port=$(port)
cat >"$folder/server.conf" <<EOF
server {
  bind_address = "127.0.0.1"
  bind_port = "$spire_port"
  socket_path = "$folder/server.sock"
  trust_domain = "$domain"
  data_dir = "$folder/server"
  log_level = "WARN"
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3", connection_string = "$folder/spire.db" } }
  KeyManager "memory" { plugin_data {} }
  NodeAttestor "join_token" { plugin_data {} }
}
EOF
cat >"$folder/agent.conf" <<EOF
agent {
  server_address = "127.0.0.1"
  server_port = "$spire_port"
  socket_path = "$folder/agent.sock"
  trust_domain = "$domain"
  trust_bundle_path = "$folder/spire.pem"
  data_dir = "$folder/agent"
  log_level = "WARN"
}
plugins {
  KeyManager "disk" { plugin_data { directory = "$folder/agent" } }
  NodeAttestor "join_token" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data {} }
}
EOF
mkdir -p "$folder/server" "$folder/agent"
spire_server() { local command=$1; shift; "$SPIRE_BIN/spire-server" $command -socketPath "$folder/server.sock" "$@"; }
start_agent() {
    "$SPIRE_BIN/spire-agent" run -config "$folder/agent.conf" "$@" >>"$folder/spire-agent.log" 2>&1 &
    pids[spire-agent]=$!
}

"$SPIRE_BIN/spire-server" run -config "$folder/server.conf" >>"$folder/spire-server.log" 2>&1 &
pids[spire-server]=$!
until_true "the SPIRE server runs" spire_server healthcheck
spire_server "bundle show" >"$folder/spire.pem"
token=$(spire_server "token generate" -spiffeID "spiffe://$domain/machine" | sed -n 's/^Token: //p')
for id in coordinator/hq site/lyon/node/lyon; do
    spire_server "entry create" -parentID "spiffe://$domain/machine" -spiffeID "spiffe://$domain/$id" \
        -selector "unix:uid:$(id -u)" -x509SVIDTTL 60 >/dev/null
done
start_agent -joinToken "$token"
until_true "the SPIRE agent serves" test -S "$folder/agent.sock"

for node in hq lyon; do
    printf '\n[identity]\nsource = "workload-api"\nendpoint = "unix://%s/agent.sock"\n' "$folder" >>"$folder/$node/node.toml"
    start "$node"
done
until_true "hq is ready" ready hq
until_true "lyon is ready" ready lyon
until_true "hq and lyon are linked" peers_up lyon
grep -q "$(sed -n 2p "$folder/spire.pem")" "$folder/lyon/bundle.pem" || { echo "FAILED: lyon does not trust SPIRE's root"; exit 1; }
echo "ok: two nodes are linked by SVIDs of SPIRE"

# A rotation: SPIRE renews an SVID of a minute at half of it.
renewed=$(logged lyon "the SVID was renewed")
rotated() { [[ $(logged lyon "the SVID was renewed") -gt $renewed ]]; }
until_true "a rotation reached lyon" rotated || until_true "a rotation reached lyon" rotated
peers_up lyon
echo "ok: through a rotation"

stop spire-agent
complains() { self lyon | grep -q "Workload API"; }
until_true "lyon says that its source is gone" complains
stop lyon
start lyon
until_true "lyon starts with the agent gone" ready lyon
until_true "hq and lyon are linked again" peers_up lyon
rm -f "$folder/agent.sock"
renewed=$(logged lyon "the SVID was renewed")
start_agent
until_true "lyon follows the agent that came back" rotated || until_true "lyon follows the agent that came back" rotated
echo "ok: through an agent restart, and a node restart while the agent was gone"
