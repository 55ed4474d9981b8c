#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Fetches the newer QEMU of Debian's backports and unpacks it in build/qemu-backports, for make bench,
# which measures against it as well. Nothing is installed: apt works on package lists of its own and
# downloads what this host lacks for it.
# usage: qemu-backports.sh     prints the program to start when it is there, or made now
# Exit code 1, with one sentence, where there is none to be had. Remove the folder to look again.
set -eu
cd "$(dirname "$0")/.."
out=$PWD/build/qemu-backports
program=$out/qemu-system-x86_64

die() {
    echo "qemu-backports: $*" >&2
    exit 1
}

if [ -x "$program" ]; then
    echo "$program"
    exit
fi
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || die "this is no Debian system"
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
    "Codename: $release" 2>/dev/null | head -n 1)
mirror=${mirror:-http://deb.debian.org/debian}

mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work/root"
for suite in "$release" "$release-backports"; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
done >"$work/sources.list"
apt() {
    apt-get -q -y -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o Debug::NoLocking=1 \
        -o APT::Sandbox::User=root -o Acquire::http::Timeout=20 -o Acquire::Retries=1 "$@" >>"$work/log" 2>&1
}
apt -o APT::Update::Error-Mode=any update || die "$mirror does not serve $release-backports: $(tail -n 1 "$work/log")"
apt -t "$release-backports" --no-install-recommends --download-only install qemu-system-x86 ||
    die "apt could not fetch the QEMU of $release-backports: $(tail -n 1 "$work/log")"
compgen -G "$work/cache/archives/qemu-system-x86_*.deb" >/dev/null ||
    die "$release-backports has no newer QEMU than the one that is installed"
for deb in "$work"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$work/root"; done

cat >"$work/qemu-system-x86_64" <<'WRAPPER'
#!/bin/sh
# Starts the unpacked QEMU with the libraries, modules and firmware that came with it.
root=$(dirname "$(readlink -f "$0")")/root
export LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu" QEMU_MODULE_DIR="$root/usr/lib/x86_64-linux-gnu/qemu"
exec "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" "$@"
WRAPPER
chmod 755 "$work/qemu-system-x86_64" "$work"
"$work/qemu-system-x86_64" -accel help | grep -q tcg || die "the QEMU of $release-backports does not start on this host"
rm -rf "$work/lists" "$work/cache" "$work/sources.list" "$out"
mv -T "$work" "$out"
echo "$program"
