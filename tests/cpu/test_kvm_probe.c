/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hosts without KVM, with one that is not ours to open, that is none or that hangs; and files of
 * what was found that nobody should believe. None of it needs a KVM. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "cpu/kvm/kvm.h"
#include "cpu/kvm/probe.h"
#include "support/test.h"

static const char boot[] = "01234567-89ab-cdef-0123-456789abcdef";
static char folder[64], path[128];

static int make_folder(void **state) {
    snprintf(folder, sizeof(folder), "/tmp/viv-probe-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/kept", folder);
    setenv("XDG_RUNTIME_DIR", folder, 1);
    return 0;
}

static int remove_folder(void **state) {
    char name[160];

    unlink(path);
    snprintf(name, sizeof(name), "%s/vivarium-kvm", folder);
    unlink(name);
    snprintf(name, sizeof(name), "%s/device", folder);
    unlink(name);
    unsetenv("VIV_KVM_DEVICE");
    return rmdir(folder);
}

/* ---- which host ---- */

static void is_refused(const char *device, const char *reason) {
    struct kvm_verdict v = {.usable = true};
    struct error err = {0};
    char why[200];

    setenv("VIV_KVM_DEVICE", device, 1);
    assert_true(kvm_open(NULL) < 0);
    kvm_probe(&v);
    assert_false(v.usable);
    assert_non_null(strstr(v.text, reason));
    v = (struct kvm_verdict){.usable = true};
    kvm_probe_cached(&v);
    assert_false(v.usable);
    assert_non_null(strstr(v.text, reason));
    assert_ptr_equal(cpu_select("auto", NULL, why, sizeof(why), &err), cpu_software());
    assert_non_null(strstr(why, reason));
    assert_non_null(strstr(why, "auto: "));
    assert_int_equal(err.code, 0);
    assert_null(cpu_select("kvm", NULL, why, sizeof(why), &err));
    assert_non_null(strstr(err.text, reason));
}

static void a_host_without_one_has_software(void **state) {
    char device[80];

    snprintf(device, sizeof(device), "%s/device", folder);
    is_refused(device, "the host has no ");
}

static void what_is_no_device_is_not_opened(void **state) {
    char device[80];
    int fd;

    snprintf(device, sizeof(device), "%s/device", folder);
    fd = open(device, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    is_refused(device, "is not KVM's");
    unlink(device);
    assert_int_equal(mkfifo(device, 0600), 0); /* opened, it would wait for a writer */
    is_refused(device, "is not KVM's");
    is_refused(folder, "is not KVM's");
}

static void other_devices_are_told_from_it(void **state) {
    is_refused("/dev/null", "is not KVM's");
    is_refused("/dev/zero", "is not KVM's");
}

static void one_that_this_user_cannot_open_is_named(void **state) {
    char device[80];

    if (geteuid() == 0) {
        struct error err = {0};

        /* Root can open everything; the sentence is still there. */
        snprintf(device, sizeof(device), "%s/device", folder);
        assert_int_equal(symlink(device, device), 0); /* a loop */
        setenv("VIV_KVM_DEVICE", device, 1);
        assert_int_equal(kvm_open(&err), -ELOOP);
        assert_non_null(strstr(err.text, "cannot be opened"));
        return;
    }
    is_refused("/dev/mem", "cannot be opened by this user");
}

/* ---- a probe that does not behave ---- */

static void answers(struct kvm_verdict *v) {
    *v = (struct kvm_verdict){.usable = true, .rate = 700000000, .text = "it is good"};
}

static void hangs(struct kvm_verdict *v) {
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (;;)
        pause();
}

static void dies(struct kvm_verdict *v) { _exit(0); }

static void crashes(struct kvm_verdict *v) {
    signal(SIGABRT, SIG_DFL);
    abort();
}

static uint64_t now_ms(void) {
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void an_answer_is_passed_on(void **state) {
    struct kvm_verdict v;

    kvm_probe_apart(answers, 20000, &v);
    assert_true(v.usable);
    assert_false(v.passing);
    assert_int_equal(v.rate, 700000000);
    assert_string_equal(v.text, "it is good");
}

static void what_hangs_is_ended(void **state) {
    struct kvm_verdict v;
    uint64_t begin = now_ms();

    kvm_probe_apart(hangs, 50, &v);
    assert_true(now_ms() - begin >= 50);
    assert_false(v.usable);
    assert_true(v.passing);
    assert_non_null(strstr(v.text, "hangs"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing of it is left */
    assert_int_equal(errno, ECHILD);
}

static void what_crashes_takes_nobody_along(void **state) {
    struct kvm_verdict v;

    kvm_probe_apart(crashes, 20000, &v);
    assert_false(v.usable);
    assert_true(v.passing);
    kvm_probe_apart(dies, 20000, &v);
    assert_false(v.usable);
    assert_true(v.passing);
}

/* ---- what is kept ---- */

static void write_kept(const char *text, size_t size) {
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), size);
    close(fd);
    assert_int_equal(chmod(path, 0600), 0);
}

static void what_was_found_is_found_again(void **state) {
    const struct kvm_verdict good = {
        .usable = true, .rate = KVM_SLOWEST_REAL, .text = "it is good"};
    const struct kvm_verdict bad = {.rate = KVM_SLOWEST_REAL - 1, .text = "it is slow"};
    struct kvm_verdict v = {0};

    assert_false(kvm_verdict_load(path, boot, &v));
    kvm_verdict_keep(path, boot, &good);
    assert_true(kvm_verdict_load(path, boot, &v));
    assert_true(v.usable && !v.passing);
    assert_int_equal(v.rate, good.rate);
    assert_string_equal(v.text, good.text);
    kvm_verdict_keep(path, boot, &bad);
    assert_true(kvm_verdict_load(path, boot, &v));
    assert_false(v.usable);
    assert_string_equal(v.text, bad.text);
    assert_false(kvm_verdict_load(path, "11234567-89ab-cdef-0123-456789abcdef", &v));
}

static void lines_that_are_not_ours_say_nothing(void **state) {
    static const char *const lines[] = {
        "",
        "\n",
        "01234567-89ab-cdef-0123-456789abcdef 1 700000000 good",             /* no end */
        "01234567-89ab-cdef-0123-456789abcdef 1 700000000 good\nand more\n", /* two */
        "01234567-89ab-cdef-0123-456789abcdef 1 700000000 \n",
        "01234567-89ab-cdef-0123-456789abcdef 1 700000000\n",
        "01234567-89ab-cdef-0123-456789abcdef 1 7 good\n", /* it does not follow */
        "01234567-89ab-cdef-0123-456789abcdef 0 700000000 good\n",
        "01234567-89ab-cdef-0123-456789abcdef 2 700000000 good\n",
        "01234567-89ab-cdef-0123-456789abcdef 1 -1 good\n",
        "01234567-89ab-cdef-0123-456789abcdef 1 99999999999999999999999 good\n",
        "01234567-89ab-cdef-0123-456789abcdef 1 700000000 \x1b[2Jgood\n",
        "01234567-89ab-cdef-0123-456789abcdef 1 700000000 g\xc3\xb6od\n",
        "01234567-89ab-cdef-0123-456789abcdef1 700000000 good\n",
        "01234567-89ab-cdef-0123-456789abcde",
    };
    char longest[1000];
    struct kvm_verdict v = {.text = "as before"};

    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        write_kept(lines[i], strlen(lines[i]));
        assert_false(kvm_verdict_load(path, boot, &v));
    }
    for (int n = snprintf(longest, sizeof(longest), "%s 1 700000000 ", boot); n < 999; n++)
        longest[n] = 'x';
    longest[sizeof(longest) - 1] = '\n';
    write_kept(longest, sizeof(longest));
    assert_false(kvm_verdict_load(path, boot, &v));
    longest[230] = '\n'; /* a line of ours, but for a text that is too long */
    write_kept(longest, 231);
    assert_false(kvm_verdict_load(path, boot, &v));
    write_kept("01234567-89ab-cdef-0123-456789abcdef 1 700000000 go\0d\n", 53);
    assert_false(kvm_verdict_load(path, boot, &v));
    assert_string_equal(v.text, "as before");
}

static void files_that_others_can_write_say_nothing(void **state) {
    const struct kvm_verdict good = {.usable = true, .rate = 700000000, .text = "it is good"};
    struct kvm_verdict v = {0};
    char other[160];

    kvm_verdict_keep(path, boot, &good);
    assert_int_equal(chmod(path, 0622), 0);
    assert_false(kvm_verdict_load(path, boot, &v));
    assert_int_equal(chmod(path, 0620), 0);
    assert_false(kvm_verdict_load(path, boot, &v));
    assert_int_equal(chmod(path, 0600), 0);
    assert_true(kvm_verdict_load(path, boot, &v));
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 12345, 12345), 0);
        assert_false(kvm_verdict_load(path, boot, &v));
        assert_int_equal(chown(path, 0, 0), 0);
    }
    snprintf(other, sizeof(other), "%s/other", folder);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(symlink(other, path), 0);
    assert_false(kvm_verdict_load(path, boot, &v));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* nobody writes: it would wait */
    assert_false(kvm_verdict_load(path, boot, &v));
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        CASE(a_host_without_one_has_software),
        CASE(what_is_no_device_is_not_opened),
        CASE(other_devices_are_told_from_it),
        CASE(one_that_this_user_cannot_open_is_named),
        CASE(an_answer_is_passed_on),
        CASE(what_hangs_is_ended),
        CASE(what_crashes_takes_nobody_along),
        CASE(what_was_found_is_found_again),
        CASE(lines_that_are_not_ours_say_nothing),
        CASE(files_that_others_can_write_say_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
