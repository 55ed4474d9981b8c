/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's devices from sysfs. Source: Linux Documentation/ABI/testing/sysfs-bus-pci,
 * sysfs-kernel-iommu_groups, driver-api/vfio-mediated-device.rst, sysfs-devices-node.
 */
#include "vfio/host_devices.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VALUE_MAX = 256, MAX_ENTRIES = 8192 };

/* ------------------------------------------------------------------ files */

/* The first line, as far as it is plain text; false: there is none. */
static bool read_line(int dir, const char *path, char value[VALUE_MAX]) {
    int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;
    ssize_t n = -1;

    if (fd < 0)
        return false;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) /* a pipe would have nothing, or for ever */
        n = read(fd, value, VALUE_MAX - 1);
    close(fd);
    if (n <= 0)
        return false;
    value[n] = 0;
    value[strcspn(value, "\n")] = 0;
    for (char *c = value; *c; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c > '~')
            *c = '?';
    return *value;
}

static void put_text(json_t *to, const char *key, int dir, const char *file) {
    char value[VALUE_MAX];

    if (read_line(dir, file, value))
        json_object_set_new(to, key, json_string(value));
}

static bool read_number(int dir, const char *file, long long *ret) {
    char value[VALUE_MAX], *end;

    if (!read_line(dir, file, value))
        return false;
    errno = 0;
    *ret = strtoll(value, &end, 0);
    return end != value && !*end && !errno;
}

static void put_number(json_t *to, const char *key, int dir, const char *file) {
    long long n;

    if (read_number(dir, file, &n))
        json_object_set_new(to, key, json_integer(n));
}

/* "0x8086" as 8086. */
static void put_id(json_t *to, const char *key, int dir, const char *file, unsigned digits) {
    char text[24];
    long long n;

    if (!read_number(dir, file, &n) || n < 0 || n >> (4 * digits))
        return;
    snprintf(text, sizeof(text), "%0*llx", (int)digits, (unsigned long long)n);
    json_object_set_new(to, key, json_string(text));
}

/* The last part of where a link leads to. */
static bool read_link(int dir, const char *name, char value[VALUE_MAX]) {
    char path[PATH_MAX];
    ssize_t n = readlinkat(dir, name, path, sizeof(path) - 1);
    const char *last;

    if (n <= 0)
        return false;
    path[n] = 0;
    last = strrchr(path, '/');
    last = last ? last + 1 : path;
    if (!*last || strlen(last) >= VALUE_MAX)
        return false;
    for (const char *c = last; *c; c++)
        if (*c < '!' || *c > '~')
            return false;
    memcpy(value, last, strlen(last) + 1);
    return true;
}

/* Names in a folder that `good` likes, sorted. The caller frees with free_names. */
struct names {
    char **name;
    unsigned count;
};

static int compare(const void *a, const void *b) {
    return strverscmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(struct names *n) {
    while (n->count)
        free(n->name[--n->count]);
    free(n->name);
    n->name = NULL;
}

static struct names list(int dir, const char *path, bool (*good)(const char *name)) {
    struct names all = {0};
    int fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!d && fd >= 0)
        close(fd);
    all.name = calloc(HOST_DEVICES_MAX, sizeof(*all.name));
    for (unsigned seen = 0;
         d && all.name && all.count < HOST_DEVICES_MAX && seen < MAX_ENTRIES && (e = readdir(d));
         seen++)
        if (good(e->d_name) && (all.name[all.count] = strdup(e->d_name)))
            all.count++;
    if (d)
        closedir(d);
    if (all.count)
        qsort(all.name, all.count, sizeof(*all.name), compare);
    return all;
}

static int enter(int dir, const char *path) {
    return openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* ------------------------------------------------------------------ names */

/* 0000:03:00.0 */
static bool is_address(const char *s) {
    static const char shape[] = "xxxx:xx:xx.7";

    if (strlen(s) != sizeof(shape) - 1)
        return false;
    for (unsigned i = 0; shape[i]; i++)
        if (shape[i] == 'x'   ? !isxdigit((unsigned char)s[i]) || isupper((unsigned char)s[i])
            : shape[i] == '7' ? s[i] < '0' || s[i] > '7'
                              : s[i] != shape[i])
            return false;
    return true;
}

static bool is_number(const char *s) {
    size_t n = strspn(s, "0123456789");

    return n && n <= 6 && !s[n];
}

static bool is_node(const char *s) { return !strncmp(s, "node", 4) && is_number(s + 4); }

static bool is_function(const char *s) { return !strncmp(s, "virtfn", 6) && is_number(s + 6); }

static bool is_pool(const char *s) {
    unsigned long kib;
    char end[3];

    return sscanf(s, "hugepages-%lu%2s", &kib, end) == 2 && !strcmp(end, "kB");
}

/* A type, or the UUID of a mediated device: letters, digits, and "-_.:". */
static bool is_word(const char *s) {
    if (*s == '.' || strlen(s) > 100)
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("-_.:", *s))
            return false;
    return true;
}

static bool is_uuid(const char *s) {
    return strlen(s) == 36 && strspn(s, "0123456789abcdefABCDEF-") == 36;
}

/* ------------------------------------------------------------------ one device */

/* PCI Code and ID Assignment 1.16; what people give to machines. */
static const char *kind_of(const char *class) {
    static const struct {
        const char *class, *kind;
    } kinds[] = {{"0108", "nvme"},     {"01", "storage"}, {"02", "network"},    {"03", "display"},
                 {"0403", "audio"},    {"0480", "media"}, {"04", "media"},      {"05", "memory"},
                 {"06", "bridge"},     {"0c03", "usb"},   {"0c", "serial-bus"}, {"10", "crypto"},
                 {"12", "accelerator"}};

    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (!strncmp(class, kinds[i].class, strlen(kinds[i].class)))
            return kinds[i].kind;
    return "other";
}

static void put_functions(json_t *to, int dir) {
    struct names all = list(dir, ".", is_function);
    json_t *vfs = all.count ? json_array() : NULL;
    char value[VALUE_MAX];

    for (unsigned i = 0; i < all.count; i++)
        if (read_link(dir, all.name[i], value) && is_address(value))
            json_array_append_new(vfs, json_string(value));
    if (vfs)
        json_object_set_new(to, "functions", vfs);
    free_names(&all);
    if (read_link(dir, "physfn", value) && is_address(value))
        json_object_set_new(to, "function_of", json_string(value));
    put_number(to, "functions_max", dir, "sriov_totalvfs");
}

static void put_mdev(json_t *to, int dir) {
    struct names types = list(dir, "mdev_supported_types", is_word), made = list(dir, ".", is_uuid);
    json_t *all = types.count ? json_array() : NULL, *ids = made.count ? json_array() : NULL;

    for (unsigned i = 0; i < types.count; i++) {
        char path[160];
        int type;
        json_t *one;

        snprintf(path, sizeof(path), "mdev_supported_types/%s", types.name[i]);
        type = enter(dir, path);
        if (type < 0)
            continue;
        one = json_pack("{s:s}", "type", types.name[i]);
        put_text(one, "name", type, "name");
        put_text(one, "description", type, "description");
        put_text(one, "api", type, "device_api");
        put_number(one, "available", type, "available_instances");
        json_array_append_new(all, one);
        close(type);
    }
    for (unsigned i = 0; i < made.count; i++)
        json_array_append_new(ids, json_string(made.name[i]));
    if (all)
        json_object_set_new(to, "mdev_types", all);
    if (ids)
        json_object_set_new(to, "mdevs", ids);
    free_names(&types);
    free_names(&made);
}

static json_t *read_device(int devices, const char *address) {
    int dir = enter(devices, address);
    char value[VALUE_MAX];
    json_t *d;

    if (dir < 0)
        return NULL;
    d = json_pack("{s:s}", "address", address);
    put_id(d, "vendor", dir, "vendor", 4);
    put_id(d, "device", dir, "device", 4);
    put_id(d, "class", dir, "class", 6);
    put_id(d, "subsystem_vendor", dir, "subsystem_vendor", 4);
    put_id(d, "subsystem_device", dir, "subsystem_device", 4);
    if (json_object_get(d, "class"))
        json_object_set_new(d, "kind",
                            json_string(kind_of(json_string_value(json_object_get(d, "class")))));
    if (read_link(dir, "driver", value))
        json_object_set_new(d, "driver", json_string(value));
    if (read_link(dir, "iommu_group", value) && is_number(value))
        json_object_set_new(d, "iommu_group", json_integer(atoi(value)));
    put_number(d, "numa_node", dir, "numa_node"); /* -1: none in particular */
    put_text(d, "reset", dir, "reset_method");
    put_functions(d, dir);
    put_mdev(d, dir);
    close(dir);
    return d;
}

/* ------------------------------------------------------------------ all */

static json_t *read_devices(int root) {
    int dir = enter(root, "bus/pci/devices");
    struct names all = list(root, "bus/pci/devices", is_address);
    json_t *devices = json_array(), *one;

    for (unsigned i = 0; i < all.count && dir >= 0; i++)
        if ((one = read_device(dir, all.name[i])))
            json_array_append_new(devices, one);
    free_names(&all);
    if (dir >= 0)
        close(dir);
    return devices;
}

static json_t *read_groups(int root) {
    struct names all = list(root, "kernel/iommu_groups", is_number);
    json_t *groups = json_array();

    for (unsigned i = 0; i < all.count; i++) {
        char path[80];
        struct names in;
        json_t *devices = json_array();

        snprintf(path, sizeof(path), "kernel/iommu_groups/%s/devices", all.name[i]);
        in = list(root, path, is_word); /* others than those of PCI are members, too */
        for (unsigned k = 0; k < in.count; k++)
            json_array_append_new(devices, json_string(in.name[k]));
        free_names(&in);
        json_array_append_new(
            groups, json_pack("{s:i, s:o}", "group", atoi(all.name[i]), "devices", devices));
    }
    free_names(&all);
    return groups;
}

/* "Node 0 MemTotal:  16384 kB" */
static void put_memory(json_t *to, int dir) {
    int fd = openat(dir, "meminfo", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    char line[VALUE_MAX];
    FILE *f = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? fdopen(fd, "r") : NULL;

    if (!f && fd >= 0)
        close(fd);
    for (unsigned i = 0; f && i < 200 && fgets(line, sizeof(line), f); i++) {
        unsigned node;
        unsigned long long kib;

        if (sscanf(line, "Node %u MemTotal: %llu kB", &node, &kib) == 2 && kib < LLONG_MAX / 1024)
            json_object_set_new(to, "memory", json_integer((json_int_t)(kib << 10)));
        else if (sscanf(line, "Node %u MemFree: %llu kB", &node, &kib) == 2 &&
                 kib < LLONG_MAX / 1024)
            json_object_set_new(to, "memory_free", json_integer((json_int_t)(kib << 10)));
    }
    if (f)
        fclose(f);
}

static void put_pools(json_t *to, int dir) {
    struct names all = list(dir, "hugepages", is_pool);
    json_t *pools = json_array();

    for (unsigned i = 0; i < all.count; i++) {
        char path[VALUE_MAX + 40];
        json_int_t kib = (json_int_t)strtoul(all.name[i] + 10, NULL, 10) & 0xffffffffff;
        json_t *one = json_pack("{s:I}", "page", kib * 1024);

        snprintf(path, sizeof(path), "hugepages/%.200s/nr_hugepages", all.name[i]);
        put_number(one, "pages", dir, path);
        snprintf(path, sizeof(path), "hugepages/%.200s/free_hugepages", all.name[i]);
        put_number(one, "free", dir, path);
        json_array_append_new(pools, one);
    }
    json_object_set_new(to, "hugepages", pools);
    free_names(&all);
}

static void put_distances(json_t *to, int dir) {
    char value[VALUE_MAX], *s = value, *end;
    json_t *far = json_array();

    if (read_line(dir, "distance", value))
        for (long d; (d = strtol(s, &end, 10)), end != s; s = end)
            json_array_append_new(far, json_integer(d));
    json_object_set_new(to, "distances", far);
}

static json_t *read_nodes(int root) {
    struct names all = list(root, "devices/system/node", is_node);
    json_t *nodes = json_array();

    for (unsigned i = 0; i < all.count; i++) {
        char path[80];
        int dir;
        json_t *one;

        snprintf(path, sizeof(path), "devices/system/node/%s", all.name[i]);
        dir = enter(root, path);
        if (dir < 0)
            continue;
        one = json_pack("{s:i}", "node", atoi(all.name[i] + 4));
        put_text(one, "cpus", dir, "cpulist");
        put_memory(one, dir);
        put_distances(one, dir);
        put_pools(one, dir);
        json_array_append_new(nodes, one);
        close(dir);
    }
    free_names(&all);
    return nodes;
}

json_t *host_devices_read(const char *root) {
    int dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    json_t *all = json_pack("{s:o, s:o, s:o}", "devices", read_devices(dir), "iommu_groups",
                            read_groups(dir), "numa_nodes", read_nodes(dir));

    if (dir >= 0)
        close(dir);
    return all;
}
