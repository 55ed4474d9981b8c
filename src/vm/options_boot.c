/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of what it begins with: kernel, firmware, order, or a snapshot. */
#include "vm/options_internal.h"

#include <errno.h>
#include <string.h>

int option_kernel(struct options *o, const char *v, struct error *err) {
    o->kernel = v;
    return 0;
}

int option_initrd(struct options *o, const char *v, struct error *err) {
    if (o->initrds == MACHINE_MAX_INITRDS)
        return error_set(err, -EINVAL, "at most %d initial RAM disks or modules can be given",
                         MACHINE_MAX_INITRDS);
    o->initrd[o->initrds++] = v;
    return *v ? 0 : error_set(err, -EINVAL, "give the path of a file");
}

int option_firmware(struct options *o, const char *v, struct error *err) {
    o->firmware = v;
    return *v ? 0
              : error_set(err, -EINVAL, "give bios, uefi, uefi-secure or the path of a ROM image");
}

int option_uefi_vars(struct options *o, const char *v, struct error *err) {
    o->uefi_vars = v;
    return *v ? 0 : error_set(err, -EINVAL, "give the path of a file");
}

int option_firmware_log(struct options *o, const char *v, struct error *err) {
    o->firmware_log = v;
    return 0;
}

int option_append(struct options *o, const char *v, struct error *err) {
    o->append = v;
    return 0;
}

int options_set_boot_order(struct options *o, const char *v, struct error *err) {
    if (!*v || strspn(v, "cdn") != strlen(v))
        return error_set(err, -EINVAL,
                         "order= takes the letters c (disks), d (optical drives) and n (network), "
                         "as in order=dc, not '%s'",
                         v);
    o->boot_order = v;
    return 0;
}

int option_boot(struct options *o, const char *v, struct error *err) {
    char *rest = options_keep(o, v), *part;
    unsigned on;

    while ((part = option_next_part(&rest))) {
        if (!strncmp(part, "order=", 6)) {
            if (options_set_boot_order(o, part + 6, err) < 0)
                return -EINVAL;
        } else if (!strncmp(part, "first=", 6) && part[6]) {
            o->boot_first = part + 6;
        } else if (!strncmp(part, "menu=", 5) &&
                   option_parse_word(part + 5, option_switch_words, &on) == 0) {
            o->boot_menu = on;
        } else {
            return error_set(err, -EINVAL,
                             "'%s' is none of order=LETTERS, first=SERIAL and menu=on|off", part);
        }
    }
    return 0;
}

int option_restore(struct options *o, const char *v, struct error *err) {
    o->restore = v;
    return 0;
}

int option_restore_only(struct options *o, const char *v, struct error *err) {
    if (o->restore_onlys == OPTIONS_MAX_ONLY)
        return error_set(err, -EINVAL, "there are at most %d of --restore-only", OPTIONS_MAX_ONLY);
    o->restore_only[o->restore_onlys++] = v;
    return 0;
}

int option_renew_identity(struct options *o, const char *v, struct error *err) {
    o->renew_identity = true;
    return 0;
}

int option_template(struct options *o, const char *v, struct error *err) {
    o->template = true;
    return 0;
}

int option_prefetch(struct options *o, const char *v, struct error *err) {
    o->prefetch = true;
    return 0;
}

int option_record_working_set(struct options *o, const char *v, struct error *err) {
    unsigned long seconds;
    int r = option_parse_number(v, 1, 3600, &seconds, err);

    o->record_working_set = r < 0 ? 0 : (unsigned)seconds;
    return r;
}

int option_paused(struct options *o, const char *v, struct error *err) {
    o->paused = true;
    return 0;
}
