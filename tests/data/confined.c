/* Makes system calls in each of the machine's ways, and prints the answers: what they are, see test_guest_confine.py. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static long answer(long result)
{
	return result < 0 ? errno : 0;
}

#ifdef __x86_64__
static long by_interrupt(long number, long first, long second, long third)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(third) : "memory");
	return result < 0 ? -result : 0;
}
#endif

int main(void)
{
	printf("%ld %ld %ld %ld\n", answer(syscall(SYS_socket, AF_ALG, SOCK_SEQPACKET, 0)),
	       answer(syscall(SYS_socket, AF_VSOCK, SOCK_STREAM, 0)), answer(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0)),
	       answer(syscall(SYS_io_uring_setup, 1, NULL)));
#ifdef __x86_64__
	printf("%ld\n", answer(syscall(SYS_socket | 0x40000000, AF_ALG, SOCK_SEQPACKET, 0)));
	printf("%ld %ld %ld %ld %ld\n", by_interrupt(359, AF_ALG, SOCK_SEQPACKET, 0),
	       by_interrupt(359, AF_INET, SOCK_STREAM, 0), by_interrupt(102, 1, 0, 0), by_interrupt(41, 0, 0, 0),
	       by_interrupt(425, 1, 0, 0));
#endif
	return 0;
}
