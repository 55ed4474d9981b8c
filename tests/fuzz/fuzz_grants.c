/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: lines of clients of the control socket, as the jail's helper reads them. Whatever a
 * line is, what it opens to the machine is what it names: rights that only one command gives come
 * of that command alone, files to read are not written, and what no line named stays shut.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "jail/jail_internal.h"
#include "vm/grants.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good) {
    if (!good)
        abort();
}

struct line {
    const char *text;
    size_t len;
    struct grants *grants;
    json_t *parsed; /* NULL: it is no JSON */
};

static bool is_command(const struct line *l, const char *name) {
    const char *is = json_string_value(json_object_get(l->parsed, "command"));

    return is && !strcmp(is, name);
}

/* Does an option in `text` have this value? A comma in it stands there twice. */
static bool is_value(const char *text, const char *path) {
    char *doubled = malloc(2 * strlen(path) + 1), *to = doubled;
    bool is;

    check(doubled);
    for (const char *from = path; *from; from++) {
        if (*from == ',')
            *to++ = ',';
        *to++ = *from;
    }
    *to = 0;
    is = strstr(text, doubled) != NULL;
    free(doubled);
    return is;
}

/* Is `path` what a string below `v` says, or part of it (an option's value), or made of it? */
static bool is_named(const json_t *v, const char *path, bool pattern) {
    const char *text = json_string_value(v), *key, *percent;
    json_t *each;
    size_t i;

    if (text)
        return strstr(text, path) || is_value(text, path) ||
               (pattern && (percent = strstr(text, "%d")) &&
                !strncmp(text, path, (size_t)(percent - text)));
    json_object_foreach((json_t *)(uintptr_t)v, key, each)
        if (is_named(each, path, pattern))
            return true;
    json_array_foreach(v, i, each)
        if (is_named(each, path, pattern))
            return true;
    return false;
}

/* The container, or one group. */
static bool is_vfio(const char *path) {
    static const char folder[] = "/dev/vfio/";
    const char *name = path + sizeof(folder) - 1;

    return !strncmp(path, folder, sizeof(folder) - 1) &&
           (!strcmp(name, "vfio") || (*name && name[strspn(name, "0123456789")] == 0));
}

static unsigned granted(void *opaque, const char *path, unsigned rights) {
    const struct line *l = opaque;

    check(json_is_object(l->parsed));
    if (rights & JAIL_COMMIT)
        check(is_command(l, "disk-commit"));
    if (rights & (JAIL_INTERNET | JAIL_CONNECT | JAIL_PORTS))
        check(is_command(l, "nic-add"));
    if (rights & JAIL_WRITE)
        check(!is_command(l, "cdrom-change") && !is_command(l, "nic-add"));
    /* Layers below an image are its header's; those here are no images. */
    if (path && is_command(l, "device-add"))
        check(rights & JAIL_WRITE ? is_vfio(path) && !(rights & JAIL_FAMILY)
                                  : !strncmp(path, "/sys", 4));
    else if (path && strcmp(path, "/etc/resolv.conf") != 0)
        check(is_named(json_object_get(l->parsed, "arguments"), path, true));
    return grants_add(l->grants, path, rights);
}

static void one_line(struct line *l) {
    json_error_t e;

    l->parsed = json_loadb(l->text, l->len, 0, &e);
    grants_of_request(l->text, l->len, granted, l);
    json_decref(l->parsed);
    l->parsed = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct line l = {.grants = grants_new()};
    bool named = memmem(data, size, "root", 4) || memmem(data, size, "\\", 1);
    bool above = memmem(data, size, "..", 2) != NULL;

    check(l.grants);
    for (size_t i = 0, end; i < size; i = end + 1) {
        for (end = i; end < size && data[end] != '\n';)
            end++;
        l.text = (const char *)data + i;
        l.len = end - i;
        one_line(&l);
    }
    if (!named && !above) {
        check(!grants_find(l.grants, "/root/.ssh/id_ed25519"));
        check(!grants_find(l.grants, "/root"));
        check(!grants_may_connect(l.grants, "/root/socket"));
    }
    grants_free(l.grants);
    return 0;
}
