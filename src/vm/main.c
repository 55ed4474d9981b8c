/* SPDX-License-Identifier: GPL-2.0-or-later */
/* viv-vm: one virtual machine. Opens what the options name, builds the machine, runs the loop until it ends. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/trace.h"
#include "vm/chardev.h"
#include "vm/options.h"
#include "vm/terminal.h"

enum exit_code { EXIT_GUEST_OFF = 0, EXIT_OURS = 1, EXIT_BAD_INPUT = 2, EXIT_GUEST_DOWN = 3 };

#define VERSION "0.1.0"

struct vm {
    struct options options;
    pthread_mutex_t lock; /* the machine lock */
    struct loop *loop;
    struct machine *machine;
    struct chardev *serial, *console;
    struct block *disk[MACHINE_MAX_DISKS];
    struct net_port *nic[MACHINE_MAX_NICS];
    bool term_seen;
    int exit_code;
};

/* ---- serial port and console ---- */

static void serial_write(void *opaque, const uint8_t *p, size_t n)
{
    chardev_write(((struct vm *)opaque)->serial, p, n);
}

static bool serial_can_write(void *opaque)
{
    return chardev_can_write(((struct vm *)opaque)->serial);
}

static void resume_serial(void *opaque)
{
    chardev_resume_input(((struct vm *)opaque)->serial);
}

static void serial_can_receive(void *opaque)
{
    struct vm *vm = opaque;

    loop_post(vm->loop, resume_serial, vm); /* not from inside the UART */
}

static size_t serial_input(void *opaque, const uint8_t *p, size_t n)
{
    struct vm *vm = opaque;

    return vm->machine ? uart_receive(machine_serial(vm->machine), p, n) : 0;
}

static void serial_writable(void *opaque)
{
    struct vm *vm = opaque;

    if (vm->machine)
        uart_writable(machine_serial(vm->machine));
}

static size_t console_write(void *opaque, const uint8_t *p, size_t n)
{
    return chardev_write(((struct vm *)opaque)->console, p, n);
}

static void resume_console(void *opaque)
{
    chardev_resume_input(((struct vm *)opaque)->console);
}

static void console_can_receive(void *opaque)
{
    struct vm *vm = opaque;

    loop_post(vm->loop, resume_console, vm);
}

static size_t console_input(void *opaque, const uint8_t *p, size_t n)
{
    struct vm *vm = opaque;

    return vm->machine ? virtio_console_receive(machine_console(vm->machine), p, n) : 0;
}

static void console_writable(void *opaque)
{
    struct vm *vm = opaque;

    if (vm->machine)
        virtio_console_writable(machine_console(vm->machine));
}

static void leave(void *opaque)
{
    struct vm *vm = opaque;

    vm->exit_code = EXIT_GUEST_OFF;
    loop_stop(vm->loop);
}

/* ---- endings ---- */

static void machine_ended(void *opaque, enum machine_end how, unsigned code)
{
    struct vm *vm = opaque;

    switch (how) {
    case MACHINE_POWERED_OFF: vm->exit_code = EXIT_GUEST_OFF; break;
    case MACHINE_DEBUG_EXIT: vm->exit_code = (int)(code & 0xff); break;
    case MACHINE_RESET:
        vm->exit_code = EXIT_GUEST_DOWN;
        log_notice("the guest asked for a reset; --no-reboot ends it here");
        break;
    case MACHINE_CRASHED:
        vm->exit_code = EXIT_GUEST_DOWN;
        log_error("the guest crashed (triple fault or panic); --no-reboot ends it here");
        break;
    case MACHINE_FAILED:
        vm->exit_code = EXIT_OURS;
        log_error("%s", machine_error(vm->machine)->text);
        break;
    }
    loop_stop(vm->loop);
}

static void on_term(void *opaque)
{
    struct vm *vm = opaque;

    if (vm->term_seen) {
        vm->exit_code = EXIT_OURS;
        loop_stop(vm->loop);
        return;
    }
    vm->term_seen = true;
    log_notice("SIGTERM: pressing the guest's power button; a second SIGTERM ends the machine at once");
    if (vm->machine)
        machine_power_button(vm->machine);
}

static void on_int(void *opaque)
{
    struct vm *vm = opaque;

    vm->exit_code = EXIT_OURS;
    loop_stop(vm->loop);
}

/* ---- opening what the options name ---- */

static int open_lines(struct vm *vm, struct error *err)
{
    struct chardev_user user = {serial_input, serial_writable, leave, vm};

    vm->serial = chardev_open(vm->loop, vm->options.serial, err);
    if (!vm->serial)
        return -EINVAL;
    chardev_set_user(vm->serial, &user);
    if (!vm->options.console)
        return 0;
    vm->console = chardev_open(vm->loop, vm->options.console, err);
    if (!vm->console)
        return -EINVAL;
    user = (struct chardev_user){console_input, console_writable, leave, vm};
    chardev_set_user(vm->console, &user);
    return 0;
}

static int open_backends(struct vm *vm, struct machine_config *m, struct error *err)
{
    for (unsigned i = 0; i < vm->options.disks; i++) {
        vm->disk[i] = block_open(vm->loop, &vm->options.disk[i], err);
        if (!vm->disk[i])
            return -EINVAL;
        m->disk[m->disks++] = vm->disk[i];
    }
    for (unsigned i = 0; i < vm->options.nics; i++) {
        struct options_nic *n = &vm->options.nic[i];
        struct machine_nic *to = &m->nic[m->nics++];
        /* Stable across runs, as the guest's network configuration may be keyed by it. */
        const uint8_t mac[6] = {0x52, 0x54, 0x00, 0x12, 0x34, (uint8_t)(0x56 + i)};
        vm->nic[i] = net_user_open(vm->loop, n->forward, n->forwards, err);
        if (!vm->nic[i])
            return -EINVAL;
        to->port = vm->nic[i];
        memcpy(to->mac, n->mac_given ? n->mac : mac, sizeof(mac));
    }
    return 0;
}

static int make_machine(struct vm *vm, struct error *err)
{
    struct options *o = &vm->options;
    struct machine_config m = {
        .name = o->name,
        .cpus = o->cpus,
        .memory = o->memory,
        .cpu = o->cpu,
        .cpu_model = o->cpu_model,
        .kernel = o->kernel,
        .initrd = o->initrd,
        .cmdline = o->append,
        .serial = {serial_write, serial_can_write, serial_can_receive, vm},
        .has_console = o->console != NULL,
        .console = {console_write, console_can_receive, vm},
        .no_reboot = o->no_reboot,
        .debug_exit = o->debug_exit,
        .ended = machine_ended,
        .opaque = vm,
    };
    int r = open_backends(vm, &m, err);

    if (r == 0)
        r = open_lines(vm, err);
    if (r == 0) {
        vm->machine = machine_new(&m, vm->loop, &vm->lock, err);
        r = vm->machine ? 0 : -EINVAL;
    }
    return r;
}

static void close_all(struct vm *vm)
{
    machine_free(vm->machine);
    vm->machine = NULL;
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < vm->options.disks; i++)
        block_close(vm->disk[i]);
    for (unsigned i = 0; i < vm->options.nics; i++)
        net_close(vm->nic[i]);
    chardev_close(vm->serial);
    chardev_close(vm->console);
    pthread_mutex_unlock(&vm->lock);
    loop_free(vm->loop);
}

static int run(struct vm *vm, struct error *err)
{
    int r = 0;

    vm->loop = loop_new(&vm->lock, err);
    if (!vm->loop)
        return EXIT_OURS;
    if (loop_signal(vm->loop, SIGTERM, on_term, vm, err) < 0 || loop_signal(vm->loop, SIGHUP, on_term, vm, err) < 0 ||
        loop_signal(vm->loop, SIGINT, on_int, vm, err) < 0)
        r = EXIT_OURS;
    else if (make_machine(vm, err) < 0)
        r = EXIT_BAD_INPUT;
    else if (machine_start(vm->machine, err) < 0)
        r = EXIT_OURS;
    if (r == 0) {
        loop_run(vm->loop);
        r = vm->exit_code;
    }
    return r;
}

static int enable_traces(struct options *o)
{
    for (unsigned i = 0; i < o->traces; i++) {
        if (!strcmp(o->trace[i], "help")) {
            trace_list(stdout);
            return 1;
        }
        if (!trace_enable(o->trace[i]))
            log_warning("--trace: no event matches '%s'; '--trace help' lists them", o->trace[i]);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct vm vm = {.lock = PTHREAD_MUTEX_INITIALIZER, .exit_code = EXIT_OURS};
    struct error err = {0};
    int code;

    log_init("viv-vm", LOG_LEVEL_NOTICE);
    signal(SIGPIPE, SIG_IGN);
    if (options_parse(&vm.options, argc, argv, &err) < 0) {
        log_error("%s", err.text);
        options_done(&vm.options);
        return EXIT_BAD_INPUT;
    }
    if (vm.options.help || vm.options.version) {
        if (vm.options.help)
            options_help(stdout);
        else
            puts("viv-vm " VERSION);
        options_done(&vm.options);
        return 0;
    }
    if (enable_traces(&vm.options)) {
        options_done(&vm.options);
        return 0;
    }
    code = run(&vm, &err);
    terminal_restore();
    if (err.code)
        log_error("%s", err.text);
    if (vm.options.stats && vm.machine)
        machine_print_stats(vm.machine, stderr);
    close_all(&vm);
    options_done(&vm.options);
    return code;
}
