/* Calls that tell their own number, at entry and at return: umask(n) has n as its argument and
 * gives back the last nine bits of the argument before. So a reader knows of each row which call it
 * is of, even where rows around it are missing. */
#include <sys/syscall.h>
#include <unistd.h>

static void flood(long first, long count) {
  for (long n = first; n < first + count; n++) syscall(SYS_umask, n);
}
