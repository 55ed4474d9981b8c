/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The controller of machines: brings each to what its row wants.
 *
 * A machine is a folder, machines/ID/: disk.qcow2 (on top of its image), lock and run
 * (vm_process.h), log and log.old (what viv-vm said), control, serial and vsock (its sockets),
 * and seed.img if the guest is to be told something.
 *
 * Members of a row's `wanted`, all numbers but the last three:
 *   cycle       number of the start that is wanted; grows with each start
 *   ended       the last start whose end was written down
 *   launched    the last start that was seen running
 *   up          when that was, ms since 1970
 *   stop_by     when a process that is not wanted any more is ended by force
 *   stop_ms     how long that was from when it was asked
 *   next_start  not before that (restart policy)
 *   failures    restarts in a row that did not last
 *   force       do not ask the guest
 *   prepared    the folder and its disk are made
 *   deleting    nothing of it is to be left
 */
#ifndef HOST_VM_H
#define HOST_VM_H

#include "host/manager.h"

struct machines;

/* Has its guest got the identity that it is to have? (vm_renew.c) */
bool machine_is_itself(const struct store_row *row);

struct machines *machines_new(struct manager *m, struct error *err);
/* Looks at every machine that may need it, and at folders that belong to none. */
void machines_load(struct machines *ms);
/* The manager ends: workers leave what takes long to the next one. */
void machines_leave_work(struct machines *ms); /* accepts NULL */
/* Processes stay. */
void machines_free(struct machines *ms);
void machines_job_changed(struct machines *ms, const char *job);
/* Looks at one soon. */
void machines_kick(struct machines *ms, const char *id);
/* Somebody wants to know about the agent in its guest, for so long. */
void machines_want_agent(struct machines *ms, const char *id, int64_t seconds);
unsigned machines_active(const struct machines *ms); /* that have a process, or something to do */

/* Asks each that is up for what it uses; returns how many. usage_came(round) follows for each of
 * them. One that has not answered an earlier round is left out. */
unsigned machines_ask_usage(struct machines *ms, unsigned round);
struct usage;
struct histories;
/* history_saw for each; how many are up. */
unsigned machines_saw(struct machines *ms, struct histories *h);
/* What it said last; NULL: it has no process that answers. */
const struct usage *machine_usage(const struct machines *ms, const char *id);

/* The path of a file in a machine's folder, short enough for a socket. */
void machine_path(const struct manager *m, const char *id, const char *file, char *out, size_t n);

/* The disk that tells the guest who it is (cloud.h), made anew at each start. */
#define VM_SEED       "seed.img"
#define VM_SERIAL_LOG "serial.log"

/* The command line of its process; NULL with a sentence. For vm_argv_free. */
char **vm_argv(struct manager *m, const struct store_row *row, struct error *err);
void vm_argv_free(char **argv);

/* Is nothing going to happen by itself? */
bool vm_settled(const char *state);

/* Serial lines: one connection to the machine, any number of clients (console.c). */
struct consoles *consoles_new(struct manager *m);
void consoles_free(struct consoles *c);
unsigned consoles_count(const struct consoles *c);
struct api_call;
/* The call's client becomes one of the console of call->row; as an operation (api.h). */
int console_attach(struct api_call *call);

#endif
