/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 8042 keyboard controller. Source: IBM PS/2 Hardware Interface Technical Reference (May 1988),
 * "Keyboard and Auxiliary Device Controller".
 *
 * Theory of operation: answers of the controller and bytes of keyboard and mouse wait in small
 * queues; the next one enters the output buffer when the guest has read the last. No command takes
 * time. Where there is no mouse, a byte for it is answered by 0xfe with the time-out status, as the
 * controller does when a device does not respond, so that drivers do not wait for it.
 *
 * The controller starts as firmware leaves it (interface on, translation to scan-code set 1), for
 * guests that start without firmware.
 */
#include "devices/i8042.h"

#include <string.h>

#include "base/trace.h"
#include "devices/i8042_internal.h"

enum {
    STS_OBF = 1,
    STS_SYS = 4,
    STS_COMMAND = 8,
    STS_UNLOCKED = 0x10,
    STS_AUX = 0x20,
    STS_TIMEOUT = 0x40
};
enum {
    CFG_KBD_IRQ = 1,
    CFG_AUX_IRQ = 2,
    CFG_SYS = 4,
    CFG_KBD_OFF = 0x10,
    CFG_AUX_OFF = 0x20,
    CFG_XLATE = 0x40,
    CFG_MASK = 0x77,
    CFG_START = CFG_KBD_IRQ | CFG_SYS | CFG_AUX_OFF | CFG_XLATE
};
enum { OUT_RUN = 1, OUT_A20 = 2, OUT_START = 0xcf };
/* ------------------------------------------------------------------ output buffer */

static void update_irq(struct i8042 *k) {
    irq_set(&k->dev.env.irq[0], k->full && k->source != I8042_MOUSE && (k->config & CFG_KBD_IRQ));
    irq_set(&k->dev.env.irq[1], k->full && k->source == I8042_MOUSE && (k->config & CFG_AUX_IRQ));
}

static void put_data(struct i8042 *k, uint8_t byte, uint8_t source) {
    k->full = true;
    k->data = byte;
    k->source = source <= I8042_MOUSE ? source : I8042_CONTROLLER; /* a damaged snapshot */
}

/* Fills the output buffer if it is empty: answers first, then keys (0xf0 is swallowed by
 * translation). */
void i8042_refill(struct i8042 *k) {
    if (!k->full && k->replies) {
        put_data(k, k->reply[0], k->reply_source[0]);
        k->replies--;
        memmove(k->reply, k->reply + 1, k->replies);
        memmove(k->reply_source, k->reply_source + 1, k->replies);
    }
    while (!k->full && k->keys && !(k->config & CFG_KBD_OFF)) {
        uint8_t byte = i8042_take_key(k);

        if (!(k->config & CFG_XLATE)) {
            put_data(k, byte, I8042_KEYBOARD);
        } else if (byte == PS2_BREAK) {
            k->key_break = true;
        } else {
            byte = i8042_translate(byte);
            put_data(k, k->key_break ? byte | 0x80 : byte, I8042_KEYBOARD);
            k->key_break = false;
        }
    }
    if (!k->full && k->auxs && !(k->config & CFG_AUX_OFF))
        put_data(k, i8042_take_aux(k), I8042_MOUSE);
    update_irq(k);
}

static void reply(struct i8042 *k, uint8_t byte, uint8_t source) {
    if (k->replies == I8042_REPLIES) /* the guest does not read its answers */
        return;
    k->reply[k->replies] = byte;
    k->reply_source[k->replies++] = source;
}

/* ------------------------------------------------------------------ controller */

static void write_outport(struct i8042 *k, uint8_t value) {
    k->outport = value;
    irq_set(&k->dev.env.irq[2], value & OUT_A20);
    if (value & OUT_RUN)
        return;
    trace(reset_request, k->dev.name, value);
    k->outport |= OUT_RUN;
    if (k->dev.env.power.request)
        k->dev.env.power.request(k->dev.env.power.opaque, POWER_RESET, 0);
}

static void self_test(struct i8042 *k) {
    k->config |= CFG_SYS;
    k->replies = 0;
    k->full = k->timeout = false;
    reply(k, 0x55, I8042_CONTROLLER);
}

static void no_aux(struct i8042 *k) {
    k->timeout = true;
    reply(k, PS2_RESEND, I8042_MOUSE);
}

static void write_command(struct i8042 *k, uint8_t value) {
    k->last_was_command = true;
    k->command = 0;
    switch (value) {
    case 0x20:
        reply(k, k->config, I8042_CONTROLLER);
        break;
    case 0x21 ... 0x3f:
        reply(k, k->ram[value & 31], I8042_CONTROLLER);
        break;
    case 0x60 ... 0x7f: /* write RAM; output port; buffers; mouse: a data byte follows */
    case 0xd1 ... 0xd4:
        k->command = value;
        break;
    case 0xa4:
        reply(k, 0xf1, I8042_CONTROLLER); /* no password */
        break;
    case 0xa7:
        k->config |= CFG_AUX_OFF;
        break;
    case 0xa8:
        k->config &= (uint8_t)~CFG_AUX_OFF;
        break;
    case 0xa9: /* tests of the two interfaces: passed */
    case 0xab:
        reply(k, 0, I8042_CONTROLLER);
        break;
    case 0xaa:
        self_test(k);
        break;
    case 0xad:
        k->config |= CFG_KBD_OFF;
        break;
    case 0xae:
        k->config &= (uint8_t)~CFG_KBD_OFF;
        break;
    case 0xc0:
        reply(k, 0x80, I8042_CONTROLLER); /* input port: keyboard not locked */
        break;
    case 0xd0:
        reply(k, k->outport, I8042_CONTROLLER);
        break;
    case 0xdd: /* A20 off and on, an extension that loaders rely on */
        write_outport(k, k->outport & (uint8_t)~OUT_A20);
        break;
    case 0xdf:
        write_outport(k, k->outport | OUT_A20);
        break;
    case 0xe0:
        reply(k, 0, I8042_CONTROLLER);
        break;
    case 0xf0 ... 0xff: /* pulses the low bits that are 0; only the reset line is wired */
        if (!(value & OUT_RUN))
            write_outport(k, k->outport & (uint8_t)~OUT_RUN);
        break;
    default:
        trace(i8042_unknown, value);
        break;
    }
}

static void write_data(struct i8042 *k, uint8_t value) {
    uint8_t command = k->command;

    k->last_was_command = false;
    k->command = 0;
    switch (command) {
    case 0:
        k->config &= (uint8_t)~CFG_KBD_OFF; /* a byte for the keyboard switches its interface on */
        i8042_kbd_receive(k, value);
        break;
    case 0x60:
        k->config = value & CFG_MASK;
        break;
    case 0x61 ... 0x7f:
        k->ram[command & 31] = value;
        break;
    case 0xd1:
        write_outport(k, value);
        break;
    case 0xd2:
        reply(k, value, I8042_KEYBOARD);
        break;
    case 0xd3:
        reply(k, value, I8042_MOUSE);
        break;
    default: /* 0xd4 */
        if (!k->has_mouse) {
            no_aux(k);
            break;
        }
        k->config &= (uint8_t)~CFG_AUX_OFF;
        i8042_mouse_receive(k, value);
        break;
    }
}

static uint64_t data_read(void *dev, uint64_t offset, unsigned size) {
    struct i8042 *k = dev;
    uint8_t value = k->data;

    k->full = k->timeout = false;
    update_irq(k); /* falls before the next byte raises it */
    i8042_refill(k);
    trace(i8042_read, 0x60, value);
    return value;
}

static void data_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    trace(i8042_write, 0x60, (unsigned)value);
    write_data(dev, (uint8_t)value);
    i8042_refill(dev);
}

static uint64_t status_read(void *dev, uint64_t offset, unsigned size) {
    struct i8042 *k = dev;

    return (k->full ? STS_OBF : 0) | (k->config & CFG_SYS ? STS_SYS : 0) |
           (k->last_was_command ? STS_COMMAND : 0) | STS_UNLOCKED |
           (k->full && k->source == I8042_MOUSE ? STS_AUX : 0) |
           (k->full && k->source == I8042_MOUSE && k->timeout ? STS_TIMEOUT : 0);
}

static void command_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    trace(i8042_write, 0x64, (unsigned)value);
    write_command(dev, (uint8_t)value);
    i8042_refill(dev);
}

static void i8042_reset(struct device *dev) {
    struct i8042 *k = (struct i8042 *)dev;

    k->config = CFG_START;
    k->outport = OUT_START;
    k->command = k->data = k->source = 0;
    k->last_was_command = k->full = k->timeout = false;
    k->replies = 0;
    memset(k->ram, 0, sizeof(k->ram));
    memset(k->reply, 0, sizeof(k->reply));
    memset(k->reply_source, 0, sizeof(k->reply_source));
    i8042_kbd_reset(k);
    i8042_mouse_reset(k);
    irq_raise(&dev->env.irq[2]);
    update_irq(k);
}

static void post_load(void *obj) {
    struct i8042 *k = obj;

    if (!k->set)
        k->set = 2;
}

static int init(struct device *dev, struct error *err) {
    const struct i8042_config *config = dev->env.config;

    ((struct i8042 *)dev)->has_mouse = config && config->mouse;
    return 0;
}

static const struct state_desc i8042_state = {
    .name = "i8042",
    .version = 2,
    .struct_size = sizeof(struct i8042),
    .post_load = post_load,
    .fields =
        (const struct state_field[]){STATE(struct i8042, config),
                                     STATE(struct i8042, outport),
                                     STATE(struct i8042, command),
                                     STATE(struct i8042, last_was_command),
                                     STATE_BYTES(struct i8042, ram),
                                     STATE(struct i8042, full),
                                     STATE(struct i8042, timeout),
                                     STATE(struct i8042, data),
                                     STATE_MAX(struct i8042, source, I8042_MOUSE),
                                     STATE_BYTES(struct i8042, reply),
                                     STATE_BYTES(struct i8042, reply_source),
                                     STATE_MAX(struct i8042, replies, I8042_REPLIES),
                                     STATE_BYTES(struct i8042, key),
                                     STATE_MAX(struct i8042, key_head, I8042_KEYS - 1),
                                     STATE_MAX(struct i8042, keys, I8042_KEYS),
                                     STATE(struct i8042, key_break),
                                     STATE(struct i8042, scanning),
                                     STATE(struct i8042, kbd_command),
                                     STATE(struct i8042, last_sent),
                                     STATE_SINCE_MAX(struct i8042, set, 2, 3),
                                     STATE_SINCE(struct i8042, leds, 2),
                                     STATE_SINCE(struct i8042, typematic, 2),
                                     STATE_ARRAY_SINCE(struct i8042, aux, 2),
                                     STATE_SINCE_MAX(struct i8042, aux_head, 2, I8042_AUX - 1),
                                     STATE_SINCE_MAX(struct i8042, auxs, 2, I8042_AUX),
                                     STATE_SINCE(struct i8042, mouse_command, 2),
                                     STATE_SINCE(struct i8042, mouse_last, 2),
                                     STATE_SINCE_MAX(struct i8042, mouse_id, 2, 4),
                                     STATE_SINCE(struct i8042, mouse_rate, 2),
                                     STATE_SINCE_MAX(struct i8042, mouse_resolution, 2, 3),
                                     STATE_ARRAY_SINCE(struct i8042, mouse_knock, 2),
                                     STATE_SINCE_MAX(struct i8042, mouse_buttons, 2, 31),
                                     STATE_SINCE_MAX(struct i8042, mouse_sent_buttons, 2, 31),
                                     STATE_SINCE(struct i8042, mouse_enabled, 2),
                                     STATE_SINCE(struct i8042, mouse_remote, 2),
                                     STATE_SINCE(struct i8042, mouse_wrap, 2),
                                     STATE_SINCE(struct i8042, mouse_double, 2),
                                     STATE_SINCE(struct i8042, mouse_dx, 2),
                                     STATE_SINCE(struct i8042, mouse_dy, 2),
                                     STATE_SINCE(struct i8042, mouse_dz, 2),
                                     STATE_END},
};

static const struct io_ops data_ops = {data_read, data_write, 1, 1};
static const struct io_ops command_ops = {status_read, command_write, 1, 1};

static const struct device_region i8042_regions[] = {
    {"i8042-data", DEVICE_PIO, 1, &data_ops}, {"i8042-command", DEVICE_PIO, 1, &command_ops}, {0}};

const struct device_class i8042_class = {
    .name = "i8042",
    .help = "keyboard controller with a keyboard",
    .size = sizeof(struct i8042),
    .state = &i8042_state,
    .regions = i8042_regions,
    .init = init,
    .reset = i8042_reset,
};
