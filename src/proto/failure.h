/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kinds of failure of the manager's API, once: the word in an answer's body, the HTTP status,
 * and the exit code of viv. The body of a failure is
 *     {"code": WORD, "field": PATH or "", "reason": SENTENCE, "remedy": SENTENCE or ""}
 */
#ifndef PROTO_FAILURE_H
#define PROTO_FAILURE_H

#define FAILURES(X)                                                                                \
    X(INVALID, "invalid", 400, 2, "the request or one of its values is wrong")                     \
    X(UNAUTHORIZED, "unauthorized", 401, 5, "the caller has not said who it is, or wrongly")       \
    X(FORBIDDEN, "forbidden", 403, 5, "the caller may not do this")                                \
    X(NOT_FOUND, "not-found", 404, 4, "there is no such thing")                                    \
    X(NOT_ALLOWED, "not-allowed", 405, 2, "the path does not take this method")                    \
    X(CONFLICT, "conflict", 409, 3, "not in its present state")                                    \
    X(EXISTS, "exists", 409, 3, "the name is taken")                                               \
    X(CHANGED, "changed", 412, 3, "it is not as the caller knows it (If-Match)")                   \
    X(TOO_LARGE, "too-large", 413, 2, "the request is larger than the limits")                     \
    X(KEY_REUSED, "key-reused", 422, 3, "the Idempotency-Key was used for another request")        \
    X(UPGRADE, "upgrade", 426, 2, "another version of the protocol is needed")                     \
    X(LIMIT, "limit", 429, 3, "too many at the same time, or too often")                           \
    X(FAILED, "failed", 500, 1, "it was tried and did not work")                                   \
    X(UNAVAILABLE, "unavailable", 503, 6, "the manager cannot do it now")                          \
    X(TIMEOUT, "timeout", 504, 7, "it did not happen in time")

enum failure {
    FAILURE_NONE,
#define X(name, word, status, code, help) FAILURE_##name,
    FAILURES(X)
#undef X
};

/* Exit codes of viv that no answer has. */
enum { EXIT_CODE_OK = 0, EXIT_CODE_FAILED = 1, EXIT_CODE_USAGE = 2, EXIT_CODE_NO_MANAGER = 6 };

const char *failure_word(enum failure f);
int failure_status(enum failure f);
int failure_exit_code(enum failure f);
const char *failure_help(enum failure f);
/* FAILURE_FAILED for a word that is not known. */
enum failure failure_find(const char *word);

#endif
