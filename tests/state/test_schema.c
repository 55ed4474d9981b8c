/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The tables of saved state against schema.txt, in which they stand as they were when they were
 * last looked at: a field that is changed, removed or reordered, or added without a new version,
 * fails here (docs/state.md). With VIV_STATE_RENEW=1 the file is written anew instead.
 */
#include "state/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/x86.h"
#include "devices/device.h"
#include "machine/snapshot_internal.h"
#include "support/test.h"

#define GOLDEN "tests/state/schema.txt"
#define RENEW  "VIV_STATE_RENEW=1 build/meson/test_state_schema"

enum { LINE_MAX_LEN = 160, DEPTH_MAX = 8 };

/* ---- comparing two texts ---- */

/* Where a reader of schema text is: one line, and the tables around it. */
struct place {
    const char *next;
    char line[LINE_MAX_LEN];
    struct {
        int indent;
        unsigned version;
        char name[64];
    } table[DEPTH_MAX];
    int depth; /* tables open at the line; a header opens its own */
};

static bool is_header(const char *text, char name[64], unsigned *ret_version) {
    return sscanf(text, " %63s version %u", name, ret_version) == 2;
}

static bool read_line(struct place *p) {
    size_t n = strcspn(p->next, "\n");
    int indent;

    if (!*p->next)
        return false;
    snprintf(p->line, sizeof(p->line), "%.*s", (int)n, p->next);
    p->next += n + (p->next[n] == '\n');
    indent = (int)strspn(p->line, " ");
    while (p->depth && p->table[p->depth - 1].indent >= indent)
        p->depth--;
    if (p->depth < DEPTH_MAX &&
        is_header(p->line, p->table[p->depth].name, &p->table[p->depth].version))
        p->table[p->depth++].indent = indent;
    return true;
}

static const char *what(const struct place *p) {
    return p->line[0] ? p->line + strspn(p->line, " ") : "its end";
}

/* A field's line, not a table's and not the end. */
static bool is_field(const struct place *p) {
    char name[64];
    unsigned version;

    return p->line[0] && !is_header(p->line, name, &version);
}

/* Both stand at the first line that differs. */
static void explain(const struct place *old, const struct place *now, struct buf *out) {
    const struct place *in = is_field(old) ? old : now;
    unsigned depth = (unsigned)(in->depth ? in->depth - 1 : 0), was = 0;
    char name[64] = "";

    if (is_field(old) || is_field(now))
        buf_printf(out,
                   "In the state of %s, still version %u, where \"%s\" was there is now \"%s\": "
                   "fields are never changed, removed or reordered; add new ones at the end with "
                   "STATE_SINCE, raise the version, then " RENEW ".",
                   in->table[depth].name, in->table[depth].version, what(old), what(now));
    else if (is_header(old->line, name, &was) && !strcmp(name, now->table[depth].name))
        buf_printf(out,
                   "The state of %s is now version %u, it was %u: if all that is older stands "
                   "unchanged in front of the new fields, take this over with " RENEW ".",
                   name, now->table[depth].version, was);
    else
        buf_printf(out,
                   "Where a table of saved state was \"%s\" there is now \"%s\": a table's name "
                   "never changes; a new device's table is taken over with " RENEW ".",
                   what(old), what(now));
}

/* The sentence that says what is wrong; empty if nothing is. */
static void compare(const char *golden, const char *current, struct buf *out) {
    struct place old = {.next = golden}, now = {.next = current};

    for (;;) {
        bool more_old = read_line(&old), more_now = read_line(&now);

        if (!more_old && !more_now)
            return;
        if (!more_old)
            old.line[0] = 0;
        if (!more_now)
            now.line[0] = 0;
        if (more_old && more_now && !strcmp(old.line, now.line))
            continue;
        explain(&old, &now, out);
        return;
    }
}

/* ---- the tables of this program ---- */

static void all_schemas(struct buf *out) {
    state_schema(&machine_state_desc, out);
    state_schema(&machine_cpuid_desc, out);
    state_schema(&x86_state_desc, out);
    for (unsigned i = 0; device_classes[i]; i++)
        if (device_classes[i]->state)
            state_schema(device_classes[i]->state, out);
    buf_put(out, "", 1);
    out->len--; /* a string, of which the end does not count */
}

static FILE *open_golden(const char *mode) {
    const char *root = getenv("VIV_ROOT");
    char path[4096];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", root ? root : ".", GOLDEN);
    f = fopen(path, mode);
    if (!f)
        fail_msg("%s: %s; run this in the root of the sources, or set VIV_ROOT to it", path,
                 strerror(errno));
    return f;
}

static void the_tables_are_as_they_were(void **state) {
    struct buf current = {0}, complaint = {0};
    static char golden[1 << 16];
    const char *renew = getenv("VIV_STATE_RENEW");
    size_t n;
    FILE *f;

    all_schemas(&current);
    if (renew && *renew) {
        f = open_golden("w");
        assert_int_equal(fwrite(current.data, 1, current.len, f), current.len);
        assert_int_equal(fclose(f), 0);
    }
    f = open_golden("r");
    n = fread(golden, 1, sizeof(golden) - 1, f);
    fclose(f);
    golden[n] = 0;
    compare(golden, (const char *)current.data, &complaint);
    if (complaint.len)
        fail_msg("%.*s", (int)complaint.len, (const char *)complaint.data);
    buf_done(&current);
}

/* ---- the comparison itself ---- */

#define OLD                                                                                        \
    "pit version 1\n  channel sub[3]\n      channel version 1\n        count u16\n        mode "   \
    "u8\n"                                                                                         \
    "  speaker bool\npic version 1\n  irr u8\n"

static void assert_says(const char *now, const char *words) {
    struct buf out = {0};

    compare(OLD, now, &out);
    buf_put(&out, "", 1);
    if (!words)
        assert_string_equal((const char *)out.data, "");
    else if (!strstr((const char *)out.data, words))
        fail_msg("\"%s\" does not say \"%s\"", (const char *)out.data, words);
    buf_done(&out);
}

static void equal_tables_are_no_news(void **state) { assert_says(OLD, NULL); }

static void a_change_without_a_version_is_told_by_name(void **state) {
    assert_says("pit version 1\n  channel sub[3]\n      channel version 1\n        count u32\n",
                "In the state of channel, still version 1, where \"count u16\" was there is now "
                "\"count u32\"");
    assert_says("pit version 1\n  channel sub[3]\n      channel version 1\n        mode u8\n",
                "where \"count u16\" was there is now \"mode u8\"");
    assert_says("pit version 1\n  channel sub[3]\n      channel version 1\n        count u16\n"
                "        mode u8\n  speaker bool\n  gate bool since=2\npic version 1\n  irr u8\n",
                "In the state of pit, still version 1, where \"pic version 1\" was there is now "
                "\"gate bool since=2\"");
    assert_says("pit version 1\n  channel sub[3]\n      channel version 1\n        count u16\n"
                "        mode u8\n  speaker bool\npic version 1\n  irr u8\n  isr u8\n",
                "In the state of pic, still version 1, where \"its end\" was");
}

static void a_new_version_wants_the_file_renewed(void **state) {
    assert_says("pit version 2\n  channel sub[3]\n", "The state of pit is now version 2, it was 1");
}

static void a_lost_table_is_told(void **state) {
    assert_says(
        "pic version 1\n  irr u8\n",
        "Where a table of saved state was \"pit version 1\" there is now \"pic version 1\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tables_are_as_they_were),
        cmocka_unit_test(equal_tables_are_no_news),
        cmocka_unit_test(a_change_without_a_version_is_told_by_name),
        cmocka_unit_test(a_new_version_wants_the_file_renewed),
        cmocka_unit_test(a_lost_table_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
