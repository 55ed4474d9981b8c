/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whole machines that are saved at some moment and go on as others, on the other backend too. */
#include "machine/snapshot.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "machine/image.h"
#include "machine/machine.h"
#include "state/snapshot.h"
#include "support/test.h"

enum { RUN_SECONDS = 60, OUTPUT_MAX = 4096 };

struct box {
    pthread_mutex_t lock;
    struct loop *loop;
    struct machine *machine;
    struct machine_config config;
    struct image image;
    struct error err;
    char output[OUTPUT_MAX];
    size_t output_len, stop_at; /* the loop stops when so much was said */
    unsigned ends, code, progress;
    bool saved;
};

static char folder[] = "/tmp/viv-test-machine-snapshot-XXXXXX";

static const char *path(const char *name) {
    static char p[4][PATH_MAX];
    static unsigned turn;
    char *to = p[turn++ % 4];

    snprintf(to, PATH_MAX, "%s/%s", folder, name);
    return to;
}

static void remove_snapshot(const char *name) {
    static const char *const files[] = {"state", "memory", "memory.index", "machine.json"};
    char file[PATH_MAX];

    for (unsigned i = 0; i < 4; i++) {
        snprintf(file, sizeof(file), "%s/%s/%s", folder, name, files[i]);
        unlink(file);
    }
    rmdir(path(name));
}

static int clean(void **state) {
    remove_snapshot("a");
    remove_snapshot("b");
    remove_snapshot("a.part");
    return 0;
}

static int make_folder(void **state) { return mkdtemp(folder) ? 0 : -1; }

static int remove_folder(void **state) {
    clean(NULL);
    return rmdir(folder);
}

static void serial_write(void *opaque, const uint8_t *p, size_t n) {
    struct box *b = opaque;

    for (size_t i = 0; i < n && b->output_len < OUTPUT_MAX - 1; i++)
        b->output[b->output_len++] = (char)p[i];
    if (b->output_len >= b->stop_at)
        loop_stop(b->loop);
}

static void ended(void *opaque, enum machine_end how, unsigned code) {
    struct box *b = opaque;

    b->ends++;
    b->code = code;
    loop_stop(b->loop);
}

static void box_make(struct box *b, const char *cpu, const void *code, size_t n) {
    memset(b, 0, sizeof(*b));
    pthread_mutex_init(&b->lock, NULL);
    b->loop = loop_new(&b->lock, &b->err);
    assert_non_null(b->loop);
    image_elf(&b->image, &(struct elf_shape){0}, code, n);
    b->stop_at = OUTPUT_MAX;
    b->config = (struct machine_config){.name = "box",
                                        .cpus = 1,
                                        .memory = 16 << 20,
                                        .cpu = cpu,
                                        .cpu_model = "x86-64-v1",
                                        .kernel = b->image.path,
                                        .serial[0] = {.write = serial_write, .opaque = b},
                                        .debug_exit = true,
                                        .ended = ended,
                                        .opaque = b};
}

static void box_build(struct box *b) {
    b->machine = machine_new(&b->config, b->loop, &b->lock, &b->err);
    if (!b->machine)
        fail_msg("%s", b->err.text);
}

static void box_run(struct box *b) {
    alarm(RUN_SECONDS); /* a guest that never ends kills the test program */
    if (machine_start(b->machine, &b->err) < 0)
        fail_msg("%s", b->err.text);
    loop_run(b->loop);
    alarm(0);
}

static void box_free(struct box *b) {
    machine_free(b->machine);
    loop_free(b->loop);
    image_done(&b->image);
    pthread_mutex_destroy(&b->lock);
}

static int save(struct box *b, const char *name, const char *parent) {
    struct machine_save how = {
        .dir = path(name), .parent = parent ? path(parent) : NULL, .json = "{}"};
    int r;

    pthread_mutex_lock(&b->lock);
    machine_pause(b->machine);
    r = machine_save(b->machine, &how, &b->err);
    pthread_mutex_unlock(&b->lock);
    return r;
}

static int load(struct box *b, const char *name) {
    struct snapshot *s = snapshot_open(path(name), &b->err);
    int r = -1;

    pthread_mutex_lock(&b->lock);
    if (s)
        r = machine_load(b->machine, s, &b->err);
    pthread_mutex_unlock(&b->lock);
    snapshot_close(s);
    return r;
}

/* ------------------------------------------------------------------ going on */

// clang-format off
#define OUT8(p, v) "mov $" #p ", %dx\nmov $" #v ", %al\nout %al, %dx\n"
#define SAY(c)     OUT8(0x3f8, c)
#define EXIT(v)    "mov $" #v ", %eax\nmov $0xf4, %dx\nout %eax, %dx\n1: hlt\njmp 1b\n"
// clang-format on

/* Sums up what it counts, in registers and in memory, and says an 's' when it has begun; ends with
 * code 2 * 21 + 1 if the sum came out right in both. */
GUEST32(sums, SAY('s') "xor %ecx, %ecx\nxor %ebx, %ebx\nxor %esi, %esi\n"
                       "1: inc %ecx\nadd %ecx, %ebx\nadd %ecx, 0x300000(%esi)\n"
                       "add $4096, %esi\nand $0x3fffff, %esi\ncmp $20000000, %ecx\njne 1b\n"
                       "xor %edi, %edi\nxor %esi, %esi\n"
                       "2: add 0x300000(%esi), %edi\nadd $4096, %esi\ncmp $0x400000, %esi\njne 2b\n"
                       "cmp %ebx, %edi\njne 3f\n" EXIT(21) "3: " EXIT(5));

static void saved_on_one_goes_on_on(const char *from, const char *to) {
    struct box a, b;

    box_make(&a, from, sums, (size_t)(sums_end - sums));
    a.stop_at = 1;
    box_build(&a);
    box_run(&a);
    assert_int_equal(a.ends, 0); /* it is in its loop now */
    usleep(3000);
    if (save(&a, "a", NULL) < 0)
        fail_msg("%s", a.err.text);
    box_free(&a);
    box_make(&b, to, sums, (size_t)(sums_end - sums));
    b.config.restoring = true;
    box_build(&b);
    if (load(&b, "a") < 0)
        fail_msg("%s", b.err.text);
    box_run(&b);
    assert_int_equal(b.ends, 1);
    assert_int_equal(b.code, 43);
    assert_int_equal(b.output_len, 0); /* it did not begin anew */
    box_free(&b);
}

static void a_saved_machine_goes_on_on_the_interpreter(void **state) {
    saved_on_one_goes_on_on("ref", "ref");
}
static void a_machine_of_the_interpreter_goes_on_on_the_translator(void **state) {
    saved_on_one_goes_on_on("ref", "soft");
}
static void a_machine_of_the_translator_goes_on_on_the_interpreter(void **state) {
    saved_on_one_goes_on_on("soft", "ref");
}
static void a_saved_machine_goes_on_on_the_translator(void **state) {
    saved_on_one_goes_on_on("soft", "soft");
}

static void saved(void *opaque, const struct error *err) {
    struct box *b = opaque;

    b->saved = true;
    if (err)
        b->err = *err;
}

static void progressed(void *opaque, uint64_t done, uint64_t total) {
    struct box *b = opaque;

    b->progress++;
    assert_true(done <= total);
}

/* What the guest does after the fork is not in the snapshot: its sums would not come out. */
static void a_machine_that_goes_on_meanwhile_is_saved_as_it_was(void **state) {
    struct box a, b;
    struct machine_save how = {
        .dir = path("a"), .json = "{}", .progress = progressed, .done = saved, .opaque = &a};

    box_make(&a, "soft", sums, (size_t)(sums_end - sums));
    how.opaque = &a;
    a.stop_at = 1;
    box_build(&a);
    box_run(&a);
    pthread_mutex_lock(&a.lock);
    machine_pause(a.machine);
    assert_non_null(machine_save_start(a.machine, &how, &a.err));
    machine_resume(a.machine);
    pthread_mutex_unlock(&a.lock);
    alarm(RUN_SECONDS);
    for (unsigned i = 0; i < 1000 && !(a.saved && a.ends); i++)
        loop_step(a.loop, 100);
    alarm(0);
    assert_true(a.saved);
    if (a.err.code)
        fail_msg("%s", a.err.text);
    assert_int_equal(a.code, 43);
    box_free(&a);
    box_make(&b, "soft", sums, (size_t)(sums_end - sums));
    b.config.restoring = true;
    box_build(&b);
    assert_int_equal(load(&b, "a"), 0);
    box_run(&b);
    assert_int_equal(b.code, 43);
    box_free(&b);
}

static void a_machine_restored_from_a_chain_goes_on(void **state) {
    struct box a, b;

    box_make(&a, "soft", sums, (size_t)(sums_end - sums));
    a.stop_at = 1;
    box_build(&a);
    box_run(&a);
    assert_int_equal(save(&a, "a", NULL), 0);
    pthread_mutex_lock(&a.lock);
    machine_resume(a.machine);
    pthread_mutex_unlock(&a.lock);
    usleep(10000);
    if (save(&a, "b", "a") < 0)
        fail_msg("%s", a.err.text);
    box_free(&a);
    box_make(&b, "soft", sums, (size_t)(sums_end - sums));
    b.config.restoring = true;
    box_build(&b);
    if (load(&b, "b") < 0)
        fail_msg("%s", b.err.text);
    box_run(&b);
    assert_int_equal(b.code, 43);
    box_free(&b);
}

/* ------------------------------------------------------------------ refusals */

static void refused(struct box *b, const char *part) {
    b->err = (struct error){0};
    assert_true(load(b, "a") < 0);
    if (!strstr(b->err.text, part))
        fail_msg("'%s' does not say '%s'", b->err.text, part);
}

static void saved_box(void) {
    struct box a;

    box_make(&a, "ref", sums, (size_t)(sums_end - sums));
    a.config.cpu_model = "x86-64-v2";
    box_build(&a);
    if (save(&a, "a", NULL) < 0)
        fail_msg("%s", a.err.text);
    box_free(&a);
}

static void a_machine_of_another_shape_refuses_it(void **state) {
    struct box b;

    saved_box();
    box_make(&b, "ref", sums, (size_t)(sums_end - sums));
    b.config.memory = 32 << 20;
    b.config.restoring = true;
    box_build(&b);
    refused(&b, "amount of memory");
    box_free(&b);

    box_make(&b, "ref", sums, (size_t)(sums_end - sums));
    b.config.cpu_model = "x86-64-v1";
    b.config.restoring = true;
    box_build(&b);
    refused(&b, "features");
    box_free(&b);

    box_make(&b, "ref", sums, (size_t)(sums_end - sums));
    b.config.cpu_model = "x86-64-v2";
    b.config.debug_exit = false;
    b.config.restoring = true;
    box_build(&b);
    refused(&b, "debug_exit0");
    box_free(&b);

    box_make(&b, "ref", sums, (size_t)(sums_end - sums));
    b.config.cpu_model = "x86-64-v2";
    b.config.has_console = true;
    b.config.restoring = true;
    box_build(&b);
    refused(&b, "virtio_console0");
    box_free(&b);
}

static void a_machine_that_runs_is_not_saved(void **state) {
    struct machine_save how = {.dir = path("a"), .json = "{}"};
    struct box a;

    box_make(&a, "ref", sums, (size_t)(sums_end - sums));
    box_build(&a);
    pthread_mutex_lock(&a.lock);
    assert_true(machine_save(a.machine, &how, &a.err) < 0);
    pthread_mutex_unlock(&a.lock);
    box_free(&a);
}

static void a_snapshot_that_is_given_up_leaves_nothing_under_its_name(void **state) {
    struct machine_save how = {.dir = path("a"), .json = "{}", .done = saved};
    struct machine_saving *s;
    struct box a;

    box_make(&a, "ref", sums, (size_t)(sums_end - sums));
    how.opaque = &a;
    box_build(&a);
    pthread_mutex_lock(&a.lock);
    machine_pause(a.machine);
    s = machine_save_start(a.machine, &how, &a.err);
    assert_non_null(s);
    machine_save_cancel(s);
    pthread_mutex_unlock(&a.lock);
    assert_false(a.saved);
    if (access(path("a"), F_OK) == 0) { /* it was quicker: then it is whole */
        struct snapshot *whole = snapshot_open(path("a"), &a.err);
        assert_non_null(whole);
        snapshot_close(whole);
    }
    box_free(&a);
}

static void an_unwritable_place_is_said(void **state) {
    struct machine_save how = {.dir = "/nowhere/at/all", .json = "{}"};
    struct box a;

    box_make(&a, "ref", sums, (size_t)(sums_end - sums));
    box_build(&a);
    pthread_mutex_lock(&a.lock);
    machine_pause(a.machine);
    assert_int_equal(machine_save(a.machine, &how, &a.err), -ENOENT);
    pthread_mutex_unlock(&a.lock);
    assert_non_null(strstr(a.err.text, "/nowhere/at/all"));
    box_free(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_saved_machine_goes_on_on_the_interpreter, clean),
        cmocka_unit_test_setup(a_machine_of_the_interpreter_goes_on_on_the_translator, clean),
        cmocka_unit_test_setup(a_machine_of_the_translator_goes_on_on_the_interpreter, clean),
        cmocka_unit_test_setup(a_saved_machine_goes_on_on_the_translator, clean),
        cmocka_unit_test_setup(a_machine_that_goes_on_meanwhile_is_saved_as_it_was, clean),
        cmocka_unit_test_setup(a_machine_restored_from_a_chain_goes_on, clean),
        cmocka_unit_test_setup(a_machine_of_another_shape_refuses_it, clean),
        cmocka_unit_test_setup(a_machine_that_runs_is_not_saved, clean),
        cmocka_unit_test_setup(a_snapshot_that_is_given_up_leaves_nothing_under_its_name, clean),
        cmocka_unit_test_setup(an_unwritable_place_is_said, clean),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
