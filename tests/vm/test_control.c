/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket: every command, and clients that are rude, slow, many, or gone. */
#include "vm/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "proto/control.h"
#include "support/test.h"
#include "vm/control_box.h"

static struct control_box b;
static struct raw_client one, two;

static int set_up(void **state) {
    control_box_make(&b, true);
    raw_open(&one, &b);
    json_decref(raw_hear(&one)); /* the greeting */
    return 0;
}

static int tear_down(void **state) {
    raw_close(&one);
    control_box_free(&b);
    return 0;
}

static json_t *hear(struct raw_client *c) {
    json_t *m = raw_hear(c);

    if (!m)
        fail_msg("no message, %s", c->ended ? "and the connection has ended" : "still connected");
    return m;
}

/* The string at a path such as "error/kind". */
static const char *at(const json_t *m, const char *path) {
    char copy[64], *rest = copy, *name;

    snprintf(copy, sizeof(copy), "%s", path);
    while ((name = strsep(&rest, "/")))
        m = json_object_get(m, name);
    return json_string_value(m) ? json_string_value(m) : "(none)";
}

static void answers(struct raw_client *c, const char *line, const char *path, const char *want) {
    json_t *m;

    raw_say(c, line);
    m = hear(c);
    if (strcmp(at(m, path), want) != 0)
        fail_msg("%.100s: %s is '%s', not '%s'", line, path, at(m, path), want);
    json_decref(m);
}

static void refuses(struct raw_client *c, const char *line, const char *text) {
    json_t *m;

    raw_say(c, line);
    m = hear(c);
    if (!strstr(at(m, "error/text"), text))
        fail_msg("%.100s: '%s' says nothing of '%s'", line, at(m, "error/text"), text);
    assert_string_equal(at(m, "error/kind"), "invalid");
    json_decref(m);
}

/* ------------------------------------------------------------------ commands */

static void a_client_is_greeted_with_what_it_talks_to(void **state) {
    json_t *m;

    raw_open(&two, &b);
    m = hear(&two);
    assert_string_equal(at(m, "vivarium"), "viv-vm");
    assert_string_equal(at(m, "name"), "box");
    assert_int_equal(json_integer_value(json_object_get(m, "protocol")), CONTROL_PROTOCOL);
    json_decref(m);
    raw_close(&two);
}

/* The example in the table is one that the table allows, and something answers it. */
static void every_command_of_the_table_is_answered(void **state) {
    for (const struct command *c = control_commands; c->name; c++) {
        char words[256], *argv[16], *rest = words, *word;
        struct error err = {0};
        json_t *message, *args;
        int argc = 0;

        snprintf(words, sizeof(words), "%s", c->example);
        while ((word = strsep(&rest, " ")))
            argv[argc++] = word;
        assert_string_equal(argv[0], c->name);
        args = command_parse(c, argc - 1, argv + 1, &err);
        if (!args)
            fail_msg("%s", err.text);
        if (c->job) { /* it leaves something behind: tests of its own */
            json_decref(args);
            continue;
        }
        message = json_pack("{s:s, s:s, s:o}", "id", "x", "command", c->name, "arguments", args);
        for (char *line = json_dumps(message, 0); line; line = (free(line), NULL))
            raw_say(&one, line);
        json_decref(message);
        do
            message = hear(&one);
        while (json_object_get(message, "event") && (json_decref(message), true));
        assert_string_equal(at(message, "id"), "x");
        /* There is no job here, no disk, no network, no device of the host, and this is no
         * template. */
        if (!json_object_get(message, "result") && strncmp(c->name, "job-", 4) != 0 &&
            strncmp(c->name, "bitmap", 6) != 0 && strncmp(c->name, "device-", 7) != 0 &&
            strncmp(c->name, "forward-", 8) != 0 && strcmp(c->name, "disk-add") != 0 &&
            strcmp(c->name, "balloon-set") != 0 && strcmp(c->name, "disk-remove") != 0 &&
            strcmp(c->name, "clone") != 0 && strcmp(c->name, "cdrom-change") != 0 &&
            strcmp(c->name, "boot-order-set") != 0)
            fail_msg("%s: %s", c->name, at(message, "error/text"));
        json_decref(message);
    }
    unlink("/tmp/web.png"); /* of the example */
    assert_int_equal(b.quits, 1);
}

static void every_event_of_the_table_can_be_chosen_and_no_other(void **state) {
    char names[256] = "", line[200];

    for (const struct event *e = control_events; e->name; e++) {
        snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
                 e == control_events ? "" : "|", e->name);
        snprintf(line, sizeof(line),
                 "{\"command\": \"events\", \"arguments\": {\"only\": [\"%s\"]}}", e->name);
        answers(&one, line, "error/kind", "(none)");
    }
    assert_string_equal(names, CONTROL_EVENTS);
    refuses(&one, "{\"command\": \"events\", \"arguments\": {\"only\": [\"weather\"]}}", "one of");
}

static void pause_and_resume_are_told_to_all_who_listen(void **state) {
    json_t *m;

    raw_open(&two, &b);
    json_decref(hear(&two));
    answers(&two, "{\"command\": \"events\"}", "error/kind", "(none)");
    answers(&one, "{\"command\": \"pause\"}", "result/state", "paused");
    assert_true(machine_is_paused(b.machine));
    m = hear(&two);
    assert_string_equal(at(m, "event"), "state");
    assert_string_equal(at(m, "data/state"), "paused");
    assert_string_equal(at(m, "data/reason"), "asked");
    json_decref(m);
    answers(&one, "{\"command\": \"pause\"}", "result/reason", "asked"); /* no second event */
    answers(&one, "{\"command\": \"powerdown\"}", "result/note",
            "the guest is paused and sees it when it is resumed");
    answers(&one, "{\"command\": \"resume\"}", "result/state", "running");
    assert_false(machine_is_paused(b.machine));
    m = hear(&two);
    assert_string_equal(at(m, "data/state"), "running");
    json_decref(m);
    answers(&two, "{\"command\": \"events\", \"arguments\": {\"only\": [\"crash\"]}}", "error/kind",
            "(none)");
    answers(&one, "{\"command\": \"pause\"}", "result/state", "paused");
    assert_null(raw_hear(&two)); /* it wants other events now */
    raw_close(&two);
}

static void the_state_of_devices_and_processors_can_be_seen_by_name(void **state) {
    json_t *m;

    raw_say(&one, "{\"command\": \"inspect\", \"arguments\": {\"device\": \"cpu0\"}}");
    m = hear(&one);
    assert_true(json_object_size(json_object_get(json_object_get(m, "result"), "state")) > 10);
    json_decref(m);
    raw_say(&one, "{\"command\": \"inspect\", \"arguments\": {\"device\": \"pit0\", \"field\": "
                  "\"channel.2.access\"}}");
    m = hear(&one);
    assert_true(json_is_integer(json_object_get(json_object_get(m, "result"), "state")));
    json_decref(m);
    refuses(&one, "{\"command\": \"inspect\", \"arguments\": {\"device\": \"cpu4\"}}", "no device");
    refuses(&one, "{\"command\": \"inspect\", \"arguments\": {\"device\": \"cpu00\"}}",
            "no device");
    refuses(&one,
            "{\"command\": \"inspect\", \"arguments\": {\"device\": \"pit0\", \"field\": "
            "\"channel.3.access\"}}",
            "no field");
    refuses(&one,
            "{\"command\": \"inspect\", \"arguments\": {\"device\": \"pit0\", \"field\": "
            "\"channel..0\"}}",
            "no field");
    /* A look does not disturb the guest: it was running and still is. */
    assert_false(machine_is_paused(b.machine));
}

/* ------------------------------------------------------------------ messages that are wrong */

static void what_is_no_message_is_refused_and_the_connection_goes_on(void **state) {
    refuses(&one, "hello", "no JSON object");
    refuses(&one, "{\"command\": \"status\"", "no JSON object");
    refuses(&one, "[1]", "is a JSON object");
    refuses(&one, "{}", "its name in 'command'");
    refuses(&one, "{\"command\": 5}", "its name in 'command'");
    refuses(&one, "{\"command\": \"nonsense\"}", "no command 'nonsense'");
    refuses(&one, "{\"command\": \"status\", \"command\": \"quit\"}", "no JSON object");
    refuses(&one, "{\"command\": \"status\", \"id\": [1]}", "'id' must be");
    refuses(&one, "{\"command\": \"status\", \"arguments\": 1}", "must be an object");
    refuses(&one, "{\"command\": \"status\", \"arguments\": {\"x\": 1}}", "no argument 'x'");
    refuses(&one, "{\"command\": \"status\", \"comment\": 1}", "no 'comment'");
    refuses(&one, "{\"command\": \"inspect\"}", "needs the argument 'device'");
    refuses(&one, "{\"command\": \"inspect\", \"arguments\": {\"device\": 1}}", "must be a string");
    refuses(&one, "{\"command\": \"job-cancel\", \"arguments\": {\"id\": 0}}", "from 1 to");
    refuses(&one, "\xff\xfe{}", "no JSON object");
    answers(&one, "\n\n{\"command\": \"status\", \"id\": \"still here\"}", "id", "still here");
}

static void a_deep_and_a_long_message_are_refused(void **state) {
    size_t n = 60000;
    char *deep = malloc(n + 1);

    memset(deep, '[', n);
    deep[n] = 0;
    refuses(&one, deep, "no JSON object");
    memcpy(deep, "{\"a\":", 5);
    refuses(&one, deep, "no JSON object");
    free(deep);
    answers(&one, "{\"command\": \"status\"}", "result/name", "box");
}

static void a_line_without_an_end_ends_the_connection_with_a_sentence(void **state) {
    static char chunk[4096];
    size_t sent = 0;
    json_t *m;

    memset(chunk, 'x', sizeof(chunk));
    while (sent < CONTROL_REQUEST_MAX + 4096) {
        size_t n = raw_send(&one, chunk, sizeof(chunk));

        sent += n;
        control_box_run(&b);
        if (!n)
            break;
    }
    m = hear(&one);
    assert_non_null(strstr(at(m, "error/text"), "at most 65536 bytes"));
    json_decref(m);
    assert_null(raw_hear(&one));
    assert_true(one.ended);
    raw_open(&two, &b); /* others are let in */
    json_decref(hear(&two));
    answers(&two, "{\"command\": \"status\"}", "result/name", "box");
    raw_close(&two);
}

static void the_longest_message_is_taken_however_it_is_cut(void **state) {
    static char line[CONTROL_REQUEST_MAX + 2];
    size_t sent = 0, n = CONTROL_REQUEST_MAX + 1;
    struct rng r = {3};
    json_t *m;

    memset(line, ' ', n);
    memcpy(line, "{\"command\": \"status\", \"id\": 7", 29);
    line[n - 2] = '}';
    line[n - 1] = '\n';
    while (sent < n) {
        size_t part = 1 + rng_next(&r) % 3000;

        sent += raw_send(&one, line + sent, part < n - sent ? part : n - sent);
        control_box_run(&b);
    }
    m = hear(&one);
    assert_int_equal(json_integer_value(json_object_get(m, "id")), 7);
    assert_string_equal(at(m, "result/name"), "box");
    json_decref(m);
}

/* ------------------------------------------------------------------ clients that do not read */

static void who_asks_and_never_reads_stops_itself_and_nobody_else(void **state) {
    static const char ask[] = "{\"command\": \"stats\", \"id\": 1}\n";
    unsigned asked = 0, answered = 0;
    size_t part = 0; /* of the line at hand */
    json_t *m;

    for (unsigned idle = 0; idle < 10;) {
        size_t n = raw_send(&one, ask + part, sizeof(ask) - 1 - part);

        idle = n ? 0 : idle + 1;
        part += n;
        if (part == sizeof(ask) - 1) {
            part = 0;
            asked++;
        }
        control_box_run(&b);
        assert_true(asked < 1000000); /* it must come to a stop */
    }
    raw_open(&two, &b);
    json_decref(hear(&two));
    answers(&two, "{\"command\": \"status\"}", "result/name", "box");
    raw_close(&two);
    while ((m = raw_hear(&one))) {
        assert_non_null(json_object_get(m, "result"));
        json_decref(m);
        answered++;
    }
    assert_false(one.ended);
    assert_int_equal(answered, asked);
    print_message("%u commands until it stopped\n", asked);
}

static void events_that_a_slow_client_misses_are_counted(void **state) {
    unsigned sent = 0, came = 0;
    json_int_t lost = 0;
    json_t *m;

    answers(&one, "{\"command\": \"events\"}", "error/kind", "(none)");
    for (; sent < 20000; sent++) {
        pthread_mutex_lock(&b.lock);
        control_event(b.control, "reset", json_pack("{s:b}", "crashed", 0));
        pthread_mutex_unlock(&b.lock);
    }
    while ((m = raw_hear(&one))) {
        if (!strcmp(at(m, "event"), "lost"))
            lost += json_integer_value(json_object_get(json_object_get(m, "data"), "count"));
        else
            came++;
        json_decref(m);
    }
    assert_true(came > 1000 && lost > 1000);
    assert_int_equal(came + lost, sent);
    answers(&one, "{\"command\": \"status\"}", "result/name", "box");
}

/* ------------------------------------------------------------------ clients that leave */

static void who_sends_no_more_still_gets_its_answers(void **state) {
    unsigned n = 0;
    json_t *m;

    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(raw_send(&one, "{\"command\":\"status\"}\n", 21), 21);
    shutdown(one.fd, SHUT_WR);
    while ((m = raw_hear(&one))) {
        assert_string_equal(at(m, "result/name"), "box");
        json_decref(m);
        n++;
    }
    assert_true(one.ended);
    assert_int_equal(n, 50);
}

static void who_only_listens_may_send_no_more(void **state) {
    json_t *m;

    answers(&one, "{\"command\": \"events\"}", "error/kind", "(none)");
    shutdown(one.fd, SHUT_WR);
    control_box_run(&b);
    pthread_mutex_lock(&b.lock);
    control_pause(b.control, "asked");
    pthread_mutex_unlock(&b.lock);
    m = hear(&one);
    assert_string_equal(at(m, "data/state"), "paused");
    json_decref(m);
}

static void a_crowd_of_silent_clients_keeps_nobody_out(void **state) {
    struct raw_client crowd[100];
    unsigned ended = 0;
    json_t *m;

    for (unsigned i = 0; i < 100; i++) {
        raw_open(&crowd[i], &b);
        json_decref(hear(&crowd[i]));
        if (i % 10 == 0) /* who is not silent stays */
            answers(&one, "{\"command\": \"status\"}", "result/name", "box");
    }
    for (unsigned i = 0; i < 100; i++) {
        m = raw_hear(&crowd[i]);
        if (m) {
            assert_non_null(strstr(at(m, "error/text"), "silent longest"));
            assert_string_equal(at(m, "error/kind"), "refused");
            json_decref(m);
            assert_null(raw_hear(&crowd[i]));
        }
        ended += crowd[i].ended;
        assert_int_equal(crowd[i].ended, i < 37); /* 64 places, one is ours */
    }
    assert_int_equal(ended, 37);
    for (unsigned i = 0; i < 100; i++)
        raw_close(&crowd[i]);
    answers(&one, "{\"command\": \"status\"}", "result/name", "box");
}

/* Far more work than the control's share, always new connections; the patient one has its turn. */
static void who_floods_and_leaves_keeps_nobody_from_an_answer(void **state) {
    unsigned rests = 0;

    for (unsigned n = 0; n < 20; n++) {
        struct raw_client rude[70];
        json_t *m = NULL;

        raw_send(&one, "{\"command\":\"status\"}\n", 21);
        for (unsigned i = 0; i < 70; i++) {
            struct error err = {0};

            rude[i] = (struct raw_client){.box = &b, .fd = unix_socket_connect(b.path, 0, &err)};
            if (rude[i].fd >= 0) {
                raw_send(&rude[i], "{\"command\":\"stats\"}\n{\"command\":\"stats\"}\n", 40);
                raw_send(&rude[i], "{\"command\":\"stats\"}\n{\"command\":\"stats\"}\n", 40);
            }
            loop_step(b.loop, 0);
            rests += control_rests(b.control);
            if (rude[i].fd >= 0 && i % 2)
                close(rude[i].fd);
        }
        m = hear(&one);
        assert_string_equal(at(m, "result/name"), "box");
        json_decref(m);
        for (unsigned i = 0; i < 70; i += 2)
            close(rude[i].fd);
    }
    assert_true(rests > 0);
}

/* Clients that send and read what they like and leave when they like; one that is well-behaved. */
static void random_rude_clients_harm_nobody(void **state) {
    static const char *const words[] = {
        "{\"command\": \"stats\"}\n",
        "{\"command\": \"events\"}\n",
        "{\"command\": \"pause\"}\n{\"command\": \"resume\"}\n",
        "{\"command\": \"reset\"}\n",
        "{\"command\": \"inspect\", \"arguments\": {\"device\": \"rtc0\"}}\n",
        "\n\n\n",
        "{\"command\": \"sta",
        "\"\\u0000",
        "}}}}",
        "{\"command\": \"quit\"}\n"};
    struct raw_client rude[8];
    struct rng r = {42};
    char junk[2000];

    for (unsigned i = 0; i < 8; i++)
        raw_open(&rude[i], &b);
    for (unsigned n = 0; n < 20000; n++) {
        struct raw_client *c = &rude[rng_next(&r) % 8];
        const char *word = words[rng_next(&r) % 10];

        switch (rng_next(&r) % 8) {
        case 0:
            raw_close(c);
            raw_open(c, &b);
            break;
        case 1:
            for (unsigned i = 0; i < sizeof(junk); i++)
                junk[i] = (char)rng_next(&r);
            raw_send(c, junk, 1 + rng_next(&r) % sizeof(junk));
            break;
        case 2:
            json_decref(raw_hear(c));
            break;
        case 3:
            if (recv(c->fd, junk, sizeof(junk), MSG_DONTWAIT) < 0)
                control_box_run(&b);
            break;
        case 4:
            if (rng_next(&r) % 8 == 0)
                shutdown(c->fd, SHUT_WR);
            break;
        default:
            raw_send(c, word, strlen(word));
            break;
        }
        if (n % 10 == 0)
            answers(&one, "{\"command\": \"status\"}", "result/name", "box");
    }
    for (unsigned i = 0; i < 8; i++)
        raw_close(&rude[i]);
    control_box_run(&b);
    answers(&one, "{\"command\": \"status\"}", "result/name", "box");
}

/* ------------------------------------------------------------------ the socket */

static void the_socket_is_the_owners_alone_and_goes_with_the_machine(void **state) {
    struct control *other;
    struct error err = {0};
    struct stat st;
    char path[64];

    assert_int_equal(stat(b.path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    snprintf(path, sizeof(path), "%s", b.path);
    /* A second machine does not take the path away. */
    other = control_new(&b.vm, &err);
    assert_true(control_listen(other, path, &err) < 0);
    control_free(other);
    assert_non_null(strstr(err.text, "in use by another program"));
    answers(&one, "{\"command\": \"status\"}", "result/name", "box");
    raw_close(&one);
    control_box_free(&b);
    assert_int_equal(stat(path, &st), -1);
    set_up(state);
}

static void a_socket_left_over_is_replaced(void **state) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct error err = {0};
    struct control *c = control_new(&b.vm, &err);

    snprintf(a.sun_path, sizeof(a.sun_path), "/tmp/viv-left-over-%d", (int)getpid());
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    close(fd);
    if (control_listen(c, a.sun_path, &err) < 0)
        fail_msg("%s", err.text);
    pthread_mutex_lock(&b.lock);
    control_free(c);
    pthread_mutex_unlock(&b.lock);
    assert_int_equal(access(a.sun_path, F_OK), -1);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_client_is_greeted_with_what_it_talks_to),
        T(every_command_of_the_table_is_answered),
        T(every_event_of_the_table_can_be_chosen_and_no_other),
        T(pause_and_resume_are_told_to_all_who_listen),
        T(the_state_of_devices_and_processors_can_be_seen_by_name),
        T(what_is_no_message_is_refused_and_the_connection_goes_on),
        T(a_deep_and_a_long_message_are_refused),
        T(a_line_without_an_end_ends_the_connection_with_a_sentence),
        T(the_longest_message_is_taken_however_it_is_cut),
        T(who_asks_and_never_reads_stops_itself_and_nobody_else),
        T(events_that_a_slow_client_misses_are_counted),
        T(who_sends_no_more_still_gets_its_answers),
        T(who_only_listens_may_send_no_more),
        T(a_crowd_of_silent_clients_keeps_nobody_out),
        T(who_floods_and_leaves_keeps_nobody_from_an_answer),
        T(random_rude_clients_harm_nobody),
        T(the_socket_is_the_owners_alone_and_goes_with_the_machine),
        T(a_socket_left_over_is_replaced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
