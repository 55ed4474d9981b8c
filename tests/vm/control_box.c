/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine with a control, and clients of a few lines. */
#include "vm/control_box.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix_socket.h"

GUEST32(sleeper, "cli\n1: hlt\njmp 1b\n");

static void need(bool good, const struct error *err) {
    if (good)
        return;
    fprintf(stderr, "control box: %s\n", err->text);
    abort();
}

static void quit(void *opaque) { ((struct control_box *)opaque)->quits++; }
static void disk_failed(void *opaque, const struct error *e) {}
static void ended(void *opaque, enum machine_end how, unsigned code) {}

void control_box_make(struct control_box *b, bool started) {
    struct machine_config config = {.name = "box",
                                    .cpus = 4,
                                    .cpus_present = 1,
                                    .memory = 16 << 20,
                                    .memory_more = 64 << 20,
                                    .cpu = "ref",
                                    .ended = ended,
                                    .opaque = b};
    struct error err = {0};
    static unsigned number;

    memset(b, 0, sizeof(*b));
    pthread_mutex_init(&b->lock, NULL);
    b->loop = loop_new(&b->lock, &err);
    need(b->loop, &err);
    image_elf(&b->image, &(struct elf_shape){0}, sleeper, (size_t)(sleeper_end - sleeper));
    config.kernel = b->image.path;
    b->screen = vm_screen_new(b->loop, &b->options, &config.display, &err);
    need(b->screen, &err);
    b->machine = machine_new(&config, b->loop, &b->lock, &err);
    need(b->machine, &err);
    b->options = (struct options){
        .name = "box", .cpus = 1, .cpus_max = 4, .memory = config.memory, .memory_max = 80 << 20};
    b->attach = (struct attach){.loop = b->loop,
                                .passed = &b->passed,
                                .options = &b->options,
                                .machine = b->machine,
                                .disk = b->disk,
                                .nic = b->nic,
                                .nic_rom = b->nic_rom,
                                .disk_failed = disk_failed,
                                .disk_wants_pause = disk_failed,
                                .opaque = b};
    b->vm = (struct control_vm){.loop = b->loop,
                                .machine = b->machine,
                                .options = &b->options,
                                .disk = b->disk,
                                .nic = b->options.nic,
                                .port = b->nic,
                                .attach = &b->attach,
                                .screen = b->screen,
                                .quit = quit,
                                .opaque = b};
    need(vm_screen_attach(b->screen, b->machine, &b->options, &err) == 0, &err);
    b->control = control_new(&b->vm, &err);
    need(b->control, &err);
    snprintf(b->path, sizeof(b->path), "/tmp/viv-control-%d-%u", (int)getpid(), number++);
    need(control_listen(b->control, b->path, &err) == 0, &err);
    need(!started || machine_start(b->machine, &err) == 0, &err);
}

void control_box_free(struct control_box *b) {
    pthread_mutex_lock(&b->lock);
    control_free(b->control);
    vm_screen_close(b->screen);
    pthread_mutex_unlock(&b->lock);
    machine_free(b->machine);
    pthread_mutex_lock(&b->lock);
    for (unsigned i = 0; i < b->options.nics; i++)
        if (b->nic[i])
            attach_close(&b->attach, MACHINE_NIC, i);
    passed_done(&b->passed);
    options_done(&b->options);
    pthread_mutex_unlock(&b->lock);
    vm_screen_free(b->screen);
    loop_free(b->loop);
    image_done(&b->image);
    pthread_mutex_destroy(&b->lock);
}

/* Longer than a rest of the control after much work, and at most once. */
void control_box_run(struct control_box *b) {
    while (loop_step(b->loop, control_rests(b->control) ? 100 : 0))
        ;
}

void raw_open(struct raw_client *c, struct control_box *b) {
    struct error err = {0};

    *c = (struct raw_client){.box = b, .in.max = 16 << 20};
    c->fd = unix_socket_connect(b->path, 0, &err);
    need(c->fd >= 0, &err);
    control_box_run(b);
}

void raw_close(struct raw_client *c) {
    close(c->fd);
    lines_done(&c->in);
}

size_t raw_send(struct raw_client *c, const char *bytes, size_t n) {
    ssize_t sent = send(c->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);

    return sent < 0 ? 0 : (size_t)sent;
}

void raw_say(struct raw_client *c, const char *line) {
    size_t n = strlen(line);

    for (size_t sent = 0; sent < n; control_box_run(c->box))
        sent += raw_send(c, line + sent, n - sent);
    while (raw_send(c, "\n", 1) == 0)
        control_box_run(c->box);
}

json_t *raw_hear(struct raw_client *c) {
    struct error err = {0};
    char *line;
    size_t n;

    while (!(line = lines_next(&c->in, &n))) {
        void *p = lines_room(&c->in, &n);
        ssize_t got;

        control_box_run(c->box);
        got = recv(c->fd, p, n, MSG_DONTWAIT);
        if (got <= 0) {
            c->ended = got == 0 || errno == ECONNRESET;
            return NULL;
        }
        lines_came(&c->in, (size_t)got);
    }
    return message_parse(line, n, &err);
}
