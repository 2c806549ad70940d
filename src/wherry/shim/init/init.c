/*
 * The init that `--init` gives a container when the machine has no static tini: `init -- program argument...`
 *
 * Behaves as tini 0.19 does without options: runs the program in a process group of its own, which gets the
 * terminal if there is one, passes every signal on to it, reaps orphans, and ends with the program's exit
 * code, or 128 and the signal. Without a C library, so that it runs in any root; make.sh turns it into the
 * bytes in ../builtin_init.py.
 */

typedef unsigned long word;

#if defined(__x86_64__)
enum { SYS_write = 1, SYS_getpid = 39, SYS_ioctl = 16, SYS_execve = 59, SYS_exit = 231, SYS_wait4 = 61,
       SYS_kill = 62, SYS_setpgid = 109, SYS_rt_sigaction = 13, SYS_rt_sigprocmask = 14,
       SYS_rt_sigtimedwait = 128, SYS_clone = 56 };

static long call(long number, long a, long b, long c, long d, long e)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall" : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}

__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall run\n");
#elif defined(__aarch64__)
enum { SYS_write = 64, SYS_getpid = 172, SYS_ioctl = 29, SYS_execve = 221, SYS_exit = 94, SYS_wait4 = 260,
       SYS_kill = 129, SYS_setpgid = 154, SYS_rt_sigaction = 134, SYS_rt_sigprocmask = 135,
       SYS_rt_sigtimedwait = 137, SYS_clone = 220 };

static long call(long number, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}

__asm__(".globl _start\n_start:\n\tmov x29,#0\n\tmov x0,sp\n\tbl run\n");
#endif

enum { ENOENT = 2, EINTR = 4, ECHILD = 10, EACCES = 13, ENOTDIR = 20, SIGCHLD = 17, SIG_BLOCK = 0,
       SIG_SETMASK = 2, WNOHANG = 1, TIOCSPGRP = 0x5410, PATH_LIMIT = 4096 };

/* ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS stay as they are: they are about this process. TTIN, TTOU: ignored. */
#define BIT(signal) (1UL << ((signal) - 1))
static const word passed_on = ~(BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(11) | BIT(31) | BIT(21) | BIT(22));

struct action { void *handler; word flags; void *restorer; word mask; };

static word length(const char *text)
{
	word size = 0;
	while (text[size])
		size++;
	return size;
}

static void say(const char *text)
{
	call(SYS_write, 2, (long)text, length(text), 0, 0);
}

/* execvp(3): the path of the environment, or the usual one. Returns the error that says most. */
static long run_program(char **arguments, char **environment)
{
	char candidate[PATH_LIMIT];
	const char *path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	const char *name = arguments[0];
	long worst = -ENOENT;

	for (const char *scan = name; *scan; scan++)
		if (*scan == '/')
			return call(SYS_execve, (long)name, (long)arguments, (long)environment, 0, 0);
	for (char **entry = environment; *entry; entry++) {
		const char *text = *entry;
		if (text[0] == 'P' && text[1] == 'A' && text[2] == 'T' && text[3] == 'H' && text[4] == '=')
			path = text + 5;
	}
	for (;;) {
		word size = 0;
		while (path[size] && path[size] != ':')
			size++;
		if (size + 1 + length(name) < PATH_LIMIT) {
			word used = 0;
			for (; used < size; used++)
				candidate[used] = path[used];
			if (size)
				candidate[used++] = '/';
			for (const char *scan = name; *scan; scan++)
				candidate[used++] = *scan;
			candidate[used] = 0;
			long result = call(SYS_execve, (long)candidate, (long)arguments, (long)environment, 0, 0);
			if (result == -EACCES)
				worst = result;
			else if (result != -ENOENT && result != -ENOTDIR)
				return result;
		}
		if (!path[size])
			return worst;
		path += size + 1;
	}
}

static void become_program(char **arguments, char **environment, word mask)
{
	struct action standard = { 0, 0, 0, 0 };
	int group = call(SYS_getpid, 0, 0, 0, 0, 0);

	call(SYS_setpgid, 0, 0, 0, 0, 0);
	call(SYS_ioctl, 0, TIOCSPGRP, (long)&group, 0, 0);
	call(SYS_rt_sigaction, 21, (long)&standard, 0, 8, 0);
	call(SYS_rt_sigaction, 22, (long)&standard, 0, 8, 0);
	call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, 8, 0);
	long result = run_program(arguments, environment);
	say("init: exec ");
	say(arguments[0]);
	say(result == -ENOENT ? ": No such file or directory\n"
	    : result == -EACCES ? ": Permission denied\n" : ": failed\n");
	call(SYS_exit, result == -ENOENT ? 127 : 126, 0, 0, 0, 0);
}

__attribute__((used)) void run(word *stack)
{
	word count = stack[0];
	char **arguments = (char **)(stack + 1);
	char **environment = arguments + count + 1;
	struct action ignored = { (void *)1, 0, 0, 0 };
	word mask = 0;
	long program;

	if (count > 1 && arguments[1][0] == '-' && arguments[1][1] == '-' && !arguments[1][2])
		arguments++;
	arguments++;
	if (!arguments[0]) {
		say("usage: init -- program argument...\n");
		call(SYS_exit, 1, 0, 0, 0, 0);
	}
	call(SYS_rt_sigprocmask, SIG_BLOCK, (long)&passed_on, (long)&mask, 8, 0);
	call(SYS_rt_sigaction, 21, (long)&ignored, 0, 8, 0);
	call(SYS_rt_sigaction, 22, (long)&ignored, 0, 8, 0);
	program = call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (program == 0)
		become_program(arguments, environment, mask);
	if (program < 0) {
		say("init: fork: failed\n");
		call(SYS_exit, 1, 0, 0, 0, 0);
	}
	for (;;) {
		long signal = call(SYS_rt_sigtimedwait, (long)&passed_on, 0, 0, 8, 0);
		if (signal > 0 && signal != SIGCHLD)
			call(SYS_kill, program, signal, 0, 0, 0);
		for (;;) {
			int status = 0;
			long ended = call(SYS_wait4, -1, (long)&status, WNOHANG, 0, 0);
			if (ended <= 0)
				break;
			if (ended == program) {
				int number = status & 0x7f;
				call(SYS_exit, number ? 128 + number : (status >> 8) & 0xff, 0, 0, 0, 0);
			}
		}
	}
}
