/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Theory of operation. `driver_override` of a device names the one driver that may have it;
 * `unbind` takes it from its driver, `drivers_probe` offers it to those that may. So: override,
 * unbind, probe; and back the same way with an empty override. What the kernel made of it is read
 * from the link `driver` each time.
 */
#include "host/lend.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/write.h"
#include "vfio/host_devices.h"

#define VFIO_PCI "vfio-pci"
enum { NAP_NS = 10 * 1000 * 1000, NAPS_PER_S = 100, WAIT_MS = 5000, LINE = 400 };

/* ------------------------------------------------------------------ this host */

static bool disk_used(const char *name) {
    char path[PATH_MAX];
    int fd;

    snprintf(path, sizeof(path), "/dev/%.200s", name);
    for (char *c = path; (c = strchr(c, '!'));) /* how sysfs writes cciss/c0d0 */
        *c = '/';
    fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        close(fd);
    return fd < 0 && errno == EBUSY;
}

static int load(void) {
    char program[] = "modprobe", module[] = VFIO_PCI, *argv[] = {program, module, NULL};
    int status = 0;
    pid_t pid;

    if (posix_spawnp(&pid, program, NULL, NULL, argv, environ) != 0)
        return -ENOENT;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status == 0 ? 0 : -EIO;
}

struct lend_host lend_host(void) {
    const char *other = getenv("VIV_SYSFS");
    bool own = other && *other;

    return (struct lend_host){.sysfs = own ? other : "/sys",
                              .routes = "/proc/net/route",
                              .routes6 = "/proc/net/ipv6_route",
                              .write = write_setting,
                              .disk_used = disk_used,
                              .load = own ? NULL : load,
                              .wait_ms = WAIT_MS};
}

bool lend_allowed(void) {
    const char *other = getenv("VIV_SYSFS");

    return geteuid() == 0 || (other && *other);
}

/* ------------------------------------------------------------------ devices */

static void device_path(const struct lend_host *h, const char *name, const char *file,
                        char ret[PATH_MAX]) {
    snprintf(ret, PATH_MAX, "%.3000s/bus/pci/devices/%.40s%s%s", h->sysfs, name, *file ? "/" : "",
             file);
}

bool lend_name(const char *text, char ret[VFIO_NAME]) {
    return vfio_name(!strncmp(text, "vfio=", 5) ? text + 5 : text, ret);
}

/* Its driver now; "" if it has none. */
static void read_driver(const struct lend_host *h, const char *name, char ret[LEND_DRIVER]) {
    char path[PATH_MAX], to[PATH_MAX], *slash;
    ssize_t n;

    *ret = 0;
    device_path(h, name, "driver", path);
    n = readlink(path, to, sizeof(to) - 1);
    if (n <= 0)
        return;
    to[n] = 0;
    slash = strrchr(to, '/');
    snprintf(ret, LEND_DRIVER, "%.63s", slash ? slash + 1 : to);
}

/* vfio-pci, and those of one maker's devices (mlx5-vfio-pci, nvgrace_gpu_vfio_pci). */
static bool is_vfio(const char *driver) { return strstr(driver, "vfio"); }

static bool is_there(const struct lend_host *h, const char *name) {
    char path[PATH_MAX];

    device_path(h, name, "", path);
    return access(path, F_OK) == 0;
}

static const json_t *find(const json_t *all, const char *name) {
    const json_t *d;
    size_t i;

    json_array_foreach(json_object_get(all, "devices"), i, d)
        if (!strcmp(json_string_value(json_object_get(d, "address")), name))
            return d;
    return NULL;
}

static int check_pci(const json_t *d, const char *name, int *ret_group, struct error *err) {
    const char *kind = json_string_value(json_object_get(d, "kind"));
    const json_t *group = json_object_get(d, "iommu_group");

    if (!d)
        return error_set(err, -ENOENT, "the host has no PCI device %s", name);
    if (kind && !strcmp(kind, "bridge"))
        return error_set(err, -EINVAL, "%s is a bridge, which stays with the host", name);
    if (!group)
        return error_set(err, -ENODEV,
                         "%s is in no IOMMU group, so nothing would keep it from the host's "
                         "memory: the IOMMU is off, or the host has none",
                         name);
    *ret_group = (int)json_integer_value(group);
    return 0;
}

int lend_check(const struct lend_host *h, const char *name, int *ret_group, struct error *err) {
    char path[PATH_MAX], group[PATH_MAX], *slash;
    json_t *all;
    ssize_t n;
    int r;

    *ret_group = -1;
    if (strchr(name, ':')) {
        all = host_devices_read(h->sysfs);
        r = check_pci(find(all, name), name, ret_group, err);
        json_decref(all);
        return r;
    }
    snprintf(path, sizeof(path), "%.3000s/bus/mdev/devices/%.40s", h->sysfs, name);
    if (access(path, F_OK) < 0)
        return error_set(err, -ENOENT, "the host has no mediated device %s", name);
    snprintf(path, sizeof(path), "%.3000s/bus/mdev/devices/%.40s/iommu_group", h->sysfs, name);
    n = readlink(path, group, sizeof(group) - 1);
    group[n > 0 ? n : 0] = 0;
    slash = strrchr(group, '/');
    *ret_group = slash ? atoi(slash + 1) : -1;
    return 0;
}

bool lend_wanted(const struct lend_host *h, const char *name, char ret_driver[LEND_DRIVER]) {
    char driver[LEND_DRIVER];

    if (!strchr(name, ':') || !is_there(h, name))
        return false;
    read_driver(h, name, driver);
    if (is_vfio(driver))
        return false;
    snprintf(ret_driver, LEND_DRIVER, "%s", driver);
    return true;
}

/* ------------------------------------------------------------------ what the host depends on */

/* Is what this link of a class leads to below the device? */
static bool leads_below(const char *path, const char *name) {
    char *real = realpath(path, NULL), part[VFIO_NAME + 3];
    bool yes;

    snprintf(part, sizeof(part), "/%s/", name);
    yes = real && strstr(real, part);
    free(real);
    return yes;
}

/* A namespace with several ways to it lies beside links to the controllers that are those ways. */
static bool has_way_below(const char *path, const char *name) {
    static const char subsystems[] = "/nvme-subsystem/";
    char *real = realpath(path, NULL), *at = real ? strstr(real, subsystems) : NULL;
    bool yes = false;
    struct dirent *e;
    DIR *d;

    if (at && (at = strchr(at + strlen(subsystems), '/')))
        *at = 0;
    d = at ? opendir(real) : NULL;
    while (d && !yes && (e = readdir(d))) {
        char way[PATH_MAX];

        if (!strncmp(e->d_name, "nvme", 4) &&
            snprintf(way, sizeof(way), "%s/%s", real, e->d_name) < PATH_MAX)
            yes = leads_below(way, name);
    }
    if (d)
        closedir(d);
    free(real);
    return yes;
}

/* A line's words: the interface of the route to everywhere, of either version of IP. */
static bool is_way_out(const char *file, bool version_6, const char *interface) {
    FILE *f = fopen(file, "re");
    char line[LINE], name[40], to[40], length[8];
    bool yes = false;

    while (f && !yes && fgets(line, sizeof(line), f)) {
        if (version_6)
            yes =
                sscanf(line, "%39s %7s %*s %*s %*s %*s %*s %*s %*s %39s", to, length, name) == 3 &&
                !strcmp(length, "00") && strspn(to, "0") == strlen(to);
        else
            yes = sscanf(line, "%39s %39s", name, to) == 2 && !strcmp(to, "00000000");
        yes = yes && !strcmp(name, interface);
    }
    if (f)
        fclose(f);
    return yes;
}

static int check_interface(const struct lend_host *h, const char *name, const char *interface,
                           const char *path, struct error *err) {
    char master[PATH_MAX];

    snprintf(master, sizeof(master), "%.4000s/master", path);
    if (access(master, F_OK) == 0)
        return error_set(err, -EBUSY,
                         "%s is the host's interface %s, which is part of a bridge or bond: take "
                         "it out of that first",
                         name, interface);
    if (is_way_out(h->routes, false, interface) || is_way_out(h->routes6, true, interface))
        return error_set(err, -EBUSY,
                         "%s is the host's interface %s, through which it reaches the outside: "
                         "another one must do that first",
                         name, interface);
    return 0;
}

static int check_class(const struct lend_host *h, const char *class, const char *name,
                       struct error *err) {
    char folder[PATH_MAX], path[PATH_MAX];
    bool disks = !strcmp(class, "block");
    struct dirent *e;
    DIR *d;
    int r = 0;

    snprintf(folder, sizeof(folder), "%.3000s/class/%s", h->sysfs, class);
    d = opendir(folder);
    while (d && r == 0 && (e = readdir(d))) {
        if (*e->d_name == '.')
            continue;
        snprintf(path, sizeof(path), "%.3500s/%s", folder, e->d_name);
        if (!leads_below(path, name) && !(disks && has_way_below(path, name)))
            continue;
        if (!disks)
            r = check_interface(h, name, e->d_name, path, err);
        else if (h->disk_used(e->d_name))
            r = error_set(err, -EBUSY,
                          "%s is the drive of the host's %s, which is in use: unmount it, and take "
                          "it out of swap, LVM and RAID first",
                          name, e->d_name);
    }
    if (d)
        closedir(d);
    return r;
}

static int check_functions(const struct lend_host *h, const char *name, struct error *err) {
    char path[PATH_MAX], text[16] = "";
    ssize_t n;
    int fd;

    device_path(h, name, "sriov_numvfs", path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0 || atoi(text) == 0)
        return 0;
    return error_set(err, -EBUSY,
                     "%s has %d virtual functions, which would go with it: give the machine one of "
                     "those, or write 0 to its sriov_numvfs",
                     name, atoi(text));
}

static int check_idle(const struct lend_host *h, const char *name, struct error *err) {
    int r = check_functions(h, name, err);

    if (r == 0)
        r = check_class(h, "block", name, err);
    return r < 0 ? r : check_class(h, "net", name, err);
}

/* ------------------------------------------------------------------ there and back */

/* Has it this driver, soon? NULL: any. */
static bool await(const struct lend_host *h, const char *name, const char *wanted,
                  char driver[LEND_DRIVER]) {
    static const struct timespec nap = {.tv_nsec = NAP_NS};
    unsigned naps = h->wait_ms * NAPS_PER_S / 1000;

    for (unsigned i = 0;; i++) {
        read_driver(h, name, driver);
        if (wanted ? !strcmp(driver, wanted) : *driver != 0)
            return true;
        if (i >= naps)
            return false;
        nanosleep(&nap, NULL);
    }
}

static int put(const struct lend_host *h, const char *name, const char *file, const char *text,
               struct error *err) {
    char path[PATH_MAX];

    device_path(h, name, file, path);
    if (h->write(path, text))
        return 0;
    return error_set(err, -errno, "%s: %s cannot be written: %s", name, path, strerror(errno));
}

static int offer(const struct lend_host *h, const char *name, struct error *err) {
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%.3000s/bus/pci/drivers_probe", h->sysfs);
    if (h->write(path, name) || errno == ENODEV)
        return 0; /* nobody wanted it: the link tells */
    return error_set(err, -errno, "%s: %s cannot be written: %s", name, path, strerror(errno));
}

static int need_vfio_pci(const struct lend_host *h, const char *name, struct error *err) {
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%.3000s/bus/pci/drivers/" VFIO_PCI, h->sysfs);
    if (access(path, F_OK) == 0 || (h->load && h->load() == 0 && access(path, F_OK) == 0))
        return 0;
    return error_set(err, -ENOENT,
                     "%s: the host has no driver " VFIO_PCI ", and modprobe finds none: it is part "
                     "of the kernel's package, or was left out",
                     name);
}

/* From whoever has it to who may have it by `override`. */
static int move(const struct lend_host *h, const char *name, const char *override, bool offered,
                struct error *err) {
    char driver[LEND_DRIVER];
    int r = put(h, name, "driver_override", override, err);

    read_driver(h, name, driver);
    if (r == 0 && *driver)
        r = put(h, name, "driver/unbind", name, err);
    if (r == 0 && *driver && !await(h, name, "", driver))
        r = error_set(err, -EBUSY, "%s: its driver %s does not let go of it", name, driver);
    return r == 0 && offered ? offer(h, name, err) : r;
}

int lend_take(const struct lend_host *h, const char *name, struct error *err) {
    char was[LEND_DRIVER], driver[LEND_DRIVER];
    struct error e = {0};
    int r;

    if (!lend_wanted(h, name, was))
        return 0;
    r = check_idle(h, name, err);
    if (r == 0)
        r = need_vfio_pci(h, name, err);
    if (r < 0)
        return r;
    r = move(h, name, VFIO_PCI, true, err);
    if (r == 0 && await(h, name, VFIO_PCI, driver))
        return 0;
    if (r == 0)
        r = error_set(err, -EIO, "%s: " VFIO_PCI " does not take it: the kernel's log says why",
                      name);
    lend_give_back(h, name, was, &e); /* as far as it goes */
    return r;
}

int lend_give_back(const struct lend_host *h, const char *name, const char *driver,
                   struct error *err) {
    char now[LEND_DRIVER];
    int r;

    if (!is_there(h, name))
        return 0;
    read_driver(h, name, now);
    if (*now && strcmp(now, VFIO_PCI) != 0)
        return put(h, name, "driver_override", "\n", err); /* which may be ours still */
    r = move(h, name, "\n", *driver, err);
    if (r < 0 || !*driver || await(h, name, NULL, now))
        return r;
    return error_set(err, -EIO,
                     "%s: its driver %s does not take it back: modprobe %s, and write %s to "
                     "/sys/bus/pci/drivers_probe",
                     name, driver, driver, name);
}
