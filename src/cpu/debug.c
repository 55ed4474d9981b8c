/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names of the translator's debugging switches. */
#include "cpu/debug.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
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

static bool parse_hot(const char *s, struct cpu_debug *d) {
    char *end;
    unsigned long n;

    if (!*s)
        d->dump_hot = 10;
    if (!*s)
        return true;
    n = *s == ':' && s[1] >= '0' && s[1] <= '9' ? strtoul(s + 1, &end, 10) : 0;
    if (!n || n > 1000000 || *end)
        return false;
    d->dump_hot = (unsigned)n;
    return true;
}

static bool parse_address(const char **s, uint64_t *ret) {
    char *end;

    errno = 0;
    *ret = isxdigit((unsigned char)**s) ? strtoull(*s, &end, 16) : (end = (char *)*s, 0ull);
    if (end == *s || errno)
        return false;
    *s = end;
    return true;
}

static bool parse_range(const char *s, struct cpu_debug *d) {
    if (!parse_address(&s, &d->dump_first))
        return false;
    d->dump_last = d->dump_first;
    if (*s == '-' && (s++, !parse_address(&s, &d->dump_last)))
        return false;
    return !*s && d->dump_first <= d->dump_last && d->dump_last;
}

int cpu_debug_parse_dump(const char *s, struct cpu_debug *d, struct error *err) {
    const char *rest = s;
    struct cpu_debug new = *d;
    bool good = true;

    new.dump = 0;
    for (;; rest++) {
        size_t n = strcspn(rest, ",:");

        if (n == 5 && !memcmp(rest, "guest", 5))
            new.dump |= DUMP_GUEST;
        else if (n == 4 && !memcmp(rest, "host", 4))
            new.dump |= DUMP_HOST;
        else
            good = false;
        rest += n;
        if (*rest != ',')
            break;
    }
    if (!*rest || !strncmp(rest, ":hot", 4))
        good = good && parse_hot(*rest ? rest + 4 : rest, &new);
    else
        good = good && parse_range(rest + 1, &new);
    if (!good)
        return error_set(err, -EINVAL,
                         "'%s' says not what to print: write guest, host or guest,host, then "
                         ":hot:NUMBER for the blocks that ran most, or :ADDRESS-ADDRESS",
                         s);
    *d = new;
    return 0;
}
