/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the devices of a screen and those who look at it and type. */
#include "vm/screen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/timer.h"
#include "devices/i8042.h"
#include "devices/virtio/virtio_input.h"
#include "display/png.h"
#include "display/vnc.h"
#include "machine/machine.h"
#include "state/snapshot.h"
#include "vm/options.h"
#include "vm/tls.h"

#define SECTION  "screen.input"
#define ROM_FILE "/usr/share/seabios/vgabios-stdvga.bin"
enum { ROM_SIZE = 65536 };
/* A BIOS keeps 15 keys at most for programs that draw between them; what comes faster is lost. */
enum { KEYS_MAX = 4096, PUMP_MS = 4, PUMP_MAX_MS = 256, PS2_MS = 25 };

struct vm_screen {
    struct screen *screen;
    struct machine *machine;
    struct vnc *vnc[OPTIONS_MAX_DISPLAYS]; /* NULL: that one shows nobody anything */
    struct loop *loop;
    struct timers *timers;
    struct timer pump;
    uint32_t key[KEYS_MAX]; /* code and DOWN, or HOLD and ms */
    unsigned first, count;
    unsigned pause;               /* ms until the next try */
    struct input_pointer pointer; /* as it was last */
    uint8_t rom[ROM_SIZE];
};

enum { DOWN = 1 << 16, HOLD = 1 << 17 };

/* ---- keys ---- */

/* To the keyboard for which the guest has a driver; the time after which it can do with another. */
static bool give_key(struct machine *m, unsigned code, bool down, unsigned *wait) {
    struct device *keyboard = machine_keyboard(m);

    *wait = down || virtio_input_ready(keyboard) ? PUMP_MS : PS2_MS;
    if (virtio_input_ready(keyboard))
        return virtio_keyboard_key(keyboard, code, down);
    return i8042_key(machine_i8042(m), code, down);
}

/* As many as the guest's keyboard takes; the others a little later. */
static void pump_keys(void *opaque) {
    struct vm_screen *s = opaque;

    unsigned before = s->count, wait = PUMP_MS;

    while (s->count && s->machine && !machine_is_paused(s->machine) && wait == PUMP_MS) {
        uint32_t k = s->key[s->first];

        if (k & HOLD)
            wait = k & 0xffff;
        else if (!give_key(s->machine, k & 0xffff, k & DOWN, &wait))
            break;
        s->first = (s->first + 1) % KEYS_MAX;
        s->count--;
    }
    /* A guest that does not read its keyboard is asked less and less often. */
    s->pause = s->count < before ? wait : s->pause < PUMP_MAX_MS / 2 ? 2 * s->pause : PUMP_MAX_MS;
    if ((s->count || wait == PS2_MS) && !timer_runs(&s->pump))
        timer_start(s->timers, &s->pump, s->pause, pump_keys, s);
}

static void queue(struct vm_screen *s, uint32_t k) {
    s->key[(s->first + s->count++) % KEYS_MAX] = k;
}

bool vm_screen_key(struct vm_screen *s, unsigned code, bool down) {
    if (s->count == KEYS_MAX)
        return false;
    queue(s, code | (down ? DOWN : 0));
    if (!timer_runs(&s->pump))
        pump_keys(s);
    return true;
}

void vm_screen_hold(struct vm_screen *s, unsigned ms) {
    if (s->count < KEYS_MAX)
        queue(s, HOLD | (ms & 0xffff));
}

unsigned vm_screen_keys_room(const struct vm_screen *s) { return KEYS_MAX - s->count; }

static void key(void *opaque, unsigned code, bool down) { vm_screen_key(opaque, code, down); }

/* ---- the pointer ---- */

uint8_t vm_screen_buttons(const struct vm_screen *s) { return s->pointer.buttons; }

static int in_pixels(uint16_t from, uint16_t to, unsigned size) {
    return (int)((int64_t)to * size / INPUT_AXIS_MAX) -
           (int)((int64_t)from * size / INPUT_AXIS_MAX);
}

void vm_screen_pointer(struct vm_screen *s, const struct input_pointer *p) {
    struct input_pointer was = s->pointer;

    s->pointer = *p;
    if (!s->machine || machine_is_paused(s->machine))
        return;
    if (virtio_input_ready(machine_tablet(s->machine)))
        virtio_tablet_pointer(machine_tablet(s->machine), p);
    else
        i8042_mouse(machine_i8042(s->machine), in_pixels(was.x, p->x, s->screen->width),
                    in_pixels(was.y, p->y, s->screen->height), p->wheel, p->buttons);
}

static void pointer(void *opaque, const struct input_pointer *p) { vm_screen_pointer(opaque, p); }

/* ---- snapshots ---- */

/* What waits, and how the pointer was, since a mouse tells only how far it went: u16 x, u16 y, u8
 * buttons, u8 0; then a u32 a key. Little-endian. */
enum { HEAD = 6 };

void vm_screen_save(const struct vm_screen *s, struct snapshot_sections *out) {
    const struct input_pointer *p = &s->pointer;
    uint8_t head[HEAD] = {[4] = p->buttons}, one[4];
    struct buf b = {0};

    if (!s->count && !p->x && !p->y && !p->buttons)
        return;
    store_le16(head, p->x);
    store_le16(head + 2, p->y);
    buf_put(&b, head, sizeof(head));
    for (unsigned i = 0; i < s->count; i++) {
        store_le32(one, s->key[(s->first + i) % KEYS_MAX]);
        buf_put(&b, one, sizeof(one));
    }
    snapshot_add(out, SECTION, SNAPSHOT_RAW, b.data, b.len);
    buf_done(&b);
}

void vm_screen_load(struct vm_screen *s, const struct snapshot *from) {
    const struct snapshot_section *in = snapshot_find(from, SECTION);

    if (!in || in->kind != SNAPSHOT_RAW || in->size < HEAD || (in->size - HEAD) % 4)
        return;
    s->pointer = (struct input_pointer){.x = load_le16(in->data) & INPUT_AXIS_MAX,
                                        .y = load_le16(in->data + 2) & INPUT_AXIS_MAX,
                                        .buttons = in->data[4]};
    for (size_t at = HEAD; at < in->size && s->count < KEYS_MAX; at += 4)
        queue(s, load_le32(in->data + at) & (HOLD | DOWN | 0xffff));
    if (s->count)
        timer_start(s->timers, &s->pump, PUMP_MS, pump_keys, s);
}

/* ---- life ---- */

/* The video BIOS, which only firmware calls. Its place is there without it as well: a snapshot goes
 * on where it is not installed. */
static void read_rom(uint8_t rom[ROM_SIZE]) {
    int fd = open(ROM_FILE, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, rom, ROM_SIZE);

    if (n < 0)
        memset(rom, 0, ROM_SIZE);
    if (fd >= 0)
        close(fd);
}

struct vm_screen *vm_screen_new(struct loop *loop, const struct options *options,
                                struct machine_display *ret_display, struct error *err) {
    struct vm_screen *s = calloc(1, sizeof(*s));

    if (s)
        s->screen = screen_new();
    if (s)
        s->loop = loop;
    if (s && s->screen)
        s->timers = timers_new(loop, err);
    if (!s || !s->screen || !s->timers) {
        error_set(err, -ENOMEM, "the screen: out of memory");
        vm_screen_free(s);
        return NULL;
    }
    read_rom(s->rom);
    *ret_display = (struct machine_display){
        .adapter =
            options->vga && !strcmp(options->vga, "virtio") ? MACHINE_VIRTIO_GPU : MACHINE_VGA,
        .screen = s->screen,
        .vga_rom = s->rom,
        .vga_rom_size = sizeof(s->rom),
    };
    return s;
}

int vm_screen_attach(struct vm_screen *s, struct machine *machine, const struct options *options,
                     struct error *err) {
    struct input_sink input = {key, pointer, s};

    s->machine = machine;
    for (unsigned i = 0; i < options->displays; i++) {
        struct vnc_options vnc = options->vnc[i];

        if (!vnc.on)
            continue;
        if (*vnc.tls) {
            vnc.module = tls_module_load(err);
            if (!vnc.module)
                return -EINVAL;
        }
        s->vnc[i] = vnc_open(s->loop, &vnc, options->name, s->screen, &input, err);
        if (!s->vnc[i])
            return -EINVAL;
    }
    return 0;
}

void vm_screen_close(struct vm_screen *s) {
    if (!s)
        return;
    for (unsigned i = 0; i < OPTIONS_MAX_DISPLAYS; i++) {
        vnc_close(s->vnc[i]);
        s->vnc[i] = NULL;
    }
    s->machine = NULL;
    timer_stop(&s->pump);
}

void vm_screen_free(struct vm_screen *s) {
    if (!s)
        return;
    vm_screen_close(s);
    timers_free(s->timers);
    screen_free(s->screen);
    free(s);
}

/* ---- looking ---- */

int vm_screen_png(struct vm_screen *s, struct buf *out, struct error *err) {
    screen_refresh(s->screen);
    return png_make(s->screen->pixels, s->screen->width, s->screen->height, out, err);
}

void vm_screen_size(const struct vm_screen *s, unsigned *ret_width, unsigned *ret_height) {
    *ret_width = s->screen->width;
    *ret_height = s->screen->height;
}

unsigned vm_screen_viewers(const struct vm_screen *s) {
    unsigned n = 0;

    for (unsigned i = 0; i < OPTIONS_MAX_DISPLAYS; i++)
        n += s->vnc[i] ? vnc_clients(s->vnc[i]) : 0;
    return n;
}
