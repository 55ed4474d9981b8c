/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The machine's serial ports and its virtio console. */
#include "vm/consoles.h"

#include <errno.h>
#include <stdio.h>

#include "base/loop.h"
#include "state/snapshot.h"
#include "vm/chardev.h"
#include "vm/line_log.h"
#include "vm/options.h"

static bool is_virtio(const struct console_line *l) { return l->n == MACHINE_MAX_SERIALS; }

/* While the machine is paused its devices take nothing; consoles_resumed makes up for it. */
static bool takes_input(const struct console_line *l) {
    return l->all->machine && !machine_is_paused(l->all->machine);
}

static struct device *device(const struct console_line *l) {
    return is_virtio(l) ? machine_console(l->all->machine) : machine_serial(l->all->machine, l->n);
}

/* ---- the guest speaks ---- */

static void serial_write(void *opaque, const uint8_t *p, size_t n) {
    struct console_line *l = opaque;

    if (l->end)
        chardev_write(l->end, p, n);
}

static bool serial_can_write(void *opaque) {
    struct console_line *l = opaque;

    return !l->end || chardev_can_write(l->end);
}

static size_t console_write(void *opaque, const uint8_t *p, size_t n) {
    struct console_line *l = opaque;

    return l->end ? chardev_write(l->end, p, n) : n;
}

static void resume_input(void *opaque) {
    struct console_line *l = opaque;

    if (l->end)
        chardev_resume_input(l->end);
}

static void can_receive(void *opaque) {
    struct console_line *l = opaque;

    loop_post(l->all->loop, resume_input, l); /* not from inside the device */
}

/* ---- the host speaks ---- */

static size_t input(void *opaque, const uint8_t *p, size_t n) {
    struct console_line *l = opaque;

    if (!takes_input(l))
        return 0;
    return is_virtio(l) ? virtio_console_receive(device(l), p, n) : uart_receive(device(l), p, n);
}

static void writable(void *opaque) {
    struct console_line *l = opaque;

    if (!takes_input(l))
        return;
    if (is_virtio(l))
        virtio_console_writable(device(l));
    else
        uart_writable(device(l));
}

static void leave(void *opaque) {
    struct console_line *l = opaque;

    l->all->leave(l->all->opaque);
}

/* ---- life ---- */

/* What the options say is at the other end; NULL: there is no such line. */
static const char *spec_of(const struct console_line *l, const struct options *o) {
    return is_virtio(l) ? o->console : l->n < o->serials ? o->serial[l->n] : NULL;
}

void consoles_begin(struct consoles *c, struct loop *loop, const struct options *o,
                    struct machine_config *m) {
    c->loop = loop;
    for (unsigned i = 0; i < CONSOLES; i++)
        c->line[i] = (struct console_line){.all = c, .n = i};
    m->serials = o->serials;
    for (unsigned i = 0; i < o->serials; i++)
        m->serial[i] =
            (struct serial_port){serial_write, serial_can_write, can_receive, &c->line[i]};
    m->has_console = o->console != NULL;
    m->console = (struct console_port){console_write, can_receive, &c->line[MACHINE_MAX_SERIALS]};
}

/* What the guest says on its first serial port is kept in a file as well. */
static int open_log(struct console_line *l, const struct options *o, struct error *err) {
    struct line_log *log;

    if (l->n || !o->serial_log)
        return 0;
    log = line_log_open(o->serial_log, err);
    if (!log)
        return -EINVAL;
    chardev_set_log(l->end, log);
    return 0;
}

int consoles_open(struct consoles *c, struct machine *m, const struct options *o,
                  struct error *err) {
    c->machine = m;
    for (unsigned i = 0; i < CONSOLES; i++) {
        struct console_line *l = &c->line[i];
        struct chardev_user user = {input, writable, leave, l};
        const char *spec = spec_of(l, o);

        if (!spec)
            continue;
        l->end = chardev_open(c->loop, spec, err);
        if (!l->end)
            return -EINVAL;
        chardev_set_user(l->end, &user);
        if (open_log(l, o, err) < 0)
            return -EINVAL;
    }
    return 0;
}

void consoles_resumed(struct consoles *c) {
    for (unsigned i = 0; i < CONSOLES; i++)
        if (c->line[i].end) {
            writable(&c->line[i]);
            loop_post(c->loop, resume_input, &c->line[i]);
        }
}

void consoles_flush(struct consoles *c) {
    for (unsigned i = 0; i < CONSOLES; i++)
        if (c->line[i].end)
            chardev_flush(c->line[i].end);
}

static void section_of(const struct console_line *l, char name[SNAPSHOT_NAME]) {
    if (is_virtio(l) || !l->n)
        snprintf(name, SNAPSHOT_NAME, "%s.input", is_virtio(l) ? "console" : "serial");
    else
        snprintf(name, SNAPSHOT_NAME, "serial%u.input", l->n);
}

void consoles_save(const struct consoles *c, struct snapshot_sections *out) {
    char name[SNAPSHOT_NAME];
    const uint8_t *p;
    size_t n;

    for (unsigned i = 0; i < CONSOLES; i++) {
        if (!c->line[i].end)
            continue;
        p = chardev_kept_input(c->line[i].end, &n);
        section_of(&c->line[i], name);
        if (n)
            snapshot_add(out, name, SNAPSHOT_RAW, p, n);
    }
}

void consoles_load(struct consoles *c, const struct snapshot *s) {
    const struct snapshot_section *section;
    char name[SNAPSHOT_NAME];

    for (unsigned i = 0; i < CONSOLES; i++) {
        section_of(&c->line[i], name);
        section = snapshot_find(s, name);
        if (c->line[i].end && section && section->kind == SNAPSHOT_RAW)
            chardev_put_input(c->line[i].end, section->data, section->size);
    }
}

void consoles_close(struct consoles *c) {
    for (unsigned i = 0; i < CONSOLES; i++) {
        chardev_close(c->line[i].end);
        c->line[i].end = NULL;
    }
}
