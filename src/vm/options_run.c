/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of the program: messages, the jail, debugging. */
#include "vm/options_internal.h"

#include <errno.h>

#include "base/log.h"
#include "cpu/cpu.h"

int option_log_format(struct options *o, const char *v, struct error *err) {
    if (!log_format_read(v, &o->log_json))
        return error_set(err, -EINVAL, "--log-format is text or json, not '%s'", v);
    return 0;
}

int option_no_jail(struct options *o, const char *v, struct error *err) {
    o->no_jail = true;
    return 0;
}

int option_jail_user(struct options *o, const char *v, struct error *err) {
    o->jail_user = v;
    return 0;
}

int option_trace(struct options *o, const char *v, struct error *err) {
    if (o->traces == OPTIONS_MAX_TRACES)
        return error_set(err, -EINVAL, "at most %d --trace patterns can be given",
                         OPTIONS_MAX_TRACES);
    o->trace[o->traces++] = v;
    return 0;
}

int option_no_reboot(struct options *o, const char *v, struct error *err) {
    o->no_reboot = true;
    return 0;
}

int option_debug_exit(struct options *o, const char *v, struct error *err) {
    o->debug_exit = true;
    return 0;
}

int option_soft_debug(struct options *o, const char *v, struct error *err) {
    uint32_t off;
    int r = cpu_debug_parse(v, &off, err);

    if (r == 0)
        o->cpu_debug.off |= off;
    return r;
}

int option_count(struct options *o, const char *v, struct error *err) {
    o->cpu_debug.count = o->cpu_debug.stats = o->stats = true;
    return 0;
}

int option_perf_map(struct options *o, const char *v, struct error *err) {
    o->cpu_debug.perf_map = true;
    return 0;
}

int option_dump(struct options *o, const char *v, struct error *err) {
    return cpu_debug_parse_dump(v, &o->cpu_debug, err);
}

int option_check(struct options *o, const char *v, struct error *err) {
    o->cpu_debug.check = true;
    return 0;
}

int option_check_all(struct options *o, const char *v, struct error *err) {
    o->cpu_debug.check = o->cpu_debug.check_all = true;
    return 0;
}

int option_stats(struct options *o, const char *v, struct error *err) {
    o->stats = o->cpu_debug.stats = true;
    return 0;
}

int option_help(struct options *o, const char *v, struct error *err) {
    o->help = true;
    return 0;
}

int option_help_man(struct options *o, const char *v, struct error *err) {
    o->help_man = true;
    return 0;
}

int option_version(struct options *o, const char *v, struct error *err) {
    o->version = true;
    return 0;
}

int option_check_translator(const struct options *o, struct error *err) {
    const struct cpu_debug *d = &o->cpu_debug;
    bool asked = d->check || d->dump || d->off || d->count || d->perf_map;

    if (asked && cpu_select(o->cpu, "it is not looked into", NULL, 0, err) != &cpu_soft_ops)
        return error_set(err, -EINVAL,
                         "--check, --dump, --count, --perf-map and --soft-debug look into the "
                         "translator, which does not "
                         "run this machine: use --cpu soft");
    if (d->check && options_all_cpus(o) > 1)
        return error_set(err, -EINVAL,
                         "--check runs each block twice, which other processors would see: use "
                         "--cpus 1");
    return 0;
}
