/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 8042 keyboard controller with a PS/2 keyboard. Source: IBM PS/2 Hardware Interface Technical
 * Reference (May 1988), "Keyboard and Auxiliary Device Controller" and "Keyboard (101/102-key)".
 *
 * Theory of operation: answers of the controller and bytes of the keyboard wait in two small
 * queues; the next one enters the output buffer when the guest has read the last. No command takes
 * time. There is no mouse: a byte for it is answered by 0xfe with the time-out status, as the
 * controller does when a device does not respond, so that drivers do not wait for it.
 *
 * The controller starts as firmware leaves it (interface on, translation to scan-code set 1), for
 * guests that start without firmware. The keyboard speaks set 2 only.
 */
#include "devices/i8042.h"

#include "base/trace.h"
#include "display/keys.h"

enum { KEYS_MAX = 32, REPLY_MAX = 4 };
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
enum { CODE_PAUSE = 119 }; /* the key without a break code */
enum { KBD_ACK = 0xfa, KBD_RESEND = 0xfe, KBD_BAT_OK = 0xaa, KBD_BREAK = 0xf0 };

enum { /* where a byte in the output buffer comes from */
       FROM_CONTROLLER,
       FROM_KEYBOARD,
       FROM_AUX
};

struct i8042 {
    struct device dev;
    uint8_t config, outport, command; /* command: its data byte is still to come, 0 = none */
    bool last_was_command;
    uint8_t ram[32];
    bool full, timeout; /* of the output buffer */
    uint8_t data, source;
    uint8_t reply[REPLY_MAX], reply_source[REPLY_MAX], replies;
    uint8_t key[KEYS_MAX], key_head, keys;
    bool key_break; /* translation: 0xf0 was seen */
    bool scanning;
    uint8_t kbd_command; /* of the keyboard, its data byte is still to come */
    uint8_t last_sent;
};

/* The controller's translation of set 2 into set 1; codes from 0x85 up stay as they are. */
static const uint8_t set1_of[0x85] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29,
    0x59, 0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11,
    0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14,
    0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24,
    0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35,
    0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36,
    0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c,
    0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45,
    0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54, 0x80, 0x81, 0x82, 0x41, 0x54};

/* ------------------------------------------------------------------ output buffer */

static void update_irq(struct i8042 *k) {
    irq_set(&k->dev.env.irq[0], k->full && k->source != FROM_AUX && (k->config & CFG_KBD_IRQ));
    irq_set(&k->dev.env.irq[1], k->full && k->source == FROM_AUX && (k->config & CFG_AUX_IRQ));
}

static void put_data(struct i8042 *k, uint8_t byte, uint8_t source) {
    k->full = true;
    k->data = byte;
    k->source = source <= FROM_AUX ? source : FROM_CONTROLLER; /* a damaged snapshot */
}

static uint8_t take_key(struct i8042 *k) {
    uint8_t byte = k->key[k->key_head];

    k->key_head = (k->key_head + 1) % KEYS_MAX;
    k->keys--;
    return byte;
}

/* Fills the output buffer if it is empty: answers first, then keys (0xf0 is swallowed by
 * translation). */
static void refill(struct i8042 *k) {
    if (!k->full && k->replies) {
        put_data(k, k->reply[0], k->reply_source[0]);
        k->replies--;
        memmove(k->reply, k->reply + 1, k->replies);
        memmove(k->reply_source, k->reply_source + 1, k->replies);
    }
    while (!k->full && k->keys && !(k->config & CFG_KBD_OFF)) {
        uint8_t byte = take_key(k);

        if (!(k->config & CFG_XLATE)) {
            put_data(k, byte, FROM_KEYBOARD);
        } else if (byte == KBD_BREAK) {
            k->key_break = true;
        } else {
            byte = byte < sizeof(set1_of) ? set1_of[byte] : byte;
            put_data(k, k->key_break ? byte | 0x80 : byte, FROM_KEYBOARD);
            k->key_break = false;
        }
    }
    update_irq(k);
}

static void reply(struct i8042 *k, uint8_t byte, uint8_t source) {
    if (k->replies == REPLY_MAX) /* the guest does not read its answers */
        return;
    k->reply[k->replies] = byte;
    k->reply_source[k->replies++] = source;
}

/* ------------------------------------------------------------------ keyboard */

static void kbd_send(struct i8042 *k, uint8_t byte) {
    if (k->keys == KEYS_MAX)
        return;
    k->key[(k->key_head + k->keys++) % KEYS_MAX] = byte;
    k->last_sent = byte;
}

size_t i8042_keys(struct device *dev, const uint8_t *codes, size_t n) {
    struct i8042 *k = (struct i8042 *)dev;
    size_t taken = 0;

    if (!k->scanning)
        return n;                               /* a disabled keyboard does not look at its keys */
    while (taken < n && k->keys < KEYS_MAX - 8) /* the rest is for answers to commands */
        kbd_send(k, codes[taken++]);
    refill(k);
    return taken;
}

/* The byte of set 2 for one of set 1, which the controller's table leads back to it. */
static uint8_t set2_of(uint8_t set1) {
    for (unsigned i = sizeof(set1_of); i--;)
        if (set1_of[i] == set1)
            return (uint8_t)i;
    return 0;
}

bool i8042_key(struct device *dev, unsigned code, bool down) {
    struct i8042 *k = (struct i8042 *)dev;
    const struct key *key = key_by_code(code);
    uint8_t bytes[8];
    size_t n = 0;

    if (!key)
        return true;
    if (code == CODE_PAUSE) {
        static const uint8_t pause[] = {0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77};

        memcpy(bytes, pause, n = down ? sizeof(pause) : 0);
    } else {
        if (key->extended)
            bytes[n++] = 0xe0;
        if (!down)
            bytes[n++] = KBD_BREAK;
        bytes[n++] = set2_of(key->set1);
    }
    if (k->scanning && k->keys + n > KEYS_MAX - 8)
        return false;
    i8042_keys(dev, bytes, n);
    return true;
}

static void kbd_defaults(struct i8042 *k, bool scanning) {
    k->keys = 0;
    k->key_break = false;
    k->kbd_command = 0;
    k->scanning = scanning;
}

/* A byte that follows a command. */
static void kbd_parameter(struct i8042 *k, uint8_t byte) {
    uint8_t command = k->kbd_command;

    k->kbd_command = 0;
    kbd_send(k, KBD_ACK);
    if (command == 0xf0 && byte == 0)
        kbd_send(k, 2); /* the scan-code set */
}

static void kbd_receive(struct i8042 *k, uint8_t byte) {
    if (k->kbd_command && byte < 0xed) {
        kbd_parameter(k, byte);
        return;
    }
    k->kbd_command = 0;
    switch (byte) {
    case 0xed: /* LEDs, scan-code set, typematic rate: one byte follows */
    case 0xf0:
    case 0xf3:
        k->kbd_command = byte;
        kbd_send(k, KBD_ACK);
        break;
    case 0xee:
        kbd_send(k, 0xee);
        break;
    case 0xf2:
        kbd_send(k, KBD_ACK);
        kbd_send(k, 0xab);
        kbd_send(k, 0x83);
        break;
    case 0xf4:
        kbd_defaults(k, true);
        kbd_send(k, KBD_ACK);
        break;
    case 0xf5:
    case 0xf6:
        kbd_defaults(k, byte == 0xf6 && k->scanning);
        kbd_send(k, KBD_ACK);
        break;
    case 0xfe:
        kbd_send(k, k->last_sent);
        break;
    case 0xff:
        kbd_defaults(k, true);
        kbd_send(k, KBD_ACK);
        kbd_send(k, KBD_BAT_OK);
        break;
    default:
        trace(i8042_unknown, byte);
        kbd_send(k, KBD_RESEND);
        break;
    }
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
    reply(k, 0x55, FROM_CONTROLLER);
}

static void no_aux(struct i8042 *k) {
    k->timeout = true;
    reply(k, KBD_RESEND, FROM_AUX);
}

static void write_command(struct i8042 *k, uint8_t value) {
    k->last_was_command = true;
    k->command = 0;
    switch (value) {
    case 0x20:
        reply(k, k->config, FROM_CONTROLLER);
        break;
    case 0x21 ... 0x3f:
        reply(k, k->ram[value & 31], FROM_CONTROLLER);
        break;
    case 0x60 ... 0x7f: /* write RAM; output port; buffers; mouse: a data byte follows */
    case 0xd1 ... 0xd4:
        k->command = value;
        break;
    case 0xa4:
        reply(k, 0xf1, FROM_CONTROLLER); /* no password */
        break;
    case 0xa7:
        k->config |= CFG_AUX_OFF;
        break;
    case 0xa8:
        k->config &= (uint8_t)~CFG_AUX_OFF;
        break;
    case 0xa9: /* tests of the two interfaces: passed */
    case 0xab:
        reply(k, 0, FROM_CONTROLLER);
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
        reply(k, 0x80, FROM_CONTROLLER); /* input port: keyboard not locked */
        break;
    case 0xd0:
        reply(k, k->outport, FROM_CONTROLLER);
        break;
    case 0xdd: /* A20 off and on, an extension that loaders rely on */
        write_outport(k, k->outport & (uint8_t)~OUT_A20);
        break;
    case 0xdf:
        write_outport(k, k->outport | OUT_A20);
        break;
    case 0xe0:
        reply(k, 0, FROM_CONTROLLER);
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
        kbd_receive(k, value);
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
        reply(k, value, FROM_KEYBOARD);
        break;
    case 0xd3:
        reply(k, value, FROM_AUX);
        break;
    default: /* 0xd4 */
        no_aux(k);
        break;
    }
}

static uint64_t data_read(void *dev, uint64_t offset, unsigned size) {
    struct i8042 *k = dev;
    uint8_t value = k->data;

    k->full = k->timeout = false;
    update_irq(k); /* falls before the next byte raises it */
    refill(k);
    trace(i8042_read, 0x60, value);
    return value;
}

static void data_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    trace(i8042_write, 0x60, (unsigned)value);
    write_data(dev, (uint8_t)value);
    refill(dev);
}

static uint64_t status_read(void *dev, uint64_t offset, unsigned size) {
    struct i8042 *k = dev;

    return (k->full ? STS_OBF : 0) | (k->config & CFG_SYS ? STS_SYS : 0) |
           (k->last_was_command ? STS_COMMAND : 0) | STS_UNLOCKED |
           (k->full && k->source == FROM_AUX ? STS_AUX : 0) |
           (k->full && k->source == FROM_AUX && k->timeout ? STS_TIMEOUT : 0);
}

static void command_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    trace(i8042_write, 0x64, (unsigned)value);
    write_command(dev, (uint8_t)value);
    refill(dev);
}

static void i8042_reset(struct device *dev) {
    struct i8042 *k = (struct i8042 *)dev;

    k->config = CFG_START;
    k->outport = OUT_START;
    k->command = k->data = k->source = k->last_sent = 0;
    k->last_was_command = k->full = k->timeout = false;
    k->replies = k->key_head = 0;
    memset(k->ram, 0, sizeof(k->ram));
    memset(k->reply, 0, sizeof(k->reply));
    memset(k->reply_source, 0, sizeof(k->reply_source));
    memset(k->key, 0, sizeof(k->key));
    kbd_defaults(k, true);
    irq_raise(&dev->env.irq[2]);
    update_irq(k);
}

static const struct state_desc i8042_state = {
    .name = "i8042",
    .version = 1,
    .struct_size = sizeof(struct i8042),
    .fields = (const struct state_field[]){STATE(struct i8042, config),
                                           STATE(struct i8042, outport),
                                           STATE(struct i8042, command),
                                           STATE(struct i8042, last_was_command),
                                           STATE_BYTES(struct i8042, ram),
                                           STATE(struct i8042, full),
                                           STATE(struct i8042, timeout),
                                           STATE(struct i8042, data),
                                           STATE_MAX(struct i8042, source, FROM_AUX),
                                           STATE_BYTES(struct i8042, reply),
                                           STATE_BYTES(struct i8042, reply_source),
                                           STATE_MAX(struct i8042, replies, REPLY_MAX),
                                           STATE_BYTES(struct i8042, key),
                                           STATE_MAX(struct i8042, key_head, KEYS_MAX - 1),
                                           STATE_MAX(struct i8042, keys, KEYS_MAX),
                                           STATE(struct i8042, key_break),
                                           STATE(struct i8042, scanning),
                                           STATE(struct i8042, kbd_command),
                                           STATE(struct i8042, last_sent),
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
    .reset = i8042_reset,
};
