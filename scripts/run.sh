#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The path of a new user. With a terminal: "viv run debian", which starts a manager when there is none,
# makes the machine "debian" of the image in build/guest and attaches to it; the next time it goes on
# with that machine. Without one, as in a script, or with options for viv-vm: boots a throw-away copy
# in viv-vm alone to the login, runs a command in it, powers it off, and ends with viv-vm's exit code.
# usage: run.sh [VIV-VM OPTION...]      VIV_MEMORY=2G, VIV_PORT=2222, VIV_COMMAND='uname -a; id'
set -eu
cd "$(dirname "$0")/.."
guest=build/guest

die() {
    echo "run: $*" >&2
    exit 1
}
[ -x build/viv-vm ] || die "build/viv-vm is missing; 'make build' makes it"
for f in debian12.raw vmlinuz initrd.img id_ed25519; do
    [ -s "$guest/$f" ] || die "$guest/$f is missing; 'make guest' makes it"
done

if [ -t 0 ] && [ -t 1 ] && [ $# -eq 0 ]; then
    cat <<END

  Debian 12 boots in Vivarium on this terminal; that takes some seconds.
  Log in:   root, password vivarium        or from another terminal:  build/viv ssh debian
  Leave:    poweroff in the guest, or press Ctrl-] and then q: the machine runs on
  Again:    make run        All machines:  build/viv list        Remove it:  build/viv rm debian --force
  Browser:  build/viv portal

END
    if build/viv show debian >/dev/null 2>&1; then
        build/viv start debian
        exec build/viv console debian
    fi
    exec build/viv run debian --name debian --memory "${VIV_MEMORY:-1G}"
fi

# The next port that nobody on this host listens on.
wanted=${VIV_PORT:-2222}
port=$(python3 - "$wanted" <<'END'
import socket, sys
first = int(sys.argv[1])
for port in range(first, min(first + 200, 65536)):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            continue
        print(port)
        break
END
) || die "VIV_PORT=$wanted is no port number"
[ -n "$port" ] || die "no free TCP port from $wanted on; set VIV_PORT to another one"
if [ "$port" != "$wanted" ]; then echo "run: port $wanted is taken on this host, using $port for ssh"; fi

work=$(mktemp -d "$guest/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 143' TERM INT
disk=$work/disk.raw
cp --reflink=auto --sparse=always "$guest/debian12.raw" "$disk"

vm=(build/viv-vm --name debian --memory "${VIV_MEMORY:-1G}"
    --kernel "$guest/vmlinuz" --initrd "$guest/initrd.img"
    --append "root=LABEL=root rw console=ttyS0"
    --disk "$disk" --nic "user,forward=tcp:127.0.0.1:$port:22" --serial stdio "$@")

# In the background, because bash runs a trap only when what it waits for has ended.
python3 scripts/guest_driver.py demo "${VIV_COMMAND:-uname -a; id}" -- "${vm[@]}" &
driver=$!
trap 'kill -TERM $driver 2>/dev/null; wait $driver || true; exit 143' TERM INT
status=0
wait $driver || status=$?
exit "$status"
