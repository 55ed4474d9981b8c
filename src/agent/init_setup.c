/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the initramfs to a machine in which the image's command finds what it expects. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/dhcp.h"
#include "agent/init.h"

#define DISK           "/dev/vda"
#define EXT4_RESIZE_FS _IOW('f', 16, uint64_t)
enum { DISK_MS = 5000, LOOK_MS = 2, FS_BLOCK = 4096 };

static const struct place {
    const char *type, *where, *options;
    unsigned long flags;
} first[] =
    {
        {"devtmpfs", "/dev", NULL, MS_NOSUID},
        {"proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
        {"sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
},
  later[] = {
      {"devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC},
      {"tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV},
      {"mqueue", "/dev/mqueue", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
      {"cgroup2", "/sys/fs/cgroup", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
};
enum { FIRST = sizeof(first) / sizeof(first[0]), LATER = sizeof(later) / sizeof(later[0]) };

/* ---- in the initramfs ---- */

static int load_module(const char *name) {
    char path[300];
    int fd, r;

    snprintf(path, sizeof(path), "/viv/%s", name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    r = (int)syscall(SYS_finit_module, fd, "", 0);
    close(fd);
    unlink(path); /* gives its memory back */
    return r < 0 && errno != EEXIST ? -1 : 0;
}

/* The question for an address goes out as soon as there is a network. */
static const char *load_modules(int *lease) {
    static char failed[300];
    FILE *f = fopen("/viv/modules", "re");
    char line[256];

    if (!f)
        return "/viv/modules";
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = 0;
        if (load_module(line) < 0) {
            snprintf(failed, sizeof(failed), "the module %s", line);
            fclose(f);
            return failed;
        }
        if (*lease < 0 && !strncmp(line, "virtio_net", 10))
            *lease = dhcp_start("eth0");
    }
    fclose(f);
    return NULL;
}

const char *init_begin(int *lease) {
    for (unsigned i = 0; i < FIRST; i++) {
        mkdir(first[i].where, 0755);
        if (mount(first[i].type, first[i].where, first[i].type, first[i].flags, NULL) < 0 &&
            errno != EBUSY)
            return first[i].where;
    }
    for (int i = 0; i < 3; i++) /* the kernel found no console when it looked */
        if (fcntl(i, F_GETFD) < 0)
            open("/dev/console", O_RDWR | O_NOCTTY);
    return load_modules(lease);
}

/* ---- the root ---- */

/* A disk that was made larger than the image. */
static void grow(void) {
    int disk = open(DISK, O_RDONLY | O_CLOEXEC), root = open("/root", O_RDONLY | O_CLOEXEC);
    uint64_t bytes = 0, blocks, now = 0;

    if (disk >= 0 && root >= 0 && ioctl(disk, BLKGETSIZE64, &bytes) == 0) {
        uint8_t super[1024];

        /* s_blocks_count_lo and _hi of the superblock tell how large the file system is. */
        if (pread(disk, super, sizeof(super), 1024) == sizeof(super)) {
            uint32_t lo, hi;

            memcpy(&lo, super + 4, 4);
            memcpy(&hi, super + 0x150, 4);
            now = (uint64_t)hi << 32 | lo;
        }
        blocks = bytes / FS_BLOCK;
        if (now && blocks > now)
            ioctl(root, EXT4_RESIZE_FS, &blocks);
    }
    if (disk >= 0)
        close(disk);
    if (root >= 0)
        close(root);
}

static int mount_disk(void) {
    for (unsigned ms = 0; access(DISK, F_OK) < 0 && ms < DISK_MS; ms += LOOK_MS)
        usleep(LOOK_MS * 1000);
    mkdir("/root", 0700);
    return mount(DISK, "/root", "ext4", 0, NULL);
}

static void make_folder(const char *path) {
    char part[4096];

    for (const char *p = path; *p && strlen(path) < sizeof(part); p++)
        if (p > path && *p == '/') {
            snprintf(part, sizeof(part), "%.*s", (int)(p - path), path);
            mkdir(part, 0755);
        }
    mkdir(path, 0755);
}

static int move_mounts(void) {
    char to[300];

    for (unsigned i = 0; i < FIRST; i++) {
        snprintf(to, sizeof(to), "/root%s", first[i].where);
        mkdir(to, 0755);
        if (mount(first[i].where, to, NULL, MS_MOVE, NULL) < 0)
            return -1;
    }
    if (unlink("/viv/config.json") < 0 || unlink("/init") < 0)
        return -1;
    return chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
                   chdir("/") < 0
               ? -1
               : 0;
}

static void write_setting(const char *path, const char *value) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, value, strlen(value));

    (void)n; /* an older kernel has no such setting */
    if (fd >= 0)
        close(fd);
}

static void raise_loopback(void) {
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    ioctl(fd, SIOCSIFFLAGS, &r);
    close(fd);
}

const char *init_change_root(const char *workdir) {
    static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                           {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"},
                                           {"/proc/self/fd/2", "/dev/stderr"}};

    if (mount_disk() < 0)
        return "the image's file system on " DISK;
    grow();
    if (move_mounts() < 0)
        return "the root of the image";
    for (unsigned i = 0; i < LATER; i++) { /* what this kernel has not cannot be mounted */
        mkdir(later[i].where, 0755);
        mount(later[i].type, later[i].where, later[i].type, later[i].flags, later[i].options);
    }
    for (unsigned i = 0; i < sizeof(links) / sizeof(links[0]); i++)
        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
            return links[i][1];
    make_folder(workdir);
    raise_loopback();
    /* As container runtimes set them: everybody may ping, and serve port 80. */
    write_setting("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    write_setting("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    return NULL;
}

/* ---- files ---- */

static void write_file(const char *path, const char *text) {
    char part[300];
    int fd;

    snprintf(part, sizeof(part), "%s.viv", path);
    unlink(part);
    fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    if (write(fd, text, strlen(text)) < 0 || rename(part, path) < 0)
        unlink(part);
    close(fd);
}

void init_write_files(const struct dhcp_lease *l, const char *hostname) {
    char text[600], address[INET_ADDRSTRLEN] = "127.0.1.1";
    size_t n = 0;

    mkdir("/etc", 0755);
    snprintf(text, sizeof(text), "%s\n", hostname);
    write_file("/etc/hostname", text);
    if (l)
        inet_ntop(AF_INET, &l->address, address, sizeof(address));
    snprintf(text, sizeof(text),
             "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n%s\t%s\n", address,
             hostname);
    write_file("/etc/hosts", text);
    if (!l)
        return;
    *text = 0;
    if (*l->domain)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "search %s\n", l->domain);
    for (unsigned i = 0; i < DHCP_SERVERS; i++)
        if (l->dns[i] && inet_ntop(AF_INET, &l->dns[i], address, sizeof(address)))
            n += (size_t)snprintf(text + n, sizeof(text) - n, "nameserver %s\n", address);
    if (n)
        write_file("/etc/resolv.conf", text);
}

void init_take_lease(int *lease, const char *hostname) {
    struct dhcp_lease l;

    if (read(*lease, &l, sizeof(l)) == sizeof(l))
        init_write_files(&l, hostname);
    close(*lease);
    *lease = -1;
}
