// SPDX-License-Identifier: MIT
//
// The paused target: becomes the user, finds the command, waits for one byte, executes it.
//
// Owns what must happen inside the target's own process before its first instruction. Does not
// own pipes, environment or working directory (the parent sets those up), nor tracing: it does
// not know what is attached while it waits.
//
//   launcher [-i MASK] [-n SOFT] GO-FD STATUS-FD UID GID GROUPS -- COMMAND [ARG...]
//   -i MASK  signals to ignore, a hexadecimal set as in SigIgn of /proc/PID/status
//   -n SOFT  soft RLIMIT_NOFILE. Node.js resets ignored signals (nohup's SIGHUP) and raises this
//            limit in itself, so its children would not have what the user's shell gave.
//   UID, GID  -1 keeps the present one.  GROUPS  1,2,3 (supplementary), "" for none, - keeps.
//
// On STATUS-FD:  "R\n" when ready, then "E <errno> <operation> <detail>\n" for a failure (before
// or after). Closed without an E line means that the command is executing. Exit status: 127 not
// found, 126 not executable, 125 everything else, and silently 125 when GO-FD closes unread.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;
static int status_fd = -1;

static _Noreturn void fail(int exit_code, int error, const char *operation, const char *detail) {
  dprintf(status_fd, "E %d %s %s\n", error, operation, detail);
  _exit(exit_code);
}

static _Noreturn void fail_exec(int error, const char *operation, const char *command) {
  fail(error == ENOENT || error == ENOTDIR ? 127 : 126, error, operation, command);
}

static long long number(const char *text, int base) {
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, base);
  if (errno || end == text || *end) fail(125, EINVAL, "argument", text);
  return value;
}

static void set_groups(char *list) {
  size_t count = 0, room = *list != '\0';
  for (const char *c = list; *c; c++) room += *c == ',';
  gid_t *groups = calloc(room + 1, sizeof *groups);
  if (!groups) fail(125, ENOMEM, "setgroups", list);
  char *rest = list;
  while (count < room) groups[count++] = (gid_t)number(strsep(&rest, ","), 10);
  if (setgroups(count, groups)) fail(125, errno, "setgroups", "");
}

// 0, or why this file would not execute. The ids are final here, so access() speaks for execve().
static int refusal(const char *path) {
  struct stat info;
  if (stat(path, &info)) return errno;
  if (!S_ISREG(info.st_mode)) return EACCES;
  return access(path, X_OK) ? errno : 0;
}

// As execvp() does it, but before the pause: probing one folder after the other must not be the
// first thing recorded of the target. What is found may still fail in execve(), which then says so.
static const char *find(const char *command) {
  char *path = NULL;
  const char *list = getenv("PATH");
  if (strchr(command, '/')) {
    int error = refusal(command);
    if (error) fail_exec(error, "find", command);
    return command;
  }
  if (!*command) fail_exec(ENOENT, "find", command);
  if (!list) list = "/bin:/usr/bin";  // what glibc's execvp() assumes
  for (int error = ENOENT;; list++) {
    size_t length = strcspn(list, ":");
    const char *slash = length ? "/" : "";  // an empty element is the working directory
    if (asprintf(&path, "%.*s%s%s", (int)length, list, slash, command) < 0)
      fail(125, ENOMEM, "find", command);
    int reason = refusal(path);
    if (!reason) return path;
    if (reason == EACCES) error = EACCES;  // a later folder may do better; if none does, say this
    free(path);
    list += length;
    if (!*list) fail_exec(error, "find", command);
  }
}

// execvp() gives what execve() cannot run to sh. Not a binary, though: as the shells have it, that
// is ELF (of another machine) or has a NUL in its first line.
static int is_text(const char *path) {
  char start[81] = "";
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  ssize_t length = read(fd, start, sizeof start - 1);
  close(fd);
  ssize_t line = (ssize_t)strcspn(start, "\n");
  return length >= 0 && strncmp(start, "\177ELF", 4) != 0 &&
         (start[line] == '\n' || line == length);
}

int main(int argc, char **argv) {
  unsigned long long ignored = 0;
  long long soft_files = -1;
  for (int option; (option = getopt(argc, argv, "+i:n:")) != -1;) {
    if (option == 'i') ignored = strtoull(optarg, NULL, 16);
    if (option == 'n') soft_files = strtoll(optarg, NULL, 10);
    if (option == '?') return 125;
  }
  argv += optind;
  if (argc - optind < 7 || strcmp(argv[5], "--") != 0) return 125;
  int go_fd = atoi(argv[0]);
  status_fd = atoi(argv[1]);
  char **arguments = argv + 6;
  const char *command = arguments[0];

  // Never seen by the command; and blocking, whatever the parent made of its pipes.
  if (fcntl(go_fd, F_SETFD, FD_CLOEXEC) || fcntl(status_fd, F_SETFD, FD_CLOEXEC)) return 125;
  if (fcntl(go_fd, F_SETFL, 0) || fcntl(status_fd, F_SETFL, 0)) return 125;

  // Limits and groups need the privileges that setresuid() gives up.
  struct rlimit files;
  if (soft_files >= 0 && !getrlimit(RLIMIT_NOFILE, &files)) {
    if ((rlim_t)soft_files < files.rlim_max) files.rlim_cur = (rlim_t)soft_files;
    if (setrlimit(RLIMIT_NOFILE, &files)) fail(125, errno, "setrlimit", "RLIMIT_NOFILE");
  }
  if (strcmp(argv[4], "-") != 0) set_groups(argv[4]);
  gid_t gid = (gid_t)number(argv[3], 10);
  uid_t uid = (uid_t)number(argv[2], 10);
  if (gid != (gid_t)-1 && setresgid(gid, gid, gid)) fail(125, errno, "setresgid", argv[3]);
  if (uid != (uid_t)-1 && setresuid(uid, uid, uid)) fail(125, errno, "setresuid", argv[2]);

  // All that may be needed is made now, not after the pause.
  const char *path = find(command);
  char **script = is_text(path) ? calloc((size_t)(argc - optind), sizeof *script) : NULL;
  if (script) {
    script[0] = "/bin/sh";
    script[1] = (char *)path;
    for (char **from = arguments + 1, **to = script + 2; *from;) *to++ = *from++;
  }

  for (int n = 1; n <= 64; n++)  // fails, as it should, for SIGKILL, SIGSTOP and libc's own two
    signal(n, (ignored >> (n - 1)) & 1 ? SIG_IGN : SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);

  char byte;
  ssize_t got;
  if (write(status_fd, "R\n", 2) != 2) _exit(125);
  do {
    got = read(go_fd, &byte, 1);
  } while (got < 0 && errno == EINTR);
  if (got != 1) _exit(125);  // the monitor died: leave no trace

  execve(path, arguments, environ);  // nothing between read and this: it is the first row
  if (errno == ENOEXEC && script) execve(script[0], script, environ);
  fail_exec(errno, "execve", command);
}
