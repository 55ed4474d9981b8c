/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of viv-vm: an option after the other, and what must hold for all of them
 * together. */
#include "vm/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vm/options_internal.h"
#include "vm/passed.h"

/* Another option where a value was due: the value was forgotten. (--opt=VALUE takes any value.) */
static bool is_option(const char *arg) {
    const char *value;

    return !strncmp(arg, "--", 2) && option_find(arg + 2, &value, NULL);
}

static int parse_one(struct options *o, int argc, char **argv, int *i, struct error *err) {
    const char *arg = argv[*i], *value;
    const struct option *opt;
    int r;

    if (strncmp(arg, "--", 2) != 0 || !arg[2])
        return error_set(
            err, -EINVAL,
            "'%.60s' is no option: options begin with --, 'viv-vm --help' lists them all", arg);
    opt = option_find(arg + 2, &value, err);
    if (!opt)
        return -EINVAL;
    if (opt->value && !value) {
        if (*i + 1 >= argc || is_option(argv[*i + 1]))
            return error_set(err, -EINVAL, "--%s needs a value (%s), as in %s", opt->name,
                             opt->value, opt->example);
        value = argv[++*i];
    }
    if (!opt->value && value)
        return error_set(err, -EINVAL, "--%s takes no value", opt->name);
    o->given |= 1ull << (opt - options_table);
    r = opt->set(o, value, err);
    return r < 0 ? error_prefix(err, "--%s", opt->name) : 0;
}

static int check(const struct options *o, struct error *err) {
    bool viewers = false;

    if (o->help || o->help_man || o->version)
        return 0;
    for (unsigned i = 0; i < o->traces; i++)
        if (!strcmp(o->trace[i], "help"))
            return 0;
    if (!o->kernel && !o->firmware && !o->restore)
        return error_set(err, -EINVAL,
                         "there is nothing to boot: give a kernel with --kernel FILE, firmware "
                         "with --firmware bios or uefi, or a snapshot with --restore FOLDER");
    if (o->kernel && o->firmware)
        return error_set(err, -EINVAL,
                         "--kernel boots without firmware: leave --firmware out, or have it boot "
                         "from a disk");
    if (o->uefi_vars && !o->restore && (!o->firmware || !strcmp(o->firmware, "bios")))
        return error_set(
            err, -EINVAL,
            "--uefi-vars keeps the variables of UEFI firmware: give it with --firmware "
            "uefi");
    if (o->smm == SMM_ON && !o->firmware && !o->restore)
        return error_set(err, -EINVAL,
                         "--smm on is for firmware: give it with --firmware uefi-secure");
    if (o->firmware && (o->initrds || o->append))
        return error_set(err, -EINVAL,
                         "--initrd and --append belong to --kernel: firmware boots what is on the "
                         "disks, with its own settings");
    if (option_check_lines(o, err) < 0)
        return -EINVAL;
    for (unsigned i = 0; i < o->displays; i++)
        viewers |= o->vnc[i].on;
    if (viewers && !options_has_screen(o))
        return error_set(err, -EINVAL,
                         "--display shows a screen, and --vga none takes it away: leave one of "
                         "the two out");
    if (o->template && (!o->restore || !o->control))
        return error_set(err, -EINVAL,
                         "--template forks machines from a snapshot for those who ask at a socket: "
                         "give it with --restore FOLDER and --control unix:PATH");
    if ((o->prefetch || o->record_working_set) && !o->restore)
        return error_set(err, -EINVAL,
                         "--prefetch and --record-working-set are about the pages of a snapshot: "
                         "give one with --restore FOLDER");
    if (o->prefetch && o->record_working_set)
        return error_set(err, -EINVAL,
                         "--prefetch would load pages that --record-working-set then takes for "
                         "touched: give one of the two");
    if (o->restore_onlys && !o->restore)
        return error_set(err, -EINVAL,
                         "--restore-only says what a snapshot may name: give one with --restore "
                         "FOLDER");
    if (o->renew_identity && !o->restore)
        return error_set(err, -EINVAL,
                         "--renew-identity is for machines that go on with a snapshot: give it "
                         "with --restore FOLDER, or give --nic user,mac=MAC");
    if (o->paused && !o->control)
        return error_set(err, -EINVAL,
                         "--paused leaves nobody who could resume the machine: give it --control");
    if (o->restore && options_refuse_devices(o, "--restore", err) < 0)
        return -EINVAL;
    return option_check_translator(o, err) < 0 ? -EINVAL : option_check_nics(o, err);
}

int options_parse(struct options *o, int argc, char **argv, struct error *err) {
    *o = (struct options){.name = "",
                          .cpu = "auto",
                          .cpu_model = "host",
                          .vsock_cid = VSOCK_CID_DEFAULT,
                          .cpus = 1,
                          .memory = 512ull << 20};
    for (int i = 1; i < argc; i++) {
        int r = parse_one(o, argc, argv, &i, err);
        if (r < 0)
            return r;
    }
    if (!o->serials)
        o->serial[o->serials++] = "stdio";
    return check(o, err);
}
