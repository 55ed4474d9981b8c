/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 16550A UART. Source: National Semiconductor PC16550D datasheet (June 1995), section 8.
 *
 *   0 RBR/THR (DLL)  1 IER (DLM)  2 IIR/FCR  3 LCR  4 MCR  5 LSR  6 MSR  7 SCR
 *
 * Theory of operation: a byte written to THR goes to the backend at once, so THR is empty again
 * when the write ends and the THRE interrupt is due; while the backend is full the bytes wait in
 * the transmit FIFO and THRE stays 0. The one timer is the receiver's character timeout. IRQ goes
 * through OUT2, as on every PC board.
 *
 * Departures: no baud rate, no parity or framing errors. Receiver overruns do not occur: what does
 * not fit is left with the backend. In loopback the line is held, not cut, so that a probing driver
 * loses no input.
 */
#include "devices/uart16550.h"

#include "base/trace.h"
#include "devices/ticks.h"

enum { UART_FIFO = 16, UART_CLOCK = 115200 /* bits a second at divisor 1 */ };

enum { IER_RDA = 1, IER_THRE = 2, IER_LINE = 4, IER_MODEM = 8, IER_MASK = 15 };
enum {
    IIR_MODEM = 0,
    IIR_NONE = 1,
    IIR_THRE = 2,
    IIR_RDA = 4,
    IIR_LINE = 6,
    IIR_TIMEOUT = 12,
    IIR_FIFO = 0xc0
};
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_CLEAR_TX = 4, FCR_KEPT = 0xc9 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 16, MCR_MASK = 31 };
enum {
    LSR_DR = 1,
    LSR_OE = 2,
    LSR_BI = 16,
    LSR_THRE = 32,
    LSR_TEMT = 64,
    LSR_FIFO_ERROR = 128,
    LSR_ERRORS = 0x1e
};
enum { MSR_DELTAS = 15, MSR_TERI = 4, MSR_CTS = 16, MSR_DSR = 32, MSR_RI = 64, MSR_DCD = 128 };

struct uart {
    struct device dev;
    struct clock_timer timer;
    struct serial_port port;
    bool refused; /* uart_receive could not take everything; derived, harmless if lost */

    uint8_t ier, fcr, lcr, mcr, msr, scr;
    uint8_t errors; /* LSR's OE and BI */
    uint16_t divisor;
    bool thre_pending, timeout;
    uint8_t rx[UART_FIFO], rx_head, rx_count;
    uint16_t rx_break; /* bit i: rx[i] is a break */
    uint8_t tx[UART_FIFO], tx_count;
    uint64_t timeout_deadline; /* ns, 0 = none */
};

static unsigned depth(const struct uart *u) { return u->fcr & FCR_ENABLE ? UART_FIFO : 1; }

static unsigned trigger(const struct uart *u) {
    static const uint8_t level[4] = {1, 4, 8, 14};

    return u->fcr & FCR_ENABLE ? level[u->fcr >> 6] : 1;
}

static uint8_t lsr_of(const struct uart *u) {
    uint8_t lsr = u->errors;

    if (u->rx_count)
        lsr |= LSR_DR;
    if (!u->tx_count)
        lsr |= LSR_THRE | LSR_TEMT;
    if (u->rx_break && (u->fcr & FCR_ENABLE))
        lsr |= LSR_FIFO_ERROR;
    return lsr;
}

/* The source of highest priority, table 5 of the datasheet. */
static uint8_t iir_of(const struct uart *u) {
    if ((u->ier & IER_LINE) && (u->errors & LSR_ERRORS))
        return IIR_LINE;
    if ((u->ier & IER_RDA) && u->rx_count >= trigger(u))
        return IIR_RDA;
    if ((u->ier & IER_RDA) && u->timeout)
        return IIR_TIMEOUT;
    if ((u->ier & IER_THRE) && u->thre_pending)
        return IIR_THRE;
    if ((u->ier & IER_MODEM) && (u->msr & MSR_DELTAS))
        return IIR_MODEM;
    return IIR_NONE;
}

bool uart_wants_irq(const struct device *dev) {
    const struct uart *u = (const struct uart *)dev;

    return iir_of(u) != IIR_NONE && (u->mcr & MCR_OUT2);
}

static void update(struct uart *u) { irq_set(&u->dev.env.irq[0], uart_wants_irq(&u->dev)); }

/* ------------------------------------------------------------------ receiver */

/* Four character times after the last movement in the FIFO. */
static uint64_t timeout_ns(const struct uart *u) {
    unsigned bits = 1 + 5 + (u->lcr & 3) + (u->lcr >> 3 & 1) + 1 + (u->lcr >> 2 & 1);

    return (uint64_t)TICKS_NS_PER_S * 4 * bits / UART_CLOCK * (u->divisor ? u->divisor : 1);
}

static void arm(struct uart *u, uint64_t deadline) {
    u->timeout_deadline = deadline;
    if (deadline)
        clock_timer_arm(&u->timer, deadline);
    else
        clock_timer_disarm(&u->timer);
}

/* After every movement in the receive FIFO, and when its interrupt is switched. */
static void restart_timeout(struct uart *u) {
    bool wanted = u->rx_count && u->rx_count < trigger(u) && (u->ier & IER_RDA) && !u->timeout;

    arm(u, wanted ? ticks_add(clock_now(u->dev.env.clock), timeout_ns(u)) : 0);
}

static void timeout_expired(void *opaque) {
    struct uart *u = opaque;

    u->timeout_deadline = 0;
    u->timeout = u->rx_count != 0;
    update(u);
}

/* A break is reported when it comes to the head of the FIFO. */
static void show_head(struct uart *u) {
    uint16_t bit = (uint16_t)(1 << u->rx_head);

    if (u->rx_count && (u->rx_break & bit)) {
        u->errors |= LSR_BI;
        u->rx_break &= (uint16_t)~bit;
    }
}

static void put_rx(struct uart *u, uint8_t byte, bool is_break) {
    unsigned i = (u->rx_head + u->rx_count) % UART_FIFO;

    if (u->rx_count >= depth(u)) { /* only from loopback */
        u->errors |= LSR_OE;
        if (depth(u) > 1)
            return; /* the shift register is lost, the FIFO stays */
        u->rx_count = 0;
        i = u->rx_head;
    }
    u->rx[i] = byte;
    u->rx_break = is_break ? u->rx_break | (uint16_t)(1 << i) : u->rx_break & (uint16_t) ~(1 << i);
    u->rx_count++;
    show_head(u);
}

static void clear_rx(struct uart *u) {
    u->rx_head = u->rx_count = 0;
    u->rx_break = 0;
    u->timeout = false;
    restart_timeout(u);
}

/* Room for the backend's next bytes. */
static void offer_room(struct uart *u) {
    if (!u->refused || (u->mcr & MCR_LOOP) || u->rx_count >= depth(u))
        return;
    u->refused = false;
    if (u->port.can_receive)
        u->port.can_receive(u->port.opaque);
}

static uint8_t read_rbr(struct uart *u) {
    uint8_t byte = u->rx[u->rx_head];

    if (!u->rx_count)
        return byte;
    u->rx_head = (u->rx_head + 1) % UART_FIFO;
    u->rx_count--;
    u->timeout = false;
    show_head(u);
    restart_timeout(u);
    offer_room(u);
    return byte;
}

size_t uart_receive(struct device *dev, const uint8_t *p, size_t n) {
    struct uart *u = (struct uart *)dev;
    size_t taken = 0;

    if (!(u->mcr & MCR_LOOP))
        for (; taken < n && u->rx_count < depth(u); taken++)
            put_rx(u, p[taken], false);
    if (taken < n)
        u->refused = true;
    if (taken) {
        stat_add(uart_rx_bytes, taken);
        u->timeout = false;
        restart_timeout(u);
        update(u);
    }
    return taken;
}

void uart_break(struct device *dev) {
    struct uart *u = (struct uart *)dev;

    if ((u->mcr & MCR_LOOP) || u->rx_count >= depth(u))
        return;
    put_rx(u, 0, true);
    restart_timeout(u);
    update(u);
}

/* ------------------------------------------------------------------ transmitter */

static void flush_tx(struct uart *u) {
    if (!u->tx_count || (u->port.can_write && !u->port.can_write(u->port.opaque)))
        return;
    if (u->port.write)
        u->port.write(u->port.opaque, u->tx, u->tx_count);
    stat_add(uart_tx_bytes, u->tx_count);
    u->tx_count = 0;
    u->thre_pending = true;
}

void uart_writable(struct device *dev) {
    struct uart *u = (struct uart *)dev;

    flush_tx(u);
    update(u);
}

static void write_thr(struct uart *u, uint8_t byte) {
    u->thre_pending = false;
    if (u->mcr & MCR_LOOP) {
        put_rx(u, byte, false);
        restart_timeout(u);
        u->thre_pending = true;
        return;
    }
    if (u->tx_count >= depth(u)) { /* the guest did not look at THRE */
        trace(uart_overflow, u->dev.name, byte);
        if (depth(u) == 1)
            u->tx[0] = byte;
        return;
    }
    u->tx[u->tx_count++] = byte;
    flush_tx(u);
}

/* ------------------------------------------------------------------ modem lines */

/* The cable is plugged in and its far end is ready; in loopback the outputs come back instead. */
static void update_modem(struct uart *u) {
    uint8_t lines = MSR_CTS | MSR_DSR | MSR_DCD, was = u->msr & 0xf0, deltas;

    if (u->mcr & MCR_LOOP)
        lines = (uint8_t)((u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
                          (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
    deltas = (uint8_t)((lines ^ was) >> 4);
    if (lines & MSR_RI) /* only the trailing edge of RI counts */
        deltas &= (uint8_t)~MSR_TERI;
    u->msr = (uint8_t)(lines | (u->msr & MSR_DELTAS) | deltas);
}

/* ------------------------------------------------------------------ registers */

static void write_fcr(struct uart *u, uint8_t value) {
    bool toggled = (value ^ u->fcr) & FCR_ENABLE;

    if (toggled || (value & FCR_CLEAR_RX))
        clear_rx(u);
    if ((toggled || (value & FCR_CLEAR_TX)) && u->tx_count) {
        u->tx_count = 0;
        u->thre_pending = true;
    }
    u->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
    restart_timeout(u);
    offer_room(u);
}

static void write_ier(struct uart *u, uint8_t value) {
    uint8_t was = u->ier;

    u->ier = value & IER_MASK;
    if (!(was & IER_THRE) && (u->ier & IER_THRE) && !u->tx_count)
        u->thre_pending = true; /* enabling it while THR is empty is an interrupt */
    restart_timeout(u);
}

static void uart_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct uart *u = dev;
    uint8_t v = (uint8_t)value;
    bool dlab = u->lcr & LCR_DLAB;

    trace(uart_write, u->dev.name, (unsigned)offset, v);
    switch (offset) {
    case 0:
        if (dlab)
            u->divisor = (uint16_t)((u->divisor & 0xff00) | v);
        else
            write_thr(u, v);
        break;
    case 1:
        if (dlab)
            u->divisor = (uint16_t)((u->divisor & 0xff) | v << 8);
        else
            write_ier(u, v);
        break;
    case 2:
        write_fcr(u, v);
        break;
    case 3:
        u->lcr = v;
        break;
    case 4:
        u->mcr = v & MCR_MASK;
        update_modem(u);
        offer_room(u);
        break;
    case 7:
        u->scr = v;
        break;
    default: /* LSR and MSR are for factory tests */
        break;
    }
    update(u);
}

static uint8_t read_iir(struct uart *u) {
    uint8_t iir = iir_of(u);

    if (iir == IIR_THRE) /* reading it is what clears it */
        u->thre_pending = false;
    return u->fcr & FCR_ENABLE ? iir | IIR_FIFO : iir;
}

static uint8_t read_lsr(struct uart *u) {
    uint8_t lsr = lsr_of(u);

    u->errors = 0;
    return lsr;
}

static uint8_t read_msr(struct uart *u) {
    uint8_t msr = u->msr;

    u->msr &= 0xf0;
    return msr;
}

static uint8_t read_register(struct uart *u, unsigned reg) {
    bool dlab = u->lcr & LCR_DLAB;

    switch (reg) {
    case 0:
        return dlab ? (uint8_t)u->divisor : read_rbr(u);
    case 1:
        return dlab ? (uint8_t)(u->divisor >> 8) : u->ier;
    case 2:
        return read_iir(u);
    case 3:
        return u->lcr;
    case 4:
        return u->mcr;
    case 5:
        return read_lsr(u);
    case 6:
        return read_msr(u);
    default:
        return u->scr;
    }
}

static uint64_t uart_read(void *dev, uint64_t offset, unsigned size) {
    struct uart *u = dev;
    uint8_t value = read_register(u, offset & 7);

    trace(uart_read, u->dev.name, (unsigned)offset, value);
    update(u);
    return value;
}

/* ------------------------------------------------------------------ life */

static int uart_init(struct device *dev, struct error *err) {
    const struct uart_config *config = dev->env.config;
    struct uart *u = (struct uart *)dev;

    if (config)
        u->port = config->port;
    clock_timer_init(&u->timer, dev->env.clock, timeout_expired, u);
    return 0;
}

static void uart_done(struct device *dev) { clock_timer_disarm(&((struct uart *)dev)->timer); }

/* Table 4 of the datasheet; SCR and the divisor have no reset value, ours are those of 115200 baud.
 */
static void uart_reset(struct device *dev) {
    struct uart *u = (struct uart *)dev;

    u->ier = u->fcr = u->lcr = u->mcr = u->scr = u->errors = 0;
    u->msr = MSR_CTS | MSR_DSR | MSR_DCD;
    u->divisor = 1;
    u->thre_pending = false;
    u->tx_count = 0;
    memset(u->tx, 0, sizeof(u->tx));
    memset(u->rx, 0, sizeof(u->rx));
    clear_rx(u);
    update(u);
    offer_room(u);
}

static void post_load(void *obj) {
    struct uart *u = obj;

    u->refused = true; /* the backend may hold input: it is told when there is room */
    arm(u, u->timeout_deadline);
}

static const struct state_desc uart_state = {
    .name = "uart16550",
    .version = 1,
    .struct_size = sizeof(struct uart),
    .post_load = post_load,
    .fields =
        (const struct state_field[]){
            STATE_MAX(struct uart, ier, IER_MASK), STATE(struct uart, fcr), STATE(struct uart, lcr),
            STATE_MAX(struct uart, mcr, MCR_MASK), STATE(struct uart, msr), STATE(struct uart, scr),
            STATE_MAX(struct uart, errors, LSR_ERRORS), STATE(struct uart, divisor),
            STATE(struct uart, thre_pending), STATE(struct uart, timeout),
            STATE_BYTES(struct uart, rx), STATE_MAX(struct uart, rx_head, UART_FIFO - 1),
            STATE_MAX(struct uart, rx_count, UART_FIFO), STATE(struct uart, rx_break),
            STATE_BYTES(struct uart, tx), STATE_MAX(struct uart, tx_count, UART_FIFO),
            STATE(struct uart, timeout_deadline), STATE_END},
};

static const struct io_ops uart_ops = {uart_read, uart_write, 1, 1};

static const struct device_region uart_regions[] = {{"uart", DEVICE_PIO, 8, &uart_ops}, {0}};

const struct device_class uart16550_class = {
    .name = "uart16550",
    .help = "16550A serial port",
    .size = sizeof(struct uart),
    .state = &uart_state,
    .regions = uart_regions,
    .init = uart_init,
    .reset = uart_reset,
    .done = uart_done,
};
