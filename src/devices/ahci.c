/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SATA host adapter: registers, command lists, frames. Source: Serial ATA AHCI 1.3.1.
 *
 *   00 CAP  04 GHC  08 IS  0c PI  10 VS     port n at 100 + 80 n:
 *   00 CLB  08 FB  10 IS  14 IE  18 CMD  20 TFD  24 SIG  28 SSTS  2c SCTL  30 SERR  34 SACT  38 CI
 *
 * A bit of CI is a command header in guest memory, that names a table with the command's frame
 * (FIS) and the guest's buffers. Queued commands (NCQ) run side by side, others one after the
 * other. When the guest stops a port, what is on its way to the image is waited for, and goes
 * nowhere.
 *
 * Commands for whose failure the machine is paused are kept by their slot's number and begun again
 * after the pause: the driver leaves header and table as they are until it is answered.
 *
 * Departures: no port multipliers, no power management of the link, no command completion
 * coalescing.
 */
#include "devices/ahci.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/trace.h"
#include "devices/ata.h"

// clang-format off
enum {
    VENDOR_INTEL = 0x8086, DEVICE_AHCI = 0x2922, CLASS_AHCI = 0x01060102, SUBSYS = 0x1100,
    ABAR = 5, ABAR_SIZE = 4096, PORT_BASE = 0x100, PORT_SIZE = 0x80,
    GHC_RESET = 1, GHC_IE = 2,
    CMD_ST = 1, CMD_CLO = 8, CMD_FRE = 0x10, CMD_FR = 0x4000, CMD_CR = 0x8000, CMD_ATAPI = 0x1000000,
    CMD_WMASK = 0xf3000017, /* ICC, DLAE, ATAPI, FRE, POD, SUD, ST */
    IS_DHR = 1, IS_PIO = 2, IS_SDB = 8, IS_PCS = 0x40, IS_PRCS = 0x400000, IS_HBD = 0x10000000, IS_TFE = 0x40000000,
    IS_WMASK = 0x7dc000af, IE_WMASK = 0x7dc000ff,
    SERR_N = 1 << 16, SERR_X = 1 << 26,
    SIG_DISK = 0x00000101, SSTS_UP = 0x133,
    FIS_PIO_AT = 0x20, FIS_D2H_AT = 0x40, FIS_SDB_AT = 0x58,
    FIS_H2D = 0x27, FIS_D2H = 0x34, FIS_PIO = 0x5f, FIS_SDB = 0xa1,
    HEADER_SIZE = 32, PRDT_AT = 0x80, PRD_SIZE = 16, CDB_AT = 0x40,
};
// clang-format on
#define CAP       0xc1341f00u /* 64 bits, NCQ, CLO, 6 Gbit/s, AHCI only, 32 slots */
#define SIG_DRIVE 0xeb140101u
#define GHC_AE    0x80000000u

enum { AHCI_SLOTS = 32 };

struct ahci_port;

struct ahci_slot {              /* a command while it is executed */
    struct ata_command command; /* first */
    struct ahci_port *port;
    unsigned tag;
    uint32_t epoch;
};

struct ahci_port { /* registers, and what hangs on them */
    struct ahci *ahci;
    unsigned n;
    bool present;
    struct ata_device ata;
    uint32_t epoch;
    uint32_t busy; /* slots that are executed */
    bool processing;
    struct ahci_slot *slot[AHCI_SLOTS];
    /* state: */
    uint32_t clb, clbu, fb, fbu, is, ie, cmd, tfd, sig, sctl, serr, sact, ci;
    uint32_t kept; /* commands whose failure pauses the machine */
    bool stopped;  /* by an error, until the guest stops the port */
    bool in_reset; /* a software reset has begun */
};

struct ahci {
    struct pci_device pci; /* first */
    void (*ejected)(void *opaque, unsigned port);
    void *opaque;
    uint32_t ghc, is;
    struct ahci_port port[AHCI_PORTS];
};

static void process(struct ahci_port *p);

/* ---- interrupts ---- */

static void refresh(struct ahci *a, bool tell) {
    a->is = 0;
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        if (a->port[i].is & a->port[i].ie)
            a->is |= 1u << i;
    pci_set_intx(&a->pci, (a->ghc & GHC_IE) && a->is);
    /* 10.6.2.2: also for what is left when the guest has cleared a part. One too many finds IS
     * without a bit. */
    if (tell && (a->ghc & GHC_IE) && a->is)
        pci_msi_notify(&a->pci);
}

static void update(struct ahci *a) { refresh(a, true); }

static void raise(struct ahci_port *p, uint32_t bits) {
    p->is |= bits;
    update(p->ahci);
}

/* ---- frames to the guest ---- */

static void post(struct ahci_port *p, unsigned at, const uint8_t *fis, unsigned n) {
    if (p->cmd & CMD_FRE)
        mem_write(p->ahci->pci.dev.env.mem, ((uint64_t)p->fbu << 32 | p->fb) + at, fis, n);
}

static void post_d2h(struct ahci_port *p, const uint8_t *registers) {
    uint8_t fis[ATA_FIS_SIZE] = {FIS_D2H, 0x40, (uint8_t)p->tfd, (uint8_t)(p->tfd >> 8)};

    memcpy(fis + 4, registers + 4, 7);
    memcpy(fis + 12, registers + 12, 2);
    post(p, FIS_D2H_AT, fis, sizeof(fis));
}

static void post_pio(struct ahci_port *p, const struct ahci_slot *s) {
    uint8_t fis[ATA_FIS_SIZE] = {FIS_PIO, 0x60, ATA_DRDY | ATA_DRQ, 0};

    memcpy(fis + 4, s->command.fis + 4, 7);
    fis[15] = (uint8_t)p->tfd; /* status at the end */
    store_le16(fis + 16, (uint16_t)s->command.moved);
    post(p, FIS_PIO_AT, fis, sizeof(fis));
}

static void post_sdb(struct ahci_port *p, uint32_t done) {
    uint8_t fis[8] = {FIS_SDB, 0x40, (uint8_t)(p->tfd & 0x77), (uint8_t)(p->tfd >> 8)};

    store_le32(fis + 4, done);
    post(p, FIS_SDB_AT, fis, sizeof(fis));
}

static void post_signature(struct ahci_port *p) {
    uint8_t registers[ATA_FIS_SIZE] = {0};

    for (unsigned i = 0; i < 3; i++)
        registers[4 + i] = (uint8_t)(p->sig >> (8 * (i + 1)));
    registers[12] = (uint8_t)p->sig;
    post_d2h(p, registers);
}

/* ---- commands ---- */

static void set_signature(struct ahci_port *p) {
    p->sig = !p->present ? ~0u : p->ata.cdrom ? SIG_DRIVE : SIG_DISK;
    p->tfd = !p->present ? 0x7f : p->ata.cdrom ? 0x0110 : 0x0150;
}

static void write_count(struct ahci_port *p, const struct ahci_slot *s) {
    uint8_t le[4];

    store_le32(le, (uint32_t)s->command.moved);
    mem_write(p->ahci->pci.dev.env.mem,
              ((uint64_t)p->clbu << 32 | p->clb) + HEADER_SIZE * s->tag + 4, le, 4);
}

static void carry_on(struct ahci_port *p) {
    if (!p->processing && (p->ci & ~p->busy))
        process(p);
}

static void complete(struct ata_command *c, uint8_t status, uint8_t error) {
    struct ahci_slot *s = (struct ahci_slot *)c;
    struct ahci_port *p = s->port;
    uint32_t bit = 1u << s->tag, is = 0;

    trace(ahci_done, p->ahci->pci.dev.name, p->n, s->tag, status, error);
    p->busy &= ~bit;
    p->tfd = (uint32_t)error << 8 | status;
    if (!s->command.ncq)
        write_count(p, s);
    if (s->command.ncq) {
        if (!(status & ATA_ERR))
            p->sact &= ~bit;
        post_sdb(p, status & ATA_ERR ? 0 : bit);
        is = IS_SDB;
    } else {
        p->ci &= ~bit;
        if (s->command.pio_in && !(status & ATA_ERR)) {
            post_pio(p, s);
            is = IS_PIO;
        }
        if (!is || p->ata.cdrom) {
            s->command.fis[12] =
                p->ata.cdrom ? 3 : s->command.fis[12]; /* interrupt reason: the end */
            post_d2h(p, s->command.fis);
            is |= IS_DHR;
        }
    }
    if (status & ATA_ERR) {
        p->stopped = true;
        is |= IS_TFE;
    }
    raise(p, is);
    carry_on(p);
}

static bool returned(struct ata_command *c, bool keep) {
    struct ahci_slot *s = (struct ahci_slot *)c;
    struct ahci_port *p = s->port;

    if (s->epoch == p->epoch && !keep)
        return false;
    p->busy &= ~(1u << s->tag);
    if (s->epoch == p->epoch)
        p->kept |= 1u << s->tag;
    return true; /* else the port was stopped: nobody waits */
}

/* As far as there is memory: SeaBIOS gives commands without data a buffer of 4 MiB at 0. One that
 * needs more than there is fails. */
static void map_buffers(struct ahci_slot *s, struct mem *mem, gpa table, unsigned count) {
    dma_clear(&s->command.dma);
    for (unsigned i = 0; i < count; i++) {
        uint8_t prd[PRD_SIZE];

        if (mem_read(mem, table + PRDT_AT + (uint64_t)i * PRD_SIZE, prd, sizeof(prd)) < 0 ||
            !dma_add(&s->command.dma, mem, load_le64(prd), (load_le32(prd + 12) & 0x3fffff) + 1ull,
                     !s->command.to_device))
            return;
    }
}

/* Header, frame, packet and buffers of a command; false if the guest's structures are bad. */
static bool fetch(struct ahci_port *p, struct ahci_slot *s, unsigned tag) {
    struct mem *mem = p->ahci->pci.dev.env.mem;
    gpa list = (uint64_t)p->clbu << 32 | p->clb, table;
    uint8_t header[HEADER_SIZE];

    s->port = p;
    s->tag = tag;
    s->epoch = p->epoch;
    s->command.dev = &p->ata;
    s->command.mem = mem;
    s->command.done = complete;
    s->command.returned = returned;
    if (mem_read(mem, list + HEADER_SIZE * tag, header, sizeof(header)) < 0)
        return false;
    table = load_le64(header + 8);
    s->command.to_device = header[0] & 0x40;
    memset(s->command.cdb, 0, sizeof(s->command.cdb));
    if (mem_read(mem, table, s->command.fis, sizeof(s->command.fis)) < 0 ||
        mem_read(mem, table + CDB_AT, s->command.cdb, sizeof(s->command.cdb)) < 0 ||
        s->command.fis[0] != FIS_H2D)
        return false;
    map_buffers(s, mem, table, load_le16(header + 2));
    return true;
}

/* A frame without a command sets the control register: software reset (ATA8-AST 11.2). */
static void control(struct ahci_port *p, struct ahci_slot *s) {
    bool reset = s->command.fis[15] & 4;

    p->ci &= ~(1u << s->tag);
    if (p->in_reset && !reset) {
        set_signature(p);
        post_signature(p);
        raise(p, IS_DHR);
    }
    p->in_reset = reset;
}

static struct ahci_slot *slot(struct ahci_port *p, unsigned tag) {
    if (!p->slot[tag])
        p->slot[tag] = calloc(1, sizeof(*p->slot[tag]));
    return p->slot[tag];
}

static void begin(struct ahci_port *p, unsigned tag) {
    struct ahci_slot *s = slot(p, tag);

    if (!s || !fetch(p, s, tag)) { /* the host bus has no such memory, or no room */
        p->stopped = true;
        p->tfd = ATA_ABORT << 8 | ATA_DRDY | ATA_ERR;
        raise(p, IS_HBD | IS_TFE);
        return;
    }
    trace(ahci_command, p->ahci->pci.dev.name, p->n, tag, s->command.fis[2], s->command.dma.size);
    if (!(s->command.fis[1] & 0x80)) {
        control(p, s);
        return;
    }
    s->command.ncq = !p->ata.cdrom && (s->command.fis[2] == 0x60 || s->command.fis[2] == 0x61);
    p->busy |= 1u << tag;
    if (s->command.ncq)
        p->ci &= ~(1u << tag);
    ata_execute(&s->command);
}

static bool is_queued(struct ahci_port *p, unsigned tag) { return p->sact >> tag & 1; }

/* Begins what may begin. A command that ends at once clears its bit. */
static void process(struct ahci_port *p) {
    if (!p->present || !(p->cmd & CMD_ST))
        return;
    if (p->ata.block)
        block_plug(p->ata.block);
    p->processing = true;
    for (unsigned tag = 0; tag < AHCI_SLOTS; tag++) {
        uint32_t bit = 1u << tag;

        if (p->stopped || !(p->ci & bit) || ((p->busy | p->kept) & bit))
            continue;
        if ((p->busy | p->kept) && !is_queued(p, tag))
            break;
        begin(p, tag);
    }
    p->processing = false;
    if (p->ata.block)
        block_unplug(p->ata.block);
}

static void resume(void *opaque) {
    struct ahci_port *p = opaque;
    uint32_t kept = p->kept;

    p->kept = 0;
    p->processing = true;
    for (unsigned tag = 0; tag < AHCI_SLOTS && !p->stopped; tag++)
        if (kept >> tag & 1)
            begin(p, tag);
    p->processing = false;
    process(p);
}

/* Whatever is on its way to the image comes back first. */
static void abandon(struct ahci_port *p) {
    p->epoch++;
    if (p->ata.block && p->busy)
        block_drain(p->ata.block);
    p->busy = p->kept = p->ci = p->sact = 0;
    p->stopped = false;
}

/* ---- registers ---- */

static void reset_port(struct ahci_port *p) {
    abandon(p);
    p->is = 0;
    p->in_reset = false;
    p->ata.write_cache = true;
    p->ata.multiple = 0;
    p->serr = 0;
    set_signature(p);
    if (p->ata.cdrom)
        scsi_reset(&p->ata.unit);
}

static void write_cmd(struct ahci_port *p, uint32_t v) {
    uint32_t old = p->cmd;

    p->cmd = (p->cmd & ~(uint32_t)CMD_WMASK) | (v & CMD_WMASK);
    if ((v & CMD_CLO) && !(old & CMD_ST))
        p->tfd &= ~0x88u;
    p->cmd = p->cmd & CMD_FRE ? p->cmd | CMD_FR : p->cmd & ~(uint32_t)CMD_FR;
    if (!(old & CMD_FRE) && (p->cmd & CMD_FRE) && p->present)
        post_signature(p);
    if (p->cmd & CMD_ST) {
        p->cmd |= CMD_CR;
    } else {
        p->cmd &= ~(uint32_t)CMD_CR;
        if (old & CMD_ST)
            abandon(p);
    }
}

static void write_sctl(struct ahci_port *p, uint32_t v) {
    bool was = (p->sctl & 15) == 1, is = (v & 15) == 1;

    p->sctl = v & 0xfff;
    if (is && !was) {
        reset_port(p);
        p->tfd = 0x7f;
    } else if (was && !is && p->present) {
        set_signature(p);
        p->serr |= SERR_X;
        post_signature(p);
        raise(p, IS_PCS | IS_DHR);
    }
}

static uint32_t read_port(const struct ahci_port *p, unsigned reg) {
    const uint32_t registers[] = {p->clb,
                                  p->clbu,
                                  p->fb,
                                  p->fbu,
                                  p->is,
                                  p->ie,
                                  p->cmd,
                                  0,
                                  p->tfd,
                                  p->sig,
                                  p->present && (p->sctl & 15) != 1 && (p->sctl & 15) != 4 ? SSTS_UP
                                                                                           : 0,
                                  p->sctl,
                                  p->serr,
                                  p->sact,
                                  p->ci};

    return reg / 4 < sizeof(registers) / 4 ? registers[reg / 4] : 0;
}

static void write_port(struct ahci_port *p, unsigned reg, uint32_t v) {
    switch (reg) {
    case 0x00:
        p->clb = v & ~0x3ffu;
        break;
    case 0x04:
        p->clbu = v;
        break;
    case 0x08:
        p->fb = v & ~0xffu;
        break;
    case 0x0c:
        p->fbu = v;
        break;
    case 0x10:
        p->is &= ~(v & IS_WMASK);
        break;
    case 0x14:
        p->ie = v & IE_WMASK;
        break;
    case 0x18:
        write_cmd(p, v);
        process(p);
        break;
    case 0x2c:
        write_sctl(p, v);
        break;
    case 0x30:
        p->serr &= ~v;
        if (!(p->serr & SERR_X))
            p->is &= ~(uint32_t)IS_PCS;
        if (!(p->serr & SERR_N))
            p->is &= ~(uint32_t)IS_PRCS;
        break;
    case 0x34:
        p->sact |= p->cmd & CMD_ST ? v : 0;
        break;
    case 0x38:
        p->ci |= p->cmd & CMD_ST ? v : 0;
        process(p);
        break;
    }
    update(p->ahci);
}

static void reset_adapter(struct ahci *a) {
    a->ghc = GHC_AE;
    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        struct ahci_port *p = &a->port[i];

        reset_port(p);
        p->clb = p->clbu = p->fb = p->fbu = p->ie = p->sctl = 0;
        p->cmd = 6 | (p->present && p->ata.cdrom ? (uint32_t)CMD_ATAPI : 0);
    }
    update(a);
}

static uint32_t read_register(struct ahci *a, unsigned reg) {
    if (reg >= PORT_BASE && reg < PORT_BASE + AHCI_PORTS * PORT_SIZE)
        return read_port(&a->port[(reg - PORT_BASE) / PORT_SIZE], reg % PORT_SIZE);
    switch (reg) {
    case 0x00:
        return CAP | (AHCI_PORTS - 1);
    case 0x04:
        return a->ghc;
    case 0x08:
        return a->is;
    case 0x0c:
        return (1u << AHCI_PORTS) - 1;
    case 0x10:
        return 0x00010300;
    default:
        return 0;
    }
}

static uint64_t ahci_read(void *dev, uint64_t offset, unsigned size) {
    return read_register(dev, (unsigned)offset & ~3u) >> (8 * (offset & 3));
}

static void ahci_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    unsigned reg = (unsigned)offset;
    struct ahci *a = dev;

    if (size != 4 || reg & 3)
        return;
    if (reg >= PORT_BASE && reg < PORT_BASE + AHCI_PORTS * PORT_SIZE) {
        write_port(&a->port[(reg - PORT_BASE) / PORT_SIZE], reg % PORT_SIZE, (uint32_t)value);
    } else if (reg == 0x04) {
        if (value & GHC_RESET)
            reset_adapter(a);
        else
            a->ghc = GHC_AE | ((uint32_t)value & GHC_IE);
        update(a);
    }
}

/* ---- media ---- */

static void use_block(struct ahci_port *p, struct block *b) {
    if (p->ata.block)
        block_set_resume_fn(p->ata.block, NULL, NULL);
    p->ata.block = b;
    if (b)
        block_set_resume_fn(b, resume, p);
}

void ahci_change_medium(struct device *dev, unsigned port, struct block *b) {
    struct ahci_port *p = &((struct ahci *)dev)->port[port];

    if (p->ata.block && p->busy)
        block_drain(p->ata.block);
    use_block(p, b);
    scsi_change_medium(&p->ata.unit, b);
}

bool ahci_medium_locked(const struct device *dev, unsigned port) {
    return ((const struct ahci *)dev)->port[port].ata.unit.locked;
}

static void tray_opened(void *opaque) {
    struct ahci_port *p = opaque;

    if (p->ahci->ejected)
        p->ahci->ejected(p->ahci->opaque, p->n);
}

/* ---- the device ---- */

static const struct io_ops abar_ops = {ahci_read, ahci_write, 1, 4};

static void init_port(struct ahci *a, unsigned n, const struct ahci_port_config *c) {
    struct ahci_port *p = &a->port[n];

    p->ahci = a;
    p->n = n;
    if (!c || !c->present)
        return;
    p->present = true;
    p->ata = (struct ata_device){.cdrom = c->cdrom, .queued = true};
    memcpy(p->ata.serial, c->serial, sizeof(p->ata.serial));
    p->ata.unit =
        (struct scsi_unit){.block = c->block, .cdrom = true, .ejected = tray_opened, .opaque = p};
    memcpy(p->ata.unit.serial, c->serial, sizeof(p->ata.unit.serial));
    use_block(p, c->block);
}

/* 7.3: the link went down or came up, and who is there may have changed. */
static void link_changed(struct ahci_port *p) {
    set_signature(p);
    p->serr |= SERR_N | SERR_X;
    raise(p, IS_PCS | IS_PRCS);
}

void ahci_add(struct device *dev, unsigned port, const struct ahci_port_config *c) {
    struct ahci *a = (struct ahci *)dev;
    struct ahci_port *p = &a->port[port];

    init_port(a, port, c);
    p->ata.write_cache = true;
    scsi_reset(&p->ata.unit);
    p->kept = 0;
    link_changed(p);
    post_signature(p);
}

/* Commands stay in the registers, unanswered, until the guest stops the port. */
void ahci_remove(struct device *dev, unsigned port) {
    struct ahci_port *p = &((struct ahci *)dev)->port[port];

    p->epoch++;
    if (p->ata.block && p->busy)
        block_drain(p->ata.block);
    use_block(p, NULL);
    p->present = false;
    p->busy = p->kept = 0;
    link_changed(p);
}

bool ahci_is_used(const struct device *dev, unsigned port) {
    return ((const struct ahci *)dev)->port[port].present;
}

static int ahci_init(struct device *dev, struct error *err) {
    struct ahci *a = (struct ahci *)dev;
    const struct ahci_config *c = dev->env.config;

    pci_init_header(&a->pci, VENDOR_INTEL, DEVICE_AHCI, CLASS_AHCI, VENDOR_INTEL, SUBSYS);
    a->pci.config[PCI_INT_PIN] = 1;
    a->pci.config[0x90] = 0x40; /* mode of the ports: AHCI */
    if (!c || !c->no_msi)
        pci_init_msi(&a->pci);
    pci_init_bar(&a->pci, ABAR, ABAR_SIZE, false, false, &abar_ops, "ahci");
    for (unsigned i = 0; i < AHCI_PORTS; i++)
        init_port(a, i, c ? &c->port[i] : NULL);
    if (c) {
        a->ejected = c->ejected;
        a->opaque = c->opaque;
    }
    return 0;
}

static void ahci_reset(struct device *dev) {
    struct ahci *a = (struct ahci *)dev;

    pci_reset(&a->pci);
    reset_adapter(a);
}

static void ahci_done(struct device *dev) {
    struct ahci *a = (struct ahci *)dev;

    for (unsigned i = 0; i < AHCI_PORTS; i++) {
        struct ahci_port *p = &a->port[i];

        if (!p->ahci) /* init had not come so far */
            continue;
        abandon(p);
        use_block(p, NULL);
        for (unsigned k = 0; k < AHCI_SLOTS; k++) {
            if (p->slot[k])
                dma_free(&p->slot[k]->command.dma);
            free(p->slot[k]);
        }
    }
    pci_bus_detach(&a->pci);
}

static void post_load(void *obj) {
    struct ahci *a = obj;

    pci_post_load(&a->pci);
    refresh(a, false); /* the message was sent before */
}

/* The names are those from before the disk was a struct of its own. */
static const struct state_desc port_state = {
    .name = "ahci_port",
    .version = 1,
    .struct_size = sizeof(struct ahci_port),
    .fields =
        (const struct state_field[]){
            {"unit", STATE_TYPE_SUB, 1, offsetof(struct ahci_port, ata.unit), 1,
             sizeof(struct scsi_unit), &scsi_unit_state, 0},
            STATE(struct ahci_port, clb),
            STATE(struct ahci_port, clbu),
            STATE(struct ahci_port, fb),
            STATE(struct ahci_port, fbu),
            STATE(struct ahci_port, is),
            STATE(struct ahci_port, ie),
            STATE(struct ahci_port, cmd),
            STATE(struct ahci_port, tfd),
            STATE(struct ahci_port, sig),
            STATE(struct ahci_port, sctl),
            STATE(struct ahci_port, serr),
            STATE(struct ahci_port, sact),
            STATE(struct ahci_port, ci),
            STATE(struct ahci_port, kept),
            STATE(struct ahci_port, stopped),
            STATE(struct ahci_port, in_reset),
            {"write_cache", STATE_TYPE_BOOL, 1, offsetof(struct ahci_port, ata.write_cache), 1,
             sizeof(bool), NULL, 0},
            {"multiple", STATE_TYPE_U8, 1, offsetof(struct ahci_port, ata.multiple), 1, 1, NULL, 0},
            STATE_END},
};

static const struct state_desc ahci_state = {
    .name = "ahci",
    .version = 1,
    .struct_size = sizeof(struct ahci),
    .post_load = post_load,
    .fields =
        (const struct state_field[]){STATE_SUB(struct ahci, pci, &pci_device_state),
                                     STATE(struct ahci, ghc), STATE(struct ahci, is),
                                     STATE_SUB_ARRAY(struct ahci, port, &port_state), STATE_END},
};

const struct device_class ahci_class = {
    .name = "ahci",
    .help = "SATA host adapter 8086:2922 (AHCI)",
    .size = sizeof(struct ahci),
    .state = &ahci_state,
    .init = ahci_init,
    .reset = ahci_reset,
    .done = ahci_done,
    .pci = true,
};
