/* See io.h. */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PASSED_MAX = 4 };

bool set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return false;
	return fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) == 0;
}

char *read_regular(const char *path, size_t limit)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat status;
	char *content = NULL;
	size_t length = 0;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
		if (status.st_size >= 0 && (size_t)status.st_size < limit)
			limit = (size_t)status.st_size;
		content = malloc(limit + 1);
	}
	while (content && length < limit) {
		ssize_t got = read(fd, content + length, limit - length);

		if (got <= 0)
			break;
		length += (size_t)got;
	}
	if (content)
		content[length] = 0;
	close(fd);
	return content;
}

void close_from(int lowest)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, lowest, ~0U, 0) == 0)
		return;
#endif
	/* A kernel or a seccomp filter without it; the agent itself never has more open. */
	for (int fd = lowest; fd < 4096; fd++)
		close(fd);
}

bool unix_address(const char *path, struct sockaddr_un *address)
{
	size_t length = strlen(path);

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (length == 0 || length >= sizeof(address->sun_path)) {
		errno = length ? ENAMETOOLONG : EINVAL;
		return false;
	}
	memcpy(address->sun_path, path, length + 1);
	return true;
}

ssize_t receive_packet(int fd, void *buffer, size_t size, int *fds, int capacity, int *count, bool *truncated)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(PASSED_MAX * sizeof(int))];
	} control;
	struct iovec part = {buffer, size};
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
	ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*count = 0;
	*truncated = false;
	if (length < 0)
		return -1;
	for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
		int passed[PASSED_MAX];
		size_t bytes;

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		bytes = header->cmsg_len - CMSG_LEN(0);
		memcpy(passed, CMSG_DATA(header), bytes);
		for (size_t i = 0; i < bytes / sizeof(int); i++) {
			if (*count < capacity) {
				fds[(*count)++] = passed[i];
			} else {
				close(passed[i]);
				*truncated = true;
			}
		}
	}
	if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		*truncated = true;
	return length;
}

bool send_packet(int fd, const void *buffer, size_t size, int passed)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = {(void *)(uintptr_t)buffer, size};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (passed >= 0) {
		struct cmsghdr *header;

		memset(&control, 0, sizeof(control));
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &passed, sizeof(int));
	}
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
}

void own_directory(char *path, size_t size)
{
	ssize_t length = readlink("/proc/self/exe", path, size - 1);
	char *slash;

	path[length > 0 ? length : 0] = 0;
	slash = strrchr(path, '/');
	if (slash)
		*slash = 0;
}
