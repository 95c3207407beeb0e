/*
 * Connections: who may say what when, in one table.
 *
 * A connection is new until its first message says what it is for. The gateway is told from the processes inside by
 * its process id, which cannot be seen from within the container and so reads 0.
 */
#include "agent.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io.h"

enum { OUTSIDE_MAX = 1024, INSIDE_MAX = 2 * ASKERS_MAX, IDLE_MS = 10000, FDS_MAX = 3 };

static int outside_count, inside_count;


static const struct handler {
	uint8_t type;
	enum conn_state state;
	bool inside; /* may come from inside */
	int min_fds, max_fds;
	void (*handle)(struct conn *conn, const struct message *message, int *fds);
} handlers[] = {
	{MSG_SPAWN, CONN_NEW, false, 2, 3, spawn_request},
	{MSG_RESIZE, CONN_SESSION, false, 0, 0, spawn_resize},
	{MSG_SIGNAL, CONN_SESSION, false, 0, 0, spawn_signal},
	{MSG_CONNECT, CONN_NEW, false, 1, 1, connect_request},
	{MSG_LISTEN, CONN_NEW, false, 0, 0, listen_request},
	{MSG_ACCEPT, CONN_LISTENER, false, 1, 1, listen_accept},
	{MSG_REJECT, CONN_LISTENER, false, 0, 0, listen_reject},
	{MSG_ATTEND, CONN_NEW, false, 0, 0, attend_request},
	{MSG_ANSWER, CONN_ATTENDANT, false, 0, 0, attend_answer},
	{MSG_ASK, CONN_NEW, true, 0, 0, ask_request},
};

const char *error_text(int error)
{
	const char *text = strerrordesc_np(error);

	return text ? text : "Unknown error";
}

bool conn_send(struct conn *conn, const struct writer *writer)
{
	if (conn->watch.fd < 0)
		return false;
	/* A peer that lets its queue fill with our few small messages does not read at all: it is given up. */
	if (!writer->overflow && send_packet(conn->watch.fd, writer->bytes, writer->length, -1))
		return true;
	conn_close(conn);
	return false;
}

void conn_fail(struct conn *conn, int error, const char *format, ...)
{
	uint8_t buffer[1024];
	struct writer writer;
	char text[500];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	write_start(&writer, buffer, sizeof(buffer), MSG_FAILED);
	write_u32(&writer, (uint32_t)error);
	write_string(&writer, text);
	if (conn_send(conn, &writer))
		conn_close(conn);
}

void conn_own(struct conn *conn, enum conn_state state, void *owner, void (*closed)(struct conn *))
{
	timer_clear(&conn->idle);
	conn->state = state;
	conn->owner = owner;
	conn->closed = closed;
}

void conn_close(struct conn *conn)
{
	if (conn->watch.fd < 0)
		return;
	watch_close(&conn->watch);
	timer_clear(&conn->idle);
	*(conn->inside ? &inside_count : &outside_count) -= 1;
	if (conn->closed)
		conn->closed(conn);
	loop_free(conn);
}

static void dispatch(struct conn *conn, const struct message *message, int *fds, int count)
{
	for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
		const struct handler *handler = &handlers[i];

		if (handler->type != message->type)
			continue;
		if (conn->inside && !handler->inside)
			conn_fail(conn, EPERM, "Only the gateway may ask the agent for that.");
		else if (conn->state != handler->state)
			conn_fail(conn, EPROTO, "The agent got a message out of turn.");
		else if (count < handler->min_fds || count > handler->max_fds)
			conn_fail(conn, EPROTO, "The agent got %d descriptors with a message of type %d.", count,
				  message->type);
		else
			handler->handle(conn, message, fds);
		return;
	}
	conn_fail(conn, EPROTO, "The agent got a message that only it may send.");
}

static void conn_ready(struct watch *watch, uint32_t events)
{
	static uint8_t packet[MESSAGE_MAX + 1];
	static struct message message;
	struct conn *conn = CONTAINER_OF(watch, struct conn, watch);
	int fds[FDS_MAX] = {-1, -1, -1};
	int count;
	bool truncated;
	const char *wrong;
	ssize_t length = receive_packet(watch->fd, packet, sizeof(packet), fds, FDS_MAX, &count, &truncated);

	(void)events;
	if (length <= 0) {
		if (length == 0 || (errno != EAGAIN && errno != EINTR))
			conn_close(conn);
	} else if (truncated) {
		conn_fail(conn, EPROTO, "The agent got a message that is too long, or too many descriptors.");
	} else {
		wrong = message_parse(packet, (size_t)length, &message);
		if (wrong)
			conn_fail(conn, EPROTO, "The agent cannot read a message: %s.", wrong);
		else
			dispatch(conn, &message, fds, count);
	}
	for (int i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void conn_idle(struct timer *timer)
{
	conn_close(CONTAINER_OF(timer, struct conn, idle));
}

void conn_accept(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	struct conn *conn;
	bool inside;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size)) {
		close(fd);
		return;
	}
	inside = agent.init ? peer.pid != 0 : peer.uid != geteuid();
	if (inside ? inside_count >= INSIDE_MAX : outside_count >= OUTSIDE_MAX) {
		close(fd);
		return;
	}
	conn = loop_alloc(sizeof(*conn));
	if (!conn) {
		close(fd);
		return;
	}
	conn->inside = inside;
	conn->uid = peer.uid;
	*(inside ? &inside_count : &outside_count) += 1;
	watch_start(&conn->watch, fd, conn_ready);
	timer_set(&conn->idle, IDLE_MS, conn_idle);
	if (!watch_set(&conn->watch, EPOLLIN))
		conn_close(conn);
}
