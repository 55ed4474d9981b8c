/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vivd: the manager (docs/manager.md). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/man.h"
#include "base/unix_socket.h"
#include "base/version.h"
#include "host/api.h"
#include "host/auth.h"
#include "host/backup.h"
#include "host/cgroup.h"
#include "host/expiry.h"
#include "host/files.h"
#include "host/history.h"
#include "host/image.h"
#include "host/network.h"
#include "host/ticket.h"
#include "host/usage.h"
#include "host/vm.h"
#include "host/vm_agent.h"
#include "host/vm_ask.h"
#include "host/vnet.h"
#include "host/volume.h"
#include "host/worker.h"
#include "proto/units.h"

enum {
    IDLE_SECONDS = 600,
    LOOK_MS = 15000,
    FILES_WANTED = 65536,
    BACKLOG = 1024,
    LISTEN_TRIES = 100
};

enum exit_code { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_BUSY = 3 };

static const struct {
    const char *name, *value, *help;
} options[] = {
    {"--system", NULL, "be the manager of the whole host: /var/lib/vivarium and /run/vivarium"},
    {"--idle", "SECONDS",
     "end after so long without a machine, a client or work; 0: never. Default 600, with --system "
     "0"},
    {"--https", "ADDRESS:PORT",
     "listen to the network as well, under TLS: 127.0.0.1:8443, [::1]:8443, *:8443. Callers show a "
     "token (viv token create); 'viv portal' does the same for one person"},
    {"--tls-cert", "FILE", "certificate for it, in PEM form, with its chain; else one of our own"},
    {"--tls-key", "FILE", "key of that certificate"},
    {"--rate", "N", "requests a second that one caller from the network may make. Default 200"},
    {"--remote-files", "FOLDER",
     "callers from the network who are admins may name files in it, for media and the like, beside "
     "those in media of the data folder; may be given several times"},
    {"--log-format", "text|json",
     "how messages are written: json is an object a line with time, level, component and message"},
    {"--restore", "BACKUP",
     "put a backup in the place of the store, and end: a name that 'viv backup list' tells, a "
     "path, "
     "or latest. What the backup does not know is set aside in the folder lost"},
    {"--ready-fd", "N", "write a line to this descriptor when the API answers, and close it"},
    {"--help", NULL, "print this text"},
    {"--help-man", NULL, "print the manual page"},
    {"--version", NULL, "print the version"},
};
enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

static const char about[] = "look after virtual machines, and answer to viv";
static const char usage[] = "[OPTION]...";
static const char codes[] =
    "0 it was asked to end, or had nothing to do; 1 it failed; 2 wrong options; 3 another manager "
    "has the folder";

struct settings {
    bool system, help, man, version, idle_given, log_json;
    const char *restore;
    long idle, rate;
    int ready;
    struct network_settings network;
    struct files_allowed files;
};

static void print_help(void) {
    printf("vivd: %s.\n\nusage: vivd %s\n\nviv starts it when it is needed. Machines run on when "
           "it ends.\n\nOptions:\n",
           about, usage);
    for (unsigned i = 0; i < OPTIONS; i++)
        printf("  %s%s%s\n      %s.\n", options[i].name, options[i].value ? " " : "",
               options[i].value ? options[i].value : "", options[i].help);
    printf("\nVIV_HOME names the folder where everything is kept.\n\nExample:\n  VIV_HOME=/srv/viv "
           "vivd --idle 0\n\nExit codes: %s.\n",
           codes);
}

static void print_man(void) {
    man_begin(stdout, "vivd", about, usage);
    puts(".SH DESCRIPTION\n.BR viv (1)\nstarts it when it is needed. Machines run on when it ends. "
         "VIV_HOME names the folder where everything is kept.\n.SH OPTIONS");
    for (unsigned i = 0; i < OPTIONS; i++)
        man_item(stdout, options[i].name, options[i].value, options[i].help);
    puts(".SH EXIT STATUS");
    man_text(stdout, codes);
    puts(".\n.SH SEE ALSO\n.BR viv (1),\n.BR viv\\-vm (1)");
}

static int number(const char *name, const char *value, long max, long *ret, struct error *err) {
    char *end = NULL;

    errno = 0;
    *ret = value ? strtol(value, &end, 10) : -1;
    if (!value || errno || end == value || *end || *ret < 0 || *ret > max)
        return error_set(err, -EINVAL, "%s needs a number up to %ld", name, max);
    return 0;
}

static int word(const char *name, const char *value, const char **ret, struct error *err) {
    *ret = value;
    return value && *value ? 0 : error_set(err, -EINVAL, "%s needs a value", name);
}

static int allow_files(struct files_allowed *f, const char *folder, struct error *err) {
    if (!folder || *folder != '/')
        return error_set(err, -EINVAL,
                         "--remote-files needs the whole path of a folder, not '%.200s'",
                         folder ? folder : "");
    if (f->count == FILES_MOST)
        return error_set(err, -EINVAL, "--remote-files can be given %d times", FILES_MOST);
    f->folder[f->count++] = folder;
    return 0;
}

/* Options of the network; 1: it is none of them. */
static int parse_network(struct settings *s, const char *w, const char *value, struct error *err) {
    if (!strcmp(w, "--https"))
        return word(w, value, &s->network.listen, err);
    if (!strcmp(w, "--tls-cert"))
        return word(w, value, &s->network.cert, err);
    if (!strcmp(w, "--tls-key"))
        return word(w, value, &s->network.key, err);
    if (!strcmp(w, "--remote-files"))
        return allow_files(&s->files, value, err);
    if (!strcmp(w, "--rate"))
        return number(w, value, 1000000, &s->rate, err);
    return 1;
}

static int log_format(struct settings *s, const char *value, struct error *err) {
    if (value && log_format_read(value, &s->log_json))
        return 0;
    return error_set(err, -EINVAL, "--log-format is text or json, not '%.60s'", value ? value : "");
}

static int parse(struct settings *s, int argc, char **argv, struct error *err) {
    long n;

    *s = (struct settings){.idle = IDLE_SECONDS, .ready = -1};
    for (int i = 1; i < argc; i++) {
        const char *w = argv[i];
        int r = parse_network(s, w, argv[i + 1], err);

        if (r < 0)
            return r;
        if (r == 0)
            i++;
        else if (!strcmp(w, "--system"))
            s->system = true;
        else if (!strcmp(w, "--idle")) {
            if (number(w, argv[++i], 1000000, &s->idle, err) < 0)
                return -EINVAL;
            s->idle_given = true;
        } else if (!strcmp(w, "--ready-fd")) {
            if (number(w, argv[++i], 1000, &n, err) < 0)
                return -EINVAL;
            s->ready = (int)n;
        } else if (!strcmp(w, "--restore")) {
            if (word(w, argv[++i], &s->restore, err) < 0)
                return -EINVAL;
        } else if (!strcmp(w, "--log-format")) {
            if (log_format(s, argv[++i], err) < 0)
                return -EINVAL;
        } else if (!strcmp(w, "--help") || !strcmp(w, "-h"))
            s->help = true;
        else if (!strcmp(w, "--help-man"))
            s->man = true;
        else if (!strcmp(w, "--version"))
            s->version = true;
        else
            return error_set(err, -EINVAL, "'%.60s' is no option: 'vivd --help' lists them", w);
    }
    if (!s->network.cert != !s->network.key)
        return error_set(err, -EINVAL, "--tls-cert and --tls-key belong together: give both");
    if (s->system && !s->idle_given)
        s->idle = 0;
    return 0;
}

/* ------------------------------------------------------------------ hooks of the store */

static void changed(void *opaque, const char *kind, const char *id) {
    struct manager *m = opaque;

    if (!strcmp(kind, "vm")) {
        machines_kick(m->machines, id);
        vnets_vm_changed(m->vnets, id);
        expiries_look(m->expiries, id);
    } else if (!strcmp(kind, "network"))
        vnets_kick(m->vnets, id);
    else if (!strcmp(kind, "image"))
        images_kick(m->images, id);
    else if (!strcmp(kind, "job")) {
        images_job_changed(m->images, id);
        machines_job_changed(m->machines, id);
    } else if (!strcmp(kind, "volume"))
        volumes_kick(m->volumes, id);
    else if (!strcmp(kind, "token") || !strcmp(kind, "session"))
        auth_changed(m->auth);
    waits_look(m->waits, kind, id);
}

static void events(void *opaque) {
    struct manager *m = opaque;

    follows_look(m->follows);
}

/* ------------------------------------------------------------------ idleness and signals */

static void look_idle(void *opaque) {
    struct manager *m = opaque;
    int64_t now = timer_now_ms();

    if (machines_active(m->machines) || images_active(m->images) || volumes_active(m->volumes) ||
        vnets_active(m->vnets) || follows_count(m->follows) || waits_count(m->waits) ||
        consoles_count(m->consoles) || agent_clients_count(m->agents) ||
        tickets_count(m->tickets) || network_is_open(m->network))
        m->idle_since = now;
    if (now - m->idle_since >= m->idle_ms) {
        log_notice("nothing has been to do for %lld s", (long long)m->idle_ms / 1000);
        loop_stop(m->loop);
        return;
    }
    timer_start(m->timers, &m->idle, m->idle_ms < LOOK_MS ? m->idle_ms / 2 + 1 : LOOK_MS, look_idle,
                m);
}

static void on_signal(void *opaque) {
    struct manager *m = opaque;

    loop_stop(m->loop);
}

/* ------------------------------------------------------------------ life */

/* A process that the last manager had just started may hold the socket for a moment more. */
static int listen_patiently(const char *path, struct error *err) {
    static const struct timespec nap = {.tv_nsec = 20 * 1000 * 1000};
    struct error e = {0};
    int fd = -EADDRINUSE;

    for (int i = 0; i < LISTEN_TRIES && fd == -EADDRINUSE; i++) {
        if (i)
            nanosleep(&nap, NULL);
        e = (struct error){0};
        fd = unix_socket_listen(path, 0600, "the API's socket", &e);
    }
    return fd < 0 ? error_set(err, fd, "%s", e.text) : fd;
}

static int listen_api(struct manager *m, struct error *err) {
    int fd = listen_patiently(m->home.place.socket, err);

    if (fd < 0)
        return fd;
    listen(fd, BACKLOG); /* many clients may come at the same moment */
    m->http = http_server_new(m->loop, m->timers, api_handle, m, err);
    if (!m->http)
        return -ENOMEM;
    http_server_set_error_fn(m->http, api_parse_failure_body);
    return http_server_listen(m->http, fd, NULL, err) ? 0 : -ENOMEM;
}

/* One that is begun anew knows of nothing that is there: it is not to be taken for remains. */
static int open_store(struct manager *m, struct error *err) {
    char path[PATH_MAX];
    bool fresh;
    int n;

    snprintf(path, sizeof(path), "%.4000s/store.db", m->home.place.data);
    fresh = access(path, F_OK) < 0;
    m->store = store_open(path, err);
    if (!m->store)
        return err->code;
    n = fresh ? backup_set_aside(&m->home, m->store, err) : 0;
    if (n > 0)
        log_warning("the store is begun anew: %d machines, images or volumes that it does not know "
                    "are in '%s/lost'",
                    n, m->home.place.data);
    return n < 0 ? n : 0;
}

static int start(struct manager *m, const struct settings *s, struct error *err) {
    const struct store_hooks hooks = {changed, events, m};

    m->files = &s->files;
    if (home_open(&m->home, s->system, err) < 0)
        return err->code;
    if (open_store(m, err) < 0)
        return err->code;
    m->loop = loop_new(NULL, err);
    if (!m->loop || loop_signal(m->loop, SIGTERM, on_signal, m, err) < 0 ||
        loop_signal(m->loop, SIGINT, on_signal, m, err) < 0)
        return -EIO;
    if (!cgroup_find(m->cgroup))
        log_info("this host gives the manager no control group: machines stay in its own");
    m->timers = timers_new(m->loop, err);
    m->workers = m->timers ? workers_new(m->loop, err) : NULL;
    m->machines = m->workers ? machines_new(m, err) : NULL;
    m->images = m->machines ? images_new(m, err) : NULL;
    m->volumes = m->images ? volumes_new(m, err) : NULL;
    m->vnets = m->volumes ? vnets_new(m, err) : NULL;
    m->waits = waits_new(m);
    m->follows = follows_new(m);
    m->consoles = consoles_new(m);
    m->agents = agent_clients_new(m);
    m->asks = vm_asks_new(m);
    m->usages = usages_new(m);
    m->expiries = expiries_new(m);
    m->histories = histories_new(m);
    m->backups = backups_new(m);
    m->tickets = tickets_new(m);
    if (!m->vnets || !m->waits || !m->follows || !m->consoles || !m->agents || !m->usages ||
        !m->histories || !m->backups || !m->expiries || !m->tickets)
        return error_set(err, -ENOMEM, "the manager: out of memory");
    m->auth = auth_new(m, err);
    if (!m->auth)
        return -EIO;
    if (s->rate)
        auth_set_rate(m->auth, (double)s->rate);
    store_set_hooks(m->store, &hooks);
    if (listen_api(m, err) < 0)
        return -EIO;
    m->network = network_new(m, &s->network, err);
    if (!m->network)
        return -EIO;
    images_load(m->images);
    volumes_load(m->volumes);
    vnets_load(m->vnets);
    machines_load(m->machines);
    expiries_load(m->expiries);
    histories_begin(m->histories);
    backups_begin(m->backups);
    m->started = units_now_ms();
    m->idle_ms = s->idle * 1000;
    m->idle_since = timer_now_ms();
    if (m->idle_ms)
        look_idle(m);
    return 0;
}

static void finish(struct manager *m) {
    machines_leave_work(m->machines);
    images_leave_work(m->images);
    workers_free(m->workers);
    if (m->http)
        unlink(m->home.place.socket);
    network_free(m->network);
    http_server_free(m->http);
    m->http = NULL;
    tickets_free(m->tickets);
    auth_free(m->auth);
    waits_free(m->waits);
    follows_free(m->follows);
    consoles_free(m->consoles);
    agent_clients_free(m->agents);
    vm_asks_free(m->asks);
    histories_free(m->histories);
    backups_free(m->backups);
    machines_free(m->machines);
    usages_free(m->usages);
    expiries_free(m->expiries);
    images_free(m->images);
    volumes_free(m->volumes);
    vnets_free(m->vnets);
    timer_stop(&m->idle);
    timers_free(m->timers);
    loop_free(m->loop);
    store_close(m->store);
    home_close(&m->home);
}

static void raise_file_limit(void) {
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < FILES_WANTED) {
        files.rlim_cur = files.rlim_max < FILES_WANTED ? files.rlim_max : FILES_WANTED;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static void tell_ready(int fd) {
    if (fd < 0)
        return;
    if (write(fd, "ready\n", 6) < 0)
        log_warning("who started the manager did not wait for it");
    close(fd);
}

int main(int argc, char **argv) {
    struct manager m = {
        .home = {.lock = -1, .machines = -1, .images = -1, .volumes = -1, .networks = -1}};
    struct settings s;
    struct error err = {0};
    int code = EXIT_FINE;
    bool bad;

    log_init("vivd", LOG_LEVEL_NOTICE);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* EFBIG is enough to know */
    signal(SIGHUP, SIG_IGN);  /* the terminal of whoever started it */
    umask(077);
    bad = parse(&s, argc, argv, &err) < 0;
    log_set_json(s.log_json);
    if (bad)
        code = EXIT_USAGE;
    else if (s.help)
        print_help();
    else if (s.man)
        print_man();
    else if (s.version)
        puts("vivd " VIVARIUM_VERSION);
    else if (s.restore) {
        if (home_open(&m.home, s.system, &err) < 0 || backup_restore(&m.home, s.restore, &err) < 0)
            code = err.code == -EBUSY ? EXIT_BUSY : EXIT_FAILED;
        home_close(&m.home);
    } else {
        raise_file_limit();
        if (start(&m, &s, &err) == 0) {
            log_notice("version %s looks after '%s'", VIVARIUM_VERSION, m.home.place.data);
            tell_ready(s.ready);
            loop_run(m.loop);
        } else {
            code = err.code == -EBUSY || err.code == -EADDRINUSE ? EXIT_BUSY : EXIT_FAILED;
        }
        finish(&m);
    }
    if (err.code)
        log_error("%s", err.text);
    return code;
}
