/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NVMe commands for the namespace, and the guest's buffers. Source: NVM Express Base Specification
 * 1.4, sections 4.3 (PRPs), 6 (NVM command set).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/trace.h"
#include "devices/nvme_internal.h"

// clang-format off
enum { FLUSH = 0x00, WRITE = 0x01, READ = 0x02, WRITE_ZEROES = 0x08, DATASET_MANAGEMENT = 0x09 };
enum { RANGE = 16, RANGES_MAX = 256, FUA = 1 << 30, DEALLOCATE = 1 << 25, DSM_DEALLOCATE = 4, LIST_HOPS = 300 };
// clang-format on

/* ---- buffers (4.3) ---- */

static uint64_t page_size(const struct nvme *n) { return 4096ull << (n->cc >> 7 & 15); }

/* A list of pages; the last entry of a page of the list names the next one if there is more. */
static unsigned map_list(struct nvme_job *j, gpa list, uint64_t left, bool write) {
    struct mem *mem = j->dev->pci.dev.env.mem;
    uint64_t page = page_size(j->dev);

    for (unsigned hop = 0; hop < LIST_HOPS; hop++) {
        uint64_t room = (page - (list & (page - 1))) / 8, needed = (left + page - 1) / page;
        uint64_t n = needed <= room ? needed : room - 1;
        uint8_t entry[8];

        if (list & 7)
            return NVME_BAD_PRP;
        for (uint64_t i = 0; i < n; i++, list += 8) {
            uint64_t part = left < page ? left : page, at;

            if (mem_read(mem, list, entry, sizeof(entry)) < 0)
                return NVME_TRANSFER;
            at = load_le64(entry);
            if (at & (page - 1))
                return NVME_BAD_PRP;
            if (!dma_add(&j->dma, mem, at, part, write))
                return NVME_TRANSFER;
            left -= part;
        }
        if (!left)
            return NVME_OK;
        if (mem_read(mem, list, entry, sizeof(entry)) < 0)
            return NVME_TRANSFER;
        list = load_le64(entry);
    }
    return NVME_BAD_PRP; /* a list of nothing but next lists */
}

unsigned nvme_map(struct nvme_job *j, uint64_t length, bool write) {
    uint64_t one = nvme_qword(j, 6), two = nvme_qword(j, 8), page = page_size(j->dev);
    uint64_t first = page - (one & (page - 1));

    dma_clear(&j->dma);
    if (one & 3)
        return NVME_BAD_PRP;
    if (first > length)
        first = length;
    if (!dma_add(&j->dma, j->dev->pci.dev.env.mem, one, first, write))
        return NVME_TRANSFER;
    length -= first;
    if (length > page)
        return map_list(j, two, length, write);
    if (length && two & (page - 1))
        return NVME_BAD_PRP;
    return !length || dma_add(&j->dma, j->dev->pci.dev.env.mem, two, length, write) ? NVME_OK
                                                                                    : NVME_TRANSFER;
}

/* ---- requests ---- */

static unsigned status_of(enum block_op op, int result) {
    if (result == -ENOSPC || result == -EDQUOT)
        return NVME_FULL;
    if (result == -EOPNOTSUPP)
        return NVME_BAD_OPCODE;
    return op == BLOCK_READ ? NVME_READ_ERROR : NVME_WRITE_FAULT;
}

static void io_done(struct block_request *io, int result);

static void start(struct nvme_job *j, enum block_op op, uint64_t offset, uint64_t length) {
    int result;

    j->io = (struct block_request){.op = op,
                                   .offset = offset,
                                   .length = length,
                                   .iov = j->dma.iov,
                                   .iov_count = j->dma.count,
                                   .unmap = nvme_dword(j, 12) & DEALLOCATE,
                                   .done = io_done,
                                   .opaque = j};
    if (block_try(j->dev->block, &j->io, &result))
        io_done(&j->io, result);
    else
        block_submit(j->dev->block, &j->io);
}

static void start_range(struct nvme_job *j) {
    const uint8_t *r = j->ranges + RANGE * (size_t)j->range++;

    start(j, BLOCK_DISCARD, load_le64(r + 8) * NVME_SECTOR,
          (uint64_t)load_le32(r + 4) * NVME_SECTOR);
}

static void count(struct nvme *n, const struct block_request *io) {
    if (io->op == BLOCK_READ) {
        n->reads++;
        n->sectors_read += io->length / NVME_SECTOR;
    } else if (io->op == BLOCK_WRITE) {
        n->writes++;
        n->sectors_written += io->length / NVME_SECTOR;
    }
}

static void keep(struct nvme_job *j) {
    struct nvme_kept *k = &j->dev->kept[j->dev->kept_count++];

    memcpy(k->command, j->command, NVME_COMMAND);
    k->sq = j->sq;
    nvme_free_job(j, true);
}

static void io_done(struct block_request *io, int result) {
    struct nvme_job *j = io->opaque;
    struct nvme *n = j->dev;

    if (j->epoch != n->epoch) { /* the controller was reset: nobody waits */
        nvme_free_job(j, true);
        return;
    }
    if (result < 0 && io->keep && n->kept_count < NVME_KEPT) {
        keep(j);
        return;
    }
    if (result < 0) {
        n->media_errors++;
        nvme_finish(j, status_of(io->op, result), 0);
        return;
    }
    count(n, io);
    if (io->op == BLOCK_READ)
        dma_written(&j->dma, n->pci.dev.env.mem, io->length);
    if (j->range < j->range_count) {
        start_range(j);
    } else if (j->flush) {
        j->flush = false;
        start(j, BLOCK_FLUSH, 0, 0);
    } else {
        nvme_finish(j, NVME_OK, 0);
    }
}

/* ---- commands ---- */

static bool writable(const struct nvme *n) { return n->block && !block_info(n->block)->readonly; }

static bool in_range(const struct nvme *n, uint64_t lba, uint64_t count) {
    uint64_t sectors = nvme_sectors(n);

    return lba <= sectors && count <= sectors - lba;
}

/* Reads, writes, and writes of zeroes: 0 or the status that refuses it. */
static unsigned check(const struct nvme_job *j, bool write, uint64_t sectors) {
    if (!in_range(j->dev, nvme_qword(j, 10), sectors))
        return NVME_LBA_RANGE;
    return write && !writable(j->dev) ? NVME_READONLY : NVME_OK;
}

static void transfer(struct nvme_job *j, bool write) {
    uint64_t sectors = (nvme_dword(j, 12) & 0xffff) + 1, length = sectors * NVME_SECTOR;
    unsigned status = length > NVME_DATA_MAX ? NVME_BAD_FIELD : check(j, write, sectors);

    if (!status)
        status = nvme_map(j, length, !write);
    if (status) {
        nvme_finish(j, status, 0);
        return;
    }
    j->flush = write && (nvme_dword(j, 12) & FUA || !(j->dev->feature[NVME_F_CACHE] & 1));
    start(j, write ? BLOCK_WRITE : BLOCK_READ, nvme_qword(j, 10) * NVME_SECTOR, length);
}

static void write_zeroes(struct nvme_job *j) {
    uint64_t sectors = (nvme_dword(j, 12) & 0xffff) + 1;
    unsigned status = check(j, true, sectors);

    if (status) {
        nvme_finish(j, status, 0);
        return;
    }
    dma_clear(&j->dma);
    j->flush = nvme_dword(j, 12) & FUA || !(j->dev->feature[NVME_F_CACHE] & 1);
    start(j, BLOCK_WRITE_ZEROES, nvme_qword(j, 10) * NVME_SECTOR, sectors * NVME_SECTOR);
}

/* Ranges without blocks fall out. */
static unsigned read_ranges(struct nvme_job *j, unsigned n) {
    unsigned status = nvme_map(j, (uint64_t)n * RANGE, false), kept = 0;

    if (status)
        return status;
    j->ranges = malloc((size_t)n * RANGE);
    if (!j->ranges)
        return NVME_INTERNAL;
    iov_read(j->dma.iov, j->dma.count, 0, j->ranges, (size_t)n * RANGE);
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *r = j->ranges + RANGE * (size_t)i;

        if (!in_range(j->dev, load_le64(r + 8), load_le32(r + 4)))
            return NVME_LBA_RANGE;
        if (load_le32(r + 4))
            memmove(j->ranges + RANGE * (size_t)kept++, r, RANGE);
    }
    j->range_count = kept;
    return NVME_OK;
}

/* The other attributes are hints. */
static void dataset_management(struct nvme_job *j) {
    unsigned status = NVME_OK;

    if (nvme_dword(j, 11) & DSM_DEALLOCATE) {
        status = writable(j->dev) ? read_ranges(j, (nvme_dword(j, 10) & 0xff) + 1) : NVME_READONLY;
        dma_clear(&j->dma);
        if (!status && j->range_count) {
            start_range(j);
            return;
        }
    }
    nvme_finish(j, status, 0);
}

static void flush(struct nvme_job *j) {
    dma_clear(&j->dma);
    if (j->dev->block)
        start(j, BLOCK_FLUSH, 0, 0);
    else
        nvme_finish(j, NVME_OK, 0);
}

void nvme_io(struct nvme_job *j) {
    uint32_t ns = nvme_dword(j, 1);
    unsigned op = j->command[0];

    if (j->command[1] & 0xc3) /* fused, SGLs */
        nvme_finish(j, NVME_BAD_FIELD, 0);
    else if (ns != 1 && !(op == FLUSH && ns == 0xffffffff))
        nvme_finish(j, NVME_BAD_NAMESPACE, 0);
    else if (op == FLUSH)
        flush(j);
    else if (op == READ || op == WRITE)
        transfer(j, op == WRITE);
    else if (op == WRITE_ZEROES)
        write_zeroes(j);
    else if (op == DATASET_MANAGEMENT)
        dataset_management(j);
    else
        nvme_finish(j, NVME_BAD_OPCODE, 0);
}

/* ---- after a pause ---- */

static struct nvme_job *take_again(struct nvme *n, const struct nvme_kept *k) {
    struct nvme_job *j;

    if (!n->sq[k->sq].used)
        return NULL;
    j = nvme_get_job(n, k->sq);
    if (!j)
        return NULL;
    n->cq[n->sq[k->sq].cq].owed--; /* it owed its completion all the time */
    memcpy(j->command, k->command, NVME_COMMAND);
    return j;
}

void nvme_resume(void *dev) {
    struct nvme *n = dev;
    struct nvme_kept *k = malloc(sizeof(n->kept));
    unsigned count = k ? n->kept_count : 0; /* without memory: at the next resume */

    if (k)
        memcpy(k, n->kept, sizeof(n->kept));
    n->kept_count -= (uint16_t)count; /* one that fails at once is kept again */
    block_plug(n->block);
    for (unsigned i = 0; i < count; i++) {
        struct nvme_job *j = take_again(n, &k[i]);

        if (j)
            nvme_execute(j);
        else if (n->sq[k[i].sq].used) /* out of memory */
            n->kept[n->kept_count++] = k[i];
    }
    block_unplug(n->block);
    free(k);
}

unsigned nvme_end_kept(struct nvme *n, unsigned sq, const uint16_t *cid, unsigned status) {
    unsigned left = 0, ended = 0;

    for (unsigned i = 0; i < n->kept_count; i++) {
        struct nvme_kept *k = &n->kept[i];
        struct nvme_job *j = NULL;

        if (k->sq == sq && (!cid || load_le16(k->command + 2) == *cid))
            j = take_again(n, k);
        if (j) {
            nvme_finish(j, status, 0);
            ended++;
        } else {
            n->kept[left++] = *k;
        }
    }
    n->kept_count = (uint16_t)left;
    return ended;
}
