/*
 * Sessions: a process started for the gateway, told of and signalled over the connection that asked for it.
 *
 * The child reports through a pipe that exec closes: end-of-file means that it runs, bytes say why it does not.
 * A session lives as long as its connection; a connection that closes before the process has ended hangs it up.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io.h"

struct session {
	struct child child; /* pid 0 once it has ended */
	struct watch status; /* closed once it has started */
	struct conn *conn;
	struct pty *pty;
	pid_t id; /* of the process, its group and its session */
};

static int session_count;

static void session_closed(struct conn *conn)
{
	struct session *session = conn->owner;
	pid_t foreground = session->pty ? pty_close(session->pty) : 0;

	session_count--;
	if (session->child.pid) {
		child_forget(&session->child);
		if (session->status.fd >= 0)
			kill(session->id, SIGKILL); /* perhaps not even the user's program yet */
		hang_up(session->id, foreground);
	}
	watch_close(&session->status);
	loop_free(session);
}

/* What the child has said so far. False: it did not start, and the session is over. */
static bool take_status(struct session *session)
{
	uint8_t buffer[16];
	struct writer writer;
	struct spawn_failure failure;
	ssize_t length;

	if (session->status.fd < 0)
		return true;
	length = read(session->status.fd, &failure, sizeof(failure));
	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (length == sizeof(failure)) {
		failure.text[sizeof(failure.text) - 1] = 0;
		conn_fail(session->conn, failure.error, "%s", failure.text);
		return false;
	}
	watch_close(&session->status);
	write_start(&writer, buffer, sizeof(buffer), MSG_STARTED);
	write_u32(&writer, (uint32_t)session->id);
	return conn_send(session->conn, &writer);
}

static void status_ready(struct watch *watch, uint32_t events)
{
	(void)events;
	take_status(CONTAINER_OF(watch, struct session, status));
}

static void session_exited(struct child *child, int wait_status)
{
	struct session *session = CONTAINER_OF(child, struct session, child);
	uint8_t buffer[64];
	struct writer writer;

	if (!take_status(session))
		return;
	if (session->pty)
		pty_finish(session->pty);
	if (WIFEXITED(wait_status)) {
		write_start(&writer, buffer, sizeof(buffer), MSG_EXITED);
		write_u8(&writer, (uint8_t)WEXITSTATUS(wait_status));
	} else {
		const char *name = sigabbrev_np(WTERMSIG(wait_status));

		write_start(&writer, buffer, sizeof(buffer), MSG_KILLED);
		write_string(&writer, name ? name : "RT");
		write_u8(&writer, WCOREDUMP(wait_status) ? 1 : 0);
	}
	conn_send(session->conn, &writer);
}

/* Forks with `stdio` as the child's 0 to 2. */
static bool start(struct session *session, const struct message *message, const int stdio[3])
{
	int status[2];
	pid_t pid;

	if (pipe2(status, O_CLOEXEC | O_NONBLOCK))
		return false;
	pid = child_fork(&session->child, session_exited);
	if (pid == 0)
		spawn_child(message, stdio, status[1], message->pty);
	close(status[1]);
	watch_start(&session->status, status[0], status_ready);
	if (pid < 0)
		return false;
	session->id = pid;
	return watch_set(&session->status, EPOLLIN);
}

void spawn_request(struct conn *conn, const struct message *message, int *fds)
{
	struct session *session;
	int stdio[3] = {fds[0], fds[1], fds[2]};
	int slave = -1;
	bool started;
	int error;

	if ((fds[2] >= 0) == message->pty) {
		conn_fail(conn, EPROTO, "A terminal takes two descriptors, pipes are three.");
		return;
	}
	if (agent.stopping) {
		conn_fail(conn, ESHUTDOWN, "The workspace is stopping.");
		return;
	}
	if (session_count >= SESSIONS_MAX) {
		conn_fail(conn, EAGAIN, "The workspace has %d sessions open; no more are allowed.", SESSIONS_MAX);
		return;
	}
	session = loop_alloc(sizeof(*session));
	if (!session) {
		conn_fail(conn, ENOMEM, "The workspace has no memory left.");
		return;
	}
	session->conn = conn;
	session->status.fd = -1;
	session_count++;
	conn_own(conn, CONN_SESSION, session, session_closed);
	if (message->pty) {
		session->pty = pty_open(message, fds[0], fds[1], &slave);
		if (!session->pty) {
			conn_fail(conn, errno, "The workspace gives no terminal: %s.", error_text(errno));
			return;
		}
		fds[0] = fds[1] = -1;
		stdio[0] = stdio[1] = stdio[2] = slave;
	}
	started = start(session, message, stdio);
	error = errno;
	if (slave >= 0)
		close(slave);
	if (!started)
		conn_fail(conn, error, "The workspace cannot start another process: %s.",
			  error == EAGAIN ? "its limit of processes is reached" : error_text(error));
}

void spawn_resize(struct conn *conn, const struct message *message, int *fds)
{
	struct session *session = conn->owner;

	(void)fds;
	if (session->pty)
		pty_resize(session->pty, &message->size);
}

void spawn_signal(struct conn *conn, const struct message *message, int *fds)
{
	static const struct {
		const char *name;
		int number;
	} known[] = {
		/* those of RFC 4254, section 6.10; others are ignored */
		{"ABRT", SIGABRT}, {"ALRM", SIGALRM}, {"FPE", SIGFPE},	 {"HUP", SIGHUP},   {"ILL", SIGILL},
		{"INT", SIGINT},   {"KILL", SIGKILL}, {"PIPE", SIGPIPE}, {"QUIT", SIGQUIT}, {"SEGV", SIGSEGV},
		{"TERM", SIGTERM}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2},
	};
	struct session *session = conn->owner;

	(void)fds;
	/* Not before it runs: the group may not exist yet. Not after its end: the number may be another's. */
	if (!session->child.pid || session->status.fd >= 0)
		return;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].name, message->text) == 0)
			kill(-session->id, known[i].number);
}
