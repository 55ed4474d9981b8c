/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The host and what it can do: each check with its result and the remedy. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/version.h"
#include "host/api.h"
#include "host/backup.h"
#include "host/history.h"
#include "host/host_figures.h"
#include "host/vm.h"
#include "proto/place.h"
#include "proto/units.h"
#include "vfio/host_devices.h"

enum { FEW_FILES = 1024, IMAGE_ROOM = 2500 };

enum verdict { GOOD, NOTE, BAD };

static void check(json_t *checks, const char *name, enum verdict v, const char *text,
                  const char *remedy) {
    static const char *const words[] = {"good", "note", "bad"};

    json_object_set_new(checks, name,
                        json_pack("{s:s, s:s, s:s}", "state", words[v], "text", text, "remedy",
                                  v == GOOD ? "" : remedy));
}

static void check_processor(json_t *checks) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"))
        check(checks, "processor", GOOD, "it has AVX2 and BMI2: guests run on the translator", "");
    else
        check(checks, "processor", NOTE,
              "it lacks AVX2 or BMI2: guests run on the interpreter, some ten times slower",
              "use a host whose processor has both (Haswell, Zen or later)");
    check(checks, "kvm", GOOD,
          access("/dev/kvm", R_OK | W_OK) == 0
              ? "there is a /dev/kvm; machines use it where it is real"
              : "there is no /dev/kvm for this user; it is not needed",
          "");
}

static void check_memory(json_t *checks) {
    char total[32], free_now[32], text[120];
    struct sysinfo si;

    if (sysinfo(&si) < 0)
        return;
    units_put_size((int64_t)si.totalram * si.mem_unit, total, sizeof(total));
    units_put_size((int64_t)(si.freeram + si.bufferram) * si.mem_unit, free_now, sizeof(free_now));
    snprintf(text, sizeof(text), "%s, of which %s are free; %d processors", total, free_now,
             get_nprocs());
    check(checks, "memory", si.totalram * si.mem_unit < 1ull << 30 ? NOTE : GOOD, text,
          "give machines less memory: --memory 256M");
}

static void check_room(json_t *checks, const char *folder) {
    char room[32], text[200];
    struct statvfs st;
    int64_t bytes;

    if (statvfs(folder, &st) < 0) {
        check(checks, "room", BAD, strerror(errno), "set VIV_HOME to another folder");
        return;
    }
    bytes = (int64_t)st.f_bavail * (int64_t)st.f_frsize;
    units_put_size(bytes, room, sizeof(room));
    snprintf(text, sizeof(text), "%s are free for images and disks", room);
    check(checks, "room", bytes >> 20 < IMAGE_ROOM ? NOTE : GOOD, text,
          "building an image takes 2.5 GiB: make room, or set VIV_HOME to another disk");
}

static bool in_path(const char *program) {
    const char *path = getenv("PATH");
    char file[PATH_MAX];

    while (path && *path) {
        size_t n = strcspn(path, ":");

        if (snprintf(file, sizeof(file), "%.*s/%s", (int)n, path, program) < (int)sizeof(file) &&
            access(file, X_OK) == 0)
            return true;
        path += path[n] ? n + 1 : n;
    }
    return false;
}

static void check_programs(json_t *checks) {
    const char *given = getenv("VIV_VM");
    char vm[PATH_MAX], text[PATH_MAX + 40];

    place_program("viv-vm", vm);
    if (given && *given)
        snprintf(vm, sizeof(vm), "%s", given);
    snprintf(text, sizeof(text), "machines run in '%s'", vm);
    check(checks, "viv-vm", access(vm, X_OK) == 0 || in_path(vm) ? GOOD : BAD, text,
          "install viv-vm beside vivd, or set VIV_VM to its path");
    check(checks, "image-tools", in_path("mmdebstrap") && in_path("mkfs.ext4") ? GOOD : NOTE,
          in_path("mmdebstrap") ? "Debian images can be built here"
                                : "mmdebstrap is not installed: images cannot be built",
          "apt-get install mmdebstrap mount uidmap e2fsprogs cpio gzip busybox-static "
          "openssh-client");
}

static void check_limits(json_t *checks) {
    struct rlimit files;
    char text[80];

    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return;
    snprintf(text, sizeof(text), "%llu files may be open at the same time",
             (unsigned long long)files.rlim_cur);
    check(checks, "open-files", files.rlim_cur < FEW_FILES ? NOTE : GOOD, text,
          "raise it with ulimit -n; a machine takes 3 of the manager's");
}

/* Unknown figures are left out. */
static void set_count(json_t *o, const char *name, int64_t value) {
    if (value >= 0)
        json_object_set_new(o, name, json_integer(value));
}

static void add_figures(json_t *o, const char *folder) {
    struct host_figures f;

    host_figures_read(folder, &f);
    set_count(o, "cpus", f.cpus);
    set_count(o, "cpu_busy_ms", f.cpu_busy_ms);
    set_count(o, "cpu_idle_ms", f.cpu_idle_ms);
    set_count(o, "memory", f.memory);
    set_count(o, "memory_available", f.memory_available);
    set_count(o, "disk", f.disk);
    set_count(o, "disk_free", f.disk_free);
}

static int answer(struct api_call *call, bool look) {
    const char *folder = call->m->home.place.data;
    json_t *checks;

    if (strcmp(call->name, "local") != 0)
        return api_fail(call, FAILURE_NOT_FOUND, "name", "ask for 'local'",
                        "there is no host '%.60s' here", call->name);
    call->result = json_pack("{s:s, s:s, s:i, s:s, s:i, s:I}", "name", "local", "version",
                             VIVARIUM_VERSION, "pid", (int)getpid(), "folder", folder, "machines",
                             (int)machines_active(call->m->machines), "resident",
                             (json_int_t)manager_resident());
    if (!call->result)
        return api_fail(call, FAILURE_FAILED, "", "", "the name of the folder is not UTF-8");
    add_figures(call->result, folder);
    if (!look)
        return 0;
    checks = json_object();
    check_processor(checks);
    check_memory(checks);
    check_room(checks, folder);
    check_programs(checks);
    check_limits(checks);
    json_object_set_new(call->result, "checks", checks);
    return 0;
}

static int get(struct api_call *call) { return answer(call, false); }

static int doctor(struct api_call *call) { return answer(call, true); }

/* A test has a tree of its own. */
static int devices(struct api_call *call) {
    const char *root = getenv("VIV_SYSFS");
    json_t *all;

    if (answer(call, false) < 0)
        return -ENOENT;
    all = host_devices_read(root && *root ? root : "/sys");
    json_object_set_new(call->result, "hardware", all);
    return 0;
}

const struct api_handler host_handlers[] = {{"get", get},
                                            {"devices", devices},
                                            {"doctor", doctor},
                                            {"history", history_of_host},
                                            {"backup", backup_create},
                                            {"backups", backup_list},
                                            {NULL, NULL}};
