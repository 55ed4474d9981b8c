#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the C table of the portal's files (src/host/portal.h).

usage: gen-portal.py FOLDER OUTPUT.c OUTPUT.S OUTPUT.bin

FOLDER is what scripts/web.sh made; if it is missing, the one page web/missing.html says how to get the portal. The files themselves go, one behind the
other, into OUTPUT.bin, which OUTPUT.S takes into the program: a compiler would need seconds for them as numbers.
"""
import gzip
import hashlib
import pathlib
import re
import sys

MIME = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
        ".svg": "image/svg+xml", ".woff2": "font/woff2", ".png": "image/png", ".txt": "text/plain; charset=utf-8",
        ".json": "application/json"}
MISSING = pathlib.Path(__file__).resolve().parent.parent / "web/missing.html"
HASHED = re.compile(r"^/assets/.+-[\w-]{8}\.\w+$")

TABLE = """/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Made by scripts/gen-portal.py. */
#include "host/portal.h"

extern const uint8_t portal_bytes[];

const struct portal_file portal_files[] = {
%s    {0},
};
"""

ASSEMBLY = """/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Made by scripts/gen-portal.py. */
    .section .rodata
    .global portal_bytes
    .balign 16
portal_bytes:
    .incbin "%s"
    .byte 0
    .section .note.GNU-stack, "", %%progbits
"""


def main(folder, table, assembly, binary):
    root = pathlib.Path(folder)
    blob, rows = bytearray(), []
    files = {"/" + p.relative_to(root).as_posix(): p for p in sorted(root.rglob("*")) if p.is_file()}
    for name, path in (files or {"/index.html": MISSING}).items():
        if path.suffix not in MIME:
            sys.exit(f"gen-portal.py: '{name}' has an ending that no MIME type is known for; add it to MIME")
        if not re.fullmatch(r"[\w./-]+", name):
            sys.exit(f"gen-portal.py: '{name}' has a name that does not fit into an address")
        data = path.read_bytes()
        packed = gzip.compress(data, 9, mtime=0)
        at, blob = len(blob), blob + data
        gzip_at = len(blob)
        shorter = len(packed) < len(data) * 0.95
        if shorter:
            blob += packed
        rows.append('    {.path = "%s", .mime = "%s", .etag = "\\"%s\\"", .data = portal_bytes + %d, .len = %d, %s'
                    '.hashed = %s},\n' % (name, MIME[path.suffix], hashlib.sha256(data).hexdigest()[:20], at, len(data),
                                          f".gzip = portal_bytes + {gzip_at}, .gzip_len = {len(packed)}, " if shorter else "",
                                          "true" if HASHED.match(name) else "false"))
    pathlib.Path(binary).write_bytes(blob)
    pathlib.Path(assembly).write_text(ASSEMBLY % pathlib.Path(binary).resolve(), encoding="utf-8")
    pathlib.Path(table).write_text(TABLE % "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
