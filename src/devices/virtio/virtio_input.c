/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Input devices: a keyboard and a tablet.
 * Source: Virtual I/O Device (VIRTIO) Version 1.2, section 5.8; Linux' input event codes.
 *
 * Theory of operation. The driver asks for properties by select and subsel and reads the answer in
 * the rest of the configuration. Events wait in a small queue until it gives buffers; what belongs
 * together goes in together with its end mark, or not at all.
 */
#include "devices/virtio/virtio_input.h"

#include <string.h>

#include "base/bytes.h"
#include "display/keys.h"

// clang-format off
enum { QUEUE_EVENT = 0, QUEUE_STATUS = 1 };
enum { CONFIG_SELECT = 0, CONFIG_SUBSEL = 1, CONFIG_SIZE_AT = 2, CONFIG_DATA = 8, DATA_MAX = 128, CONFIG_BYTES = CONFIG_DATA + DATA_MAX };
enum { SELECT_NAME = 1, SELECT_SERIAL = 2, SELECT_IDS = 3, SELECT_PROPERTIES = 0x10, SELECT_EVENTS = 0x11, SELECT_ABS = 0x12 };
enum { EV_SYN = 0, EV_KEY = 1, EV_REL = 2, EV_ABS = 3, EV_REP = 0x14, REL_HWHEEL = 6, REL_WHEEL = 8, ABS_X = 0, ABS_Y = 1,
       BTN_LEFT = 0x110, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE, BTN_EXTRA };
enum { BUS_VIRTUAL = 6, VENDOR = 0x1af4, EVENT_SIZE = 8, WAITING = 128 };
// clang-format on

extern const struct device_class virtio_keyboard_class, virtio_tablet_class;

struct virtio_input {
    struct virtio virtio; /* first */
    bool tablet;
    uint8_t select, subsel;
    uint64_t event[WAITING]; /* type, code, value as in the queue */
    uint16_t first, count;
    uint8_t buttons;           /* as the driver was told */
    struct virtio_chain chain; /* scratch */
};

/* ---- configuration ---- */

static unsigned set_bit(uint8_t *bits, unsigned n, unsigned size) {
    bits[n / 8] |= (uint8_t)(1u << n % 8);
    return n / 8 + 1 > size ? n / 8 + 1 : size;
}

static unsigned keyboard_bits(unsigned type, uint8_t *out) {
    unsigned size = 0;

    if (type == EV_REP)
        return set_bit(out, 0, 0); /* the guest repeats keys by itself */
    if (type == EV_KEY)
        for (const struct key *k = keys; k->name; k++)
            size = set_bit(out, k->code, size);
    return size;
}

static unsigned tablet_bits(unsigned type, uint8_t *out) {
    unsigned size = 0;

    if (type == EV_KEY)
        for (unsigned b = BTN_LEFT; b <= BTN_EXTRA; b++)
            size = set_bit(out, b, size);
    if (type == EV_REL)
        size = set_bit(out, REL_HWHEEL, set_bit(out, REL_WHEEL, 0));
    if (type == EV_ABS)
        size = set_bit(out, ABS_X, set_bit(out, ABS_Y, 0));
    return size;
}

/* The answer to select and subsel; its size, 0: there is none. */
static unsigned answer(const struct virtio_input *i, uint8_t out[DATA_MAX]) {
    const char *text =
        i->select == SELECT_NAME ? i->tablet ? "Vivarium tablet" : "Vivarium keyboard" : "1";

    switch (i->select) {
    case SELECT_NAME:
    case SELECT_SERIAL:
        memcpy(out, text, strlen(text));
        return i->subsel ? 0 : (unsigned)strlen(text);
    case SELECT_IDS:
        store_le16(out, BUS_VIRTUAL);
        store_le16(out + 2, VENDOR);
        store_le16(out + 4, i->tablet ? 3 : 1);
        store_le16(out + 6, 1);
        return i->subsel ? 0 : 8;
    case SELECT_EVENTS:
        return i->tablet ? tablet_bits(i->subsel, out) : keyboard_bits(i->subsel, out);
    case SELECT_ABS:
        store_le32(out + 4, INPUT_AXIS_MAX);
        return i->tablet && i->subsel <= ABS_Y ? 20 : 0;
    default:
        return 0;
    }
}

static void config_read(struct virtio *v, unsigned offset, void *buf, unsigned len) {
    const struct virtio_input *i = (const struct virtio_input *)v;
    uint8_t bytes[CONFIG_BYTES] = {i->select, i->subsel};

    bytes[CONFIG_SIZE_AT] = (uint8_t)answer(i, bytes + CONFIG_DATA);
    if (!bytes[CONFIG_SIZE_AT])
        memset(bytes + CONFIG_DATA, 0, DATA_MAX);
    memcpy(buf, bytes + offset, len);
}

static void config_write(struct virtio *v, unsigned offset, const void *buf, unsigned len) {
    struct virtio_input *i = (struct virtio_input *)v;
    const uint8_t *p = buf;

    for (; len; len--, offset++, p++)
        if (offset == CONFIG_SELECT)
            i->select = *p;
        else if (offset == CONFIG_SUBSEL)
            i->subsel = *p;
}

/* ---- events ---- */

static void deliver(struct virtio_input *i) {
    struct virtio *v = &i->virtio;
    uint8_t bytes[EVENT_SIZE];

    while (i->count && virtio_pop(v, QUEUE_EVENT, &i->chain) > 0) {
        const struct virtio_chain *c = &i->chain;

        store_le64(bytes, i->event[i->first]);
        if (iov_write(c->iov + c->out_count, c->in_count, 0, bytes, EVENT_SIZE) < EVENT_SIZE) {
            virtio_broken(v, "a buffer for events is too small");
            return;
        }
        virtio_push(v, c, EVENT_SIZE);
        i->first = (uint16_t)((i->first + 1) % WAITING);
        i->count--;
    }
    virtio_interrupt(v, QUEUE_EVENT);
}

static void notify(struct virtio *v, unsigned queue) {
    struct virtio_input *i = (struct virtio_input *)v;

    if (queue == QUEUE_EVENT) {
        deliver(i);
        return;
    }
    while (virtio_pop(v, QUEUE_STATUS, &i->chain) > 0) /* lights: nobody sees them */
        virtio_push(v, &i->chain, 0);
    virtio_interrupt(v, QUEUE_STATUS);
}

static bool has_room(const struct virtio_input *i, unsigned n) { return i->count + n <= WAITING; }

static void add(struct virtio_input *i, unsigned type, unsigned code, int value) {
    i->event[(i->first + i->count++) % WAITING] =
        type | (uint64_t)code << 16 | (uint64_t)(uint32_t)value << 32;
}

bool virtio_input_ready(const struct device *dev) {
    return virtio_live((const struct virtio *)dev);
}

bool virtio_keyboard_key(struct device *dev, unsigned code, bool down) {
    struct virtio_input *i = (struct virtio_input *)dev;

    if (!key_by_code(code))
        return true;
    if (!has_room(i, 2))
        return false;
    add(i, EV_KEY, code, down);
    add(i, EV_SYN, 0, 0);
    deliver(i);
    return true;
}

void virtio_tablet_pointer(struct device *dev, const struct input_pointer *p) {
    static const uint16_t code[] = {BTN_LEFT, BTN_MIDDLE, BTN_RIGHT, BTN_SIDE, BTN_EXTRA};
    struct virtio_input *i = (struct virtio_input *)dev;
    uint8_t changed = (uint8_t)(i->buttons ^ p->buttons);

    if (!has_room(i, 10))
        return;
    add(i, EV_ABS, ABS_X, p->x);
    add(i, EV_ABS, ABS_Y, p->y);
    for (unsigned b = 0; b < 5; b++)
        if (changed >> b & 1)
            add(i, EV_KEY, code[b], p->buttons >> b & 1);
    i->buttons = p->buttons;
    if (p->wheel)
        add(i, EV_REL, REL_WHEEL, p->wheel);
    if (p->wheel_x)
        add(i, EV_REL, REL_HWHEEL, p->wheel_x);
    add(i, EV_SYN, 0, 0);
    deliver(i);
}

/* ---- life ---- */

/* Before a driver there is nobody for whom events could wait. */
static void status(struct virtio *v, uint8_t old, uint8_t now) {
    struct virtio_input *i = (struct virtio_input *)v;

    if (!now)
        i->first = i->count = i->buttons = 0;
}

static const struct virtio_type type = {
    .id = VIRTIO_ID_INPUT,
    .queues = 2,
    .queue_size = 64,
    .config_size = CONFIG_BYTES,
    .pci_class = 0x09800000, /* other input controller */
    .notify = notify,
    .status = status,
    .config_read = config_read,
    .config_write = config_write,
};

static int init(struct device *dev, struct error *err) {
    struct virtio_input *i = (struct virtio_input *)dev;

    i->tablet = dev->cls == &virtio_tablet_class;
    return virtio_init(&i->virtio, &type, 0, err);
}

static void reset(struct device *dev) {
    struct virtio_input *i = (struct virtio_input *)dev;

    i->select = i->subsel = 0;
    memset(i->event, 0, sizeof(i->event));
    virtio_reset(&i->virtio);
}

static void done(struct device *dev) { virtio_done((struct virtio *)dev); }

static void post_load(void *obj) { virtio_post_load(obj); }

// clang-format off
#define INPUT_STATE(class_name) {                                                                  \
    .name = class_name,                                                                            \
    .version = 1,                                                                                  \
    .struct_size = sizeof(struct virtio_input),                                                    \
    .post_load = post_load,                                                                        \
    .fields = (const struct state_field[]){                                                        \
        STATE_SUB(struct virtio_input, virtio, &virtio_state),                                     \
        STATE(struct virtio_input, select),                                                        \
        STATE(struct virtio_input, subsel),                                                        \
        STATE_ARRAY(struct virtio_input, event),                                                   \
        STATE_MAX(struct virtio_input, first, WAITING - 1),                                        \
        STATE_MAX(struct virtio_input, count, WAITING),                                            \
        STATE(struct virtio_input, buttons),                                                       \
        STATE_END,                                                                                 \
    },                                                                                             \
}
// clang-format on

static const struct state_desc keyboard_state = INPUT_STATE("virtio_keyboard");
static const struct state_desc tablet_state = INPUT_STATE("virtio_tablet");

const struct device_class virtio_keyboard_class = {
    .name = "virtio_keyboard",
    .help = "virtio keyboard",
    .size = sizeof(struct virtio_input),
    .state = &keyboard_state,
    .init = init,
    .reset = reset,
    .done = done,
    .pci = true,
};

const struct device_class virtio_tablet_class = {
    .name = "virtio_tablet",
    .help = "virtio pointer with absolute places",
    .size = sizeof(struct virtio_input),
    .state = &tablet_state,
    .init = init,
    .reset = reset,
    .done = done,
    .pci = true,
};
