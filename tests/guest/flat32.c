/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A 32-bit Linux program without a C library, which test_compat.py runs in a 64-bit guest: integer
 * code, calls through pointers, thread-local storage in GS, system calls by INT 80h. */

typedef unsigned int u32;
typedef unsigned long long u64;

enum { SYS_EXIT = 1, SYS_WRITE = 4, SYS_GETPPID = 64, SYS_SET_THREAD_AREA = 243 };
enum { COUNT = 50000, ROUNDS = 20000 };

static u32 table[256], numbers[COUNT], tls[8];

static int call(u32 number, u32 a, const void *b, u32 c) {
    int result;

    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

static void show(const char *name, u32 value) {
    char line[32];
    u32 n = 0;

    while (*name)
        line[n++] = *name++;
    for (int shift = 28; shift >= 0; shift -= 4)
        line[n++] = "0123456789abcdef"[value >> shift & 15];
    line[n++] = '\n';
    call(SYS_WRITE, 1, line, n);
}

static u32 crc(u32 sum, const unsigned char *p, u32 n) {
    while (n--)
        sum = sum >> 8 ^ table[(sum ^ *p++) & 255];
    return sum;
}

static void test_crc(void) {
    u32 sum = ~0u;

    for (u32 i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
    }
    for (u32 i = 0; i < ROUNDS; i++)
        if ((sum = crc(~0u, (const unsigned char *)"123456789", 9)) != ~0xcbf43926)
            break;
    show("crc ", ~sum);
}

static int ascending(const u32 *a, const u32 *b) { return *a < *b ? -1 : *a > *b; }

static int descending(const u32 *a, const u32 *b) { return ascending(b, a); }

static void sort(u32 *a, int n, int (*compare)(const u32 *, const u32 *)) {
    while (n > 1) {
        u32 pivot = a[n / 2], swap;
        int i = 0, j = n - 1;
        while (i <= j) {
            while (compare(&a[i], &pivot) < 0)
                i++;
            while (compare(&pivot, &a[j]) < 0)
                j--;
            if (i <= j) {
                swap = a[i];
                a[i++] = a[j];
                a[j--] = swap;
            }
        }
        sort(a, j + 1, compare);
        a += i;
        n -= i;
    }
}

static void test_sort(void) {
    u32 seed = 1, wrong = 0;
    u64 mix = 1;

    for (u32 i = 0; i < COUNT; i++)
        numbers[i] = seed = seed * 1664525 + 1013904223;
    sort(numbers, COUNT, ascending);
    for (u32 i = 1; i < COUNT; i++)
        wrong += numbers[i - 1] > numbers[i];
    for (u32 i = 0; i < COUNT; i++)
        mix = (mix ^ numbers[i]) * 6364136223846793005ull;
    sort(numbers, COUNT, descending);
    for (u32 i = 1; i < COUNT; i++)
        wrong += numbers[i - 1] < numbers[i];
    show("unsorted ", wrong);
    show("mix ", (u32)(mix >> 32));
}

/* GS gets a base; offsets below 0 wrap around 4 GiB, as the C library's do. */
static void test_tls(void) {
    struct {
        u32 entry, base, limit, flags;
    } area = {~0u, (u32)&tls[4], 0xfffff, 0x51};
    u32 value = 0;

    if (call(SYS_SET_THREAD_AREA, (u32)&area, 0, 0) != 0)
        return;
    __asm__ volatile("mov %w0, %%gs" ::"r"(area.entry * 8 + 3));
    for (u32 i = 0; i < ROUNDS; i++)
        __asm__ volatile("addl $3, %%gs:-4\n add %%gs:-4, %0\n incl %%gs:4"
                         : "+r"(value)::"memory");
    show("tls ", value);
    show("below ", tls[3]);
    show("above ", tls[5]);
}

void __attribute__((used)) main32(void) {
    u32 parent = (u32)call(SYS_GETPPID, 0, 0, 0), same = 0;

    test_crc();
    test_sort();
    test_tls();
    for (u32 i = 0; i < ROUNDS; i++)
        same += (u32)call(SYS_GETPPID, 0, 0, 0) == parent;
    show("calls ", same);
    call(SYS_EXIT, 5, 0, 0);
}

__asm__(".globl _start\n_start: call main32");
