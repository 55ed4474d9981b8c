/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A multiboot kernel's header of either version: finding and reading it. Sources: see
 * boot_multiboot.c. */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "machine/boot_multiboot.h"

// clang-format off
enum { MB1_SEARCH = 8192, MB1_MAGIC = 0x1badb002, MB1_LEAST = 12, MB1_FULL = 48 };
enum { MB1_UNKNOWN = 0xfff8, MB1_VIDEO = 1 << 2, MB1_ADDRESSES = 1 << 16 };
enum { MB2_SEARCH = 32768, MB2_LEAST = 16, MB2_I386 = 0 };
enum mb2_header_tag { TAG_END, TAG_REQUEST, TAG_ADDRESS, TAG_ENTRY, TAG_CONSOLE, TAG_FRAMEBUFFER, TAG_MODULE_ALIGN,
                      TAG_EFI_SERVICES, TAG_EFI32_ENTRY, TAG_EFI64_ENTRY, TAG_RELOCATABLE, TAGS };
enum { TAG_OPTIONAL = 1, INFO_LAST = 21 };
// clang-format on
#define MB2_MAGIC 0xe85250d6u

static bool is_mb1(const uint8_t *h) {
    return load_le32(h) == MB1_MAGIC && load_le32(h) + load_le32(h + 4) + load_le32(h + 8) == 0;
}

static bool is_mb2(const uint8_t *h) {
    return load_le32(h) == MB2_MAGIC &&
           load_le32(h) + load_le32(h + 4) + load_le32(h + 8) + load_le32(h + 12) == 0;
}

/* Fills `head` with the start of the file; the header that was found, or NULL. */
static const uint8_t *find_header(const struct boot_image *image, uint8_t head[MB2_SEARCH],
                                  size_t *ret_size, bool *ret_second) {
    size_t n = image->kernel.size < MB2_SEARCH ? image->kernel.size : MB2_SEARCH;

    if (boot_read(&image->kernel, 0, head, n, NULL) < 0)
        return NULL;
    *ret_size = n;
    *ret_second = true;
    for (size_t at = 0; at + MB2_LEAST <= n; at += 8)
        if (is_mb2(head + at))
            return head + at;
    *ret_second = false;
    for (size_t at = 0; at + MB1_LEAST <= n && at + MB1_LEAST <= MB1_SEARCH; at += 4)
        if (is_mb1(head + at))
            return head + at;
    return NULL;
}

bool boot_is_multiboot(const struct boot_image *image) {
    uint8_t *head = malloc(MB2_SEARCH);
    bool second, is;
    size_t size;

    is = head && find_header(image, head, &size, &second);
    free(head);
    return is;
}

static int parse_mb1(struct multiboot *m, const uint8_t *h, size_t n, struct error *err) {
    uint8_t full[MB1_FULL] = {0};
    uint32_t flags;

    memcpy(full, h, n < sizeof(full) ? n : sizeof(full));
    flags = load_le32(full + 4);
    if (flags & MB1_UNKNOWN)
        return error_set(err, -ENOTSUP,
                         "the kernel '%s' cannot be booted: its multiboot header asks for what "
                         "nobody knows (flags %#x)",
                         m->image->kernel.path, flags);
    if (flags & MB1_ADDRESSES) {
        m->addresses = m->has_entry = true;
        m->header_addr = load_le32(full + 12);
        m->load_addr = load_le32(full + 16);
        m->load_end = load_le32(full + 20);
        m->bss_end = load_le32(full + 24);
        m->entry_addr = load_le32(full + 28);
    }
    if (flags & MB1_VIDEO && load_le32(full + 32) == 0) {
        m->graphics = true;
        m->width = load_le32(full + 36);
        m->height = load_le32(full + 40);
        m->depth = load_le32(full + 44);
    }
    return 0;
}

/* A kernel may ask for information that this machine does not have (APM, EFI); it then is not
 * there. What no version of the specification knows is refused. */
static int check_request(const struct multiboot *m, const uint8_t *tag, uint32_t size,
                         struct error *err) {
    for (uint32_t at = 8; at + 4 <= size; at += 4)
        if (load_le32(tag + at) > INFO_LAST)
            return error_set(err, -ENOTSUP,
                             "the kernel '%s' cannot be booted: its multiboot header asks for "
                             "information of the unknown type %u",
                             m->image->kernel.path, load_le32(tag + at));
    return 0;
}

static int take_tag(struct multiboot *m, unsigned type, const uint8_t *t, uint32_t size,
                    bool optional, struct error *err) {
    static const uint8_t least[TAGS] = {
        [TAG_ADDRESS] = 24,     [TAG_ENTRY] = 12,       [TAG_CONSOLE] = 12,
        [TAG_FRAMEBUFFER] = 20, [TAG_EFI32_ENTRY] = 12, [TAG_EFI64_ENTRY] = 12,
        [TAG_RELOCATABLE] = 24};

    if (type < TAGS && size < least[type])
        return multiboot_bad(m, err, "a tag of its multiboot header is too short");
    switch (type) {
    case TAG_REQUEST:
        return optional ? 0 : check_request(m, t, size, err);
    case TAG_ADDRESS:
        m->addresses = true;
        m->header_addr = load_le32(t + 8);
        m->load_addr = load_le32(t + 12);
        m->load_end = load_le32(t + 16);
        m->bss_end = load_le32(t + 20);
        return 0;
    case TAG_ENTRY:
        m->has_entry = true;
        m->entry_addr = load_le32(t + 8);
        return 0;
    case TAG_FRAMEBUFFER:
        m->graphics = true;
        m->width = load_le32(t + 8);
        m->height = load_le32(t + 12);
        m->depth = load_le32(t + 16);
        return 0;
    case TAG_EFI32_ENTRY:
    case TAG_EFI64_ENTRY:
        m->efi_only = true;
        return 0;
    case TAG_RELOCATABLE:
        m->relocatable = true;
        m->min = load_le32(t + 8);
        m->max = load_le32(t + 12);
        m->align = load_le32(t + 16);
        m->preference = load_le32(t + 20);
        return 0;
    case TAG_CONSOLE: /* a serial line does as well as a screen */
    case TAG_MODULE_ALIGN:
    case TAG_EFI_SERVICES:
        return 0;
    }
    if (optional)
        return 0;
    return error_set(err, -ENOTSUP,
                     "the kernel '%s' cannot be booted: its multiboot header has a tag of the "
                     "unknown type %u",
                     m->image->kernel.path, type);
}

static int parse_mb2(struct multiboot *m, const uint8_t *h, size_t n, struct error *err) {
    uint32_t length = load_le32(h + 8);
    int r = 0;

    if (load_le32(h + 4) != MB2_I386)
        return multiboot_bad(m, err, "its multiboot header is for another kind of processor");
    if (length < MB2_LEAST || length > n)
        return multiboot_bad(m, err, "its multiboot header is longer than the file or 32 KiB");
    for (uint32_t at = MB2_LEAST; r == 0 && at + 8 <= length;) {
        unsigned type = load_le16(h + at), flags = load_le16(h + at + 2);
        uint32_t size = load_le32(h + at + 4);

        if (type == TAG_END)
            break;
        if (size < 8 || size > length - at)
            return multiboot_bad(m, err, "a tag of its multiboot header has an impossible size");
        r = take_tag(m, type, h + at, size, flags & TAG_OPTIONAL, err);
        at += (size + 7) & ~7u;
    }
    if (r == 0 && m->addresses && !m->has_entry)
        r = multiboot_bad(m, err,
                          m->efi_only
                              ? "it has an entry for EFI only: start it by --firmware uefi from a "
                                "disk, or"
                              : "its multiboot header has addresses but no entry");
    return r;
}

int multiboot_parse(struct multiboot *m, struct error *err) {
    uint8_t *head = malloc(MB2_SEARCH);
    const uint8_t *h;
    size_t n;
    int r;

    if (!head)
        return error_set(err, -ENOMEM, "the kernel '%s': out of memory", m->image->kernel.path);
    h = find_header(m->image, head, &n, &m->second);
    if (!h) {
        r = multiboot_bad(m, err, "its multiboot header has gone since it was opened");
    } else {
        m->header = (uint64_t)(h - head);
        r = m->second ? parse_mb2(m, h, n - m->header, err) : parse_mb1(m, h, n - m->header, err);
    }
    free(head);
    return r;
}
