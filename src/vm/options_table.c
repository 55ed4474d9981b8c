/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of options, from which parsing, --help and the manual page come. */
#include "vm/options_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/man.h"
#include "cpu/cpu.h"
#include "vm/passed.h"

#define PART_HELP(id, name, help) " " name " (" help ")"

const struct option options_table[] = {
    {"name", "N", option_name, "name of the machine, in messages", "--name web"},
    {"log-format", "text|json", option_log_format,
     "how messages are written: json is an object a line with time, level, component, name and "
     "message",
     "--log-format json"},
    {"cpus", "N[,max=M]", option_cpus,
     "number of processors, 1 to 32; may be more than the host has. max: 'viv-ctl PATH cpus-set' "
     "changes it up to there while the guest runs",
     "--cpus 2"},
    {"memory", "SIZE[,max=SIZE][,hugepages=2M|1G|thp|off][,thp=on|off][,lock=on|off]",
     option_memory,
     "RAM, 16M to 128G; default 512M. max: 'viv-ctl PATH memory-set' changes it up to there while "
     "the guest runs (virtio-mem). hugepages: 2M and 1G are pages of the host's pools, all taken "
     "at once; thp, the default, is huge where the kernel finds some; off, or thp=off, never. "
     "lock=on: it stays in the host's RAM. docs/placement.md says more",
     "--memory 2G,hugepages=2M"},
    {"numa",
     "node=N[,cpus=A-B][,memory=SIZE][,host-node=N][,policy=bind|preferred|interleave]"
     "[,distance=NODE:N]",
     option_numa,
     "a NUMA node of the guest; one option a node. Processors and memory are shared evenly if no "
     "node says what it has. host-node: its memory comes from that node of the host, and its "
     "processors run there",
     "--numa node=0,cpus=0-1,memory=1G,host-node=0 --numa node=1,cpus=2-3,memory=1G,host-node=1"},
    {"pin", "vcpuN=CPUS|vcpus=CPUS|io=CPUS[,...]", option_pin,
     "on which processors of the host the guest's may run, and all other threads (io). CPUS is "
     "2, 0-3 or 0+2",
     "--pin vcpu0=2,vcpu1=3,io=0-1"},
    {"priority", "fifo:N|rr:N|nice:N[,io=...]", option_priority,
     "of the threads of processors, and of all others (io): real-time from 1 to 99, or nice from "
     "-20 to 19",
     "--priority fifo:10,io=fifo:11"},
    {"cpu", "BACKEND", option_cpu,
     "what executes the guest: soft (the translator), ref (the interpreter, exact and slow), kvm "
     "(the "
     "host's processor, docs/kvm.md), or auto; default auto, --stats says what it "
     "chose and why",
     "--cpu ref"},
    {"cpu-model", "MODEL[,+FEATURE|,-FEATURE]...", option_cpu_model,
     "what the guest's CPUID offers: host (all that this host can execute and we implement), "
     "native (all that the host's KVM gives and snapshots can hold), "
     "x86-64-v3, x86-64-v2 or x86-64-v1 (the same on every host), and features more or less than "
     "that by their names in /proc/cpuinfo; default host",
     "--cpu-model x86-64-v2,+aes,-pcid"},
    {"dirty-log", "auto|on|ring|off[,prove]", option_dirty_log,
     "how it is known which pages of memory are written, so that an increment of a snapshot need "
     "not read the others: by KVM's log (on) or rings, or not (off); auto: with KVM from the first "
     "increment on, software always knows; default off; prove: the others are compared, too, and "
     "one that "
     "differs is an error",
     "--dirty-log on"},
    {"kernel", "FILE", option_kernel,
     "kernel to boot: Linux bzImage, multiboot kernel of version 1 or 2 (may be gzipped), or an "
     "ELF "
     "file with a PVH entry",
     "--kernel vmlinuz"},
    {"initrd", "FILE[ ARGUMENTS]", option_initrd,
     "initial RAM disk for the kernel; may be repeated. Linux gets all as one, a multiboot kernel "
     "each as a module, with the whole text as its string",
     "--initrd initrd.img"},
    {"firmware", "bios|uefi|FILE", option_firmware,
     "instead of a kernel: boot as a PC does, by SeaBIOS (bios), by UEFI firmware (uefi), or by a "
     "ROM image that ends at 4 GiB; docs/firmware.md says more",
     "--firmware bios --disk debian.raw"},
    {"cdrom", "FILE|none[,bus=sata|scsi|ide]", option_cdrom,
     "an optical drive with that image in it, or empty; may be repeated. 'viv-ctl PATH "
     "cdrom-change' changes the medium",
     "--firmware bios --cdrom debian-12-netinst.iso"},
    {"smbios", "type=N[,FIELD=TEXT]...", option_smbios,
     "what the guest's dmidecode shows; may be repeated. Types are 0 (BIOS), 1 (system: "
     "manufacturer, "
     "product, version, serial, uuid, sku, family), 2 (board), 3 (chassis), 4 (processor), 11 (OEM "
     "strings: value) and 17 (memory)",
     "--smbios type=1,serial=A-17,uuid=6f0d3a52-7c1e-4f0a-9d68-2a4c8e1b9f37"},
    {"boot", "order=LETTERS[,first=SERIAL][,menu=on|off]", option_boot,
     "what firmware tries, in this order: c disks, d optical drives, n network; default cdn. "
     "Disks with bootindex= come before, and before all the disk with that serial number (first). "
     "menu=on has the BIOS ask",
     "--boot order=dc"},
    {"uefi-vars", "FILE", option_uefi_vars,
     "keep the variables of UEFI firmware (boot entries, keys) there; a file that is missing is "
     "made. "
     "Without it they end with the machine",
     "--firmware uefi --uefi-vars web.vars"},
    {"firmware-log", "FILE", option_firmware_log,
     "append what firmware writes to its debug port (0x402)", "--firmware-log bios.log"},
    {"append", "STRING", option_append, "command line of the kernel",
     "--append 'root=/dev/vda console=ttyS0'"},
    {"disk",
     "FILE[,format=raw|qcow2][,readonly][,cache=writeback|none|unsafe][,aio=auto|io_uring|threads]"
     "[,discard=unmap|ignore][,on-error=enospc|report|pause][,queues=N][,serial=TEXT]"
     "[,bus=virtio|sata|scsi|nvme|ide][,unit=TARGET[:LUN]][,bootindex=N]"
     "[,iops[-read|-write]=N][,bps[-read|-write]=SIZE][,burst=SECONDS]",
     option_disk,
     "a disk on an image file; may be repeated: vda, vdb ... A comma in the name is written "
     "twice. cache=none goes past the host's cache, cache=unsafe never waits for the disk: a crash "
     "of the host may cost the image. discard=ignore keeps what the guest discards. Failures pause "
     "the "
     "machine if there is no room on the host (on-error=enospc, the default), always (pause) or "
     "never "
     "(report: the guest gets the error). queues, of 1 to 8, is how many the guest may use: one "
     "for each processor without it, but at least two. serial is what Linux calls it by: "
     "/dev/disk/by-id/virtio-TEXT. iops and bps limit requests and bytes a "
     "second; unused "
     "allowance is kept for the burst. docs/disks.md says more",
     "--disk debian.raw --disk data.raw,cache=none,iops=500,burst=10"},
    {"nic",
     "user[,mac=MAC][,forward=tcp|udp:ADDRESS:PORT:GUESTPORT]...[,bootfile=URL][,tftp=FOLDER]|"
     "link=PATH[,mac=MAC][,mtu=N]|none, with [,model=virtio|e1000e][,rom=FILE|none]",
     option_nic,
     "a network interface; may be repeated. user: behind user-mode NAT, with DHCP, 10.0.2.2 "
     "is the host; forwards open ports of the host. link: a cable to the switch (viv-net) whose "
     "socket PATH is, which may come and go; its MTU is 65520 if not given. Default none. bootfile "
     "is what "
     "DHCP tells firmware to boot, tftp a folder that TFTP at 10.0.2.2 shows. rom is an expansion "
     "ROM for firmware; docs/firmware.md says which is there if none is named",
     "--nic user,forward=tcp:127.0.0.1:2222:22"},
    {"serial", "stdio|file:PATH|unix:PATH|none", option_serial,
     "where the first serial port (ttyS0) goes; default stdio. Given again it adds the next one, "
     "up "
     "to four (COM1 to COM4). On stdio, Ctrl-] then q leaves, Ctrl-] twice sends one",
     "--serial unix:/tmp/web.serial"},
    {"serial-log", "FILE", option_serial_log,
     "keeps what the guest says on its first serial port in FILE as well, wherever it goes: the "
     "newest mebibyte, half of it in FILE.old. An earlier log is gone on with",
     "--serial unix:/tmp/web.serial --serial-log /tmp/web.log"},
    {"console", "stdio|file:PATH|unix:PATH|none", option_console,
     "adds a virtio console (hvc0) that goes there",
     "--console unix:/tmp/web.console --serial none"},
    {"balloon", NULL, option_balloon,
     "adds a virtio memory balloon: memory that the guest frees goes back to the host by itself, "
     "and "
     "'viv-ctl PATH balloon-set' takes some of it away for a time",
     "--balloon"},
    {"vsock", "unix:PATH[,cid=NUMBER]", option_vsock,
     "adds a virtio vsock. Programs of the host connect to PATH and say 'CONNECT <port>', a guest "
     "that connects to port N of the host (CID 2) reaches the socket PATH_N; cid is the guest's "
     "own "
     "address, default 3",
     "--vsock unix:/tmp/web.vsock"},
    {"share", "TAG=PATH[,ro]", option_share,
     "shares a folder of the host with the guest, which mounts it with 'mount -t virtiofs TAG "
     "/mnt'; ro: it cannot change anything. May be repeated. docs/share.md says who owns what",
     "--share src=/home/me/src"},
    {"device", "vfio=ADDRESS|vfio=UUID", options_add_device,
     "gives the guest a PCI device of the host (its address, as in lspci) or a mediated device, "
     "bound to vfio-pci. Guest memory is pinned for it, and there are no snapshots. May be "
     "repeated. docs/vfio.md",
     "--device vfio=0000:03:00.0"},
    {"display", "vnc=ADDRESS:PORT|vnc=unix:PATH[,password-file=PATH][,tls=FOLDER]|none",
     option_display,
     "gives the machine a screen, keyboard and mouse; VNC viewers connect there. May be given "
     "twice. The first line of "
     "the file is the password that they must know. tls: everything under TLS, with cert.pem and "
     "key.pem of the folder, made if there are none. none: nobody sees it but 'viv-ctl PATH "
     "screenshot'",
     "--display vnc=127.0.0.1:5900"},
    {"vga", "std|virtio|none", option_vga,
     "the display adapter: std is a VGA with a linear framebuffer (Bochs' display interface), "
     "virtio one for guests with a driver, whose size follows the viewer's window; default std "
     "with --display, else none",
     "--vga std --display none"},
    {"restore", "FOLDER", option_restore,
     "go on with a machine that was saved ('viv-ctl SOCKET snapshot FOLDER'); what other options "
     "do "
     "not say is as it was. --disk, --nic, --serial, --console, --share and --vsock attach "
     "other things of the host",
     "--restore /srv/web.monday --control unix:/tmp/web.ctl"},
    {"restore-only", "FILE", option_restore_only,
     "with --restore: the only file, folder or socket of the host that the snapshot may name where "
     "other options do not name one; may be repeated, and 'none' is one that it cannot name. "
     "Without "
     "it what whoever wrote the snapshot names there is used: give it for snapshots of others, and "
     "of machines that may have been broken into",
     "--restore /srv/web.monday --disk web.qcow2 --restore-only none"},
    {"renew-identity", NULL, option_renew_identity,
     "with --restore: the network interfaces get new MAC addresses, at random unless --nic says "
     "mac=, and their links go down for some seconds, so that the guest asks for its addresses "
     "again. "
     "For clones that meet each other; docs/snapshot.md says what the guest has to do",
     "--restore /srv/web.monday --renew-identity"},
    {"record-working-set", "SECONDS", option_record_working_set,
     "with --restore: write into the snapshot's folder which of its pages the machine touches in "
     "the "
     "first seconds, for --prefetch",
     "--restore /srv/web.monday --record-working-set 10"},
    {"prefetch", NULL, option_prefetch,
     "with --restore: load the pages that --record-working-set wrote down while the machine runs "
     "already, before it asks for them",
     "--restore /srv/web.monday --prefetch"},
    {"template", NULL, option_template,
     "with --restore and --control: run nothing, but fork a machine from the snapshot for each "
     "'viv-ctl PATH clone', which is quicker than to start viv-vm each time. docs/snapshot.md says "
     "more",
     "--restore /srv/web.monday --template --control unix:/srv/web.template"},
    {"control", "unix:PATH", option_control,
     "listen there for programs that look after the machine: viv-ctl PATH status, pause, resume, "
     "powerdown, reset, quit and more ('viv-ctl --help')",
     "--control unix:/tmp/web.ctl"},
    {"paused", NULL, option_paused, "do not run before 'viv-ctl PATH resume'",
     "--paused --control unix:/tmp/web.ctl"},
    {"speaker", "FILE", option_speaker,
     "write what the PC speaker plays into a WAV file; silence is cut to a second",
     "--speaker beeps.wav"},
    {"hpet", "on|off", option_hpet,
     "high precision event timers, for systems that want them; default off: Linux keeps better "
     "time "
     "by the TSC",
     "--hpet on"},
    {"smm", "on|off|auto", option_smm,
     "system management mode, behind which UEFI firmware keeps the variables of Secure Boot; "
     "default auto: with firmware that needs it",
     "--firmware uefi-secure --smm on"},
    {"no-reboot", NULL, option_no_reboot,
     "end with code 3 instead when the guest resets or crashes", "--no-reboot"},
    {"trace", "PATTERN", option_trace,
     "print trace events whose names match; may be repeated; 'help' lists them",
     "--trace 'virtio_*'"},
    {"no-jail", NULL, option_no_jail,
     "without namespaces and filters around the machine, for debugging: what breaks out of the "
     "guest may do what you may",
     "--no-jail"},
    {"jail-user", "USER", option_jail_user,
     "started by root: become this user, a name, UID or UID:GID; default a number of its own",
     "--jail-user vivarium"},
    {"stats", NULL, option_stats,
     "print counters, and the CPU backend with the reason for it, at the end", "--stats"},
    {"check", NULL, option_check,
     "with --cpu soft: what translated code does is done again by the interpreter and compared, "
     "the "
     "first 64 runs of each piece and one in 61 of the later ones; the first difference is printed "
     "with both states and ends the program with code 1",
     "--cpu soft --check"},
    {"check-all", NULL, option_check_all, "the same for every run, which is very slow",
     "--cpu soft --check-all"},
    {"dump", "guest|host|guest,host[:hot[:N]|:FIRST-LAST]", option_dump,
     "with --cpu soft: print guest instructions and the host's that they became: of the N blocks "
     "that did most (default 10) at the end, or of a range of guest addresses (hexadecimal) as it "
     "is translated",
     "--dump guest,host:ffffffff81000000-ffffffff81000fff"},
    {"count", NULL, option_count,
     "with --cpu soft: --stats with the runs of translated code, the share that was chained, and "
     "how often accesses of each kind hit; counting takes time",
     "--cpu soft --count"},
    {"perf-map", NULL, option_perf_map,
     "with --cpu soft: write /tmp/perf-PID.map, so that 'perf report' names translated code by its "
     "guest address",
     "--cpu soft --perf-map"},
    {"soft-debug", "PART[,PART]...", option_soft_debug,
     "leave parts of the translator out, to find which one is to blame:" CPU_DEBUG_PARTS(
         PART_HELP) ". Each is an option of its own, too",
     "--soft-debug no-chain,no-tier2"},
    {"debug-exit", NULL, option_debug_exit,
     "a 32-bit port at 0xf4: writing v ends the program with exit code (v<<1)|1", "--debug-exit"},
    {"version", NULL, option_version, "print the version and end", "--version"},
    {"help", NULL, option_help, "print this text and end", "--help"},
    {"help-man", NULL, option_help_man, "print this text as a manual page and end",
     "--help-man >viv-vm.1; man ./viv-vm.1"},
};

enum { OPTIONS = sizeof(options_table) / sizeof(options_table[0]) };

_Static_assert(OPTIONS <= 64, "options.given has a bit for each");

const struct option *option_find(const char *arg, const char **ret_value, struct error *err) {
    size_t n = strcspn(arg, "=");
    const char *ignored;
    uint32_t off;

    for (unsigned i = 0; i < OPTIONS; i++)
        if (strlen(options_table[i].name) == n && !strncmp(options_table[i].name, arg, n)) {
            *ret_value = arg[n] ? arg + n + 1 : NULL;
            return &options_table[i];
        }
    *ret_value = arg; /* --no-chain is --soft-debug no-chain */
    if (!arg[n] && strchr(arg, ',') == NULL && cpu_debug_parse(arg, &off, NULL) == 0)
        return option_find("soft-debug", &ignored, NULL);
    error_set(err, -EINVAL, "there is no option '--%.*s': 'viv-vm --help' lists them all",
              (int)(n < 60 ? n : 60), arg);
    return NULL;
}

bool options_given(const struct options *o, const char *name) {
    for (unsigned i = 0; i < OPTIONS; i++)
        if (!strcmp(options_table[i].name, name))
            return o->given >> i & 1;
    return false;
}

/* What stands before and behind the table, in --help and in the manual page. */
static const char usage[] = "viv-vm --kernel FILE [OPTION]...";

static const char example[] =
    "viv-vm --memory 1G --kernel vmlinuz --initrd initrd.img \\\n"
    "    --append 'root=LABEL=root console=ttyS0' --disk debian12.raw \\\n"
    "    --nic user,forward=tcp:127.0.0.1:2222:22\n";

static const struct {
    const char *what, *meaning;
} signals[] =
    {
        {"SIGTERM, SIGHUP",
         "press the guest's power button; the second one ends the program with code 1"},
        {"SIGUSR1", "goes on after a pause for a failure of a disk (--disk, on-error)"},
        {"SIGINT", "ends the program with code 1; the guest is not shut down"},
},
  codes[] = {
      {"0", "the guest powered off, or the user left with Ctrl-] q"},
      {"1", "viv-vm itself failed, or was ended by a signal"},
      {"2", "a bad option, or a file that cannot be used"},
      {"3", "under --no-reboot: the guest crashed (triple fault, panic) or asked for a reset"},
      {"other", "what the guest wrote to the port of --debug-exit"},
};

void options_help(FILE *f) {
    fprintf(f, "viv-vm runs one virtual machine.\n\nusage: %s\n\n", usage);
    for (unsigned i = 0; i < OPTIONS; i++)
        fprintf(f, "  --%s%s%s\n      %s.\n      example: %s\n", options_table[i].name,
                options_table[i].value ? " " : "",
                options_table[i].value ? options_table[i].value : "", options_table[i].help,
                options_table[i].example);
    fprintf(
        f,
        "\nA Debian guest with its disk, its network, and its ssh on port 2222 of this host:\n  %s",
        example);
    fprintf(f, "\nSignals:\n");
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        fprintf(f, "  %-16s%s\n", signals[i].what, signals[i].meaning);
    fprintf(f, "\nExit codes:\n");
    for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        fprintf(f, "  %-7s%s\n", codes[i].what, codes[i].meaning);
}

void options_help_man(FILE *f) {
    char name[40];

    man_begin(f, "viv-vm", "run one virtual machine", usage + strlen("viv-vm "));
    fputs(".SH OPTIONS\n", f);
    for (unsigned i = 0; i < OPTIONS; i++) {
        snprintf(name, sizeof(name), "--%s", options_table[i].name);
        man_item(f, name, options_table[i].value, options_table[i].help);
        fputs(".br\nExample: \n.B \"", f);
        man_text(f, options_table[i].example);
        fputs("\"\n", f);
    }
    fputs(".SH EXAMPLE\nA Debian guest with its disk, its network, and its ssh on port 2222 of "
          "this host:\n.PP\n.nf\n",
          f);
    man_text(f, example);
    fputs(".fi\n.SH SIGNALS\n", f);
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        man_item(f, signals[i].what, NULL, signals[i].meaning);
    fputs(".SH EXIT STATUS\n", f);
    for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        man_item(f, codes[i].what, NULL, codes[i].meaning);
}
