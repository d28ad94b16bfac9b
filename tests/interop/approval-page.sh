#!/usr/bin/env bash
# Debian's Chromium and its virtual authenticator (WebAuthn Level 3, §11) against the approval page: a passkey is made, the council
# enrols it, a signed webhook brings a link, a person follows it, signs in, approves, and it happens. Screenshots go to the folder that SHOTS names, where it does. Needs
# chromium, chromedriver, python3. About a minute.
set -euo pipefail
if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    echo "skipped: interop approval page: needs chromium and chromedriver"
    exit 0
fi
page_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
origin=http://localhost:$page_port
scene=$(mktemp -d)
: >"$scene/auth.log"
hook_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
(umask 077; printf 'whsec_%s\n' "$(python3 -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())')" >"$scene/duty.secret")
init=(--person-name "Ana Ferreira" --vote-origin "$origin")
join=(--auth-log "$scene/auth.log" --blocklist "$scene/blocklist")
source "$(dirname "${BASH_SOURCE[0]}")/mesh.sh"
finish_mesh=$(trap -p EXIT | sed "s/^trap -- '\(.*\)' EXIT$/\1/")
trap 'code=$?; rm -rf "$scene"; (exit $code); '"$finish_mesh" EXIT
echo "chromium  $(chromium --version 2>/dev/null), $(chromedriver --version | cut -d ' ' -f 1-2)"

stop hq
cat >>"$folder/hq/node.toml" <<EOF

[page]
listen = "127.0.0.1:$page_port"
url = "$origin"

[[notify.webhook]]
name = "duty"
url = "http://127.0.0.1:$hook_port/duty"
secret_file = "$scene/duty.secret"
EOF
start hq
start lyon
until_true "hq is ready" ready hq
until_true "lyon is ready" ready lyon
until_true "they are linked" peers_up hq

python3 "$here/approval_page.py" --cauldron "$cauldron" --hq "$folder/hq" --origin "$origin" --scene "$scene" --hook "$hook_port" ${SHOTS:+--shots "$SHOTS"}
