/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What people say of a guest becomes texts for cloud-init and a seed disk: whatever they say, ours
 * is JSON, and theirs is there as it was. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/cloud.h"
#include "host/seed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good) {
    if (!good)
        abort();
}

static void check_json(const struct buf *b, size_t from) {
    json_t *v = json_loadb((char *)b->data + from, b->len - from, 0, NULL);

    check(v);
    json_decref(v);
}

static void check_texts(const json_t *spec) {
    const char *theirs = json_string_value(json_object_get(spec, "user_data"));
    struct cloud_texts t;

    cloud_make(spec, "vm-1", "name", &t);
    check_json(&t.meta_data, 0);
    if (theirs && *theirs)
        check(memmem(t.user_data.data, t.user_data.len, theirs, strlen(theirs)));
    else
        check_json(&t.user_data, strlen("#cloud-config\n"));
    cloud_done(&t);
}

static void write_disk(const json_t *spec) {
    int folder = open("/dev/shm", O_RDONLY | O_DIRECTORY);
    char name[60];
    struct error e = {0};
    struct stat st;

    snprintf(name, sizeof(name), "viv-fuzz-cloud-%d", (int)getpid());
    check(folder >= 0);
    if (cloud_write(folder, name, spec, "vm-1", "name", &e) == 0)
        check(fstatat(folder, name, &st, 0) == 0 && st.st_size > 0 && st.st_size % 512 == 0);
    else
        check(e.code < 0 && *e.text);
    unlinkat(folder, name, 0);
    close(folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const fields[] = {"ssh_key", "user", "hostname", "user_data",
                                         "network_config"};
    json_t *spec = json_object();
    const char *field;
    struct error e = {0};

    for (unsigned i = 0; i < 5 && size; i++) { /* ended by bytes 0 */
        const uint8_t *end = memchr(data, 0, size);
        size_t n = end ? (size_t)(end - data) : size;
        json_t *v = json_stringn((const char *)data, n); /* NULL: no UTF-8 */

        if (v && n)
            json_object_set_new(spec, fields[i], v);
        else
            json_decref(v);
        data += n + (end != NULL);
        size -= n + (end != NULL);
    }
    if (cloud_check(spec, &field, &e) == 0) {
        check_texts(spec);
        if (cloud_wanted(spec))
            write_disk(spec);
    } else {
        check(e.code < 0 && *e.text && field);
    }
    json_decref(spec);
    return 0;
}
