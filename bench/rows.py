# SPDX-License-Identifier: GPL-2.0-or-later
"""What make bench measures and what it must reach: the one table. A new row is one line here, and a
function in guest/ if it is a kernel.

rate      what the n units are a second on the wall, per_unit how many of it one unit is
kind      how it is measured (run)
  boot      CPU time from exec to the mark of the guest that the key names, boot-tiny or boot-debian
  kernel    CPU time of one kernel of guest/ with n units of work in the tiny guest; also natively
  program   CPU time of a shell command in Debian; also natively where this host has the program,
            whose name is the key
  state     a figure of the idle Debian guest
"""
import collections

Row = collections.namedtuple("Row", "key group title kind n arg unit rate per_unit",
                             defaults=(0, "-", "s", None, 1))

ROWS = [
    Row("boot-tiny", "boot", "exec to init (kernel, busybox initramfs)", "boot"),
    Row("boot-debian", "boot", "exec to login: of Debian 12", "boot"),

    Row("alu", "integer", "integer loop in registers", "kernel", 20_000_000),
    Row("sort", "integer", "qsort with callback", "kernel", 40),
    Row("hash", "integer", "hash table", "kernel", 2_000_000),
    Row("crc", "integer", "CRC-32 from a table", "kernel", 800),
    Row("sha256", "integer", "SHA-256", "kernel", 2500),
    Row("interp", "integer", "bytecode interpreter", "kernel", 1_000_000),
    Row("calls", "integer", "recursive calls", "kernel", 2000),
    Row("strings", "integer", "memcpy, strlen, memchr, memcmp", "kernel", 60_000),
    Row("lz", "integer", "LZ77 pack and unpack", "kernel", 150),

    Row("matmul", "FP and SIMD", "matrix product, scalar double", "kernel", 120),
    Row("mandelbrot", "FP and SIMD", "Mandelbrot, scalar double", "kernel", 60),
    Row("math", "FP and SIMD", "libm: sin exp log pow atan cos", "kernel", 400_000),
    Row("sse2-int", "FP and SIMD", "SSE2 integer loop", "kernel", 15_000),
    Row("sse-float", "FP and SIMD", "SSE float loop", "kernel", 3000),
    Row("avx2", "FP and SIMD", "AVX2 loop", "kernel", 20_000),

    Row("syscall", "system", "system call (getppid)", "kernel", 200_000),
    Row("fault", "system", "page fault on fresh memory", "kernel", 20_480),
    Row("forkexec", "system", "fork, exec, wait", "kernel", 60),
    Row("pipe", "system", "pipe ping-pong, two processes", "kernel", 10_000),
    Row("switch", "system", "context switch through a futex", "kernel", 10_000),
    Row("signal", "system", "signal to itself", "kernel", 30_000),

    Row("disk-read", "input and output", "4 KiB random disk reads, O_DIRECT", "kernel", 2000, "{disk}", rate="reads/s"),
    Row("tcp-out", "input and output", "TCP guest to host, 32 MiB", "kernel", 32 * 1024, "{server}",
        rate="MiB/s", per_unit=1 / 1024),
    Row("tcp-in", "input and output", "TCP host to guest, 32 MiB", "kernel", 32 * 1024, "{server}",
        rate="MiB/s", per_unit=1 / 1024),

    Row("python3", "programs", "python3: dictionaries and strings", "program", arg=(
        "python3 -c 'd={}\nfor i in range(60000):\n"
        " k=str(i*i%7919); d[k]=d.get(k,0)+i\nprint(sum(d.values()),len(d))'")),
    Row("perl", "programs", "perl: split, hash, sort", "program", arg=(
        "perl -e 'for $i (1..20000) { $h{$_}++ for split / /, \"a$i b\".($i%97).\" c\".($i*$i%991) } "
        "print join(\",\", (sort { $h{$b} <=> $h{$a} || $a cmp $b } keys %h)[0..9]), \"\\n\"'")),
    Row("gzip", "programs", "gzip -6 and back", "program",
        arg="seq 1 150000 | gzip -6 | gzip -dc | cksum"),
    Row("zstd", "programs", "zstd -3 and back", "program", arg="seq 1 600000 | zstd -3 | zstd -dc | cksum"),
    Row("openssl", "programs", "openssl sha512 of 8 MiB", "program",
        arg="head -c 8388608 /dev/zero | openssl dgst -sha512"),

    Row("rss", "idle Debian", "resident memory beyond guest RAM", "state", unit="MiB"),
    Row("private", "idle Debian", "private memory beyond guest RAM", "state", unit="MiB"),
    Row("idle", "idle Debian", "CPU of the idle guest", "state", unit="%"),
]

# What must hold, and what is aimed at (None: nothing more). measure:
#   ratio, value     a row's median of ours / peer, of ours alone
#   geomean, worst   of the ratios of a group
Goal = collections.namedtuple("Goal", "backend measure key limit aim text")

GOALS = [
    # The interpreter is the oracle of the tests; it has to be quick enough to live with.
    Goal("ref", "ratio", "boot-tiny", 12, None, "exec to init"),
    Goal("ref", "ratio", "boot-debian", 10, None, "exec to login"),
    Goal("ref", "value", "idle", 2, None, "idle guest"),
    Goal("soft", "ratio", "boot-tiny", 1 / 2.5, 1 / 5, "exec to init"),
    Goal("soft", "ratio", "boot-debian", 1 / 2.5, 1 / 5, "exec to login"),
    Goal("soft", "geomean", "FP and SIMD", 1 / 10, 1 / 20, "FP and SIMD, geometric mean"),
    Goal("soft", "geomean", "integer", 1 / 2.2, 1 / 3.5, "integer, geometric mean"),
    Goal("soft", "worst", "integer", 1, None, "integer, the worst row"),
    Goal("soft", "geomean", "system", 1 / 3, 1 / 8, "system, geometric mean"),
    Goal("soft", "worst", "system", 1, None, "system, the worst row"),
    Goal("soft", "geomean", "programs", 1 / 2.5, 1 / 4, "programs, geometric mean"),
    Goal("soft", "worst", "programs", 1 / 1.5, None, "programs, the worst row"),
    Goal("soft", "value", "private", 64, 16, "private memory beyond guest RAM"),
    Goal("soft", "value", "idle", 0.4, 0.2, "idle guest"),
]
