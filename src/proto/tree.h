/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A folder with all that is in it as frames (docs/agent.md): what both ends of a copy do. An entry
 * is a frame AGENT_ENTRY; the bytes of a file follow as AGENT_DATA, with none as its end. A
 * folder's entries follow it up to an entry TREE_UP, and one more TREE_UP ends the whole.
 *
 * Bytes of an entry: kind (u8), permissions (u32), time of the last change in nanoseconds since
 * 1970 (s64), length of the name (u16), the name, and what a link leads to; little-endian.
 *
 * Contract: the calls wait. The other end is not trusted: a name is that of something within the
 * folder where it comes, links that are there are never followed, and so nothing outside of
 * `folder` is read or written. Files and links appear whole or not at all; what had come when a
 * copy breaks off stays. Owners are not carried over, what is made belongs to whoever makes it; nor
 * are the set-user-ID bits. Files that are neither regular, folders nor symbolic links are left out
 * and counted.
 */
#ifndef PROTO_TREE_H
#define PROTO_TREE_H

#include "proto/agent.h"

enum tree_kind { TREE_UP, TREE_FOLDER, TREE_FILE, TREE_LINK, TREE_OTHER };
enum { TREE_DEEPEST = 200, TREE_HEAD = 15 };

struct tree_count {
    uint64_t files, bytes, left_out; /* files: links and folders too */
};

/* Sends what is in the folder. `name` is for sentences. */
int tree_send(int fd, int folder, const char *name, struct error *err);
/* Takes it until its end, into the folder. An AGENT_RESULT in between is the other end's failure.
 */
int tree_receive(struct agent_reader *from, int timeout_ms, int folder, const char *name,
                 struct tree_count *ret, struct error *err);
/* The last component of a path, as what `cp` calls a copy within an existing folder: "" for "/",
 * "." for a path that ends so; NULL with the sentence: "..", or longer than any name. */
const char *tree_last(const char *path, char out[256], struct error *err);

#endif
