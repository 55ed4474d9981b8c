/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files of a snapshot as a stranger may have written them: with right checksums, so that all
 * behind these is reached. The input is the table and data of `state`, and the tail of the index.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "state/snapshot.h"
#include "state/snapshot_internal.h"
#include "state/state_view.h"

static char folder[64];

static void put_file(const char *name, const void *bytes, size_t n, uint64_t size) {
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || (size > n && ftruncate(fd, (off_t)size) < 0))
        abort();
    close(fd);
}

static void look(const struct snapshot *s) {
    static uint8_t page[SNAPSHOT_PAGE];
    struct error err = {0};

    for (unsigned i = 0; i < s->sections; i++) {
        struct state_view view;
        struct buf text = {0};

        if (state_view_open(&view, s->section[i].data, s->section[i].size, &err) == 0) {
            state_json(view.desc, view.obj, &text);
            state_schema(view.desc, &text);
        }
        state_view_close(&view);
        buf_done(&text);
    }
    for (uint64_t i = 0; i < s->pages && i < 64; i++)
        if (snapshot_read(s, i, 1, page, &err) < 0 && !err.code)
            abort();
    snapshot_check_memory(s, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t head[STATE_HEAD] = SNAPSHOT_STATE_MAGIC, index[INDEX_HEAD] = SNAPSHOT_INDEX_MAGIC;
    struct buf state = {0}, all = {0};
    struct error err = {0};
    struct snapshot *s;
    uint64_t pages;
    size_t table, index_size;

    if (size < 8)
        return 0;
    if (!*folder) {
        snprintf(folder, sizeof(folder), "/tmp/viv-fuzz-snapshot-XXXXXX");
        if (!mkdtemp(folder))
            abort();
    }
    table = data[0] | data[1] << 8;
    pages = data[2] % 64;
    index_size = data[3];
    memcpy(index + INDEX_PATH_SIZE, data + 4, 1);
    store_le32(head + STATE_SECTIONS, data[5]);
    store_le32(head + STATE_VERSION, data[6] ? 1 : 2);
    store_le32(index + INDEX_VERSION, data[7] ? 1 : 0);
    store_le64(index + INDEX_PAGES, pages);
    data += 8;
    size -= 8;
    index_size = index_size < size ? index_size : size;
    buf_put(&all, index, sizeof(index));
    buf_put(&all, data, index_size);
    data += index_size;
    size -= index_size;
    table = table < size ? table : size;
    store_le32(head + STATE_TABLE_SIZE, (uint32_t)table);
    store_le32(head + STATE_INDEX_SIZE, (uint32_t)all.len);
    store_le32(head + STATE_INDEX_SUM, crc32c(0, all.data, all.len));
    store_le32(head + STATE_HEAD_SUM, crc32c(crc32c(0, head, STATE_HEAD_SUM), data, table));
    buf_put(&state, head, sizeof(head));
    buf_put(&state, data, size);
    put_file("state", state.data, state.len, 0);
    put_file("memory.index", all.data, all.len, 0);
    put_file("machine.json", "", 0, 0);
    put_file("memory", "", 0, pages * SNAPSHOT_PAGE);
    s = snapshot_open(folder, &err);
    if (s)
        look(s);
    else if (!err.code)
        abort();
    snapshot_close(s);
    buf_done(&state);
    buf_done(&all);
    {
        struct state_view view;
        struct buf text = {0};

        if (state_view_open(&view, data, size, &err) == 0)
            state_json(view.desc, view.obj, &text);
        state_view_close(&view);
        buf_done(&text);
    }
    return 0;
}
