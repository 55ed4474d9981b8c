/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of the controller of machines share: vm.c (the table of them, kicks, their rows),
 * vm_steps.c (what comes next), vm_make.c (its folder and disk), vm_start.c (turns, launch, the
 * process and its control socket), vm_stop.c (how a process is ended, and what follows from an
 * end).
 *
 * Contract: the loop's thread; nothing of it is known outside of these files (vm.h).
 */
#ifndef HOST_VM_IMPL_H
#define HOST_VM_IMPL_H

#include "host/image.h"
#include "host/layers.h"
#include "host/usage.h"
#include "host/vm.h"
#include "host/vm_process.h"
#include "vfio/group.h"

/* The longest that a restart policy waits. */
enum { BACKOFF_MOST_MS = 60000 };

struct machine {
    struct machines *all;
    struct machine *next, **link;
    char id[STORE_WORD];
    bool queued, waiting, starting, busy, made, removed;
    bool forgotten;       /* freed by the call that is queued */
    unsigned long ticket; /* of who waits for its turn to start; 0: none */
    int folder;           /* -1: not opened */
    bool looked;          /* for a process */
    struct vm_process process;
    struct loop_watch *watch;
    int64_t last_cycle; /* of the last process that there was */
    struct vm_process_end end;
    char end_how[24]; /* as the control socket told it, "" if it did not */
    struct vm_control *control;
    bool up, paused;
    char why_paused[STORE_WORD];
    int64_t connect_since;        /* tries to reach its control socket, by the monotonic clock */
    int64_t pressed, quit, noise; /* by the monotonic clock, 0: never */
    int64_t stop_by, stop_due;    /* wanted.stop_by, and the same by the monotonic clock */
    bool resume_sent, pause_sent, agent_asked;
    struct snapshot_task *task;     /* for the worker, or done */
    int64_t tidy_again, tidy_pause; /* tidying failed: not before then; how long that was. 0: no */
    struct vm_probe *probe;
    struct vm_agent *asking; /* the agent, for a shutdown */
    struct usage usage;
    struct history_series *history;
    bool old_stats;       /* it was started by an older version, whose `stats` takes no arguments */
    unsigned usage_round; /* in which it was asked and has not answered; 0: none */
    char *forwards_told;  /* its forwards as viv-vm was told them; NULL: it was not */
    int64_t forwards_failed; /* some could not be opened: when that was seen; 0: none */
    char *medium;            /* in its optical drive; "": none. NULL: no drive, or not known */
    char *medium_wanted;
    bool medium_asked;
    int64_t medium_failed;       /* when that was seen; 0: it did not */
    json_t *disks;               /* as viv-vm told them; NULL: it did not */
    char disk_asked[STORE_WORD]; /* the volume that is being plugged in or let go of; "" none */
    int64_t disk_again;          /* not before that, by the monotonic clock; 0: at once */
    int64_t disk_revision;       /* of the row that was tried then */
    json_t *nics;                /* the same of network interfaces */
    char nic_asked[STORE_WORD];
    int64_t nic_again, nic_revision;
    json_t *passed; /* devices of the host, the same */
    char device_asked[VFIO_NAME];
    int64_t device_again, device_revision;
    struct lending
        *lending; /* of a device from its driver or back, for the worker; NULL: none yet */
    int64_t limited, limited_cycle;   /* its limit of processor time, and of which process */
    json_t *live;                     /* the status that viv-vm told; NULL: it did not */
    json_t *live_told, *live_refused; /* by field: the value, and why it is not so */
    const char *live_asked;           /* the field; NULL: none */
    int64_t live_again;
    struct timer timer;
    int64_t due; /* of the timer, 0: it does not run */
    struct error work_error;
    /* While it is made (vm_make.c), for the worker: */
    struct image_files image;
    int64_t disk_size;
    char frozen[LAYER_NAME], file[LAYER_NAME]; /* of a clone: what it stands on, its own file */
    bool copying;                              /* a full clone */
    char clone_of[STORE_WORD];                 /* id of the machine */
    int64_t vars_done;                         /* atomic; bytes, of no interest */
    char job[STORE_WORD];
    int stop;         /* atomic: the worker is to give up */
    int64_t done, of; /* atomic; bytes */
    struct timer note;
    struct renewal *renewal; /* of its guest's identity, by a worker; it stays as long */
    unsigned renewals;
    int64_t renew_at; /* not before that, by the monotonic clock */
};

struct machines {
    struct manager *m;
    struct machine *first;
    struct workers *renewers; /* guests take their time, and others need not wait for them */
    unsigned starting, most_starting, active;
    unsigned long tickets;
};

/* ---- vm.c ---- */

/* Does the one thing that comes next (vm_steps.c); soon; in so long (of several times the first
 * counts). */
void machine_step(struct machine *v);
void machine_kick(struct machine *v);
void machine_again_in(struct machine *v, int64_t ms);
/* Nothing is to be done about it: it leaves the table, and may be freed. */
void machine_forget(struct machine *v);
bool machine_open_folder(struct machine *v);
void machine_leave_agent(struct machine *v);
/* It has said what it uses, or will not; it is not known what it uses. */
void machine_usage_over(struct machine *v);
void machine_usage_lost(struct machine *v);
/* Writes the row, with an event if `what` is not NULL. */
bool machine_save_row(struct machine *v, struct store_row *row, enum store_durability durability,
                      const char *what, const char *text);
void machine_save_row_failed(struct machine *v, const struct error *e); /* it is tried again */
/* An event alone. */
void machine_tell(struct machine *v, const char *what, const char *text);
/* Failed before it had a process. */
void machine_not_made(struct machine *v, struct store_row *row, const struct error *e);

/* ---- vm_steps.c ---- */

void machine_begin_work(struct machine *v, void (*work)(void *opaque)); /* a step follows */
void machine_step_row(struct machine *v, struct store_row *row);
void machine_step_delete(struct machine *v,
                         struct store_row *row); /* row NULL: a folder of nothing */

/* ---- vm_make.c ---- */

/* The folder and the disk: anew, or of another machine. */
void machine_step_make(struct machine *v, struct store_row *row);
/* The row, or its job, has changed while a worker is busy: what can wait makes room. */
void machine_look_at_work(struct machine *v);
/* The manager ends: the worker leaves what it does to the next one, soon. */
void machine_leave_work(struct machine *v);

/* ---- vm_renew.c ---- */

/* If its guest is to get an identity, and has an agent: asks it. */
void machine_renew(struct machine *v, const struct store_row *row);
void machine_renew_free(struct machine *v);
void machine_renew_stop(struct machine *v); /* the worker ends soon */

/* ---- vm_start.c ---- */

void machine_step_start(struct machine *v, struct store_row *row);
/* What this manager does not know, it finds. False: later. */
bool machine_find_process(struct machine *v);
void machine_connect(struct machine *v);
/* Many that start at the same time would all be slow: a few at a time, in order. */
void machine_not_starting(struct machine *v); /* any more, so that the next may */
void machines_next_turn(struct machines *ms);

/* ---- vm_forward.c ---- */

/* Tells viv-vm what the forwards of its user-mode network are, if that is news. */
void machine_step_forwards(struct machine *v, const struct store_row *row);
void machine_forwards_answered(struct machine *v, const json_t *result);
void machine_forwards_lost(struct machine *v); /* the process, or the connection to it */

/* ---- vm_medium.c ---- */

/* Has viv-vm put the medium that is wanted into the drive. */
void machine_step_medium(struct machine *v, const struct store_row *row);
void machine_medium_seen(struct machine *v, const json_t *status);
void machine_medium_changed(struct machine *v);
void machine_medium_refused(struct machine *v, const char *text);
void machine_medium_lost(struct machine *v); /* the process, or the connection to it */

/* ---- vm_disks.c ---- */

/* Has viv-vm plug in the volumes that are wanted, and let go of those that are not. */
void machine_step_disks(struct machine *v, struct store_row *row);
/* Without a process: what was to be let go of is free. True: the row was changed. */
bool machine_drop_unplugged(struct machine *v, struct store_row *row);
void machine_disks_seen(struct machine *v, const json_t *status);
void machine_disks_answered(struct machine *v, const char *why); /* NULL: it is done */
void machine_disks_event(struct machine *v, const json_t *data);
void machine_disks_lost(struct machine *v); /* the process, or the connection to it */

/* ---- vm_nics.c, vm_nic_steps.c ---- */

struct nic_words;
enum { NIC_OPTION = 3500 }; /* room for: */
/* What --nic says of an interface, without its forwards. */
int machine_nic_text(struct manager *m, const struct store_row *row, const struct nic_words *nic,
                     char *out, size_t size, struct error *err);
/* Has viv-vm plug in the interfaces that are wanted, and let go of others. */
void machine_step_nics(struct machine *v, struct store_row *row);
void machine_nics_seen(struct machine *v, const json_t *status);
void machine_nics_answered(struct machine *v, const char *why); /* NULL: it is done */
void machine_nics_event(struct machine *v, const json_t *data);
void machine_nics_lost(struct machine *v); /* the process, or the connection to it */
void machine_unset_nics(struct store_row *row);
/* The number of the one with user-mode network; -1: there is none, or nobody knows. */
int machine_user_nic(const struct machine *v, const struct store_row *row);
bool machine_has_nic(const struct store_row *row, const char *network); /* by its status */

/* ---- vm_device_steps.c ---- */

/* Takes the devices that it wants from drivers of the host. -EAGAIN: a step follows. */
int machine_lend(struct machine *v, struct store_row *row, struct error *err);
/* Gives back what was taken and is wanted no more, or all of it. True: a step follows. */
bool machine_give_back(struct machine *v, struct store_row *row, bool all);
/* How much memory its process must be able to lock for devices; 0: it has none. */
uint64_t machine_lock_limit(const struct store_row *row);
/* Has viv-vm plug in the devices that are wanted, and let go of others. */
void machine_step_devices(struct machine *v, struct store_row *row);
void machine_devices_seen(struct machine *v, const json_t *status);
void machine_devices_answered(struct machine *v, const char *why); /* NULL: it is done */
void machine_devices_event(struct machine *v, const json_t *data);
void machine_devices_lost(struct machine *v); /* the process, or the connection to it */
void machine_unset_devices(struct store_row *row);

/* ---- vm_limits.c ---- */

/* Has its control group hold the limit of processor time that is wanted, or says that none does. */
void machine_step_limits(struct machine *v, struct store_row *row);

/* ---- vm_live.c ---- */

/* Has viv-vm change what it can while the machine runs: balloon ... */
void machine_step_live(struct machine *v, struct store_row *row);
bool machine_live_is(const char *command); /* one of those that it gives */
void machine_live_seen(struct machine *v, const json_t *status);
void machine_live_answered(struct machine *v, const char *why); /* NULL: it is done */
void machine_live_lost(struct machine *v); /* the process, or the connection to it */

/* ---- vm_stop.c ---- */

/* Ends its process: asks the guest until the time is over. */
void machine_step_stop(struct machine *v, const struct store_row *row);
/* Writes down how the cycle-th process ended, and what follows from it. */
void machine_step_ended(struct machine *v, struct store_row *row, int64_t cycle);

#endif
