/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backups of the store: whole files backups/store-TIME.db in the data folder, made while the
 * manager runs, one a day and on request; the newest BACKUP_KEEP of them are kept. `vivd --restore`
 * puts one back when no manager runs. What the store does not know then, a manager would take for
 * remains of a crash and remove: it is set aside instead, as when a store is begun anew beside
 * machines.
 */
#ifndef HOST_BACKUP_H
#define HOST_BACKUP_H

#include "host/manager.h"

enum { BACKUP_KEEP = 7 };

struct backups;
struct api_call;

struct backups *backups_new(struct manager *m);
void backups_begin(struct backups *b);
void backups_free(struct backups *b); /* accepts NULL */

/* "20261129T230405Z", for names of files. */
void backup_stamp(char *out, size_t size);
/* The newest backup's name; "" if there is none. */
void backup_newest(const char *data, char *out, size_t size);
/* `which`: a name out of the list, a path, or "latest". Says on stdout what was done. */
int backup_restore(struct home *home, const char *which, struct error *err);

/* Moves folders and files of machines, images and volumes that the store does not know to
 * lost/TIME/; how many, or negative. */
int backup_set_aside(const struct home *home, struct store *store, struct error *err);

/* The operations of the host. */
int backup_create(struct api_call *call);
int backup_list(struct api_call *call);

#endif
