/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the C half and the machine-code half of the differential test's child share.
 *
 * Contract: in the child only.
 */
#ifndef TESTS_CPU_DIFF_NATIVE_H
#define TESTS_CPU_DIFF_NATIVE_H

#include "cpu/diff/diff.h"

struct native_state { /* at DIFF_STUB + one page; the offsets stand in native_asm.c */
    union {
        struct diff_xsave x;
        uint8_t room0[0x400];
    };
    union {
        struct diff_xsave out_x;
        uint8_t room1[0x400];
    };
    uint64_t gpr[16], out_gpr[16];
    uint64_t rip, rflags, fs_base, gs_base;
    uint64_t out_rflags, out_fs_base, out_gs_base;
    uint16_t out_sel[4]; /* ES DS FS GS */
    uint64_t host_sp, host_fs;
    void (*on_signal)(int, void *, void *);
    uint32_t mxcsr;
    uint32_t pad0;
    uint32_t far_ip;
    uint16_t far_sel;
    uint8_t pad1[10];
    uint16_t sel[4], ss, out_ss;
    uint32_t pad2;
    uint64_t signal_fs; /* FS base of what a signal interrupted */
    uint8_t stack[0x1000] __attribute__((aligned(64)));
};

extern const uint8_t native_stub_begin[], native_stub_end[], native_enter64[], native_enter32[],
    native_resume[], native_signal[];

#endif
