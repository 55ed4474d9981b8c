/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Network interfaces as people write them. */
#include "proto/nic_words.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void copy(char *to, size_t size, const char *from, size_t n) {
    snprintf(to, size, "%.*s", (int)n, from);
}

bool nic_words_next(const char **at, struct nic_words *ret) {
    const char *s = *at, *end = s + strcspn(s, ",");
    size_t n = strcspn(s, ",/");

    if (!n)
        return false;
    *ret = (struct nic_words){0};
    copy(ret->network, sizeof(ret->network), s, n);
    for (s += n; *s == '/'; s += n) {
        s++;
        n = strcspn(s, ",/");
        if (memchr(s, ':', n)) {
            copy(ret->mac, sizeof(ret->mac), s, n);
            for (char *c = ret->mac; *c; c++)
                *c = (char)tolower((unsigned char)*c);
        } else {
            copy(ret->model, sizeof(ret->model), s, n);
        }
    }
    *at = end + (*end == ',');
    return true;
}

bool nic_words_at(const char *list, unsigned i, struct nic_words *ret) {
    do
        if (!nic_words_next(&list, ret))
            return false;
    while (i--);
    return true;
}

bool nic_words_find(const char *list, const char *network, struct nic_words *ret) {
    while (nic_words_next(&list, ret))
        if (!strcmp(ret->network, network))
            return true;
    return false;
}

void nic_words_print(const struct nic_words *w, char out[NIC_TEXT]) {
    snprintf(out, NIC_TEXT, "%s%s%s%s%s", w->network, *w->model ? "/" : "", w->model,
             *w->mac ? "/" : "", w->mac);
}

int nic_mac_check(const char *mac, struct error *err) {
    if (strtoul(mac, NULL, 16) & 1)
        return error_set(err, -EINVAL,
                         "'%.20s' is an address of a group: the second digit must be even", mac);
    if (!strcmp(mac, "00:00:00:00:00:00"))
        return error_set(err, -EINVAL, "'%.20s' is no interface's address", mac);
    return 0;
}
