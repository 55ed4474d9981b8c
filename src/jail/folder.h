/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The jail of a process that serves a folder (share/server.h): it opens files by names, which no
 * filter can look at, so that what it reaches is bounded by the kernel: the folder is its root,
 * where that can be had, and Landlock forbids to open anything else.
 */
#ifndef JAIL_FOLDER_H
#define JAIL_FOLDER_H

#include <stdbool.h>
#include <stddef.h>

/* With one thread, before it has anything open below `path`. True: "/" is the folder now. Only for
 * root, as the owners of files are others inside of a user namespace. */
bool jail_folder_root(const char *path);
/* For threads to come as well. What could not be had is said in `missing`. */
void jail_folder_rights(int folder, bool readonly, char *missing, size_t room);
/* For all threads that there are. */
void jail_folder_calls(char *missing, size_t room);

#endif
