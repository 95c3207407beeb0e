/*
 * `connect`: a helper child, with the user's rights, connects to a TCP port or unix socket as seen in the container;
 * then the socket that the gateway passed and the connected one are relayed, apart from any connection to the gateway.
 */
#include "agent.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"

enum { CONNECT_MS = 30000, ATTEMPT_MS = 10000, ADDRESSES_MAX = 8 };

struct dial {
	struct helper helper;
	struct conn *conn;
	int gateway; /* the socket that the gateway passed */
	struct target target;
};

static int dial_count;

bool target_take(struct target *target, const struct message *message)
{
	target->kind = message->kind;
	target->port = message->port;
	return (size_t)snprintf(target->host, sizeof(target->host), "%s", message->host) < sizeof(target->host);
}

static int failed(struct helper_result *result, int error, const char *what, const struct target *target)
{
	result->error = error;
	snprintf(result->text, sizeof(result->text), "%s %.200s%s: %s.", what, target->host,
		 target->kind == TARGET_TCP ? " in the workspace" : "", error_text(error));
	return -1;
}

/* 0, or an errno. */
static int connect_within(int fd, const struct sockaddr *address, socklen_t size)
{
	struct pollfd wait = {.fd = fd, .events = POLLOUT};
	int error = 0;
	socklen_t length = sizeof(error);

	if (connect(fd, address, size) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	if (poll(&wait, 1, ATTEMPT_MS) == 0)
		return ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length))
		return errno;
	return error;
}

static int connect_unix(const struct target *target, struct helper_result *result)
{
	struct sockaddr_un address;
	int fd, error;

	if (!unix_address(target->host, &address))
		return failed(result, errno, "Connecting to", target);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	error = fd < 0 ? errno : connect_within(fd, (struct sockaddr *)&address, sizeof(address));
	return error ? failed(result, error, "Connecting to", target) : fd;
}

int connect_work(const void *argument, struct helper_result *result)
{
	const struct target *target = argument;
	struct sockaddr_storage addresses[ADDRESSES_MAX];
	int error = EHOSTUNREACH;
	int count;

	if (target->kind != TARGET_TCP)
		return connect_unix(target, result);
	count = resolve(target->host, target->port, addresses, ADDRESSES_MAX);
	if (count == 0) {
		result->error = ENOENT;
		snprintf(result->text, sizeof(result->text), "The host name %.200s is not known in the workspace.",
			 target->host);
		return -1;
	}
	for (int i = 0; i < count; i++) {
		const struct sockaddr *address = (const struct sockaddr *)&addresses[i];
		bool v4 = address->sa_family == AF_INET;
		int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		error = fd < 0 ? errno
			       : connect_within(fd, address, v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
		if (!error)
			return fd;
		close(fd);
	}
	return failed(result, error, "Connecting to", target);
}

static void dial_closed(struct conn *conn)
{
	struct dial *dial = conn->owner;

	dial_count--;
	helper_cancel(&dial->helper);
	if (dial->gateway >= 0)
		close(dial->gateway);
	loop_free(dial);
}

static void dial_done(struct helper *helper, const struct helper_result *result, int fd)
{
	struct dial *dial = CONTAINER_OF(helper, struct dial, helper);
	uint8_t buffer[16];
	struct writer writer;
	int gateway = dial->gateway;

	if (result->error || fd < 0) {
		if (fd >= 0)
			close(fd);
		conn_fail(dial->conn, result->error ? result->error : EIO, "%s", result->text);
		return;
	}
	dial->gateway = -1;
	if (!relay_start(gateway, fd)) {
		conn_fail(dial->conn, EAGAIN, "The workspace has %d connections open; no more are allowed.", RELAYS_MAX);
		return;
	}
	write_start(&writer, buffer, sizeof(buffer), MSG_CONNECTED);
	if (conn_send(dial->conn, &writer))
		conn_close(dial->conn);
}

void connect_request(struct conn *conn, const struct message *message, int *fds)
{
	struct dial *dial;

	if (agent.stopping || dial_count >= RELAYS_MAX) {
		conn_fail(conn, EAGAIN, "The workspace is busy: it is connecting to %d places, or stopping.", dial_count);
		return;
	}
	dial = loop_alloc(sizeof(*dial));
	if (!dial) {
		conn_fail(conn, ENOMEM, "The workspace has no memory left.");
		return;
	}
	dial->conn = conn;
	dial->gateway = fds[0];
	dial->helper.watch.fd = -1;
	fds[0] = -1;
	dial_count++;
	conn_own(conn, CONN_DIAL, dial, dial_closed);
	if (!target_take(&dial->target, message))
		conn_fail(conn, ENAMETOOLONG, "The name to connect to is too long.");
	else if (!helper_start(&dial->helper, message->user, connect_work, &dial->target, CONNECT_MS, dial_done))
		conn_fail(conn, errno, "The workspace cannot start another process: %s.", error_text(errno));
}
