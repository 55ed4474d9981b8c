#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes the demo guest in build/guest from Debian's packages:
#   debian12.raw          ext4 in a raw, sparse image of 2 GiB, label "root"; Debian 12 with systemd,
#                         udev, sshd, networkd (DHCP) and the unmodified cloud kernel
#   vmlinuz, initrd.img   that guest's own kernel and initramfs, copied out for direct boot
#   tiny.cpio.gz          a busybox initramfs for the same kernel
#   id_ed25519[.pub]      the key that the Debian guest's root accepts
#
# The Debian guest's root has the password "vivarium" and may log in over ssh. That is right for a
# local demonstration that only this host can reach, and for nothing else.
#
# The tiny guest prints BOOTED on its console and starts a shell there. It reads from the kernel's
# command line:
#   viv.run=WORD          run WORD with sh (printf %b escapes: \040 is a blank), print the line
#                         "EXIT n" with its exit status, power off
#   viv.run64=BASE64      the same for any command line, encoded with base64 -w0
#   viv.modules=A,B       modprobe these first; the initramfs holds virtio_pci, virtio_blk,
#                         virtio_net, virtio_console, virtio-rng, vsock and what they depend on
#   viv.net=ADDRESS/BITS  set that address on eth0 and the default route through .2 of its network
# Without viv.run the end of the shell powers the machine off. More files can be brought in by
# appending another cpio archive to the initramfs.
#
# With --bench it makes what "make bench" measures real programs with, in build/guest-bench:
#   tree, programs.raw    a Debian 12 with compilers, interpreters, compressors and a database but no
#                         kernel, as a folder and as a small ext4 image of it; guests and host run
#                         the same programs from it with chroot
#
# With --output FOLDER the results go there instead; vivd makes its images that way.
#
# With --packages A,B these are in it as well; cloud-init, for one, then obeys the seed disk of vivd.
#
# With --mirror URL (or VIV_MIRROR=URL) the packages come from there. Without, they come from where the host has its own;
# when that has this version of Debian no more, from Debian's archive, or VIV_ARCHIVE=URL.
#
# usage: guest.sh [--bench] [--output FOLDER] [--suite bullseye|bookworm|trixie] [--packages LIST] [--mirror URL] [--force]
# Nothing is done when the result is there already for this script. A new one replaces the old only
# when it is complete. Needs root, or user namespaces with subordinate ids (package uidmap).
set -eu
# A guest has its modes whatever those of new files of this user are.
umask 022
self=$(realpath "$0")
# The agent that goes into the guest: of the package that this script was installed with, or of this tree.
agent=$(realpath -m "$(dirname "$self")/../../lib/vivarium/viv-agent")
[ -x "$agent" ] || agent=$(realpath -m "$(dirname "$self")/../build/meson/viv-agent")
cd "$(dirname "$0")/.."
suite=bookworm
version=12
what="Debian 12"
out=build/guest
size=2G
results="debian12.raw vmlinuz initrd.img tiny.cpio.gz"
packages=systemd,systemd-sysv,udev,dbus,openssh-server,iproute2,ca-certificates,python3-minimal
packages+=,linux-image-cloud-amd64,login,passwd,kmod,initramfs-tools,zstd,e2fsprogs,procps
bench=
elsewhere=
if [ "${1:-}" = --bench ]; then
    shift
    bench=1
    what="the programs of the benchmarks"
    out=build/guest-bench
    size=1G
    results="programs.raw tree"
    # libstb-dev brings a real program as one file of C.
    packages=python3,sqlite3,gzip,xz-utils,zstd,openssl,gcc,libc6-dev,libstb-dev,perl
fi
if [ "${1:-}" = --output ]; then
    out=${2:?--output needs a folder}
    elsewhere=1
    shift 2
fi
if [ "${1:-}" = --suite ]; then
    suite=${2:?--suite needs a name}
    shift 2
    case $suite in
        bullseye) version=11 ;;
        bookworm) version=12 ;;
        trixie) version=13 ;;
        *) echo "guest: the suite '$suite' is not known: bullseye, bookworm and trixie are" >&2; exit 2 ;;
    esac
    what="Debian $version"
    results="debian$version.raw vmlinuz initrd.img tiny.cpio.gz"
fi
if [ "${1:-}" = --packages ]; then
    packages+=,${2:?--packages needs names, with commas between them}
    shift 2
    # What it calls, but does not depend on: users who may use sudo, and the locale that it sets.
    case ,$packages, in *,cloud-init,*) packages+=,sudo,locales ;; esac
fi
mirror=${VIV_MIRROR:-}
archive=${VIV_ARCHIVE:-http://archive.debian.org/debian}
if [ "${1:-}" = --mirror ]; then
    mirror=${2:?--mirror needs a URL, as in http://deb.debian.org/debian}
    shift 2
fi

die() {
    printf 'guest: %s\n' "$*" >&2
    exit 1
}

# ---- step run by mmdebstrap on the finished tree, as (namespace) root -----------------------------
configure() {
    local root=$1 key=$2 version=$3
    echo vivarium >"$root/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 vivarium\n::1 localhost ip6-localhost\n' >"$root/etc/hosts"
    echo 'LABEL=root / ext4 errors=remount-ro 0 1' >"$root/etc/fstab"
    # The address at which user-mode NAT answers DNS.
    rm -f "$root/etc/resolv.conf"
    echo 'nameserver 10.0.2.3' >"$root/etc/resolv.conf"
    cat >"$root/etc/systemd/network/80-dhcp.network" <<-END
	[Match]
	Name=en* eth*
	[Network]
	DHCP=yes
	[DHCPv4]
	UseDNS=no
	END
    printf '%s\n' "Debian GNU/Linux $version \\n \\l" '' \
        'A guest of Vivarium. Log in as root, password vivarium.' \
        'Leave with "poweroff" once logged in, or with Ctrl-] and then q.' '' >"$root/etc/issue"
    install -d -m 700 "$root/root/.ssh"
    install -m 600 "$key" "$root/root/.ssh/authorized_keys"
    printf 'PermitRootLogin yes\nUseDNS no\n' >"$root/etc/ssh/sshd_config.d/vivarium.conf"
    echo 'root:vivarium' | chroot "$root" chpasswd
    # An id of its own; without one the first boot would ask questions on the console.
    rm -f "$root/etc/machine-id"
    chroot "$root" systemd-machine-id-setup >/dev/null
    chroot "$root" systemctl -q enable systemd-networkd.service ssh.service serial-getty@ttyS0.service
    # Devices come late on a host that does ten things at once; after 90 s the login on the serial line would be given up.
    # Version 247 (Debian 11) takes the time from that of services.
    install -d "$root/etc/systemd/system.conf.d"
    printf '[Manager]\n%s=600s\n' "$([ "$version" -lt 12 ] && echo DefaultTimeoutStartSec || echo DefaultDeviceTimeoutSec)" \
        >"$root/etc/systemd/system.conf.d/vivarium.conf"
    # Nobody upgrades a demonstration; the timers would only fetch indexes at every first boot.
    chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer
    # Without this it would want a locale that is not made here, and take that for a failure.
    if [ -d "$root/etc/cloud/cloud.cfg.d" ]; then
        echo 'locale: C.UTF-8' >"$root/etc/cloud/cloud.cfg.d/90-vivarium.cfg"
    fi
    # Settings of the host that mmdebstrap leaves for apt do not belong into the guest.
    rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap"
    rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/*.log
}

# ---- step run as (namespace) root: from the tar file to the image -------------------------------
unpack() {
    local tar=$1 root=$2
    mkdir -p "$root"
    echo "stage: unpacking the tree"
    # Device nodes cannot be made in a user namespace, and the kernel's devtmpfs brings them anyway.
    tar -C "$root" --numeric-owner --xattrs --xattrs-include='*' --exclude='./dev/*' -xf "$tar"
}

image() {
    local root=$1 label=$2 file=$3
    echo "stage: writing the disk image"
    truncate -s "$size" "$file"
    # The file is all zeros, so that there is nothing to clear, now or by the guest later.
    mkfs.ext4 -q -F -L "$label" -E assume_storage_prezeroed=1,root_owner=0:0 -d "$root" "$file"
    chmod 644 "$file"
}

# It is started by the device, so that a machine without one has nothing to do.
agent() {
    local root=$1
    install -m 755 "$agent" "$root/usr/sbin/viv-agent"
    if command -v strip >/dev/null; then strip "$root/usr/sbin/viv-agent"; fi
    echo 'KERNEL=="vsock", TAG+="systemd", ENV{SYSTEMD_WANTS}+="viv-agent.service"' \
        >"$root/etc/udev/rules.d/80-viv-agent.rules"
    cat >"$root/etc/systemd/system/viv-agent.service" <<-'END'
	[Unit]
	Description=Vivarium guest agent
	[Service]
	ExecStart=/usr/sbin/viv-agent
	KillMode=process
	Restart=always
	END
}

pack_bench() {
    local tar=$1 dir=$2
    unpack "$tar" "$dir/tree"
    image "$dir/tree" programs "$dir/programs.raw"
}

pack() {
    local tar=$1 dir=$2 version=$3
    unpack "$tar" "$dir/root"
    agent "$dir/root"
    image "$dir/root" root "$dir/debian$version.raw"
    cp "$dir"/root/boot/vmlinuz-* "$dir/vmlinuz"
    cp "$dir"/root/boot/initrd.img-* "$dir/initrd.img"
    echo "stage: packing the tiny initramfs"
    tiny "$dir/root" "$dir"
    chmod 644 "$dir/vmlinuz" "$dir/initrd.img" "$dir/tiny.cpio.gz"
    rm -rf "$dir/root"
}

tiny() {
    local root=$1 dir=$2 t=$2/tiny version modules
    mkdir -p "$t"/{bin,dev,etc,proc,root,sys,tmp,lib/modules}
    cp "$(command -v busybox)" "$t/bin/busybox"
    local applet
    for applet in $("$t/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$t/bin/$applet"
    done
    version=$(basename "$root"/lib/modules/*)
    modules=lib/modules/$version
    # A module and everything that modules.dep says it needs.
    mkdir -p "$t/$modules"
    awk -v wanted='virtio_pci virtio_blk virtio_net virtio_console virtio-rng vmw_vsock_virtio_transport' '
        { file = $1; sub(/:$/, "", file); base = file; sub(/.*\//, "", base); sub(/\.ko.*/, "", base)
          line[file] = $0; path[base] = file }
        function need(file,  part, i, n) {
            if (file in done || !(file in line)) return
            done[file] = 1; print line[file]
            n = split(line[file], part, /:? +/); for (i = 2; i <= n; i++) need(part[i]) }
        END { n = split(wanted, w, " "); for (i = 1; i <= n; i++) if (w[i] in path) need(path[w[i]]) }
    ' "$root/$modules/modules.dep" >"$t/$modules/modules.dep"
    [ -s "$t/$modules/modules.dep" ] || die "the kernel $version has no virtio modules (modules.dep)"
    local file
    while IFS=: read -r file _; do
        mkdir -p "$t/$modules/$(dirname "$file")"
        cp "$root/$modules/$file" "$t/$modules/$file"
    done <"$t/$modules/modules.dep"
    cat >"$t/init" <<-'END'
	#!/bin/sh
	# The first process of the tiny guest; guest.sh in the sources describes its command line.
	export PATH=/bin HOME=/root TERM=vt100
	mount -t proc proc /proc
	mount -t sysfs sys /sys
	mount -t devtmpfs dev /dev
	mount -t tmpfs tmp /tmp
	mkdir -p /dev/pts /dev/shm
	mount -t devpts pts /dev/pts
	hostname tiny
	ip link set lo up
	run=
	net=
	set -f
	for word in $(cat /proc/cmdline); do
	    case $word in
	        viv.run=*) run=$(printf '%b' "${word#viv.run=}") ;;
	        viv.run64=*) run=$(printf '%s' "${word#viv.run64=}" | base64 -d) ;;
	        viv.modules=*) for m in $(echo "${word#viv.modules=}" | tr , ' '); do modprobe "$m"; done ;;
	        viv.net=*) net=${word#viv.net=} ;;
	    esac
	done
	set +f
	if [ -n "$net" ]; then
	    ip addr add "$net" dev eth0 && ip link set eth0 up
	    host=${net%/*}
	    ip route add default via "${host%.*}.2"
	fi
	echo BOOTED
	if [ -n "$run" ]; then
	    sh -c "$run"
	    echo "EXIT $?"
	else
	    setsid cttyhack sh -l
	fi
	sync
	poweroff -f
	END
    chmod 755 "$t/init"
    (cd "$t" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) | gzip -9n >"$dir/tiny.cpio.gz"
    rm -rf "$t"
}

case ${1:-} in
    configure)
        configure "$2" "$3" "$4"
        exit
        ;;
    pack)
        "pack${bench:+_bench}" "$2" "$3" "${4:-}"
        exit
        ;;
esac

# ---- the host's side ----------------------------------------------------------------------------
parts=
if [ -z "$bench" ] && [ -d src/agent ]; then parts="src/agent/*.[ch] src/proto/agent.[ch]"; fi
if [ -z "$bench" ] && [ ! -d src/agent ]; then parts=$agent; fi
# shellcheck disable=SC2086
stamp=$({ cat "$self" $parts; echo "$suite $packages $mirror"; } | sha256sum | cut -d' ' -f1)
keys=
if [ -z "$bench" ]; then keys="id_ed25519 id_ed25519.pub"; fi
complete() {
    local f
    [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ] || return 1
    for f in $results $keys; do [ -s "$out/$f" ] || return 1; done
}
if [ "${1:-}" != --force ] && complete; then exit 0; fi

[ -n "$bench" ] || [ -x "$agent" ] ||
    die "the agent that goes into the guest is not there: 'make guest' compiles it first"
mkdir -p "$out"
exec 9>"$out/lock"
flock -n 9 || { echo "guest: another make is building the guest; waiting for it" && flock 9; }
if [ "${1:-}" != --force ] && complete; then exit 0; fi

if [ "$(id -u)" -ne 0 ]; then
    if ! grep -q "^$(id -un):" /etc/subuid 2>/dev/null || ! unshare --map-root-user --map-auto true 2>/dev/null; then
        die "this user cannot make user namespaces with subordinate ids. Build the guest as root with
this line, then go on as before:    sudo $self${bench:+ --bench}"
    fi
fi

free=$(df --output=avail -k "$out" | tail -n 1)
[ "$free" -ge 2500000 ] ||
    die "$(realpath "$out") has $((free / 1024)) MiB free, 2500 MiB are needed while the guest is made"

# The same place the host takes its packages from, so that a local mirror or proxy is honoured; when
# apt has no such index (it was cleaned), mmdebstrap's default.
mirrors=()
if [ -n "$mirror" ]; then
    mirrors=("$mirror")
else
    while read -r uri release; do
        case $uri in http://* | https://* | file:///*) mirrors+=("deb $uri $release main") ;; esac
    done < <(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)' \
        'Created-By: Packages' 2>/dev/null |
        awk -v s="$suite" '$3 == "main" && $4 == "Debian" && ($2 == s || $2 == s "-updates" || $2 == s "-security") { print $1, $2 }' |
        sort -u)
    # An update suite alone cannot make a system.
    [[ " ${mirrors[*]} " == *" $suite main "* ]] || mirrors=()
fi
proxy=()
for kind in http https; do
    value=$(apt-config dump --format '%v' "Acquire::$kind::Proxy" 2>/dev/null || true)
    if [ -n "$value" ]; then proxy+=("--aptopt=Acquire::$kind::Proxy \"$value\";"); fi
done

work=$(mktemp -d "$out/new.XXXXXX")
log=$out/guest.log
start=$SECONDS
worker=
finish() {
    if [ -n "$worker" ]; then
        kill -TERM -- "-$worker" 2>/dev/null || true
        wait "$worker" 2>/dev/null || true
    fi
    rm -rf "$work" 2>/dev/null || unshare --map-root-user --map-auto rm -rf "$work" || true
    if [ -t 1 ]; then printf '\r\033[K'; fi
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ -n "$keys" ] && { [ ! -s "$out/id_ed25519" ] || [ ! -s "$out/id_ed25519.pub" ]; }; then
    rm -f "$out/id_ed25519" "$out/id_ed25519.pub"
    ssh-keygen -q -t ed25519 -N '' -C vivarium-guest -f "$out/id_ed25519"
fi

if [ "$(id -u)" -eq 0 ]; then as_root=(); else as_root=(unshare --map-root-user --map-auto); fi

hooks=()
if [ -z "$bench" ]; then
    hooks=("--customize-hook=$(printf '%q configure "$1" %q %q' "$self" "$(realpath "$out")/id_ed25519.pub" "$version")")
fi

# Does a mirror say that it has no such version?
no_suite() {
    grep -qE "(does not have|no longer has) a Release file|/dists/$suite/[^ ]* +404" "$log"
}

bootstrap() {
    # Downloads go through a user of their own, who may not look into a home directory.
    TMPDIR=${VIV_TMPDIR:-${TMPDIR:-/var/tmp}} mmdebstrap --verbose --variant=minbase \
        --include="$packages" --aptopt='APT::Install-Recommends "false";' "${proxy[@]}" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        "${hooks[@]}" \
        "$suite" "$work/tree.tar" "$@" </dev/null
}

make_guest() {
    echo "stage: starting mmdebstrap"
    if ! bootstrap "${mirrors[@]}"; then
        # Mirrors drop a version some time after its support has ended, and the archive takes it.
        if [ -n "$mirror" ] || ! no_suite; then return 1; fi
        echo "stage: asking Debian's archive"
        rm -f "$work/tree.tar"
        bootstrap "$archive"
    fi
    "${as_root[@]}" "$self" ${bench:+--bench} pack "$work/tree.tar" "$work" "$version"
    rm -f "$work/tree.tar"
}

# The stage is what the log said last, the share is counted in its lines: a package is fetched,
# unpacked and set up, and the packing of the results is the last tenth.
look() {
    awk '
        /^I: running --customize-hook/ { stage = "configuring" }
        /^I: (downloading|extracting|installing|cleaning|creating|running apt)/ {
            stage = substr($0, 4); sub(/\.\.\.$/, "", stage) }
        /^stage: / { stage = substr($0, 8); packed++ }
        /^[0-9]+ upgraded, [0-9]+ newly installed/ { total += $3; parts++ }
        /^Get:[0-9]+ .* amd64 |^Get:[0-9]+ .* all / { n++ }
        /^Unpacking /  { n += 2 }
        /^Setting up / { n += 3 }
        END {
            # mmdebstrap installs the essential packages first and then the others, some 90.
            if (parts < 2) total += 90
            share = 85 * n / (6 * total)
            if (share > 85) share = 85
            if (packed > 1) share = 86 + 4 * (packed - 1)
            printf "%d %s\n", share, stage ? stage : "starting"
        }' "$log"
}

echo "guest: making $what from Debian's packages in $out (2 to 4 minutes; log: $log)"
: >"$log"
set -m # a process group of its own, so that an interrupted make leaves nothing behind
(set -e; make_guest) >"$log" 2>&1 9>&- &
worker=$!
set +m
shown=
turn=0
while kill -0 "$worker" 2>/dev/null; do
    read -r share stage < <(look) || true
    if [ -t 1 ]; then
        turn=$(((turn + 1) % 4))
        filled=$((share * 30 / 100))
        printf '\r\033[K%s [%-30s] %3d%%  %3d s  %.60s' "$(printf '|/-\\' | cut -c$((turn + 1)))" \
            "$(printf '%*s' "$filled" '' | tr ' ' '#')" "$share" $((SECONDS - start)) "$stage"
        sleep 0.5
    else
        # A program that reads this wants each step, a log only each stage.
        if [ "$stage${elsewhere:+$share}" != "$shown" ]; then
            printf 'guest: %3d s  %3d%%  %s\n' $((SECONDS - start)) "$share" "$stage"
            shown=$stage${elsewhere:+$share}
        fi
        sleep 1
    fi
done
status=0
wait "$worker" || status=$?
worker=
if [ -t 1 ]; then printf '\r\033[K'; fi
if [ "$status" -ne 0 ] && no_suite; then
    where=$mirror
    [ -n "$where" ] || where="the mirror of this host and $archive"
    die "$what ($suite) cannot be had from $where. Name a mirror that has it:
viv image build --mirror URL; what is no longer supported is at http://archive.debian.org/debian"
fi
if [ "$status" -ne 0 ] && [ -n "$elsewhere" ]; then
    # Who reads this has room for a sentence, and keeps the log. What failed says apt before all that follows from it.
    { grep '^E: ' "$log" || tail -n 3 "$log"; } | head -n 2 >&2
    die "packages could not be fetched or installed. --mirror URL of 'viv image build' names another mirror"
fi
if [ "$status" -ne 0 ]; then
    tail -n 25 "$log" >&2
    die "making the guest failed (its last words stand above, all of them in $log).
If packages could not be fetched, check the network; VIV_MIRROR=URL names another mirror."
fi

rm -f "$out/stamp"
if [ -n "$bench" ]; then "${as_root[@]}" rm -rf "$out/tree"; fi
for f in $results; do mv -f "$work/$f" "$out/$f"; done
# The disk that "make run" wrote to holds the modules of the old kernel.
if [ -e "$out/run.raw" ]; then
    mv -f "$out/run.raw" "$out/run.old.raw"
    echo "guest: the disk of earlier runs is kept as $out/run.old.raw; the next run begins afresh"
fi
echo "$stamp" >"$out/stamp"
echo "guest: ready after $((SECONDS - start)) s: $out/${results%% *} ($(du -h "$out/${results%% *}" | cut -f1) used of $size)"
