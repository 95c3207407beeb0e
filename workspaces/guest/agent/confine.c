/*
 * What nothing in a workspace may ask of the kernel, on top of the engine's own seccomp profile, which differs from
 * version to version: Docker before 23 lets all three through, and AF_ALG until 29.4.2.
 *
 *   AF_ALG     writes to the page cache of files of other containers through holes in the kernel (CVE-2026-31431)
 *   AF_VSOCK   reaches the hypervisor of a virtual machine; it belongs to no network namespace, so no filter of the
 *              bridge, and no network "none", holds it back
 *   io_uring   starts those and other calls past any such filter
 *
 * Programs meet what a kernel without the feature would answer, and fall back. Where the filter cannot be had, process 1
 * of a container does not run: the container's log says why.
 */
#include "agent.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#define COMPAT AUDIT_ARCH_I386
enum { COMPAT_SOCKET = 359, COMPAT_SOCKETCALL = 102 };
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#define COMPAT AUDIT_ARCH_ARM
enum { COMPAT_SOCKET = 281, COMPAT_SOCKETCALL = 102 };
#else
#error "Which system calls make sockets on this architecture?"
#endif

/* The x32 calls of x86-64 carry this bit. */
#define X32 0x40000000U

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define SKIP_UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (count))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define REFUSE(error) ANSWER(SECCOMP_RET_ERRNO | ((error) & SECCOMP_RET_DATA))
#define REFUSE_CALL(number) SKIP_UNLESS(number, 1), REFUSE(ENOSYS)
/* `socket` with that number: 7 instructions. The argument is an int: its low half counts (little-endian). */
#define CHECK_SOCKET(number)                                                                                           \
	SKIP_UNLESS(number, 6), LOAD(args[0]), SKIP_UNLESS(AF_ALG, 1), REFUSE(EAFNOSUPPORT),                            \
		SKIP_UNLESS(AF_VSOCK, 1), REFUSE(EAFNOSUPPORT), ANSWER(SECCOMP_RET_ALLOW)

bool confine(void)
{
	struct sock_filter code[] = {
		LOAD(arch),
		SKIP_UNLESS(COMPAT, 11),
		LOAD(nr),
		REFUSE_CALL(COMPAT_SOCKETCALL), /* its arguments lie in memory, where no filter sees them */
		CHECK_SOCKET(COMPAT_SOCKET),
		BPF_JUMP(BPF_JMP | BPF_JA, 9, 0, 0), /* over what has the native numbers */
		LOAD(nr),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~X32),
		CHECK_SOCKET(SYS_socket),
		REFUSE_CALL(SYS_io_uring_setup),
		REFUSE_CALL(SYS_io_uring_enter),
		REFUSE_CALL(SYS_io_uring_register),
		ANSWER(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(*code), .filter = code};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}
