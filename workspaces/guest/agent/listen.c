/*
 * `listen`: a helper child binds, with the user's rights, in the container; each connection accepted is announced to
 * the gateway, which answers with a socket to relay it to, or refuses it. Closing the gateway's connection ends it,
 * and takes away a unix socket's file, and the directory that was made for a private one.
 */
#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"

enum { BIND_MS = 10000, PENDING_MS = 30000, PENDING_MAX = 16, BACKLOG = 128, PAUSE_MS = 100 };

struct pending {
	uint32_t id;
	int fd; /* -1: this place is free */
	struct timer deadline;
	struct listener *listener;
};

struct listener {
	struct helper helper;
	struct watch watch;
	struct timer pause;
	struct conn *conn;
	struct target target;
	char user[64];
	uint32_t last_id;
	struct pending pending[PENDING_MAX];
};

struct cleaner {
	struct helper helper;
};

static int listener_count;

/* --- in the helper child --- */

static int bind_failed(struct helper_result *result, const struct target *target)
{
	result->error = errno;
	if (target->kind != TARGET_TCP)
		snprintf(result->text, sizeof(result->text), "Listening on %.200s: %s.", target->host, error_text(errno));
	else
		snprintf(result->text, sizeof(result->text), "Listening on %.200s port %d: %s.", target->host, target->port,
			 error_text(errno));
	return -1;
}

static int bind_to(const struct sockaddr *address, socklen_t size, bool dual)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, off = 0;
	int error;

	if (fd < 0)
		return -1;
	if (address->sa_family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (dual)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, address, size) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static int bind_any(uint16_t port)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_any};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = bind_to((struct sockaddr *)&in6, sizeof(in6), true);

	if (fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
		fd = bind_to((struct sockaddr *)&in, sizeof(in), false);
	return fd;
}

/* The directory that a private socket lies in. */
static void directory_of(const struct target *target, char directory[sizeof(target->host)])
{
	char *slash;

	strcpy(directory, target->host);
	slash = strrchr(directory, '/');
	if (slash)
		*slash = 0;
}

static int bind_path(const struct target *target)
{
	char directory[sizeof(target->host)];
	struct sockaddr_un path;
	int fd, error;

	if (!unix_address(target->host, &path))
		return -1;
	directory_of(target, directory);
	if (target->kind == TARGET_PRIVATE && mkdir(directory, 0700))
		return -1;
	umask(0177);
	fd = bind_to((struct sockaddr *)&path, sizeof(path), false);
	error = errno;
	if (fd < 0 && target->kind == TARGET_PRIVATE)
		rmdir(directory);
	errno = error;
	return fd;
}

int listen_work(const void *argument, struct helper_result *result)
{
	const struct target *target = argument;
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	int fd;

	if (target->kind != TARGET_TCP) {
		fd = bind_path(target);
		return fd < 0 ? bind_failed(result, target) : fd;
	}
	if (!target->host[0] || strcmp(target->host, "*") == 0) {
		fd = bind_any(target->port);
	} else if (resolve(target->host, target->port, &address, 1) == 0) {
		errno = EADDRNOTAVAIL;
		fd = -1;
	} else {
		size = address.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
		fd = bind_to((struct sockaddr *)&address, size, false);
	}
	size = sizeof(address);
	if (fd < 0 || getsockname(fd, (struct sockaddr *)&address, &size))
		return bind_failed(result, target);
	result->port = ntohs(address.ss_family == AF_INET ? ((struct sockaddr_in *)&address)->sin_port
							  : ((struct sockaddr_in6 *)&address)->sin6_port);
	return fd;
}

int unlink_work(const void *argument, struct helper_result *result)
{
	const struct target *target = argument;
	char directory[sizeof(target->host)];
	struct stat status;

	(void)result;
	if (lstat(target->host, &status) == 0 && S_ISSOCK(status.st_mode))
		unlink(target->host);
	directory_of(target, directory);
	if (target->kind == TARGET_PRIVATE)
		rmdir(directory);
	return -1;
}

/* --- in the agent --- */

static void cleaner_done(struct helper *helper, const struct helper_result *result, int fd)
{
	(void)result;
	if (fd >= 0)
		close(fd);
	loop_free(CONTAINER_OF(helper, struct cleaner, helper));
}

/* A unix socket's file goes with the listener; the user's own rights keep a swapped path from harm. */
static void clean_path(const struct listener *listener)
{
	struct cleaner *cleaner = loop_alloc(sizeof(*cleaner));

	if (cleaner &&
	    !helper_start(&cleaner->helper, listener->user, unlink_work, &listener->target, BIND_MS, cleaner_done))
		loop_free(cleaner);
}

static void pending_end(struct pending *pending)
{
	timer_clear(&pending->deadline);
	pending->fd = -1;
	watch_set(&pending->listener->watch, EPOLLIN);
}

static void pending_late(struct timer *timer)
{
	struct pending *pending = CONTAINER_OF(timer, struct pending, deadline);

	close(pending->fd);
	pending_end(pending);
}

static void listener_closed(struct conn *conn)
{
	struct listener *listener = conn->owner;

	listener_count--;
	helper_cancel(&listener->helper);
	timer_clear(&listener->pause);
	if (listener->watch.fd >= 0 && listener->target.kind != TARGET_TCP)
		clean_path(listener);
	watch_close(&listener->watch);
	for (int i = 0; i < PENDING_MAX; i++) {
		timer_clear(&listener->pending[i].deadline);
		if (listener->pending[i].fd >= 0)
			close(listener->pending[i].fd);
	}
	loop_free(listener);
}

static void announce(struct listener *listener, struct pending *pending, const struct sockaddr_storage *peer)
{
	uint8_t buffer[128];
	struct writer writer;
	char host[INET6_ADDRSTRLEN] = "";
	uint16_t port = 0;

	if (peer->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)peer;

		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		port = ntohs(in->sin_port);
	} else if (peer->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)peer;

		if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
			inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, host, sizeof(host));
		else
			inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		port = ntohs(in6->sin6_port);
	}
	write_start(&writer, buffer, sizeof(buffer), MSG_INCOMING);
	write_u32(&writer, pending->id);
	write_string(&writer, host);
	write_u16(&writer, port);
	conn_send(listener->conn, &writer);
}

static struct pending *pending_find(struct listener *listener, bool free, uint32_t id)
{
	for (int i = 0; i < PENDING_MAX; i++) {
		struct pending *pending = &listener->pending[i];

		if (free ? pending->fd < 0 : pending->fd >= 0 && pending->id == id)
			return pending;
	}
	return NULL;
}

static void pause_over(struct timer *timer)
{
	watch_set(&CONTAINER_OF(timer, struct listener, pause)->watch, EPOLLIN);
}

static void listener_ready(struct watch *watch, uint32_t events)
{
	struct listener *listener = CONTAINER_OF(watch, struct listener, watch);
	struct pending *pending = pending_find(listener, true, 0);
	struct sockaddr_storage peer = {0};
	socklen_t size = sizeof(peer);
	int fd;

	(void)events;
	if (!pending) {
		watch_set(watch, 0); /* until pending_end */
		return;
	}
	fd = accept4(watch->fd, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			watch_set(watch, 0);
			timer_set(&listener->pause, PAUSE_MS, pause_over);
		}
		return;
	}
	pending->id = ++listener->last_id;
	pending->fd = fd;
	timer_set(&pending->deadline, PENDING_MS, pending_late);
	announce(listener, pending, &peer);
}

static void listener_done(struct helper *helper, const struct helper_result *result, int fd)
{
	struct listener *listener = CONTAINER_OF(helper, struct listener, helper);
	uint8_t buffer[16];
	struct writer writer;

	if (result->error || fd < 0) {
		if (fd >= 0)
			close(fd);
		conn_fail(listener->conn, result->error ? result->error : EIO, "%s", result->text);
		return;
	}
	watch_start(&listener->watch, fd, listener_ready);
	if (!watch_set(&listener->watch, EPOLLIN)) {
		conn_fail(listener->conn, errno, "The workspace cannot listen: %s.", error_text(errno));
		return;
	}
	write_start(&writer, buffer, sizeof(buffer), MSG_LISTENING);
	write_u16(&writer, result->port);
	conn_send(listener->conn, &writer);
}

void listen_request(struct conn *conn, const struct message *message, int *fds)
{
	struct listener *listener;

	(void)fds;
	if (agent.stopping || listener_count >= LISTENERS_MAX) {
		conn_fail(conn, EAGAIN, "The workspace listens in %d places already, or is stopping.", listener_count);
		return;
	}
	listener = loop_alloc(sizeof(*listener));
	if (!listener) {
		conn_fail(conn, ENOMEM, "The workspace has no memory left.");
		return;
	}
	listener->conn = conn;
	listener->watch.fd = listener->helper.watch.fd = -1;
	for (int i = 0; i < PENDING_MAX; i++)
		listener->pending[i] = (struct pending){.fd = -1, .listener = listener};
	listener_count++;
	conn_own(conn, CONN_LISTENER, listener, listener_closed);
	snprintf(listener->user, sizeof(listener->user), "%s", message->user);
	if (!target_take(&listener->target, message))
		conn_fail(conn, ENAMETOOLONG, "The name to listen on is too long.");
	else if (!helper_start(&listener->helper, listener->user, listen_work, &listener->target, BIND_MS, listener_done))
		conn_fail(conn, errno, "The workspace cannot start another process: %s.", error_text(errno));
}

void listen_accept(struct conn *conn, const struct message *message, int *fds)
{
	struct pending *pending = pending_find(conn->owner, false, message->id);

	if (!pending)
		return; /* it took too long: the gateway's socket is closed with its message */
	relay_start(fds[0], pending->fd);
	fds[0] = -1;
	pending_end(pending);
}

void listen_reject(struct conn *conn, const struct message *message, int *fds)
{
	struct pending *pending = pending_find(conn->owner, false, message->id);

	(void)fds;
	if (!pending)
		return;
	close(pending->fd);
	pending_end(pending);
}
