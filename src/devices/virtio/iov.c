/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copies between memory and the scattered buffers of a descriptor chain. */
#include <string.h>

#include "devices/virtio/virtio.h"

/* One loop for both directions: `in` is copied to the buffers, else the buffers to `out`. */
static size_t copy(const struct iovec *iov, unsigned count, size_t skip, const uint8_t *in,
                   uint8_t *out, size_t len) {
    size_t done = 0;

    for (unsigned i = 0; i < count && done < len; i++) {
        size_t n = iov[i].iov_len;

        if (skip >= n) {
            skip -= n;
            continue;
        }
        n -= skip;
        if (n > len - done)
            n = len - done;
        if (in)
            memcpy((uint8_t *)iov[i].iov_base + skip, in + done, n);
        else
            memcpy(out + done, (const uint8_t *)iov[i].iov_base + skip, n);
        done += n;
        skip = 0;
    }
    return done;
}

size_t iov_read(const struct iovec *iov, unsigned count, size_t skip, void *buf, size_t len) {
    return len ? copy(iov, count, skip, NULL, buf, len) : 0;
}

size_t iov_write(const struct iovec *iov, unsigned count, size_t skip, const void *buf,
                 size_t len) {
    return len ? copy(iov, count, skip, buf, NULL, len) : 0;
}
