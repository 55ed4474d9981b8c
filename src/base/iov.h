/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scattered buffers in guest memory: copies, and parts of them. */
#ifndef BASE_IOV_H
#define BASE_IOV_H

#include <sys/uio.h>

/* Copies between chain buffers and memory, skipping `skip` bytes; returns bytes copied. */
size_t iov_read(const struct iovec *iov, unsigned count, size_t skip, void *buf, size_t len);
size_t iov_write(const struct iovec *iov, unsigned count, size_t skip, const void *buf, size_t len);
/* The buffers of `len` bytes that follow the first `skip`: a part of the list, or one in `own`
 * (`count` entries) if one of them must be cut. Returns how many. */
unsigned iov_slice(const struct iovec *iov, unsigned count, size_t skip, size_t len,
                   struct iovec *own, const struct iovec **ret);

#endif
