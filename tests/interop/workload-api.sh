#!/usr/bin/env bash
# The Rust crate `spiffe` and the PyPI package `spiffe` against our Workload API: X.509- and JWT-SVIDs and bundles are fetched, a
# token is validated, and an update arrives on the stream through a rotation. The node that serves them has no authority of its
# own. Needs Rust, python3 with venv, curl. About a minute.
source "$(dirname "${BASH_SOURCE[0]}")/mesh.sh"

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'spiffe==0.3.2'
rust_target=${CARGO_TARGET_DIR:-$root/target}/interop
cargo build --quiet --locked --manifest-path "$here/rust/Cargo.toml" --target-dir "$rust_target"
echo "python    $("$folder/venv/bin/python" --version), spiffe $("$folder/venv/bin/pip" show spiffe 2>/dev/null | sed -n 's/^Version: //p')"
echo "rust      $(rustc --version), spiffe $(sed -n '/^name = "spiffe"$/{n;s/version = "\(.*\)"/\1/p}' "$here/rust/Cargo.lock")"

id=spiffe://$domain/site/lyon/node/lyon
client=$rust_target/debug/cauldron-interop
cat >>"$folder/lyon/node.toml" <<EOF

[[identity.workload]]
spiffe_id = "$id/agent/rust"
uid = $(id -u)
path = "$(readlink -f "$client")"
sha256 = "$(sha256sum "$client" | cut -d ' ' -f 1)"
ttl = "1m"

[[identity.workload]]
spiffe_id = "$id/agent/python"
uid = $(id -u)
path = "$(readlink -f "$folder/venv/bin/python")"
ttl = "1m"
EOF
start lyon
until_true "lyon is ready" ready lyon
issued() { [[ $(logged lyon "a workload's SVID was issued") -ge 2 ]]; }
until_true "both SVIDs were issued" issued

export SPIFFE_ENDPOINT_SOCKET=unix://$folder/lyon/workload.sock
"$client" "$id/agent/rust" >"$folder/rust.out" 2>&1 &
rust=$!
python=0
"$folder/venv/bin/python" "$here/workload_api.py" "$id/agent/python" || python=$?
wait "$rust" || { cat "$folder/rust.out"; exit 1; }
cat "$folder/rust.out"
[[ $python -eq 0 ]]

# Who is not registered gets nothing.
if "$folder/venv/bin/python" "$here/workload_api.py" "$id/agent/rust" 2>/dev/null; then
    echo "FAILED: python got the identity of the other program" >&2
    exit 1
fi
echo "ok: the Rust crate and the PyPI package fetched, streamed through a rotation, and validated"
