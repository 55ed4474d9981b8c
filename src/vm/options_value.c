/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Values of options: sizes, numbers, words, parts between commas; and the copies that are kept. */
#include "vm/options_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int option_parse_size(const char *s, uint64_t *ret, struct error *err) {
    char *end;
    unsigned long long v;
    unsigned shift = 0;

    errno = 0;
    v = isdigit((unsigned char)*s) ? strtoull(s, &end, 10) : (end = (char *)s, 0ull);
    if (end != s && *end && strchr("kKmMgGtT", *end)) {
        shift = 10 * (1 + (unsigned)(strchr("kmgt", tolower((unsigned char)*end)) - "kmgt"));
        end++;
    }
    if (end == s || *end || errno || v > UINT64_MAX >> shift)
        return error_set(err, -EINVAL,
                         "'%s' is no size: write a number with K, M, G or T, as in 512M", s);
    *ret = (uint64_t)v << shift;
    return 0;
}

int option_parse_number(const char *s, unsigned long min, unsigned long max, unsigned long *ret,
                        struct error *err) {
    char *end;
    unsigned long v;

    errno = 0;
    v = isdigit((unsigned char)*s) ? strtoul(s, &end, 10) : (end = (char *)s, 0ul);
    if (end == s || *end || errno || v < min || v > max)
        return error_set(err, -EINVAL, "'%s' is not a number from %lu to %lu", s, min, max);
    *ret = v;
    return 0;
}

char *options_keep(struct options *o, const char *s) {
    char *copy = strdup(s);
    unsigned i = 0;

    while (i < o->copy_count && o->copies[i])
        i++;
    if (!copy || i == sizeof(o->copies) / sizeof(o->copies[0])) {
        free(copy);
        return NULL;
    }
    o->copies[i] = copy;
    if (i == o->copy_count)
        o->copy_count++;
    return copy;
}

void options_drop(struct options *o, const char *s) {
    for (unsigned i = 0; s && i < o->copy_count; i++)
        if (o->copies[i] == s) {
            free(o->copies[i]);
            o->copies[i] = NULL;
        }
}

/* Next comma-separated part; a doubled comma stands for one in a value (file names). */
char *option_next_part(char **rest) {
    char *from = *rest, *to = from, *start = from;

    if (!from)
        return NULL;
    for (; *from; from++) {
        if (*from == ',' && from[1] == ',')
            from++;
        else if (*from == ',')
            break;
        *to++ = *from;
    }
    *rest = *from ? from + 1 : NULL;
    *to = 0;
    return start;
}

/* Which of the words the value is; they end with NULL. */
int option_parse_word(const char *value, const char *const *words, unsigned *ret) {
    for (unsigned i = 0; words[i]; i++)
        if (!strcmp(words[i], value)) {
            *ret = i;
            return 0;
        }
    return -EINVAL;
}

const char *const option_switch_words[] = {"off", "on", NULL};

int option_bootindex(unsigned *index, const char *value, struct error *err) {
    unsigned long n;

    if (option_parse_number(value, 1, 999, &n, err) < 0)
        return error_prefix(err, "bootindex=");
    *index = (unsigned)n;
    return 0;
}

void options_done(struct options *o) {
    while (o->copy_count)
        free(o->copies[--o->copy_count]);
}
