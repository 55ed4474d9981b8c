/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Raw mode. The settings to restore are file-level state because exit and signal handlers must
 * reach them. */
#include "vm/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"

/*
 * Calls (main): ioctl:TCGETS ioctl:TCSETS ioctl:TCSETSW ioctl:TCSETSF ioctl:TIOCGPGRP
 *     ioctl:TIOCGWINSZ getpgrp
 */

static struct termios saved, wanted;
static volatile sig_atomic_t raw;

void terminal_restore(void) {
    if (raw) {
        raw = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &saved);
        log_raw_terminal(false);
    }
}

static void fatal(int signo, siginfo_t *info, void *context) {
    (void)context;
    terminal_restore();
    signal(signo, SIG_DFL);
    /* A fault of our own comes again when the instruction does, with the right place in the core
     * file. */
    if (info->si_code <= 0)
        raise(signo);
}

/* After SIGSTOP the shell has set the terminal to its own taste, so it is set again. */
static void cont(int signo) {
    int error = errno;

    (void)signo;
    if (raw && tcgetpgrp(STDIN_FILENO) == getpgrp()) {
        tcsetattr(STDIN_FILENO, TCSANOW, &wanted);
        log_raw_terminal(isatty(STDERR_FILENO));
    }
    errno = error;
}

/* As shells do it: sane settings while stopped, ours again once in the foreground. */
static void stop(int signo) {
    int error = errno;
    bool was_raw = raw;

    terminal_restore();
    raise(SIGSTOP);
    raw = was_raw;
    cont(signo); /* the handler has run already, or is about to in another thread */
    errno = error;
}
static void take(int signo, struct sigaction *act) {
    struct sigaction old;

    if (sigaction(signo, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
        sigaction(signo, act, NULL);
}

void terminal_guard(void) {
    static const int deadly[] = {SIGABRT, SIGBUS,  SIGFPE, SIGILL,
                                 SIGQUIT, SIGSEGV, SIGSYS, SIGTRAP};
    struct sigaction act = {.sa_sigaction = fatal, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    for (unsigned i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
        take(deadly[i], &act);
}

void terminal_raw(void) {
    struct sigaction act = {.sa_handler = cont, .sa_flags = SA_RESTART};

    if (raw || !isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved) < 0)
        return;
    wanted = saved;
    cfmakeraw(&wanted);
    atexit(terminal_restore);
    raw = 1;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &wanted) < 0) {
        raw = 0;
        return;
    }
    log_raw_terminal(isatty(STDERR_FILENO)); /* nothing turns \n into \r\n any more */
    take(SIGCONT, &act);
    act.sa_handler = stop;
    take(SIGTSTP, &act);
}
