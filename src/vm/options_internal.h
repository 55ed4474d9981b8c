/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the command line share: the table, the functions in it, and values. */
#ifndef VM_OPTIONS_INTERNAL_H
#define VM_OPTIONS_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/options.h"

/* What an option does; the value is NULL for a switch, and lives as long as the options. */
typedef int option_fn(struct options *o, const char *v, struct error *err);

struct option {
    const char *name, *value; /* value NULL: a switch */
    option_fn *set;
    const char *help, *example;
};

extern const struct option options_table[]; /* its places are the bits of options.given */

option_fn option_name, option_cpus, option_memory, option_numa, option_pin, option_priority,
    option_cpu, option_cpu_model, option_dirty_log, option_speaker, option_smbios, option_hpet,
    option_smm, option_balloon, option_kernel, option_initrd, option_firmware, option_uefi_vars,
    option_firmware_log, option_append, option_boot, option_restore, option_restore_only,
    option_renew_identity, option_template, option_prefetch, option_record_working_set,
    option_paused, option_disk, option_cdrom, option_nic, option_serial, option_serial_log,
    option_console, option_vsock, option_share, option_control, option_display, option_vga,
    option_log_format, option_no_jail, option_jail_user, option_trace, option_no_reboot,
    option_debug_exit, option_soft_debug, option_count, option_perf_map, option_dump, option_check,
    option_check_all, option_stats, option_help, option_help_man, option_version;

int option_parse_size(const char *s, uint64_t *ret, struct error *err);
int option_parse_number(const char *s, unsigned long min, unsigned long max, unsigned long *ret,
                        struct error *err);
char *option_next_part(char **rest);
int option_parse_word(const char *value, const char *const *words, unsigned *ret);
extern const char *const option_switch_words[];
int option_bootindex(unsigned *index, const char *value, struct error *err);
int option_check_nics(const struct options *o, struct error *err);
int option_check_lines(const struct options *o, struct error *err);
int option_check_translator(const struct options *o, struct error *err);
const struct option *option_find(const char *arg, const char **ret_value, struct error *err);

#endif
