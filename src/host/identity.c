/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The scripts. */
#include "host/identity.h"

#define LEASES                                                                                     \
    "rm -rf /var/lib/dhcp/* /var/lib/dhclient/* /var/lib/dhcpcd/* /var/lib/dhcpcd5/*\n"            \
    "rm -f /etc/dhcpcd.duid /var/lib/NetworkManager/*.lease /var/lib/NetworkManager/secret_key\n"  \
    "rm -f /var/lib/NetworkManager/timestamps /var/lib/systemd/network/*\n"
#define SEEDS                                                                                      \
    "rm -f /var/lib/systemd/random-seed /var/lib/urandom/random-seed /var/lib/misc/random-seed\n"

#define PATHS "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH\n"
/* To $name, also where the old one stands for an address. */
#define SET_NAME                                                                                   \
    "old=$(cat /proc/sys/kernel/hostname)\n"                                                       \
    "printf '%s' \"$name\" >/proc/sys/kernel/hostname || bad=1\n"                                  \
    "if [ -f /etc/hostname ]; then printf '%s\\n' \"$name\" >/etc/hostname || bad=1; fi\n"         \
    "case $old in *[!A-Za-z0-9.-]*|localhost|'') ;; *)\n"                                          \
    "  if [ -f /etc/hosts ]; then\n"                                                               \
    "    sed -i \"s/\\([[:space:]]\\)$old\\([[:space:]]\\|\\$\\)/\\1$name\\2/g\" /etc/hosts || "   \
    "bad=1\n"                                                                                      \
    "  fi ;;\n"                                                                                    \
    "esac\n"

const char identity_renew[] = PATHS
    "name=$1 mac=$2 bad=0\n"
    "if [ -f /etc/machine-id ]; then\n"
    "  id=$(tr -d - </proc/sys/kernel/random/uuid)\n"
    "  printf '%s\\n' \"$id\" >/etc/machine-id || bad=1\n"
    "  if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then\n"
    "    printf '%s\\n' \"$id\" >/var/lib/dbus/machine-id || bad=1\n"
    "  fi\n"
    "fi\n" SET_NAME "cat /proc/sys/kernel/random/uuid >/dev/urandom\n" SEEDS LEASES
    "for i in /sys/class/net/*; do\n"
    "  [ -n \"$mac\" ] && [ -e \"$i/device\" ] || continue\n"
    "  if [ \"$(cat \"$i/address\")\" != \"$mac\" ]; then\n"
    "    ip link set dev \"${i##*/}\" down; ip link set dev \"${i##*/}\" address \"$mac\"\n"
    "    ip link set dev \"${i##*/}\" up\n"
    "  fi\n"
    "  break\n"
    "done\n"
    "try_restart() {\n"
    "  [ -d /run/systemd/system ] || return 0\n"
    "  for u; do systemctl try-restart $u.service >/dev/null 2>&1; done\n"
    "}\n"
    "try_restart systemd-networkd NetworkManager\n"
    "if command -v ssh-keygen >/dev/null && ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1; then\n"
    "  rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub\n"
    "  ssh-keygen -A >/dev/null || bad=1\n"
    "  try_restart ssh sshd\n"
    "fi\n"
    "sync\n"
    "exit $bad\n";

const char identity_introduce[] = PATHS
    "name=$1 user=${2:-root} keys=$3 seed=$4 more=$5 bad=0\n"
    "if [ $seed = 1 ] && command -v cloud-init >/dev/null 2>&1 &&\n"
    "   [ ! -e /etc/cloud/cloud-init.disabled ]; then exit 0; fi\n"
    "if [ -n \"$name\" ]; then\n" SET_NAME "fi\n"
    "entry() { grep \"^$user:\" /etc/passwd 2>/dev/null; }\n"
    "if [ $user != root ] && [ -z \"$(entry)\" ]; then\n"
    "  shell=/bin/sh; [ ! -x /bin/bash ] || shell=/bin/bash\n"
    "  if command -v useradd >/dev/null 2>&1; then useradd -m -s $shell \"$user\"\n"
    "  else adduser -D -s $shell \"$user\" >/dev/null; fi ||\n"
    "    { echo \"the user $user cannot be made\"; exit 1; }\n"
    "  if [ -d /etc/sudoers.d ]; then\n"
    "    (umask 337; echo \"$user ALL=(ALL) NOPASSWD:ALL\" >/etc/sudoers.d/90-viv-user) || bad=1\n"
    "  fi\n"
    "fi\n"
    "if [ -n \"$keys\" ]; then\n"
    "  home=$(entry | cut -d: -f6); [ -n \"$home\" ] || home=/root\n"
    "  file=$home/.ssh/authorized_keys\n"
    "  (umask 077; mkdir -p \"$home/.ssh\" && touch \"$file\") || bad=1\n"
    "  echo \"$keys\" | while IFS= read -r line; do\n"
    "    [ -z \"$line\" ] || grep -qxF -e \"$line\" \"$file\" || printf '%s\\n' \"$line\" "
    ">>\"$file\"\n"
    "  done || bad=1\n"
    "  chown \"$user:$(entry | cut -d: -f4)\" \"$home/.ssh\" \"$file\" || bad=1\n"
    "fi\n"
    "sync\n"
    "if [ -n \"$more\" ]; then\n"
    "  echo \"it has no cloud-init, so nothing is done about $more\"; bad=1\n"
    "fi\n"
    "exit $bad\n";

const char identity_take[] =
    "#!/bin/sh\n" PATHS "exec >/dev/console 2>&1 </dev/null\n"
    "[ -e /proc/mounts ] || mount -t proc proc /proc\n"
    "fail() { echo \"vivarium: failed: $*\"; sync; while :; do :; done; }\n"
    "mount -o remount,rw / || fail 'its root file system cannot be written'\n"
    "mount -a\n"
    "if [ -e /etc/machine-id ]; then\n"
    "  : >/etc/machine-id || fail 'its machine-id cannot be written'\n"
    "  if [ -d /var/lib/dbus ]; then ln -sf /etc/machine-id /var/lib/dbus/machine-id; fi\n"
    "fi\n"
    "if ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1; then\n"
    "  rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub || fail 'its ssh host keys stay'\n"
    "  if [ -d /etc/systemd/system ]; then\n"
    "    cat >/etc/systemd/system/viv-ssh-keys.service <<'END'\n"
    "[Unit]\n"
    "Description=Make the SSH host keys of this machine\n"
    "ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key\n"
    "Before=ssh.service sshd.service ssh.socket sshd.socket\n"
    "[Service]\n"
    "Type=oneshot\n"
    "RemainAfterExit=yes\n"
    "ExecStart=/usr/bin/ssh-keygen -A\n"
    "[Install]\n"
    "WantedBy=multi-user.target\n"
    "END\n"
    "    mkdir -p /etc/systemd/system/multi-user.target.wants\n"
    "    ln -sf ../viv-ssh-keys.service \\\n"
    "      /etc/systemd/system/multi-user.target.wants/viv-ssh-keys.service\n"
    "  fi\n"
    "fi\n"
    "rm -f /etc/dropbear/dropbear_*_host_key\n" LEASES SEEDS
    "rm -f /var/lib/systemd/credential.secret\n"
    "rm -rf /var/lib/cloud/*\n"
    "rm -f /etc/udev/rules.d/*persistent-net*.rules\n"
    "[ ! -e /etc/iscsi/initiatorname.iscsi ] ||\n"
    "  echo GenerateName=yes >/etc/iscsi/initiatorname.iscsi\n"
    "rm -rf /var/log/journal/*\n"
    "find /var/log -type f \\( -name '*.gz' -o -name '*.xz' -o -name '*.[0-9]' \\) -exec rm -f {} "
    "+\n"
    "find /var/log -type f -exec sh -c 'for f; do : >\"$f\"; done' sh {} +\n"
    "for h in /root /home/*; do\n"
    "  rm -f \"$h\"/.*_history \"$h\"/.lesshst \"$h\"/.viminfo \"$h\"/.wget-hsts\n"
    "done\n"
    "find /tmp /var/tmp -mindepth 1 -maxdepth 1 -exec rm -rf {} +\n"
    "sync\n"
    "mount -o remount,ro / || sync\n"
    "echo '" IDENTITY_TAKEN "'\n"
    "while :; do :; done\n";
