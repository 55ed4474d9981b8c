/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every command of viv, and what is derived from a row of it: its flags. */
#include <string.h>

#include "cli/cli.h"

#define NO_WAIT                                                                                    \
    { .name = "no_wait", .type = FIELD_BOOL, .help = "do not wait until it is done" }
#define QUIET                                                                                      \
    { .name = "quiet", .type = FIELD_BOOL, .help = "print names alone" }

#define ENV                                                                                        \
    {                                                                                              \
        .name = "env", .type = FIELD_STRING, .flags = FIELD_REPEAT, .min = 1, .max = 100000,       \
        .pattern = "^[^=]+(=.*)?$",                                                                \
        .help =                                                                                    \
            "NAME=VALUE in the command's environment, or NAME for the value that it has here; "    \
            "also -e; may be given several times"                                                  \
    }

static const struct field no_wait[] = {NO_WAIT, {0}};
#define YAML                                                                                       \
    { .name = "yaml", .type = FIELD_BOOL, .help = "print what 'viv apply' takes, as YAML" }
#define FILES                                                                                      \
    {                                                                                              \
        .name = "file", .type = FIELD_STRING, .flags = FIELD_REPEAT, .min = 1, .max = 4000,        \
        .help = "YAML or JSON with what is wanted, a folder of such files, or - for standard "     \
                "input; may be given several times; also -f"                                       \
    }

static const struct field build_flags[] = {
    NO_WAIT,
    {.name = "name",
     .type = FIELD_STRING,
     .min = 1,
     .max = 63,
     .pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
     .help = "what it is called, if not as what it is made of"},
    {0}};
static const struct field quiet[] = {QUIET, {0}};
static const struct field list_flags[] = {QUIET, YAML, {0}};
static const struct field event_flags[] = {{.name = "number",
                                            .type = FIELD_INT,
                                            .min = 1,
                                            .max = 1000,
                                            .help = "how many of the newest, with --newest alone "
                                                    "20; also -n"},
                                           {0}};
static const struct field show_flags[] = {YAML, {0}};
#define SET                                                                                        \
    {                                                                                              \
        .name = "set", .type = FIELD_STRING, .min = 1, .max = 63,                                  \
        .pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",                                             \
        .help = "name under which it is remembered what was made; without one the paths of the "   \
                "files give it"                                                                    \
    }
static const struct field apply_flags[] = {
    FILES,
    {.name = "prune",
     .type = FIELD_BOOL,
     .help = "delete what an earlier apply of the same set made and the files have no more; it is "
             "asked before"},
    {.name = "yes", .type = FIELD_BOOL, .help = "do not ask before something is deleted; also -y"},
    SET,
    {.name = "dry_run", .type = FIELD_BOOL, .help = "say what would be done, and do nothing"},
    NO_WAIT,
    {0}};
static const struct field diff_flags[] = {FILES,
                                          {.name = "prune",
                                           .type = FIELD_BOOL,
                                           .help = "show as well what 'viv apply --prune' would "
                                                   "delete"},
                                          SET,
                                          {.name = "color",
                                           .type = FIELD_CHOICE,
                                           .choices = "auto|always|never",
                                           .standard = "\"auto\"",
                                           .help = "auto: on a terminal, unless NO_COLOR is set"},
                                          {0}};
static const struct field create_flags[] = {
    {.name = "start", .type = FIELD_BOOL, .help = "start it as well"},
    {.name = "template",
     .type = FIELD_STRING,
     .min = 1,
     .max = 63,
     .help = "name of a template, another word for --image"},
    NO_WAIT,
    {0}};
static const struct field clone_flags[] = {
    {.name = "linked", .type = FIELD_BOOL, .help = "share what is the same, the standard"},
    {.name = "full", .type = FIELD_BOOL, .help = "copy everything, so that nothing is shared"},
    {.name = "live",
     .type = FIELD_BOOL,
     .help = "go on from the memory of the machine, which runs on"},
    NO_WAIT,
    {0}};
static const struct field run_flags[] = {
    {.name = "name",
     .type = FIELD_STRING,
     .min = 1,
     .max = 63,
     .pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
     .help = "of the machine; by default that of the image, with a number behind it if need be"},
    {.name = "rm", .type = FIELD_BOOL, .help = "delete the machine when it has ended"},
    {.name = "detach",
     .type = FIELD_BOOL,
     .help = "leave it running, do not attach to it; also -d"},
    ENV,
    {.name = "tty",
     .type = FIELD_BOOL,
     .help = "give the command a terminal, which it has anyway if viv has one; also -t"},
    {0}};

static const struct field logs_flags[] = {
    {.name = "vm",
     .type = FIELD_BOOL,
     .help = "print what viv-vm said since the last start instead: warnings, errors, crashes"},
    {0}};

#define WAIT_AGENT                                                                                 \
    {                                                                                              \
        .name = "wait-agent", .type = FIELD_INT, .max = 3600,                                      \
        .help = "seconds to wait at most for the agent of a machine that boots; by default until " \
                "120 after its start"                                                              \
    }
static const struct field exec_flags[] = {
    {.name = "tty", .type = FIELD_BOOL, .help = "give the command a terminal; also -t"},
    {.name = "user",
     .type = FIELD_STRING,
     .min = 1,
     .max = 64,
     .help = "of the guest who runs it; also -u"},
    {.name = "workdir",
     .type = FIELD_STRING,
     .min = 1,
     .max = 1000,
     .help = "folder of the guest that it begins in; also -w"},
    ENV,
    WAIT_AGENT,
    {0}};
static const struct field cp_flags[] = {
    {.name = "recursive",
     .type = FIELD_BOOL,
     .help = "copy folders with all that is in them: permissions and times as they are, the owner "
             "whoever writes; also -r"},
    WAIT_AGENT,
    {0}};
static const struct field ssh_flags[] = {
    {.name = "user",
     .type = FIELD_STRING,
     .min = 1,
     .max = 64,
     .help = "to log in as, by default the one that --user and --ssh-key made, else root; also -u"},
    {.name = "identity",
     .type = FIELD_STRING,
     .min = 1,
     .max = 4095,
     .help = "file with a private key to log in with, beside those that ssh finds; also -i"},
    WAIT_AGENT,
    {0}};
static const struct field top_flags[] = {
    {.name = "once", .type = FIELD_BOOL, .help = "print one table and end"},
    {.name = "interval",
     .type = FIELD_INT,
     .min = 1,
     .max = 3600,
     .standard = "2",
     .help = "seconds between two looks"},
    {.name = "history", .type = FIELD_BOOL, .help = "show what was used in the past, and end"},
    {.name = "last",
     .type = FIELD_INT,
     .min = 60,
     .max = 366ll * 86400,
     .standard = "3600",
     .help = "with --history: seconds to look back"},
    {0}};

static const struct field vnc_flags[] = {{.name = "port",
                                          .type = FIELD_INT,
                                          .max = 65535,
                                          .standard = "0",
                                          .help = "of this host; by default one that is free"},
                                         {0}};
static const struct field portal_flags[] = {
    {.name = "close", .type = FIELD_BOOL, .help = "listen to the network no more"}, {0}};
static const struct field forward_flags[] = {
    {.name = "vm", .type = FIELD_STRING, .min = 1, .max = 63, .help = "those of this machine"},
    {0}};

const struct cli_command cli_commands[] = {
    {"run", "vm", "create", NAME_THEN_WORDS, "IMAGE",
     "Make a machine of an image, start it, and attach to its console. The image is made first if "
     "it is not there; oci:PATH[:TAG][@DIGEST] is an OCI image of a folder or archive; with "
     "--firmware or --cdrom there may be none. Ctrl-] and "
     "then q detaches; the machine runs on. With words behind '--' they are run in it instead, as "
     "by 'viv exec'; an OCI image runs its own command so",
     "run --rm oci:alpine.tar -- /bin/echo hello", run_flags, do_run},
    {"create", "vm", "create", ONE_NAME, "NAME",
     "Make a machine. Its disk begins as the image and takes room only for what differs. Without "
     "an image it begins empty, for an installer: --disk 20G --cdrom x.iso --firmware uefi",
     "create web --image debian --memory 512M --forward 8080:80", create_flags, do_create},
    {"start", "vm", "start", SOME_NAMES, "NAME", "Start machines, and wait until they run",
     "start web", no_wait, do_action},
    {"stop", "vm", "stop", SOME_NAMES, "NAME",
     "Ask the guests to shut down (by their agents, else ACPI), and end those by force that take "
     "too long",
     "stop web --timeout 120", no_wait, do_action},
    {"kill", "vm", "kill", SOME_NAMES, "NAME", "End machines at once; the guests are not asked",
     "kill web", no_wait, do_action},
    {"restart", "vm", "restart", SOME_NAMES, "NAME", "Stop machines and start them anew",
     "restart web", no_wait, do_action},
    {"pause", "vm", "pause", SOME_NAMES, "NAME", "Hold machines still: they take no processor time",
     "pause web", no_wait, do_action},
    {"resume", "vm", "resume", SOME_NAMES, "NAME", "Let paused machines go on", "resume web",
     no_wait, do_action},
    {"suspend", "vm", "suspend", SOME_NAMES, "NAME",
     "Write the memory of machines to the disk and end their processes. 'viv start' goes on where "
     "they were, 'viv kill' forgets the memory",
     "suspend web", no_wait, do_action},
    {"clone", "vm", "clone", TWO_NAMES, "MACHINE NAME",
     "Make another machine of one, with an identity of its own. Its disk takes room only for what "
     "differs; the machine may run meanwhile",
     "clone web web2 --start", clone_flags, do_clone},
    {"rm", "vm", "delete", SOME_NAMES, "NAME", "Delete machines with their disks", "rm web --force",
     no_wait, do_rm},
    {"list", "vm", "list", NO_NAME, NULL, "List machines", "list --state running", list_flags,
     do_list},
    {"show", "vm", "get", ONE_NAME, "NAME", "Show what is wanted and what is seen of a machine",
     "show web", show_flags, do_show},
    {"top", "usage", "list", NO_NAME, NULL,
     "Watch what machines use: processor time, memory, disks and network, the busiest first. "
     "Ctrl-C ends it",
     "top --interval 5", top_flags, do_top},
    {"edit", "vm", "update", ONE_NAME, "NAME",
     "Change what is wanted of a machine. One that runs has it at once where that can be; what has "
     "to wait for the next start is told",
     "edit web --memory 2G", NULL, do_edit},
    {"wait", "vm", "wait", ONE_NAME, "NAME", "Wait until a machine is in a state",
     "wait web --for stopped --timeout 300", NULL, do_wait},
    {"console", "vm", "console", ONE_NAME, "NAME",
     "Attach to the serial line of a machine. Ctrl-] and then q detaches", "console web --port 2",
     NULL, do_console},
    {"vnc", "vm", "screen", ONE_NAME, "NAME",
     "Bring the screen of a machine to a port of this host, for any VNC viewer, until Ctrl-C. The "
     "machine needs one (--vga std)",
     "vnc web", vnc_flags, do_vnc},
    {"screenshot", "vm", "screenshot", ONE_OR_TWO_NAMES, "NAME [FILE]",
     "Take a picture of the screen of a machine, as PNG: into a file, on a terminal NAME.png "
     "without one, else to standard output",
     "screenshot web web.png", NULL, do_screenshot},
    {"send-key", "vm", "send-key", TWO_NAMES, "NAME KEYS",
     "Press keys of the keyboard of a machine together: names joined by '-'",
     "send-key web ctrl-alt-del", NULL, do_send_key},
    {"type", "vm", "type", TWO_NAMES, "NAME TEXT",
     "Type text on the keyboard of a machine, which is a US one", "type web 'ls -l' --enter", NULL,
     do_type},
    {"pointer", "vm", "pointer", THREE_NAMES, "NAME X Y",
     "Move the pointer of a machine to a place of its screen, in pixels, and click there",
     "pointer web 100 200 --click left", NULL, do_pointer},
    {"cdrom insert", "vm", "insert", TWO_NAMES, "MACHINE FILE",
     "Put a medium (ISO image) into the optical drive of a machine, at once if it runs",
     "cdrom insert web drivers.iso", NULL, do_medium},
    {"cdrom eject", "vm", "eject", ONE_NAME, "MACHINE",
     "Take the medium out of the optical drive of a machine", "cdrom eject web", NULL, do_medium},
    {"exec", "vm", "agent", NAME_AND_WORDS, "NAME",
     "Run a command in the guest with this input, output and errors. Its exit code is that of viv: "
     "127 if there is no such command, 126 if it cannot be run, 125 if it was not run for another "
     "reason, 124 if no agent answers there, 123 if the connection broke off",
     "exec web -- uname -r", exec_flags, do_exec},
    {"cp", "vm", "agent", TWO_NAMES, "FROM TO",
     "Copy a file out of a guest or into it: NAME:PATH is in the guest, '-' is standard input or "
     "output. It appears whole or not at all, in TO by its name if that is a folder",
     "cp web:/etc/hostname hostname", cp_flags, do_cp},
    {"ssh", "vm", "get", NAME_AND_WORDS, "NAME",
     "Log in by ssh: through a forward to port 22 if there is one, else through the agent",
     "ssh web -- uptime", ssh_flags, do_ssh},
    {"logs", "vm", "log", ONE_NAME, "NAME",
     "Print what the guest said on its serial line, the newest mebibyte over all its starts, also "
     "when "
     "the machine is off",
     "logs web", logs_flags, do_logs},
    {"snapshot create", "snapshot", "create", TWO_NAMES, "MACHINE NAME",
     "Keep a machine as it is: its disk, and if it runs its memory at the same instant",
     "snapshot create web before", no_wait, do_snapshot_create},
    {"snapshot list", "snapshot", "list", NO_NAME, NULL, "List snapshots: MACHINE.NAME",
     "snapshot list --vm web", list_flags, do_list},
    {"snapshot revert", "snapshot", "revert", TWO_NAMES, "MACHINE NAME",
     "Bring a machine back to a snapshot. What it has done since is lost; one that runs is ended "
     "first, and goes on if the snapshot has its memory",
     "snapshot revert web before", no_wait, do_snapshot_revert},
    {"snapshot rm", "snapshot", "delete", TWO_NAMES, "MACHINE NAME",
     "Forget a snapshot; the machine and its other snapshots stay as they are",
     "snapshot rm web before", NULL, do_snapshot_rm},
    {"image list", "image", "list", NO_NAME, NULL, "List images", "image list", list_flags,
     do_list},
    {"image show", "image", "get", ONE_NAME, "IMAGE", "Show an image", "image show debian",
     show_flags, do_show},
    {"image build", "image", "create", ONE_NAME, "IMAGE",
     "Make an image: debian, debian:11, debian:12, debian:13 or tiny, with more packages as in "
     "debian:13,packages=vim,git. Takes some minutes, and Debian's packages from the network. One "
     "of "
     "debian:13 is called debian-13",
     "image build debian:13,packages=cloud-init --name cloud", build_flags, do_build},
    {"image info", "image", "get", ONE_NAME, "IMAGE",
     "Show an image: where it came from, its sizes, its checksum", "image info debian", NULL,
     do_show},
    {"image import", "image", "create", TWO_NAMES, "NAME FILE",
     "Make an image of a disk image: raw and qcow2, and with qemu-img VMDK, VHD, VHDX, VDI and "
     "OVA. "
     "Machines of it boot by firmware (SeaBIOS or OVMF), or the given kernel",
     "image import web disk.qcow2 --kernel vmlinuz --initrd initrd.img --append root=/dev/vda1",
     no_wait, do_import},
    {"image export", "image", "export", TWO_NAMES, "IMAGE FILE",
     "Write the disk of an image to a file", "image export debian debian.qcow2 --format qcow2",
     no_wait, do_export},
    {"image rm", "image", "delete", SOME_NAMES, "IMAGE", "Delete images that no machine lies on",
     "image rm tiny", NULL, do_image_rm},
    {"template create", "image", "create", ONE_NAME, "NAME",
     "Make a template of a machine: an image without what makes a machine itself, so that each "
     "machine of it has an identity of its own. The machine may run, and stays as it is",
     "template create base --from web", no_wait, do_template_create},
    {"template list", "image", "list", NO_NAME, NULL, "List templates", "template list", list_flags,
     do_template_list},
    {"template show", "image", "get", ONE_NAME, "TEMPLATE", "Show a template", "template show base",
     NULL, do_show},
    {"template rm", "image", "delete", SOME_NAMES, "TEMPLATE",
     "Delete templates that no machine lies on", "template rm base", NULL, do_image_rm},
    {"volume create", "volume", "create", ONE_NAME, "VOLUME",
     "Make a volume: a disk that outlives machines, empty at first. It takes room as it is written",
     "volume create data --size 10G", no_wait, do_volume_create},
    {"volume list", "volume", "list", NO_NAME, NULL, "List volumes", "volume list", list_flags,
     do_list},
    {"volume show", "volume", "get", ONE_NAME, "VOLUME", "Show a volume", "volume show data",
     show_flags, do_show},
    {"volume resize", "volume", NULL, TWO_NAMES, "VOLUME SIZE",
     "Make a volume larger, at once, also while its machine runs. The file system in it is the "
     "guest's to grow",
     "volume resize data 20G", no_wait, do_volume_resize},
    {"volume attach", "volume", NULL, TWO_NAMES, "VOLUME MACHINE",
     "Make a volume the last disk of a machine: /dev/disk/by-id/virtio-VOLUME. One that runs has "
     "it at once",
     "volume attach data web", NULL, do_volume_attach},
    {"volume detach", "volume", "detach", ONE_NAME, "VOLUME",
     "Take a volume from its machine. A guest that runs is asked to let go of it",
     "volume detach data", NULL, do_volume_detach},
    {"volume rm", "volume", "delete", SOME_NAMES, "VOLUME",
     "Delete volumes that are attached to nothing, with what is on them", "volume rm data", NULL,
     do_volume_rm},
    {"net create", "network", "create", ONE_NAME, "NETWORK",
     "Make a network. Machines in it (viv create --network) find each other by name and reach the "
     "outside through this host",
     "net create lan --subnet 10.80.0.0/24", NULL, do_net_create},
    {"net list", "network", "list", NO_NAME, NULL, "List networks", "net list", list_flags,
     do_list},
    {"net show", "network", "get", ONE_NAME, "NETWORK",
     "Show a network, with the addresses of its machines", "net show lan", show_flags, do_show},
    {"net rm", "network", "delete", SOME_NAMES, "NETWORK", "Delete networks that no machine uses",
     "net rm lan", NULL, do_net_rm},
    {"forward add", "vm", NULL, TWO_NAMES, "MACHINE FORWARD",
     "Let a port of this host lead into a guest: [ADDRESS:]PORT:GUESTPORT[/udp]. Without an "
     "address only this host reaches it. At once if the machine runs, and after each start",
     "forward add web 8080:80", NULL, do_forward_add},
    {"forward list", "vm", NULL, NO_NAME, NULL, "List the forwards of machines",
     "forward list --vm web", forward_flags, do_forward_list},
    {"forward rm", "vm", NULL, TWO_NAMES, "MACHINE FORWARD",
     "Take a forward away; what goes through it lives on", "forward rm web 8080:80", NULL,
     do_forward_rm},
    {"nic add", "vm", "nic-add", TWO_NAMES, "MACHINE NETWORK",
     "Give a machine an interface in a network, or in 'user', at once if it runs (ACPI hot-plug) "
     "and after each start",
     "nic add web lan --model e1000e", no_wait, do_nic_add},
    {"nic rm", "vm", "nic-remove", TWO_NAMES, "MACHINE NETWORK",
     "Take the interface in a network from a machine. A guest that runs is asked to let go of it",
     "nic rm web lan", no_wait, do_nic_rm},
    {"nic list", "vm", NULL, NO_NAME, NULL, "List the network interfaces of machines",
     "nic list --vm web", forward_flags, do_nic_list},
    {"device add", "vm", "device-add", TWO_NAMES, "MACHINE DEVICE",
     "Give a machine a device of the host, by PCI address or UUID, at once if it runs and after "
     "each start. A manager that is root takes it from the host's driver, and gives it back",
     "device add web 0000:03:00.0", no_wait, do_device_add},
    {"device rm", "vm", "device-remove", TWO_NAMES, "MACHINE DEVICE",
     "Take a device of the host from a machine, for the host again. A guest that runs is asked to "
     "let go of it",
     "device rm web 0000:03:00.0", no_wait, do_device_rm},
    {"device list", "vm", NULL, NO_NAME, NULL,
     "List the devices of the host that machines have; 'viv host devices' lists all of them",
     "device list --vm web", forward_flags, do_device_list},
    {"job list", "job", "list", NO_NAME, NULL, "List jobs", "job list --state running", quiet,
     do_list},
    {"job show", "job", "get", ONE_NAME, "JOB", "Show a job", "job show job-0123456789ab", NULL,
     do_show},
    {"job wait", "job", NULL, ONE_NAME, "JOB", "Wait for the end of a job, with its progress",
     "job wait job-0123456789ab", NULL, do_job_wait},
    {"job cancel", "job", "cancel", ONE_NAME, "JOB", "Give a job up", "job cancel job-0123456789ab",
     NULL, do_job_cancel},
    {"event list", "event", "list", NO_NAME, NULL, "List what has happened",
     "event list --name web", event_flags, do_events},
    {"event follow", "event", "list", NO_NAME, NULL, "Show what happens as it happens",
     "event follow", event_flags, do_follow},
    {"backup create", NULL, NULL, NO_NAME, NULL,
     "Make a backup of the manager's store, as one is made every day: what there is, not the "
     "disks. "
     "'vivd --restore' puts it back",
     "backup create", NULL, do_backup_create},
    {"backup list", NULL, NULL, NO_NAME, NULL, "List backups of the store, the newest first",
     "backup list", NULL, do_backup_list},
    {"apply", NULL, NULL, NO_NAME, NULL,
     "Make what files want, or change it in place; what is so already stays as it is. What a file "
     "does not say is left alone. With --prune, what an earlier apply of them made and they have "
     "no "
     "more is deleted",
     "apply -f web.yaml --prune", apply_flags, do_apply},
    {"diff", NULL, NULL, NO_NAME, NULL,
     "Show how what files want differs from what there is. Exit code 0: not at all, 1: it does, "
     "more: it failed",
     "diff -f web.yaml", diff_flags, do_diff},
    {"set list", "set", "list", NO_NAME, NULL, "List what 'viv apply' remembers of files",
     "set list", quiet, do_list},
    {"set show", "set", "get", ONE_NAME, "SET", "Show what is in a set", "set show web-1a2b3c4d",
     NULL, do_show},
    {"set rm", "set", "delete", SOME_NAMES, "SET",
     "Forget sets; what is in them stays, and is not deleted by --prune any more", "set rm lab",
     NULL, do_set_rm},
    {"set", "vm", "update", ONE_NAME, "NAME", "The same as 'viv edit', for a machine",
     "set web --balloon 512M", NULL, do_edit},
    {"token create", "token", "create", ONE_NAME, "NAME",
     "Make a token for callers from the network, and print what it says, once",
     "token create ci --role viewer --expires 30d", NULL, do_token_create},
    {"token list", "token", "list", NO_NAME, NULL, "List tokens", "token list", quiet, do_list},
    {"token show", "token", "get", ONE_NAME, "NAME", "Show a token, but not what it says",
     "token show ci", NULL, do_show},
    {"token rm", "token", "delete", SOME_NAMES, "NAME",
     "Forget tokens: sessions and connections of who showed them end", "token rm ci", NULL,
     do_token_rm},
    {"portal", "portal", "open", NO_NAME, NULL,
     "Have the manager listen to the network, now and after each start, and print the address of "
     "its portal with a code that signs one browser in",
     "portal", portal_flags, do_portal},
    {"os list", "system", "list", NO_NAME, NULL,
     "List guest systems that were tested, when, and how they boot. Others may work as well",
     "os list", quiet, do_list},
    {"os show", "system", "get", ONE_NAME, "SYSTEM",
     "Show how a guest system was tested: firmware, drivers, the test", "os show debian-12", NULL,
     do_show},
    {"doctor", "host", "doctor", NO_NAME, NULL, "Look what this host can do and what is missing",
     "doctor", NULL, do_doctor},
    {"host devices", "host", "devices", NO_NAME, NULL,
     "List the host's PCI devices with their IOMMU groups, and its NUMA nodes", "host devices",
     NULL, do_host_devices},
    {"completion", NULL, NULL, ONE_NAME, "SHELL",
     "Print a script that completes commands, flags and names: for bash, zsh or fish",
     "completion bash", NULL, do_completion},
    {0},
};

static const struct {
    const char *first, *heading;
} groups[] = {
    {"run", "Machines"},
    {"console", "Screen, keyboard and guest"},
    {"snapshot create", "Snapshots"},
    {"image list", "Images and templates"},
    {"volume create", "Volumes"},
    {"net create", "Networks"},
    {"job list", "What happens"},
    {"apply", "Machines by files"},
    {"token create", "Access, and this host"},
};

const char *cli_heading(const struct cli_command *c) {
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
        if (!strcmp(groups[i].first, c->words))
            return groups[i].heading;
    return NULL;
}

const struct cli_common cli_commons[] = {
    {"--json", NULL, NULL, "print what the manager answers, as JSON"},
    {"--system", NULL, NULL, "speak to the manager of the whole host, not to one's own"},
    {"--url", "URL", "VIV_URL", "speak to the manager at https://HOST:PORT; also VIV_URL"},
    {"--token-file", "FILE", "VIV_TOKEN_FILE",
     "file with the token to show there; also VIV_TOKEN_FILE, or VIV_TOKEN with the token itself"},
    {"--cacert", "FILE", "VIV_CACERT",
     "certificates that are trusted there, in PEM form; also VIV_CACERT"},
    {"--fingerprint", "SHA256", "VIV_FINGERPRINT",
     "trust the one certificate that has it; also VIV_FINGERPRINT"},
    {"--help", NULL, NULL, "print what a command does, with an example"},
    {0},
};

/* What an operation takes that a person may give. */
static bool is_flag_of(const struct operation *op, const struct field *f) {
    switch (op->shape) {
    case OP_CREATE:
        return f->place == FIELD_SPEC && f->flags & FIELD_CREATE && strcmp(f->name, "power") != 0;
    case OP_UPDATE:
        return f->place == FIELD_SPEC && f->flags & FIELD_UPDATE && strcmp(f->name, "power") != 0;
    case OP_LIST:
        return f->flags & FIELD_FILTER;
    default:
        return false;
    }
}

/* Images are built or imported by one operation; what a file is called stands without a flag. */
static bool fits(const struct cli_command *c, const struct field *f) {
    static const char *const of_import[] = {"format", "reference", "kernel",
                                            "initrd", "append",    "firmware"};
    const unsigned imports = sizeof(of_import) / sizeof(of_import[0]);
    static const char *const of_build[] = {"source", "packages", "base", "mirror"};
    bool template = !strcmp(f->name, "from") || !strcmp(f->name, "generalize");

    if (c->run == do_template_create)
        return template;
    if (c->run == do_build || c->run == do_import)
        if (template)
            return false;
    if (c->run == do_template_list)
        return strcmp(f->name, "kind") != 0;
    if (c->run == do_medium || c->run == do_nic_add || c->run == do_nic_rm ||
        c->run == do_device_add || c->run == do_device_rm || c->run == do_send_key ||
        c->run == do_type || c->run == do_pointer)
        return !(f->flags & FIELD_REQUIRED); /* those are names */
    if (c->run == do_clone)                  /* the second name, and a flag for each mode */
        return strcmp(f->name, "name") != 0 && strcmp(f->name, "mode") != 0;
    if (c->run != do_build && c->run != do_import && c->run != do_export)
        return true;
    for (unsigned i = 0; i < imports && c->run == do_build; i++)
        if (!strcmp(f->name, of_import[i]))
            return false;
    for (unsigned i = 0; i < sizeof(of_build) / sizeof(of_build[0]) && c->run == do_import; i++)
        if (!strcmp(f->name, of_build[i]))
            return false;
    return strcmp(f->name, "file") != 0;
}

const struct field *cli_flag(const struct cli_command *c, unsigned i) {
    const struct resource *r = c->resource ? resource_find(c->resource) : NULL;
    const struct operation *op = r && c->op ? resource_op(r, c->op) : NULL;

    for (const struct field *f = c->own; f && f->type != FIELD_END; f++)
        if (!i--)
            return f;
    if (!op)
        return NULL;
    for (const struct field *f = op->args; f->type != FIELD_END; f++)
        if (fits(c, f) && !i--)
            return f;
    for (const struct field *f = r->fields; f->type != FIELD_END; f++) {
        /* "viv run IMAGE" says it without a flag */
        if ((c->run == do_run && !strcmp(f->name, "image")) ||
            (c->run == do_snapshot_create && !strcmp(f->name, "vm")) || !fits(c, f))
            continue;
        if (is_flag_of(op, f) && !i--)
            return f;
    }
    return NULL;
}
