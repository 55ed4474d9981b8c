/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Forwards that come and go by the control socket, with real ports of this host. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net.h"
#include "support/test.h"
#include "vm/control_box.h"

static struct control_box b;
static struct raw_client client;
static struct net_port *port[2];

static int make(void **state) {
    control_box_make(&b, false);
    port[1] = net_user_open(b.loop, NULL, 0, NULL);
    b.options.nics = 2;
    b.options.nic[0].link = "a switch";
    b.vm.nic = b.options.nic;
    b.vm.port = port;
    raw_open(&client, &b);
    json_decref(raw_hear(&client)); /* the greeting */
    return port[1] ? 0 : -1;
}

static int unmake(void **state) {
    raw_close(&client);
    control_box_run(&b);
    net_close(port[1]);
    control_box_free(&b);
    return 0;
}

static int listener(uint16_t number, uint16_t *ret) {
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons(number)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 1), 0);
    getsockname(fd, (struct sockaddr *)&a, &n);
    *ret = ntohs(a.sin_port);
    return fd;
}

static uint16_t free_port(void) {
    uint16_t number;

    close(listener(0, &number));
    return number;
}

static bool is_open(uint16_t number) {
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons(number)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool yes = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;

    close(fd);
    return yes;
}

/* The answer's result, or NULL with its error in `why`. */
static json_t *ask(char why[300], const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static json_t *ask(char why[300], const char *fmt, ...) {
    char line[400];
    json_t *m, *result;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    raw_say(&client, line);
    m = raw_hear(&client);
    result = json_incref(json_object_get(m, "result"));
    snprintf(why, 300, "%s",
             result ? "" : json_string_value(json_object_get(json_object_get(m, "error"), "text")));
    json_decref(m);
    return result;
}

static bool does(const char *command, uint16_t number, char why[300]) {
    json_t *r = ask(why,
                    "{\"command\": \"%s\", \"arguments\": {\"forward\": "
                    "\"tcp:127.0.0.1:%u:80\"}}",
                    command, number);

    json_decref(r);
    return r;
}

static void forwards_are_added_and_removed_while_it_runs(void **state) {
    uint16_t number = free_port();
    char why[300];

    assert_true(does("forward-add", number, why));
    assert_true(is_open(number));
    assert_false(does("forward-add", number, why));
    assert_non_null(strstr(why, "already"));
    assert_true(does("forward-remove", number, why));
    assert_false(is_open(number));
    assert_false(does("forward-remove", number, why));
    assert_non_null(strstr(why, "no forward"));
    assert_true(does("forward-add", number, why)); /* the same again */
    assert_true(is_open(number));
}

static void a_port_that_is_taken_is_told(void **state) {
    uint16_t number;
    int fd = listener(0, &number);
    char why[300];

    assert_false(does("forward-add", number, why));
    assert_non_null(strstr(why, "in use"));
    assert_int_equal(b.options.nic[1].forwards, 0);
    close(fd);
}

static void a_set_closes_what_it_does_not_name(void **state) {
    uint16_t one = free_port(), two = free_port(), taken;
    int fd = listener(0, &taken);
    char why[300];
    json_t *r;

    assert_true(does("forward-add", one, why));
    r = ask(why,
            "{\"command\": \"forward-set\", \"arguments\": {\"nic\": 1, \"forwards\": "
            "[\"tcp:127.0.0.1:%u:22\", \"tcp:127.0.0.1:%u:23\"]}}",
            two, taken);
    assert_non_null(r);
    assert_int_equal(json_array_size(json_object_get(r, "open")), 1);
    assert_int_equal(json_array_size(json_object_get(r, "failed")), 1);
    json_decref(r);
    assert_false(is_open(one));
    assert_true(is_open(two));
    close(fd);
    r = ask(why, "{\"command\": \"forward-set\"}");
    assert_int_equal(json_array_size(json_object_get(r, "open")), 0);
    json_decref(r);
    assert_false(is_open(two));
}

static void wrong_words_and_interfaces_are_refused(void **state) {
    char why[300];

    assert_null(ask(why, "{\"command\": \"forward-add\", \"arguments\": {\"forward\": \"x\"}}"));
    assert_non_null(strstr(why, "tcp"));
    assert_null(ask(why, "{\"command\": \"forward-add\", \"arguments\": {\"forward\": "
                         "\"tcp:127.0.0.1:1:1\", \"nic\": 0}}"));
    assert_non_null(strstr(why, "no such interface"));
    assert_null(ask(why, "{\"command\": \"forward-set\", \"arguments\": {\"nic\": 5}}"));
    assert_non_null(strstr(why, "no such interface"));
    assert_null(ask(why, "{\"command\": \"forward-set\", \"arguments\": {\"forwards\": "
                         "[\"tcp:127.0.0.1:70000:1\"]}}"));
    assert_non_null(strstr(why, "no port"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, make, unmake)
        T(forwards_are_added_and_removed_while_it_runs),
        T(a_port_that_is_taken_is_told),
        T(a_set_closes_what_it_does_not_name),
        T(wrong_words_and_interfaces_are_refused),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
