// flags: -static -nostdlib -nostartfiles -ffreestanding -fno-stack-protector -fno-pie -no-pie -O1
/* A static program without a C library that makes exactly the calls below, in this order, and no
 * others: the list stands again in test/syscall.test.ts. Chosen for what a table can get wrong: a
 * failing call, a negative first argument in 32 and in 64 bits, a number above 2^53 as argument and
 * as result, and a number no kernel has. */
#if defined(__x86_64__)
static long call(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
static long call(long number, long a, long b, long c, long d, long e, long f) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}
#endif

#include <sys/syscall.h>

void _start(void) {
  static const char name[] = "known";
  call(SYS_getppid, 0, 0, 0, 0, 0, 0);
  call(SYS_close, 0xffffffffL, 0, 0, 0, 0,
       0);                             /* int -1, zero-extended as a compiler leaves it: EBADF */
  call(SYS_close, -1L, 0, 0, 0, 0, 0); /* long -1: EBADF */
  call(SYS_openat, -100L, (long)"/nonexistent/file", 0, 0, 0, 0); /* ENOENT */
  long file = call(SYS_memfd_create, (long)name, 0, 0, 0, 0, 0);  /* 3 */
  call(SYS_lseek, file, 9007199254740993L, 0, 0, 0, 0);           /* 2^53 + 1: no double holds it */
  call(SYS_dup, file, 0, 0, 0, 0, 0);                             /* 4 */
  for (int i = 0; i < 5; i++)
    call(SYS_getpriority, 9007199254740993L + i, 0, 0, 0, 0, 0); /* EINVAL */
  call(SYS_write, file, (long)name, 5, 0, 0, 0);                 /* EFBIG or 5: strace says */
  call(SYS_munmap, 0x7fffffffffffffffL, 0, 0, 0, 0, 0);          /* EINVAL */
  call(999, -7, 0, 0, 0, 0, 0);                                  /* ENOSYS: no such call */
  call(SYS_close, file + 1, 0, 0, 0, 0, 0);
  call(SYS_exit_group, 5, 0, 0, 0, 0, 0);
}
