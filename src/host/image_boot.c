/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How machines of an image boot: the files for that, and what finds them on a disk without a
 * kernel. Sources: UEFI 2.10, 5 (GPT), 13.3.2 (EFI system partition); the BIOS boot partition of
 * GRUB.
 */
#include "host/image_boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "host/image.h"
#include "host/image_known.h"

enum {
    SECTOR = 512,
    MBR_PARTITION = 446,
    MBR_ENTRY = 16,
    MBR_TYPE = 4,
    MBR_ESP = 0xef,
    GPT_LBA = 72, /* of the entries */
    GPT_COUNT = 80,
    GPT_SIZE = 84,
    GPT_MOST = 128,
    GUID = 16
};

static int64_t file_size(const char *path) {
    struct stat st;

    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

/* ------------------------------------------------------------------ disks */

static const uint8_t esp[GUID] = {0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11,
                                  0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b};
static const uint8_t bios_boot[GUID] = {0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e,
                                        0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49};

/* Both kinds of code may be on a disk; then the BIOS, which is quicker. */
static bool gpt_wants_uefi(int fd, const uint8_t *header) {
    uint32_t count = load_le32(header + GPT_COUNT), size = load_le32(header + GPT_SIZE);
    uint64_t at = load_le64(header + GPT_LBA);
    bool wants = false;
    uint8_t type[GUID];

    if (at > INT64_MAX / (2 * SECTOR) || size < GUID || size > 4096)
        return false;
    for (uint32_t i = 0; i < count && i < GPT_MOST; i++) {
        if (pread(fd, type, GUID, (off_t)(at * SECTOR + (uint64_t)i * size)) != GUID ||
            !memcmp(type, bios_boot, GUID))
            return false;
        wants |= !memcmp(type, esp, GUID);
    }
    return wants;
}

static bool mbr_wants_uefi(const uint8_t *mbr) {
    bool code = false;

    for (int i = 0; i < MBR_PARTITION - 6; i++) /* a disk signature may stand behind it */
        code |= mbr[i];
    for (int i = 0; i < 4; i++)
        if (mbr[MBR_PARTITION + MBR_ENTRY * i + MBR_TYPE] == MBR_ESP)
            return !code;
    return false;
}

const char *image_boot_of_disk(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t b[2 * SECTOR] = {0};
    bool uefi = false;

    if (fd >= 0 && pread(fd, b, sizeof(b), 0) == (ssize_t)sizeof(b))
        uefi =
            memcmp(b + SECTOR, "EFI PART", 8) ? mbr_wants_uefi(b) : gpt_wants_uefi(fd, b + SECTOR);
    if (fd >= 0)
        close(fd);
    return uefi ? "uefi" : "bios";
}

/* ------------------------------------------------------------------ for machines */

/* What was imported may be called anything. */
const struct image_known *image_known_of(const struct store_row *row) {
    const char *base = row_text(row->spec, "base");

    return *row_text(row->spec, "file") || *row_text(row->spec, "from")
               ? NULL
               : image_known_find(*base ? base : row->name);
}

/* What boots it, if it has no kernel; else "". */
static const char *firmware_of(const struct store_row *row) {
    const char *by = row_text(row->status, "boots_by");

    if (*row_text(row->spec, "from"))
        return row_text(row->wanted, "firmware");
    if (image_known_of(row) || *row_text(row->status, "digest") || *row_text(row->spec, "kernel"))
        return "";
    return *by ? by : "bios"; /* one of an older version does not say */
}

static int files_of(const char *folder, const struct store_row *row, struct image_files *ret,
                    struct error *err) {
    const struct image_known *known = image_known_of(row);
    bool template = *row_text(row->spec, "from");
    char path[PATH_MAX];

    ret->oci = *row_text(row->status, "digest");
    if (snprintf(ret->kernel, PATH_MAX, "%s/vmlinuz", folder) >= PATH_MAX ||
        snprintf(ret->initrd, PATH_MAX, "%s/initrd.img", folder) >= PATH_MAX ||
        snprintf(path, PATH_MAX, "%s/disk.raw", folder) >= PATH_MAX)
        return error_set(err, -ENAMETOOLONG, "the path of the images' folder is too long");
    if (*firmware_of(row)) {
        *ret->kernel = *ret->initrd = 0;
        snprintf(ret->firmware, sizeof(ret->firmware), "%s", firmware_of(row));
    }
    if (snprintf(ret->vars, PATH_MAX, "%s/%s", folder, UEFI_VARS) >= PATH_MAX ||
        access(ret->vars, F_OK) < 0)
        *ret->vars = 0;
    if (!known && !ret->oci && !*row_text(template ? row->wanted : row->spec, "initrd"))
        *ret->initrd = 0;
    snprintf(ret->append, sizeof(ret->append), "%s%s",
             ret->oci && !template ? IMAGE_OCI_APPEND : "",
             known ? known->append : row_text(template ? row->wanted : row->spec, "append"));
    if (known && !known->disk)
        return 0;
    ret->has_disk = true;
    ret->size = file_size(path);
    if (ret->size < 0)
        return error_set(err, -ENOENT, "the disk of the image '%s' is gone: '%s'", row->name, path);
    snprintf(ret->disk, PATH_MAX, "../../images/%s/disk.raw", row->id);
    return 0;
}

int image_files(struct manager *m, const char *id, struct image_files *ret, struct error *err) {
    struct store_row row = {0};
    char folder[PATH_MAX];
    int r = store_get(m->store, "image", id, &row);

    *ret = (struct image_files){0};
    if (r < 0)
        return error_set(err, -ENOENT, "the image that this machine lies on is gone");
    snprintf(folder, sizeof(folder), "%.4000s/images/%s", m->home.place.data, id);
    if (strcmp(row_text(row.status, "state"), "ready") != 0)
        r = error_set(err, -EAGAIN, "the image '%s' is %s, not ready", row.name,
                      row_text(row.status, "state"));
    else
        r = files_of(folder, &row, ret, err);
    store_row_done(&row);
    return r;
}

int vm_files(struct manager *m, const struct store_row *vm, struct image_files *ret,
             struct error *err) {
    if (strcmp(row_text(vm->spec, "image"), VM_NO_IMAGE) != 0)
        return image_files(m, row_text(vm->status, "image_id"), ret, err);
    *ret = (struct image_files){.size = row_number(vm->spec, "disk")};
    ret->has_disk = ret->size > 0;
    return 0;
}

void image_boot_note(struct store_row *row, const char *disk) {
    const char *by = firmware_of(row);

    if (*by && !*row_text(row->spec, "from"))
        by = *row_text(row->spec, "firmware") ? row_text(row->spec, "firmware")
                                              : image_boot_of_disk(disk);
    row_set_text(row->status, "boots_by", *by ? by : "kernel");
}
