/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System management mode: entry, RSM, and the saved state between them.
 * Source: AMD64 Architecture Programmer's Manual vol. 2, chapter 10 (table 10-1: the state-save
 * area, which both vendors' firmware knows as revision 64h); Intel SDM vol. 3, chapter "System
 * Management Mode" (state on entry, NMI and INIT, auto-halt restart, shutdown by RSM).
 *
 * Theory of operation: a processor in this mode sees another memory (c->mem is bus.smm_mem), where
 * the chipset shows what it hides from all others. Data is found through the TLB, which is emptied
 * on both ways; decoded blocks and translations carry REF_MODE_SMM in their keys, so that neither
 * side ever runs what the other has read.
 *
 * Departures: no I/O instruction restart, which the revision identifier says. The IDT is empty on
 * entry, where manuals leave it undefined.
 */
#include "base/bytes.h"
#include "base/trace.h"
#include "cpu/soft/ref/sys.h"

enum { ENTRY = 0x8000, AREA = 0xfe00, AREA_SIZE = 0x200 };
enum {                    /* offsets from AREA */
       AT_SEGMENT = 0x00, /* ES CS SS DS FS GS GDTR LDTR IDTR TR, 16 bytes each */
       AT_GDTR = 0x60,
       AT_LDTR = 0x70,
       AT_IDTR = 0x80,
       AT_TR = 0x90,
       AT_HALT = 0xc9,
       AT_EFER = 0xd0,
       AT_REVISION = 0xfc,
       AT_SMBASE = 0x100,
       AT_CR4 = 0x148,
       AT_CR3 = 0x150,
       AT_CR0 = 0x158,
       AT_DR7 = 0x160,
       AT_DR6 = 0x168,
       AT_RFLAGS = 0x170,
       AT_RIP = 0x178,
       AT_R15 = 0x180, /* down to R8, then RDI, RSI, RBP, RSP, RBX, RDX, RCX, RAX */
};
enum { REVISION = 0x20064 }; /* 64-bit format, SMBASE can be moved */
enum { ATTR_SAVED = 0xf0ff };

void ref_smm_view(struct ref *c) {
    c->cpu.smm = c->s.smm;
    c->mem = c->s.smm ? ref_all_mem(c) : c->cpu.config.bus.mem;
}

/* ------------------------------------------------------------------ the state-save area */

static gpa area(const struct ref *c) { return (uint32_t)(c->s.smbase + AREA); }

static void put_segment(uint8_t *p, const struct x86_segment *g) {
    uint32_t attr = g->attr & ATTR_SAVED;

    store_le16(p, g->sel);
    store_le16(p + 2, (uint16_t)(g->attr & X86_ATTR_UNUSABLE ? attr & ~X86_ATTR_P : attr));
    store_le32(p + 4, g->limit);
    store_le64(p + 8, g->base);
}

static void get_segment(const uint8_t *p, struct x86_segment *g) {
    g->sel = load_le16(p);
    g->attr = load_le16(p + 2) & ATTR_SAVED;
    if (!(g->attr & X86_ATTR_P))
        g->attr |= X86_ATTR_UNUSABLE;
    g->limit = load_le32(p + 4);
    g->base = load_le64(p + 8);
}

static void put_table(uint8_t *p, const struct x86_table *t) {
    store_le16(p + 4, t->limit);
    store_le64(p + 8, t->base);
}

static void get_table(const uint8_t *p, struct x86_table *t) {
    t->limit = load_le16(p + 4);
    t->base = load_le64(p + 8);
}

static uint8_t *place_of_gpr(uint8_t *p, unsigned n) { return p + AT_R15 + (15 - n) * 8; }

static void put_state(uint8_t *p, const struct x86_state *s) {
    for (unsigned i = 0; i < 6; i++)
        put_segment(p + AT_SEGMENT + i * 16, &s->seg[i]);
    put_table(p + AT_GDTR, &s->gdtr);
    put_segment(p + AT_LDTR, &s->ldtr);
    put_table(p + AT_IDTR, &s->idtr);
    put_segment(p + AT_TR, &s->tr);
    p[AT_HALT] = s->activity == X86_HALTED;
    store_le64(p + AT_EFER, s->efer);
    store_le32(p + AT_REVISION, REVISION);
    store_le32(p + AT_SMBASE, s->smbase);
    store_le64(p + AT_CR4, s->cr4);
    store_le64(p + AT_CR3, s->cr3);
    store_le64(p + AT_CR0, s->cr0);
    store_le64(p + AT_DR7, s->dr7);
    store_le64(p + AT_DR6, s->dr6);
    store_le64(p + AT_RFLAGS, s->rflags);
    store_le64(p + AT_RIP, s->rip);
    for (unsigned i = 0; i < 16; i++)
        store_le64(place_of_gpr(p, i), s->gpr[i]);
}

static void get_control(const uint8_t *p, struct x86_state *s) {
    s->efer = load_le64(p + AT_EFER) & ~X86_EFER_LMA;
    s->cr4 = load_le64(p + AT_CR4);
    s->cr3 = load_le64(p + AT_CR3);
    s->cr0 = load_le64(p + AT_CR0) | X86_CR0_ET;
    if ((s->efer & X86_EFER_LME) && (s->cr0 & X86_CR0_PG))
        s->efer |= X86_EFER_LMA;
    s->dr7 = x86_legal_dr7(load_le64(p + AT_DR7));
    s->dr6 = x86_legal_dr6(load_le64(p + AT_DR6));
    s->rflags = x86_legal_flags(load_le64(p + AT_RFLAGS));
    s->rip = load_le64(p + AT_RIP);
}

static void get_state(const uint8_t *p, struct x86_state *s) {
    for (unsigned i = 0; i < 6; i++)
        get_segment(p + AT_SEGMENT + i * 16, &s->seg[i]);
    get_table(p + AT_GDTR, &s->gdtr);
    get_segment(p + AT_LDTR, &s->ldtr);
    get_table(p + AT_IDTR, &s->idtr);
    get_segment(p + AT_TR, &s->tr);
    s->activity = p[AT_HALT] & 1 ? X86_HALTED : X86_RUNNING;
    s->smbase = load_le32(p + AT_SMBASE);
    get_control(p, s);
    for (unsigned i = 0; i < 16; i++)
        s->gpr[i] = load_le64(place_of_gpr((uint8_t *)p, i)); /* only read */
}

/* ------------------------------------------------------------------ entry */

static void entry_state(struct x86_state *s) {
    for (unsigned i = 0; i < 6; i++)
        s->seg[i] = (struct x86_segment){.attr = 0x93 | X86_ATTR_G, .limit = 0xffffffff};
    s->seg[SEG_CS].sel = (uint16_t)(s->smbase >> 4);
    s->seg[SEG_CS].base = s->smbase;
    s->seg[SEG_CS].attr |= 8;
    s->idtr = (struct x86_table){.limit = 0};
    s->rflags = X86_FLAG_FIXED;
    s->rip = ENTRY;
    s->cr0 &= ~(X86_CR0_PE | X86_CR0_EM | X86_CR0_TS | X86_CR0_PG);
    s->cr4 = 0;
    s->efer = 0;
    s->dr7 = 0x400;
    s->activity = X86_RUNNING;
    s->nmi_blocked_outside = s->nmi_blocked;
    s->nmi_blocked = true;
    s->smi_pending = false;
    s->smm = true;
}

void ref_smm_enter(struct ref *c) {
    uint8_t image[AREA_SIZE] = {0};

    stat_inc(ref_smis);
    trace(ref_smm_enter, c->cpu.config.index, c->s.smbase, c->rip);
    ref_sync(c);
    put_state(image, &c->s);
    mem_write(ref_all_mem(c), area(c), image, sizeof(image)); /* where no RAM is, it is lost */
    entry_state(&c->s);
    ref_unsync(c);
}

/* ------------------------------------------------------------------ RSM */

static void shut_down(struct ref *c, const char *why) {
    trace(ref_smm_refused, c->cpu.config.index, c->s.smbase, why);
    c->s.activity = X86_SHUTDOWN;
    c->stop_block = true;
    ref_goto(c, c->rip);
}

/* In legacy PAE paging the PDPTEs come from memory, as it is outside. */
static bool load_pdptes(struct ref *c) {
    bool pae = (c->s.cr0 & X86_CR0_PG) && (c->s.cr4 & X86_CR4_PAE) && !(c->s.efer & X86_EFER_LMA);

    return !pae || ref_load_pdptes(c, c->s.cr3);
}

void ref_op_rsm(struct ref *c, const struct ref_op *o) {
    uint8_t image[AREA_SIZE];
    struct x86_state s;
    const char *why;

    if (!c->s.smm)
        ref_raise(c, o, X86_UD);
    memset(image, 0xff, sizeof(image));
    mem_read(c->mem, area(c), image, sizeof(image));
    ref_sync(c);
    s = c->s;
    get_state(image, &s);
    s.smm = false;
    s.nmi_blocked = s.nmi_blocked_outside;
    s.nmi_blocked_outside = false;
    why = x86_impossible(&s);
    if (why) {
        shut_down(c, why);
        return;
    }
    c->s = s;
    ref_unsync(c);
    if (!load_pdptes(c)) {
        shut_down(c, "a PDPTE has reserved bits set");
        return;
    }
    trace(ref_smm_leave, c->cpu.config.index, c->s.smbase, c->rip);
    ref_goto(c, c->rip);
}
