/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host ends of serial lines, stepped by hand: flow control both ways, clients that come and go
 * at bad moments. (Standard input and output are tested from outside, tests/guest/test_cli.py.)
 */
#include "vm/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/loop.h"
#include "support/test.h"

enum { RING = 65536 };

struct line { /* a chardev and a guest that takes as much as it is told to */
    struct loop *loop;
    struct chardev *c;
    char dir[64], path[80], spec[100];
    uint8_t got[1 << 20];
    size_t got_len, will_take;
    unsigned writables;
};

static size_t on_input(void *opaque, const uint8_t *p, size_t n) {
    struct line *l = opaque;

    if (n > l->will_take)
        n = l->will_take;
    assert_true(l->got_len + n <= sizeof(l->got));
    memcpy(l->got + l->got_len, p, n);
    l->got_len += n;
    l->will_take -= n;
    return n;
}

static void on_writable(void *opaque) { ((struct line *)opaque)->writables++; }

static struct line *line_new(const char *kind) {
    struct chardev_user user = {.on_input = on_input, .on_writable = on_writable};
    struct line *l = calloc(1, sizeof(*l));
    struct error err = {0};

    assert_non_null(l);
    l->loop = loop_new(NULL, &err);
    l->will_take = SIZE_MAX;
    snprintf(l->dir, sizeof(l->dir), "%s/chardev-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(l->dir));
    snprintf(l->path, sizeof(l->path), "%s/line", l->dir);
    snprintf(l->spec, sizeof(l->spec), "%s:%s", kind, l->path);
    if (!strcmp(kind, "fifo")) {
        assert_int_equal(mkfifo(l->path, 0600), 0);
        snprintf(l->spec, sizeof(l->spec), "file:%s", l->path);
    }
    user.opaque = l;
    if (strcmp(kind, "fifo") != 0) {
        l->c = chardev_open(l->loop, l->spec, &err);
        assert_non_null(l->c);
        chardev_set_user(l->c, &user);
    }
    return l;
}

static void line_free(struct line *l) {
    chardev_close(l->c);
    loop_free(l->loop);
    unlink(l->path);
    assert_int_equal(rmdir(l->dir), 0);
    free(l);
}

static void settle(struct line *l) {
    while (loop_step(l->loop, 0))
        ;
}

static int client(struct line *l) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    strcpy(a.sun_path, l->path);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    settle(l);
    return fd;
}

static size_t put(struct line *l, const void *p, size_t n) { return chardev_write(l->c, p, n); }

/* All that the client can read now. */
static size_t take(struct line *l, int fd, uint8_t *to, size_t max) {
    size_t n = 0;

    for (;;) {
        ssize_t r;

        settle(l);
        r = read(fd, to + n, max - n);
        if (r <= 0)
            return n;
        n += (size_t)r;
    }
}

static void fill(uint8_t *p, size_t n, unsigned from) {
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)((i + from) % 251);
}

static void what_no_client_takes_is_kept_and_the_oldest_goes(void **state) {
    static uint8_t text[200000], back[200000];
    struct line *l = line_new("unix");
    int fd;

    fill(text, sizeof(text), 0);
    for (size_t i = 0; i < sizeof(text);) { /* in pieces of odd sizes */
        size_t n = i % 977 + 1 < sizeof(text) - i ? i % 977 + 1 : sizeof(text) - i;

        assert_true(chardev_can_write(l->c));
        assert_int_equal(put(l, text + i, n), n);
        i += n;
    }
    fd = client(l);
    assert_int_equal(take(l, fd, back, sizeof(back)), RING);
    assert_memory_equal(back, text + sizeof(text) - RING, RING);
    close(fd);
    assert_int_equal(put(l, text, sizeof(text)), sizeof(text)); /* more than the ring at once */
    fd = client(l);
    assert_int_equal(take(l, fd, back, sizeof(back)), RING);
    assert_memory_equal(back, text + sizeof(text) - RING, RING);
    close(fd);
    line_free(l);
}

static void a_client_that_does_not_read_stops_the_writer_until_it_does(void **state) {
    static uint8_t text[4 << 20], back[4 << 20];
    struct line *l = line_new("unix");
    int fd = client(l);
    size_t wrote = 0, got;

    fill(text, sizeof(text), 7);
    while (wrote < sizeof(text) && chardev_can_write(l->c)) {
        size_t n = put(l, text + wrote, 1000);

        wrote += n;
        settle(l);
        if (n < 1000)
            break;
    }
    assert_false(chardev_can_write(l->c));
    assert_true(wrote < sizeof(text) && wrote > RING);
    assert_int_equal(l->writables, 0);
    assert_true(put(l, text + wrote, CHARDEV_RESERVE + 1) <= CHARDEV_RESERVE);
    got = take(l, fd, back, sizeof(back));
    assert_true(got >= wrote);
    assert_memory_equal(back, text, got);
    assert_int_equal(l->writables, 1);
    assert_true(chardev_can_write(l->c));
    close(fd);
    line_free(l);
}

static void a_stuck_client_that_leaves_frees_the_writer(void **state) {
    static uint8_t text[1 << 20];
    struct line *l = line_new("unix");
    int fd = client(l);

    while (put(l, text, 1000) == 1000)
        settle(l);
    assert_false(chardev_can_write(l->c));
    close(fd);
    settle(l);
    assert_int_equal(l->writables, 1);
    assert_true(chardev_can_write(l->c));
    assert_int_equal(put(l, text, sizeof(text)), sizeof(text));
    line_free(l);
}

static void input_waits_until_the_guest_takes_it(void **state) {
    static uint8_t text[300000];
    struct line *l = line_new("unix");
    size_t sent = 0;
    int fd = client(l);

    fill(text, sizeof(text), 3);
    l->will_take = 10;
    while (sent < sizeof(text)) {
        ssize_t n = write(fd, text + sent, sizeof(text) - sent);

        if (n > 0)
            sent += (size_t)n;
        settle(l);
        l->will_take = 4999;
        chardev_resume_input(l->c);
    }
    while (l->got_len < sizeof(text)) {
        size_t before = l->got_len;

        l->will_take = 4999;
        chardev_resume_input(l->c);
        settle(l);
        assert_true(l->got_len > before);
    }
    assert_memory_equal(l->got, text, sizeof(text));
    close(fd);
    line_free(l);
}

static void last_words_of_a_client_are_heard_though_output_to_it_fails(void **state) {
    struct line *l = line_new("unix");
    int fd = client(l);

    assert_int_equal(write(fd, "bye", 3), 3);
    close(fd);
    put(l, "x", 1);
    chardev_flush(l->c); /* meets the closed socket before the input was looked at */
    settle(l);
    assert_int_equal(l->got_len, 3);
    assert_memory_equal(l->got, "bye", 3);
    line_free(l);
}

static void input_that_the_guest_has_not_taken_survives_its_client(void **state) {
    struct line *l = line_new("unix");
    int fd = client(l);

    l->will_take = 1;
    assert_int_equal(write(fd, "12", 2), 2);
    settle(l);
    close(fd);
    fd = client(l);
    assert_int_equal(write(fd, "34", 2), 2);
    settle(l);
    l->will_take = SIZE_MAX;
    chardev_resume_input(l->c);
    settle(l);
    assert_int_equal(l->got_len, 4);
    assert_memory_equal(l->got, "1234", 4);
    close(fd);
    line_free(l);
}

static void a_half_closed_client_still_gets_output_and_costs_nothing(void **state) {
    struct line *l = line_new("unix");
    int fd = client(l);
    uint8_t c = 0;

    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    settle(l); /* would spin for ever if the end of input were reported again and again */
    put(l, "y", 1);
    settle(l);
    assert_int_equal(read(fd, &c, 1), 1);
    assert_int_equal(c, 'y');
    close(fd);
    settle(l);
    fd = client(l);
    put(l, "z", 1);
    settle(l);
    assert_int_equal(read(fd, &c, 1), 1);
    assert_int_equal(c, 'z');
    close(fd);
    line_free(l);
}

static void clients_are_served_one_at_a_time(void **state) {
    struct line *l = line_new("unix");
    int first = client(l), second = client(l);
    char text[200] = "";

    settle(l);
    assert_true(read(second, text, sizeof(text) - 1) > 0);
    assert_non_null(strstr(text, "another client"));
    assert_int_equal(read(second, text, 1), 0);
    close(first);
    close(second);
    first = client(l); /* at once: the hang-up of the one before may not have been seen yet */
    put(l, "ok", 2);
    settle(l);
    assert_int_equal(read(first, text, 2), 2);
    close(first);
    line_free(l);
}

/* Random clients against a model: every byte of one connection arrives once and in order. */
static void clients_at_random_get_an_unbroken_stream(void **state) {
    struct line *l = line_new("unix");
    struct rng rng = rng_seed(42);
    static uint8_t text[3000], back[200000];
    unsigned next = 0;
    int fd = -1;

    for (unsigned i = 0; i < 3000; i++) {
        switch (rng_below(&rng, 8)) {
        case 0:
            if (fd < 0) {
                fd = client(l);
            } else {
                close(fd);
                fd = -1;
            }
            break;
        case 1:
        case 2:
            if (fd >= 0) {
                size_t n = take(l, fd, back, sizeof(back));

                for (size_t k = 1; k < n; k++)
                    assert_int_equal(back[k], (back[k - 1] + 1) % 251);
            }
            break;
        case 3:
            settle(l);
            break;
        default: {
            size_t n = rng_below(&rng, sizeof(text));

            fill(text, n, next);
            next = (unsigned)((next + put(l, text, n)) % 251);
        }
        }
    }
    if (fd >= 0)
        close(fd);
    line_free(l);
}

static void a_file_is_written_before_it_is_closed(void **state) {
    struct line *l = line_new("file");
    char text[20] = "";
    FILE *f;

    assert_int_equal(put(l, "to the file", 11), 11);
    chardev_close(l->c);
    l->c = NULL;
    f = fopen(l->path, "r");
    assert_int_equal(fread(text, 1, sizeof(text), f), 11);
    assert_string_equal(text, "to the file");
    fclose(f);
    line_free(l);
}

static void a_fifo_without_a_reader_is_refused_and_one_with_is_not_waited_for(void **state) {
    struct line *l = line_new("fifo");
    struct chardev_user user = {.on_writable = on_writable, .opaque = l};
    struct error err = {0};
    static uint8_t text[1 << 20], back[1 << 20];
    size_t wrote;
    int fd;

    assert_null(chardev_open(l->loop, l->spec, &err));
    assert_int_equal(err.code, -ENXIO);
    fd = open(l->path, O_RDONLY | O_NONBLOCK);
    err = (struct error){0};
    l->c = chardev_open(l->loop, l->spec, &err);
    assert_non_null(l->c);
    chardev_set_user(l->c, &user);
    fill(text, sizeof(text), 0);
    wrote = put(l, text, sizeof(text));
    assert_true(wrote < sizeof(text)); /* the pipe and the ring */
    assert_int_equal(take(l, fd, back, sizeof(back)), wrote);
    assert_memory_equal(back, text, wrote);
    assert_int_equal(l->writables, 1);
    close(fd);
    put(l, "x", 1); /* to nobody, with a warning */
    settle(l);
    assert_int_equal(put(l, text, sizeof(text)), sizeof(text));
    line_free(l);
}

static void none_takes_everything(void **state) {
    struct error err = {0};
    struct loop *loop = loop_new(NULL, &err);
    struct chardev *c = chardev_open(loop, "none", &err);

    assert_non_null(c);
    assert_true(chardev_can_write(c));
    assert_int_equal(chardev_write(c, (const uint8_t *)"x", 1), 1);
    chardev_close(c);
    assert_null(chardev_open(loop, "nothing", &err));
    assert_non_null(strstr(err.text, "is no console"));
    chardev_close(NULL);
    loop_free(loop);
}

static void sockets_left_behind_are_replaced_and_other_files_are_not(void **state) {
    struct line *l = line_new("unix");
    struct error err = {0};
    struct chardev *c;
    int fd;

    assert_null(chardev_open(l->loop, l->spec, &err));
    assert_int_equal(err.code, -EADDRINUSE);
    settle(l);
    chardev_close(l->c);
    assert_int_equal(access(l->path, F_OK), -1);
    fd = open(l->path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, "mine", 4), 4);
    close(fd);
    err = (struct error){0};
    l->c = chardev_open(l->loop, l->spec, &err);
    assert_null(l->c);
    assert_int_equal(access(l->path, F_OK), 0);
    unlink(l->path);
    { /* a socket whose owner is gone */
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        int dead = socket(AF_UNIX, SOCK_STREAM, 0);

        strcpy(a.sun_path, l->path);
        assert_int_equal(bind(dead, (struct sockaddr *)&a, sizeof(a)), 0);
        close(dead);
    }
    err = (struct error){0};
    c = chardev_open(l->loop, l->spec, &err);
    assert_non_null(c);
    chardev_close(c);
    line_free(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_no_client_takes_is_kept_and_the_oldest_goes),
        cmocka_unit_test(a_client_that_does_not_read_stops_the_writer_until_it_does),
        cmocka_unit_test(a_stuck_client_that_leaves_frees_the_writer),
        cmocka_unit_test(input_waits_until_the_guest_takes_it),
        cmocka_unit_test(last_words_of_a_client_are_heard_though_output_to_it_fails),
        cmocka_unit_test(input_that_the_guest_has_not_taken_survives_its_client),
        cmocka_unit_test(a_half_closed_client_still_gets_output_and_costs_nothing),
        cmocka_unit_test(clients_are_served_one_at_a_time),
        cmocka_unit_test(clients_at_random_get_an_unbroken_stream),
        cmocka_unit_test(a_file_is_written_before_it_is_closed),
        cmocka_unit_test(a_fifo_without_a_reader_is_refused_and_one_with_is_not_waited_for),
        cmocka_unit_test(none_takes_everything),
        cmocka_unit_test(sockets_left_behind_are_replaced_and_other_files_are_not),
    };

    signal(SIGPIPE, SIG_IGN);
    alarm(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
