# SPDX-License-Identifier: GPL-2.0-or-later
"""What make bench measures and what it must reach: the one table. A new row is one line here, and a
function in guest/ if it is a kernel.

rate      what the n units are a second on the wall, per_unit how many of it one unit is
work      for a program that decides itself how much it does: the pattern of its counts (machine.per_work)
kind      how it is measured (run)
  boot      CPU time from exec to the mark of the guest that the key names, boot-tiny or boot-debian
  kernel    CPU time of one kernel of guest/ with n units of work in the tiny guest; also natively
  program   CPU time of a shell command in Debian, on the programs that guest.sh --bench collects;
            also natively, on the very same files
  state     a figure of the idle Debian guest
  restore   CPU time from exec to where a saved Debian executes its next instruction (saved.py)
  clones    a figure of clones of that Debian, of viv-vm alone
"""
import collections
from shlex import quote

Row = collections.namedtuple("Row", "key group title kind n arg unit rate per_unit work",
                             defaults=(0, "-", "s", None, 1, None))

# What the compressors work on: object code with its symbols, as it comes with the compiler.
LIBC = "/usr/lib/x86_64-linux-gnu/libc.a"

PYTHON = """
import json, re
words = ["w%d" % (i * i % 7919) for i in range(300000)]
count = {}
for w in words: count[w] = count.get(w, 0) + 1
text = json.dumps(sorted(count.items(), key=lambda x: (-x[1], x[0])))
class P:
    def __init__(self): self.x = 1
    def step(self): self.x = self.x * 31 % 65521; return self.x
p = P()
print(len(json.loads(text)), sum(map(int, re.findall(r"w(\d+)", text))), sum(p.step() for _ in range(800000)))
"""

PERL = """
for $i (1..80000) { $h{$_}++ for split / /, "a$i b".($i%97)." c".($i*$i%991) }
$t = join(",", map { "$_=$h{$_}" } sort { $h{$b} <=> $h{$a} || $a cmp $b } keys %h);
$n++ while $t =~ /b(\d+)=(\d+)/g;
$t =~ s/a(\d+)=1,/$1;/g;
print length($t), " $n ", unpack("%32C*", $t), "\n"
"""

SQL = """
create table t(id integer primary key, k text, v int);
with recursive c(i) as (select 1 union all select i+1 from c where i<80000)
 insert into t select i, 'key' || (i*7919%10007), i*i%1009 from c;
create index ix on t(k);
select count(*), sum(v) from t where k like '%7%';
select k, sum(v) s from t group by k order by s desc, k limit 3;
select count(*) from t a join t b on a.k=b.k and a.id<b.id where a.v<300;
update t set v=v+1 where id%3=0;
delete from t where id%5=0;
select sum(v), count(*) from t;
"""

ROWS = [
    Row("boot-tiny", "boot", "exec to init (kernel, busybox initramfs)", "boot"),
    Row("boot-debian", "boot", "exec to login: of Debian 12", "boot"),

    Row("sort", "integer", "qsort with callback", "kernel", 40),
    Row("hash", "integer", "hash table", "kernel", 4_000_000),
    Row("crc", "integer", "CRC-32 from a table", "kernel", 800),
    Row("sha256", "integer", "SHA-256", "kernel", 2500),
    Row("interp", "integer", "bytecode interpreter", "kernel", 1_000_000),
    Row("calls", "integer", "recursive calls", "kernel", 2000),
    Row("strings", "integer", "memcpy and strlen", "kernel", 300_000),
    Row("lz", "integer", "LZ77 pack and unpack", "kernel", 250),

    Row("matmul", "FP and SIMD", "matrix product, scalar double", "kernel", 120),
    Row("mandelbrot", "FP and SIMD", "Mandelbrot, scalar double", "kernel", 180),
    Row("math", "FP and SIMD", "libm: sin exp log pow atan cos", "kernel", 400_000),
    Row("sse2-int", "FP and SIMD", "SSE2 integer loop", "kernel", 45_000),
    Row("sse-float", "FP and SIMD", "SSE float loop", "kernel", 18_000),
    Row("avx2", "FP and SIMD", "AVX2 loop", "kernel", 30_000),

    Row("syscall", "system", "system call (getppid)", "kernel", 400_000),
    Row("fault", "system", "page fault on fresh memory", "kernel", 20_480),
    Row("forkexec", "system", "fork, exec, wait", "kernel", 60),
    Row("pipe", "system", "pipe ping-pong, two processes", "kernel", 10_000),
    Row("switch", "system", "context switch through a futex", "kernel", 10_000),
    Row("signal", "system", "signal to itself", "kernel", 30_000),

    Row("disk-read", "disk", "4 KiB random reads, one at a time", "kernel", 2000, "{disk}", rate="IO/s"),
    Row("disk-read-32", "disk", "4 KiB random reads, 32 at a time", "kernel", 8000, "{disk}", rate="IO/s"),
    Row("disk-read-seq", "disk", "1 MiB sequential reads", "kernel", 400, "{disk}", rate="MiB/s"),
    Row("disk-write", "disk", "4 KiB random writes, one at a time", "kernel", 2000, "{scratch}", rate="IO/s"),
    Row("disk-write-32", "disk", "4 KiB random writes, 32 at a time", "kernel", 8000, "{scratch}", rate="IO/s"),
    Row("disk-write-seq", "disk", "1 MiB sequential writes", "kernel", 200, "{scratch}", rate="MiB/s"),
    Row("qcow2-read", "disk, qcow2", "4 KiB random reads, one at a time", "kernel", 2000, "{qcow2}", rate="IO/s"),
    Row("qcow2-read-32", "disk, qcow2", "4 KiB random reads, 32 at a time", "kernel", 8000, "{qcow2}", rate="IO/s"),
    Row("qcow2-read-seq", "disk, qcow2", "1 MiB sequential reads", "kernel", 400, "{qcow2}", rate="MiB/s"),
    Row("qcow2-write", "disk, qcow2", "4 KiB random writes, one at a time", "kernel", 2000, "{qcow2}", rate="IO/s"),
    Row("qcow2-write-32", "disk, qcow2", "4 KiB random writes, 32 at a time", "kernel", 8000, "{qcow2}", rate="IO/s"),
    Row("qcow2-write-seq", "disk, qcow2", "1 MiB sequential writes", "kernel", 200, "{qcow2}", rate="MiB/s"),
    Row("tcp-out", "input and output", "TCP guest to host, 32 MiB", "kernel", 32 * 1024, "{server}",
        rate="MiB/s", per_unit=1 / 1024),
    Row("tcp-in", "input and output", "TCP host to guest, 32 MiB", "kernel", 32 * 1024, "{server}",
        rate="MiB/s", per_unit=1 / 1024),

    Row("alu", "apart from the groups", "integer loop in registers", "kernel", 40_000_000),

    Row("python3", "programs", "python3: dictionaries, objects, JSON, re", "program", arg=f"python3 -c {quote(PYTHON)}"),
    Row("sqlite3", "programs", "sqlite3: insert, index, join, update", "program", arg=f"sqlite3 :memory: {quote(SQL)}"),
    Row("gzip", "programs", "gzip -6 and back", "program", arg=(
        f"head -c 5000000 {LIBC} | gzip -6 >gz && gzip -dc gz | cksum && cksum gz")),
    Row("xz", "programs", "xz -6 and back", "program", arg=(
        f"head -c 500000 {LIBC} | xz -T1 -6 >xz && xz -dc xz | cksum && cksum xz")),
    Row("zstd", "programs", "zstd -9 and back", "program", arg=(
        f"zstd -q -9 --single-thread <{LIBC} >zst && zstd -q -dc zst | cksum && cksum zst")),
    # n brings its seconds near those of the other rows; only the ratios of this one mean something.
    Row("openssl", "programs", "openssl speed: sha256, aes-256-cbc, rsa2048", "program", 2_500,
        "openssl speed -mr -seconds 1 -bytes 8192 sha256 aes-256-cbc rsa2048 2>&1", work=r"^\+R\d?:(\d+):"),
    Row("gcc", "programs", "gcc -O1 compiles stb_sprintf", "program", arg=(
        "gcc -O1 -c -DSTB_SPRINTF_IMPLEMENTATION -o o -x c /usr/include/stb/stb_sprintf.h && cksum o")),
    Row("perl", "programs", "perl: split, hash, sort, re", "program", arg=f"perl -e {quote(PERL)}"),

    Row("rss", "idle Debian", "resident memory beyond guest RAM", "state", unit="MiB"),
    Row("private", "idle Debian", "private memory beyond guest RAM", "state", unit="MiB"),
    Row("idle", "idle Debian", "CPU of the idle guest", "state", unit="%"),

    Row("restore", "saved Debian of 512 MiB", "exec to the first instruction of a restored guest", "restore"),
    Row("forks", "saved Debian of 512 MiB", "50 clones forked at once, each with its disk", "clones", unit="/s"),
    Row("fork-cpu", "saved Debian of 512 MiB", "CPU time of each", "clones"),
    Row("fork-memory", "saved Debian of 512 MiB", "private memory of each", "clones", unit="MiB"),
    Row("fork-memory-5", "saved Debian of 512 MiB", "... when they have run for five seconds", "clones", unit="MiB"),
]

# What must hold, and what is aimed at (None: nothing more). measure:
#   ratio, value     a row's median of ours / peer, of ours alone
#   rate             the same as value, where more is better
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
    Goal("soft", "worst", "disk", 1 / 3, None, "disks, the worst row"),
    Goal("soft", "worst", "disk, qcow2", 1 / 3, None, "disks in qcow2 images, the worst row"),
    Goal("soft", "value", "private", 64, 16, "private memory beyond guest RAM"),
    Goal("soft", "value", "idle", 0.4, 0.2, "idle guest"),
    Goal("soft", "ratio", "restore", 1 / 15, None, "exec to the first instruction of a restored guest"),
    Goal("soft", "rate", "forks", 100, None, "clones a second"),
    Goal("soft", "value", "fork-memory", 4, None, "private memory of a clone before it diverges"),
]
