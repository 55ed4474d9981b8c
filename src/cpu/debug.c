/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names of the translator's debugging switches. */
#include "cpu/debug.h"

#include <errno.h>
#include <string.h>

static const char *const names[] = {
#define PART(id, name, help) name,
    CPU_DEBUG_PARTS(PART)
#undef PART
};

static int find_part(const char *word, size_t n) {
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strlen(names[i]) == n && !memcmp(names[i], word, n))
            return (int)i;
    return -1;
}

int cpu_debug_parse(const char *list, uint32_t *ret_off, struct error *err) {
    uint32_t off = 0;

    for (;; list++) {
        size_t n = strcspn(list, ",");
        int i = find_part(list, n);

        if (i < 0)
            return error_set(err, -EINVAL,
                             "'%.*s' is no part of the translator that can be left out: "
                             "'viv-vm --help' lists them",
                             (int)(n < 60 ? n : 60), list);
        off |= 1u << i;
        list += n;
        if (!*list)
            break;
    }
    *ret_off = off;
    return 0;
}
