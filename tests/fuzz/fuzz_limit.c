/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames of guests, and libslirp's list of sockets, of any bytes: the limit reads nothing behind
 * them. The first byte says how long the list is, then come frames, each behind its length. */
#include <stdlib.h>
#include <string.h>

#include "net/limit.h"

struct list {
    const uint8_t *text;
    size_t n;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *tell(void *opaque) {
    const struct list *l = opaque;
    char *text = malloc(l->n + 1);

    if (!text)
        abort();
    memcpy(text, l->text, l->n);
    text[l->n] = 0;
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct list list = {data + 1, size ? data[0] : 0};
    struct net_limit *l = net_limit_new(6, 3, 0x0a000200, 0xffffff00, tell, &list);
    int64_t now = 1;

    if (l && size && list.n < size)
        for (size_t at = 1 + list.n; at < size && data[at] < size - at; at += 1u + data[at]) {
            size_t n = data[at];
            uint8_t *frame = malloc(n + !n);

            if (!frame)
                abort();
            memcpy(frame, data + at + 1, n);
            net_limit_allows(l, frame, n, now);
            now += 150;
            free(frame);
        }
    net_limit_free(l);
    return 0;
}
