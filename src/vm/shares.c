/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The shared folders of a machine. */
#include "vm/shares.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "jail/folder.h"
#include "share/server.h"
#include "share/share.h"
#include "state/snapshot.h"
#include "vm/options.h"

int shares_start(struct shares *s, const struct options *o, struct error *err) {
    static const struct share_confine confine = {jail_folder_root, jail_folder_rights,
                                                 jail_folder_calls};

    for (; s->servers < o->shares; s->servers++) {
        const struct options_share *from = &o->share[s->servers];
        struct share_options how = {.path = from->path, .readonly = from->readonly};
        struct share_server *server = share_server_start(&how, &confine, err);

        if (!server)
            return error_prefix(err, "--share");
        s->server[s->servers] = server;
        if (*share_server_missing(server))
            log_notice("the server of the shared folder '%s' is not shut in wholly on this host: "
                       "%s",
                       from->tag, share_server_missing(server));
    }
    return 0;
}

int shares_open(struct shares *s, struct loop *loop, const struct options *o,
                struct machine_config *m, struct error *err) {
    for (; s->count < o->shares; s->count++) {
        const struct options_share *from = &o->share[s->count];
        struct share_options how = {.path = from->path,
                                    .readonly = from->readonly,
                                    .server = s->servers ? s->server[s->count] : NULL};
        struct share *share = share_open(loop, &how, err);

        if (!share)
            return error_prefix(err, "--share");
        s->share[s->count] = share;
        m->share[m->shares++] = (struct machine_share){from->tag, share};
    }
    return 0;
}

void shares_close(struct shares *s) {
    while (s->count)
        share_close(s->share[--s->count]);
    while (s->servers)
        share_server_stop(s->server[--s->servers]);
}

static void section_of(char name[SNAPSHOT_NAME], unsigned i) {
    snprintf(name, SNAPSHOT_NAME, "share%u.files", i);
}

void shares_save(const struct shares *s, struct snapshot_sections *out) {
    char name[SNAPSHOT_NAME];

    for (unsigned i = 0; i < s->count; i++) {
        struct buf b = {0};

        share_save(s->share[i], &b);
        section_of(name, i);
        snapshot_add(out, name, SNAPSHOT_RAW, b.data, b.len);
        buf_done(&b);
    }
}

int shares_load(struct shares *s, const struct options *o, const struct snapshot *from,
                struct error *err) {
    char name[SNAPSHOT_NAME];

    for (unsigned i = 0; i < s->count; i++) {
        const struct snapshot_section *section;

        section_of(name, i);
        section = snapshot_find(from, name);
        if (!section || section->kind != SNAPSHOT_RAW)
            return error_set(
                err, -EINVAL,
                "the snapshot '%s' does not tell what the guest had open of the shared "
                "folder '%s': it is of a machine with fewer of them",
                from->dir, o->share[i].tag);
        if (share_load(s->share[i], section->data, section->size, err) < 0)
            return err->code;
    }
    return 0;
}
