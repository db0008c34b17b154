// Probe tries system calls, and prints what each of them gives: "ok", or the
// number of the error. It is built statically by the tests.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void print(const char *name, long result)
{
	if (result < 0)
		printf("%s %ld\n", name, -result);
	else
		printf("%s ok\n", name);
}

static long result(long r)
{
	return r < 0 ? -errno : r;
}

#if defined(__x86_64__)
// int80 calls by i386's numbers, which differ from x86_64's.
static long int80(long nr, long a, long b)
{
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a), "c"(b), "d"(0), "S"(0), "D"(0) : "memory", "r8", "r9", "r10", "r11");
	return r;
}
#endif

int main(void)
{
	print("getpid", result(syscall(SYS_getpid)));
	print("keyctl", result(syscall(SYS_keyctl, 0, -3, 0)));
	printf("session-keyring %ld\n", syscall(SYS_keyctl, 0, -3, 0));
	print("unshare-user", result(syscall(SYS_unshare, CLONE_NEWUSER)));
	print("clone-user", result(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)));
	print("clone3", result(syscall(SYS_clone3, 0, 0)));
	print("mount", result(syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, 0)));
	print("bpf", result(syscall(SYS_bpf, 0, 0, 0)));
	print("vsock", result(socket(40, SOCK_STREAM, 0)));
	print("unix", result(socket(AF_UNIX, SOCK_STREAM, 0)));
	print("personality", result(syscall(SYS_personality, 0xffffffff)));
	print("personality-other", result(syscall(SYS_personality, 0x0004)));
	print("future", result(syscall(5000)));
#if defined(__x86_64__)
	print("i386-getpid", int80(20, 0, 0));
	print("i386-keyctl", int80(288, 0, -3));
	print("i386-unshare-user", int80(310, CLONE_NEWUSER, 0));
	print("x32-getpid", result(syscall(0x40000000 | SYS_getpid)));
#endif
	return 0;
}
