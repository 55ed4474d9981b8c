/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Raw mode. The settings to restore are file-level state because exit and signal handlers must reach them. */
#include "vm/terminal.h"

#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved;
static volatile sig_atomic_t raw;

void terminal_restore(void)
{
    if (raw) {
        raw = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &saved);
    }
}

static void fatal(int signo)
{
    terminal_restore();
    raise(signo); /* with the default action again (SA_RESETHAND) */
}

/* Stopped from outside (SIGTSTP cannot come from the keyboard in raw mode): sane terminal meanwhile. */
static void cont(int signo)
{
    (void)signo;
    if (!raw && tcgetattr(STDIN_FILENO, &saved) == 0)
        terminal_raw();
}

void terminal_raw(void)
{
    static const int deadly[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGQUIT, SIGSYS, SIGTRAP};
    struct sigaction act = {.sa_handler = fatal, .sa_flags = (int)SA_RESETHAND};
    struct termios t;

    if (raw || !isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved) < 0)
        return;
    atexit(terminal_restore);
    for (unsigned i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++) {
        struct sigaction old;
        if (sigaction(deadly[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            sigaction(deadly[i], &act, NULL);
    }
    act = (struct sigaction){.sa_handler = cont, .sa_flags = SA_RESTART};
    sigaction(SIGCONT, &act, NULL);
    t = saved;
    cfmakeraw(&t);
    t.c_oflag |= OPOST; /* our own messages on stderr stay readable */
    if (tcsetattr(STDIN_FILENO, TCSANOW, &t) == 0)
        raw = 1;
}
