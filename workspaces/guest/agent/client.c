/* `snapshot`: hands its arguments to the gateway, over the agent's socket, and prints what comes back. */
#include "agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "io.h"

enum { WAIT_SECONDS = 90 };

static int say(int status, const char *text)
{
	FILE *stream = status ? stderr : stdout;
	size_t length = strlen(text);

	fputs(text, stream);
	if (length && text[length - 1] != '\n')
		fputc('\n', stream);
	return fflush(stream) ? 1 : status;
}

static int reach(void)
{
	const char *path = getenv(SOCKET_VARIABLE);
	struct timeval wait = {.tv_sec = WAIT_SECONDS};
	struct sockaddr_un address;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0 || !unix_address(path && *path ? path : DEFAULT_SOCKET, &address))
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) ? -1 : fd;
}

int snapshot_main(int argc, char **argv)
{
	static uint8_t buffer[REPLY_MAX];
	static struct message message;
	struct writer writer;
	size_t bytes = 0;
	ssize_t length;
	int fd;

	for (int i = 1; i < argc; i++)
		bytes += strlen(argv[i]);
	if (argc - 1 > ASK_ARGS_MAX || bytes > ASK_BYTES_MAX)
		return say(2, "snapshot: the arguments are too long.");
	write_start(&writer, buffer, sizeof(buffer), MSG_ASK);
	write_string(&writer, "snapshot");
	write_strings(&writer, (uint32_t)(argc - 1), (const char *const *)argv + 1);
	fd = reach();
	if (fd < 0 || writer.overflow || send(fd, buffer, writer.length, MSG_NOSIGNAL) < 0)
		return say(1, "snapshot: this workspace's agent cannot be reached; log in again and retry.");
	length = recv(fd, buffer, sizeof(buffer), 0);
	if (length < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return say(1, "snapshot: nobody answered; try again later.");
	if (length <= 0)
		return say(1, "snapshot: the connection ended without an answer; try again.");
	if (message_parse(buffer, (size_t)length, &message) ||
	    (message.type != MSG_ANSWERED && message.type != MSG_FAILED))
		return say(1, "snapshot: the answer makes no sense.");
	if (message.type == MSG_ANSWERED)
		return say(message.status, message.text);
	fputs("snapshot: ", stderr);
	return say(1, message.text);
}
