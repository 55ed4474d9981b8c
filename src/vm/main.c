/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv-vm: one virtual machine. Opens what the options name, builds the machine, runs the loop until
 * it ends. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/trace.h"
#include "base/version.h"
#include "block/blockjob.h"
#include "jail/jail.h"
#include "machine/firmware.h"
#include "machine/snapshot.h"
#include "machine/storage.h"
#include "proto/control.h"
#include "proto/lines.h"
#include "state/snapshot.h"
#include "vm/attach.h"
#include "vm/cdrom.h"
#include "vm/consoles.h"
#include "vm/control.h"
#include "vm/grants.h"
#include "vm/nics.h"
#include "vm/options.h"
#include "vm/passed.h"
#include "vm/restore.h"
#include "vm/screen.h"
#include "vm/shares.h"
#include "vm/speaker.h"
#include "vm/template.h"
#include "vm/terminal.h"
#include "vm/uefi_vars.h"
#include "vm/vsock.h"
#include "vm/working_set.h"

enum exit_code { EXIT_GUEST_OFF = 0, EXIT_OURS = 1, EXIT_BAD_INPUT = 2, EXIT_GUEST_DOWN = 3 };

struct vm {
    struct options options;
    pthread_mutex_t lock; /* the machine lock */
    struct loop *loop;
    struct machine *machine;
    struct consoles consoles;
    struct vsock *vsock;
    struct shares shares;
    struct speaker *speaker; /* NULL: nobody hears it */
    struct vm_screen *screen;
    struct control_vm controlled;
    struct control *control;
    struct vm_working_set *working_set;
    struct jail *jail;     /* NULL: none */
    struct snapshot *from; /* until the machine is made of it */
    struct clone *clone;   /* NULL: nobody asked a template for it */
    struct block *disk[MACHINE_MAX_DISKS];
    struct block *cdrom[MACHINE_MAX_CDROMS];
    uint8_t *nic_rom[MACHINE_MAX_NICS];
    struct net_port *nic[MACHINE_MAX_NICS];
    struct passed passed;
    struct attach attach;
    bool term_seen;
    unsigned crash_seen;
    FILE *firmware_log;
    struct firmware firmware;
    struct uefi_vars *vars;
    int exit_code;
};

static void resumed(void *opaque) {
    struct vm *vm = opaque;

    for (unsigned i = 0; i < vm->options.disks; i++)
        if (vm->disk[i])
            block_resume(vm->disk[i]);
    consoles_resumed(&vm->consoles);
    if (vm->vsock)
        virtio_vsock_resume(machine_vsock(vm->machine));
}

static void leave(void *opaque) {
    struct vm *vm = opaque;

    vm->exit_code = EXIT_GUEST_OFF;
    loop_stop(vm->loop);
}

/* ---- what clients of the control socket are told ---- */

static void tell(struct vm *vm, const char *event, json_t *data) {
    if (vm->control)
        control_event(vm->control, event, data);
    else
        json_decref(data); /* the machine is still being made */
}

static void tell_crash(struct vm *vm, bool panic) {
    tell(vm, "crash",
         json_pack("{s:s, s:s}", "kind", panic ? "panic" : "triple-fault", "text",
                   panic ? "the guest says that it panicked" : "the guest crashed (triple fault)"));
}

static void tell_end(struct vm *vm, const char *how) {
    tell(vm, "end", json_pack("{s:s, s:i}", "how", how, "code", vm->exit_code));
}

static void quit(void *opaque) {
    struct vm *vm = opaque;

    vm->exit_code = EXIT_GUEST_OFF;
    tell_end(vm, "quit");
    loop_stop(vm->loop);
}

/* ---- snapshots ---- */

static void save_lines(void *opaque, struct snapshot_sections *out) {
    struct vm *vm = opaque;

    consoles_save(&vm->consoles, out);
    shares_save(&vm->shares, out);
    if (vm->screen)
        vm_screen_save(vm->screen, out);
}

static void panicked(void *opaque) { tell_crash(opaque, true); }

/* ---- endings ---- */

static void machine_ended(void *opaque, enum machine_end how, unsigned code) {
    static const char *const names[] = {"powered-off", "reset", "crashed", "debug-exit", "failed"};
    struct vm *vm = opaque;

    consoles_flush(&vm->consoles);
    if (how == MACHINE_CRASHED)
        tell_crash(vm, code);
    switch (how) {
    case MACHINE_POWERED_OFF:
        vm->exit_code = EXIT_GUEST_OFF;
        break;
    case MACHINE_DEBUG_EXIT:
        vm->exit_code = (int)(code & 0xff);
        break;
    case MACHINE_RESET:
        vm->exit_code = EXIT_GUEST_DOWN;
        log_notice("the guest asked for a reset; --no-reboot ends it here");
        break;
    case MACHINE_CRASHED:
        vm->exit_code = EXIT_GUEST_DOWN;
        log_error("the guest %s; --no-reboot ends it here",
                  code ? "says that it panicked" : "crashed (triple fault)");
        break;
    case MACHINE_FAILED:
        vm->exit_code = EXIT_OURS;
        log_error("%s", machine_error(vm->machine)->text);
        break;
    }
    tell_end(vm, names[how]);
    loop_stop(vm->loop);
}

static void on_term(void *opaque) {
    struct vm *vm = opaque;

    if (vm->term_seen) {
        vm->exit_code = EXIT_OURS;
        loop_stop(vm->loop);
        return;
    }
    vm->term_seen = true;
    log_notice("pressing the guest's power button; a second SIGTERM ends the machine at once");
    if (vm->machine)
        machine_power_button(vm->machine);
}

static void on_int(void *opaque) {
    struct vm *vm = opaque;

    vm->exit_code = EXIT_OURS;
    log_notice("interrupted: the machine ends here, the guest was not shut down");
    loop_stop(vm->loop);
}

static bool disk_waits(const struct vm *vm) {
    for (unsigned i = 0; i < vm->options.disks; i++)
        if (vm->disk[i] && block_wants_pause(vm->disk[i]))
            return true;
    return false;
}

/* For those who have no control socket. */
static void on_usr1(void *opaque) {
    struct vm *vm = opaque;

    if (vm->control && disk_waits(vm))
        control_resume(vm->control);
}

static void was_reset(void *opaque, bool crashed) {
    struct vm *vm = opaque;

    if (crashed)
        tell_crash(vm, false);
    tell(vm, "reset", json_pack("{s:b}", "crashed", (int)crashed));
    if (crashed && !vm->crash_seen++) /* a guest that crashes early does so again and again */
        log_warning(
            "the guest crashed (triple fault) and was reset; --no-reboot would end it instead");
}

static void disk_failed(void *opaque, const struct error *e) {
    log_error("%s", e->text);
    tell(opaque, "disk-error", json_pack("{s:o}", "text", message_text(e->text)));
}

static void pause_machine(void *opaque) {
    struct vm *vm = opaque;

    if (vm->control && disk_waits(vm)) /* still */
        control_pause(vm->control, "disk-error");
}

static void disk_wants_pause(void *opaque, const struct error *e) {
    struct vm *vm = opaque;

    disk_failed(vm, e);
    loop_post(vm->loop, pause_machine, vm); /* which drains the disk that is just speaking */
}

static void unplugged(void *opaque, enum machine_part part, unsigned number, bool refused) {
    struct vm *vm = opaque;

    tell(vm, "device", attach_event(&vm->attach, part, number, refused ? "refused" : "removed"));
    if (!refused)
        attach_close(&vm->attach, part, number);
}

static void firmware_says(void *opaque, uint8_t byte) {
    struct vm *vm = opaque;

    if (vm->firmware_log)
        fputc(byte, vm->firmware_log);
}

/* ---- opening what the options name ---- */

static int open_firmware(struct vm *vm, struct machine_config *m, struct error *err) {
    const char *path = vm->options.firmware_log;
    int r = firmware_open(&vm->firmware, vm->options.firmware, err);

    if (r == 0)
        r = uefi_vars_open(vm->options.uefi_vars, vm->firmware.path, vm->firmware.size, &vm->vars,
                           err);
    if (r < 0)
        return r;
    m->firmware = &vm->firmware;
    if (vm->options.smm == SMM_AUTO)
        vm->options.smm = firmware_needs_smm(&vm->firmware) ? SMM_ON : SMM_OFF;
    m->smm = vm->options.smm == SMM_ON;
    /* One that the firmware does not know would enter the mode where anybody may have put code. */
    if (m->smm && vm->options.cpus_max > vm->options.cpus)
        return error_set(err, -EINVAL,
                         "--cpus: firmware with system management mode knows no processors that "
                         "come later: leave max= out, or take other firmware (or --smm off)");
    if (vm->vars) {
        m->flash_contents = uefi_vars_data(vm->vars, &m->flash.size);
        m->flash.changed = uefi_vars_changed;
        m->flash.opaque = vm->vars;
    }
    if (!path)
        return 0;
    vm->firmware_log = fopen(path, "ae");
    if (!vm->firmware_log)
        return error_set(err, -errno, "--firmware-log: '%s' cannot be written: %s", path,
                         strerror(errno));
    setvbuf(vm->firmware_log, NULL, _IOLBF, 0);
    return 0;
}

static int open_cdroms(struct vm *vm, struct machine_config *m, struct error *err) {
    for (unsigned i = 0; i < vm->options.cdroms; i++) {
        if (vm->options.cdrom[i]) {
            vm->cdrom[i] = cdrom_open(vm->loop, vm->options.cdrom[i], err);
            if (!vm->cdrom[i])
                return -EINVAL;
        }
        m->cdrom_device[m->cdroms] = vm->options.cdrom_device[i];
        m->cdrom_bus[m->cdroms] = vm->options.cdrom_bus[i];
        m->cdrom[m->cdroms++] = vm->cdrom[i];
    }
    return 0;
}

static int open_backends(struct vm *vm, struct machine_config *m, struct error *err) {
    vm->attach = (struct attach){.loop = vm->loop,
                                 .options = &vm->options,
                                 .disk = vm->disk,
                                 .nic = vm->nic,
                                 .nic_rom = vm->nic_rom,
                                 .passed = &vm->passed,
                                 .disk_failed = disk_failed,
                                 .disk_wants_pause = disk_wants_pause,
                                 .opaque = vm};
    for (m->disks = 0; m->disks < vm->options.disks; m->disks++)
        if (attach_open_disk(&vm->attach, m->disks, m, err) < 0)
            return -EINVAL;
    if (open_cdroms(vm, m, err) < 0 || storage_check(m, err) < 0)
        return -EINVAL;
    for (m->nics = 0; m->nics < vm->options.nics; m->nics++)
        if (attach_open_nic(&vm->attach, m->nics, m, err) < 0)
            return -EINVAL;
    for (; m->passed_count < vm->options.passed_count; m->passed_count++)
        if (attach_open_device(&vm->attach, m->passed_count, m, err) < 0)
            return -EINVAL;
    passed_opened(&vm->passed);
    if (options_has_screen(&vm->options)) {
        vm->screen = vm_screen_new(vm->loop, &vm->options, &m->display, err);
        if (!vm->screen)
            return -ENOMEM;
    }
    if (vm->options.speaker) {
        vm->speaker = speaker_open(vm->options.speaker, err);
        if (!vm->speaker)
            return -EINVAL;
        m->speaker = speaker_sink(vm->speaker);
    }
    if (shares_open(&vm->shares, vm->loop, &vm->options, m, err) < 0)
        return -EINVAL;
    if (!vm->options.vsock)
        return 0;
    vm->vsock = vsock_open(vm->loop, vm->options.vsock, err);
    if (!vm->vsock)
        return -EINVAL;
    m->has_vsock = true;
    m->vsock = (struct virtio_vsock_config){vm->options.vsock_cid, vsock_host(vm->vsock)};
    return 0;
}

/* After the machine, of which its clients may ask at once. */
static int open_control(struct vm *vm, struct error *err) {
    vm->controlled = (struct control_vm){.loop = vm->loop,
                                         .machine = vm->machine,
                                         .options = &vm->options,
                                         .disk = vm->disk,
                                         .screen = vm->screen,
                                         .nic = vm->options.nic,
                                         .port = vm->nic,
                                         .cdrom = vm->cdrom,
                                         .attach = &vm->attach,
                                         .jail = vm->jail,
                                         .quit = quit,
                                         .save = save_lines,
                                         .opaque = vm};
    vm->control = control_new(&vm->controlled, err);
    if (!vm->control)
        return -ENOMEM;
    if (vm->options.paused)
        control_pause(vm->control, "asked");
    return vm->options.control ? control_listen(vm->control, vm->options.control, err) : 0;
}

static int build_machine(struct vm *vm, struct error *err) {
    struct options *o = &vm->options;
    struct machine_config m = {
        .name = o->name,
        .cpus = options_all_cpus(o),
        .cpus_present = o->cpus_max ? o->cpus : 0,
        .memory = o->memory,
        .has_sata = o->has_sata,
        .backing = &o->placement.backing,
        .numa = &o->placement.numa,
        .sata_no_msi = o->sata_no_msi,
        .memory_more = o->memory_max > o->memory ? o->memory_max - o->memory : 0,
        .cpu = o->cpu,
        .cpu_model = o->cpu_model,
        .dirty = o->dirty,
        .dirty_prove = o->dirty_prove,
        .cpu_debug = o->cpu_debug,
        .kernel = o->kernel,
        .initrd = o->initrd,
        .initrds = o->initrds,
        .cmdline = o->append,
        .boot_menu = o->boot_menu,
        .hpet = o->hpet,
        .boot_order = o->boot_order,
        .boot_first = o->boot_first,
        .smbios = o->smbios,
        .smbios_settings = o->smbios_settings,
        .firmware_log = {firmware_says, vm},
        .restoring = o->restore != NULL,
        .has_balloon = o->balloon,
        .no_reboot = o->no_reboot,
        .debug_exit = o->debug_exit,
        .ended = machine_ended,
        .was_reset = was_reset,
        .panicked = panicked,
        .resumed = resumed,
        .unplugged = unplugged,
        .opaque = vm,
    };
    int r = placement_resolve(&o->placement, options_all_cpus(o), o->memory, o->memory_max, err);

    if (r < 0)
        return r;
    consoles_begin(&vm->consoles, vm->loop, o, &m);
    nics_choose_roms(o);
    r = open_backends(vm, &m, err);

    if (r == 0 && o->firmware)
        r = open_firmware(vm, &m, err);
    if (r < 0)
        return r;
    m.sites = o->sites;
    memcpy(m.site, o->site, sizeof(m.site));
    vm->consoles.leave = leave;
    vm->consoles.opaque = vm;
    vm->machine = machine_new(&m, vm->loop, &vm->lock, err);
    vm->attach.machine = vm->machine;
    if (vm->machine && vm->vsock)
        vsock_attach(vm->vsock, machine_vsock(vm->machine));
    return vm->machine ? 0 : -EINVAL;
}

/* Builds the machine that the snapshot tells of and loads it; nothing of the guest's is touched if
 * that is refused. */
static int restore_machine(struct vm *vm, const struct snapshot *s, struct error *err) {
    int r = build_machine(vm, err);

    if (r == 0)
        r = restore_check_disks(&vm->options, vm->disk, s, err);
    if (r < 0)
        return r;
    pthread_mutex_lock(&vm->lock);
    r = machine_load(vm->machine, s, err);
    if (r == 0)
        r = shares_load(&vm->shares, &vm->options, s, err);
    if (r == 0 && vm->options.renew_identity)
        machine_replug_nics(vm->machine);
    if (r == 0)
        vm->working_set = vm_working_set_start(&vm->options, vm->loop, vm->machine, s);
    pthread_mutex_unlock(&vm->lock);
    return r;
}

/* Before the jail is prepared: a shared folder that it tells of has a server outside. */
static int read_snapshot(struct vm *vm, struct error *err) {
    const char *from = vm->options.restore;

    if (!from)
        return 0;
    vm->from = vm->clone ? clone_take_snapshot(vm->clone) : snapshot_open(from, err);
    return vm->from ? restore_options(&vm->options, vm->from, err) : -EINVAL;
}

static int make_machine(struct vm *vm, struct error *err) {
    struct snapshot *s = vm->from;
    int r = s ? restore_machine(vm, s, err) : build_machine(vm, err);

    vm->from = NULL;
    if (r == 0)
        r = consoles_open(&vm->consoles, vm->machine, &vm->options, err);
    if (r == 0 && s)
        consoles_load(&vm->consoles, s);
    if (r == 0 && s && vm->screen)
        vm_screen_load(vm->screen, s);
    snapshot_close(s);
    if (r == 0 && vm->screen)
        r = vm_screen_attach(vm->screen, vm->machine, &vm->options, err);
    return r < 0 ? r : open_control(vm, err);
}

/* While there are clients who hear of it. */
static void end_disk_jobs(struct vm *vm) {
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->options.disks; i++)
        if (vm->disk[i])
            blockjob_stop(vm->disk[i]);
    pthread_mutex_unlock(&vm->lock);
}

static void close_all(struct vm *vm) {
    end_disk_jobs(vm);
    control_free(vm->control);
    vm->control = NULL;
    pthread_mutex_lock(&vm->lock);
    vm_working_set_stop(vm->working_set);
    vm_screen_close(vm->screen);
    pthread_mutex_unlock(&vm->lock);
    snapshot_close(vm->from);
    vm->from = NULL;
    machine_free(vm->machine);
    vm->machine = NULL;
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->options.disks; i++)
        block_close(vm->disk[i]);
    for (unsigned i = 0; i < vm->options.cdroms; i++)
        block_close(vm->cdrom[i]);
    for (unsigned i = 0; i < vm->options.nics; i++)
        net_close(vm->nic[i]);
    for (unsigned i = 0; i < vm->options.nics; i++)
        free(vm->nic_rom[i]);
    passed_done(&vm->passed);
    consoles_close(&vm->consoles);
    if (vm->firmware_log)
        fclose(vm->firmware_log);
    uefi_vars_close(vm->vars);
    firmware_close(&vm->firmware);
    vsock_close(vm->vsock);
    shares_close(&vm->shares);
    speaker_close(vm->speaker);
    vm_screen_free(vm->screen);
    pthread_mutex_unlock(&vm->lock);
    loop_free(vm->loop);
}

/* The host ran out of something, rather than the user having asked for something impossible. */
static bool is_our_failure(const struct error *err) {
    return err->code == -ENOMEM || err->code == -EMFILE || err->code == -ENFILE;
}

/* What was ignored when we were started (nohup, a shell's background job) stays ignored. */
static int take_signal(struct vm *vm, int signo, loop_fn *fn, struct error *err) {
    struct sigaction old;

    if (sigaction(signo, NULL, &old) == 0 && old.sa_handler == SIG_IGN)
        return 0;
    return loop_signal(vm->loop, signo, fn, vm, err);
}

/* ---- the jail ---- */

static int prepare_jail(struct vm *vm, struct error *err) {
    const struct jail_options o = {.user = vm->options.jail_user,
                                   .request = grants_of_request,
                                   .request_max = CONTROL_REQUEST_MAX};

    placement_limits(&vm->options.placement); /* while they may be raised */
    if (jail_left_out(vm->options.no_jail, "machine"))
        return 0;
    if (shares_start(&vm->shares, &vm->options, err) < 0)
        return err->code;
    vm->jail = jail_prepare(&o, err);
    return vm->jail ? 0 : err->code;
}

static void print_jail(const struct jail_facts *f) {
    if (!f->in) {
        fprintf(stderr, "jail: none\n");
        return;
    }
    fprintf(stderr, "jail: user %u%s%s%s%s%s%s%s%s%s, %u system calls%s%s\n", f->uid,
            f->capabilities ? ", no capabilities" : "", f->empty_root ? ", an empty root" : "",
            f->signals ? ", signals stay inside" : "",
            f->cgroup ? ", a cgroup" : ", no cgroup of its own",
            f->mount_namespace ? ", namespaces: mount" : "", f->network_namespace ? " network" : "",
            f->ipc_namespace ? " IPC" : "", f->uts_namespace ? " UTS" : "",
            f->user_namespace ? " user" : "", f->calls, *f->missing ? "; missing: " : "",
            f->missing);
}

/* From here on the guest has its say. */
static int enter_jail(struct vm *vm, struct error *err) {
    int r = machine_settle_memory(vm->machine, err);

    if (r == 0)
        r = placement_enter(&vm->options.placement, options_all_cpus(&vm->options), err);
    if (r < 0)
        return r;
    if (!vm->jail)
        return 0;
    passed_allow(&vm->options);
    json_object_seed(0); /* opens a file, which is quicker from outside */
    grants_of_options(&vm->options, jail_grant, vm->jail);
    for (unsigned i = 0; i < vm->options.disks; i++)
        grants_of_disk(vm->disk[i], !vm->options.disk[i].readonly, jail_grant, vm->jail);
    return jail_enter(vm->jail, err);
}

static int run(struct vm *vm, struct error *err) {
    int r = 0;

    if (read_snapshot(vm, err) < 0)
        r = is_our_failure(err) ? EXIT_OURS : EXIT_BAD_INPUT;
    else if (prepare_jail(vm, err) < 0)
        r = err->code == -EINVAL ? EXIT_BAD_INPUT : EXIT_OURS;
    else if (!(vm->loop = loop_new(&vm->lock, err)))
        r = EXIT_OURS;
    else if (take_signal(vm, SIGTERM, on_term, err) < 0 ||
             take_signal(vm, SIGHUP, on_term, err) < 0 ||
             take_signal(vm, SIGUSR1, on_usr1, err) < 0 || take_signal(vm, SIGINT, on_int, err) < 0)
        r = EXIT_OURS;
    else if (make_machine(vm, err) < 0)
        r = is_our_failure(err) ? EXIT_OURS : EXIT_BAD_INPUT;
    else if (enter_jail(vm, err) < 0 || machine_start(vm->machine, err) < 0)
        r = err->code == -EINVAL ? EXIT_BAD_INPUT : EXIT_OURS;
    place_io();
    clone_answer(vm->clone, err);
    if (r == 0) {
        loop_run(vm->loop);
        r = vm->exit_code;
    }
    if (vm->machine)
        machine_stop(vm->machine);
    return r;
}

/* True if that was all that was asked for. */
static bool enable_traces(const struct options *o, struct error *err) {
    for (unsigned i = 0; i < o->traces; i++) {
        if (!strcmp(o->trace[i], "help")) {
            trace_list(stdout);
            return true;
        }
        if (!trace_enable(o->trace[i])) {
            error_set(err, -EINVAL, "--trace: no event matches '%s': '--trace help' lists them",
                      o->trace[i]);
            return true;
        }
    }
    return false;
}

/* Does what needs no machine; true if that was all. */
static bool answer(struct options *o, int argc, char **argv, struct error *err) {
    if (options_parse(o, argc, argv, err) < 0)
        return true;
    if (o->help)
        options_help(stdout);
    else if (o->help_man)
        options_help_man(stdout);
    else if (o->version)
        puts("viv-vm " VIVARIUM_VERSION);
    else
        return enable_traces(o, err);
    return true;
}

static int flush_answer(void) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    log_error("the answer cannot be written to standard output: %s; make room there, or send it "
              "elsewhere",
              strerror(errno));
    return EXIT_OURS;
}

/* A closed standard descriptor would be given to the next file opened, a disk image say, and the
 * guest's console be written into it. */
static void fill_standard_descriptors(void) {
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}

/* A machine that was asked for on the command line, or by a client of a template. */
static int run_machine(struct vm *vm, struct error *err) {
    char prefix[80];
    int code;

    snprintf(prefix, sizeof(prefix), "viv-vm/%s", vm->options.name);
    if (*vm->options.name)
        log_init(prefix, LOG_LEVEL_NOTICE);
    terminal_guard();
    code = run(vm, err);
    terminal_restore();
    return code;
}

/* Goes on as the template, and as each of its machines. */
static int run_template(struct vm *vm, int argc, char **argv, struct error *err) {
    int r = template_serve(&vm->options, argc, argv, &vm->clone, err);

    if (r == 1)
        return run_machine(vm, err);
    return r == 0 ? EXIT_GUEST_OFF : EXIT_BAD_INPUT;
}

int main(int argc, char **argv) {
    struct vm vm = {.lock = PTHREAD_MUTEX_INITIALIZER, .exit_code = EXIT_OURS};
    struct error err = {0};
    bool answered;
    int code;

    mallopt(M_ARENA_MAX, 1); /* what threads allocate is little, and an arena each is not */
    jail_note_descriptors();
    fill_standard_descriptors();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* EFBIG is enough to know */
    log_init("viv-vm", LOG_LEVEL_NOTICE);
    answered = answer(&vm.options, argc, argv, &err);
    log_set_json(vm.options.log_json);
    if (answered) {
        code = err.code ? EXIT_BAD_INPUT : flush_answer();
    } else if (vm.options.template) {
        code = run_template(&vm, argc, argv, &err);
    } else {
        code = run_machine(&vm, &err);
    }
    if (err.code)
        log_error("%s", err.text);
    if (vm.options.stats && vm.machine) {
        machine_print_stats(vm.machine, stderr);
        print_jail(jail_facts(vm.jail));
    }
    close_all(&vm);
    jail_leave(vm.jail);
    options_done(&vm.options);
    clone_free(vm.clone);
    return code;
}
