#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Copies what "make build" has made, and what belongs to it, to where a system looks for it.
# usage: install.sh DESTDIR PREFIX        (make install DESTDIR= PREFIX=/usr/local)
#   PREFIX/bin                  viv, vivd, viv-vm and the tools
#   PREFIX/lib/vivarium         viv-agent, which goes into guests, and tls-module.so, TLS for viv-vm
#   PREFIX/lib/systemd          units: the system's manager, a user's manager
#   PREFIX/share/vivarium       guest.sh, which builds images
#   PREFIX/share/man            manual pages, written by the programs themselves
#   PREFIX/share/...            completion for bash, zsh and fish, written by viv and the tools
set -eu
cd "$(dirname "$0")/.."
top=${1-}$2
prefix=$2
built=build/meson
case $prefix in
    /*) ;;
    *)
        echo "install.sh: PREFIX must be an absolute path, not '$prefix'" >&2
        exit 2
        ;;
esac

install -d "$top/bin" "$top/share/man/man1" "$top/share/bash-completion/completions" \
    "$top/share/zsh/vendor-completions" "$top/share/fish/vendor_completions.d"
for file in "$built"/viv*; do
    name=${file##*/}
    if [ ! -f "$file" ] || [ ! -x "$file" ] || [ "$name" = viv-agent ]; then continue; fi
    install -m 755 "$file" "$top/bin/$name"
    "$file" --help-man >"$top/share/man/man1/$name.1"
done
install -D -m 755 -s "$built/viv-agent" "$top/lib/vivarium/viv-agent"
install -D -m 644 -s "$built/tls-module.so" "$top/lib/vivarium/tls-module.so"
install -D -m 755 scripts/guest.sh "$top/share/vivarium/guest.sh"

"$built/viv" completion bash >"$top/share/bash-completion/completions/viv"
"$built/viv" completion zsh >"$top/share/zsh/vendor-completions/_viv"
"$built/viv" completion fish >"$top/share/fish/vendor_completions.d/viv.fish"
for tool in viv-ctl viv-img; do
    "$built/$tool" --completion bash >"$top/share/bash-completion/completions/$tool"
done

install -d "$top/lib/systemd/system" "$top/lib/systemd/user"
sed "s|@bindir@|$prefix/bin|" packaging/vivd.service >"$top/lib/systemd/system/vivd.service"
sed "s|@bindir@|$prefix/bin|" packaging/vivd-user.service >"$top/lib/systemd/user/vivd.service"
chmod 644 "$top"/share/man/man1/viv* "$top"/share/bash-completion/completions/viv* \
    "$top/share/zsh/vendor-completions/_viv" "$top/share/fish/vendor_completions.d/viv.fish" \
    "$top/lib/systemd/system/vivd.service" "$top/lib/systemd/user/vivd.service"
