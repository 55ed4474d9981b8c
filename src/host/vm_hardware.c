/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "host/vm_hardware.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cpu_model.h"
#include "base/sha256.h"
#include "host/snapshot.h"
#include "host/vm_ports.h"

#define BOOT_VOLUME "volume:"
enum { MEDIUM_LEAST = 2048, UUID_TEXT = 37, BOOT_LETTERS = 8 };

/* ------------------------------------------------------------------ SMBIOS */

/* What people call a field, and what viv-vm does. */
static const struct {
    const char *word;
    int type;
    const char *name;
} smbios[] = {
    {"manufacturer", 1, "manufacturer"},
    {"product", 1, "product"},
    {"version", 1, "version"},
    {"serial", 1, "serial"},
    {"uuid", 1, "uuid"},
    {"sku", 1, "sku"},
    {"family", 1, "family"},
    {"oem", 11, "value"},
    {"bios-vendor", 0, "vendor"},
    {"bios-version", 0, "version"},
    {"bios-date", 0, "date"},
    {"board-manufacturer", 2, "manufacturer"},
    {"board-product", 2, "product"},
    {"board-version", 2, "version"},
    {"board-serial", 2, "serial"},
    {"board-asset", 2, "asset"},
    {"chassis-manufacturer", 3, "manufacturer"},
    {"chassis-version", 3, "version"},
    {"chassis-serial", 3, "serial"},
    {"chassis-asset", 3, "asset"},
};
enum { SMBIOS_WORDS = sizeof(smbios) / sizeof(smbios[0]) };

static int find_smbios(const char *text, const char **ret_value) {
    for (int i = 0; i < SMBIOS_WORDS; i++) {
        size_t n = strlen(smbios[i].word);

        if (!strncmp(text, smbios[i].word, n) && text[n] == '=') {
            *ret_value = text + n + 1;
            return i;
        }
    }
    return -1;
}

static bool is_uuid(const char *s) {
    for (int i = 0; i < UUID_TEXT - 1; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? s[i] != '-' : !s[i] || !strchr("0123456789abcdefABCDEF", s[i]))
            return false;
    }
    return !s[UUID_TEXT - 1];
}

static int check_smbios(struct api_call *call, const json_t *list) {
    const char *value = "";
    const json_t *one;
    char names[400] = "";
    size_t i;

    json_array_foreach(list, i, one) {
        int at = find_smbios(json_string_value(one), &value);

        for (int k = 0; at < 0 && k < SMBIOS_WORDS; k++)
            snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", k ? ", " : "",
                     smbios[k].word);
        if (at < 0)
            return api_fail(call, FAILURE_INVALID, "spec.smbios", "", "'%.60s' is none of: %s",
                            json_string_value(one), names);
        if (!strcmp(smbios[at].word, "uuid") && !is_uuid(value))
            return api_fail(call, FAILURE_INVALID, "spec.smbios",
                            "write uuid=6f0d3a52-7c1e-4f0a-9d68-2a4c8e1b9f37", "'%.60s' is no UUID",
                            value);
    }
    return 0;
}

/* The machine's own: of its id, which no other has, so that it is the same after each start. RFC
 * 9562, version 8. */
static void own_uuid(const char *id, char out[UUID_TEXT]) {
    static const char purpose[] = "vivarium machine ";
    struct sha256 state;
    uint8_t h[32];

    sha256_begin(&state);
    sha256_put(&state, purpose, strlen(purpose));
    sha256_put(&state, id, strlen(id));
    sha256_end(&state, h);
    h[6] = (h[6] & 0x0f) | 0x80;
    h[8] = (h[8] & 0x3f) | 0x80;
    snprintf(out, UUID_TEXT, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
             h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8], h[9], h[10], h[11], h[12], h[13],
             h[14], h[15]);
}

static void uuid_of(const struct store_row *row, char out[UUID_TEXT]) {
    const json_t *one;
    const char *value;
    size_t i;

    own_uuid(row->id, out);
    json_array_foreach(json_object_get(row->spec, "smbios"), i, one) {
        int at = find_smbios(json_string_value(one), &value);

        if (at >= 0 && !strcmp(smbios[at].word, "uuid"))
            snprintf(out, UUID_TEXT, "%s", value);
    }
}

static void add_smbios(struct words *w, const struct store_row *row) {
    const json_t *one;
    const char *value;
    char uuid[UUID_TEXT];
    size_t i;

    uuid_of(row, uuid);
    words_add(w, "--smbios");
    words_add(w, "type=1,uuid=%s", uuid);
    json_array_foreach(json_object_get(row->spec, "smbios"), i, one) {
        int at = find_smbios(json_string_value(one), &value);
        char *text;

        if (at < 0 || !strcmp(smbios[at].word, "uuid"))
            continue;
        text = words_escape(value);
        words_add(w, "--smbios");
        words_add(w, "type=%d,%s=%s", smbios[at].type, smbios[at].name, text);
        free(text);
    }
}

/* ------------------------------------------------------------------ checks */

static int check_file(struct api_call *call, const char *field, const char *path, int64_t least) {
    struct stat st;

    if (stat(path, &st) < 0 || access(path, R_OK) < 0)
        return api_fail(call, FAILURE_INVALID, field, "give a file of the manager's host",
                        "'%.300s' cannot be read: %s", path, strerror(errno));
    if ((!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) ||
        (S_ISREG(st.st_mode) && st.st_size < least))
        return api_fail(call, FAILURE_INVALID, field, "give the file of an image",
                        "'%.300s' is no file, or has nothing in it", path);
    return 0;
}

static int check_folder(struct api_call *call, const char *field, const char *path) {
    struct stat st;

    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode) || access(path, R_OK | X_OK) < 0)
        return api_fail(call, FAILURE_INVALID, field, "give a folder of the manager's host",
                        "'%.300s' is no folder that can be read", path);
    return 0;
}

static int check_shares(struct api_call *call, const json_t *list) {
    char path[4000], tags[8 * 40] = ",";
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one) {
        const char *text = json_string_value(one), *equals = strchr(text, '=');
        char tag[40];

        snprintf(tag, sizeof(tag), ",%.*s,", (int)(equals - text), text);
        snprintf(path, sizeof(path), "%.*s", (int)strcspn(equals + 1, ","), equals + 1);
        if (strstr(tags, tag))
            return api_fail(call, FAILURE_INVALID, "spec.share", "choose another one",
                            "two folders have the same tag as '%.60s'", text);
        snprintf(tags + strlen(tags), sizeof(tags) - strlen(tags), "%s", tag + 1);
        if (check_folder(call, "spec.share", path) < 0)
            return -EINVAL;
    }
    return 0;
}

/* The volume that comes before all; NULL: there is none. */
static const char *first_volume(const json_t *spec, size_t *ret_n) {
    const char *boot = row_text(spec, "boot");

    if (strncmp(boot, BOOT_VOLUME, strlen(BOOT_VOLUME)) != 0)
        return NULL;
    boot += strlen(BOOT_VOLUME);
    *ret_n = strcspn(boot, ",");
    return boot;
}

static int check_first(struct api_call *call, const json_t *spec) {
    const json_t *one;
    size_t i, n = 0;
    const char *first = first_volume(spec, &n);

    if (!first)
        return 0;
    json_array_foreach(json_object_get(spec, "volumes"), i, one)
        if (strlen(json_string_value(one)) == n && !strncmp(json_string_value(one), first, n))
            return 0;
    return api_fail(call, FAILURE_INVALID, "spec.boot", "attach it first: viv volume attach",
                    "it has no volume '%.*s' to boot from", (int)n, first);
}

/* Each place once. */
static bool is_repeated(const char *boot) {
    unsigned seen = 0;

    for (; *boot; boot += strcspn(boot, ","), boot += *boot == ',') {
        if (seen & 1u << (*boot - 'a'))
            return true;
        seen |= 1u << (*boot - 'a');
    }
    return false;
}

/* Which nodes the guest sees is its own affair; whose memory of the host it is, is not. */
static int check_nodes(struct api_call *call, const json_t *nodes) {
    const json_t *one;
    size_t i;

    json_array_foreach(nodes, i, one)
        if (call->role != ROLE_ADMIN && strstr(json_string_value(one), "host-node="))
            return api_fail(call, FAILURE_FORBIDDEN, "spec.numa", "leave host-node= out",
                            "%s may not bind a machine to a node of the manager's host",
                            call->caller);
    return 0;
}

/* Its shape is known to be right; whether the host has the features shows when it starts. */
static int check_model(struct api_call *call, const char *text) {
    struct error err = {0};
    struct cpu_model model;

    if (!*text || cpu_model_parse(text, &model, &err) == 0)
        return 0;
    return api_fail(call, FAILURE_INVALID, "spec.cpu_model",
                    "write MODEL,+FEATURE,-FEATURE with names of /proc/cpuinfo", "%s", err.text);
}

int hardware_check(struct api_call *call, const json_t *spec) {
    const char *cdrom = row_text(spec, "cdrom"), *firmware = row_text(spec, "firmware");
    const char *rom = row_text(spec, "nic_rom"), *tftp = row_text(spec, "tftp");

    if (*cdrom == '/' && check_file(call, "spec.cdrom", cdrom, MEDIUM_LEAST) < 0)
        return -EINVAL;
    if (*rom == '/' && check_file(call, "spec.nic_rom", rom, 1) < 0)
        return -EINVAL;
    if (*tftp == '/' && check_folder(call, "spec.tftp", tftp) < 0)
        return -EINVAL;
    if (*firmware == '/' && check_file(call, "spec.firmware", firmware, 1) < 0)
        return -EINVAL;
    if (is_repeated(row_text(spec, "boot")))
        return api_fail(call, FAILURE_INVALID, "spec.boot", "name each place once",
                        "'%s' names a place twice", row_text(spec, "boot"));
    if (check_model(call, row_text(spec, "cpu_model")) < 0 ||
        check_shares(call, json_object_get(spec, "share")) < 0 ||
        check_nodes(call, json_object_get(spec, "numa")) < 0)
        return -EINVAL;
    return check_smbios(call, json_object_get(spec, "smbios"));
}

bool hardware_changes(const json_t *patch) {
    for (const struct field *f = resource_find("vm")->fields; f->type != FIELD_END; f++)
        if (f->place == FIELD_SPEC && f->flags & FIELD_START && json_object_get(patch, f->name) &&
            strcmp(f->name, "cpu") != 0) /* which is the host's */
            return true;
    return json_object_get(patch, "boot");
}

int hardware_check_boot(struct api_call *call, const json_t *spec,
                        const struct image_files *files) {
    const char *by = hardware_boots_by(spec, files), *firmware = row_text(spec, "firmware");
    bool image = *files->kernel || *files->disk, none = !strcmp(firmware, "none");
    bool other = !strcmp(row_text(spec, "cdrom"), "none") && !files->has_disk &&
                 !json_array_size(json_object_get(spec, "volumes")) && !strcmp(firmware, "auto");

    if (ports_check(call, spec) < 0 || check_first(call, spec) < 0)
        return -EINVAL;
    if (!image && (other || none))
        return api_fail(call, FAILURE_INVALID, none ? "spec.firmware" : "spec.image",
                        "give it an image (debian), or a medium (--cdrom FILE), a disk or firmware",
                        "there is nothing that it could boot");
    if (none && !*files->kernel)
        return api_fail(call, FAILURE_INVALID, "spec.firmware", "choose bios or uefi",
                        "the image has no kernel that could be booted without firmware");
    if (strcmp(by, "kernel") != 0 && files->oci)
        return api_fail(call, FAILURE_INVALID, "spec.firmware", "leave it out",
                        "an OCI image has no boot loader that firmware could find");
    if (strcmp(by, "kernel") != 0 && *row_text(spec, "append"))
        return api_fail(call, FAILURE_INVALID, "spec.append",
                        "leave it out, and set it in the guest's boot loader",
                        "words for the kernel need a kernel that is booted directly");
    return 0;
}

/* ------------------------------------------------------------------ the process */

const char *hardware_boots_by(const json_t *spec, const struct image_files *files) {
    const char *firmware = row_text(spec, "firmware");

    if (*firmware && strcmp(firmware, "auto") != 0)
        return strcmp(firmware, "none") ? firmware : "kernel";
    return *files->kernel ? "kernel" : *files->firmware ? files->firmware : "bios";
}

/* As old PCs name them. */
static void boot_letters(const json_t *spec, char out[BOOT_LETTERS]) {
    const char *boot = row_text(spec, "boot");
    size_t n = 0;

    for (; *boot && n + 1 < BOOT_LETTERS; boot += strcspn(boot, ","), boot += *boot == ',')
        if (*boot != *BOOT_VOLUME)
            out[n++] = *boot == 'd' ? 'c' : *boot == 'c' ? 'd' : 'n';
    out[n] = 0;
}

json_t *hardware_boot_args(const json_t *spec) {
    char letters[BOOT_LETTERS];
    size_t n = 0;
    const char *first = first_volume(spec, &n);

    boot_letters(spec, letters);
    return json_pack("{s:s, s:o*}", "order", *letters ? letters : "cdn", "first",
                     first ? json_stringn(first, n) : NULL);
}

void hardware_forget_nodes(const struct api_call *call, json_t *spec) {
    static const char word[] = ",host-node="; /* node= comes first; a node may name several */
    json_t *nodes = json_object_get(spec, "numa"), *one;
    size_t i;

    if (call->role == ROLE_ADMIN)
        return;
    json_array_foreach(nodes, i, one) {
        const char *from = json_string_value(one), *at;
        struct buf kept = {0};

        while ((at = strstr(from, word))) {
            buf_put(&kept, from, (size_t)(at - from));
            from = at + 1 + strcspn(at + 1, ",");
        }
        buf_printf(&kept, "%s", from);
        json_string_setn(one, (const char *)kept.data, kept.len);
        buf_done(&kept);
    }
}

void hardware_forget_volume(json_t *spec) {
    size_t n = 0;
    const char *first = first_volume(spec, &n);

    if (first)
        row_set_text(spec, "boot", first[n] ? first + n + 1 : "");
}

static void add_boot_order(struct words *w, const json_t *spec) {
    bool menu = row_flag(spec, "boot_menu");
    char letters[BOOT_LETTERS];
    size_t n = 0;
    const char *first = first_volume(spec, &n);

    boot_letters(spec, letters);
    if (!*letters && !menu && !first)
        return;
    words_add(w, "--boot");
    words_add(w, "order=%s%s%.*s%s", *letters ? letters : "cdn", first ? ",first=" : "", (int)n,
              first ? first : "", menu ? ",menu=on" : "");
}

/* What a memory that is kept has in itself. */
static void add_details(struct words *w, const json_t *spec) {
    const char *model = row_text(spec, "cpu_model");

    words_add(w, "--balloon");
    if (*model && strcmp(model, "host") != 0) {
        words_add(w, "--cpu-model");
        words_add(w, "%s", model);
    }
    if (row_flag(spec, "hpet")) {
        words_add(w, "--hpet");
        words_add(w, "on");
    }
}

static void add_list(struct words *w, const json_t *spec, const char *field) {
    const json_t *one;
    size_t i;

    json_array_foreach(json_object_get(spec, field), i, one) {
        words_add(w, "--%s", field);
        words_add(w, "%s", json_string_value(one));
    }
}

/* How much memory one that was kept has is known there. */
static void add_memory(struct words *w, const json_t *spec, bool restored) {
    const char *pages = *row_text(spec, "hugepages") ? row_text(spec, "hugepages") : "thp";
    int64_t memory = row_number(spec, "memory"), max = row_number(spec, "memory_max");
    const char *lock = row_flag(spec, "lock_memory") ? ",lock=on" : "";
    char size[60] = "";

    if (restored && !strcmp(pages, "thp") && !*lock)
        return;
    if (!restored && max > memory)
        snprintf(size, sizeof(size), "%lld,max=%lld,", (long long)memory, (long long)max);
    else if (!restored)
        snprintf(size, sizeof(size), "%lld,", (long long)memory);
    words_add(w, "--memory");
    words_add(w, "%shugepages=%s%s", size, pages, lock);
}

static void add_placement(struct words *w, const json_t *spec, bool restored) {
    add_memory(w, spec, restored);
    add_list(w, spec, "numa");
    add_list(w, spec, "pin");
    add_list(w, spec, "priority");
}

static void add_shares(struct words *w, const json_t *list) {
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one) {
        words_add(w, "--share");
        words_add(w, "%s", json_string_value(one));
    }
}

void hardware_words(struct words *w, const struct store_row *row, const struct image_files *files,
                    bool restored) {
    const json_t *spec = row->spec;
    const char *by = hardware_boots_by(spec, files), *cdrom = row_text(spec, "cdrom");
    const char *bus = row_text(spec, "cdrom_bus");

    add_placement(w, spec, restored);
    if (!restored && strcmp(by, "kernel") != 0) {
        words_add(w, "--firmware");
        words_add(w, "%s", by);
        add_boot_order(w, spec);
    }
    if (!strncmp(by, "uefi", 4)) { /* the snapshot's may be those of another machine */
        words_add(w, "--uefi-vars");
        words_add(w, UEFI_VARS);
    }
    if (!restored && *cdrom && strcmp(cdrom, "none") != 0) {
        words_add(w, "--cdrom");
        words_add(w, "%s%s%s", strcmp(cdrom, "empty") ? cdrom : "none", *bus ? ",bus=" : "", bus);
    }
    if (!restored)
        add_details(w, spec);
    add_shares(w, json_object_get(spec, "share"));
    if (!restored)
        add_smbios(w, row);
    if (!restored && *row_text(spec, "vga") && strcmp(row_text(spec, "vga"), "none") != 0) {
        words_add(w, "--vga");
        words_add(w, "%s", row_text(spec, "vga"));
    }
}

bool hardware_note(struct store_row *row, const struct image_files *files) {
    const char *by = hardware_boots_by(row->spec, files);
    char uuid[UUID_TEXT];

    uuid_of(row, uuid);
    if (!strcmp(row_text(row->status, "uuid"), uuid) &&
        !strcmp(row_text(row->status, "boots_by"), by))
        return false;
    row_set_text(row->status, "uuid", uuid);
    row_set_text(row->status, "boots_by", by);
    return true;
}

void hardware_unset(struct store_row *row) {
    row_unset(row->status, "medium");
    row_unset(row->status, "medium_error");
    row_unset(row->status, "cpu_used");
    row_unset(row->status, "cpu_why");
}

/* ------------------------------------------------------------------ operations */

static int change_medium(struct api_call *call, const char *file, const char *what,
                         const char *text) {
    struct error e = {0};

    if (row_flag(call->row.wanted, "deleting"))
        return api_fail(call, FAILURE_CONFLICT, "status.state", "", "'%s' is being deleted",
                        call->row.name);
    row_set_text(call->row.spec, "cdrom", file);
    if (row_flag(call->args, "force"))
        json_object_set_new(call->row.wanted, "force_tray", json_true());
    if (manager_event(call->m, &call->row, what, &e, "%s (asked by %s)", text, call->caller) < 0 ||
        store_update(call->m->store, &call->row, &e) < 0)
        return api_fail_error(call, &e);
    return 0;
}

int hardware_insert(struct api_call *call) {
    const char *file = row_text(call->args, "file");

    if (check_file(call, "file", file, MEDIUM_LEAST) < 0)
        return -EINVAL;
    return change_medium(call, file, "inserted", "another medium goes into its drive");
}

int hardware_eject(struct api_call *call) {
    const char *cdrom = row_text(call->row.spec, "cdrom");

    if (!*cdrom || !strcmp(cdrom, "none"))
        return api_fail(call, FAILURE_CONFLICT, "spec.cdrom",
                        "give it one: viv edit NAME --cdrom empty", "'%s' has no optical drive",
                        call->row.name);
    return change_medium(call, "empty", "ejected", "its drive is to be empty");
}
