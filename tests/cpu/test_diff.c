/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random instructions on the host's processor and on the software CPU must end alike.
 *
 * usage: test_cpu_diff [CASES [SEED [MNEMONIC]]]    (or VIV_DIFF_CASES, VIV_DIFF_SEED in the
 * environment) The same seed gives the same cases. Cases are one instruction, or up to eight in a
 * row; a quarter are in compatibility mode, an eighth are 16-bit code. A host that cannot (no
 * FSGSBASE or AVX2) skips the test and says so; one that runs 64-bit programs only compares those.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/diff/diff.h"

enum { DEFAULT_CASES = 1000000, MAX_REPORTS = 20, MAX_LOST = 50, SKIPPED = 77 };

struct run {
    struct diff_gen *gen;
    struct diff_batch *batch;
    struct diff_result *guest; /* as many as a batch has cases */
    uint64_t cases, differ, faults, lost, unsteady;
    uint32_t *by_row;
};

static uint64_t setting(int argc, char **argv, int arg, const char *name, uint64_t otherwise) {
    const char *text = argc > arg ? argv[arg] : getenv(name);

    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static void fill_batch(struct run *run, uint64_t left) {
    static const uint8_t modes[8] = {8, 8, 4, 8, 2, 8, 4, 8};
    struct diff_batch *b = run->batch;

    b->count = left < DIFF_BATCH ? (uint32_t)left : DIFF_BATCH;
    diff_gen_data(run->gen, b);
    for (uint32_t i = 0; i < b->count; i++) {
        unsigned mode = modes[(run->cases + i) % 8];
        while (!diff_gen_has_rows(run->gen, mode))
            mode = mode == 2 ? 8 : mode / 2;
        diff_generate(run->gen, &b->cases[i], mode, (run->cases + i) % 3 ? 1 : DIFF_MAX_INSNS);
    }
    guest_load(b);
}

/* A processor gives the same answer every time. A host that is a guest itself does not: it loses
 * the segments' bases of a case now and then, or says of INT1 that it was not passed yet. It did
 * not mean it if the results agree another time. */
static bool agrees_another_time(struct run *run, uint32_t i) {
    struct diff_batch *b = run->batch;

    for (unsigned tries = 3; tries; tries--) {
        native_start(b);
        if (native_wait() < 0)
            return false;
        if (diff_compare(b, &b->cases[i], &b->native[i], &run->guest[i], false)) {
            run->unsteady++;
            return true;
        }
    }
    return false;
}

static void compare_batch(struct run *run) {
    const struct diff_batch *b = run->batch;

    for (uint32_t i = 0; i < b->count; i++) {
        const struct diff_case *k = &b->cases[i];
        uint64_t serial = run->cases + i;
        if (b->native[i].vector == DIFF_DIED && !diff_in_machinery(&run->guest[i])) {
            run->lost++;
            printf("the child that runs code natively died or hung in a case that begins with %s "
                   "(case %llu); a new one goes on after it\n",
                   insn_rows[k->row[0]].mnemonic, (unsigned long long)serial);
            continue;
        }
        if (b->native[i].vector < 32)
            run->faults++;
        if (diff_compare(b, k, &b->native[i], &run->guest[i], false) || agrees_another_time(run, i))
            continue;
        diff_compare(b, k, &b->native[i], &run->guest[i], run->differ < MAX_REPORTS);
        run->differ++;
        run->by_row[k->row[k->insns - 1]]++;
    }
    run->cases += b->count;
}

static int run_cases(struct run *run, uint64_t cases) {
    while (run->cases < cases) {
        fill_batch(run, cases - run->cases);
        native_start(run->batch);
        for (uint32_t i = 0; i < run->batch->count; i++)
            guest_run(&run->batch->cases[i], &run->guest[i]);
        int r = native_wait();
        if (r < 0) {
            printf("there is no child to run code natively: %s\n", strerror(-r));
            return r;
        }
        compare_batch(run);
        if (run->lost > MAX_LOST) {
            printf("the child that runs code natively died too often; the run ends here\n");
            return -ECHILD;
        }
    }
    return 0;
}

static void drop_modes_of_others(struct run *run) {
    for (unsigned mode = 8; mode >= 2; mode /= 2)
        if (!native_has_mode(mode)) {
            printf("# %u-bit code is left out: this host's kernel runs none\n", mode * 8);
            diff_gen_without(run->gen, mode);
        }
}

static void print_failing_rows(const struct run *run) {
    for (unsigned i = 0; i < insn_row_count; i++)
        if (run->by_row[i])
            printf("%u of them end with %s (row %u)\n", run->by_row[i], insn_rows[i].mnemonic, i);
}

int main(int argc, char **argv) {
    uint64_t cases = setting(argc, argv, 1, "VIV_DIFF_CASES", DEFAULT_CASES);
    uint64_t seed = setting(argc, argv, 2, "VIV_DIFF_SEED", 1);
    unsigned covered, left_out;
    struct run run = {0};
    int r = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (native_open(&run.batch) < 0) {
        printf("skipped: the host's processor has no FSGSBASE or no AVX2, or memory is short\n");
        return SKIPPED;
    }
    if (guest_open() < 0)
        return 1;
    run.gen = diff_gen_new(seed);
    run.guest = calloc(DIFF_BATCH, sizeof(*run.guest));
    run.by_row = calloc(insn_row_count, sizeof(*run.by_row));
    drop_modes_of_others(&run);
    if (argc > 3)
        diff_gen_only(run.gen, argv[3]);
    printf("seed %llu, %llu cases\n", (unsigned long long)seed, (unsigned long long)cases);
    if (diff_gen_has_rows(run.gen, 8) || diff_gen_has_rows(run.gen, 4) ||
        diff_gen_has_rows(run.gen, 2))
        r = run_cases(&run, cases);
    diff_gen_report(run.gen, &covered, &left_out);
    print_failing_rows(&run);
    printf("%llu cases, %llu of them ended by an exception; %u rows covered, %u not\n",
           (unsigned long long)run.cases, (unsigned long long)run.faults, covered, left_out);
    if (run.unsteady)
        printf("# %llu results of the host's were others when they were asked for again\n",
               (unsigned long long)run.unsteady);
    printf("%llu passed, %llu failed\n", (unsigned long long)(run.cases - run.differ - run.lost),
           (unsigned long long)(run.differ + run.lost));
    native_close();
    guest_close();
    diff_gen_free(run.gen);
    free(run.guest);
    free(run.by_row);
    return r < 0 || run.differ || run.lost ? 1 : 0;
}
