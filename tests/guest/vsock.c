// SPDX-License-Identifier: GPL-2.0-or-later
// In a guest: sends back what comes on a port of its vsock, one connection after the other.
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct sockaddr_vm at = {.svm_family = AF_VSOCK,
                             .svm_cid = VMADDR_CID_ANY,
                             .svm_port = argc > 1 ? (unsigned)atoi(argv[1]) : 1000};
    int s = socket(AF_VSOCK, SOCK_STREAM, 0), c;
    char data[4096];
    ssize_t n;

    if (s < 0 || bind(s, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(s, 8) < 0) {
        perror("vsock");
        return 1;
    }
    while ((c = accept(s, NULL, NULL)) >= 0) {
        while ((n = read(c, data, sizeof(data))) > 0)
            if (write(c, data, (size_t)n) != n)
                break;
        close(c);
    }
    return 1;
}
