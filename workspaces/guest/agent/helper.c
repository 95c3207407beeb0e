/*
 * Helper children: something that may block, or must be done with a user's rights, in a child of its own that
 * answers with a result and at most one descriptor, and ends.
 */
#include "agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "users.h"

static const struct helper_result died = {.error = EIO, .text = "The agent's helper ended without a result."};
static const struct helper_result late = {.error = ETIMEDOUT, .text = "It took too long."};

static _Noreturn void helper_child(int channel, const char *name, helper_work *work, const void *argument)
{
	struct helper_result result = {0};
	struct user user;
	int fd = -1;

	if (channel != 3 && dup2(channel, 3) < 0)
		_exit(1);
	child_clean();
	umask(022);
	if (!user_find(name, &user)) {
		result.error = ENOENT;
		snprintf(result.text, sizeof(result.text), "The image has no user %.64s.", name);
	} else if (!user_become(&user)) {
		result.error = errno;
		snprintf(result.text, sizeof(result.text), "The user %s cannot be taken: %s.", user.name,
			 error_text(errno));
	} else {
		fd = work(argument, &result);
	}
	send_packet(3, &result, sizeof(result), fd);
	_exit(0);
}

static void helper_end(struct helper *helper, const struct helper_result *result, int fd)
{
	helper_cancel(helper);
	helper->done(helper, result, fd);
}

static void helper_ready(struct watch *watch, uint32_t events)
{
	struct helper *helper = CONTAINER_OF(watch, struct helper, watch);
	struct helper_result result;
	int fd = -1, count;
	bool truncated;
	ssize_t length = receive_packet(watch->fd, &result, sizeof(result), &fd, 1, &count, &truncated);

	(void)events;
	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (length == (ssize_t)sizeof(result) && !truncated) {
		result.text[sizeof(result.text) - 1] = 0;
		helper_end(helper, &result, fd);
		return;
	}
	if (fd >= 0)
		close(fd);
	helper_end(helper, &died, -1);
}

static void helper_late(struct timer *timer)
{
	helper_end(CONTAINER_OF(timer, struct helper, deadline), &late, -1);
}

static void helper_exited(struct child *child, int wait_status)
{
	/* Its result, or the end of its channel, is told by helper_ready. */
	(void)child, (void)wait_status;
}

bool helper_start(struct helper *helper, const char *user, helper_work *work, const void *argument, unsigned ms,
		  void (*done)(struct helper *, const struct helper_result *, int))
{
	int pair[2];
	pid_t pid;

	helper->watch.fd = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return false;
	pid = child_fork(&helper->child, helper_exited);
	if (pid == 0)
		helper_child(pair[1], user, work, argument);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return false;
	}
	helper->done = done;
	watch_start(&helper->watch, pair[0], helper_ready);
	if (!watch_set(&helper->watch, EPOLLIN)) {
		helper_cancel(helper);
		return false;
	}
	timer_set(&helper->deadline, ms, helper_late);
	return true;
}

void helper_cancel(struct helper *helper)
{
	timer_clear(&helper->deadline);
	watch_close(&helper->watch);
	if (helper->child.pid) {
		kill(helper->child.pid, SIGKILL);
		child_forget(&helper->child);
	}
}
