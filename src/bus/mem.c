/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest physical memory: private mappings, and copies that check their range before they touch
 * anything. A restored machine has the pages of its snapshot's file instead of zeros, also
 * private: they are read when touched and shared, until written, with all who map the same file.
 */
#include "bus/mem.h"
#include "bus/dirty.h"
#include "bus/release.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_PAGE     (2ull << 20)
#define ADDRESS_LIMIT (1ull << 52) /* the architecture's widest physical address */

static size_t flags_size(uint64_t size) {
    return (size >> MEM_PAGE_SHIFT) * sizeof(*((struct mem_range *)0)->page_flags);
}

/*
 * Calls (main, vcpu): madvise:MADV_DONTDUMP madvise:MADV_DONTNEED
 */

static size_t bits_size(uint64_t size) { return ((size >> MEM_PAGE_SHIFT) + 63) / 64 * 8; }

/* Behind the flags two bits a page: it is mapped from a file, which dropping it would show again;
 * and it has been written. */
static size_t marks_size(uint64_t size) { return flags_size(size) + 2 * bits_size(size); }

static uint64_t *file_bits(const struct mem_range *r) {
    return r->page_flags + (r->whole >> MEM_PAGE_SHIFT);
}

int mem_init(struct mem *m, struct error *err) {
    *m = (struct mem){.count = 0};
    return 0;
}

void mem_done(struct mem *m) {
    for (unsigned i = 0; i < m->count; i++) {
        if (!m->range[i].part)
            munmap(m->range[i].host, m->range[i].whole);
        munmap(m->range[i].page_flags, marks_size(m->range[i].whole));
    }
    if (m->area)
        munmap(m->area, m->area_size);
    *m = (struct mem){.count = 0};
}

/* ------------------------------------------------------------------ building the map */

static void advise(const struct mem *m, void *host, uint64_t size) {
    madvise(host, size, m->backing.pages == MEM_PAGES_SMALL ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    madvise(host, size, MADV_DONTDUMP); /* a core file of ours need not hold the guest's secrets */
}

/* At an address that begins a huge page, else the host cannot use these. Private: a child that
 * writes a snapshot sees the memory as it was at its fork, while the guest goes on. */
static uint8_t *map_zeros(const struct mem *m, uint64_t size) {
    uint64_t slack = size >= HUGE_PAGE ? HUGE_PAGE : 0;
    uint8_t *area, *start, *end;

    area = mmap(NULL, size + slack, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        return NULL;
    end = area + size + slack;
    start = slack ? (uint8_t *)(((uintptr_t)area + slack - 1) & ~(slack - 1)) : area;
    if (start > area)
        munmap(area, (size_t)(start - area));
    if (end > start + size)
        munmap(start + size, (size_t)(end - (start + size)));
    advise(m, start, size);
    return start;
}

static int check_range(const struct mem *m, gpa base, uint64_t size, struct error *err) {
    if (base == MEM_NOWHERE) /* as many as there is room for */
        return m->count < MEM_MAX_RANGES
                   ? 0
                   : error_set(err, -ENOSPC, "guest memory: more than %d ranges", MEM_MAX_RANGES);
    if (size == 0 || base % MEM_PAGE_SIZE || size % MEM_PAGE_SIZE || base >= ADDRESS_LIMIT ||
        size > ADDRESS_LIMIT - base)
        return error_set(err, -EINVAL,
                         "guest memory at 0x%" PRIx64 ", size 0x%" PRIx64
                         ": both must be multiples of 4096 and end below 2^52",
                         base, size);
    if (m->count == MEM_MAX_RANGES)
        return error_set(err, -ENOSPC, "guest memory: more than %d ranges", MEM_MAX_RANGES);
    for (unsigned i = 0; i < m->count; i++)
        if (base < m->range[i].base + m->range[i].whole && m->range[i].base < base + size)
            return error_set(err, -EEXIST,
                             "guest memory at 0x%" PRIx64 " overlaps the range at 0x%" PRIx64, base,
                             m->range[i].base);
    return 0;
}

/* Where nearly every access is. Not again when a room is mapped: processors look here all the time.
 */
static void find_big(struct mem *m) {
    m->big[0] = m->big[1] = 0;
    for (unsigned i = 1; i < m->count && !m->range[i].moving; i++) { /* these come last */
        if (m->range[i].size > m->range[m->big[0]].size) {
            m->big[1] = m->big[0];
            m->big[0] = i;
        } else if (m->big[1] == m->big[0] || m->range[i].size > m->range[m->big[1]].size) {
            m->big[1] = i;
        }
    }
}

static void insert(struct mem *m, const struct mem_range *r) {
    unsigned i = m->count++;

    for (; i > 0 && m->range[i - 1].base > r->base; i--)
        m->range[i] = m->range[i - 1];
    m->range[i] = *r;
    find_big(m);
}

/* RAM may be asked for on huge pages; what devices and firmware have never is. */
static void map_range(const struct mem *m, struct mem_range *r, struct error *err) {
    bool ram = m->backing.pages >= MEM_PAGES_2M && !r->readonly && !r->moving;

    r->host = ram ? mem_backing_find(m, r->base, r->size) : NULL;
    r->part = r->host;
    r->pooled = r->part || (ram && r->base >= m->backing.high);
    if (!r->host)
        r->host = r->pooled ? mem_backing_map(m, r->size, err) : map_zeros(m, r->size);
}

static int add(struct mem *m, gpa base, uint64_t size, bool readonly, struct error *err) {
    struct mem_range r = {.base = base,
                          .size = size,
                          .whole = size,
                          .shown = size,
                          .readonly = readonly,
                          .moving = base == MEM_NOWHERE};
    uint64_t offset = m->file_size;
    int code = check_range(m, base, size, err);

    if (code < 0)
        return code;
    if (size >= HUGE_PAGE)
        offset = (offset + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
    r.offset = offset;
    map_range(m, &r, err);
    if (!r.host && r.pooled)
        return err ? err->code : -ENOMEM;
    if (!r.host)
        goto no_memory;
    r.page_flags = mmap(NULL, marks_size(size), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r.page_flags == MAP_FAILED) {
        if (!r.part)
            munmap(r.host, size);
        goto no_memory;
    }
    r.dirty = file_bits(&r) + bits_size(size) / 8;
    m->file_size = offset + size;
    if (!readonly && !r.moving)
        m->ram_size += size;
    insert(m, &r);
    return 0;

no_memory:
    return error_set(err, -ENOMEM,
                     "guest memory of %" PRIu64
                     " MiB: the host refuses it (%s); give the machine less "
                     "memory",
                     size >> 20, strerror(errno));
}

int mem_add(struct mem *m, gpa base, uint64_t size, bool readonly, struct error *err) {
    assert(m->count == 0 || !m->range[m->count - 1].moving); /* whose index must stay the same */
    return add(m, base, size, readonly, err);
}

int mem_add_moving(struct mem *m, uint64_t size, struct error *err) {
    int r = add(m, MEM_NOWHERE, size, false, err);

    return r < 0 ? r : (int)m->count - 1;
}

int mem_add_room(struct mem *m, gpa base, uint64_t room, struct error *err) {
    int r = mem_add(m, base, room, false, err);

    if (r < 0)
        return r;
    m->ram_size -= room;
    for (unsigned i = 0; i < m->count; i++)
        if (m->range[i].base == base) {
            m->range[i].size = m->range[i].shown = 0;
            m->range[i].room = true;
        }
    find_big(m);
    return 0;
}

void mem_place(struct mem *m, unsigned index, gpa base) {
    struct mem_range *r = &m->range[index];

    assert(r->moving);
    if (r->base == base)
        return;
    mem_written(m, r->base, r->base == MEM_NOWHERE ? 0 : r->size);
    memset(r->page_flags, 0, flags_size(r->size));
    __atomic_store_n(&r->base, base, __ATOMIC_SEQ_CST);
    if (m->code_written)
        m->code_written(m->code_opaque, MEM_MOVED);
}

void mem_view(struct mem *view, const struct mem *m) {
    *view = *m;
    view->of = m->of ? m->of : m;
}

/* Ranges lose their ends, which costs those nothing who look for memory. */
static void cut(struct mem *view) {
    for (unsigned i = 0; i < view->count; i++) {
        struct mem_range *r = &view->range[i];
        uint64_t size = r->shown;

        for (unsigned k = 0; k < MEM_HIDDEN && !r->moving; k++)
            if (view->hidden[k].size && view->hidden[k].base - r->base < size)
                size = view->hidden[k].base - r->base;
        __atomic_store_n(&r->size, size, __ATOMIC_SEQ_CST);
    }
}

void mem_show(struct mem *m, gpa base, uint64_t size) {
    for (unsigned i = 0; i < m->count; i++) {
        struct mem_range *r = &m->range[i];

        if (r->base != base || r->moving || r->shown == size)
            continue;
        assert(size <= r->whole && !(size % MEM_PAGE_SIZE));
        for (uint64_t page = 0; page < r->whole >> MEM_PAGE_SHIFT; page++)
            dirty_note_page(r, page); /* what is not mapped is zero in a snapshot */
        r->shown = size;
        cut(m);
        if (m->code_written)
            m->code_written(m->code_opaque, MEM_MOVED);
    }
}

void mem_hide(struct mem *view, unsigned i, gpa base, uint64_t size) {
    if (view->hidden[i].size == size && (!size || view->hidden[i].base == base))
        return;
    __atomic_store_n(&view->hidden[i].size, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&view->hidden[i].base, base, __ATOMIC_SEQ_CST);
    __atomic_store_n(&view->hidden[i].size, size, __ATOMIC_SEQ_CST);
    cut(view);
    if (view->code_written)
        view->code_written(view->code_opaque, MEM_MOVED);
}

static struct mem_range *range_at(struct mem *m, uint64_t offset, uint64_t size) {
    for (unsigned i = 0; i < m->count; i++)
        if (offset - m->range[i].offset < m->range[i].whole &&
            size <= m->range[i].whole - (offset - m->range[i].offset))
            return &m->range[i];
    return NULL;
}

uint8_t *mem_at_offset(const struct mem *m, uint64_t offset, uint64_t size) {
    const struct mem_range *r = range_at((struct mem *)m, offset, size); /* only looked at */

    return r ? r->host + (offset - r->offset) : NULL;
}

bool mem_is_hidden(const struct mem *m, uint64_t offset, uint64_t size) {
    const struct mem_range *r = range_at((struct mem *)m, offset, size); /* only looked at */

    return r && offset - r->offset >= r->size;
}

static bool is_filed(const struct mem_range *r, uint64_t page) {
    return file_bits(r)[page / 64] >> page % 64 & 1;
}

static void set_filed(struct mem_range *r, uint64_t page, uint64_t count, bool yes) {
    uint64_t step;

    for (; count; count -= step, page += step) {
        uint64_t *word = &file_bits(r)[page / 64], bits;

        step = 64 - page % 64 < count ? 64 - page % 64 : count;
        bits = (step == 64 ? ~0ull : (1ull << step) - 1) << page % 64;
        if (yes)
            *word |= bits;
        else if (*word & bits) /* what was never touched costs nothing */
            *word &= ~bits;
    }
}

/* Huge pages of a pool are no file's: they get a copy. */
static int fill(uint8_t *to, uint64_t offset, uint64_t size, int fd, struct error *err) {
    ssize_t n = 0;

    if (fd < 0)
        memset(to, 0, size);
    for (uint64_t done = 0; fd >= 0 && done < size; done += (uint64_t)n) {
        n = pread(fd, to + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            n = 0;
        else if (n <= 0)
            return error_set(err, n < 0 ? -errno : -EIO,
                             "guest memory: a part of the snapshot cannot be read: %s",
                             n < 0 ? strerror(errno) : "its file is too short");
    }
    return 0;
}

int mem_map(struct mem *m, uint64_t offset, uint64_t size, int fd, struct error *err) {
    struct mem_range *r = range_at(m, offset, size);
    uint8_t *at = mem_at_offset(m, offset, size);
    int flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0);

    assert(at && !(offset % MEM_PAGE_SIZE) && !(size % MEM_PAGE_SIZE));
    if (r->pooled)
        return fill(at, offset, size, fd, err);
    if (mmap(at, size, PROT_READ | PROT_WRITE, flags, fd, fd < 0 ? 0 : (off_t)offset) == MAP_FAILED)
        return error_set(err, -errno, "guest memory: a part of the snapshot cannot be mapped: %s",
                         strerror(errno));
    if (fd < 0)
        advise(m, at, size);
    else
        madvise(at, size, MADV_DONTDUMP);
    set_filed(r, (offset - r->offset) >> MEM_PAGE_SHIFT, size >> MEM_PAGE_SHIFT, fd >= 0);
    return 0;
}

/* Pages of one kind. Dropped pages of a file would show what the file has, and a mapping in their
 * place can fail if the host allows no more of them: then zeros are written, which frees nothing.
 */
static uint64_t release_run(const struct mem *m, struct mem_range *r, uint64_t page, uint64_t count,
                            bool filed) {
    uint64_t size = count << MEM_PAGE_SHIFT;
    uint8_t *host = r->host + (page << MEM_PAGE_SHIFT);

    if (!filed)
        return madvise(host, size, MADV_DONTNEED) == 0 ? size : 0;
    if (mmap(host, size, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
        memset(host, 0, size);
        return 0;
    }
    advise(m, host, size);
    set_filed(r, page, count, false);
    return size;
}

static uint64_t release_pages(const struct mem *m, struct mem_range *r, uint64_t page,
                              uint64_t end) {
    uint64_t done = 0, next;

    for (; page < end; page = next) {
        bool filed = is_filed(r, page);

        next = page + 1;
        while (next < end && is_filed(r, next) == filed)
            next++;
        done += release_run(m, r, page, next - page, filed);
    }
    return done;
}

uint64_t mem_release(struct mem *m, gpa addr, uint64_t size) {
    uint64_t done = 0, part;

    for (; size; addr += part, size -= part) {
        struct mem_range *r = (struct mem_range *)mem_find(m, addr); /* one of ours */
        uint64_t page, end;

        if (!r)
            break;
        part = r->size - (addr - r->base);
        if (part > size)
            part = size;
        page = (addr - r->base + MEM_PAGE_SIZE - 1) >> MEM_PAGE_SHIFT;
        end = (addr - r->base + part) >> MEM_PAGE_SHIFT;
        if (r->readonly || r->moving || m->kept || page >= end)
            continue;
        done += release_pages(m, r, page, end);
        mem_written(m, r->base + (page << MEM_PAGE_SHIFT), (end - page) << MEM_PAGE_SHIFT);
    }
    return done;
}

/* ------------------------------------------------------------------ access */

static bool holds(const struct mem_range *r, gpa addr) { return addr - r->base < r->size; }

static bool is_hidden(const struct mem *m, gpa addr) {
    for (unsigned k = 0; k < MEM_HIDDEN; k++)
        if (addr - m->hidden[k].base < m->hidden[k].size)
            return true;
    return false;
}

const struct mem_range *mem_find(const struct mem *m, gpa addr) {
    if (m->count == 0)
        return NULL;
    for (unsigned i = 0; i < 2; i++)
        if (holds(&m->range[m->big[i]], addr))
            return &m->range[m->big[i]];
    for (unsigned i = 0; i < m->count; i++)
        if (holds(&m->range[i], addr))
            return m->range[i].moving && is_hidden(m, addr) ? NULL : &m->range[i];
    return NULL;
}

void *mem_ptr(const struct mem *m, gpa addr, uint64_t len, bool write) {
    const struct mem_range *r = mem_find(m, addr);

    if (!r || len > r->size - (addr - r->base) || (write && r->readonly))
        return NULL;
    return r->host + (addr - r->base);
}

void mem_written(struct mem *m, gpa addr, uint64_t len) {
    bool noted;

    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* see the contract */
    noted = dirty_noted(m);
    if (!noted && !m->code_written)
        return;
    while (len) {
        const struct mem_range *r = mem_find(m, addr);
        uint64_t page, last, part;

        if (!r)
            return;
        part = r->size - (addr - r->base);
        if (part > len)
            part = len;
        last = (addr - r->base + part - 1) >> MEM_PAGE_SHIFT;
        for (page = (addr - r->base) >> MEM_PAGE_SHIFT; page <= last; page++) {
            if (noted)
                dirty_note_page(r, page);
            if ((__atomic_load_n(&r->page_flags[page], __ATOMIC_RELAXED) & MEM_PAGE_ANY_CODE) &&
                m->code_written)
                m->code_written(m->code_opaque, r->base + (page << MEM_PAGE_SHIFT));
        }
        addr += part;
        len -= part;
    }
}

/*
 * Copies naturally aligned words in one access: rings and descriptors are shared with a guest that
 * is running, and a torn index would be read as garbage.
 */
static void copy_once(void *to, const void *from, uint64_t len) {
    uintptr_t both = (uintptr_t)to | (uintptr_t)from;

    if (len == 2 && both % 2 == 0)
        __atomic_store_n((uint16_t *)to, __atomic_load_n((const uint16_t *)from, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
    else if (len == 4 && both % 4 == 0)
        __atomic_store_n((uint32_t *)to, __atomic_load_n((const uint32_t *)from, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
    else if (len == 8 && both % 8 == 0)
        __atomic_store_n((uint64_t *)to, __atomic_load_n((const uint64_t *)from, __ATOMIC_RELAXED),
                         __ATOMIC_RELAXED);
    else
        memcpy(to, from, len);
}

/* True if every byte is in some range (ranges may touch each other). */
static bool is_backed(const struct mem *m, gpa addr, uint64_t len) {
    while (len) {
        const struct mem_range *r = mem_find(m, addr);
        uint64_t part;

        if (!r)
            return false;
        part = r->size - (addr - r->base);
        if (part >= len)
            return true;
        addr += part;
        len -= part;
    }
    return true;
}

enum direction { FROM_GUEST, TO_RAM, TO_RAM_AND_ROM };

static int copy(const struct mem *m, gpa addr, uint8_t *ours, uint64_t len, enum direction dir) {
    if (!is_backed(m, addr, len))
        return -EFAULT;
    while (len) {
        const struct mem_range *r = mem_find(m, addr);
        uint8_t *host = r->host + (addr - r->base);
        uint64_t part = r->size - (addr - r->base);

        if (part > len)
            part = len;
        if (dir == FROM_GUEST)
            copy_once(ours, host, part);
        else if (dir == TO_RAM_AND_ROM || !r->readonly)
            copy_once(host, ours, part);
        addr += part;
        ours += part;
        len -= part;
    }
    return 0;
}

int mem_read(const struct mem *m, gpa addr, void *buf, uint64_t len) {
    return copy(m, addr, buf, len, FROM_GUEST);
}

int mem_write(struct mem *m, gpa addr, const void *buf, uint64_t len) {
    int code = copy(m, addr, (uint8_t *)buf, len, TO_RAM);

    if (code == 0)
        mem_written(m, addr, len);
    return code;
}

int mem_load(struct mem *m, gpa addr, const void *buf, uint64_t len) {
    int code = copy(m, addr, (uint8_t *)buf, len, TO_RAM_AND_ROM);

    if (code == 0)
        mem_written(m, addr, len);
    return code;
}
