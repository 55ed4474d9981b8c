#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes a Debian package of what "make build" has made: FOLDER/vivarium_VERSION_ARCHITECTURE.deb
# usage: deb.sh [FOLDER]        (make deb; default build)
# Needs dpkg-dev (dpkg-shlibdeps) and binutils (strip). The files belong to root whoever makes it.
# SOURCE_DATE_EPOCH, by default the time of the last commit, is the time of every file: the same
# sources give the same package.
set -eu
umask 022
cd "$(dirname "$0")/.."
out=$(realpath "${1:-build}")
version=$(sed -n "s/^ *version: '\(.*\)',/\1/p" meson.build)
architecture=$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

if ! [ -f build/web/dist/index.html ]; then
    echo "deb.sh: the portal was not built: a package must have it. Install nodejs and npm, then 'make web' and 'make deb'." >&2
    exit 1
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/viv-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
tree=$work/tree
doc=$tree/usr/share/doc/vivarium
scripts/install.sh "$tree" /usr
for program in "$tree"/usr/bin/*; do strip --strip-unneeded "$program"; done
install -D -m 644 packaging/deb/copyright "$doc/copyright"
install -m 644 build/web/dist/licences.txt "$doc/portal-licences.txt"
printf 'vivarium (%s) unstable; urgency=medium\n\n  * Version %s; its history is in the sources.\n\n -- %s  %s\n' \
    "$version" "$version" "$(sed -n 's/^Maintainer: //p' packaging/deb/control)" \
    "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" >"$doc/changelog"
gzip -9n "$doc/changelog" "$tree"/usr/share/man/man1/*.1

# dpkg-shlibdeps asks for a source package around it.
mkdir -p "$work/debian" "$tree/DEBIAN"
printf 'Source: vivarium\n\nPackage: vivarium\nArchitecture: any\nDescription: -\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O tree/usr/bin/* | sed -n 's/^shlibs:Depends=//p')
if [ -z "$depends" ]; then
    echo "deb.sh: dpkg-shlibdeps named no library that the programs need" >&2
    exit 1
fi
size=$(du -k -s --apparent-size --exclude=DEBIAN "$tree" | cut -f1)
sed -e "s|@version@|$version|" -e "s|@architecture@|$architecture|" -e "s|@size@|$size|" \
    -e "s|@depends@|$depends|" packaging/deb/control >"$tree/DEBIAN/control"
install -m 755 -t "$tree/DEBIAN" packaging/deb/postinst packaging/deb/prerm packaging/deb/postrm
(cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
chmod 644 "$tree/DEBIAN/md5sums" "$tree/DEBIAN/control"

package=vivarium_${version}_$architecture.deb
dpkg-deb --build --root-owner-group "$tree" "$work/$package" >/dev/null
mv -f "$work/$package" "$out/$package"
echo "deb: $out/$package ($(du -k "$out/$package" | cut -f1) KiB)"
