/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest as a whole: {"do": "info"}, {"do": "time", "ns": n}, {"do": "shutdown", "how":
 * "poweroff|reboot|halt"}. */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "agent/agent.h"

#define NS_PER_SEC 1000000000ll

/* ---- addresses ---- */

static json_t *interface_named(json_t *list, const char *name) {
    json_t *one;
    size_t i;

    json_array_foreach(list, i, one) {
        if (!strcmp(json_string_value(json_object_get(one, "name")), name))
            return one;
    }
    one = json_pack("{s:s, s:[]}", "name", name, "addresses");
    json_array_append_new(list, one);
    return one;
}

static void add_address(json_t *interface, const struct sockaddr *a) {
    const void *bytes = a->sa_family == AF_INET
                            ? (const void *)&((const struct sockaddr_in *)a)->sin_addr
                            : &((const struct sockaddr_in6 *)a)->sin6_addr;
    char text[INET6_ADDRSTRLEN];

    if (inet_ntop(a->sa_family, bytes, text, sizeof(text)))
        json_array_append_new(json_object_get(interface, "addresses"), json_string(text));
}

static void add_mac(json_t *interface, const struct sockaddr_ll *a) {
    const uint8_t *m = a->sll_addr;
    char text[18];

    if (a->sll_halen != 6)
        return;
    snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
             m[5]);
    json_object_set_new(interface, "mac", json_string(text));
}

/* Without the loopback, which says nothing to the host. */
static json_t *interfaces(void) {
    json_t *list = json_array();
    struct ifaddrs *all;

    if (getifaddrs(&all) < 0)
        return list;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!i->ifa_addr || (i->ifa_flags & IFF_LOOPBACK))
            continue;
        if (i->ifa_addr->sa_family == AF_PACKET)
            add_mac(interface_named(list, i->ifa_name), (const void *)i->ifa_addr);
        else if (i->ifa_addr->sa_family == AF_INET || i->ifa_addr->sa_family == AF_INET6)
            add_address(interface_named(list, i->ifa_name), i->ifa_addr);
    }
    freeifaddrs(all);
    return list;
}

/* ---- what it is ---- */

static json_t *system_name(void) {
    FILE *f = fopen("/etc/os-release", "re");
    char line[256], name[200] = "Linux";

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "PRETTY_NAME=\"%199[^\"]\"", name) == 1)
            break;
    if (f)
        fclose(f);
    return json_string(name);
}

int agent_info(struct agent_call *call, struct error *err) {
    struct utsname u = {0};
    struct sysinfo s = {0};
    uint64_t unit, total, unused;

    uname(&u);
    sysinfo(&s);
    unit = s.mem_unit ? s.mem_unit : 1;
    total = s.totalram * unit;
    unused = (s.freeram + s.bufferram) * unit;
    return agent_answer(call,
                        json_pack("{s:s, s:i, s:s, s:o, s:s, s:I, s:I, s:I, s:i, s:b, s:o}",
                                  "agent", AGENT_VERSION, "protocol", AGENT_PROTOCOL, "hostname",
                                  u.nodename, "system", system_name(), "kernel", u.release,
                                  "uptime", (json_int_t)s.uptime, "memory", (json_int_t)total,
                                  "memory_free", (json_int_t)unused, "processors",
                                  (int)sysconf(_SC_NPROCESSORS_ONLN), "command",
                                  call->box && call->box->shared, "interfaces", interfaces()),
                        err);
}

/* ---- time ---- */

/* After a restore the guest's clock stands where the snapshot was made. */
int agent_time(struct agent_call *call, struct error *err) {
    struct timespec was, now;
    int64_t ns;

    if (agent_number(call, "ns", 0, INT64_MAX, -1, &ns, err) < 0)
        return -EINVAL;
    now = (struct timespec){ns / NS_PER_SEC, ns % NS_PER_SEC};
    clock_gettime(CLOCK_REALTIME, &was);
    if (clock_settime(CLOCK_REALTIME, &now) < 0)
        return error_set(err, -errno, "the guest's clock cannot be set: %s", strerror(errno));
    return agent_answer(
        call,
        json_pack("{s:I}", "moved_ns",
                  (json_int_t)((now.tv_sec - was.tv_sec) * NS_PER_SEC + now.tv_nsec - was.tv_nsec)),
        err);
}

/* ---- shutdown ---- */

/* systemd's program asks systemd; busybox and sysvinit have programs of that name that ask them. */
int agent_shutdown(struct agent_call *call, struct error *err) {
    static const struct {
        const char *name;
        int how;
    } ways[] = {{"poweroff", RB_POWER_OFF}, {"reboot", RB_AUTOBOOT}, {"halt", RB_HALT_SYSTEM}};
    const char *how = agent_text(call, "how");
    unsigned i = 0;

    while (how && i < 3 && strcmp(how, ways[i].name) != 0)
        i++;
    if (i == 3)
        return error_set(err, -EINVAL, "'how' must be poweroff, reboot or halt, not '%.40s'", how);
    if (agent_answer(call, json_object(), err) < 0)
        return -EPIPE;
    if (call->box) { /* our init understands the signals that busybox's has */
        static const int signals[] = {SIGUSR2, SIGTERM, SIGUSR1};

        return kill(1, signals[i]);
    }
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    execlp(ways[i].name, ways[i].name, (char *)NULL);
    sync(); /* nobody there to ask */
    reboot(ways[i].how);
    return error_set(err, -errno, "the guest cannot be shut down: %s", strerror(errno));
}
