# Sourced by the scripts here: a founded mesh of two nodes in a temporary directory, hq and lyon, both stopped.
#
# `init` and `join`, where a script sets them before, are more arguments of hq's `init` and of lyon's `node join`.
# CAULDRON_BIN names the program; without it the debug build of this repository is made and taken. Sets `cauldron`, `folder`
# and `domain`; `start NODE` and `stop NODE` run nodes; everything ends with the script.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
domain=acme.example
declare -A pids=()
declare -a init=("${init[@]+"${init[@]}"}") join=("${join[@]+"${join[@]}"}")

if [[ -z ${CAULDRON_BIN:-} ]]; then
    (cd "$root" && cargo build --quiet --package cauldron-node --bin cauldron)
    target=$(cd "$root" && cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
    CAULDRON_BIN=$target/debug/cauldron
fi
cauldron=$CAULDRON_BIN
echo "cauldron  $("$cauldron" version | head -n 1)"

folder=$(mktemp -d)
finish() {
    local code=$? node
    for node in "${!pids[@]}"; do
        if [[ $code -ne 0 && -f $folder/$node.log ]]; then
            echo "--- the end of $node's log" >&2
            tail -n 20 "$folder/$node.log" >&2
        fi
        kill "${pids[$node]}" 2>/dev/null || true
        wait "${pids[$node]}" 2>/dev/null || true
    done
    rm -rf "$folder"
    exit "$code"
}
trap finish EXIT

port() { python3 -c 'import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# until WHAT COMMAND...: half a minute of patience.
until_true() {
    local what=$1 i
    shift
    for ((i = 0; i < 300; i++)); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "FAILED: $what" >&2
    return 1
}

start() {
    "$cauldron" node run --config "$folder/$1/node.toml" >>"$folder/$1.log" 2>&1 &
    pids[$1]=$!
}

stop() {
    kill "${pids[$1]}"
    wait "${pids[$1]}" || true
    unset "pids[$1]"
}

about() { "$cauldron" status --node "$folder/$1" --output json; }
ready() { curl --silent --fail --unix-socket "$folder/$1/node.sock" http://localhost/v1/ready; }
self() { curl --silent --fail --unix-socket "$folder/$1/node.sock" http://localhost/v1/self; }
peers_up() { curl --silent --fail --unix-socket "$folder/$1/node.sock" http://localhost/v1/peers | grep -Eq '"state": ?"alive"'; }
logged() { grep -c -- "$2" "$folder/$1.log" || true; }

cd "$folder"
"$cauldron" init --first --trust-domain "$domain" --person ana --listen "127.0.0.1:$(port)" "${init[@]}" >/dev/null
start hq
until_true "hq is ready" ready hq
"$cauldron" authority token "spiffe://$domain/site/lyon/node/lyon" --node "$folder/hq" |
    "$cauldron" node join - --listen "127.0.0.1:$(port)" "${join[@]}" >/dev/null
