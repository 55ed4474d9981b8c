/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The buffers in guest memory that a command of a disk controller names, as a list for the image.
 *
 * Contract: machine lock held. A list is zeroed before its first use, grows as needed and is used
 * again for the next command.
 */
#ifndef DEVICES_DMA_H
#define DEVICES_DMA_H

#include <sys/uio.h>

#include "bus/mem.h"

struct dma {
    struct iovec *iov;
    gpa *addr; /* of each */
    unsigned count, cap;
    uint64_t size; /* bytes of all */
};

void dma_clear(struct dma *d);
void dma_free(struct dma *d); /* the list's own memory */
/* Appends [at, at + n), in pieces if it lies across ranges. False: no memory there (ROM if `write`:
 * the device will write), or out of memory; what came before stays. */
bool dma_add(struct dma *d, struct mem *mem, gpa at, uint64_t n, bool write);
/* Appends memory that is not the guest's. */
bool dma_own(struct dma *d, void *host, uint64_t n);
/* To exactly `length` bytes; false if there are fewer. */
bool dma_cut(struct dma *d, uint64_t length);
/* The first n bytes were written by the device: CPUs that decoded them must know. */
void dma_written(const struct dma *d, struct mem *mem, uint64_t n);

#endif
