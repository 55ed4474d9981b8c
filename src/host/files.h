/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of the host that callers may name: for media, firmware, passwords, imports, exports. The
 * manager opens them with the rights of its user, so it matters who names them.
 *
 * | caller | may name |
 * | --- | --- |
 * | an admin by the local socket | any: it is that user, or root |
 * | an admin from the network | what lies in `media` of the data folder, and in folders that vivd
 * |                           | was told of (--remote-files) |
 * | others | none |
 *
 * Which fields those are their declarations tell (field_host_path).
 */
#ifndef HOST_FILES_H
#define HOST_FILES_H

#include "host/api.h"

enum { FILES_MOST = 16 };
#define FILES_MEDIA "media"

struct files_allowed {
    const char *folder[FILES_MOST]; /* beside media; absolute */
    unsigned count;
};

/* Each path that the call's arguments and spec name. */
int files_check(struct api_call *call);

/* Where a path leads to, all links followed, is that in one of the folders, and may nobody else
 * change that? What is to be made needs a folder that is there. */
bool files_within(const char *const folders[], unsigned count, const char *path);

#endif
