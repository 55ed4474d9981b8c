/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoder against a second opinion: millions of instructions decoded by Zydis and by us must
 * agree in length, mnemonic, operands, flags and immediates. Where they differ on purpose, the
 * table `departures` says why. Hand-written cases hold what Zydis does not tell (defaults, limits,
 * attributes).
 */
#include "cpu/soft/decode.h"

#include <Zydis/Zydis.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "support/test.h"

enum { ALL_FLAGS = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_DF | FL_OF };

/* What may differ in a departure. */
enum {
    WE_REFUSE = 1,   /* Zydis decodes it, we call it undefined */
    THEY_REFUSE = 2, /* the other way round */
    FLAGS_READ = 4,
    FLAGS_WRITTEN = 8,
    ACCESS = 16,
    HIDDEN = 32, /* registers outside the assembly text */
    SIZE = 64,
    OPERANDS = 128, /* how many */
    SEGMENT = 256,
    ALL_BUT_LENGTH = 512,
};

/* The first row that fits counts. Names are Zydis's; a * at the end matches any rest. */
static const struct departure {
    const char *mnemonic;
    unsigned what;
    const char *why;
} departures[] = {
    {"nop", OPERANDS | ACCESS | SIZE | THEY_REFUSE,
     "operands of NOPs are not accessed; Zydis has MPX in their place and refuses some"},
    {"bnd*", ALL_BUT_LENGTH, "MPX is not advertised: NOPs"},
    {"cldemote", ALL_BUT_LENGTH, "not advertised: NOP"},
    {"rdssp*", ACCESS, "shadow stacks are not advertised: NOP, the register keeps its value"},
    {"prefetch*", ACCESS, "a prefetch never faults: no access"},
    {"clflush*", ACCESS | SIZE, "names a byte; the line is the executor's business"},
    {"clwb", ACCESS | SIZE, "as clflush"},
    {"invlpg", ACCESS, "names an address"},
    {"lea", SEGMENT, "no access: Zydis leaves the override out"},
    {"jmp", SEGMENT, "3e is NOTRACK to Zydis, without CET it overrides the segment"},
    {"call", SEGMENT, "as jmp"},
    {"bsf", ACCESS, "the destination survives if the source is 0"},
    {"bsr", ACCESS, "as bsf"},
    {"lsl", SIZE, "the register source has operand size, Zydis says 4 bytes"},
    {"movsxd", SIZE, "with 66 the manual reads 2 bytes, Zydis 4"},
    {"movmskp*", SIZE, "the manual writes a 32-bit register, with REX.W too"},
    {"sbb", FLAGS_WRITTEN, "Zydis calls AF undefined, the manual says set"},
    {"rol", FLAGS_READ | FLAGS_WRITTEN,
     "a count of 0 keeps the flags; OF is defined for a count of 1"},
    {"ror", FLAGS_READ | FLAGS_WRITTEN, "as rol"},
    {"rcl", FLAGS_READ | FLAGS_WRITTEN, "as rol"},
    {"rcr", FLAGS_READ | FLAGS_WRITTEN, "as rol"},
    {"shl", FLAGS_READ | FLAGS_WRITTEN, "as rol"},
    {"shr", FLAGS_READ | FLAGS_WRITTEN, "as rol"},
    {"shld", FLAGS_READ | FLAGS_WRITTEN, "as rol"},
    {"shrd", FLAGS_READ | FLAGS_WRITTEN, "as rol"},
    {"sar", FLAGS_READ | FLAGS_WRITTEN, "as rol"},
    {"cmps*", FLAGS_READ, "REP with a count of 0 keeps the flags"},
    {"scas*", FLAGS_READ, "as cmps"},
    {"bextr", FLAGS_WRITTEN, "the manual clears OF and CF, Zydis calls them undefined"},
    {"vptest", FLAGS_WRITTEN, "clears OF SF AF PF as ptest does, Zydis forgets it"},
    {"vtest*", FLAGS_WRITTEN, "as vptest"},
    {"ftst", HIDDEN, "reads ST(0), Zydis says it writes it too"},
    {"fxam", HIDDEN, "as ftst"},
    {"xlat", HIDDEN, "we list rBX, which Zydis has only in the address"},
    {"maskmov*", HIDDEN, "we list rDI, which Zydis has only in the address"},
    {"vmaskmovdqu", HIDDEN, "as maskmovdqu"},
    {"pusha*", HIDDEN, "all registers: not listed"},
    {"popa*", HIDDEN, "as pusha"},
    {"syscall", HIDDEN | FLAGS_READ, "rCX and r11 are part of what it does; r11 gets the flags"},
    {"sysret", HIDDEN, "as syscall"},
    {"sysexit", HIDDEN, "as syscall"},
    {"vmcall", FLAGS_WRITTEN, "Zydis tells of the VMX failure flags"},
};

/* Instruction sets of Zydis that no CPU model of ours advertises: undefined. A * matches any rest.
 */
static const char *const refused_sets[] = {
    "VTX",        "VMFUNC",    "SVM",       "AMD_INVLPGB", "SNP",      "SMX",     "SGX*",
    "TDX",        "PCONFIG",   "AMD3DNOW*", "SSE4A",       "FMA4",     "XOP",     "TBM",
    "LWP",        "AVX512*",   "AVX_VNNI",  "GFNI",        "AVX_GFNI", "AMX_*",   "KNC*",
    "KEYLOCKER*", "CET",       "RTM",       "PT",          "UINTR",    "WAITPKG", "ENQCMD",
    "MOVDIR",     "SERIALIZE", "HRESET",    "MONITORX",    "CLZERO",   "RDPRU",   "MCOMMIT",
    "PADLOCK_*",  "WBNOINVD",  "TSX_LDTRK",
};

struct tally {
    uint64_t checked, valid, undefined, departed, mismatches;
};

static struct tally tally;

struct sample {
    const uint8_t *bytes;
    unsigned mode;
    struct insn in;
    int len; /* what insn_decode returned */
    ZydisDecodedInstruction z;
    ZydisDecodedOperand zops[ZYDIS_MAX_OPERAND_COUNT];
    ZyanStatus zstatus;
    const char *zname;
};

static void complain(const struct sample *s, const char *what, uint64_t ours, uint64_t theirs) {
    char text[96] = "";
    if (s->len > 0)
        insn_format(&s->in, 0x1000, text, sizeof(text));
    if (++tally.mismatches > 200)
        return;
    print_message("mode %u,", s->mode);
    for (int i = 0; i < 15; i++)
        print_message("%s%02x", i ? "" : " ", s->bytes[i]);
    print_message(": %s: ours %#llx Zydis %#llx (%s | %s)\n", what, (unsigned long long)ours,
                  (unsigned long long)theirs, text, s->zname);
}

static bool name_fits(const char *pattern, const char *name) {
    size_t len = strlen(pattern);
    return pattern[len - 1] == '*' ? !strncmp(name, pattern, len - 1) : !strcmp(name, pattern);
}

static bool departs(const struct sample *s, unsigned what) {
    const char *name = ZYAN_SUCCESS(s->zstatus) ? s->zname : s->in.row->mnemonic;
    for (size_t i = 0; i < sizeof(departures) / sizeof(departures[0]); i++)
        if (departures[i].what & what && name_fits(departures[i].mnemonic, name)) {
            tally.departed++;
            return true;
        }
    return false;
}

static bool set_is_refused(const struct sample *s) {
    if (s->z.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
        s->z.encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX ||
        s->z.encoding == ZYDIS_INSTRUCTION_ENCODING_XOP ||
        s->z.encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW)
        return true;
    const char *name = ZydisISASetGetString(s->z.meta.isa_set);
    for (size_t i = 0; i < sizeof(refused_sets) / sizeof(refused_sets[0]); i++)
        if (name_fits(refused_sets[i], name))
            return true;
    return false;
}

/* One of the two finds no instruction. */
static void compare_refusals(const struct sample *s) {
    if (s->zstatus == ZYDIS_STATUS_ILLEGAL_LOCK) {
        if (s->len > 0 && insn_lock_ok(&s->in) && !departs(s, THEY_REFUSE))
            complain(s, "lock is illegal", 1, 0);
    } else if (s->zstatus == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) {
        if (s->len > 0)
            complain(s, "too long", (uint64_t)s->len, 0);
    } else if (!ZYAN_SUCCESS(s->zstatus)) {
        if (s->len > 0 && !departs(s, THEY_REFUSE))
            complain(s, "decodes", (uint64_t)s->len, s->zstatus);
    } else if (set_is_refused(s)) {
        tally.departed++;
    } else if (!departs(s, WE_REFUSE)) {
        complain(s, ZydisISASetGetString(s->z.meta.isa_set), (uint64_t)s->len, s->z.length);
    }
}

/* Zydis register -> our number and kind; false for the ones we do not describe (rip, flags ...). */
static bool zydis_register(ZydisRegister reg, struct operand *op) {
    static const struct {
        uint16_t class, kind;
    } kinds[] = {
        {ZYDIS_REGCLASS_GPR8, OPK_GPR},     {ZYDIS_REGCLASS_GPR16, OPK_GPR},
        {ZYDIS_REGCLASS_GPR32, OPK_GPR},    {ZYDIS_REGCLASS_GPR64, OPK_GPR},
        {ZYDIS_REGCLASS_X87, OPK_ST},       {ZYDIS_REGCLASS_MMX, OPK_MMX},
        {ZYDIS_REGCLASS_XMM, OPK_VEC},      {ZYDIS_REGCLASS_YMM, OPK_VEC},
        {ZYDIS_REGCLASS_SEGMENT, OPK_SREG}, {ZYDIS_REGCLASS_CONTROL, OPK_CREG},
        {ZYDIS_REGCLASS_DEBUG, OPK_DREG},
    };
    memset(op, 0, sizeof(*op));
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kinds[i].class != ZydisRegisterGetClass(reg))
            continue;
        op->kind = (uint8_t)kinds[i].kind;
        op->reg = (uint8_t)ZydisRegisterGetId(reg);
        op->size = (uint16_t)(ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, reg) / 8);
        if (kinds[i].class == ZYDIS_REGCLASS_GPR8) {
            /* al cl dl bl ah ch dh bh spl bpl ... */
            op->high_byte = op->reg >= 4 && op->reg < 8;
            op->reg = (uint8_t)(op->reg < 8 ? op->reg & 3 : op->reg - 4);
        }
        return true;
    }
    return false;
}

static unsigned zydis_access(const ZydisDecodedOperand *zop) {
    unsigned access = 0;
    if (zop->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
        access |= 1;
    if (zop->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        access |= 2;
    return access;
}

/* Registers may be read or written in part: what Zydis calls conditional, we call read and written.
 */
static void compare_access(const struct sample *s, const struct operand *op,
                           const ZydisDecodedOperand *zop) {
    unsigned theirs = zydis_access(zop);
    if (zop->actions & ZYDIS_OPERAND_ACTION_CONDWRITE)
        theirs |= 1;
    if (op->access != theirs && !departs(s, ACCESS))
        complain(s, "access", op->access, theirs);
}

static unsigned zydis_base(ZydisRegister reg) {
    return reg == ZYDIS_REGISTER_NONE || reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP
               ? REG_NONE
               : (unsigned)ZydisRegisterGetId(reg);
}

static uint64_t low_bytes(uint64_t value, unsigned size) {
    return size >= 8 ? value : value & ((UINT64_C(1) << size * 8) - 1);
}

static void compare_address(const struct sample *s, const ZydisDecodedOperand *zop) {
    const struct insn *in = &s->in;
    unsigned seg = in->seg, zseg = (unsigned)ZydisRegisterGetId(zop->mem.segment);
    /* With 67 and REX.B Zydis takes the "no base" of a SIB byte for r13. */
    if (in->adsize == 4 && in->rex & 1 && in->sib_at && in->mod == 0 &&
        (s->bytes[in->sib_at] & 7) == 5)
        return;
    if (s->mode == 8) {
        seg = seg >= SEG_FS ? seg : 0;
        zseg = zseg >= SEG_FS ? zseg : 0;
    }
    if (seg != zseg && !departs(s, SEGMENT))
        complain(s, "segment", seg, zseg);
    if (!in->mem)
        complain(s, "memory", 0, 1);
    if (in->base != zydis_base(zop->mem.base))
        complain(s, "base", in->base, zydis_base(zop->mem.base));
    if (in->rip_relative !=
        (zop->mem.base == ZYDIS_REGISTER_RIP || zop->mem.base == ZYDIS_REGISTER_EIP))
        complain(s, "rip-relative", in->rip_relative, zop->mem.base);
    if (in->index != zydis_base(zop->mem.index))
        complain(s, "index", in->index, zydis_base(zop->mem.index));
    if (in->index != REG_NONE && 1u << in->scale != zop->mem.scale)
        complain(s, "scale", 1u << in->scale, zop->mem.scale);
    if (low_bytes((uint64_t)in->disp, in->adsize) !=
        low_bytes((uint64_t)zop->mem.disp.value, in->adsize))
        complain(s, "displacement", (uint64_t)in->disp, (uint64_t)zop->mem.disp.value);
}

static void compare_immediate(const struct sample *s, unsigned i, const struct operand *op,
                              const ZydisDecodedOperand *zop) {
    bool second = i > 0 && s->in.row->id == INSN_ENTER;
    uint64_t ours = second ? s->in.imm2 : s->in.imm;
    uint64_t theirs = zop->imm.value.u;
    if (!zop->imm.is_signed || insn_operand_method(&s->in, i) == 'I') {
        ours = low_bytes(ours, op->size);
        theirs = low_bytes(theirs, op->size);
    }
    if (ours != theirs)
        complain(s, "immediate", ours, theirs);
    if (op->kind != (zop->imm.is_relative ? OPK_REL : OPK_IMM))
        complain(s, "immediate kind", op->kind, zop->imm.is_relative);
}

static void compare_operand(const struct sample *s, unsigned i, const ZydisDecodedOperand *zop) {
    struct operand op, expected;
    insn_operand(&s->in, i, &op);
    compare_access(s, &op, zop);
    /* Of vector registers Zydis gives here the part that is used, there all of it: width is below.
     */
    bool vector = op.kind == OPK_VEC || op.kind == OPK_MMX;
    if (!vector && op.size && op.size != zop->size / 8 && !departs(s, SIZE))
        complain(s, "operand size", op.size, zop->size / 8);
    switch (zop->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        if (!zydis_register(zop->reg.value, &expected))
            return;
        if (op.kind != expected.kind)
            complain(s, "operand kind", op.kind, expected.kind);
        if (op.reg != expected.reg)
            complain(s, "register", op.reg, expected.reg);
        if (op.high_byte != expected.high_byte)
            complain(s, "high byte", op.high_byte, expected.high_byte);
        if (op.kind == OPK_VEC && (op.size == 32) != (expected.size == 32))
            complain(s, "vector register", op.size, expected.size);
        break;
    case ZYDIS_OPERAND_TYPE_MEMORY:
        if (op.kind != OPK_MEM)
            complain(s, "operand kind", op.kind, OPK_MEM);
        compare_address(s, zop);
        break;
    case ZYDIS_OPERAND_TYPE_POINTER:
        if (op.kind != OPK_FARPTR || s->in.imm != zop->ptr.offset || s->in.imm2 != zop->ptr.segment)
            complain(s, "far pointer", s->in.imm, zop->ptr.offset);
        break;
    default:
        compare_immediate(s, i, &op, zop);
        break;
    }
}

/* Registers that are used without being written in the text: as sets, a bit for each kind and
 * number. */
static void compare_hidden(const struct sample *s) {
    uint64_t ours[4] = {0}, theirs[4] = {0};
    /* Zydis lists rCX with REP only, and not always rSI and rDI. */
    if (s->in.row->attr & INSN_STRING)
        return;
    for (unsigned i = s->in.row->visible; i < s->in.row->nops; i++) {
        struct operand op;
        insn_operand(&s->in, i, &op);
        if (op.kind == OPK_GPR || op.kind == OPK_VEC || op.kind == OPK_ST)
            ours[op.access] |= UINT64_C(1) << (op.reg + (op.kind == OPK_GPR   ? 0
                                                         : op.kind == OPK_VEC ? 16
                                                                              : 48));
    }
    for (unsigned i = s->z.operand_count_visible; i < s->z.operand_count; i++) {
        const ZydisDecodedOperand *zop = &s->zops[i];
        struct operand op;
        if (zop->type != ZYDIS_OPERAND_TYPE_REGISTER || !zydis_register(zop->reg.value, &op))
            continue;
        if (op.kind == OPK_GPR && op.reg == 4)
            continue; /* the stack pointer of all that push and pop */
        if (op.kind == OPK_GPR || op.kind == OPK_VEC || op.kind == OPK_ST)
            theirs[zydis_access(zop)] |= UINT64_C(1) << (op.reg + (op.kind == OPK_GPR   ? 0
                                                                   : op.kind == OPK_VEC ? 16
                                                                                        : 48));
    }
    for (unsigned access = 1; access <= 3; access++)
        if (ours[access] != theirs[access] && !departs(s, HIDDEN))
            complain(s, "hidden registers", ours[access], theirs[access]);
}

static void compare_flags(const struct sample *s) {
    const struct insn_row *row = s->in.row;
    uint32_t read = 0, written = 0, undefined = 0;
    const ZydisAccessedFlags *zf = s->z.cpu_flags;
    if (zf) {
        read = zf->tested & ALL_FLAGS;
        undefined = zf->undefined & ALL_FLAGS;
        written = (zf->modified | zf->set_0 | zf->set_1 | zf->undefined) & ALL_FLAGS;
    }
    if (row->flags_read != read && !departs(s, FLAGS_READ))
        complain(s, "flags read", row->flags_read, read);
    if (row->flags_written != written && !departs(s, FLAGS_WRITTEN))
        complain(s, "flags written", row->flags_written, written);
    if (row->flags_undefined != undefined && !departs(s, FLAGS_WRITTEN))
        complain(s, "flags undefined", row->flags_undefined, undefined);
}

static void compare_sizes(const struct sample *s) {
    const ZydisDecodedInstruction *z = &s->z;
    if (s->in.adsize != z->address_width / 8)
        complain(s, "address size", s->in.adsize, z->address_width / 8);
    if (s->in.modrm_at != z->raw.modrm.offset)
        complain(s, "offset of modrm", s->in.modrm_at, z->raw.modrm.offset);
    if (s->in.sib_at != z->raw.sib.offset)
        complain(s, "offset of sib", s->in.sib_at, z->raw.sib.offset);
    if (s->in.disp_len * 8 != z->raw.disp.size || s->in.disp_at != z->raw.disp.offset)
        complain(s, "displacement bytes", s->in.disp_at, z->raw.disp.offset);
    unsigned imm_len = (z->raw.imm[0].size + z->raw.imm[1].size) / 8u;
    if (s->in.imm_len != imm_len || (imm_len && s->in.imm_at != z->raw.imm[0].offset))
        complain(s, "immediate bytes", s->in.imm_at, z->raw.imm[0].offset);
}

static const ZydisDecoder *zydis_decoder(unsigned mode) {
    static const struct {
        ZydisMachineMode machine;
        ZydisStackWidth stack;
    } modes[] = {
        {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
        {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
    };
    static ZydisDecoder decoders[3];
    static bool ready;
    for (unsigned i = 0; !ready && i < 3; i++)
        assert_true(ZYAN_SUCCESS(ZydisDecoderInit(&decoders[i], modes[i].machine, modes[i].stack)));
    ready = true;
    return &decoders[mode >> 2];
}

static void compare(struct sample *s) {
    const ZydisDecoder *decoder = zydis_decoder(s->mode);
    s->len = insn_decode(&s->in, s->bytes, INSN_MAX_LEN, s->mode);
    s->zstatus = ZydisDecoderDecodeFull(decoder, s->bytes, INSN_MAX_LEN, &s->z, s->zops);
    s->zname = ZYAN_SUCCESS(s->zstatus) ? ZydisMnemonicGetString(s->z.mnemonic) : "(bad)";
    tally.checked++;
    if (s->len <= 0 && !ZYAN_SUCCESS(s->zstatus)) {
        tally.undefined++;
        return;
    }
    if (s->len <= 0 || !ZYAN_SUCCESS(s->zstatus)) {
        compare_refusals(s);
        return;
    }
    tally.valid++;
    if (s->len != s->z.length)
        complain(s, "length", (uint64_t)s->len, s->z.length);
    if (departs(s, ALL_BUT_LENGTH))
        return;
    if (strcmp(s->in.row->mnemonic, s->zname))
        complain(s, "mnemonic", 0, 0);
    if (!insn_lock_ok(&s->in))
        complain(s, "lock is refused", 0, 1);
    compare_sizes(s);
    unsigned visible = s->z.operand_count_visible;
    if (s->in.row->visible != visible) {
        if (!departs(s, OPERANDS))
            complain(s, "operand count", s->in.row->visible, visible);
    } else {
        for (unsigned i = 0; i < visible; i++)
            compare_operand(s, i, &s->zops[i]);
        compare_hidden(s);
    }
    compare_flags(s);
}

/* Bytes that are often an instruction: prefixes and opcode maps are more frequent than chance. */
static void random_instruction(struct rng *rng, uint8_t bytes[16]) {
    static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0x66, 0xf2, 0xf3, 0x67,
                                       0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    uint64_t low = rng_next(rng), high = rng_next(rng), choice = rng_next(rng);
    unsigned at = 0;
    memcpy(bytes, &low, 8);
    memcpy(bytes + 8, &high, 8);
    for (; (choice & 3) == 0 && at < 4; choice >>= 8)
        bytes[at++] = prefixes[(choice >> 2) % sizeof(prefixes)];
    if (choice & 4)
        bytes[at++] = 0x40 | (choice >> 8 & 15);
    switch (choice >> 3 & 15) {
    case 0 ... 3:
        bytes[at] = 0x0f;
        break;
    case 4 ... 5:
        bytes[at] = 0x0f;
        bytes[at + 1] = choice & 0x10000 ? 0x38 : 0x3a;
        break;
    case 6 ... 7:
        bytes[at] = 0xc5;
        bytes[at + 1] |= choice & 0x10000 ? 0x78 : 0;
        break;
    case 8 ... 10:
        bytes[at] = 0xc4;
        bytes[at + 1] = (uint8_t)((bytes[at + 1] & 0xe0) | (1 + (choice >> 20) % 3));
        bytes[at + 2] |= choice & 0x10000 ? 0x78 : 0;
        break;
    default:
        break;
    }
}

static void expect_no_mismatch(const char *what, const struct timespec *since) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds =
        (double)(now.tv_sec - since->tv_sec) + (double)(now.tv_nsec - since->tv_nsec) / 1e9;
    print_message("%s: %llu checked, %llu instructions, %llu undefined for both, %llu listed "
                  "departures, %llu mismatches in %.1f s\n",
                  what, (unsigned long long)tally.checked, (unsigned long long)tally.valid,
                  (unsigned long long)tally.undefined, (unsigned long long)tally.departed,
                  (unsigned long long)tally.mismatches, seconds);
    assert_int_equal(tally.mismatches, 0);
}

static void random_bytes_decode_as_zydis_does_in_three_modes(void **state) {
    struct rng rng = rng_seed(1);
    static struct sample s;
    uint8_t bytes[16];
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    tally = (struct tally){0};
    s.bytes = bytes;
    for (s.mode = 2; s.mode <= 8; s.mode *= 2)
        for (int i = 0; i < 1000000; i++) {
            random_instruction(&rng, bytes);
            compare(&s);
        }
    expect_no_mismatch("random bytes", &start);
    assert_true(tally.valid > 1000000);
}

/* Every opcode of every map with every ModRM byte; what follows is random. */
static void compare_all_legacy_opcodes(struct sample *s, uint8_t bytes[16], struct rng *rng) {
    static const uint8_t prefixes[] = {0, 0x66, 0xf3, 0xf2};
    static const uint8_t escapes[] = {0, 0, 0x38, 0x3a};
    for (unsigned i = 0; i < 4 * 4 * 65536u * (s->mode == 8 ? 2 : 1); i++) {
        unsigned map = i >> 18 & 3, at = 0;
        uint64_t low = rng_next(rng), high = rng_next(rng);
        memcpy(bytes, &low, 8);
        memcpy(bytes + 8, &high, 8);
        if (prefixes[i >> 16 & 3])
            bytes[at++] = prefixes[i >> 16 & 3];
        if (i >> 20)
            bytes[at++] = (uint8_t)(0x40 | (rng_next(rng) & 15));
        if (map)
            bytes[at++] = 0x0f;
        if (escapes[map])
            bytes[at++] = escapes[map];
        bytes[at] = (uint8_t)(i >> 8);
        bytes[at + 1] = (uint8_t)i;
        compare(s);
    }
}

static void compare_all_vex_opcodes(struct sample *s, uint8_t bytes[16], struct rng *rng) {
    for (unsigned i = 0; i < 3 * 16 * 65536u; i++) {
        uint64_t low = rng_next(rng), high = rng_next(rng);
        memcpy(bytes, &low, 8);
        memcpy(bytes + 8, &high, 8);
        unsigned vvvv = low >> 8 & 1 ? 15 : low >> 9 & 15;
        unsigned rxb = low >> 13 & 7;
        bytes[0] = 0xc4;
        bytes[1] = (uint8_t)((s->mode == 8 ? rxb : rxb | 6) << 5 | (1 + (i >> 20)));
        bytes[2] = (uint8_t)((i >> 19 & 1) << 7 | vvvv << 3 | (i >> 16 & 7));
        bytes[3] = (uint8_t)(i >> 8);
        bytes[4] = (uint8_t)i;
        compare(s);
    }
}

static void every_opcode_decodes_as_zydis_does(void **state) {
    struct rng rng = rng_seed(4);
    static struct sample s;
    uint8_t bytes[16];
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    tally = (struct tally){0};
    s.bytes = bytes;
    for (s.mode = 2; s.mode <= 8; s.mode *= 2)
        compare_all_legacy_opcodes(&s, bytes, &rng);
    for (s.mode = 4; s.mode <= 8; s.mode *= 2)
        compare_all_vex_opcodes(&s, bytes, &rng);
    expect_no_mismatch("all opcodes", &start);
    assert_true(tally.valid > 1000000);
}

struct file {
    const uint8_t *bytes;
    size_t size;
};

static bool map_file(const char *path, struct file *ret_file) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    void *map = MAP_FAILED;
    if (!fstat(fd, &st) && st.st_size > 0)
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return false;
    *ret_file = (struct file){map, (size_t)st.st_size};
    return true;
}

static void compare_code(const uint8_t *code, size_t size, struct rng *rng) {
    static struct sample s;
    if (size < 2 * INSN_MAX_LEN)
        return;
    size_t end = size - INSN_MAX_LEN;
    s.mode = 8;
    for (size_t at = 0; at < end;) {
        s.bytes = code + at;
        compare(&s);
        at += s.len > 0 ? (size_t)s.len : 1;
    }
    for (size_t i = 0; i < end / 4; i++) {
        s.bytes = code + rng_below(rng, end);
        s.mode = i & 1 ? 8 : i & 2 ? 4 : 2;
        compare(&s);
    }
}

/* The executable segments of an ELF file. */
static void compare_file(const char *path, struct rng *rng) {
    struct file f;
    if (!map_file(path, &f))
        return;
    uint64_t before = tally.checked;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)f.bytes;
    if (f.size >= sizeof(*header) && !memcmp(f.bytes, ELFMAG, SELFMAG) &&
        header->e_phoff <= f.size &&
        header->e_phnum <= (f.size - header->e_phoff) / sizeof(Elf64_Phdr)) {
        const Elf64_Phdr *segment = (const Elf64_Phdr *)(f.bytes + header->e_phoff);
        for (unsigned i = 0; i < header->e_phnum; i++, segment++)
            if (segment->p_type == PT_LOAD && segment->p_flags & PF_X &&
                segment->p_offset <= f.size && segment->p_filesz <= f.size - segment->p_offset)
                compare_code(f.bytes + segment->p_offset, segment->p_filesz, rng);
    }
    print_message("%s: %llu\n", path, (unsigned long long)(tally.checked - before));
    munmap((void *)(uintptr_t)f.bytes, f.size);
}

static int compare_library(struct dl_phdr_info *info, size_t size, void *rng) {
    if (info->dlpi_name[0] == '/')
        compare_file(info->dlpi_name, rng);
    return 0;
}

static void the_code_of_real_programs_decodes_as_zydis_does(void **state) {
    /* This program and its libraries are there on any machine; the others if they are installed. */
    static const char *const others[] = {
        "/proc/self/exe",   "/lib/x86_64-linux-gnu/libcrypto.so.3",
        "/usr/bin/python3", "/lib/x86_64-linux-gnu/libstdc++.so.6",
        "/usr/bin/bash",
    };
    struct rng rng = rng_seed(2);
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    tally = (struct tally){0};
    dl_iterate_phdr(compare_library, &rng);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        compare_file(others[i], &rng);
    expect_no_mismatch("programs", &start);
    assert_true(tally.valid > 300000);
}

/* The bytes end where the page ends: whoever reads on dies. */
static void no_byte_past_the_end_is_read(void **state) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    assert_int_equal(mprotect(map + page, page, PROT_NONE), 0);
    struct rng rng = rng_seed(3);
    struct insn in, cut;
    uint8_t bytes[16];
    unsigned instructions = 0;
    for (int i = 0; i < 200000; i++) {
        unsigned mode = 2u << rng_below(&rng, 3);
        random_instruction(&rng, bytes);
        int len = insn_decode(&in, bytes, INSN_MAX_LEN, mode);
        assert_true(len == 0 || len == -2 || (len >= 1 && len <= INSN_MAX_LEN));
        assert_true(in.len <= INSN_MAX_LEN);
        instructions += len > 0;
        for (unsigned n = 0; n <= INSN_MAX_LEN; n++) {
            memcpy(map + page - n, bytes, n);
            int got = insn_decode(&cut, map + page - n, n, mode);
            assert_int_equal(got, n < in.len ? -1 : len);
        }
    }
    assert_true(instructions > 50000);
    munmap(map, 2 * page);
}

struct expected {
    const char *hex;
    unsigned mode;
    int len;
    const char *text; /* at address 0x1000; NULL: not looked at */
};

static size_t from_hex(const char *hex, uint8_t *bytes, size_t size) {
    size_t n = 0;
    for (; hex[0] && hex[1] && n < size; hex += 2) {
        char digits[3] = {hex[0], hex[1]};
        bytes[n++] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return n;
}

static int decode_hex(struct insn *in, const char *hex, unsigned mode) {
    uint8_t bytes[32];
    size_t n = from_hex(hex, bytes, sizeof(bytes));
    return insn_decode(in, bytes, n, mode);
}

static void check_rows(const struct expected *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct insn in;
        char text[96] = "";
        int len = decode_hex(&in, rows[i].hex, rows[i].mode);
        if (len != rows[i].len)
            print_error("%s in mode %u\n", rows[i].hex, rows[i].mode);
        assert_int_equal(len, rows[i].len);
        if (!rows[i].text)
            continue;
        size_t text_len = insn_format(&in, 0x1000, text, sizeof(text));
        assert_int_equal(text_len, strlen(text));
        assert_string_equal(text, rows[i].text);
    }
}

static void known_instructions_read_as_the_manual_writes_them(void **state) {
    static const struct expected rows[] = {
        {"90", 8, 1, "nop"},
        {"f390", 8, 2, "pause"},
        {"4190", 8, 2, "xchg r8d, eax"},
        {"f34190", 8, 3, "pause"}, /* REX.B does not make it an exchange, the hardware says */
        {"4889e5", 8, 3, "mov rbp, rsp"},
        {"8864240c", 8, 4, "mov byte ptr [rsp+0xc], ah"},
        {"408864240c", 8, 5, "mov byte ptr [rsp+0xc], spl"},
        {"8b0500010000", 8, 6, "mov eax, dword ptr [rip 0x1106]"},
        {"678b0500010000", 8, 7, "mov eax, dword ptr [eip 0x1107]"},
        {"8b0500010000", 4, 6, "mov eax, dword ptr [0x100]"},
        {"8b040500010000", 8, 7, "mov eax, dword ptr [rax*1+0x100]"},
        {"642e8b00", 8, 4, "mov eax, dword ptr fs:[rax]"}, /* cs is ignored and does not undo fs */
        {"642e8b00", 4, 4, "mov eax, dword ptr cs:[eax]"},
        {"8b42fe", 2, 3, "mov ax, word ptr [bp+si-0x2]"},
        {"67668b0424", 2, 5, "mov eax, dword ptr [esp]"},
        {"48b8efcdab8967452301", 8, 10, "mov rax, 0x123456789abcdef"},
        {"48a1efcdab8967452301", 8, 10, "mov rax, qword ptr [0x123456789abcdef]"},
        {"67a112345678", 8, 6, "mov eax, dword ptr [0x78563412]"},
        {"83c0ff", 8, 3, "add eax, 0xffffffff"},
        {"6683c0ff", 8, 4, "add ax, 0xffff"},
        {"48c7c0ffffffff", 8, 7, "mov rax, 0xffffffffffffffff"},
        {"c8100001", 8, 4, "enter 0x10, 0x1"},
        {"eb05", 8, 2, "jmp 0x1007"},
        {"66e900000000", 8, 6, "jmp 0x1006"}, /* 66 counts for nothing on a near branch */
        {"66e90000", 4, 4, "jmp 0x1004"},
        {"ebfe", 2, 2, "jmp 0x1000"},
        {"e2fe", 8, 2, "loop 0x1000"},
        {"67e300", 8, 3, "jecxz 0x1003"},
        {"ea785634120800", 4, 7, "jmp far 0x8:0x12345678"},
        {"ea78563412", 2, 5, "jmp far 0x1234:0x5678"},
        {"48cb", 8, 2, "ret far"},
        {"f348a5", 8, 3, "rep movsq"},
        {"f2ae", 8, 2, "repne scasb"},
        {"f00fb10f", 8, 4, "lock cmpxchg dword ptr [rdi], ecx"},
        {"480fc70f", 8, 4, "cmpxchg16b xmmword ptr [rdi]"},
        {"0f05", 8, 2, "syscall"},
        {"f30f1efa", 8, 4, "endbr64"},
        {"d8c1", 8, 2, "fadd st(0), st(1)"},
        {"db28", 8, 2, "fld tbyte ptr [rax]"},
        {"660f6f05ffffffff", 8, 8, "movdqa xmm0, xmmword ptr [rip 0x1007]"},
        {"f20f100424", 8, 5, "movsd xmm0, qword ptr [rsp]"},
        {"a5", 8, 1, "movsd"},
        {"c5f877", 8, 3, "vzeroupper"},
        {"c5fd6f00", 8, 4, "vmovdqa ymm0, ymmword ptr [rax]"},
        {"c4e37d4ac120", 8, 6, "vblendvps ymm0, ymm0, ymm1, ymm2"},
        {"c4e2e9900488", 8, 6, "vpgatherdq xmm0, qword ptr [rax+xmm1*4], xmm2"},
        {"c4e2e9900480", 8, 0, NULL}, /* a gather's registers differ */
        {"c500", 4, 2, "lds eax, fword ptr [eax]"},
        {"c500", 2, 2, "lds ax, dword ptr [bx+si]"},
        {"c5f16ec0", 4, 0, NULL}, /* vvvv is not used and not 1111 */
        {"c5f96ec0", 4, 4, "vmovd xmm0, eax"},
        {"66c5f96ec0", 8, 0, NULL}, /* no mandatory prefix before VEX */
        {"f0c5f96ec0", 8, 0, NULL},
        {"48c5f96ec0", 8, 0, NULL},
        {"c4e1f96ec0", 8, 5, "vmovq xmm0, rax"},
        {"c4e1f96ec0", 4, 5, "vmovd xmm0, eax"},
        {"62f17c4828c0", 8, 0, NULL}, /* EVEX */
        {"6200", 4, 2, "bound eax, qword ptr [eax]"},
        {"62c0", 4, 0, NULL},
        {"8fe978c000", 8, 0, NULL}, /* XOP */
        {"0f20c0", 8, 3, "mov rax, cr0"},
        {"0f20c8", 8, 0, NULL}, /* no cr1 */
        {"440f20c0", 8, 4, "mov rax, cr8"},
        {"0f2000", 8, 3, "mov rax, cr0"}, /* mod is ignored */
        {"8ec8", 8, 0, NULL},             /* no mov to cs */
        {"06", 8, 0, NULL},
        {"06", 4, 1, "push es"},
        {"9c", 8, 1, "pushfq"},
        {"669c", 8, 2, "pushf"},
        {"0f0b", 8, 2, "ud2"},
        {"f30fbcc1", 8, 4, "tzcnt eax, ecx"},
        {"66f30fbcc1", 8, 5, "tzcnt ax, cx"},
        {"f3660f38f6c1", 8, 6, "adox eax, ecx"},
        {"4826c3", 8, 3, "ret"}, /* a prefix after REX makes REX void */
        {"662626262626262626262626262690", 8, 15, "nop"},
        {"66262626262626262626262626262690", 8, -2, NULL},
        {"6626262626262626262626262626", 8, -1, NULL},
        {"48b8efcdab89674523", 8, -1, NULL},
        {"", 8, -1, NULL},
    };
    check_rows(rows, sizeof(rows) / sizeof(rows[0]));
}

static void immediates_are_extended_as_the_instruction_uses_them(void **state) {
    static const struct {
        const char *hex;
        unsigned mode;
        uint64_t imm, imm2;
    } rows[] = {
        {"83c080", 8, 0xffffffffffffff80, 0},
        {"0580000080", 8, 0xffffffff80000080, 0},
        {"b880000080", 8, 0x80000080, 0},
        {"6a80", 8, 0xffffffffffffff80, 0},
        {"c1e0ff", 8, 0xff, 0},
        {"d1e0", 8, 1, 0},
        {"c2f0ff", 8, 0xfff0, 0},
        {"7480", 8, 0xffffffffffffff80, 0},
        {"c8feff03", 8, 0xfffe, 3},
        {"9a112233445566", 4, 0x44332211, 0x6655},
        {"66e9f0ff", 4, 0xfffffffffffffff0, 0},
        {"cd80", 4, 0x80, 0},
        {"6668f0ff", 8, 0xfffffffffffffff0, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct insn in;
        assert_true(decode_hex(&in, rows[i].hex, rows[i].mode) > 0);
        assert_int_equal(in.imm, rows[i].imm);
        assert_int_equal(in.imm2, rows[i].imm2);
    }
}

static void operand_sizes_have_their_64_bit_defaults(void **state) {
    static const struct {
        const char *hex;
        unsigned mode, opsize;
    } rows[] = {
        {"50", 8, 8},     {"6650", 8, 2},     {"50", 4, 4},   {"50", 2, 2},
        {"6650", 2, 4},   {"c3", 8, 8},       {"66c3", 8, 8}, {"66c3", 4, 2},
        {"cb", 8, 4},     {"48cf", 8, 8},     {"c9", 8, 8},   {"66ffd0", 8, 8},
        {"ff18", 8, 4},   {"48ff18", 8, 8},   {"0fa0", 8, 8}, {"660fa0", 8, 2},
        {"0f20c0", 4, 4}, {"660f6ec0", 2, 4}, {"89c8", 8, 4}, {"6648 89c8", 8, 8},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct insn in;
        char hex[32] = "";
        for (const char *c = rows[i].hex; *c; c++)
            if (*c != ' ')
                strncat(hex, c, 1);
        assert_true(decode_hex(&in, hex, rows[i].mode) > 0);
        assert_int_equal(in.opsize, rows[i].opsize);
    }
}

static void segments_default_to_ss_for_stack_bases(void **state) {
    static const struct {
        const char *hex;
        unsigned mode, seg;
    } rows[] = {
        {"8b00", 4, SEG_DS},     {"8b4500", 4, SEG_SS},   {"8b0424", 4, SEG_SS},
        {"3e8b0424", 4, SEG_DS}, {"8b02", 2, SEG_SS},     {"8b01", 2, SEG_DS},
        {"8b4600", 2, SEG_SS},   {"8b060000", 2, SEG_DS}, {"a10000", 2, SEG_DS},
        {"26a10000", 2, SEG_ES}, {"a4", 4, SEG_DS},       {"64a4", 4, SEG_FS},
        {"418b4500", 8, SEG_DS}, {"658b00", 8, SEG_GS},   {"d7", 4, SEG_DS},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct insn in;
        assert_true(decode_hex(&in, rows[i].hex, rows[i].mode) > 0);
        assert_int_equal(in.seg, rows[i].seg);
    }
}

static void lock_is_legal_for_some_memory_destinations_only(void **state) {
    static const struct {
        const char *hex;
        bool legal;
    } rows[] = {
        {"f00100", true},      {"f001c0", false},    {"f03900", false},   {"f00300", false},
        {"f08700", true},      {"f087c0", false},    {"f08900", false},   {"f0ff00", true},
        {"f00fc708", true},    {"f00fab00", true},   {"f00fabc0", false}, {"f00fa300", false},
        {"f00fba2000", false}, {"f00fba2800", true}, {"f090", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct insn in;
        assert_true(decode_hex(&in, rows[i].hex, 8) > 0);
        assert_int_equal(insn_lock_ok(&in), rows[i].legal);
    }
}

static bool operand_can_be_memory(const struct insn_row *row, unsigned i) {
    struct insn in = {.row = row, .mode = 8, .opsize = 4, .adsize = 8, .mem = true};
    struct operand op;
    insn_operand(&in, i, &op);
    return op.kind == OPK_MEM;
}

/* What the host may execute must not depend on anything but registers and one memory operand. */
static void rows_keep_their_own_rules(void **state) {
    const uint32_t never_host = INSN_PRIV | INSN_SYSTEM | INSN_BRANCH | INSN_STRING | INSN_NOMEM64 |
                                INSN_ONLY64 | INSN_VSIB | INSN_REAL_UD;
    assert_true(insn_row_count > 1000);
    for (size_t i = 1; i < insn_row_count; i++) {
        const struct insn_row *row = &insn_rows[i];
        bool memory = false;
        for (unsigned k = 0; k < row->nops; k++)
            memory |= operand_can_be_memory(row, k);
        if (row->attr & INSN_HOST && row->id != INSN_MOVSXD)
            assert_int_equal(row->attr & never_host, 0);
        if (row->attr & INSN_HOST)
            assert_int_equal((row->flags_read | row->flags_written) & FL_DF, 0);
        if (row->attr & INSN_ALIGN)
            assert_true(memory);
        if (row->attr & INSN_LOCKABLE)
            assert_true(operand_can_be_memory(row, 0) && row->access[0] == 3);
        assert_int_equal(row->flags_undefined & ~row->flags_written, 0);
        assert_in_range(row->id, INSN_INVALID + 1, INSN_ID_COUNT - 1);
        assert_in_range(row->feature, FEAT_BASE, FEAT_COUNT - 1);
        assert_in_range(row->visible, 0, row->nops);
        assert_true(row->mnemonic[0] >= 'a' && row->mnemonic[0] <= 'z');
        assert_false((row->attr & INSN_SSE) && (row->attr & INSN_AVX));
    }
}

static void text_is_cut_to_the_buffer(void **state) {
    struct insn in;
    char text[8] = "-------";
    assert_int_equal(decode_hex(&in, "48b8efcdab8967452301", 8), 10);
    assert_int_equal(insn_format(&in, 0, text, 6), 5);
    assert_string_equal(text, "mov r");
    assert_int_equal(text[7], '\0');
    assert_int_equal(text[6], '-');
    assert_int_equal(insn_format(&in, 0, NULL, 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_instructions_read_as_the_manual_writes_them),
        cmocka_unit_test(immediates_are_extended_as_the_instruction_uses_them),
        cmocka_unit_test(operand_sizes_have_their_64_bit_defaults),
        cmocka_unit_test(segments_default_to_ss_for_stack_bases),
        cmocka_unit_test(lock_is_legal_for_some_memory_destinations_only),
        cmocka_unit_test(rows_keep_their_own_rules),
        cmocka_unit_test(text_is_cut_to_the_buffer),
        cmocka_unit_test(no_byte_past_the_end_is_read),
        cmocka_unit_test(every_opcode_decodes_as_zydis_does),
        cmocka_unit_test(random_bytes_decode_as_zydis_does_in_three_modes),
        cmocka_unit_test(the_code_of_real_programs_decodes_as_zydis_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
