/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a snapshot names and the command line does not. */
#include "vm/restore_only.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "machine/boot.h"
#include "vm/nics.h"
#include "vm/options.h"

static bool same_file(const char *a, const char *b) {
    char x[PATH_MAX], y[PATH_MAX];

    return !strcmp(a, b) || (realpath(a, x) && realpath(b, y) && !strcmp(x, y));
}

static bool may(const struct options *o, const char *path) {
    for (unsigned i = 0; i < o->restore_onlys; i++)
        if (same_file(path, o->restore_only[i]))
            return true;
    return false;
}

static int check(const struct options *o, const char *what, const char *path, struct error *err) {
    if (!path || may(o, path))
        return 0;
    return error_set(err, -EINVAL,
                     "it names the %s '%.200s' of this host, which nobody else does: whoever wrote "
                     "the snapshot may have put that there; name it with --restore-only if it is "
                     "right",
                     what, path);
}

/* Names without a folder are those of what the host has installed. */
static int check_boot(const struct options *o, struct error *err) {
    int r = 0;

    if (!options_given(o, "kernel"))
        r = check(o, "kernel", o->kernel, err);
    for (unsigned i = 0; r == 0 && !options_given(o, "initrd") && i < o->initrds; i++) {
        char *path = strndup(o->initrd[i], boot_module_path(o->initrd[i]));

        r = path ? check(o, "initial RAM disk", path, err)
                 : error_set(err, -ENOMEM, "machine.json: out of memory");
        free(path);
    }
    if (r == 0 && !options_given(o, "firmware") && o->firmware && strchr(o->firmware, '/'))
        r = check(o, "firmware", o->firmware, err);
    if (r == 0 && !options_given(o, "uefi-vars"))
        r = check(o, "variables of UEFI", o->uefi_vars, err);
    return r;
}

static int check_line(const struct options *o, const char *what, const char *spec,
                      struct error *err) {
    return !spec || !strcmp(spec, "none") ? 0 : check(o, what, spec, err);
}

static int check_disks(const struct options *o, struct error *err) {
    int r = 0;

    for (unsigned i = 0; r == 0 && !options_given(o, "disk") && i < o->disks; i++)
        r = check(o, "disk", o->disk[i].path, err);
    for (unsigned i = 0; r == 0 && !options_given(o, "share") && i < o->shares; i++)
        r = check(o, "shared folder", o->share[i].path, err);
    return r;
}

static int check_nics(const struct options *o, struct error *err) {
    int r = 0;

    for (unsigned i = 0; r == 0 && i < o->nics; i++) {
        const struct options_nic *n = &o->nic[i];

        if (n->rom && !nics_rom_is_usual(n))
            r = check(o, "ROM of a network interface", n->rom, err);
        if (r == 0 && !options_given(o, "nic"))
            r = check(o, "network", n->link, err);
        if (r == 0 && !options_given(o, "nic"))
            r = check(o, "folder of TFTP", n->tftp, err);
    }
    return r;
}

static void take_out(struct options *o, unsigned displays) {
    for (unsigned i = 0; !options_given(o, "cdrom") && i < o->cdroms; i++)
        if (o->cdrom[i] && !may(o, o->cdrom[i]))
            o->cdrom[i] = NULL;
    o->displays = displays;
}

int restore_only(struct options *o, unsigned serials, unsigned displays, struct error *err) {
    int r = check_boot(o, err);

    for (unsigned i = serials; r == 0 && i < o->serials; i++)
        r = check_line(o, "serial line", o->serial[i], err);
    if (r == 0 && !options_given(o, "console"))
        r = check_line(o, "console", o->console, err);
    if (r == 0 && !options_given(o, "vsock"))
        r = check(o, "socket of vsock", o->vsock, err);
    if (r == 0)
        r = check_disks(o, err);
    if (r == 0)
        r = check_nics(o, err);
    if (r == 0)
        take_out(o, displays);
    return r;
}
